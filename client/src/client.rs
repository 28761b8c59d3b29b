//! One handle for all services of a server.

use std::time::Duration;

use computedriver::v1;
use computedriver::v1::console_service_client::ConsoleServiceClient;
use computedriver::v1::device_service_client::DeviceServiceClient;
use computedriver::v1::guest_service_client::GuestServiceClient;
use computedriver::v1::host_service_client::HostServiceClient;
use computedriver::v1::image_service_client::ImageServiceClient;
use computedriver::v1::instance_service_client::InstanceServiceClient;
use computedriver::v1::migration_service_client::MigrationServiceClient;
use computedriver::v1::network_service_client::NetworkServiceClient;
use computedriver::v1::operation_service_client::OperationServiceClient;
use computedriver::v1::stats_service_client::StatsServiceClient;

use crate::Result;
use crate::builder::Builder;
use crate::layers::Calls;
use crate::progress::{Follow, LongRequest, Rejoin};

/// A connection to one server; cheap to clone, and every clone shares it.
///
/// The typed clients of the services ([`instances`](Self::instances) and its kin) go through the same deadlines and
/// repeats as the rest. They answer with [`tonic::Status`], which turns into an [`Error`](crate::Error) by `?`:
///
/// ```no_run
/// # async fn example(client: computedriver_client::Client) -> computedriver_client::Result<()> {
/// use computedriver_client::v1::GetHostUptimeRequest;
/// let uptime = client.host().get_host_uptime(GetHostUptimeRequest {}).await?.into_inner();
/// println!("{:?}", uptime.boot_time);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: String,
    calls: Calls,
    rejoin: Duration,
}

impl Client {
    pub(crate) fn new(endpoint: String, calls: Calls, rejoin: Duration) -> Self {
        Self {
            endpoint,
            calls,
            rejoin,
        }
    }

    /// Settings other than the defaults.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Connects to `unix:/path/of/socket` or `http://host:port`.
    ///
    /// # Errors
    /// `Invalid` for an address that cannot be read, `Unavailable` when no server answers there.
    pub async fn connect(endpoint: impl Into<String>) -> Result<Self> {
        Builder::default().endpoint(endpoint).connect().await
    }

    /// The address that this client was made for.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The connection itself, without this library's deadlines and repeats: for those who look at the server's own ways.
    #[must_use]
    pub fn channel(&self) -> tonic::transport::Channel {
        self.calls.channel()
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(crate) fn rejoin(&self) -> Duration {
        self.rejoin
    }

    /// Begins, or joins, a long call and hands out its messages one by one.
    #[must_use]
    pub fn follow<R: LongRequest>(&self, request: R) -> Follow<R> {
        Follow::new(self.clone(), request)
    }

    /// Spawns the instance and returns it when it runs, and has shown what `wait_for` asks. A lost connection is healed
    /// by repeating the request, which joins the same operation; each progress is told once.
    ///
    /// # Errors
    /// Whatever the contract lists for `Spawn`; the host is then as it was. `Unavailable` when the server could not be
    /// reached any more: the operation goes on, and [`Error::operation_id`](crate::Error::operation_id) names it.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing on the server.
    pub async fn spawn(
        &self,
        request: v1::SpawnRequest,
        on_progress: impl FnMut(&v1::OperationProgress),
    ) -> Result<v1::Instance> {
        self.follow(request).finish(on_progress).await
    }

    /// Checks everything that a spawn would, the claim included, and changes nothing.
    ///
    /// # Errors
    /// What `Spawn` would fail with before its first step.
    pub async fn validate_spawn(&self, mut request: v1::SpawnRequest) -> Result<()> {
        request.validate_only = true;
        let mut rejoin = Rejoin::new(self);
        loop {
            match self.checks(request.clone()).await {
                Err(error) if rejoin.lost(&error) => rejoin.pause().await,
                answer => return answer,
            }
        }
    }

    async fn checks(&self, request: v1::SpawnRequest) -> Result<()> {
        let mut checks = self.instances().spawn(request).await?.into_inner();
        while checks.message().await?.is_some() {}
        Ok(())
    }

    /// Removes the instance and returns when nothing of it is left; an absent one is a success.
    ///
    /// # Errors
    /// Whatever the contract lists for `Destroy`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing on the server.
    pub async fn destroy(
        &self,
        request: v1::DestroyRequest,
        on_progress: impl FnMut(&v1::OperationProgress),
    ) -> Result<v1::Destroyed> {
        self.follow(request).finish(on_progress).await
    }

    /// Fetches an image into the host's cache and returns when it is there, verified.
    ///
    /// # Errors
    /// Whatever the contract lists for `PullImage`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing on the server.
    pub async fn pull_image(
        &self,
        request: v1::PullImageRequest,
        on_progress: impl FnMut(&v1::OperationProgress),
    ) -> Result<v1::CachedImage> {
        self.follow(request).finish(on_progress).await
    }
}

/// One accessor for each service of the contract.
macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $client:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(&self) -> $client<Calls> {
                    $client::new(self.calls.clone())
                }
            )*
        }
    };
}

services! {
    /// Makes, changes, shows and removes instances.
    instances: InstanceServiceClient;
    /// Attaches and detaches volumes and interfaces.
    devices: DeviceServiceClient;
    /// Works inside the guest, through its agent.
    guests: GuestServiceClient;
    /// Shows and carries the consoles of instances.
    consoles: ConsoleServiceClient;
    /// Tells of the host and of the server.
    host: HostServiceClient;
    /// Fills and empties the host's image cache.
    images: ImageServiceClient;
    /// Shows operations and cancels them.
    operations: OperationServiceClient;
    /// Tells what instances use.
    stats: StatsServiceClient;
    /// Plugs interfaces and filters them.
    networks: NetworkServiceClient;
    /// Moves instances between hosts.
    migrations: MigrationServiceClient;
}
