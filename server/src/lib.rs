//! The computedriver.v1 server on libvirt.
//!
//! `ARCHITECTURE.md` is the map: one way down, one way back up, one room for one idea.

pub mod domain;
pub mod error;
pub mod hypervisor;
pub mod model;
pub mod store;
