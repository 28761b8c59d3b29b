//! iSCSI and RBD: looked at with the same drivers of QEMU that open them later, by `qemu-img`.
//!
//! The tool is told where by its arguments, which everybody on the host may read, and the secret through a pipe.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Credentials, PATIENCE, VolumeError};
use crate::{
    hypervisor::public,
    model::{Bytes, Iscsi, Login, Rbd, Volume, VolumeTarget},
    sys::command::{Command, CommandError},
};

/// QEMU's name of its driver for a target that it reaches by itself.
pub(super) fn driver(target: &VolumeTarget) -> Option<&'static str> {
    match target {
        VolumeTarget::Iscsi(_) => Some("iscsi"),
        VolumeTarget::Rbd(_) => Some("rbd"),
        VolumeTarget::Local { .. } | VolumeTarget::Nbd { .. } => None,
    }
}

/// Bytes that a guest will see.
pub(super) async fn look(
    tool: &str,
    volume: &Volume,
    own: &Credentials,
) -> Result<Bytes, VolumeError> {
    let id = volume.id;
    let file = match &volume.target {
        VolumeTarget::Iscsi(unit) => iscsi(unit, own.initiator.as_deref()),
        VolumeTarget::Rbd(image) => rbd(image),
        VolumeTarget::Local { .. } | VolumeTarget::Nbd { .. } => Value::Null,
    };
    let place = json!({ "driver": "raw", "file": file });
    let mut look = Command::new(tool.to_owned())
        .args(["info", "--force-share", "--output=json"])
        .time_limit(PATIENCE);
    if let Some(secret) = &own.secret {
        let from_pipe = format!("secret,id={KEY},file=/dev/stdin");
        look = look.args(["--object", &from_pipe]).stdin(secret.clone());
    }
    let seen = look.arg(format!("json:{place}")).run().await;
    let seen = seen.map_err(|e| why(volume, own, &e))?;
    let told: Option<Value> = serde_json::from_slice(&seen.stdout).ok();
    let size = told.and_then(|told| told.get("virtual-size")?.as_u64());
    match size {
        // A target's own controller answers like a unit of no size.
        Some(0) => Err(refused(volume, "it is no disk")),
        Some(size) => Ok(Bytes(size)),
        None => Err(unreachable(volume, "qemu-img tells no size")),
    }
    .inspect_err(|e| tracing::debug!(volume = %id, error = %e, "a volume was looked at"))
}

/// The name by which the tool knows the secret.
const KEY: &str = "key";

fn iscsi(unit: &Iscsi, initiator: Option<&str>) -> Value {
    let mut file = json!({
        "driver": "iscsi",
        "transport": "tcp",
        "portal": unit.portal.to_string(),
        "target": unit.target,
        "lun": unit.lun.to_string(),
    });
    if let Some(initiator) = initiator {
        file["initiator-name"] = initiator.into();
    }
    if let Some(Login { user, .. }) = &unit.login {
        file["user"] = user.as_str().into();
        file["password-secret"] = KEY.into();
    }
    file
}

fn rbd(image: &Rbd) -> Value {
    let monitors = image.monitors.iter();
    let servers = monitors.map(|at| json!({ "host": at.host, "port": at.port.to_string() }));
    let mut file = json!({
        "driver": "rbd",
        "pool": image.pool,
        "image": image.image,
        "server": servers.collect::<Vec<_>>(),
    });
    if let Some(Login { user, .. }) = &image.login {
        file["user"] = user.as_str().into();
        file["auth-client-required"] = json!(["cephx", "none"]);
        file["key-secret"] = KEY.into();
    }
    file
}

fn refused(volume: &Volume, why: impl Into<String>) -> VolumeError {
    VolumeError::Refused {
        volume: volume.id,
        why: why.into(),
    }
}

fn unreachable(volume: &Volume, why: impl Into<String>) -> VolumeError {
    VolumeError::Unreachable {
        volume: volume.id,
        why: why.into(),
    }
}

