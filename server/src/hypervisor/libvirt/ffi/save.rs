//! Calls about the definition that is saved with a guest's memory.
#![allow(unsafe_code)] // as in `ffi`; each block states why it is sound

use std::ffi::CStr;

use virt::{domain::Domain, error::Error as VirtError, sys};

use super::{
    free,
    mirror::{done, name},
};

/// `virDomainManagedSaveGetXMLDesc`
pub(in super::super) fn saved_definition(domain: &Domain) -> Result<String, VirtError> {
    let flags = sys::VIR_DOMAIN_SAVE_IMAGE_XML_SECURE;
    // SAFETY: the domain is alive for the time of the call.
    let text = unsafe { sys::virDomainManagedSaveGetXMLDesc(domain.as_ptr(), flags) };
    if text.is_null() {
        return Err(VirtError::last_error());
    }
    // SAFETY: libvirt answers a text that ends with a zero.
    let kept = unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned();
    // SAFETY: libvirt made it with malloc for its caller to free, and it is not used any more.
    unsafe { free(text.cast()) };
    Ok(kept)
}

/// `virDomainManagedSaveDefineXML`
pub(in super::super) fn define_saved(domain: &Domain, xml: &str) -> Result<(), VirtError> {
    let xml = name(xml);
    // SAFETY: the domain is alive for the time of the call, and the text ends with a zero.
    done(unsafe { sys::virDomainManagedSaveDefineXML(domain.as_ptr(), xml.as_ptr(), 0) })
}
