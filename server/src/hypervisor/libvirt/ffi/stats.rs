//! Statistics in bulk: libvirt's records of typed parameters, read in place and given back.
//!
//! `virt` has the call but neither reads the records nor frees them. What is newer than this program, or of another type
//! than it was, is passed over.

use std::{
    ffi::{CStr, c_char, c_int, c_uint},
    marker::PhantomData,
    ptr, slice,
};

use uuid::Uuid;
use virt::{connect::Connect, domain::Domain, error::Error as VirtError, sys};

/// What libvirt answered; given back when this is dropped.
pub(in super::super) struct Stats {
    list: *mut sys::virDomainStatsRecordPtr,
    length: usize,
}

/// The statistics of one guest.
pub(in super::super) struct Record<'a> {
    raw: *const sys::_virDomainStatsRecord,
    list: PhantomData<&'a Stats>,
}

/// A value of libvirt's. Numbers below zero are none: libvirt means "not known" by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Value<'a> {
    /// A number.
    Number(u64),
    /// A text.
    Text(&'a str),
}

impl<'a> Value<'a> {
    /// The number, if it is one.
    pub(in super::super) fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(_) => None,
        }
    }

    /// The text, if it is one.
    pub(in super::super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) => None,
        }
    }
}

impl Stats {
    /// `virConnectGetAllDomainStats`: of every guest there is.
    pub(in super::super) fn of_all(conn: &Connect, groups: c_uint) -> Result<Self, VirtError> {
        // SAFETY: the connection is alive; libvirt sets the list if and only if it answers with no error.
        Self::new(|list| unsafe {
            sys::virConnectGetAllDomainStats(conn.as_ptr(), groups, list, 0)
        })
    }

    /// `virDomainListGetStats`: of one guest. Values that need its monitor are left out while another job has it.
    pub(in super::super) fn of_one(domain: &Domain, groups: c_uint) -> Result<Self, VirtError> {
        // SAFETY: the pointer is used within the borrow of `domain` only.
        let mut domains = [unsafe { domain.as_ptr() }, ptr::null_mut()];
        let nowait = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
        // SAFETY: the list of domains ends with a null, and libvirt does not keep it; else as above.
        Self::new(|list| unsafe {
            sys::virDomainListGetStats(domains.as_mut_ptr(), groups, list, nowait)
        })
    }

    fn new(
        ask: impl FnOnce(*mut *mut sys::virDomainStatsRecordPtr) -> c_int,
    ) -> Result<Self, VirtError> {
        let mut list = ptr::null_mut();
        match usize::try_from(ask(&raw mut list)) {
            Ok(length) => Ok(Self { list, length }),
            Err(_) => Err(VirtError::last_error()),
        }
    }

    /// The guests' records.
    pub(in super::super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let records = if self.list.is_null() {
            &[]
        } else {
            // SAFETY: libvirt's list has that many records, and lives until `self` is dropped.
            unsafe { slice::from_raw_parts(self.list, self.length) }
        };
        records.iter().map(|raw| Record {
            raw: *raw,
            list: PhantomData,
        })
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        if !self.list.is_null() {
            // SAFETY: the list came from libvirt, and nothing borrows from it any more.
            unsafe { sys::virDomainStatsRecordListFree(self.list) };
        }
    }
}

impl<'a> Record<'a> {
    /// Whose it is.
    pub(in super::super) fn uuid(&self) -> Option<Uuid> {
        let mut bytes = [0_u8; sys::VIR_UUID_BUFLEN as usize];
        // SAFETY: the record and its domain live as long as the list; the buffer has the length that libvirt writes.
        let done = unsafe { sys::virDomainGetUUID((*self.raw).dom, bytes.as_mut_ptr()) };
        (done == 0).then(|| Uuid::from_bytes(bytes))
    }

    /// libvirt's number of this run of the guest; none while it is off.
    pub(in super::super) fn run(&self) -> Option<u32> {
        // SAFETY: as in `uuid`. Local: nothing is sent.
        let run = unsafe { sys::virDomainGetID((*self.raw).dom) };
        (run != c_uint::MAX).then_some(run)
    }

    /// A handle that may outlive the record.
    pub(in super::super) fn domain(&self) -> Result<Domain, VirtError> {
        // SAFETY: as in `uuid`.
        let domain = unsafe { (*self.raw).dom };
        // SAFETY: the domain is alive here, and gets a reference more.
        if unsafe { sys::virDomainRef(domain) } < 0 {
            return Err(VirtError::last_error());
        }
        // SAFETY: the handle owns the reference just taken.
        Ok(unsafe { Domain::from_ptr(domain) })
    }

