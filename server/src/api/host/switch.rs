//! What changes the host: its switches, and its power.
//!
//! A switch is one transaction, and with it the operation that turned it: begun, told and ended at once, so that there is
//! nothing to undo, and its request id is known again like any other's. The power of the host is an operation that runs.

use std::time::SystemTime;

use computedriver::v1;
use tonic::{Request, Status};
use tracing::{Instrument, info};

use super::{
    Api,
    about::{NO_COMMAND, unsupported},
    resource::count,
};
use crate::{
    action::{HostPower, PowerVerb},
    api::status::status,
    error::{Error, Result},
    model::{NodeSwitch, OperationId, OperationRecord, OperationState, PowerState, Verb},
    operation::{OperationError, RequestKey},
    store::Switched,
};

/// The longest note, in characters.
const NOTE: usize = 255;

impl Api {
    /// Turns a switch on for a reason, or off. Answers what is told of it: the same to a request that comes again.
    async fn switch(
        &self,
        key: RequestKey,
        (verb, switch): (Verb, NodeSwitch),
        on: Option<String>,
        answer: u32,
    ) -> Result<u32> {
        let record = OperationRecord {
            id: OperationId::random(),
            instance: None,
            image: None,
            verb,
            request: key.request,
            fingerprint: key.fingerprint.clone(),
            state: OperationState::Running,
            begun: SystemTime::now(),
            ended: None,
            caller: key.caller,
            error: None,
            answer: Some(answer.into()),
        };
        info!(operation = %record.id, verb = verb.as_str(), on = on.is_some(), note = on.as_deref().unwrap_or_default(), "the host is switched");
        let store = self.host.store.clone();
        // A task of its own: a caller that leaves leaves nothing half done.
        let turn = async move { store.switch_node(switch, on, record).await };
        let turned = tokio::spawn(turn.in_current_span()).await;
        let turned = turned.map_err(|_| Error::internal("switching the host panicked"))?;
        match (turned?, key.request) {
            (Switched::Done, _) => Ok(answer),
            (Switched::Known(known), Some(request))
                if known.verb != verb || known.fingerprint != key.fingerprint =>
            {
                Err(OperationError::RequestIdReused(request).into())
            }
            (Switched::Known(known), _) => known.answer(),
        }
    }

    pub(super) async fn set_enabled(
        &self,
        request: Request<v1::SetHostEnabledRequest>,
    ) -> Result<v1::SetHostEnabledResponse> {
        let (key, on) = self.change(request, |faults, request| {
            let note = faults.text("note", request.note, NOTE)?;
            Some((!request.enabled).then_some(note))
        })?;
        let which = (Verb::SetHostEnabled, NodeSwitch::Disabled);
        self.switch(key, which, on, 0).await?;
        Ok(v1::SetHostEnabledResponse {})
    }

    pub(super) async fn set_maintenance(
        &self,
        request: Request<v1::HostMaintenanceModeRequest>,
    ) -> Result<v1::HostMaintenanceModeResponse> {
        let (key, on) = self.change(request, |faults, request| {
            let note = faults.text("note", request.note, NOTE)?;
            Some(request.enabled.then_some(note))
        })?;
        let which = (Verb::HostMaintenanceMode, NodeSwitch::Maintenance);
        let running = self.may_run().await;
        let running_instances = self.switch(key, which, on, running).await?;
        Ok(v1::HostMaintenanceModeResponse { running_instances })
    }

    /// Instances that run; all, when nobody can say which do.
    async fn may_run(&self) -> u32 {
        count(match self.host.hypervisor.list().await {
            Ok(guests) => guests
                .iter()
                .filter(|(_, guest)| guest.state == PowerState::Running)
                .count(),
            Err(_) => self.host.store.count(),
        })
    }

    pub(super) async fn host_power(
        &self,
        request: Request<v1::HostPowerActionRequest>,
    ) -> Result<v1::HostPowerActionResponse, Status> {
        let about = &self.about;
        if about.reboot.is_empty() && about.shutdown.is_empty() {
            return Err(status(&unsupported("HostPowerAction", NO_COMMAND)));
        }
        let read = self.change(request, |faults, request| {
            let (verb, command) = match request.action() {
                v1::HostPowerVerb::Reboot => (PowerVerb::Reboot, &about.reboot),
                v1::HostPowerVerb::Shutdown => (PowerVerb::Shutdown, &about.shutdown),
                v1::HostPowerVerb::Unspecified => {
                    faults.wrong("action", "must be a known action");
                    return None;
                }
            };
            faults.refuse("action", command.is_empty());
            Some(HostPower {
                verb,
                command: command.clone(),
                force: request.force,
            })
        });
        let (key, action) = read.map_err(|e| status(&e))?;
        self.done(key, action).await?;
        Ok(v1::HostPowerActionResponse {})
    }
}
