//! A guest's file systems, held still while a copy of its disk begins: where its agent can, or must.

use std::time::{Duration, SystemTime};

use super::standing::Standing;
use crate::{
    error::{Error, Kind, Result},
    host::Host,
    model::{InstanceId, Phase, PowerState},
    step::{FreezeGuest, Thaw, inside},
    task::Task,
};

/// More than a freeze and the begin of a copy take; if we are gone by then, the guest thaws by itself.
const TIME: Duration = Duration::from_secs(120);

/// How a guest is to be held still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Whether nothing may be done to its disk otherwise.
    pub(super) required: bool,
    /// Whether it is for a copy that begins by itself: the guest is frozen if it can be, and thaws as soon as the copy has
    /// begun.
    pub(super) live: bool,
}

/// How a guest is held still.
#[derive(Debug)]
pub(super) struct Still {
    instance: InstanceId,
    /// Whether it is, and when it thaws.
    pub(super) frozen: Option<Thaw>,
    /// Whether no copy may be made otherwise.
    required: bool,
    /// Whether it was frozen here, and not by the caller before.
    ours: bool,
}

impl Still {
    /// Freezes the guest: for a live copy where its agent can, for anything when that is required.
    ///
    /// # Errors
    /// `QUIESCE_FAILED` when it is required and cannot be.
    pub(super) async fn hold(task: &mut Task, standing: &Standing, wish: Wish) -> Result<Self> {
        let (host, instance) = (task.host().clone(), standing.record.spec.id);
        let Wish { required, live } = wish;
        let mut still = Self {
            instance,
            frozen: None,
            required,
            ours: false,
        };
        match standing.power {
            PowerState::Running => {}
            PowerState::Paused if required => {
                return Err(still.refused("the guest is paused, and its agent with it"));
            }
            // What is off has nothing in its caches.
            _ => return Ok(still),
        }
        if is_held(&host, instance).await {
            still.frozen = Some(Thaw::Later);
            return Ok(still);
        }
        let can = host.hypervisor.signals(instance).borrow().agent;
        let wanted = required || live && can;
        if !wanted {
            return Ok(still);
        }
        let freeze = FreezeGuest {
            instance,
            until: SystemTime::now() + TIME,
            optional: !required,
        };
        let frozen = task.run(freeze).await.map_err(|e| {
            let agent = e.reason().starts_with("GUEST_AGENT_");
            if agent { still.refused(e.message()) } else { e }
        })?;
        if frozen > 0 {
            still.ours = true;
            still.frozen = Some(if live { Thaw::OnceBegun } else { Thaw::Later });
        }
        still.check(frozen > 0)?;
        Ok(still)
    }

    /// Looks whether what was made of the disk of a guest `frozen`, or not, may be used.
    ///
    /// # Errors
    /// `QUIESCE_FAILED` when it is required and was not so.
    pub(super) fn check(&self, frozen: bool) -> Result<()> {
        match self.required && !frozen {
            true => Err(self.refused("they were not, at that moment")),
            false => Ok(()),
        }
    }

    /// Whether the guest is frozen still: after that time it thaws by itself.
    pub(super) fn holds(&self, host: &Host) -> bool {
        let known = host.store.quiesced().borrow().get(&self.instance).copied();
        self.frozen.is_some() && known.is_some_and(|known| known.until > SystemTime::now())
    }

    /// Lets go of a guest whose disk is at its moment.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub(super) async fn release(&self, host: &Host) -> Result<()> {
        match self.ours && self.frozen == Some(Thaw::Later) {
            true => inside::thaw(host, self.instance).await,
            false => Ok(()),
        }
    }

    fn refused(&self, why: &str) -> Error {
        let id = self.instance;
        let message = format!("the file systems of {id} must be frozen for it: {why}");
        let refused = Error::new(Kind::Precondition, "QUIESCE_FAILED", message);
        refused.with("instance_id", id).in_phase(Phase::Quiesce)
    }
}

/// Whether somebody has frozen it before, for a while that is not over.
async fn is_held(host: &Host, id: InstanceId) -> bool {
    let known = host.store.quiesced().borrow().get(&id).copied();
    known.is_some_and(|known| known.until > SystemTime::now())
        && host.hypervisor.is_frozen(id).await.unwrap_or(false)
}
