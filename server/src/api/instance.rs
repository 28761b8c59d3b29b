//! InstanceService: what is served of it.

mod diagnostics;
mod image;
mod listing;
mod power;
mod quiesce;
mod rebuild;
mod rescue;
mod resize;
#[cfg(test)]
mod tests;

use computedriver::v1::{self, instance_service_server::InstanceService};
use futures::{StreamExt, stream};
use tokio::sync::watch;
use tonic::{Request, Response};

use super::{
    Api, convert,
    operation::heartbeat,
    peer::caller,
    status::status,
    stream::{Answers, Seen, follow},
    work::{Reply, Streamed},
};
use crate::{
    action::{Destroy, Spawn, is_off},
    error::Error,
    hypervisor::{GuestInfo, HypervisorError},
    model::{InstanceId, InstanceRecord, InstanceState, PowerState, Verb, Wanted},
    operation::RequestKey,
    plan::{self, Plan},
    task::Progress,
};

pub(super) fn not_found(id: InstanceId) -> Error {
    HypervisorError::NotFound(id).into()
}

/// What is told of a guest that cannot be asked, or that the hypervisor has no word for.
fn silent(record: &InstanceRecord, state: PowerState) -> GuestInfo {
    let kib = record.spec.flavor.memory.kib();
    GuestInfo {
        state,
        max_mem_kib: kib,
        mem_kib: kib,
        num_cpu: record.spec.flavor.vcpus,
        cpu_time_ns: 0,
    }
}

