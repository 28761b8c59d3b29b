//! Images and what they ask of the virtual hardware.

use computedriver::v1;

use super::{fault::Faults, guest::account};
use crate::model::{
    Bytes, DirectKernel, DiskBus, DiskFormat, ImageFile, ImageProperties, ImageSource, MachineType,
    NicModel, OsType, VideoModel,
};

/// An image and all that is said of it.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) source: ImageSource,
    pub(crate) about: About,
}

/// What is said of an image, or of the volume in its place, beside where its bytes are.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) properties: ImageProperties,
    pub(crate) kernel: Option<DirectKernel>,
    pub(crate) nic: Option<NicModel>,
    pub(crate) config_drive_mandatory: bool,
}

pub(crate) fn image(faults: &mut Faults, field: &str, mut image: v1::Image) -> Option<Image> {
    let format = format(faults, &format!("{field}.format"), image.format());
    let take = std::mem::take::<String>;
    let bytes = (
        take(&mut image.image_id),
        take(&mut image.location),
        take(&mut image.sha256),
    );
    let file = file(faults, field, bytes);
    let about = about(faults, field, image);
    let source = ImageSource {
        file: file?,
        format: format?,
    };
    Some(Image {
        source,
        about: about?,
    })
}

/// What is said of a volume that is the root disk: all that is said of an image but whose bytes it is.
pub(super) fn of_volume(
    faults: &mut Faults,
    field: &str,
    image: Option<v1::Image>,
) -> Option<About> {
    let image = image.unwrap_or_default();
    let said = [
        ("image_id", !image.image_id.is_empty()),
        ("location", !image.location.is_empty()),
        ("sha256", !image.sha256.is_empty()),
        ("format", image.format != 0),
    ];
    for (name, _) in said.iter().filter(|(_, said)| *said) {
        let why = "must be unset with a block device of boot_index 0: that volume is the root disk";
        faults.wrong(&format!("{field}.{name}"), why);
    }
    about(faults, field, image)
}

fn about(faults: &mut Faults, field: &str, image: v1::Image) -> Option<About> {
    let at = |name: &str| format!("{field}.{name}");
    let asked = image.properties.unwrap_or_default();
    let nic = asked.hw_vif_model.map(|_| asked.hw_vif_model());
    let nic =
        nic.and_then(|model| super::vif::model(faults, &at("properties.hw_vif_model"), model));
    let config_drive_mandatory = asked.img_config_drive_mandatory();
    let properties = properties(faults, &at("properties"), &asked);
    let kernel = match image.kernel {
        Some(kernel) => {
            let parts = (kernel, image.ramdisk, image.kernel_command_line);
            Some(direct_kernel(faults, field, parts)?)
        }
        None => {
            if image.ramdisk.is_some() {
                faults.wrong(&at("ramdisk"), "needs a kernel");
            }
            if !image.kernel_command_line.is_empty() {
                faults.wrong(&at("kernel_command_line"), "needs a kernel");
            }
            None
        }
    };
    Some(About {
        properties: properties?,
        kernel,
        nic,
        config_drive_mandatory,
    })
}

fn direct_kernel(
    faults: &mut Faults,
    field: &str,
    (kernel, ramdisk, command_line): (v1::KernelImage, Option<v1::KernelImage>, String),
) -> Option<DirectKernel> {
    let one = |faults: &mut Faults, name: &str, image: v1::KernelImage| {
        file(
            faults,
            &format!("{field}.{name}"),
            (image.image_id, image.location, image.sha256),
        )
    };
    let kernel = one(faults, "kernel", kernel);
    let has_ramdisk = ramdisk.is_some();
    let ramdisk = ramdisk.and_then(|image| one(faults, "ramdisk", image));
    let command_line = faults.text(&format!("{field}.kernel_command_line"), command_line, 2048);
    if has_ramdisk && ramdisk.is_none() {
        return None;
    }
    Some(DirectKernel {
        kernel: kernel?,
        ramdisk,
        command_line: command_line?,
    })
}

fn file(
    faults: &mut Faults,
    field: &str,
    (id, location, sha256): (String, String, String),
) -> Option<ImageFile> {
    let at = |name: &str| format!("{field}.{name}");
    if id.is_empty() {
        faults.wrong(&at("image_id"), "is required");
    }
    let id = faults.text(&at("image_id"), id, 255);
    let location = faults.text(&at("location"), location, 4096);
    let location = location.and_then(|text| address(faults, &at("location"), text));
    let sha256 = match &*sha256 {
        "" => Some(None),
        text => faults.take(&at("sha256"), digest(text)).map(Some),
    };
    Some(ImageFile {
        id: id?,
        location: location?,
        sha256: sha256?,
    })
}

