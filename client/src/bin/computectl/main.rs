//! `computectl`, the command line of computedriver.v1.

fn main() {}
