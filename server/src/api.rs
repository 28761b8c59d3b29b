//! One file a service, and the only reader of wire types.

pub mod status;
