//! HostService: what is served of it.

use std::time::{Duration, SystemTime};

use computedriver::v1::{self, host_service_server::HostService};
use tonic::{Request, Response, Status};

use super::{Api, capability, convert, status::status};
use crate::{
    error::Error,
    host::Amount,
    hypervisor::{Link, VirtType, public},
    operation::Gate,
    plan, sys,
};

type Reply<T> = Result<Response<T>, Status>;

/// Nova's capability flags, and which of them hold here. The names are Nova's.
const FEATURES: &[(&str, bool)] = &[
    ("has_imagecache", true),
    ("supports_evacuate", false),
    ("supports_migrate_to_same_host", false),
    ("supports_attach_interface", false),
    ("supports_device_tagging", false),
    ("supports_tagged_attach_interface", false),
    ("supports_tagged_attach_volume", false),
    ("supports_extend_volume", false),
    ("supports_multiattach", false),
    ("supports_trusted_certs", false),
    ("supports_pcpus", false),
    ("supports_accelerators", false),
    ("supports_bfv_rescue", false),
    ("supports_secure_boot", false),
    ("supports_ephemeral_encryption", false),
    ("supports_ephemeral_encryption_luks", false),
    ("supports_ephemeral_encryption_plain", false),
    ("supports_vtpm", false),
    ("supports_socket_pci_numa_affinity", false),
    ("supports_image_type_raw", true),
    ("supports_image_type_qcow2", true),
    ("supports_image_type_iso", false),
    ("supports_image_type_vmdk", true),
    ("supports_image_type_vdi", true),
    ("supports_image_type_vhd", true),
    ("supports_image_type_vhdx", true),
    ("supports_image_type_aki", true),
    ("supports_image_type_ari", true),
    ("supports_image_type_ami", false),
    ("supports_image_type_ploop", false),
    ("supports_remote_managed_ports", false),
    ("supports_address_space_passthrough", false),
    ("supports_address_space_emulated", false),
    ("supports_stateless_firmware", false),
    ("supports_virtio_fs", false),
];

impl Api {
    async fn hypervisor(&self) -> Result<v1::Hypervisor, Error> {
        let mode = if self.about.embedded {
            v1::HypervisorMode::Embedded
        } else {
            v1::HypervisorMode::System
        };
        let capabilities = match self.host.hypervisor.capabilities().await {
            Ok(capabilities) => capabilities,
            Err(_) => {
                return Ok(v1::Hypervisor {
                    mode: mode.into(),
                    reachable: false,
                    ..v1::Hypervisor::default()
                });
            }
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
        Ok(v1::Hypervisor {
            driver: capabilities.driver.clone(),
            version: capabilities.hypervisor_version.clone(),
            library: "libvirt".to_owned(),
            library_version: capabilities.libvirt_version.clone(),
            virt_type: virt_type.into(),
            mode: mode.into(),
            architecture: "x86_64".to_owned(),
            reachable: *self.host.hypervisor.link().borrow() == Link::Up,
        })
    }

    async fn available(&self) -> Result<v1::AvailableResource, Error> {
        let resources = self.host.resources().await?;
        let amount = |(amount, used): (Amount, u64)| v1::ResourceAmount {
            total: amount.total,
            reserved: amount.reserved,
            allocation_ratio: amount.ratio,
            claimed: amount.claimed,
            left: amount.left,
            used,
        };
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let node = rustix::system::uname();
        Ok(v1::AvailableResource {
            vcpus: Some(amount(resources.vcpus)),
            memory_mib: Some(amount(resources.memory_mib)),
            disk_gib: Some(amount(resources.disk_gib)),
            running_instances: count(resources.running),
            instances: count(resources.instances),
            enabled: self.operations.gate() == Gate::Open,
            hypervisor_hostname: node.nodename().to_string_lossy().into_owned(),
            hypervisor: Some(self.hypervisor().await?),
            disk_available_least_gib: resources.disk_least_gib,
        })
    }

    fn checks(&self) -> Vec<v1::ReadinessCheck> {
        let check = |name: &str, readiness: v1::Readiness, detail: String| v1::ReadinessCheck {
            name: name.to_owned(),
            readiness: readiness.into(),
            detail,
            since_time: None,
        };
        let hypervisor = match &*self.host.hypervisor.link().borrow() {
            Link::Up => check("hypervisor", v1::Readiness::Ready, String::new()),
            Link::Connecting => check(
                "hypervisor",
                v1::Readiness::Starting,
                "connecting for the first time".to_owned(),
            ),
            Link::Down { reason } => check("hypervisor", v1::Readiness::Broken, public(reason)),
        };
        let recovery = match self.operations.gate() {
            Gate::Starting => check(
                "recovery",
                v1::Readiness::Starting,
                "looking after what an earlier run left".to_owned(),
            ),
            Gate::Open | Gate::Draining => check("recovery", v1::Readiness::Ready, String::new()),
        };
        vec![hypervisor, recovery]
    }
}

#[tonic::async_trait]
impl HostService for Api {
    async fn get_readiness(
        &self,
        _: Request<v1::GetReadinessRequest>,
    ) -> Reply<v1::GetReadinessResponse> {
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
        Ok(Response::new(v1::GetReadinessResponse {
            readiness: readiness.into(),
            checks,
            draining,
        }))
    }