/// A SHA-256 as the contract writes it.
pub(super) fn digest(text: &str) -> Result<[u8; 32], &'static str> {
    let mut digest = [0; 32];
    let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    match hex::decode_to_slice(text, &mut digest) {
        Ok(()) if lower => Ok(digest),
        _ => Err("must be 64 lower-case hexadecimal digits"),
    }
}

pub(super) fn address(faults: &mut Faults, field: &str, text: String) -> Option<String> {
    let fault = match url::Url::parse(&text) {
        Err(_) if text.is_empty() => "is required",
        Err(_) => "must be a URL: file:///path, http:// or https://",
        Ok(url) => match url.scheme() {
            "file" if url.host_str().is_some_and(|host| !host.is_empty()) => {
                "must be a file on this host: file:///path"
            }
            "file" | "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
                "must not carry a user name or password"
            }
            "file" | "http" | "https" => return Some(text),
            _ => "must begin with file:///, http:// or https://",
        },
    };
    faults.wrong(field, fault);
    None
}

fn format(faults: &mut Faults, field: &str, format: v1::DiskFormat) -> Option<DiskFormat> {
    Some(match format {
        v1::DiskFormat::Unspecified => {
            faults.wrong(field, "is required, as DISK_FORMAT_QCOW2");
            return None;
        }
        v1::DiskFormat::Raw => DiskFormat::Raw,
        v1::DiskFormat::Qcow2 => DiskFormat::Qcow2,
        v1::DiskFormat::Vmdk => DiskFormat::Vmdk,
        v1::DiskFormat::Vhd => DiskFormat::Vpc,
        v1::DiskFormat::Vhdx => DiskFormat::Vhdx,
        v1::DiskFormat::Vdi => DiskFormat::Vdi,
        v1::DiskFormat::Iso => DiskFormat::Iso,
    })
}

/// The bus, when it is set; the outer `None` means that it was refused.
pub(super) fn bus(
    faults: &mut Faults,
    field: &str,
    bus: Option<v1::DiskBus>,
) -> Option<Option<DiskBus>> {
    Some(Some(match bus {
        None => return Some(None),
        Some(v1::DiskBus::Unspecified) => {
            faults.wrong(
                field,
                "must not be UNSPECIFIED; leave it out for the default",
            );
            return None;
        }
        Some(v1::DiskBus::Virtio) => DiskBus::Virtio,
        Some(v1::DiskBus::Scsi) => DiskBus::Scsi,
        Some(v1::DiskBus::Sata) => DiskBus::Sata,
        Some(v1::DiskBus::Ide) => DiskBus::Ide,
        Some(v1::DiskBus::Usb | v1::DiskBus::Fdc) => {
            faults.refuse(field, true);
            return None;
        }
    }))
}

fn properties(
    faults: &mut Faults,
    field: &str,
    asked: &v1::ImageProperties,
) -> Option<ImageProperties> {
    let at = |name: &str| format!("{field}.{name}");
    refuse_unserved(faults, field, asked);
    let disk_bus = bus(
        faults,
        &at("hw_disk_bus"),
        asked.hw_disk_bus.map(|_| asked.hw_disk_bus()),
    );
    let cdrom_bus = bus(
        faults,
        &at("hw_cdrom_bus"),
        asked.hw_cdrom_bus.map(|_| asked.hw_cdrom_bus()),
    );
    let machine = machine(
        faults,
        &at("hw_machine_type"),
        asked.hw_machine_type.as_deref(),
    );
    let video = video(faults, &at("hw_video_model"), asked);
    let os = os(faults, &at("os_type"), asked);
    let os_distro = match asked.os_distro.clone() {
        Some(distro) => Some(faults.text(&at("os_distro"), distro, 64)?),
        None => None,
    };
    let admin_user = match &asked.os_admin_user {
        Some(user) => Some(faults.take(&at("os_admin_user"), account(user))?),
        None => None,
    };
    let min_disk = faults.take(
        &at("min_disk_gib"),
        Bytes::from_gib(asked.min_disk_gib()).ok_or("is too large"),
    );
    let min_memory = faults.take(
        &at("min_memory_mib"),
        Bytes::from_mib(asked.min_memory_mib()).ok_or("is too large"),
    );
    Some(ImageProperties {
        disk_bus: disk_bus?,
        cdrom_bus: cdrom_bus?,
        machine: machine?,
        video: video?,
        guest_agent: asked.hw_qemu_guest_agent(),
        require_quiesce: asked.os_require_quiesce(),
        os: os?,
        os_distro,
        admin_user,
        min_disk: min_disk?,
        min_memory: min_memory?,
    })
}

