//! What a crash has cut after the moment from which there is only one way: it is finished, not taken back.

use serde::de::DeserializeOwned;

use super::{
    definition::{domain_of, plan_of, write},
    device::AttachDevice,
    inside::FreezeGuest,
    merge::MergeLayers,
    mirror::{PivotDisk, has_pivoted},
    overlay::{OverlayDisk, is_on, wake},
    save::DiscardMemory,
    secret::ReplaceSecret,
};
use crate::{
    domain::DiskSource,
    error::{Error, Result},
    host::Host,
    hypervisor::HypervisorError,
    image::layer,
    model::{InstanceId, InstanceRecord, PowerState},
    store::BegunStep,
    task::Step,
};

/// How an operation ends that is finished.
#[derive(Debug)]
pub struct Forward {
    /// The instance as it is from now on.
    pub record: InstanceRecord,
    /// What its caller is told, when that was not written down yet.
    pub answer: Option<serde_json::Value>,
}

/// The end of the operation of which these steps were written down, its definition set right; none when what it had done is
/// to be taken back.
///
/// # Errors
/// When the hypervisor cannot be asked, or the definition cannot be set.
pub async fn forward(host: &Host, rows: &[BegunStep]) -> Result<Option<Forward>> {
    let forward = if let Some(step) = find::<PivotDisk>(rows)? {
        pivoted(host, step).await?
    } else if let Some(step) = find::<OverlayDisk>(rows)? {
        overlaid(host, step).await?
    } else if let Some(step) = find::<MergeLayers>(rows)? {
        merged(host, step).await?
    } else if let Some(step) = find::<ReplaceSecret>(rows)? {
        step.forward(host).await?
    } else if let Some(step) = find::<AttachDevice>(rows)? {
        attached(host, step).await?
    } else if let Some(step) = find::<DiscardMemory>(rows)? {
        return discarded(host, step).await.map(Some);
    } else {
        None
    };
    let Some(forward) = forward else {
        return Ok(None);
    };
    define(host, &forward.record).await?;
    // Nothing that it was frozen for goes on.
    if let Some(freeze) = find::<FreezeGuest>(rows)? {
        freeze.revert(host).await?;
    }
    Ok(Some(forward))
}

fn find<S: Step + DeserializeOwned>(rows: &[BegunStep]) -> Result<Option<S>> {
    let Some(row) = rows.iter().find(|row| row.name == S::NAME) else {
        return Ok(None);
    };
    let read = serde_json::from_str(&row.body);
    let unread = |e| Error::internal(format!("step {} does not read: {e}", row.name));
    read.map(Some).map_err(unread)
}

async fn power(host: &Host, id: InstanceId) -> Result<PowerState> {
    Ok(host.hypervisor.info(id).await?.state)
}

/// From a pivot on, both sides are alike; the guest that is off finds all of it on the new one.
async fn pivoted(host: &Host, step: PivotDisk) -> Result<Option<Forward>> {
    let id = step.instance;
    let on = is_on(power(host, id).await?);
    if on && !has_pivoted(host, id, &step.to).await? {
        return Ok(None);
    }
    let (record, answer) = (step.record, None);
    Ok(Some(Forward { record, answer }))
}

async fn overlaid(host: &Host, step: OverlayDisk) -> Result<Option<Forward>> {
    let id = step.instance;
    let there = match (is_on(power(host, id).await?), &step.to.source) {
        (true, _) => step.is_over(host).await?,
        (false, DiskSource::File(new)) => {
            new.try_exists().unwrap_or(true) && !layer::is_blank(new).await?
        }
        (false, _) => false,
    };
    if !there {
        return Ok(None);
    }
    wake(host, (id, step.was)).await?;
    Ok(Some(Forward {
        record: step.record,
        answer: Some(step.answer),
    }))
}

/// Memory that is gone, or about to go, is removed.
async fn discarded(host: &Host, step: DiscardMemory) -> Result<Forward> {
    host.hypervisor.discard(step.instance).await?;
    Ok(Forward {
        record: step.record,
        answer: Some(step.answer),
    })
}

/// A merge that is done cannot be taken back; one that is under way goes on in QEMU, and is stopped with its undo.
async fn merged(host: &Host, step: MergeLayers) -> Result<Option<Forward>> {
    if !step.is_done(host).await? {
        return Ok(None);
    }
    step.finish(host).await?;
    wake(host, (step.instance, step.was)).await?;
    Ok(Some(Forward {
        record: step.record,
        answer: Some(step.answer),
    }))
}

/// A guest that has a device already may not let go of it.
async fn attached(host: &Host, step: AttachDevice) -> Result<Option<Forward>> {
    let Some(record) = step.record else {
        return Ok(None);
    };
    let there = match host.hypervisor.has(step.instance, &step.device).await {
        Ok(there) => there,
        Err(HypervisorError::NotFound(_)) => false,
        Err(e) => return Err(e.into()),
    };
    let (record, answer) = (*record, None);
    Ok(there.then_some(Forward { record, answer }))
}

/// Gives an instance the definition that goes with its record.
pub(super) async fn define(host: &Host, record: &InstanceRecord) -> Result<()> {
    let id = record.spec.id;
    let plan = plan_of(host, record).await?;
    let plugged = host.vifs.plugged(id, record.spec.vifs.iter()).await?;
    let domain = domain_of(host, record, &plan, &plugged).await?;
    write(host, id, &domain.to_xml())?;
    Ok(host.hypervisor.define(&domain).await?)
}
