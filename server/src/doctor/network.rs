//! What interfaces on a bridge need.

use std::{fs, os::unix::net::UnixStream};

use super::Check;
use crate::sys::netlink;

const BRIDGE: &str = "bridge";
const PRIVILEGE: &str = "privilege";
const LIBVIRTD: &str = "libvirtd";
/// The number of CAP_NET_ADMIN, without which no tap can be made.
const NET_ADMIN: u32 = 12;
/// Where libvirt's daemons listen: the one for everything, and the one for QEMU.
const SOCKETS: [&str; 2] = ["/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"];

pub(super) async fn examine() -> Vec<Check> {
    vec![bridge().await, privilege(), libvirtd()]
}

async fn bridge() -> Check {
    match netlink::bridges().await {
        Ok(bridges) if bridges.is_empty() => Check::note(
            BRIDGE,
            "none, needed for interfaces of kind bridge only",
            "ip link add br0 type bridge && ip link set br0 up",
        ),
        Ok(bridges) => Check::ok(BRIDGE, bridges.join(", ")),
        Err(e) => Check::note(BRIDGE, crate::error::chain(&e), "none"),
    }
}

/// What this process may, by the kernel's own word.
fn privilege() -> Check {
    let user = if rustix::process::geteuid().is_root() {
        "root".to_owned()
    } else {
        format!("user {}", rustix::process::geteuid().as_raw())
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    if effective.unwrap_or(0) >> NET_ADMIN & 1 == 1 {
        Check::ok(PRIVILEGE, format!("{user}, may make taps"))
    } else {
        Check::note(
            PRIVILEGE,
            format!("{user}, may not make taps: guests get interfaces of kind user only"),
            "run as root, or with CAP_NET_ADMIN",
        )
    }
}

fn libvirtd() -> Check {
    let answers = |path: &&&str| UnixStream::connect(path).is_ok();
    match SOCKETS.iter().find(answers) {
        Some(path) => Check::ok(
            LIBVIRTD,
            format!("answers at {path}; not needed, and left alone unless --connect names it"),
        ),
        None => Check::ok(LIBVIRTD, "none answers, and none is needed"),
    }
}
