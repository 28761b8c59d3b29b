//! The host in memory: parts of six services.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use computedriver_client::v1;
use computedriver_client::v1::host_service_server::HostService;
use computedriver_client::v1::image_service_server::ImageService;
use computedriver_client::v1::instance_service_server::InstanceService;
use computedriver_client::v1::operation_service_server::OperationService;
use computedriver_client::v1::{destroy_response, spawn_response, watch_operation_response};
use futures::{Stream, StreamExt as _, stream};
use parking_lot::Mutex;
use tonic::{Code, Request, Response, Status, async_trait};

use super::make;
use super::streams::{Journal, Samples};

pub(super) type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
pub(super) type Reply<T> = Result<Response<T>, Status>;

/// What the host was asked, and how it is to behave.
#[derive(Default)]
pub(crate) struct Host {
    state: Mutex<State>,
    pub(crate) journal: Journal,
    pub(crate) samples: Samples,
}

#[derive(Default)]
struct State {
    calls: Vec<&'static str>,
    refusals: VecDeque<Status>,
    cuts: VecDeque<Cut>,
    spawns: HashMap<String, v1::SpawnRequest>,
    failure: Option<Status>,
    instances: Vec<v1::InstanceInfo>,
    images: Vec<v1::CachedImage>,
    console: Vec<u8>,
}

/// How a stream ends before its time, after so many messages.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// With the status that a proxy or a dying server gives.
    Lost(usize),
    /// As if it were whole.
    Short(usize),
    /// Not at all: nothing comes any more.
    Silent(usize),
}

impl Host {
    /// The RPCs called so far.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.state.lock().calls.clone()
    }

    /// Different spawns begun: repeats of a request count once.
    pub(crate) fn spawns(&self) -> Vec<v1::SpawnRequest> {
        self.state.lock().spawns.values().cloned().collect()
    }

    /// Answers the next call with this error.
    pub(crate) fn refuse(&self, status: Status) {
        self.state.lock().refusals.push_back(status);
    }

    /// Ends the next stream so.
    pub(crate) fn cut_next(&self, cut: Cut) {
        self.state.lock().cuts.push_back(cut);
    }

    /// Lets spawns fail after their progress.
    pub(crate) fn fail_spawns(&self, status: Status) {
        self.state.lock().failure = Some(status);
    }

    pub(crate) fn put_instances(&self, instances: Vec<v1::InstanceInfo>) {
        self.state.lock().instances = instances;
    }

    pub(crate) fn put_images(&self, images: Vec<v1::CachedImage>) {
        self.state.lock().images = images;
    }

    pub(crate) fn write_console(&self, bytes: &[u8]) {
        self.state.lock().console.extend_from_slice(bytes);
    }

    pub(super) fn console(&self) -> Vec<u8> {
        self.state.lock().console.clone()
    }

    pub(super) fn begin(&self, rpc: &'static str) -> Result<(), Status> {
        let mut state = self.state.lock();
        state.calls.push(rpc);
        state.refusals.pop_front().map_or(Ok(()), Err)
    }

    /// A page of the instances; its token is the place of the next one.
    fn page(&self, size: u32, token: &str) -> (Vec<v1::InstanceInfo>, String, u64) {
        let all = self.state.lock().instances.clone();
        let begin = token.parse().unwrap_or(0);
        let end = all.len().min(begin + size as usize);
        let next = match end < all.len() {
            true => end.to_string(),
            false => String::new(),
        };
        (all[begin..end].to_vec(), next, all.len() as u64)
    }

    fn stream<T: Send + 'static>(&self, messages: Vec<Result<T, Status>>) -> Reply<Events<T>> {
        self.cut(stream::iter(messages))
    }

    /// The stream, or as much of it as a test lets pass.
    pub(super) fn cut<T: Send + 'static>(
        &self,
        messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Reply<Events<T>> {
        let lost = stream::iter([Err(Status::unavailable("connection reset"))]);
        let cut = self.state.lock().cuts.pop_front();
        Ok(Response::new(match cut {
            None => messages.boxed(),
            Some(Cut::Short(count)) => messages.take(count).boxed(),
            Some(Cut::Lost(count)) => messages.take(count).chain(lost).boxed(),
            Some(Cut::Silent(count)) => messages.take(count).chain(stream::pending()).boxed(),
        }))
    }

    fn instance(&self, id: &str) -> Result<v1::InstanceInfo, Status> {
        let known = self.state.lock().instances.clone();
        let found = known.into_iter().find(|i| i.instance_id == id);
        found.ok_or_else(|| {
            let message = format!("no instance {id} on this host");
            make::error(Code::NotFound, "INSTANCE_NOT_FOUND", &message)
        })
    }
}

#[async_trait]
impl InstanceService for Host {
    async fn spawn(&self, request: Request<v1::SpawnRequest>) -> Reply<Events<v1::SpawnResponse>> {
        self.begin("Spawn")?;
        let request = request.into_inner();
        let failure = {
            let mut state = self.state.lock();
            state.spawns.insert(request.request_id.clone(), request);
            state.failure.clone()
        };
        let event = |event| Ok(v1::SpawnResponse { event: Some(event) });
        let progress = make::progress().into_iter();
        let mut messages: Vec<_> = progress
            .map(|p| event(spawn_response::Event::Progress(p)))
            .collect();
        messages.push(match failure {
            Some(status) => Err(status),
            None => event(spawn_response::Event::Instance(make::instance())),
        });
        self.stream(messages)
    }

