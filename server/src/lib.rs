//! The computedriver.v1 server on libvirt.
//!
//! `ARCHITECTURE.md` is the map: one way down, one way back up, one room for one idea.

pub mod action;
pub mod api;
pub mod app;
pub mod boot;
pub mod config;
pub mod config_drive;
pub mod console;
pub mod doctor;
pub mod domain;
pub mod error;
pub mod export;
pub mod host;
pub mod hypervisor;
pub mod image;
pub mod journal;
pub mod metrics;
pub mod model;
pub mod observe;
pub mod operation;
pub mod plan;
pub mod recover;
pub mod sampler;
pub mod serve;
pub mod session;
pub mod step;
pub mod store;
pub mod sys;
pub mod task;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod upkeep;
pub mod vif;
pub mod volume;
