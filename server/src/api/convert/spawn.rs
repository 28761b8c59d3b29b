//! SpawnRequest → InstanceSpec.

use std::{collections::BTreeMap, time::Duration};

use computedriver::v1;

use super::{
    block_device::{block_devices, device_name, root},
    fault::{Faults, request_id},
    image::{About, Image, image, of_volume},
    vif::vifs,
};
use crate::{
    error::Error,
    model::{
        Bytes, Flavor, ImageSource, InjectedFile, InstanceSpec, Limits, MEMORY_MODULE, Phase,
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
    let root_volume = root(f, &asked);
    let id = f.take("instance_id", asked.instance_id.parse());
    let request = request_id(f, &asked.request_id);
    let hostname = hostname(f, asked.hostname, &asked.instance_id);
    let display_name = f.text("display_name", asked.display_name, 255);
    let metadata = pairs(f, "metadata", asked.metadata);
    let flavor = flavor(f, asked.flavor);
    let (image, about) = match root_volume {
        true => (Some(None), of_volume(f, "image", asked.image)),
        false => made_of(f, asked.image),
    };
    let injected_files = injected_files(f, asked.injected_files);
    let user_data = user_data(f, asked.user_data);
    let public_keys = public_keys(f, asked.ssh_public_keys);
    let password = f.text("admin_password", asked.admin_password, 255);
    let vifs = vifs(f, asked.vifs, about.as_ref().and_then(|about| about.nic));
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
        || about
            .as_ref()
            .is_some_and(|about| about.config_drive_mandatory);
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
        let (image, about, hostname) = (image?, about?, hostname?);
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
            image,
            properties: about.properties,
            kernel: about.kernel,
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

/// The image that the root disk is made of, and what is said of it.
#[allow(clippy::option_option, reason = "none: wrong; some none: not given")]
fn made_of(
    faults: &mut Faults,
    asked: Option<v1::Image>,
) -> (Option<Option<ImageSource>>, Option<About>) {
    let Some(asked) = asked else {
        faults.wrong("image", "is required, or a block device of boot_index 0");
        return (None, None);
    };
    let Some(Image { source, about }) = image(faults, "image", asked) else {
        return (None, None);
    };
    (Some(Some(source)), Some(about))
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

pub(super) fn size(
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
    let name = faults.text("flavor.name", flavor.name.clone(), 255);
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
    let (max_vcpus, max_memory) = most(faults, &flavor);
    let extra_specs = pairs(faults, "flavor.extra_specs", flavor.extra_specs);
    Some(Flavor {
        name: name?,
        vcpus: flavor.vcpus,
        memory: memory??,
        root: root?,
        ephemeral: ephemeral?,
        swap: swap?,
        extra_specs: extra_specs?,
        max_vcpus,
        max_memory,
    })
}

/// What it may be given while it runs; none when that is no more than it has.
fn most(faults: &mut Faults, flavor: &v1::Flavor) -> (Option<u32>, Option<Bytes>) {
    let vcpus = flavor.max_vcpus;
    if vcpus != 0 && !(flavor.vcpus..=1024).contains(&vcpus) {
        faults.wrong("flavor.max_vcpus", "must be 0, or vcpus to 1024");
    }
    let memory = flavor.max_memory_mib;
    let more = memory.checked_sub(flavor.memory_mib);
    let whole = more.is_some_and(|more| more % (MEMORY_MODULE.0 >> 20) == 0);
    if memory != 0 && (!whole || memory > 16_777_216) {
        let why = "must be 0, or memory_mib and a multiple of 128, up to 16777216";
        faults.wrong("flavor.max_memory_mib", why);
    }
    let memory = (memory > flavor.memory_mib).then_some(memory);
    (
        (vcpus > flavor.vcpus).then_some(vcpus),
        memory.and_then(Bytes::from_mib),
    )
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
