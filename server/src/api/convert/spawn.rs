//! SpawnRequest → InstanceSpec.

use std::{collections::BTreeMap, time::Duration};

use computedriver::v1;

use super::{
    fault::{Faults, request_id},
    image::{bus, image},
    vif::vifs,
    volume::volume,
};
use crate::{
    error::Error,
    model::{
        BlockDevice, BlockSource, Bytes, Flavor, InjectedFile, InstanceSpec, Limits, Phase,
        RequestId, Secret, WaitFor, WaitTarget,
    },
    plan,
};

/// A spawn as asked for.
#[derive(Debug)]
pub(crate) struct Spawn {
    pub(crate) request: Option<RequestId>,
    pub(crate) validate_only: bool,
    pub(crate) spec: InstanceSpec,
}

/// All injected files together.
const INJECTED_BYTES: usize = 4 << 20;

#[allow(clippy::too_many_lines, reason = "one line a field: a list, not logic")]
pub(crate) fn spawn(asked: v1::SpawnRequest, config_drive: bool) -> Result<Spawn, Error> {
    let mut faults = Faults::default();
    let f = &mut faults;
    let id = f.take("instance_id", asked.instance_id.parse());
    let request = request_id(f, &asked.request_id);
    let hostname = hostname(f, asked.hostname, &asked.instance_id);
    let display_name = f.text("display_name", asked.display_name, 255);
    let metadata = pairs(f, "metadata", asked.metadata);
    let flavor = flavor(f, asked.flavor);
    let image = if let Some(asked) = asked.image {
        image(f, "image", asked)
    } else {
        f.wrong("image", "is required");
        None
    };
    let injected_files = injected_files(f, asked.injected_files);
    let user_data = user_data(f, asked.user_data);
    let public_keys = public_keys(f, asked.ssh_public_keys);
    let password = f.text("admin_password", asked.admin_password, 255);
    let vifs = vifs(f, asked.vifs, image.as_ref().and_then(|image| image.nic));
    let root_device_name = device_name(f, "root_device_name", &asked.root_device_name);
    let block_devices = block_devices(f, asked.block_devices);
    let limits = limits(f, asked.limits.unwrap_or_default());
    let wait_for = match asked.wait_for {
        Some(asked) => wait_for(f, &asked).map(Some),
        None => Some(None),
    };
    let needs_drive = injected_files
        .as_ref()
        .is_some_and(|files| !files.is_empty())
        || image
            .as_ref()
            .is_some_and(|image| image.config_drive_mandatory);
    let told = user_data.as_ref().is_none_or(|data| !data.is_empty())
        || password
            .as_ref()
            .is_some_and(|password| !password.is_empty())
        || public_keys.as_ref().is_some_and(|keys| !keys.is_empty());
    if asked.config_drive == Some(false) && (needs_drive || told) {
        f.wrong(
            "config_drive",
            "must not be false with injected_files, user_data, ssh_public_keys or admin_password, or with an image that needs it",
        );
    }
    let spec = move || {
        let (image, hostname) = (image?, hostname?);
        let display_name = display_name?;
        Some(InstanceSpec {
            id: id?,
            display_name: if display_name.is_empty() {
                hostname.clone()
            } else {
                display_name
            },
            hostname,
            metadata: metadata?,
            flavor: flavor?,
            image: image.source,
            properties: image.properties,
            kernel: image.kernel,
            injected_files: injected_files?,
            user_data: user_data?,
            public_keys: public_keys?,
            admin_password: Some(password?).filter(|p| !p.is_empty()).map(Secret::new),
            vifs: vifs?,
            root_device_name: root_device_name?,
            block_devices: block_devices?,
            pins: BTreeMap::new(),
            limits: limits?,
            config_drive: asked.config_drive.unwrap_or(config_drive || needs_drive),
            wait_for: wait_for?,
        })
    };
    let spec = faults.into_result(spec)?;
    plan::fits(&spec)?;
    Ok(Spawn {
        request,
        validate_only: asked.validate_only,
        spec,
    })
}

pub(crate) fn user_data(faults: &mut Faults, data: Vec<u8>) -> Option<Vec<u8>> {
    if data.len() > 65535 {
        faults.wrong("user_data", "must have at most 65535 bytes");
        return None;
    }
    Some(data)
}

