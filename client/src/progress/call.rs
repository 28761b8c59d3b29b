//! The long calls of the contract, one line each.

use std::future::Future;

use computedriver::v1;
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::Result;
use crate::client::Client;

/// One message of a long call.
#[derive(Debug)]
pub enum Event<T> {
    /// Where the operation stands.
    Standing(Box<v1::Operation>),
    /// A step forward.
    Progress(v1::OperationProgress),
    /// The last message.
    Done(T),
    /// Nothing new.
    Idle,
}

/// A request that begins, joins or watches an operation; see [`Client::follow`].
pub trait LongRequest: sealed::Sealed + Clone + Send + Sync + 'static {
    /// The messages of its stream.
    type Response: Send + 'static;
    /// What the last one carries.
    type Done: Send;

    /// Fills in a `request_id` where there is room for one and none was chosen, so that a repeat is the same request.
    #[doc(hidden)]
    fn name_request(&mut self);

    /// Sends the request.
    #[doc(hidden)]
    fn open(
        self,
        client: &Client,
    ) -> impl Future<Output = Result<Streaming<Self::Response>, Status>> + Send;

    /// Reads a message.
    #[doc(hidden)]
    fn read(&self, response: Self::Response) -> Event<Self::Done>;
}

mod sealed {
    /// The contract decides which calls are long.
    pub trait Sealed {}
}

fn fill(request_id: &mut String) {
    if request_id.is_empty() {
        *request_id = Uuid::new_v4().to_string();
    }
}

/// Reads: request, its service and RPC, response, the module of its oneof, the variant of the end and what it carries.
macro_rules! long_calls {
    ($($request:ident: $service:ident.$rpc:ident
        -> $response:ident, $event:ident::$end:ident($done:ident);)*) => {$(
        impl sealed::Sealed for v1::$request {}

        impl LongRequest for v1::$request {
            type Response = v1::$response;
            type Done = v1::$done;

            fn name_request(&mut self) {
                fill(&mut self.request_id);
            }

            async fn open(self, client: &Client) -> Result<Streaming<Self::Response>, Status> {
                Ok(client.$service().$rpc(self).await?.into_inner())
            }

            fn read(&self, response: Self::Response) -> Event<Self::Done> {
                use v1::$event::Event as Wire;
                match response.event {
                    Some(Wire::Progress(progress)) => Event::Progress(progress),
                    Some(Wire::$end(done)) => Event::Done(done),
                    // A kind of message added to the contract later reads as none.
                    Some(Wire::Heartbeat(_)) | None => Event::Idle,
                }
            }
        }
    )*};
}

long_calls! {
    SpawnRequest: instances.spawn -> SpawnResponse, spawn_response::Instance(Instance);
    DestroyRequest: instances.destroy -> DestroyResponse, destroy_response::Destroyed(Destroyed);
    RebootRequest: instances.reboot -> RebootResponse, reboot_response::Instance(Instance);
    PowerOffRequest: instances.power_off -> PowerOffResponse, power_off_response::PoweredOff(PoweredOff);
    SuspendRequest: instances.suspend -> SuspendResponse, suspend_response::Instance(Instance);
    ResumeRequest: instances.resume -> ResumeResponse, resume_response::Instance(Instance);
    RescueRequest: instances.rescue -> RescueResponse, rescue_response::Instance(Instance);
    UnrescueRequest: instances.unrescue -> UnrescueResponse, unrescue_response::Instance(Instance);
    SnapshotRequest: instances.snapshot -> SnapshotResponse, snapshot_response::Snapshot(SnapshotResult);
    ResizeRequest: instances.resize -> ResizeResponse, resize_response::Instance(Instance);
    RebuildRequest: instances.rebuild -> RebuildResponse, rebuild_response::Instance(Instance);
    SwapVolumeRequest: devices.swap_volume -> SwapVolumeResponse, swap_volume_response::Disk(Disk);
    DeleteVolumeSnapshotRequest: devices.delete_volume_snapshot
        -> DeleteVolumeSnapshotResponse, delete_volume_snapshot_response::Deleted(VolumeSnapshotDeleted);
    MigrateDiskAndPowerOffRequest: migrations.migrate_disk_and_power_off
        -> MigrateDiskAndPowerOffResponse, migrate_disk_and_power_off_response::Ticket(MigrationTicket);
    FinishMigrationRequest: migrations.finish_migration
        -> FinishMigrationResponse, finish_migration_response::Instance(Instance);
    RevertMigrationRequest: migrations.revert_migration
        -> RevertMigrationResponse, revert_migration_response::Instance(Instance);
    PullImageRequest: images.pull_image -> PullImageResponse, pull_image_response::Image(CachedImage);
}

impl sealed::Sealed for v1::WatchBootRequest {}

impl LongRequest for v1::WatchBootRequest {
    type Response = v1::WatchBootResponse;
    type Done = v1::Instance;

    fn name_request(&mut self) {}

    async fn open(self, client: &Client) -> Result<Streaming<Self::Response>, Status> {
        Ok(client.instances().watch_boot(self).await?.into_inner())
    }

    fn read(&self, response: Self::Response) -> Event<Self::Done> {
        use v1::watch_boot_response::Event as Wire;
        match response.event {
            Some(Wire::Operation(operation)) => Event::Standing(Box::new(operation)),
            Some(Wire::Progress(progress)) => Event::Progress(progress),
            Some(Wire::Instance(instance)) => Event::Done(instance),
            Some(Wire::Heartbeat(_)) | None => Event::Idle,
        }
    }
}

impl sealed::Sealed for v1::WatchOperationRequest {}

impl LongRequest for v1::WatchOperationRequest {
    type Response = v1::WatchOperationResponse;
    type Done = v1::Operation;

    fn name_request(&mut self) {}

    async fn open(self, client: &Client) -> Result<Streaming<Self::Response>, Status> {
        Ok(client
            .operations()
            .watch_operation(self)
            .await?
            .into_inner())
    }

    fn read(&self, response: Self::Response) -> Event<Self::Done> {
        use v1::watch_operation_response::Event as Wire;
        match response.event {
            Some(Wire::Operation(operation)) if ended(&operation) => Event::Done(operation),
            Some(Wire::Operation(operation)) => Event::Standing(Box::new(operation)),
            Some(Wire::Progress(progress)) => Event::Progress(progress),
            Some(Wire::Heartbeat(_)) | None => Event::Idle,
        }
    }
}

fn ended(operation: &v1::Operation) -> bool {
    use v1::OperationState as State;
    matches!(
        operation.state(),
        State::Succeeded | State::Failed | State::Cancelled
    )
}
