//! Callbacks for what is no news and yet makes what was read of a guest out of date.
#![allow(unsafe_code)] // as in `events`; each block states why it is sound

use std::ffi::{c_char, c_ulonglong, c_void};

use virt::sys;

use super::{tell, uuid};

type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
type OnBalloon =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_ulonglong, *mut c_void);
type OnMemory = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    c_ulonglong,
    *mut c_void,
);

/// Each event with its callback. A driver may lack any of them.
pub(super) fn callbacks() -> [(
    sys::virDomainEventID,
    sys::virConnectDomainEventGenericCallback,
); 3] {
    [
        (sys::VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, {
            let callback: OnBalloon = on_balloon;
            // SAFETY: libvirt casts back to virConnectDomainEventBalloonChangeCallback, which this is, for this event.
            Some(unsafe { std::mem::transmute::<OnBalloon, Generic>(callback) })
        }),
        (sys::VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE, {
            let callback: OnMemory = on_memory;
            // SAFETY: libvirt casts back to virConnectDomainEventMemoryDeviceSizeChangeCallback, which this is, for this
            // event.
            Some(unsafe { std::mem::transmute::<OnMemory, Generic>(callback) })
        }),
        // Its monitor broke: what libvirt knows of it may be what it was.
        (
            sys::VIR_DOMAIN_EVENT_ID_CONTROL_ERROR,
            Some(on_control_error),
        ),
    ]
}

unsafe extern "C" fn on_balloon(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _actual: c_ulonglong,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt hands a valid domain to its callbacks, and back what was registered.
    unsafe { changed(domain, opaque) };
}

unsafe extern "C" fn on_memory(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    _size: c_ulonglong,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_balloon`.
    unsafe { changed(domain, opaque) };
}

unsafe extern "C" fn on_control_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_balloon`.
    unsafe { changed(domain, opaque) };
}

/// # Safety
/// As libvirt calls its callbacks: `domain` is valid, `opaque` is what was registered.
unsafe fn changed(domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: promised by the caller.
    let Some(guest) = (unsafe { uuid(domain) }) else {
        return;
    };
    // SAFETY: promised by the caller.
    unsafe { tell(opaque, |listener| listener.changed(guest)) };
}
