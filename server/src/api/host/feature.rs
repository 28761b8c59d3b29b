//! What of Nova's capabilities holds here, and the traits that say so to a placement service.

use computedriver::v1;

/// Nova's capability flags, which of them hold here, and the trait of each that has one, without its `COMPUTE_`. The
/// names are Nova's and os-traits'.
const FLAGS: &[(&str, bool, &str)] = &[
    ("has_imagecache", true, ""),
    ("supports_evacuate", false, ""),
    (
        "supports_migrate_to_same_host",
        false,
        "SAME_HOST_COLD_MIGRATE",
    ),
    ("supports_attach_interface", true, "NET_ATTACH_INTERFACE"),
    ("supports_device_tagging", false, "DEVICE_TAGGING"),
    (
        "supports_tagged_attach_interface",
        false,
        "NET_ATTACH_INTERFACE_WITH_TAG",
    ),
    (
        "supports_tagged_attach_volume",
        false,
        "VOLUME_ATTACH_WITH_TAG",
    ),
    ("supports_extend_volume", true, "VOLUME_EXTEND"),
    ("supports_multiattach", true, "VOLUME_MULTI_ATTACH"),
    ("supports_trusted_certs", false, "TRUSTED_CERTS"),
    ("supports_pcpus", false, ""),
    ("supports_accelerators", false, "ACCELERATORS"),
    ("supports_bfv_rescue", true, "RESCUE_BFV"),
    ("supports_secure_boot", false, "SECURITY_UEFI_SECURE_BOOT"),
    (
        "supports_ephemeral_encryption",
        false,
        "EPHEMERAL_ENCRYPTION",
    ),
    (
        "supports_ephemeral_encryption_luks",
        false,
        "EPHEMERAL_ENCRYPTION_LUKS",
    ),
    (
        "supports_ephemeral_encryption_plain",
        false,
        "EPHEMERAL_ENCRYPTION_PLAIN",
    ),
    ("supports_vtpm", false, ""),
    (
        "supports_socket_pci_numa_affinity",
        false,
        "SOCKET_PCI_NUMA_AFFINITY",
    ),
    ("supports_image_type_raw", true, "IMAGE_TYPE_RAW"),
    ("supports_image_type_qcow2", true, "IMAGE_TYPE_QCOW2"),
    ("supports_image_type_iso", false, "IMAGE_TYPE_ISO"),
    ("supports_image_type_vmdk", true, "IMAGE_TYPE_VMDK"),
    ("supports_image_type_vdi", true, "IMAGE_TYPE_VDI"),
    ("supports_image_type_vhd", true, "IMAGE_TYPE_VHD"),
    ("supports_image_type_vhdx", true, "IMAGE_TYPE_VHDX"),
    ("supports_image_type_aki", true, "IMAGE_TYPE_AKI"),
    ("supports_image_type_ari", true, "IMAGE_TYPE_ARI"),
    ("supports_image_type_ami", false, "IMAGE_TYPE_AMI"),
    ("supports_image_type_ploop", false, "IMAGE_TYPE_PLOOP"),
    (
        "supports_remote_managed_ports",
        false,
        "REMOTE_MANAGED_PORTS",
    ),
    (
        "supports_address_space_passthrough",
        false,
        "ADDRESS_SPACE_PASSTHROUGH",
    ),
    (
        "supports_address_space_emulated",
        false,
        "ADDRESS_SPACE_EMULATED",
    ),
    (
        "supports_stateless_firmware",
        false,
        "SECURITY_STATELESS_FIRMWARE",
    ),
    ("supports_virtio_fs", false, "STORAGE_VIRTIO_FS"),
    // The ways to volumes, by the names of VolumeConnection's targets.
    ("volume_local", true, ""),
    ("volume_nbd", true, ""),
    ("volume_iscsi", true, ""),
    ("volume_rbd", true, ""),
    ("volume_nfs", false, ""),
    ("volume_nvme_tcp", false, ""),
    ("volume_fibre_channel", false, ""),
    ("volume_encryption", false, ""),
    // Whether those of them may have a secret.
    ("volume_secret", true, ""),
];

/// Kinds of connection that an interface may ask for.
pub(super) const VIF_TYPES: [v1::VifType; 3] =
    [v1::VifType::Bridge, v1::VifType::User, v1::VifType::Unbound];

/// Models that an interface may ask for.
pub(super) const VIF_MODELS: [v1::VifModel; 4] = [
    v1::VifModel::Virtio,
    v1::VifModel::E1000,
    v1::VifModel::E1000e,
    v1::VifModel::Rtl8139,
];

/// Buses that a disk may ask for.
pub(super) const DISK_BUSES: [v1::DiskBus; 4] = [
    v1::DiskBus::Virtio,
    v1::DiskBus::Scsi,
    v1::DiskBus::Sata,
    v1::DiskBus::Ide,
];

/// Formats that an image may have.
pub(super) const IMAGE_FORMATS: [v1::DiskFormat; 6] = [
    v1::DiskFormat::Raw,
    v1::DiskFormat::Qcow2,
    v1::DiskFormat::Vmdk,
    v1::DiskFormat::Vhd,
    v1::DiskFormat::Vhdx,
    v1::DiskFormat::Vdi,
];

/// Every flag, as GetCapabilities tells it; `lacking` are those that this host has no means for, and why.
pub(super) fn flags(lacking: &[(&str, &str)]) -> Vec<v1::FeatureCapability> {
    let flag = |(name, served, _): &(&str, bool, &str)| {
        let lacking = lacking.iter().find(|(lacking, _)| lacking == name);
        let why = match (served, lacking) {
            (false, _) => "not served by this server yet",
            (true, Some((_, why))) => why,
            (true, None) => "",
        };
        v1::FeatureCapability {
            name: (*name).to_owned(),
            supported: why.is_empty(),
            unsupported_reason: why.to_owned(),
        }
    };
    FLAGS.iter().map(flag).collect()
}

/// The traits of what is served here.
pub(super) fn traits() -> Vec<String> {
    let flags = FLAGS
        .iter()
        .filter(|(_, supported, name)| *supported && !name.is_empty());
    let flags = flags.map(|(_, _, name)| (*name).to_owned());
    let models = VIF_MODELS.map(|model| format!("NET_{}", model.as_str_name()));
    let buses = DISK_BUSES.map(|bus| {
        let name = bus.as_str_name().trim_start_matches("DISK_");
        format!("STORAGE_{name}")
    });
    let fixed = ["NODE", "ARCH_X86_64"].map(str::to_owned);
    let all = fixed.into_iter().chain(flags).chain(models).chain(buses);
    all.map(|name| format!("COMPUTE_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_has_its_trait() {
        let traits = traits();
        for there in [
            "COMPUTE_NODE",
            "COMPUTE_IMAGE_TYPE_QCOW2",
            "COMPUTE_NET_VIF_MODEL_E1000E",
            "COMPUTE_STORAGE_BUS_VIRTIO",
        ] {
            assert!(traits.iter().any(|known| known == there), "{traits:?}");
        }
        let standard = include_str!("../../../../tests/golden/os-traits.txt");
        let flags = FLAGS.iter().filter(|(_, _, name)| !name.is_empty());
        let flags = flags.map(|(_, _, name)| format!("COMPUTE_{name}"));
        for name in flags.chain(traits.clone()) {
            assert!(standard.lines().any(|line| line == name), "{name}");
        }
        assert!(!traits.contains(&"COMPUTE_IMAGE_TYPE_AMI".to_owned()));
    }
}