impl Api {
    /// The guest as the hypervisor sees it. Unreachable is UNKNOWN; known here but not there is NOSTATE, never gone.
    pub(super) async fn guest(&self, record: &InstanceRecord) -> Result<GuestInfo, Error> {
        match self.host.hypervisor.info(record.spec.id).await {
            Ok(info) => Ok(self.meant(record, info)),
            Err(HypervisorError::NotFound(_)) => Ok(silent(record, PowerState::NoState)),
            Err(HypervisorError::Unavailable { .. } | HypervisorError::Timeout { .. }) => {
                Ok(silent(record, PowerState::Unknown))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// A guest that is off in the middle of a restart, or held by the hypervisor as it starts, stands as its owner wants it.
    fn meant(&self, record: &InstanceRecord, guest: GuestInfo) -> GuestInfo {
        let state = match record.wanted {
            Wanted::Running => PowerState::Running,
            Wanted::Paused => PowerState::Paused,
            Wanted::Off | Wanted::Suspended => guest.state,
        };
        let between = is_off(guest.state) || guest.state == PowerState::Paused;
        match between && self.operations.restarts(record.spec.id) {
            true => GuestInfo { state, ..guest },
            false => guest,
        }
    }

    fn info(&self, record: &InstanceRecord, guest: GuestInfo) -> v1::InstanceInfo {
        let holder = self.operations.holder(record.spec.id);
        v1::InstanceInfo {
            instance_id: record.spec.id.to_string(),
            state: convert::power_state(guest.state).into(),
            max_mem_kib: guest.max_mem_kib,
            mem_kib: guest.mem_kib,
            num_cpu: guest.num_cpu,
            cpu_time_ns: guest.cpu_time_ns,
            display_name: record.spec.display_name.clone(),
            operation_id: holder.map(|id| id.to_string()).unwrap_or_default(),
            created_time: Some(convert::timestamp(record.created)),
        }
    }

    pub(super) async fn instance(&self, id: InstanceId) -> Result<v1::Instance, Error> {
        let record = self.host.store.instance(id).ok_or_else(|| not_found(id))?;
        let guest = self.guest(&record).await?;
        let live = match guest.state {
            PowerState::Running | PowerState::Paused => {
                self.host.hypervisor.live(id).await.unwrap_or_default()
            }
            _ => crate::hypervisor::LiveGuest::default(),
        };
        let holder = self.operations.holder(id);
        let plan = self.plan(&record).await;
        let disks = plan.iter().flat_map(|plan| &plan.disks);
        let looks = disks.map(|disk| self.look(id, disk)).collect();
        Ok(convert::instance(
            &record,
            convert::Seen {
                guest,
                live,
                holder,
                plan,
                looks,
            },
        ))
    }

    /// What the instance was made of: the plan is a function of its spec, so it need not be kept.
    pub(super) async fn plan(&self, record: &InstanceRecord) -> Option<Plan> {
        let capabilities = self.host.hypervisor.capabilities().await.ok()?;
        plan::of(record, &capabilities, &self.host.plan).ok()
    }

    async fn begin_spawn(&self, request: Request<v1::SpawnRequest>) -> Result<Begun, Error> {
        let caller = caller(&request);
        let mut spawn = convert::spawn(request.into_inner(), self.about.config_drive)?;
        for device in &mut spawn.spec.block_devices {
            *device = self.host.marked(device);
        }
        let fingerprint = self.host.store.fingerprinter().spec(&spawn.spec);
        let fingerprint = fingerprint.map_err(|e| Error::internal(e.to_string()))?;
        let id = spawn.spec.id;
        let action = Spawn::new(&self.host, spawn.spec, fingerprint.clone()).await?;
        let body = self.host.store.fingerprinter().of(&[
            b"spawn",
            fingerprint.as_bytes(),
            action.wait_for().as_bytes(),
        ]);
        let key = RequestKey {
            request: spawn.request,
            fingerprint: body,
            caller,
        };
        if spawn.validate_only {
            action.check(&self.host).await?;
            return Ok(Begun::Already(id));
        }
        let fresh = self.operations.find(&key, Verb::Spawn, Some(id)).await?;
        if fresh.is_none() && self.already(id, &fingerprint)? {
            return Ok(Begun::Already(id));
        }
        match self.operations.begin(key, action).await {
            Ok(progress) => Ok(Begun::Running(id, progress)),
            // An equal request began and ended between the two looks.
            Err(_) if self.already(id, &fingerprint)? => Ok(Begun::Already(id)),
            Err(e) => Err(e),
        }
    }

    /// Whether the instance is here and equal; another one with the same id is an error.
    fn already(&self, id: InstanceId, fingerprint: &str) -> Result<bool, Error> {
        match self.host.store.instance(id) {
            Some(record) if record.state == InstanceState::Active => {
                Spawn::same(&record, fingerprint).map(|()| true)
            }
            _ => Ok(false),
        }
    }
}

enum Begun {
    Already(InstanceId),
    Running(InstanceId, watch::Receiver<Progress>),
}

#[tonic::async_trait]
impl InstanceService for Api {
    async fn spawn(&self, request: Request<v1::SpawnRequest>) -> Reply<Answers<v1::SpawnResponse>> {
        use v1::spawn_response::Event;
        let validate = request.get_ref().validate_only;
        let (id, progress) = match Box::pin(self.begin_spawn(request))
            .await
            .map_err(|e| status(&e))?
        {
            Begun::Already(_) if validate => return Ok(Response::new(Box::pin(stream::empty()))),
            Begun::Already(id) => {
                let instance = self.instance(id).await.map_err(|e| status(&e))?;
                let last = v1::SpawnResponse {
                    event: Some(Event::Instance(instance)),
                };
                return Ok(Response::new(Box::pin(stream::iter([Ok(last)]))));
            }
            Begun::Running(id, progress) => (id, progress),
        };
        let api = self.clone();
        let answers = follow(progress, self.drain.clone()).then(move |seen| {
            let api = api.clone();
            async move {
                let event = match seen? {
                    Seen::Progress(event) => Event::Progress(convert::progress(*event)),
                    Seen::Heartbeat => Event::Heartbeat(heartbeat()),
                    Seen::Done => Event::Instance(api.instance(id).await.map_err(|e| status(&e))?),
                };
                Ok(v1::SpawnResponse { event: Some(event) })
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn watch_boot(
        &self,
        request: Request<v1::WatchBootRequest>,
    ) -> Reply<Answers<v1::WatchBootResponse>> {
        use v1::watch_boot_response::Event;
        let id = convert::instance_id(&request.into_inner().instance_id).map_err(|e| status(&e))?;
        let record = self
            .host
            .store
            .instance(id)
            .ok_or_else(|| status(&not_found(id)))?;
        let operation = self.operations.holder(id).unwrap_or(record.operation);
        let watched = self.operations.watch(operation).await.ok();
        let watched = watched.filter(|progress| progress.borrow().record.verb == Verb::Spawn);
        let Some(progress) = watched else {
            let instance = self.instance(id).await.map_err(|e| status(&e))?;
            let last = v1::WatchBootResponse {
                event: Some(Event::Instance(instance)),
            };
            return Ok(Response::new(Box::pin(stream::iter([Ok(last)]))));
        };
        let first = Event::Operation(convert::operation(
            &progress.borrow(),
            self.operations.cancelling(operation),
        ));
        let api = self.clone();
        let rest = follow(progress, self.drain.clone()).then(move |seen| {
            let api = api.clone();
            async move {
                Ok(match seen? {
                    Seen::Progress(event) => Event::Progress(convert::progress(*event)),
                    Seen::Heartbeat => Event::Heartbeat(heartbeat()),
                    Seen::Done => Event::Instance(api.instance(id).await.map_err(|e| status(&e))?),
                })
            }
        });
        let events = stream::iter([Ok(first)]).chain(rest);
        let answers =
            events.map(|event| event.map(|event| v1::WatchBootResponse { event: Some(event) }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn destroy(&self, request: Request<v1::DestroyRequest>) -> Streamed<v1::DestroyResponse> {
        let read = self.asked(request, |faults, request| {
            faults.refuse("keep_disks", request.keep_disks);
            Some(())
        });
        let (asked, ()) = read.map_err(|e| status(&e))?;
        let instance = asked.id;
        let destroy = Destroy { instance };
        self.told(asked, destroy, move |_, ended| async move {
            Ok(v1::Destroyed {
                instance_id: instance.to_string(),
                // One that a start has finished was of something.
                absent: ended.answer().unwrap_or(false),
            })
        })
        .await
    }

    async fn get_info(&self, request: Request<v1::GetInfoRequest>) -> Reply<v1::GetInfoResponse> {
        let id = convert::instance_id(&request.into_inner().instance_id).map_err(|e| status(&e))?;
        let record = self
            .host
            .store
            .instance(id)
            .ok_or_else(|| status(&not_found(id)))?;
        let guest = self.guest(&record).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::GetInfoResponse {
            info: Some(self.info(&record, guest)),
        }))
    }

    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Reply<v1::GetInstanceResponse> {
        let id = convert::instance_id(&request.into_inner().instance_id).map_err(|e| status(&e))?;
        let instance = self.instance(id).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::GetInstanceResponse {
            instance: Some(instance),
        }))
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Reply<v1::ListInstancesResponse> {
        listing::ids(self, &request.into_inner())
    }

    async fn list_instances_detail(
        &self,
        request: Request<v1::ListInstancesDetailRequest>,
    ) -> Reply<v1::ListInstancesDetailResponse> {
        listing::details(self, &request.into_inner()).await
    }

    async fn stream_instances(
        &self,
        request: Request<v1::StreamInstancesRequest>,
    ) -> Reply<Answers<v1::StreamInstancesResponse>> {
        let answers = listing::stream(self, &request.into_inner());
        Ok(Response::new(answers))
    }

    async fn reboot(&self, request: Request<v1::RebootRequest>) -> Streamed<v1::RebootResponse> {
        self.do_reboot(request).await
    }

    async fn rescue(&self, request: Request<v1::RescueRequest>) -> Streamed<v1::RescueResponse> {
        self.do_rescue(request).await
    }

    async fn unrescue(
        &self,
        request: Request<v1::UnrescueRequest>,
    ) -> Streamed<v1::UnrescueResponse> {
        self.do_unrescue(request).await
    }

    async fn suspend(&self, request: Request<v1::SuspendRequest>) -> Streamed<v1::SuspendResponse> {
        self.do_suspend(request).await
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Streamed<v1::ResumeResponse> {
        self.do_resume(request).await
    }

    async fn trigger_crash_dump(
        &self,
        request: Request<v1::TriggerCrashDumpRequest>,
    ) -> Reply<v1::TriggerCrashDumpResponse> {
        self.do_trigger_crash_dump(request).await
    }

    async fn get_diagnostics(
        &self,
        request: Request<v1::GetDiagnosticsRequest>,
    ) -> Reply<v1::GetDiagnosticsResponse> {
        let told = self.diagnosed(request.get_ref()).await;
        told.map(Response::new)
    }

    async fn power_off(
        &self,
        request: Request<v1::PowerOffRequest>,
    ) -> Streamed<v1::PowerOffResponse> {
        self.do_power_off(request).await
    }

    async fn power_on(&self, request: Request<v1::PowerOnRequest>) -> Reply<v1::PowerOnResponse> {
        self.do_power_on(request).await
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Reply<v1::PauseResponse> {
        self.do_pause(request).await
    }

    async fn unpause(&self, request: Request<v1::UnpauseRequest>) -> Reply<v1::UnpauseResponse> {
        self.do_unpause(request).await
    }

    async fn snapshot(
        &self,
        request: Request<v1::SnapshotRequest>,
    ) -> Streamed<v1::SnapshotResponse> {
        self.do_snapshot(request).await
    }

    async fn quiesce(&self, request: Request<v1::QuiesceRequest>) -> Reply<v1::QuiesceResponse> {
        self.do_quiesce(request).await
    }

    async fn unquiesce(
        &self,
        request: Request<v1::UnquiesceRequest>,
    ) -> Reply<v1::UnquiesceResponse> {
        self.do_unquiesce(request).await
    }

    async fn resize(&self, request: Request<v1::ResizeRequest>) -> Streamed<v1::ResizeResponse> {
        self.do_resize(request).await
    }

    async fn rebuild(&self, request: Request<v1::RebuildRequest>) -> Streamed<v1::RebuildResponse> {
        self.do_rebuild(request).await
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Reply<Answers<v1::WatchEventsResponse>> {
        let answers = self.watch(request.into_inner()).await;
        answers.map(Response::new).map_err(|e| status(&e))
    }
}
