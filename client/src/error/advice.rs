//! What a caller does about each reason: the last column of `docs/errors.md`.

use super::Kind;

/// By reason, in the order of `reason.proto`.
pub(super) const ADVICE: &[(&str, &str)] = &[
    ("INVALID_REQUEST", "fix the fields that are named"),
    ("REQUEST_ID_REUSED", "take a new request_id"),
    ("PAGE_TOKEN_INVALID", "begin again without a page token"),
    ("INSTANCE_NOT_FOUND", "take it as absent"),
    (
        "INSTANCE_EXISTS",
        "take another instance id, or destroy that instance first",
    ),
    (
        "INSTANCE_STATE",
        "bring the instance into another state first",
    ),
    (
        "OPERATION_PENDING",
        "try again when the operation that is named has ended",
    ),
    ("OPERATION_NOT_FOUND", "ask for the instance instead"),
    (
        "OPERATION_CANCELLED",
        "nothing: it was asked for, and what was done is undone",
    ),
    ("OPERATION_NOT_CANCELLABLE", "let the operation end"),
    (
        "OPERATION_INTERRUPTED",
        "repeat the request: the server restarted and undid the first one",
    ),
    ("HOST_RESOURCES", "take another host or a smaller flavor"),
    ("HOST_DISK_FULL", "prune images, or take another host"),
    ("HOST_DISABLED", "take another host"),
    ("INVALID_CPU_INFO", "take another host"),
    ("IMAGE_NOT_FOUND", "name another location"),
    (
        "IMAGE_UNACCEPTABLE",
        "mend the image, or declare what it really is",
    ),
    ("IMAGE_FETCH_FAILED", "try again later"),
    ("IMAGE_CHECKSUM_MISMATCH", "mend the sha256 or the image"),
    (
        "FLAVOR_DISK_TOO_SMALL",
        "take a flavor with a larger root disk",
    ),
    ("FLAVOR_MEMORY_TOO_SMALL", "take a flavor with more memory"),
    (
        "IMAGE_IN_USE",
        "destroy the instances that rest on it first",
    ),
    ("WAIT_TIMEOUT", "look at the console log, or wait longer"),
    ("GUEST_CRASHED", "mend the image"),
    (
        "GUEST_AGENT_UNAVAILABLE",
        "install and start the guest agent",
    ),
    (
        "GUEST_AGENT_TIMEOUT",
        "find out whether the guest acted, then try again",
    ),
    ("GUEST_AGENT_ERROR", "read what the guest agent answered"),
    ("QUIESCE_FAILED", "mend the guest agent"),
    ("VIF_PLUG_TIMEOUT", "ask the network, then try again"),
    ("VIF_PLUG_FAILED", "ask the network, then try again"),
    ("INTERFACE_NOT_FOUND", "take it as absent"),
    (
        "INTERFACE_EXISTS",
        "take another interface id, or detach that one first",
    ),
    (
        "NETWORK_NOT_FOUND",
        "name another network, or make it on the host",
    ),
    ("SECURITY_GROUP_NOT_FOUND", "set the security group first"),
    ("FIREWALL_FAILED", "report it: the old rules hold"),
    ("VOLUME_NOT_FOUND", "take it as absent"),
    ("DISK_NOT_FOUND", "take it as absent"),
    (
        "DISK_EXISTS",
        "take another disk id, or detach that one first",
    ),
    (
        "DEVICE_DETACH_FAILED",
        "try again: the guest did not let go of it",
    ),
    ("VOLUME_CONNECT_FAILED", "ask the storage, then try again"),
    (
        "VOLUME_UNUSABLE",
        "mend what is named: login, name, path or size",
    ),
    (
        "DEVICE_SLOTS",
        "power the guest off and on, or detach another device",
    ),
    ("VOLUME_SNAPSHOT_NOT_FOUND", "take it as absent"),
    (
        "SNAPSHOT_UPLOAD_FAILED",
        "ask the image service, then try again",
    ),
    ("MIGRATION_PRECHECK_FAILED", "take another target"),
    (
        "MIGRATION_FAILED",
        "try again: the instance runs on the source",
    ),
    ("MIGRATION_NOT_FOUND", "take it as ended"),
    ("PEER_UNAVAILABLE", "try again when the peer is reachable"),
    (
        "NOT_SUPPORTED",
        "see what is served with `computectl capabilities`",
    ),
    (
        "PERMISSION_DENIED",
        "ask whoever runs the server for the right to do this",
    ),
    ("UNAUTHENTICATED", "show an identity that the server knows"),
    (
        "HYPERVISOR_UNAVAILABLE",
        "try again: the server connects to its hypervisor anew",
    ),
    (
        "HYPERVISOR_ERROR",
        "read the hypervisor's code in the details, and the server's log",
    ),
    (
        "HYPERVISOR_TIMEOUT",
        "try again, and look at the host if it happens often",
    ),
    ("OVERLOADED", "try again with fewer calls at once"),
    ("DRAINING", "try again when the server is back"),
    ("STARTING", "try again: the server is about to be ready"),
    (
        "STORE_UNAVAILABLE",
        "look at the disk that holds the server's state",
    ),
    (
        "DEADLINE",
        "look at the operation, or repeat the request with a longer deadline: a change that began goes on",
    ),
    ("EVENTS_EXPIRED", "begin again without a cursor"),
    ("SLOW_CONSUMER", "read faster; go on from the last sequence"),
    ("CONSOLE_NOT_FOUND", "ask for another console"),
    ("CONSOLE_OFFSET", "begin again without an offset"),
    ("CONSOLE_BUSY", "open it with force, or wait"),
    (
        "HOST_COMMAND_FAILED",
        "look at the server's log: it has what the tool said",
    ),
    (
        "CONSOLE_TAKEN",
        "leave it to the other client, or open it with force",
    ),
    ("INTERNAL", "look at the server's log"),
];

/// The advice for a reason; for one that is not known, that of its kind.
pub(super) fn of(reason: &str, kind: Kind) -> &'static str {
    let known = ADVICE.iter().find(|(name, _)| *name == reason);
    known.map_or_else(|| general(kind), |(_, advice)| advice)
}

fn general(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "fix the request",
        Kind::NotFound => "take it as absent, or check the id",
        Kind::Exists => "take another id",
        Kind::Precondition => "change what stands in the way first",
        Kind::Pending => "try again later",
        Kind::Exhausted => "take another host, or try again later",
        Kind::Denied => "ask whoever runs the server for the right to do this",
        Kind::Unavailable => {
            "see whether the server runs and the endpoint is right, then try again"
        }
        Kind::Deadline => "try again with a longer deadline: a change that began goes on",
        Kind::Cancelled => "nothing: it was cancelled",
        Kind::Unsupported => "see what is served with `computectl capabilities`",
        Kind::OutOfRange => "begin again from the start",
        Kind::Internal => "look at the server's log",
    }
}