/// What the drivers say and what it means, of what stays so until somebody mends it.
const REFUSALS: &[(&str, &str)] = &[
    (
        "Authentication failure",
        "the target refuses its CHAP user or password",
    ),
    (
        "Authorization failure",
        "the target does not let this host in",
    ),
    (
        "Target not found",
        "the portal has no such target, or none for this host's initiator name",
    ),
    ("Target removed", "the portal has no such target any more"),
    (
        "LOGICAL_UNIT_NOT_SUPPORTED",
        "the target has no such logical unit",
    ),
    (
        "error opening pool",
        "the cluster has no such pool, or does not show it to this user",
    ),
    (
        "error reading header",
        "the pool has no such image, or does not show it to this user",
    ),
    (
        "error connecting: Invalid argument",
        "the secret is no key of Ceph's",
    ),
    (
        "error connecting: Permission denied",
        "the cluster refuses its user or key",
    ),
    (
        "error connecting: Operation not permitted",
        "the cluster refuses its user or key",
    ),
];

/// The same of what may pass.
const SILENCES: &[(&str, &str)] = &[
    ("Can not resolv", "the portal's name is not known here"),
    ("Can not reconnect", "nobody answers at the portal"),
];

/// What a cluster's errors end with when it is in trouble, not the request.
const TROUBLES: [&str; 3] = [
    "Connection timed out",
    "Input/output error",
    "Cannot send after transport endpoint shutdown",
];

/// What is said of a storage that says nothing.
fn silence(target: &VolumeTarget, limit: Duration) -> String {
    // A monitor lets whoever has a wrong key try again and again.
    let also = match target {
        VolumeTarget::Rbd(_) => "; so does a cluster that does not know the user or its key",
        _ => "",
    };
    format!(
        "the storage did not answer within {} s{also}",
        limit.as_secs()
    )
}

fn why(volume: &Volume, own: &Credentials, e: &CommandError) -> VolumeError {
    let stderr = match e {
        CommandError::Start { .. } => return lacks(volume),
        CommandError::TimedOut { limit, .. } => {
            return unreachable(volume, silence(&volume.target, *limit));
        }
        CommandError::Failed { stderr, .. } => stderr,
        CommandError::TooMuchOutput { .. } => return unreachable(volume, "qemu-img failed"),
    };
    tracing::debug!(volume = %volume.id, stderr, "a volume cannot be opened");
    if stderr.contains("Unknown driver") || stderr.contains("Unknown protocol") {
        return lacks(volume);
    }
    let known = |words: &[(&str, &'static str)]| {
        let mut words = words.iter();
        let known = words.find(|(said, _)| stderr.contains(said));
        known.map(|(_, why)| match &own.initiator {
            Some(initiator) => format!("{why} (initiator {initiator})"),
            None => (*why).to_owned(),
        })
    };
    let lasting = !TROUBLES.iter().any(|said| stderr.contains(said));
    match known(REFUSALS).filter(|_| lasting) {
        Some(why) => refused(volume, why),
        // After the place, which the caller knows, come the driver's own words.
        None => unreachable(
            volume,
            known(SILENCES)
                .unwrap_or_else(|| public(stderr.rsplit("}': ").next().unwrap_or_default().trim())),
        ),
    }
}

fn lacks(volume: &Volume) -> VolumeError {
    VolumeError::Lacks {
        volume: volume.id,
        driver: driver(&volume.target).unwrap_or_default(),
    }
}

/// Whether the tool, and so QEMU, has the driver.
pub(super) async fn has(tool: &str, driver: &str) -> bool {
    let place = json!({ "driver": driver });
    let asked = Command::new(tool.to_owned())
        .args(["info".to_owned(), format!("json:{place}")])
        .time_limit(PATIENCE);
    // It has nowhere to look, and says so, or that it does not know the driver.
    match asked.run().await {
        Ok(_) => true,
        Err(CommandError::Failed { stderr, .. }) => !stderr.contains("Unknown driver"),
        Err(_) => false,
    }
}
