//! Mirrors through libvirt's block copy.
//!
//! Writes go to both sides while one is ready, so there is no moment at which the new side lacks what the guest was told
//! to be written.

use async_trait::async_trait;
use virt::{connect::Connect, error::ErrorNumber};

use super::{
    Libvirt,
    call::{Call, Kind},
    fault::Fault,
    ffi,
    guest::{must, ours, unreadable},
    xml::Element,
};
use crate::{
    domain::{Device, Disk},
    hypervisor::{
        HypervisorError, Result,
        mirror::{Mirrored, Mirrors},
    },
    model::InstanceId,
};

#[async_trait]
impl Mirrors for Libvirt {
    async fn begin_mirror(&self, id: InstanceId, to: &Disk, bandwidth: Option<u64>) -> Result<()> {
        let (target, xml) = (to.target.clone(), xml_of(to));
        let call = Call::of(Kind::Monitor, "virDomainBlockCopy", id);
        let begin = move |conn: &Connect| {
            let domain = must(ours(conn, id)?, id)?;
            let begun = ffi::mirror::begin(&domain, (&target, &xml), bandwidth);
            begun.map_err(|e| why(e.into()))
        };
        self.call(call, begin).await
    }

    async fn mirrored(&self, id: InstanceId, target: &str) -> Result<Mirrored> {
        let target = target.to_owned();
        let call = Call::reading(Kind::Monitor, "virDomainGetBlockJobInfo", id);
        let look = move |conn: &Connect| {
            let domain = must(ours(conn, id)?, id)?;
            if !domain.is_active()? {
                return Ok(Mirrored::None);
            }
            Ok(match ffi::mirror::look(&domain, &target)? {
                None => Mirrored::None,
                // libvirt keeps both apart until QEMU says that it is ready.
                Some((done, total)) if done == total && total > 0 => Mirrored::Ready,
                Some((done, total)) => Mirrored::Copying { done, total },
            })
        };
        self.call(call, look).await
    }

    async fn end_mirror(&self, id: InstanceId, target: &str, pivot: bool) -> Result<()> {
        let target = target.to_owned();
        let call = Call::of(Kind::Monitor, "virDomainBlockJobAbort", id);
        let end = move |conn: &Connect| {
            let domain = must(ours(conn, id)?, id)?;
            if !domain.is_active()? || ffi::mirror::look(&domain, &target)?.is_none() {
                return Ok(());
            }
            match ffi::mirror::end(&domain, &target, pivot).map_err(Fault::from) {
                // It is ending, or has ended by itself meanwhile.
                Err(fault) if is_over(&fault) && !pivot => Ok(()),
                ended => ended,
            }
        };
        self.call(call, end).await
    }

    async fn reads(&self, id: InstanceId, disk: &Disk) -> Result<bool> {
        let (target, xml) = (disk.target.clone(), xml_of(disk));
        let call = Call::reading(Kind::Monitor, "virDomainGetXMLDesc", id);
        let reads = move |conn: &Connect| {
            let domain = must(ours(conn, id)?, id)?;
            if !domain.is_active()? {
                return Ok(false);
            }
            let live = super::guest::definition(&domain, super::guest::PATIENCE)?;
            let live = Element::parse(&live).map_err(|e| unreadable(&e))?;
            let own = Element::parse(&xml).map_err(|e| unreadable(&e))?;
            let named = |disk: &&Element| {
                let name = disk.first(&["target"]);
                name.and_then(|name| name.attribute("dev")) == Some(&target)
            };
            let there = live.all(&["devices", "disk"]).find(named);
            Ok(there.is_some_and(|there| alike(&own, there)))
        };
        self.call(call, reads).await
    }
}

fn is_over(fault: &Fault) -> bool {
    fault.is(ErrorNumber::OperationInvalid) || fault.is(ErrorNumber::InvalidArg)
}

fn xml_of(disk: &Disk) -> String {
    Device::Disk(Box::new(disk.clone())).to_xml()
}

/// Whether two disks are over the same.
fn alike(own: &Element, there: &Element) -> bool {
    let of = |disk: &Element| {
        let words = |path: &[&str], names: &[&str]| -> Vec<Option<String>> {
            let element = disk.first(path);
            let word = |name: &&str| element?.attribute(name).map(str::to_owned);
            names.iter().map(word).collect()
        };
        let source = words(&["source"], &["file", "dev", "protocol", "name"]);
        let host = words(&["source", "host"], &["name", "port", "socket"]);
        (source, host)
    };
    of(own) == of(there)
}

/// libvirt has no number of its own for this.
fn why(fault: Fault) -> Fault {
    let Fault::Libvirt(e) = &fault else {
        return fault;
    };
    if e.message().contains("'blockdev-add'") {
        let message = e.message().to_owned();
        return HypervisorError::Volume { message }.into();
    }
    fault
}
