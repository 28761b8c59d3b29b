//! Calls that change something: begun or joined as an operation, then waited for or followed.
//!
//! Their requests may name themselves; those that change an instance name that. What makes two of them equal is their
//! bytes without their own name, hashed with this host's key, so a request's secrets take part and are not stored.

use computedriver::v1;
use futures::StreamExt;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    Api, convert,
    convert::Faults,
    operation::heartbeat,
    peer::caller,
    status::status,
    stream::{Answers, Seen, follow, outcome},
};
use crate::{
    action::Action,
    error::{Error, Result},
    model::{InstanceId, OperationRecord},
    operation::RequestKey,
};

/// What a unary call answers.
pub(super) type Reply<T> = Result<Response<T>, Status>;
/// What a streaming call answers.
pub(super) type Streamed<T> = Reply<Answers<T>>;

/// A request that changes something.
pub(super) trait Change: Message {
    /// The name that its caller gave it, taken out.
    fn take_request_id(&mut self) -> String;
}

/// A request that changes one instance.
pub(super) trait InstanceChange: Change {
    /// The instance that it names.
    fn instance_id(&self) -> &str;
}

macro_rules! changes {
    ($($request:ident)*) => {$(
        impl Change for v1::$request {
            fn take_request_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }
        }
    )*};
}

macro_rules! instance_changes {
    ($($request:ident)*) => {
        changes! { $($request)* }
        $(
            impl InstanceChange for v1::$request {
                fn instance_id(&self) -> &str {
                    &self.instance_id
                }
            }
        )*
    };
}

changes! {
    HostPowerActionRequest HostMaintenanceModeRequest SetHostEnabledRequest
    PullImageRequest RemoveImageRequest PruneImagesRequest
}

instance_changes! {
    DestroyRequest RebootRequest PowerOffRequest PowerOnRequest PauseRequest UnpauseRequest SuspendRequest ResumeRequest RescueRequest
    UnrescueRequest TriggerCrashDumpRequest SnapshotRequest ResizeRequest RebuildRequest QuiesceRequest UnquiesceRequest
    AttachVolumeRequest DetachVolumeRequest SwapVolumeRequest ExtendVolumeRequest AttachInterfaceRequest
    DetachInterfaceRequest CreateVolumeSnapshotRequest DeleteVolumeSnapshotRequest SetAdminPasswordRequest
    InjectFileRequest UpdateAgentRequest InjectNetworkInfoRequest ResetNetworkRequest
}

/// What a follower of a long call is told.
pub(super) enum Told<T> {
    /// A step forward.
    Progress(v1::OperationProgress),
    /// Nothing new.
    Heartbeat(v1::Heartbeat),
    /// The last message.
    Done(T),
}

/// Reads: a response, the module of its oneof, the variant of its end and what that carries.
macro_rules! told {
    ($($response:ident, $event:ident::$end:ident($done:ident);)*) => {$(
        impl From<Told<v1::$done>> for v1::$response {
            fn from(told: Told<v1::$done>) -> Self {
                use v1::$event::Event;
                let event = match told {
                    Told::Progress(progress) => Event::Progress(progress),
                    Told::Heartbeat(heartbeat) => Event::Heartbeat(heartbeat),
                    Told::Done(done) => Event::$end(done),
                };
                Self { event: Some(event) }
            }
        }
    )*};
}

told! {
    DestroyResponse, destroy_response::Destroyed(Destroyed);
    PullImageResponse, pull_image_response::Image(CachedImage);
    RebootResponse, reboot_response::Instance(Instance);
    PowerOffResponse, power_off_response::PoweredOff(PoweredOff);
    SuspendResponse, suspend_response::Instance(Instance);
    ResumeResponse, resume_response::Instance(Instance);
    RescueResponse, rescue_response::Instance(Instance);
    UnrescueResponse, unrescue_response::Instance(Instance);
    SnapshotResponse, snapshot_response::Snapshot(SnapshotResult);
    ResizeResponse, resize_response::Instance(Instance);
    RebuildResponse, rebuild_response::Instance(Instance);
    SwapVolumeResponse, swap_volume_response::Disk(Disk);
    DeleteVolumeSnapshotResponse, delete_volume_snapshot_response::Deleted(VolumeSnapshotDeleted);
}

