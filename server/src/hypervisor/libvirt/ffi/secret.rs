//! Calls about secrets.
#![allow(unsafe_code)] // as in `ffi`; each block states why it is sound

use std::ffi::CStr;

use virt::{error::Error as VirtError, secret::Secret, sys};

use super::free;

/// What a secret is called. The `virt` crate frees the name, which is libvirt's own.
pub(in super::super) fn secret_usage(secret: &Secret) -> Option<String> {
    // SAFETY: the secret is alive for the time of the call.
    let name = unsafe { sys::virSecretGetUsageID(secret.as_ptr()) };
    if name.is_null() {
        return None;
    }
    // SAFETY: the name ends with a zero and lives as long as the secret.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().ok().map(str::to_owned)
}

/// What a secret holds. The `virt` crate leaves libvirt's copy of it in memory.
pub(in super::super) fn secret_value(secret: &Secret) -> Result<Vec<u8>, VirtError> {
    let mut size = 0;
    // SAFETY: the secret is alive for the time of the call, and `size` is where libvirt puts how many bytes it answers.
    let value = unsafe { sys::virSecretGetValue(secret.as_ptr(), &raw mut size, 0) };
    if value.is_null() {
        return Err(VirtError::last_error());
    }
    // SAFETY: libvirt answers so many bytes at `value`, which nobody else knows of.
    let bytes = unsafe { std::slice::from_raw_parts_mut(value, size) };
    let kept = bytes.to_vec();
    bytes.fill(0);
    // SAFETY: libvirt made it with malloc for its caller to free, and it is not used any more.
    unsafe { free(value.cast()) };
    Ok(kept)
}
