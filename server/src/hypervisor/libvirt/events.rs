//! libvirt's event loop and the callbacks we hang into it. Knows C; decides nothing.
//!
//! The loop is libvirt's own, one a process, on a thread of its own. It must turn before a connection is opened: a
//! connection opened earlier gets neither events nor keepalive, and the embedded driver would wait for it for ever.
#![allow(unsafe_code)] // `virt` wraps no event registration; each block states why it is sound

mod device;
mod size;

use std::{
    ffi::{c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use tracing::{error, warn};
use uuid::Uuid;
use virt::{connect::Connect, error::Error as VirtError, sys};

use super::line::Conn;
use crate::model::Event;

/// Who hears what libvirt tells. Called on the loop's thread: must not block, nor call libvirt.
pub(super) trait Listener: Send + Sync {
    /// A guest's lifecycle: `virDomainEventType` and its detail.
    fn lifecycle(&self, guest: Uuid, event: u32, detail: u32);
    /// A guest was reset from inside.
    fn reboot(&self, guest: Uuid);
    /// The agent's channel opened or closed.
    fn agent(&self, guest: Uuid, open: bool);
    /// Something happened to a guest that changes neither its power nor its agent.
    fn event(&self, guest: Uuid, event: Event);
    /// Something of a guest changed that is no news: it is to be read anew.
    fn changed(&self, guest: Uuid);
    /// The connection is gone: `virConnectCloseReason`.
    fn closed(&self, reason: u32);
}

/// Starts libvirt's event loop, once a process.
pub(super) fn start_loop() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED.get_or_init(try_start_loop).clone()
}

fn try_start_loop() -> Result<(), String> {
    // Errors come as results; libvirt would print each on standard error too.
    virt::error::clear_error_callback();
    virt::event::event_register_default_impl().map_err(|e| e.message().to_owned())?;
    let turn = || {
        loop {
            if let Err(e) = virt::event::event_run_default_impl() {
                error!(error = e.message(), "libvirt's event loop failed");
                // A loop that fails for good must not eat a processor.
                thread::park_timeout(Duration::from_secs(1));
            }
        }
    };
    let started = thread::Builder::new()
        .name("libvirt-events".to_owned())
        .spawn(turn);
    started.map(drop).map_err(|e| e.to_string())
}

/// The registered callbacks of one connection; they end with it.
pub(super) struct Registration {
    conn: Arc<Conn>,
    events: Vec<c_int>,
    close: bool,
}

impl Registration {
    /// Registers `listener` for all that it wants to hear.
    pub(super) fn new(conn: Arc<Conn>, listener: &Arc<dyn Listener>) -> Result<Self, VirtError> {
        let mut registration = Self {
            conn,
            events: Vec::new(),
            close: false,
        };
        registration.add(
            sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            lifecycle_callback(),
            listener,
        )?;
        // The test driver has lifecycle events only, and drivers in this process cannot lose their connection.
        let optional = [
            registration.add(sys::VIR_DOMAIN_EVENT_ID_REBOOT, Some(on_reboot), listener),
            registration.add(
                sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
                agent_callback(),
                listener,
            ),
            registration.add_close(listener),
        ];
        let devices = device::callbacks();
        let devices = devices.map(|(id, callback)| registration.add(id, callback, listener));
        let sizes = size::callbacks();
        let sizes = sizes.map(|(id, callback)| registration.add(id, callback, listener));
        let optional = optional.into_iter().chain(devices).chain(sizes);
        for refused in optional.filter_map(Result::err) {
            tracing::debug!(error = refused.message(), "this driver lacks an event");
        }
        Ok(registration)
    }

    fn add(
        &mut self,
        event: sys::virDomainEventID,
        callback: sys::virConnectDomainEventGenericCallback,
        listener: &Arc<dyn Listener>,
    ) -> Result<(), VirtError> {
        let opaque = into_opaque(listener);
        // SAFETY: the connection outlives the call; `callback` has the type that libvirt calls for this event (see the
        // places that make one); `opaque` is owned by libvirt from here on and freed by `free` exactly once.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                raw(self.conn.get()),
                std::ptr::null_mut(),
                c_int::try_from(event).unwrap_or(c_int::MAX),
                callback,
                opaque,
                Some(free),
            )
        };
        if id < 0 {
            let e = VirtError::last_error();
            // SAFETY: a refused registration leaves `opaque` to us.
            unsafe { free(opaque) };
            return Err(e);
        }
        self.events.push(id);
        Ok(())
    }

    fn add_close(&mut self, listener: &Arc<dyn Listener>) -> Result<(), VirtError> {
        let opaque = into_opaque(listener);
        // SAFETY: as in `add`; `on_close` is a virConnectCloseFunc.
        let done = unsafe {
            sys::virConnectRegisterCloseCallback(
                raw(self.conn.get()),
                Some(on_close),
                opaque,
                Some(free),
            )
        };
        if done < 0 {
            let e = VirtError::last_error();
            // SAFETY: a refused registration leaves `opaque` to us.
            unsafe { free(opaque) };
            return Err(e);
        }
        self.close = true;
        Ok(())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for id in self.events.drain(..) {
            // SAFETY: the connection is alive and `id` is one of its registrations. A connection that is already
            // broken answers with an error after it forgot the callback, which is all we want.
            unsafe { sys::virConnectDomainEventDeregisterAny(raw(self.conn.get()), id) };
        }
        if self.close {
            // SAFETY: as above; the callback is the one registered. It holds a reference on the connection until then.
            unsafe { sys::virConnectUnregisterCloseCallback(raw(self.conn.get()), Some(on_close)) };
        }
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration")
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

fn raw(conn: &Connect) -> sys::virConnectPtr {
    // SAFETY: the pointer is used within the borrow of `conn` only.
    unsafe { conn.as_ptr() }
}

/// A thin pointer to a fat one: what libvirt hands back is one word.
fn into_opaque(listener: &Arc<dyn Listener>) -> *mut c_void {
    Box::into_raw(Box::new(listener.clone())).cast()
}

fn lifecycle_callback() -> sys::virConnectDomainEventGenericCallback {
    let callback: unsafe extern "C" fn(
        sys::virConnectPtr,
        sys::virDomainPtr,
        c_int,
        c_int,
        *mut c_void,
    ) -> c_int = on_lifecycle;
    // SAFETY: libvirt's own VIR_DOMAIN_EVENT_CALLBACK: it casts back to this type for VIR_DOMAIN_EVENT_ID_LIFECYCLE.
    Some(unsafe {
        std::mem::transmute::<
            unsafe extern "C" fn(
                sys::virConnectPtr,
                sys::virDomainPtr,
                c_int,
                c_int,
                *mut c_void,
            ) -> c_int,
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
        >(callback)
    })
}

fn agent_callback() -> sys::virConnectDomainEventGenericCallback {
    let callback: unsafe extern "C" fn(
        sys::virConnectPtr,
        sys::virDomainPtr,
        c_int,
        c_int,
        *mut c_void,
    ) = on_agent;
    // SAFETY: as above, for VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE.
    Some(unsafe {
        std::mem::transmute::<
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void),
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
        >(callback)
    })
}

