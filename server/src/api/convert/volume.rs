//! Volumes of a request.

mod remote;

use std::time::Duration;

use computedriver::v1;

use super::fault::Faults;
use crate::model::{Bounds, DiskFormat, NbdServer, Qos, Volume, VolumeTarget};

/// How long a burst may last.
const BURST: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

pub(in crate::api) fn volume(
    faults: &mut Faults,
    field: &str,
    asked: v1::VolumeConnection,
) -> Option<Volume> {
    let at = |name: &str| format!("{field}.{name}");
    let id = faults.take(&at("volume_id"), asked.volume_id.parse());
    let format = format(faults, &at("format"), &asked);
    let serial = serial(faults, &at("serial"), asked.serial);
    faults.refuse(&at("encryption"), asked.encryption.is_some());
    let qos = qos(faults, &at("qos"), asked.qos.unwrap_or_default());
    let target = target(faults, field, asked.target);
    let qcow2 = format == Some(DiskFormat::Qcow2);
    if qcow2 && asked.multi_attach {
        faults.wrong(&at("format"), "must be RAW with multi_attach");
    }
    let local = matches!(target, Some(VolumeTarget::Local { .. }) | None);
    if qcow2 && !local {
        // Its header cannot be read before QEMU reads it.
        faults.unserved(&at("format"), "is served for local volumes only, but RAW");
    }
    Some(Volume {
        id: id?,
        target: target?,
        read_only: asked.read_only,
        shared: asked.multi_attach,
        serial: serial?,
        format: format?,
        discard: asked.discard,
        qos: qos?,
        seen: None,
    })
}

fn format(faults: &mut Faults, field: &str, asked: &v1::VolumeConnection) -> Option<DiskFormat> {
    match asked.format.map(|_| asked.format()) {
        None | Some(v1::DiskFormat::Raw) => Some(DiskFormat::Raw),
        Some(v1::DiskFormat::Qcow2) => Some(DiskFormat::Qcow2),
        Some(_) => {
            faults.wrong(field, "must be RAW or QCOW2");
            None
        }
    }
}

#[allow(clippy::option_option, reason = "none: wrong; some none: not given")]
fn serial(faults: &mut Faults, field: &str, serial: String) -> Option<Option<String>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | ' ');
    if serial.len() <= 36 && serial.chars().all(plain) {
        return Some(Some(serial).filter(|serial| !serial.is_empty()));
    }
    let why = "must have at most 36 characters of A-Z a-z 0-9 . _ - + and space";
    faults.wrong(field, why);
    None
}

fn target(
    faults: &mut Faults,
    field: &str,
    target: Option<v1::volume_connection::Target>,
) -> Option<VolumeTarget> {
    use v1::volume_connection::Target;
    let unserved = match target {
        None => {
            faults.wrong(&format!("{field}.target"), "is required");
            return None;
        }
        Some(Target::Local(local)) => {
            let path = path(faults, &format!("{field}.local.path"), local.path)?;
            return Some(VolumeTarget::Local { path: path.into() });
        }
        Some(Target::Nbd(target)) => return nbd(faults, &format!("{field}.nbd"), target),
        Some(Target::Iscsi(target)) => {
            return remote::iscsi(faults, &format!("{field}.iscsi"), target);
        }
        Some(Target::Rbd(target)) => return remote::rbd(faults, &format!("{field}.rbd"), target),
        Some(Target::Nfs(_)) => "nfs",
        Some(Target::NvmeTcp(_)) => "nvme_tcp",
        Some(Target::FibreChannel(_)) => "fibre_channel",
    };
    faults.refuse(&format!("{field}.{unserved}"), true);
    None
}

fn path(faults: &mut Faults, field: &str, path: String) -> Option<String> {
    if !path.starts_with('/') {
        faults.wrong(field, "must be an absolute path");
        return None;
    }
    faults.text(field, path, 4095)
}

fn nbd(faults: &mut Faults, field: &str, asked: v1::NbdTarget) -> Option<VolumeTarget> {
    use v1::nbd_target::Server;
    faults.refuse(&format!("{field}.tls"), asked.tls);
    let export = faults.text(&format!("{field}.export"), asked.export, 1024);
    let server = match asked.server {
        None => {
            faults.wrong(&format!("{field}.server"), "is required");
            None
        }
        Some(Server::Address(at)) => {
            let portal = faults.take(&format!("{field}.address"), at.parse());
            portal.map(NbdServer::Tcp)
        }
        Some(Server::Socket(socket)) => {
            let socket = path(faults, &format!("{field}.socket"), socket);
            socket.map(|socket| NbdServer::Unix(socket.into()))
        }
    };
    Some(VolumeTarget::Nbd {
        server: server?,
        export: export?,
    })
}

fn qos(faults: &mut Faults, field: &str, asked: v1::DiskQos) -> Option<Qos> {
    let some = |value: u64| Some(value).filter(|value| *value > 0);
    let bytes = Bounds {
        total: some(asked.total_bytes_sec),
        read: some(asked.read_bytes_sec),
        write: some(asked.write_bytes_sec),
        total_burst: some(asked.total_bytes_sec_max),
        read_burst: some(asked.read_bytes_sec_max),
        write_burst: some(asked.write_bytes_sec_max),
    };
    let requests = Bounds {
        total: some(asked.total_iops_sec),
        read: some(asked.read_iops_sec),
        write: some(asked.write_iops_sec),
        total_burst: some(asked.total_iops_sec_max),
        read_burst: some(asked.read_iops_sec_max),
        write_burst: some(asked.write_iops_sec_max),
    };
    for (unit, bounds) in [("bytes", &bytes), ("iops", &requests)] {
        check(faults, (field, unit), bounds);
    }
    let request_size = some(asked.size_iops_sec);
    let bounded = [requests.total, requests.read, requests.write];
    if request_size.is_some() && bounded.iter().all(Option::is_none) {
        let at = format!("{field}.size_iops_sec");
        faults.wrong(&at, "goes with a bound of iops_sec only");
    }
    let at = format!("{field}.burst_length");
    let burst = faults.time(&at, asked.burst_length, BURST)?;
    let bursts = |bounds: &Bounds| {
        [bounds.total_burst, bounds.read_burst, bounds.write_burst]
            .iter()
            .any(Option::is_some)
    };
    if burst.is_some_and(|burst| burst.subsec_nanos() > 0) {
        faults.wrong(&at, "must be whole seconds");
    }
    if burst.is_some() && !bursts(&bytes) && !bursts(&requests) {
        faults.wrong(&at, "goes with a bound of a burst only");
    }
    Some(Qos {
        bytes,
        requests,
        request_size,
        burst,
    })
}

fn check(faults: &mut Faults, (field, unit): (&str, &str), bounds: &Bounds) {
    let halves = [bounds.read, bounds.write];
    if bounds.total.is_some() && halves.iter().any(Option::is_some) {
        let at = format!("{field}.total_{unit}_sec");
        faults.wrong(&at, "goes without its read and write halves");
    }
    let pairs = [
        ("total", bounds.total, bounds.total_burst),
        ("read", bounds.read, bounds.read_burst),
        ("write", bounds.write, bounds.write_burst),
    ];
    for (which, bound, burst) in pairs {
        let at = format!("{field}.{which}_{unit}_sec_max");
        match (bound, burst) {
            (_, None) => {}
            (None, Some(_)) => faults.wrong(&at, "goes with the bound that it lifts only"),
            (Some(bound), Some(burst)) if burst < bound => {
                faults.wrong(&at, "must not be less than the bound that it lifts");
            }
            _ => {}
        }
    }
}