fn hostname(faults: &mut Faults, name: String, id: &str) -> Option<String> {
    let label = |label: &str| {
        matches!(label.len(), 1..=63)
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match name.as_str() {
        "" => Some(id.to_owned()),
        text if text.len() <= 253 && text.split('.').all(label) => Some(name),
        _ => {
            faults.wrong(
                "hostname",
                "must be a DNS name: labels of a-z, 0-9 and '-', at most 253 characters",
            );
            None
        }
    }
}

pub(crate) fn pairs(
    faults: &mut Faults,
    field: &str,
    pairs: impl IntoIterator<Item = (String, String), IntoIter: ExactSizeIterator>,
) -> Option<BTreeMap<String, String>> {
    let pairs = pairs.into_iter();
    let before = pairs.len();
    faults.at_most(field, before, 128);
    if before > 128 {
        return None;
    }
    let mut taken = BTreeMap::new();
    for (key, value) in pairs {
        let at = format!("{field}[{:?}]", key.chars().take(64).collect::<String>());
        if key.is_empty() {
            faults.wrong(&at, "must have a key");
        }
        if let (Some(key), Some(value)) = (faults.text(&at, key, 255), faults.text(&at, value, 255))
        {
            taken.insert(key, value);
        }
    }
    (taken.len() == before).then_some(taken)
}

fn size(
    faults: &mut Faults,
    field: &str,
    (value, max): (u64, u64),
    to: fn(u64) -> Option<Bytes>,
) -> Option<Option<Bytes>> {
    if value > max {
        faults.wrong(field, format_args!("must be at most {max}"));
        return None;
    }
    Some(to(value).filter(|bytes| bytes.0 > 0))
}

pub(crate) fn flavor(faults: &mut Faults, flavor: Option<v1::Flavor>) -> Option<Flavor> {
    let Some(flavor) = flavor else {
        faults.wrong("flavor", "is required");
        return None;
    };
    let name = faults.text("flavor.name", flavor.name, 255);
    if !matches!(flavor.vcpus, 1..=1024) {
        faults.wrong("flavor.vcpus", "must be 1 to 1024");
    }
    if flavor.memory_mib == 0 {
        faults.wrong("flavor.memory_mib", "must be 1 to 16777216");
    }
    let memory = size(
        faults,
        "flavor.memory_mib",
        (flavor.memory_mib, 16_777_216),
        Bytes::from_mib,
    );
    let root = size(
        faults,
        "flavor.root_gib",
        (flavor.root_gib, 65536),
        Bytes::from_gib,
    );
    let ephemeral = size(
        faults,
        "flavor.ephemeral_gib",
        (flavor.ephemeral_gib, 65536),
        Bytes::from_gib,
    );
    let swap = size(
        faults,
        "flavor.swap_mib",
        (flavor.swap_mib, 1_048_576),
        Bytes::from_mib,
    );
    let extra_specs = pairs(faults, "flavor.extra_specs", flavor.extra_specs);
    Some(Flavor {
        name: name?,
        vcpus: flavor.vcpus,
        memory: memory??,
        root: root?,
        ephemeral: ephemeral?,
        swap: swap?,
        extra_specs: extra_specs?,
    })
}

pub(crate) fn injected_files(
    faults: &mut Faults,
    files: Vec<v1::InjectedFile>,
) -> Option<Vec<InjectedFile>> {
    faults.at_most("injected_files", files.len(), 16);
    let total: usize = files.iter().map(|file| file.contents.len()).sum();
    if total > INJECTED_BYTES {
        faults.wrong("injected_files", "must have at most 4 MiB together");
    }
    let mut taken = Vec::new();
    for (i, file) in files.into_iter().take(16).enumerate() {
        let at = format!("injected_files[{i}].path");
        let up = file.path.split('/').any(|part| part == "..");
        if !file.path.starts_with('/') || file.path.len() > 255 || up || file.path.ends_with('/') {
            faults.wrong(
                &at,
                "must be an absolute path of at most 255 bytes, without '..', of a file",
            );
        }
        if file.contents.len() > 1 << 20 {
            faults.wrong(
                &format!("injected_files[{i}].contents"),
                "must have at most 1 MiB",
            );
        }
        if let Some(path) = faults.text(&at, file.path, 255) {
            taken.push(InjectedFile {
                path,
                contents: file.contents,
            });
        }
    }
    Some(taken)
}

pub(crate) fn public_keys(faults: &mut Faults, keys: Vec<String>) -> Option<Vec<String>> {
    faults.at_most("ssh_public_keys", keys.len(), 64);
    let key = |(i, key): (usize, String)| {
        faults.text(
            &format!("ssh_public_keys[{i}]"),
            key.trim_end().to_owned(),
            16384,
        )
    };
    let keys: Vec<_> = keys.into_iter().take(64).enumerate().map(key).collect();
    keys.into_iter().collect()
}

fn device_name(faults: &mut Faults, field: &str, name: &str) -> Option<Option<String>> {
    let bare = name.strip_prefix("/dev/").unwrap_or(name);
    let plain = matches!(bare.len(), 3..=6) && bare.chars().all(|c| c.is_ascii_lowercase());
    match bare {
        "" => Some(None),
        _ if plain
            && ["vd", "sd", "hd"]
                .iter()
                .any(|prefix| bare.starts_with(prefix)) =>
        {
            Some(Some(bare.to_owned()))
        }
        _ => {
            faults.wrong(field, "must be a disk's name like vda, sdb or hdc");
            None
        }
    }
}

fn block_devices(faults: &mut Faults, devices: Vec<v1::BlockDevice>) -> Option<Vec<BlockDevice>> {
    faults.at_most("block_devices", devices.len(), 64);
    let mut taken: Vec<Option<BlockDevice>> = Vec::new();
    for (i, device) in devices.into_iter().take(64).enumerate() {
        let device = block_device(faults, &format!("block_devices[{i}]"), device);
        let twice = device
            .as_ref()
            .is_some_and(|device| taken.iter().flatten().any(|other| other.id == device.id));
        if twice {
            faults.wrong(&format!("block_devices[{i}].disk_id"), "is used twice");
        }
        taken.push(device);
    }
    taken.into_iter().collect()
}

pub(crate) fn block_device(
    faults: &mut Faults,
    field: &str,
    device: v1::BlockDevice,
) -> Option<BlockDevice> {
    use v1::block_device::Source;
    let at = |name: &str| format!("{field}.{name}");
    let id = faults.take(&at("disk_id"), device.disk_id.parse());
    let asked_bus = device.bus.map(|_| device.bus());
    let bus = bus(faults, &at("bus"), asked_bus);
    let device_name = device_name(faults, &at("device_name"), &device.device_name);
    faults.refuse(&at("boot_index"), device.boot_index.is_some());
    faults.refuse(&at("tags"), !device.tags.is_empty());
    let source = match device.source {
        Some(Source::Blank(blank)) => {
            faults.refuse(&at("blank.filesystem"), blank.filesystem.is_some());
            faults.refuse(&at("blank.label"), !blank.label.is_empty());
            if blank.size_gib == 0 {
                faults.wrong(&at("blank.size_gib"), "must be 1 to 65536");
            }
            let size = size(
                faults,
                &at("blank.size_gib"),
                (blank.size_gib, 65536),
                Bytes::from_gib,
            );
            size.flatten().map(|size| BlockSource::Blank { size })
        }
        Some(Source::Image(_)) => {
            faults.refuse(&at("image"), true);
            None
        }
        Some(Source::Volume(asked)) => {
            let volume = volume(faults, &at("volume"), asked);
            volume.map(Box::new).map(BlockSource::Volume)
        }
        None => {
            faults.wrong(&at("source"), "is required, as blank or volume");
            None
        }
    };
    Some(BlockDevice {
        id: id?,
        device_name: device_name?,
        bus: bus?,
        source: source?,
    })
}

pub(crate) fn limits(faults: &mut Faults, limits: v1::Limits) -> Option<Limits> {
    let mut to = |field: &str, value: Option<u64>, to: fn(u64) -> Option<Bytes>| match value {
        None => Some(None),
        Some(value) => faults
            .take(field, to(value).ok_or("is too large"))
            .map(Some),
    };
    let memory = to("limits.memory_mib", limits.memory_mib, Bytes::from_mib);
    let disk = to("limits.disk_gib", limits.disk_gib, Bytes::from_gib);
    Some(Limits {
        vcpus: limits.vcpus.map(u64::from),
        memory: memory?,
        disk: disk?,
    })
}

pub(crate) fn wait_for(faults: &mut Faults, asked: &v1::WaitFor) -> Option<WaitFor> {
    use v1::{BootPhase, wait_for::Condition};
    let target = match &asked.condition {
        Some(Condition::Phase(phase)) => match BootPhase::try_from(*phase) {
            Ok(BootPhase::Firmware) => Some(WaitTarget::Phase(Phase::Firmware)),
            Ok(BootPhase::Bootloader) => Some(WaitTarget::Phase(Phase::Bootloader)),
            Ok(BootPhase::Kernel) => Some(WaitTarget::Phase(Phase::Kernel)),
            Ok(BootPhase::Userspace) => Some(WaitTarget::Phase(Phase::Userspace)),
            Ok(BootPhase::Agent) => Some(WaitTarget::Phase(Phase::Agent)),
            Ok(BootPhase::Unspecified) | Err(_) => {
                faults.wrong(
                    "wait_for.phase",
                    "must be a known phase, as BOOT_PHASE_KERNEL",
                );
                None
            }
        },
        Some(Condition::ConsolePattern(pattern)) => pattern_of(faults, pattern),
        None => {
            faults.wrong("wait_for.condition", "is required");
            None
        }
    };
    let timeout = match &asked.timeout {
        None => Ok(Duration::from_secs(300)),
        Some(timeout) => Duration::try_from(*timeout).map_err(|_| "must be 1 second to 1 hour"),
    };
    let within =
        |timeout: &Duration| (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(timeout);
    let timeout = timeout.and_then(|t| {
        if within(&t) {
            Ok(t)
        } else {
            Err("must be 1 second to 1 hour")
        }
    });
    let timeout = faults.take("wait_for.timeout", timeout);
    Some(WaitFor {
        target: target?,
        timeout: timeout?,
    })
}

fn pattern_of(faults: &mut Faults, pattern: &str) -> Option<WaitTarget> {
    if matches!(pattern.len(), 1..=1024) {
        let checked = pattern
            .parse::<crate::boot::Pattern>()
            .map_err(|e| crate::error::chain(&e));
        return faults
            .take("wait_for.console_pattern", checked)
            .map(|_| WaitTarget::Console(pattern.to_owned()));
    }
    faults.wrong("wait_for.console_pattern", "must have 1 to 1024 characters");
    None
}
