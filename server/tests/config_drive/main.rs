//! The config drive as others read it: isoinfo, blkid, bsdtar, xorriso, 7z, and real cloud-init.
//!
//! A tool that is not installed is named on stderr and left out; `isoinfo` must be there.

mod cloud_init;
mod readers;
mod support;
