//! Who calls libvirt's drivers inside our own process.
//!
//! libvirtd gives each of its threads the identity of the client whose call it serves. A driver reads a secret only on
//! behalf of somebody, so without an identity no guest starts whose disk has one; and it asks for secrets at the address of
//! a libvirtd, unless its thread was told of a connection. The calls for both are libvirt's own and in no header, so they
//! are looked for by name, and may be missing.
#![allow(unsafe_code)] // as in `ffi`; each block states why it is sound

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
    sync::OnceLock,
};

use virt::{connect::Connect, sys::virConnectPtr};

/// `virIdentityPtr virIdentityGetSystem(void)`
type GetSystem = unsafe extern "C" fn() -> *mut c_void;
/// `int virIdentitySetCurrent(virIdentityPtr)`
type SetCurrent = unsafe extern "C" fn(*mut c_void) -> c_int;
/// `int virSetConnectSecret(virConnectPtr)`
type SetKeeper = unsafe extern "C" fn(virConnectPtr) -> c_int;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The identity of this process, and the calls that put it on.
struct Own {
    identity: *mut c_void,
    set: SetCurrent,
    set_keeper: SetKeeper,
}

// SAFETY: libvirt's identities count their references atomically, and nothing changes this one once it is made.
unsafe impl Send for Own {}
// SAFETY: as above.
unsafe impl Sync for Own {}

static OWN: OnceLock<Option<Own>> = OnceLock::new();

fn found(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: no handle means all that is loaded, and the name ends with a zero.
    let symbol = unsafe { dlsym(ptr::null_mut(), name.as_ptr()) };
    (!symbol.is_null()).then_some(symbol)
}

fn own() -> Option<Own> {
    let get = found(c"virIdentityGetSystem")?;
    let set = found(c"virIdentitySetCurrent")?;
    let set_keeper = found(c"virSetConnectSecret")?;
    // SAFETY: libvirt's function of that name has had this signature since it came.
    let get = unsafe { std::mem::transmute::<*mut c_void, GetSystem>(get) };
    // SAFETY: as above.
    let set = unsafe { std::mem::transmute::<*mut c_void, SetCurrent>(set) };
    // SAFETY: as above.
    let set_keeper = unsafe { std::mem::transmute::<*mut c_void, SetKeeper>(set_keeper) };
    // SAFETY: it takes nothing, and answers a reference that is ours, or none.
    let identity = unsafe { get() };
    (!identity.is_null()).then_some(Own {
        identity,
        set,
        set_keeper,
    })
}

/// Gives the calling thread the identity of this process, and has it ask `keeper` for secrets, which must live for as long
/// as the thread makes calls. False where libvirt does not know of such.
pub(in super::super) fn assume(keeper: &Connect) -> bool {
    let Some(own) = OWN.get_or_init(own) else {
        return false;
    };
    // SAFETY: our reference is never given back, and libvirt takes one of its own for the thread.
    let known = unsafe { (own.set)(own.identity) >= 0 };
    // SAFETY: the connection is alive, and its owner keeps it so while this thread makes calls.
    known && unsafe { (own.set_keeper)(keeper.as_ptr()) >= 0 }
}
