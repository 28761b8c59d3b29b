//! Wire ⇄ model, field by field.
//!
//! Towards the model it is fallible and collects every fault of a request before it answers. A fault is either wrong
//! (INVALID_ARGUMENT) or not served here (FAILED_PRECONDITION, NOT_SUPPORTED); what is wrong is told first.

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

pub(super) use cpu::{cpu, cpu_out};
pub(super) use event::{event, watch};
pub(super) use fault::{Faults, instance_id, operation_id, request_id};
pub(super) use guest::{facts, guest_file, interface_ids, interfaces, password, updater};
pub(super) use image::image;
pub(super) use instance::{Look, Seen, disk, format, instance, interface};
pub(super) use out::{duration, operation, power_state, progress, timestamp};
pub(super) use sample::{Watch, block_watch, instance_watch, interface_watch};
pub(super) use spawn::{
    block_device, flavor, injected_files, limits, pairs, public_keys, spawn, user_data, wait_for,
};
pub(super) use stats::{block_counters, cpu_counters, interface_counters, memory};
pub(super) use vif::vif;
pub(super) use volume::volume;

use computedriver::v1;

use crate::{
    error::Error,
    model::{ImageSource, InstanceId, RequestId},
    operation::RequestKey,
    store::Fingerprinter,
};

/// A destroy as asked for.
pub(super) fn destroy(
    request: &v1::DestroyRequest,
    fingerprinter: &Fingerprinter,
) -> Result<(InstanceId, RequestKey), Error> {
    let mut faults = fault::Faults::default();
    let id = faults.take("instance_id", request.instance_id.parse::<InstanceId>());
    let key = fault::request_id(&mut faults, &request.request_id);
    faults.refuse("keep_disks", request.keep_disks);
    let fingerprint = fingerprinter.of(&[b"destroy", request.instance_id.as_bytes()]);
    faults.into_result(|| {
        Some((
            id?,
            RequestKey {
                request: key,
                fingerprint,
                caller: None,
            },
        ))
    })
}

/// A pull as asked for.
pub(super) fn pull(
    request: v1::PullImageRequest,
) -> Result<(Option<RequestId>, ImageSource), Error> {
    let mut faults = fault::Faults::default();
    let id = fault::request_id(&mut faults, &request.request_id);
    let image = if let Some(asked) = request.image {
        image::image(&mut faults, "image", asked)
    } else {
        faults.wrong("image", "is required");
        None
    };
    faults.into_result(|| Some((id, image?.source)))
}
