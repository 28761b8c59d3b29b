//! The host below us: commands and files. Knows nothing of instances.

pub mod command;
pub mod file;
pub mod uptime;
