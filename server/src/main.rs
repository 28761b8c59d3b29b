//! The `computelet` binary.

fn main() {}
