//! What the server is, serves and can do at the moment.

use std::time::SystemTime;

use computedriver::v1;

use super::{Api, feature};
use crate::{
    api::{capability, convert},
    error::Error,
    hypervisor::{Link, VirtType, public},
    operation::Gate,
    plan,
};

/// Why nobody may restart or stop the host.
pub(super) const NO_COMMAND: &str =
    "no command is set for it: host.reboot_command, host.shutdown_command";

/// Why a kind of volume cannot be reached.
const NO_DRIVER: &str =
    "QEMU's driver for it is not installed on this host: package qemu-block-extra";

/// Why no volume may have a secret.
const NO_KEEPER: &str = "libvirt's secret driver is not there";

fn check(
    name: &str,
    (readiness, detail): (v1::Readiness, String),
    since: SystemTime,
) -> v1::ReadinessCheck {
    v1::ReadinessCheck {
        name: name.to_owned(),
        readiness: readiness.into(),
        detail,
        since_time: Some(convert::timestamp(since)),
    }
}

impl Api {
    pub(super) async fn hypervisor(&self) -> v1::Hypervisor {
        let mode = if self.about.embedded {
            v1::HypervisorMode::Embedded
        } else {
            v1::HypervisorMode::System
        };
        let Ok(capabilities) = self.host.hypervisor.capabilities().await else {
            return v1::Hypervisor {
                mode: mode.into(),
                reachable: false,
                ..v1::Hypervisor::default()
            };
        };
        let virt_type = match capabilities.virt_type {
            VirtType::Kvm => v1::VirtType::Kvm,
            VirtType::Qemu => v1::VirtType::Qemu,
            VirtType::Test => v1::VirtType::Test,
        };
        let session = capabilities.uri.ends_with("/session");
        let mode = if session {
            v1::HypervisorMode::Session
        } else {
            mode
        };
        v1::Hypervisor {
            driver: capabilities.driver.clone(),
            version: capabilities.hypervisor_version.clone(),
            library: "libvirt".to_owned(),
            library_version: capabilities.libvirt_version.clone(),
            virt_type: virt_type.into(),
            mode: mode.into(),
            architecture: "x86_64".to_owned(),
            reachable: *self.host.hypervisor.link().borrow() == Link::Up,
        }
    }

    fn checks(&self) -> Vec<v1::ReadinessCheck> {
        use v1::Readiness::{Broken, Ready, Starting};
        let (readiness, detail) = match &*self.host.hypervisor.link().borrow() {
            Link::Up => (Ready, String::new()),
            Link::Connecting => (Starting, "connecting for the first time".to_owned()),
            Link::Down { reason } => (Broken, public(reason)),
        };
        let since = self.host.hypervisor.link_since();
        let hypervisor = check("hypervisor", (readiness, detail), since);
        let recovery = match self.operations.opened() {
            Some(since) => check("recovery", (Ready, String::new()), since),
            None => {
                let detail = "looking after what an earlier run left".to_owned();
                check("recovery", (Starting, detail), self.about.started)
            }
        };
        vec![hypervisor, recovery]
    }

    pub(super) fn readiness(&self) -> v1::GetReadinessResponse {
        let checks = self.checks();
        let any =
            |readiness: v1::Readiness| checks.iter().any(|check| check.readiness() == readiness);
        let readiness = if any(v1::Readiness::Broken) {
            v1::Readiness::Broken
        } else if any(v1::Readiness::Starting) {
            v1::Readiness::Starting
        } else {
            v1::Readiness::Ready
        };
        let draining = self.operations.gate() == Gate::Draining;
        v1::GetReadinessResponse {
            readiness: readiness.into(),
            checks,
            draining,
        }
    }

    /// What is not served on this host, and why.
    fn off(&self) -> Vec<(&'static str, &'static str)> {
        let power = self.about.reboot.is_empty() && self.about.shutdown.is_empty();
        power
            .then_some(("HostPowerAction", NO_COMMAND))
            .into_iter()
            .collect()
    }

    /// Flags of what is served, but has no means on this host.
    async fn lacking(&self) -> Vec<(&'static str, &'static str)> {
        let volumes = &self.host.volumes;
        let (iscsi, rbd) = tokio::join!(volumes.has_driver("iscsi"), volumes.has_driver("rbd"));
        let kept = self.host.hypervisor.keeps_secrets().await;
        // While the hypervisor cannot tell, nothing is said against it.
        let secrets = kept.is_ok_and(|kept| !kept);
        [
            ("volume_iscsi", !iscsi, NO_DRIVER),
            ("volume_rbd", !rbd, NO_DRIVER),
            ("volume_secret", secrets, NO_KEEPER),
        ]
        .into_iter()
        .filter_map(|(name, lacks, why)| lacks.then_some((name, why)))
        .collect()
    }

    pub(super) async fn capabilities(&self) -> v1::GetCapabilitiesResponse {
        v1::GetCapabilitiesResponse {
            server: Some(v1::ServerVersion {
                name: "computelet".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                contract: "computedriver.v1".to_owned(),
                build: option_env!("COMPUTELET_BUILD")
                    .unwrap_or_default()
                    .to_owned(),
            }),
            hypervisor: Some(self.hypervisor().await),
            rpcs: capability::rpcs(&self.off()),
            features: feature::flags(&self.lacking().await),
            vif_types: feature::VIF_TYPES.map(i32::from).to_vec(),
            disk_buses: feature::DISK_BUSES.map(i32::from).to_vec(),
            image_formats: feature::IMAGE_FORMATS.map(i32::from).to_vec(),
            vif_models: feature::VIF_MODELS.map(i32::from).to_vec(),
            machine_types: vec!["q35".to_owned(), "pc".to_owned()],
            extra_specs: plan::extra_specs().map(str::to_owned).collect(),
        }
    }
}

/// The host's name.
pub(super) fn hostname() -> String {
    let node = rustix::system::uname();
    node.nodename().to_string_lossy().into_owned()
}

/// The host's architecture.
pub(super) fn architecture() -> String {
    let node = rustix::system::uname();
    node.machine().to_string_lossy().into_owned()
}

/// Something that this host cannot do at all.
pub(super) fn unsupported(rpc: &str, why: &str) -> Error {
    use crate::error::Kind;
    let e = Error::new(Kind::Unsupported, "NOT_SUPPORTED", format!("{rpc}: {why}"));
    e.with("rpc", format!("computedriver.v1.HostService/{rpc}"))
}