    async fn destroy(
        &self,
        request: Request<v1::DestroyRequest>,
    ) -> Reply<Events<v1::DestroyResponse>> {
        self.begin("Destroy")?;
        let id = request.into_inner().instance_id;
        let mut state = self.state.lock();
        let before = state.instances.len();
        state.instances.retain(|i| i.instance_id != id);
        let absent = state.instances.len() == before;
        drop(state);
        let destroyed = destroy_response::Event::Destroyed(v1::Destroyed {
            instance_id: id,
            absent,
        });
        self.stream(vec![Ok(v1::DestroyResponse {
            event: Some(destroyed),
        })])
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Reply<v1::ListInstancesResponse> {
        self.begin("ListInstances")?;
        let asked = request.into_inner();
        let (page, next_page_token, total_size) = self.page(asked.page_size, &asked.page_token);
        Ok(Response::new(v1::ListInstancesResponse {
            instance_ids: page.into_iter().map(|info| info.instance_id).collect(),
            next_page_token,
            total_size,
        }))
    }

    async fn list_instances_detail(
        &self,
        request: Request<v1::ListInstancesDetailRequest>,
    ) -> Reply<v1::ListInstancesDetailResponse> {
        self.begin("ListInstancesDetail")?;
        let asked = request.into_inner();
        let (instances, next_page_token, total_size) =
            self.page(asked.page_size, &asked.page_token);
        Ok(Response::new(v1::ListInstancesDetailResponse {
            instances,
            next_page_token,
            total_size,
        }))
    }

    async fn get_info(&self, request: Request<v1::GetInfoRequest>) -> Reply<v1::GetInfoResponse> {
        self.begin("GetInfo")?;
        let info = self.instance(&request.into_inner().instance_id)?;
        Ok(Response::new(v1::GetInfoResponse { info: Some(info) }))
    }

    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Reply<v1::GetInstanceResponse> {
        self.begin("GetInstance")?;
        self.instance(&request.into_inner().instance_id)?;
        Ok(Response::new(v1::GetInstanceResponse {
            instance: Some(make::instance()),
        }))
    }

    async fn pause(&self, _: Request<v1::PauseRequest>) -> Reply<v1::PauseResponse> {
        self.begin("Pause")?;
        Ok(Response::new(v1::PauseResponse::default()))
    }

    async fn trigger_crash_dump(
        &self,
        _: Request<v1::TriggerCrashDumpRequest>,
    ) -> Reply<v1::TriggerCrashDumpResponse> {
        self.begin("TriggerCrashDump")?;
        Ok(Response::new(v1::TriggerCrashDumpResponse::default()))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Reply<Events<v1::WatchEventsResponse>> {
        self.begin("WatchEvents")?;
        let instances = self.state.lock().instances.clone();
        let events = self.journal.watch(request.into_inner(), instances)?;
        self.cut(events)
    }

    async fn stream_instances(
        &self,
        _: Request<v1::StreamInstancesRequest>,
    ) -> Reply<Events<v1::StreamInstancesResponse>> {
        self.begin("StreamInstances")?;
        let all = self.state.lock().instances.clone();
        let total_size = all.len() as u64;
        let batches = all.chunks(1).map(|instances| {
            Ok(v1::StreamInstancesResponse {
                instances: instances.to_vec(),
                total_size,
            })
        });
        self.stream(batches.collect())
    }
}

#[async_trait]
impl HostService for Host {
    async fn get_readiness(
        &self,
        _: Request<v1::GetReadinessRequest>,
    ) -> Reply<v1::GetReadinessResponse> {
        self.begin("GetReadiness")?;
        Ok(Response::new(v1::GetReadinessResponse {
            readiness: v1::Readiness::Ready.into(),
            ..Default::default()
        }))
    }

    async fn get_capabilities(
        &self,
        _: Request<v1::GetCapabilitiesRequest>,
    ) -> Reply<v1::GetCapabilitiesResponse> {
        self.begin("GetCapabilities")?;
        let rpc = |method: &str, unsupported_reason: &str| v1::RpcCapability {
            service: "computedriver.v1.InstanceService".into(),
            method: method.into(),
            supported: unsupported_reason.is_empty(),
            unsupported_reason: unsupported_reason.into(),
        };
        Ok(Response::new(v1::GetCapabilitiesResponse {
            rpcs: vec![rpc("Spawn", ""), rpc("Reboot", "comes later")],
            ..Default::default()
        }))
    }
}

#[async_trait]
impl ImageService for Host {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Reply<v1::ListImagesResponse> {
        self.begin("ListImages")?;
        let token = request.into_inner().page_token;
        let from: usize = token.parse().unwrap_or(0);
        let all = self.state.lock().images.clone();
        let next = from + 1;
        Ok(Response::new(v1::ListImagesResponse {
            images: all.get(from..next).unwrap_or_default().to_vec(),
            next_page_token: match next < all.len() {
                true => next.to_string(),
                false => String::new(),
            },
        }))
    }
}

#[async_trait]
impl OperationService for Host {
    async fn watch_operation(
        &self,
        _: Request<v1::WatchOperationRequest>,
    ) -> Reply<Events<v1::WatchOperationResponse>> {
        use watch_operation_response::Event;
        self.begin("WatchOperation")?;
        let operation = |state: v1::OperationState, progress| v1::Operation {
            operation_id: make::OPERATION.into(),
            state: state.into(),
            progress,
            ..Default::default()
        };
        let progress = make::progress();
        let standing = operation(v1::OperationState::Running, Some(progress[1].clone()));
        let ended = operation(v1::OperationState::Succeeded, progress.last().cloned());
        let mut events = vec![Event::Operation(standing)];
        events.extend(progress[2..].iter().cloned().map(Event::Progress));
        events.push(Event::Operation(ended));
        let wrap = |event| Ok(v1::WatchOperationResponse { event: Some(event) });
        self.stream(events.into_iter().map(wrap).collect())
    }
}
