//! The host below us: commands, files and network devices. Knows nothing of instances.

pub mod block;
pub mod command;
pub mod file;
pub mod initiator;
pub mod memory;
pub mod netlink;
pub mod open;
pub mod process;
pub mod processor;
pub mod uptime;
pub mod web;