    /// Names and values.
    pub(in super::super) fn values(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        // SAFETY: the record lives as long as the list.
        let (params, length) = unsafe { ((*self.raw).params, (*self.raw).nparams) };
        let length = usize::try_from(length).unwrap_or_default();
        let params: &'a [sys::_virTypedParameter] = if params.is_null() {
            &[]
        } else {
            // SAFETY: the record has that many parameters, which live as long as the list.
            unsafe { slice::from_raw_parts(params, length) }
        };
        params
            .iter()
            .filter_map(|param| Some((name(param)?, value(param)?)))
    }
}

pub(super) fn name(param: &sys::_virTypedParameter) -> Option<&str> {
    // SAFETY: `c_char` and `u8` have the same layout, and the length is the array's own.
    let bytes =
        unsafe { slice::from_raw_parts(param.field.as_ptr().cast::<u8>(), param.field.len()) };
    CStr::from_bytes_until_nul(bytes).ok()?.to_str().ok()
}

pub(super) fn value(param: &sys::_virTypedParameter) -> Option<Value<'_>> {
    let of = |known: sys::virTypedParameterType| u32::try_from(param.type_) == Ok(known);
    // SAFETY: the tag says which member of the union libvirt wrote; any bits are a number.
    unsafe {
        if of(sys::VIR_TYPED_PARAM_ULLONG) {
            Some(Value::Number(param.value.ul))
        } else if of(sys::VIR_TYPED_PARAM_LLONG) {
            u64::try_from(param.value.l).ok().map(Value::Number)
        } else if of(sys::VIR_TYPED_PARAM_UINT) {
            Some(Value::Number(param.value.ui.into()))
        } else if of(sys::VIR_TYPED_PARAM_INT) {
            u64::try_from(param.value.i).ok().map(Value::Number)
        } else if of(sys::VIR_TYPED_PARAM_BOOLEAN) {
            Some(Value::Number(u64::from(param.value.b != 0)))
        } else if of(sys::VIR_TYPED_PARAM_STRING) {
            text(param.value.s)
        } else {
            None
        }
    }
}

/// # Safety
/// `text` is null or ends with a NUL, and lives for `'a`.
unsafe fn text<'a>(text: *const c_char) -> Option<Value<'a>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: promised by the caller.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().ok().map(Value::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(
        kind: sys::virTypedParameterType,
        value: sys::_virTypedParameter__bindgen_ty_1,
    ) -> sys::_virTypedParameter {
        let mut field = [0; 80];
        field[0] = c_char::try_from(b'x').unwrap();
        sys::_virTypedParameter {
            field,
            type_: c_int::try_from(kind).unwrap(),
            value,
        }
    }

    fn read(
        kind: sys::virTypedParameterType,
        member: sys::_virTypedParameter__bindgen_ty_1,
    ) -> Option<u64> {
        let param = param(kind, member);
        assert_eq!(name(&param), Some("x"));
        value(&param).and_then(Value::number)
    }

    type Member = sys::_virTypedParameter__bindgen_ty_1;

    #[test]
    fn numbers_of_every_width_are_read_and_unknown_ones_are_none() {
        assert_eq!(
            read(sys::VIR_TYPED_PARAM_ULLONG, Member { ul: u64::MAX }),
            Some(u64::MAX)
        );
        assert_eq!(read(sys::VIR_TYPED_PARAM_LLONG, Member { l: 7 }), Some(7));
        assert_eq!(read(sys::VIR_TYPED_PARAM_LLONG, Member { l: -1 }), None);
        assert_eq!(read(sys::VIR_TYPED_PARAM_UINT, Member { ui: 7 }), Some(7));
        assert_eq!(read(sys::VIR_TYPED_PARAM_INT, Member { i: 7 }), Some(7));
        assert_eq!(read(sys::VIR_TYPED_PARAM_INT, Member { i: -1 }), None);
    }

    #[test]
    fn types_without_a_meaning_here_are_passed_over() {
        assert_eq!(read(sys::VIR_TYPED_PARAM_DOUBLE, Member { d: 1.0 }), None);
        assert_eq!(read(99, Member { ul: 1 }), None);
        let none = param(sys::VIR_TYPED_PARAM_STRING, Member { s: ptr::null_mut() });
        assert_eq!(value(&none), None);
    }

    #[test]
    fn a_name_without_an_end_is_none() {
        let mut param = param(sys::VIR_TYPED_PARAM_ULLONG, Member { ul: 1 });
        param.field = [1; 80];
        assert_eq!(name(&param), None);
    }
}
