//! Wire ⇄ model, field by field.
//!
//! Towards the model it is fallible and collects every fault of a request before it answers. A fault is either wrong
//! (INVALID_ARGUMENT) or not served here (FAILED_PRECONDITION, NOT_SUPPORTED); what is wrong is told first.

mod block_device;
mod cpu;
mod event;
mod fault;
mod guest;
mod image;
mod instance;
mod out;
mod sample;
mod spawn;
mod stats;
mod vif;
mod volume;

pub(super) use block_device::block_device;
pub(super) use cpu::{cpu, cpu_out};
pub(super) use event::{event, watch};
pub(super) use fault::{Faults, instance_id, operation_id, request_id};
pub(super) use guest::{facts, guest_file, interface_ids, interfaces, password, updater};
pub(super) use image::image;
pub(super) use instance::{Look, Seen, disk, format, instance, interface};
pub(super) use out::{duration, operation, power_state, progress, timestamp};
pub(super) use sample::{Watch, block_watch, instance_watch, interface_watch};
pub(super) use spawn::{
    flavor, injected_files, limits, pairs, public_keys, spawn, user_data, wait_for,
};
pub(super) use stats::{block_counters, cpu_counters, interface_counters, memory};
pub(super) use vif::vif;
pub(super) use volume::volume;

use computedriver::v1;

use crate::model::ImageSource;

/// The image of a pull.
pub(super) fn pull(faults: &mut Faults, asked: Option<v1::Image>) -> Option<ImageSource> {
    if asked.is_none() {
        faults.wrong("image", "is required");
    }
    Some(image::image(faults, "image", asked?)?.source)
}
