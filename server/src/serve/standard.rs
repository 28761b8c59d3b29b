//! The services that every gRPC server has: health and reflection.

use std::sync::Arc;

use tokio::sync::Mutex;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::ServeError;

/// What `grpc.health.v1` tells of each service, and of the server as a whole (the empty name).
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    services: Arc<[String]>,
    // Locked while it is told, so that a start that is late cannot speak after the end.
    ended: Arc<Mutex<bool>>,
}

impl Health {
    /// Tells everyone, also those who watch, that calls are welcome; nothing after [`Health::end`].
    pub async fn serving(&self) {
        let ended = self.ended.lock().await;
        if !*ended {
            self.tell(ServingStatus::Serving).await;
        }
    }

    /// Tells everyone that they no longer are.
    pub async fn end(&self) {
        let mut ended = self.ended.lock().await;
        *ended = true;
        self.tell(ServingStatus::NotServing).await;
    }

    async fn tell(&self, status: ServingStatus) {
        for service in self.services.iter() {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

/// `routes` with health for `services`, and with reflection of the contract, v1 and v1alpha. Nothing is serving yet.
///
/// # Errors
/// When the contract's descriptor set cannot be read.
pub async fn standard(
    routes: Routes,
    services: impl IntoIterator<Item = String>,
) -> Result<(Routes, Health), ServeError> {
    let reporter = HealthReporter::new();
    let service = tonic_health::server::HealthService::from_health_reporter(reporter.clone());
    let mut names = vec![String::new()];
    names.extend(services);
    let health = Health {
        reporter,
        services: names.into(),
        ended: Arc::default(),
    };
    health.tell(ServingStatus::NotServing).await;
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(computedriver::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = routes
        .add_service(tonic_health::pb::health_server::HealthServer::new(service))
        .add_service(describe().build_v1()?)
        .add_service(describe().build_v1alpha()?);
    Ok((routes, health))
}