/// Lets the listener hear it; a panic must not unwind into libvirt.
///
/// # Safety
/// `opaque` comes from [`into_opaque`] and was not freed yet.
unsafe fn tell(opaque: *mut c_void, what: impl FnOnce(&dyn Listener)) {
    // SAFETY: promised by the caller.
    let listener = unsafe { &*opaque.cast::<Arc<dyn Listener>>() };
    if catch_unwind(AssertUnwindSafe(|| what(listener.as_ref()))).is_err() {
        warn!("an event was lost to a panic");
    }
}

/// # Safety
/// `domain` is valid for the time of the call.
unsafe fn uuid(domain: sys::virDomainPtr) -> Option<Uuid> {
    let mut bytes = [0_u8; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: `domain` is valid, the buffer has the length that libvirt writes. Local: nothing is sent.
    let done = unsafe { sys::virDomainGetUUID(domain, bytes.as_mut_ptr()) };
    (done == 0).then(|| Uuid::from_bytes(bytes))
}

fn word(number: c_int) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: libvirt hands a valid domain to its callbacks.
    if let Some(guest) = unsafe { uuid(domain) } {
        // SAFETY: libvirt hands back what was registered, and frees it after the last call.
        unsafe {
            tell(opaque, |listener| {
                listener.lifecycle(guest, word(event), word(detail));
            });
        }
    }
    0
}

unsafe extern "C" fn on_reboot(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_lifecycle`.
    if let Some(guest) = unsafe { uuid(domain) } {
        // SAFETY: as in `on_lifecycle`.
        unsafe { tell(opaque, |listener| listener.reboot(guest)) };
    }
}

unsafe extern "C" fn on_agent(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    state: c_int,
    _reason: c_int,
    opaque: *mut c_void,
) {
    let open = word(state) == sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED;
    // SAFETY: as in `on_lifecycle`.
    if let Some(guest) = unsafe { uuid(domain) } {
        // SAFETY: as in `on_lifecycle`.
        unsafe { tell(opaque, |listener| listener.agent(guest, open)) };
    }
}

unsafe extern "C" fn on_close(_: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    // SAFETY: as in `on_lifecycle`.
    unsafe { tell(opaque, |listener| listener.closed(word(reason))) };
}

unsafe extern "C" fn free(opaque: *mut c_void) {
    // SAFETY: libvirt frees each registration once, after its last call; `into_opaque` made it.
    let listener = unsafe { Box::from_raw(opaque.cast::<Arc<dyn Listener>>()) };
    // The last owner may be dropped here, on the loop's thread.
    if catch_unwind(AssertUnwindSafe(|| drop(listener))).is_err() {
        warn!("a listener panicked at its end");
    }
}
