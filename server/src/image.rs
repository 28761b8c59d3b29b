//! Disk images: fetched, inspected before any other program opens them, kept in a cache, and made into disks.

pub mod inspect;
