//! One file a service, and the only reader of wire types.
//!
//! An api function converts, begins or asks, and answers; it decides nothing. What the contract has and this server does
//! not serve is answered in one place, [`capability`], whose table GetCapabilities also tells.

pub mod capability;
mod console;
mod convert;
mod device;
mod event;
mod guest;
mod host;
mod image;
mod instance;
mod operation;
mod page;
mod peer;
mod stats;
pub mod status;
mod stream;
mod work;

use std::sync::Arc;

pub use peer::Peer;

use computedriver::v1::{
    console_service_server::ConsoleServiceServer, device_service_server::DeviceServiceServer,
    guest_service_server::GuestServiceServer, host_service_server::HostServiceServer,
    image_service_server::ImageServiceServer, instance_service_server::InstanceServiceServer,
    operation_service_server::OperationServiceServer,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{host::Host, operation::Operations, sampler::Sampler, session::Sessions};

/// What the services answer from.
#[derive(Clone, Debug)]
pub struct Api {
    host: Arc<Host>,
    operations: Operations,
    sampler: Sampler,
    sessions: Sessions,
    drain: CancellationToken,
    about: Arc<About>,
    recent: Arc<host::recent::Recent>,
}

/// What the server says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// The address of this host on its management network.
    pub my_ip: std::net::IpAddr,
    /// When the server started.
    pub started: std::time::SystemTime,
    /// How the hypervisor is reached.
    pub embedded: bool,
    /// Whether a spawn makes a config drive unless told otherwise.
    pub config_drive: bool,
    /// The program that restarts the host, and its arguments; empty when nobody may.
    pub reboot: Vec<String>,
    /// The program that stops it, and its arguments; empty when nobody may.
    pub shutdown: Vec<String>,
    /// Largest request, in bytes.
    pub max_message: usize,
}

impl Api {
    /// Services over `host`; streams end when `drain` is cancelled.
    pub fn new(
        host: Arc<Host>,
        operations: Operations,
        watchers: (Sampler, Sessions),
        drain: CancellationToken,
        about: About,
    ) -> Self {
        let (sampler, sessions) = watchers;
        Self {
            host,
            operations,
            sampler,
            sessions,
            drain,
            about: Arc::new(about),
            recent: Arc::default(),
        }
    }

    /// All services that are served.
    pub fn routes(&self) -> Routes {
        let limit = self.about.max_message;
        Routes::new(InstanceServiceServer::new(self.clone()).max_decoding_message_size(limit))
            .add_service(ConsoleServiceServer::new(self.clone()))
            .add_service(GuestServiceServer::new(self.clone()).max_decoding_message_size(limit))
            .add_service(DeviceServiceServer::new(self.clone()))
            .add_service(ImageServiceServer::new(self.clone()))
            .add_service(OperationServiceServer::new(self.clone()))
            .add_service(HostServiceServer::new(self.clone()))
            .add_service(stats::Streams::new(self.clone(), limit))
    }
}
