//! What of the contract this server serves: one table, told by GetCapabilities and enforced on every call.

use std::{
    collections::HashSet,
    sync::LazyLock,
    task::{Context, Poll},
};

use computedriver::{FILE_DESCRIPTOR_SET, v1};
use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use prost::Message;
use tonic::body::Body;
use tower::{Layer, Service};

use super::status::status;
use crate::error::{Error, Kind};

/// Every RPC that is served, by service. What is not named here answers UNIMPLEMENTED.
const SERVED: &[(&str, &[&str])] = &[
    (
        "InstanceService",
        &[
            "Spawn",
            "WatchBoot",
            "Destroy",
            "GetInfo",
            "GetInstance",
            "ListInstances",
            "ListInstancesDetail",
            "StreamInstances",
            "WatchEvents",
            "PowerOff",
            "PowerOn",
            "Pause",
            "Unpause",
            "Reboot",
            "Suspend",
            "Resume",
            "TriggerCrashDump",
            "GetDiagnostics",
            "Rescue",
            "Unrescue",
            "Snapshot",
            "Quiesce",
            "Unquiesce",
            "Resize",
            "Rebuild",
        ],
    ),
    (
        "DeviceService",
        &[
            "AttachVolume",
            "DetachVolume",
            "SwapVolume",
            "ExtendVolume",
            "AttachInterface",
            "DetachInterface",
            "CreateVolumeSnapshot",
            "DeleteVolumeSnapshot",
            "ListDisks",
            "ListInterfaces",
        ],
    ),
    (
        "ConsoleService",
        &[
            "GetConsoleOutput",
            "StreamConsoleOutput",
            "OpenSerialConsole",
            "OpenVncConsole",
            "GetConsoleAccess",
            "GetConsolePoolInfo",
        ],
    ),
    (
        "GuestService",
        &[
            "SetAdminPassword",
            "InjectFile",
            "UpdateAgent",
            "InjectNetworkInfo",
            "ResetNetwork",
            "GetGuestInfo",
        ],
    ),
    (
        "ImageService",
        &["PullImage", "ListImages", "RemoveImage", "PruneImages"],
    ),
    (
        "OperationService",
        &[
            "GetOperation",
            "ListOperations",
            "WatchOperation",
            "CancelOperation",
        ],
    ),
    (
        "HostService",
        &[
            "GetCapabilities",
            "GetReadiness",
            "GetHostIpAddr",
            "GetHostUptime",
            "GetHostStats",
            "GetHostCpuStats",
            "GetAvailableResource",
            "ReportAvailableResource",
            "GetInventory",
            "CompareCpu",
            "HostPowerAction",
            "HostMaintenanceMode",
            "SetHostEnabled",
            "GetAvailableNodes",
            "GetVolumeConnector",
        ],
    ),
    (
        "StatsService",
        &[
            "GetBlockStats",
            "GetInterfaceStats",
            "StreamBlockStats",
            "StreamInterfaceStats",
            "StreamInstanceStats",
        ],
    ),
];

/// Why an RPC is not served.
const UNSERVED: &str = "this server does not implement it yet";

static RPCS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)
        .expect("the descriptor set was written by our own build");
    let services = set
        .file
        .iter()
        .filter(|file| file.package() == "computedriver.v1")
        .flat_map(|file| &file.service);
    services
        .flat_map(|service| {
            let name = format!("computedriver.v1.{}", service.name());
            service
                .method
                .iter()
                .map(move |method| (name.clone(), method.name().to_owned()))
        })
        .collect()
});

static UNSERVED_PATHS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let unserved = RPCS
        .iter()
        .filter(|(service, method)| !served(service, method));
    unserved
        .map(|(service, method)| format!("/{service}/{method}"))
        .collect()
});

fn served(service: &str, method: &str) -> bool {
    let short = service.strip_prefix("computedriver.v1.").unwrap_or(service);
    SERVED
        .iter()
        .any(|(service, methods)| *service == short && methods.contains(&method))
}

/// Every RPC of the contract, and whether it is served; those in `off` are not, on this host, for the reason beside them.
pub(super) fn rpcs(off: &[(&str, &str)]) -> Vec<v1::RpcCapability> {
    let one = |(service, method): &(String, String)| {
        let off = off.iter().find(|(name, _)| name == method);
        let why = off.map_or(UNSERVED, |(_, why)| why);
        let supported = served(service, method) && off.is_none();
        v1::RpcCapability {
            service: service.clone(),
            method: method.clone(),
            supported,
            unsupported_reason: if supported {
                String::new()
            } else {
                why.to_owned()
            },
        }
    };
    RPCS.iter().map(one).collect()
}

/// The full names of the services of which at least one RPC is served.
pub fn services() -> impl Iterator<Item = String> {
    SERVED
        .iter()
        .map(|(service, _)| format!("computedriver.v1.{service}"))
}

/// Answers what the contract has and this server does not serve.
#[derive(Clone, Copy, Debug, Default)]
pub struct CapabilityLayer;

impl<S> Layer<S> for CapabilityLayer {
    type Service = Capability<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Capability { inner }
    }
}

/// See [`CapabilityLayer`].
#[derive(Clone, Debug)]
pub struct Capability<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Capability<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        if !UNSERVED_PATHS.contains(path) {
            return Either::Left(self.inner.call(request));
        }
        let rpc = path.trim_start_matches('/').to_owned();
        let e = Error::new(
            Kind::Unsupported,
            "NOT_SUPPORTED",
            format!("{rpc}: {UNSERVED}; see GetCapabilities"),
        );
        Either::Right(ready(Ok(status(&e.with("rpc", rpc)).into_http())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_what_is_served() {
        let readme = include_str!("../../../README.md");
        for (service, methods) in SERVED {
            let row = format!("| {service} | {} |\n", methods.join(", "));
            assert!(readme.contains(&row), "README.md lacks: {row}");
        }
    }

    #[test]
    fn every_served_rpc_is_in_the_contract() {
        for (service, methods) in SERVED {
            for method in *methods {
                let full = (format!("computedriver.v1.{service}"), (*method).to_owned());
                assert!(RPCS.contains(&full), "{service}.{method}");
            }
        }
    }
}