    async fn get_capabilities(
        &self,
        _: Request<v1::GetCapabilitiesRequest>,
    ) -> Reply<v1::GetCapabilitiesResponse> {
        let hypervisor = self.hypervisor().await.map_err(|e| status(&e))?;
        let feature = |(name, supported): &(&str, bool)| v1::FeatureCapability {
            name: (*name).to_owned(),
            supported: *supported,
            unsupported_reason: if *supported {
                String::new()
            } else {
                "not served by this server yet".to_owned()
            },
        };
        Ok(Response::new(v1::GetCapabilitiesResponse {
            server: Some(v1::ServerVersion {
                name: "computelet".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                contract: "computedriver.v1".to_owned(),
                build: option_env!("COMPUTELET_BUILD")
                    .unwrap_or_default()
                    .to_owned(),
            }),
            hypervisor: Some(hypervisor),
            rpcs: capability::rpcs(),
            features: FEATURES.iter().map(feature).collect(),
            vif_types: [v1::VifType::Bridge, v1::VifType::User, v1::VifType::Unbound]
                .map(i32::from)
                .to_vec(),
            disk_buses: [
                v1::DiskBus::Virtio,
                v1::DiskBus::Scsi,
                v1::DiskBus::Sata,
                v1::DiskBus::Ide,
            ]
            .map(i32::from)
            .to_vec(),
            image_formats: [
                v1::DiskFormat::Raw,
                v1::DiskFormat::Qcow2,
                v1::DiskFormat::Vmdk,
                v1::DiskFormat::Vhd,
                v1::DiskFormat::Vhdx,
                v1::DiskFormat::Vdi,
            ]
            .map(i32::from)
            .to_vec(),
            vif_models: [
                v1::VifModel::Virtio,
                v1::VifModel::E1000,
                v1::VifModel::E1000e,
                v1::VifModel::Rtl8139,
            ]
            .map(i32::from)
            .to_vec(),
            machine_types: vec!["q35".to_owned(), "pc".to_owned()],
            extra_specs: plan::extra_specs().map(str::to_owned).collect(),
        }))
    }

    async fn get_host_ip_addr(
        &self,
        _: Request<v1::GetHostIpAddrRequest>,
    ) -> Reply<v1::GetHostIpAddrResponse> {
        Ok(Response::new(v1::GetHostIpAddrResponse {
            ip_address: self.about.my_ip.to_string(),
        }))
    }

    async fn get_host_uptime(
        &self,
        _: Request<v1::GetHostUptimeRequest>,
    ) -> Reply<v1::GetHostUptimeResponse> {
        let uptime = sys::uptime::read()
            .map_err(|e| status(&Error::internal(format!("uptime cannot be read: {e}"))))?;
        let since = Duration::from_secs_f64(uptime.seconds);
        let [load_1m, load_5m, load_15m] = uptime.load;
        Ok(Response::new(v1::GetHostUptimeResponse {
            boot_time: SystemTime::now().checked_sub(since).map(convert::timestamp),
            uptime: Some(convert::duration(since)),
            server_start_time: Some(convert::timestamp(self.about.started)),
            load_1m,
            load_5m,
            load_15m,
        }))
    }

    async fn get_available_resource(
        &self,
        _: Request<v1::GetAvailableResourceRequest>,
    ) -> Reply<v1::GetAvailableResourceResponse> {
        let resource = self.available().await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::GetAvailableResourceResponse {
            resource: Some(resource),
        }))
    }
}
