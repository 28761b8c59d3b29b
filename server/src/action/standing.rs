//! How an instance stands when an action begins, and whether it may.

use std::sync::Arc;

use crate::{
    error::{Error, Kind, Result},
    host::Host,
    hypervisor::HypervisorError,
    model::{InstanceId, InstanceRecord, InstanceState, PowerState, Verb},
    plan::admission::{self, Admission},
};

/// An instance as an action finds it.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// Its row.
    pub(super) record: Arc<InstanceRecord>,
    /// Its guest's power state; `NoState` when the hypervisor does not know the guest.
    pub(super) power: PowerState,
    /// Whether what the action would do is so already.
    pub(super) already: bool,
}

/// The instance, whole: for [`super::Action::admit`], which asks no hypervisor.
///
/// # Errors
/// `INSTANCE_NOT_FOUND`; `INSTANCE_STATE` when a failed operation has left it half made or half removed.
pub(super) fn present(host: &Host, id: InstanceId) -> Result<Arc<InstanceRecord>> {
    let record = host.store.instance(id);
    let record = record.ok_or(HypervisorError::NotFound(id))?;
    if record.state == InstanceState::Active {
        return Ok(record);
    }
    let message = format!("instance {id} is left over from a failed operation; destroy it first");
    Err(Error::new(Kind::Precondition, "INSTANCE_STATE", message).with("instance_id", id))
}

/// Looks at the instance, which the caller holds, and asks the table of [`admission`].
///
/// # Errors
/// Those of [`present`]; `INSTANCE_STATE` with `power_state` and the next move; the hypervisor's own.
pub(super) async fn admitted(host: &Host, verb: Verb, id: InstanceId) -> Result<Standing> {
    let record = present(host, id)?;
    let power = power(host, id).await?;
    match admission::admit(verb, power, record.rescue.is_some()) {
        Admission::Refused(next) => Err(refused(verb, &record, power, next)),
        admission => Ok(Standing {
            record,
            power,
            already: admission == Admission::Already,
        }),
    }
}

/// The guest's power state; `NoState` when the hypervisor does not know it.
///
/// # Errors
/// When the hypervisor cannot be asked.
pub(super) async fn power(host: &Host, id: InstanceId) -> Result<PowerState> {
    match host.hypervisor.info(id).await {
        Ok(guest) => Ok(guest.state),
        Err(HypervisorError::NotFound(_)) => Ok(PowerState::NoState),
        Err(e) => Err(e.into()),
    }
}

pub(super) fn refused(verb: Verb, record: &InstanceRecord, power: PowerState, next: &str) -> Error {
    let id = record.spec.id;
    let rescued = record.rescue.is_some();
    let also = if rescued { " and rescued" } else { "" };
    let message = format!("instance {id} is {power:?}{also}, where {verb:?} cannot begin: {next}");
    Error::new(Kind::Precondition, "INSTANCE_STATE", message)
        .with("instance_id", id)
        .with("power_state", power.as_str())
        .with("rescued", rescued)
        .with("verb", verb.as_str())
}
