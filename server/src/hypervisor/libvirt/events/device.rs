//! Callbacks for what happens to a running guest's devices and disks. None of them changes the guest's power.
#![allow(unsafe_code)] // as in `events`; each block states why it is sound

use std::ffi::{CStr, c_char, c_int, c_void};

use uuid::Uuid;
use virt::sys;

use super::{tell, uuid, word};
use crate::model::{About, Event, EventKind, InstanceId, IoAction, JobStatus, JobType};

type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
type OnDevice =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);
type OnNumber = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *mut c_void);
type OnIoError = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    *const c_char,
    c_int,
    *const c_char,
    *mut c_void,
);
type OnBlockJob = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    c_int,
    c_int,
    *mut c_void,
);

/// Each event with its callback. A driver may lack any of them.
pub(super) fn callbacks() -> [(
    sys::virDomainEventID,
    sys::virConnectDomainEventGenericCallback,
); 7] {
    [
        (sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, device(on_added)),
        (sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, device(on_removed)),
        (
            sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
            device(on_removal_failed),
        ),
        (sys::VIR_DOMAIN_EVENT_ID_WATCHDOG, number(on_watchdog)),
        (
            sys::VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION,
            number(on_iteration),
        ),
        (sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, {
            let callback: OnIoError = on_io_error;
            // SAFETY: libvirt casts back to virConnectDomainEventIOErrorReasonCallback, which this is, for this event.
            Some(unsafe { std::mem::transmute::<OnIoError, Generic>(callback) })
        }),
        (sys::VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, {
            let callback: OnBlockJob = on_block_job;
            // SAFETY: libvirt casts back to virConnectDomainEventBlockJobCallback, which this is, for this event.
            Some(unsafe { std::mem::transmute::<OnBlockJob, Generic>(callback) })
        }),
    ]
}

fn device(callback: OnDevice) -> sys::virConnectDomainEventGenericCallback {
    // SAFETY: libvirt casts back to this type for the three events about a device.
    Some(unsafe { std::mem::transmute::<OnDevice, Generic>(callback) })
}

fn number(callback: OnNumber) -> sys::virConnectDomainEventGenericCallback {
    // SAFETY: libvirt casts back to this type for the watchdog's action and a migration's iteration.
    Some(unsafe { std::mem::transmute::<OnNumber, Generic>(callback) })
}

/// Text of libvirt's; empty when there is none.
///
/// # Safety
/// `text` is null, or ends with a zero and is valid for the time of the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// # Safety
/// As libvirt calls its callbacks: `domain` is valid, `opaque` is what was registered.
unsafe fn hear(
    domain: sys::virDomainPtr,
    opaque: *mut c_void,
    event: impl FnOnce(InstanceId) -> Event,
) {
    // SAFETY: promised by the caller.
    let Some(guest): Option<Uuid> = (unsafe { uuid(domain) }) else {
        return;
    };
    // SAFETY: promised by the caller.
    unsafe {
        tell(opaque, |listener| {
            listener.event(guest, event(guest.into()));
        });
    }
}

macro_rules! on_device {
    ($($name:ident => $kind:ident),*) => {$(
        unsafe extern "C" fn $name(
            _: sys::virConnectPtr,
            domain: sys::virDomainPtr,
            alias: *const c_char,
            opaque: *mut c_void,
        ) {
            // SAFETY: libvirt hands valid text and a valid domain to its callbacks, and back what was registered.
            unsafe {
                let alias = text(alias);
                hear(domain, opaque, |guest| Event::of(guest, EventKind::$kind).device(alias));
            }
        }
    )*};
}

on_device! {
    on_added => DeviceAdded,
    on_removed => DeviceRemoved,
    on_removal_failed => DeviceRemoveFailed
}

unsafe extern "C" fn on_watchdog(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    action: c_int,
    opaque: *mut c_void,
) {
    let reason = match word(action) {
        sys::VIR_DOMAIN_EVENT_WATCHDOG_NONE => "none",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_PAUSE => "pause",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_RESET => "reset",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF => "poweroff",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_SHUTDOWN => "shutdown",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_DEBUG => "debug",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_INJECTNMI => "inject nmi",
        _ => "other",
    };
    // SAFETY: libvirt hands a valid domain to its callbacks, and back what was registered.
    unsafe {
        hear(domain, opaque, |guest| {
            Event::of(guest, EventKind::Watchdog).because(reason)
        });
    }
}

unsafe extern "C" fn on_iteration(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    iteration: c_int,
    opaque: *mut c_void,
) {
    let kind = match iteration {
        1 => EventKind::MigrationStarted,
        _ => EventKind::MigrationIteration,
    };
    let about = About::Migration(word(iteration));
    // SAFETY: libvirt hands a valid domain to its callbacks, and back what was registered.
    unsafe { hear(domain, opaque, |guest| Event::of(guest, kind).about(about)) };
}

unsafe extern "C" fn on_io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _path: *const c_char,
    alias: *const c_char,
    action: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    let action = match word(action) {
        sys::VIR_DOMAIN_EVENT_IO_ERROR_NONE => IoAction::Ignored,
        sys::VIR_DOMAIN_EVENT_IO_ERROR_PAUSE => IoAction::Paused,
        sys::VIR_DOMAIN_EVENT_IO_ERROR_REPORT => IoAction::Reported,
        _ => IoAction::Other,
    };
    // SAFETY: libvirt hands valid text and a valid domain to its callbacks, and back what was registered.
    unsafe {
        let (alias, reason) = (text(alias), text(reason));
        hear(domain, opaque, |guest| {
            // libvirt knows one reason so far, a full disk, and says nothing of the others.
            let reason = if reason.is_empty() {
                "io error"
            } else {
                &reason
            };
            let event = Event::of(guest, EventKind::IoError).because(reason);
            event.device(alias).about(About::IoError(action))
        });
    }
}

unsafe extern "C" fn on_block_job(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    target: *const c_char,
    kind: c_int,
    status: c_int,
    opaque: *mut c_void,
) {
    let kind = match word(kind) {
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_PULL => JobType::Pull,
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_COPY => JobType::Copy,
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT => JobType::Commit,
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT => JobType::ActiveCommit,
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP => JobType::Backup,
        _ => JobType::Other,
    };
    let status = match word(status) {
        sys::VIR_DOMAIN_BLOCK_JOB_COMPLETED => JobStatus::Completed,
        sys::VIR_DOMAIN_BLOCK_JOB_FAILED => JobStatus::Failed,
        sys::VIR_DOMAIN_BLOCK_JOB_CANCELED => JobStatus::Cancelled,
        sys::VIR_DOMAIN_BLOCK_JOB_READY => JobStatus::Ready,
        _ => JobStatus::Other,
    };
    // SAFETY: libvirt hands valid text and a valid domain to its callbacks, and back what was registered.
    unsafe {
        let target = text(target);
        hear(domain, opaque, |guest| {
            let event = Event::of(guest, EventKind::BlockJob).device(target);
            event.about(About::BlockJob(kind, status))
        });
    }
}
