//! The services that every gRPC server has: health and reflection.

use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::ServeError;

/// What `grpc.health.v1` tells of each service, and of the server as a whole (the empty name).
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    services: Vec<String>,
}

impl Health {
    /// Tells everyone, also those who watch, whether calls are welcome.
    pub async fn set(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in &self.services {
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
        services: names,
    };
    health.set(false).await;
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