/// What this server does not serve is refused by name, unless it asks for what is so anyway.
#[allow(clippy::too_many_lines, reason = "one table, a line a property")]
fn refuse_unserved(faults: &mut Faults, field: &str, asked: &v1::ImageProperties) {
    let firmware = asked.hw_firmware_type.map(|_| asked.hw_firmware_type());
    let boot = asked.os_secure_boot.map(|_| asked.os_secure_boot());
    let rng = asked.hw_rng_model.map(|_| asked.hw_rng_model());
    let watchdog = asked.hw_watchdog_action.map(|_| asked.hw_watchdog_action());
    let scsi = asked.hw_scsi_model.map(|_| asked.hw_scsi_model());
    let architecture = asked.hw_architecture.as_deref();
    for (name, refused) in [
        ("hw_rescue_bus", asked.hw_rescue_bus.is_some()),
        (
            "hw_vif_multiqueue_enabled",
            asked.hw_vif_multiqueue_enabled(),
        ),
        (
            "hw_firmware_type",
            !matches!(firmware, None | Some(v1::FirmwareType::Bios)),
        ),
        (
            "os_secure_boot",
            !matches!(
                boot,
                None | Some(v1::SecureBoot::Disabled | v1::SecureBoot::Optional)
            ),
        ),
        ("hw_video_ram_mib", asked.hw_video_ram_mib.is_some()),
        (
            "hw_rng_model",
            !matches!(rng, None | Some(v1::RngModel::Virtio)),
        ),
        (
            "hw_watchdog_action",
            !matches!(watchdog, None | Some(v1::WatchdogAction::Disabled)),
        ),
        (
            "hw_scsi_model",
            !matches!(scsi, None | Some(v1::ScsiModel::VirtioScsi)),
        ),
        (
            "hw_serial_port_count",
            !matches!(asked.hw_serial_port_count, None | Some(1)),
        ),
        ("hw_boot_menu", asked.hw_boot_menu()),
        ("hw_pmu", asked.hw_pmu.is_some()),
        ("hw_time_hpet", asked.hw_time_hpet()),
        ("hw_cpu_sockets", asked.hw_cpu_sockets.is_some()),
        ("hw_cpu_cores", asked.hw_cpu_cores.is_some()),
        ("hw_cpu_threads", asked.hw_cpu_threads.is_some()),
        ("hw_tpm_version", asked.hw_tpm_version.is_some()),
        (
            "hw_architecture",
            !matches!(architecture, None | Some("x86_64")),
        ),
    ] {
        faults.refuse(&format!("{field}.{name}"), refused);
    }
}

fn machine(faults: &mut Faults, field: &str, machine: Option<&str>) -> Option<Option<MachineType>> {
    match machine {
        None => Some(None),
        Some("q35") => Some(Some(MachineType::Q35)),
        Some("pc") => Some(Some(MachineType::Pc)),
        Some(other) => {
            faults.unserved(
                field,
                format_args!("{other:?} is not served here: q35 and pc are"),
            );
            None
        }
    }
}

fn video(faults: &mut Faults, field: &str, asked: &v1::ImageProperties) -> Option<VideoModel> {
    match asked.hw_video_model.map(|_| asked.hw_video_model()) {
        None | Some(v1::VideoModel::Vga) => Some(VideoModel::Vga),
        Some(v1::VideoModel::Virtio) => Some(VideoModel::Virtio),
        Some(v1::VideoModel::None) => Some(VideoModel::None),
        Some(_) => {
            faults.refuse(field, true);
            None
        }
    }
}

fn os(faults: &mut Faults, field: &str, asked: &v1::ImageProperties) -> Option<OsType> {
    match asked.os_type.map(|_| asked.os_type()) {
        None | Some(v1::OsType::Linux) => Some(OsType::Linux),
        Some(v1::OsType::Windows) => Some(OsType::Windows),
        Some(v1::OsType::Unspecified) => {
            faults.wrong(
                field,
                "must not be UNSPECIFIED; leave it out for the default",
            );
            None
        }
    }
}
