//! The contract `computedriver.v1`: what OpenStack Nova's `ComputeDriver` is in Python, in Protobuf.
//!
//! The text of the contract is `proto/computedriver/v1/*.proto`; [`v1`] is generated from it and holds its messages,
//! clients and server traits. Nothing else is in this crate.

mod redact;

/// Messages, clients and server traits of `computedriver.v1`, generated from `proto/`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    rust_2018_idioms,
    unreachable_pub,
    missing_debug_implementations,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("computedriver.v1");
    include!(concat!(env!("OUT_DIR"), "/redact.rs"));
}

/// The contract as an encoded `google.protobuf.FileDescriptorSet`, with imports and comments: for reflection and tests.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/computedriver.v1.bin"));
