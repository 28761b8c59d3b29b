//! Volumes of a storage service, and how this host reaches them. A volume outlives its instances.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Bytes, DiskFormat, Layers, Login, SecretUse, VolumeId};

/// A volume as its caller describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct Volume {
    /// The storage service's id of it.
    pub id: VolumeId,
    /// The way to it.
    pub target: VolumeTarget,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// Whether other instances may have it too.
    pub shared: bool,
    /// Serial number that the guest reads; the volume's id unless said.
    pub serial: Option<String>,
    /// What is on it: raw or qcow2.
    pub format: DiskFormat,
    /// Whether the guest's discards reach the storage.
    pub discard: bool,
    /// Bounds of its traffic.
    pub qos: Qos,
    /// What was seen of it when it was connected; no part of what the caller says.
    #[serde(default)]
    pub seen: Option<Seen>,
}

impl Volume {
    /// Whether it is not on this host.
    pub fn is_remote(&self) -> bool {
        !matches!(self.target, VolumeTarget::Local { .. })
    }

    /// Whether a caller describes both alike.
    pub fn is_same(&self, other: &Self) -> bool {
        let bare = |volume: &Self| Self {
            seen: None,
            ..volume.without_secret()
        };
        bare(self) == bare(other)
    }

    /// Whether a caller describes both alike but for the secret of a login that both have.
    pub fn is_same_but_secret(&self, other: &Self) -> bool {
        let unmarked = |volume: &Self| volume.with_login(|login| login.mark = String::new());
        self.login().is_some() && unmarked(self).is_same(&unmarked(other))
    }

    /// How this host proves who it is, and what its secret is for; none where nobody asks.
    pub fn login(&self) -> Option<(&Login, SecretUse)> {
        match &self.target {
            VolumeTarget::Iscsi(iscsi) => Some((iscsi.login.as_ref()?, SecretUse::Iscsi)),
            VolumeTarget::Rbd(rbd) => Some((rbd.login.as_ref()?, SecretUse::Ceph)),
            VolumeTarget::Local { .. } | VolumeTarget::Nbd { .. } => None,
        }
    }

    /// The same with another login.
    #[must_use]
    pub fn with_login(&self, change: impl FnOnce(&mut Login)) -> Self {
        let mut volume = self.clone();
        let login = match &mut volume.target {
            VolumeTarget::Iscsi(iscsi) => iscsi.login.as_mut(),
            VolumeTarget::Rbd(rbd) => rbd.login.as_mut(),
            VolumeTarget::Local { .. } | VolumeTarget::Nbd { .. } => None,
        };
        if let Some(login) = login {
            change(login);
        }
        volume
    }

    /// The volume as it is kept: as if it had been stored and read back.
    #[must_use]
    pub fn without_secret(&self) -> Self {
        self.with_login(|login| login.secret = None)
    }
}

/// The way to a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeTarget {
    /// A file or block device that is on this host already.
    Local {
        /// Where, as the caller says it.
        path: PathBuf,
    },
    /// A network block device.
    Nbd {
        /// Who serves it.
        server: NbdServer,
        /// Under which name.
        export: String,
    },
    /// A logical unit of an iSCSI target.
    Iscsi(Iscsi),
    /// An image in a Ceph pool.
    Rbd(Rbd),
}

/// A logical unit of an iSCSI target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iscsi {
    /// Who serves it.
    pub portal: Portal,
    /// The target's name: `iqn.…` or `eui.…`.
    pub target: String,
    /// Its number.
    pub lun: u32,
    /// CHAP, where the target asks for it.
    pub login: Option<Login>,
}

/// An image in a Ceph pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rbd {
    /// Who knows the cluster.
    pub monitors: Vec<Portal>,
    /// The pool.
    pub pool: String,
    /// The image.
    pub image: String,
    /// Cephx, where the cluster asks for it.
    pub login: Option<Login>,
}

/// Who serves a network block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NbdServer {
    /// A host.
    Tcp(Portal),
    /// A socket on this host.
    Unix(PathBuf),
}

/// A port of a host. `Display` has an IPv6 address in brackets, as it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portal {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

impl std::str::FromStr for Portal {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "must be an address with its port, like 192.0.2.7:10809 or [2001:db8::7]:10809";
        let (host, port) = text.rsplit_once(':').ok_or(WRONG)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(WRONG)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host = match bracketed {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            None if matches!(host.len(), 1..=253) && host.chars().all(plain) => host,
            _ => return Err(WRONG),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// What was seen of a volume when it was connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The file or device itself, all links followed, that the guest writes to; none for one that is not on this host.
    pub path: Option<PathBuf>,
    /// Whether that is a block device.
    pub block: bool,
    /// Bytes that a guest sees.
    pub size: Bytes,
    /// What snapshots have made of its one file.
    #[serde(default)]
    pub layers: Layers,
    /// What a block device is by itself, where it has a name of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The name by which an iSCSI target was told to know this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<String>,
}

/// Bounds of a volume's traffic, a second; what is none is not bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qos {
    /// Bytes.
    pub bytes: Bounds,
    /// Requests.
    pub requests: Bounds,
    /// Bytes that count as one request.
    pub request_size: Option<u64>,
    /// How long a burst may last, in whole seconds.
    pub burst: Option<Duration>,
}

/// Bounds of one quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Both ways; excludes the two below.
    pub total: Option<u64>,
    /// Read.
    pub read: Option<u64>,
    /// Written.
    pub write: Option<u64>,
    /// Both ways while a burst lasts.
    pub total_burst: Option<u64>,
    /// Read while a burst lasts.
    pub read_burst: Option<u64>,
    /// Written while a burst lasts.
    pub write_burst: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portal_is_an_address_and_a_port_and_nothing_else() {
        let portal = |text: &str| text.parse::<Portal>().ok().map(|p| (p.host, p.port));
        let told = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(portal("192.0.2.7:10809"), told("192.0.2.7", 10809));
        assert_eq!(portal("nbd.example:1"), told("nbd.example", 1));
        assert_eq!(portal("[2001:db8::7]:3260"), told("2001:db8::7", 3260));
        for wrong in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:70000",
            "2001:db8::7:1",
            "[a]:1",
            "a b:1",
            "a/b:1",
        ] {
            assert_eq!(portal(wrong), None, "{wrong}");
        }
    }
}
