//! Disk images: fetched, inspected before any other program opens them, kept in a cache, and made into disks.

mod backend;
mod error;
pub mod inspect;
mod qcow2;
mod raw;
mod swap;

pub use backend::{Base, DiskContent, DiskRef, ImageBackend, NewDisk};
pub use error::ImageError;
pub use qcow2::Qcow2;
pub use raw::Raw;