/// A change as asked for: who asks for what, and of which instance.
#[derive(Debug)]
pub(super) struct Asked {
    /// The instance.
    pub(super) id: InstanceId,
    key: RequestKey,
}

impl From<Asked> for RequestKey {
    fn from(asked: Asked) -> Self {
        asked.key
    }
}

impl Asked {
    /// Keyed hash of the request, without its name.
    pub(super) fn fingerprint(&self) -> &str {
        &self.key.fingerprint
    }
}

impl Api {
    /// Reads a request that changes something. `read` takes its fields, and notes what is wrong with them; all faults come
    /// in one answer.
    pub(super) fn change<R: Change, T>(
        &self,
        request: Request<R>,
        read: impl FnOnce(&mut Faults, R) -> Option<T>,
    ) -> Result<(RequestKey, T)> {
        let caller = caller(&request);
        let mut request = request.into_inner();
        let mut faults = Faults::default();
        let name = convert::request_id(&mut faults, &request.take_request_id());
        let kind = std::any::type_name::<R>().as_bytes();
        let body = request.encode_to_vec();
        let fingerprint = self.host.store.fingerprinter().of(&[kind, &body]);
        let read = read(&mut faults, request);
        faults.into_result(|| {
            let key = RequestKey {
                request: name,
                fingerprint,
                caller,
            };
            Some((key, read?))
        })
    }

    /// The same of one that changes an instance.
    pub(super) fn asked<R: InstanceChange, T>(
        &self,
        request: Request<R>,
        read: impl FnOnce(&mut Faults, &mut R) -> Option<T>,
    ) -> Result<(Asked, T)> {
        let (key, (id, read)) = self.change(request, |faults, mut request| {
            let id = faults.take("instance_id", request.instance_id().parse::<InstanceId>());
            let read = read(faults, &mut request);
            Some((id?, read?))
        })?;
        Ok((Asked { id, key }, read))
    }

    /// Begins the change, or joins it, and waits for its end. A caller that leaves meanwhile changes nothing.
    pub(super) async fn done(
        &self,
        asked: impl Into<RequestKey>,
        action: impl Action,
    ) -> Result<OperationRecord, Status> {
        let progress = self.operations.begin(asked.into(), action).await;
        let mut progress = progress.map_err(|e| status(&e))?;
        let ended = progress.wait_for(|progress| progress.record.state.is_final());
        let record = match ended.await {
            Ok(progress) => progress.record.clone(),
            Err(_) => {
                return Err(status(&Error::internal(
                    "the operation ended without an outcome",
                )));
            }
        };
        outcome(&record).map(|_| record)
    }

    /// Begins the change, or joins it, and tells how it goes. The last message is what `last` makes of its end.
    pub(super) async fn told<T, D, F>(
        &self,
        asked: impl Into<RequestKey>,
        action: impl Action,
        last: impl Fn(Api, OperationRecord) -> F + Send + Sync + Clone + 'static,
    ) -> Streamed<T>
    where
        T: From<Told<D>> + Send + 'static,
        F: Future<Output = Result<D>> + Send + 'static,
        D: Send,
    {
        let progress = self.operations.begin(asked.into(), action).await;
        let progress = progress.map_err(|e| status(&e))?;
        let watched = progress.clone();
        let api = self.clone();
        let answers = follow(progress, self.drain.clone()).then(move |seen| {
            let (api, last) = (api.clone(), last.clone());
            let record = watched.borrow().record.clone();
            async move {
                let told = match seen? {
                    Seen::Progress(event) => Told::Progress(convert::progress(*event)),
                    Seen::Heartbeat => Told::Heartbeat(heartbeat()),
                    Seen::Done => Told::Done(last(api, record).await.map_err(|e| status(&e))?),
                };
                Ok(T::from(told))
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
