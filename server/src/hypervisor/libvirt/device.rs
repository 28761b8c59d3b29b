//! Devices of running guests through libvirt.
//!
//! The live definition is the truth: libvirt takes a device out of it when QEMU says that the guest has let go, and tells
//! it by an event. The event only wakes whoever waits, so that one that is lost costs a moment and nothing else.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use virt::{connect::Connect, domain::Domain as Handle, error::ErrorNumber, sys};

use super::{
    Call, Kind, Libvirt,
    fault::Fault,
    ffi,
    guest::{must, ours, unreadable},
    xml::Element,
};
use crate::{
    domain::Device,
    hypervisor::{
        HypervisorError, Result,
        device::{Detached, Devices},
    },
    model::{Bytes, InstanceId},
};

/// How often the live definition is looked at while a guest is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[async_trait]
impl Devices for Libvirt {
    async fn attach(&self, id: InstanceId, device: &Device) -> Result<()> {
        let (alias, xml) = (device.alias(), device.to_xml());
        let call = Call::of(Kind::Monitor, "virDomainAttachDeviceFlags", id);
        let attach = move |conn: &Connect| attach(conn, id, (&alias, &xml));
        self.call(call, attach).await
    }

    async fn detach(
        &self,
        id: InstanceId,
        device: &Device,
        patience: Duration,
    ) -> Result<Detached> {
        let end = Instant::now() + patience;
        let mut signal = self.exchange.signals.watch(id);
        let refusals = signal.borrow_and_update().refusals;
        let alias = device.alias();
        let call = Call::of(Kind::Monitor, "virDomainDetachDeviceAlias", id);
        let ask = move |conn: &Connect| ask(conn, id, &alias);
        if !self.call(call, ask).await? {
            return Ok(Detached::Gone);
        }
        loop {
            let look = end.min(Instant::now() + LOOK_AGAIN);
            // The sender outlives every receiver that asks for it.
            let woken = timeout_at(look, signal.changed()).await;
            match self.has(id, device).await {
                Ok(false) => return Ok(Detached::Gone),
                // Somebody is at work on the guest: the next look tells.
                Ok(true) | Err(HypervisorError::Busy) => {}
                Err(e) => return Err(e),
            }
            if signal.borrow_and_update().refusals > refusals {
                return Ok(Detached::Refused);
            }
            if Instant::now() >= end {
                return Ok(Detached::Held);
            }
            if matches!(woken, Ok(Err(_))) {
                tokio::time::sleep_until(look).await;
            }
        }
    }

    async fn has(&self, id: InstanceId, device: &Device) -> Result<bool> {
        let alias = device.alias();
        let call = Call::reading(Kind::Monitor, "virDomainGetXMLDesc", id);
        let has = move |conn: &Connect| {
            let domain = must(ours(conn, id)?, id)?;
            Ok(domain.is_active()? && has(&domain, &alias)?)
        };
        self.call(call, has).await
    }

    async fn set_vcpus(&self, id: InstanceId, vcpus: u32) -> Result<()> {
        let call = Call::of(Kind::Monitor, "virDomainSetVcpusFlags", id);
        let set = move |conn: &Connect| {
            let domain = must(ours(conn, id)?, id)?;
            let set = domain.set_vcpus_flags(vcpus, sys::VIR_DOMAIN_AFFECT_LIVE);
            Ok(set.map(drop)?)
        };
        self.call(call, set).await
    }

    async fn disk_size(&self, id: InstanceId, target: &str) -> Result<Bytes> {
        let target = target.to_owned();
        let call = Call::reading(Kind::Monitor, "virDomainGetBlockInfo", id);
        let size = move |conn: &Connect| {
            let domain = must(ours(conn, id)?, id)?;
            Ok(Bytes(ffi::device::disk_size(&domain, &target)?))
        };
        self.call(call, size).await
    }

    async fn resize_disk(&self, id: InstanceId, target: &str, size: Bytes) -> Result<()> {
        let target = target.to_owned();
        let call = Call::of(Kind::Monitor, "virDomainBlockResize", id);
        let resize = move |conn: &Connect| {
            let domain = must(ours(conn, id)?, id)?;
            let flags = sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES;
            Ok(domain.block_resize(&target, size.0, flags)?)
        };
        self.call(call, resize).await
    }
}

/// Whether the live definition has a device of that alias. It is read in turn with whatever is done to the guest.
fn has(domain: &Handle, alias: &str) -> Result<bool, Fault> {
    let definition = super::guest::definition(domain, super::guest::PATIENCE)?;
    let definition = Element::parse(&definition).map_err(|e| unreadable(&e))?;
    let kinds: [&[&str]; 3] = [
        &["devices", "memory", "alias"],
        &["devices", "disk", "alias"],
        &["devices", "interface", "alias"],
    ];
    let mut named = kinds.into_iter().flat_map(|kind| definition.all(kind));
    Ok(named.any(|each| each.attribute("name") == Some(alias)))
}

/// `virDomainAttachDeviceFlags`
fn attach(conn: &Connect, id: InstanceId, (alias, xml): (&str, &str)) -> Result<(), Fault> {
    let domain = must(ours(conn, id)?, id)?;
    if has(&domain, alias)? {
        return Ok(());
    }
    let attached = domain.attach_device_flags(xml, sys::VIR_DOMAIN_AFFECT_LIVE);
    attached.map_err(|e| why(Fault::from(e), id))
}

/// libvirt has no numbers of their own for these.
fn why(fault: Fault, id: InstanceId) -> Fault {
    let Fault::Libvirt(e) = &fault else {
        return fault;
    };
    let message = e.message();
    let no_slot = ["No more available PCI", "no free", "No free"];
    if no_slot.iter().any(|words| message.contains(words)) {
        return HypervisorError::Slots(id).into();
    }
    if message.contains("'blockdev-add'") {
        let message = message.to_owned();
        return HypervisorError::Volume { message }.into();
    }
    fault
}

/// `virDomainDetachDeviceAlias`. Whether the guest has something to let go of.
fn ask(conn: &Connect, id: InstanceId, alias: &str) -> Result<bool, Fault> {
    let domain = must(ours(conn, id)?, id)?;
    if !domain.is_active()? || !has(&domain, alias)? {
        return Ok(false);
    }
    match ffi::device::detach(&domain, alias).map_err(Fault::from) {
        Ok(()) => Ok(true),
        Err(fault) if fault.is(ErrorNumber::DeviceMissing) => Ok(false),
        // It was asked before, and has not answered yet.
        Err(Fault::Libvirt(e)) if e.message().contains("in the process of unplug") => Ok(true),
        Err(_) if !domain.is_active()? => Ok(false),
        Err(fault) => Err(fault),
    }
}
