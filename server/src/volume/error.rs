//! Why a volume is not to be had.

use crate::{
    error::{Classify, Kind},
    image::inspect::Unacceptable,
    model::{Bytes, InstanceId, VolumeId},
};

/// Why a volume is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// Its path leads out of the folders that the host's owner has opened for volumes, or there is nothing.
    #[error("volume {volume} does not lie in a folder that this host allows for volumes")]
    Denied {
        /// Which.
        volume: VolumeId,
    },
    /// It is neither a file nor a block device.
    #[error("volume {volume} is neither a regular file nor a block device")]
    NoDisk {
        /// Which.
        volume: VolumeId,
    },
    /// It holds something else than its caller says, or would have QEMU open other files of this host.
    #[error("volume {volume} cannot be used: {why}")]
    Unacceptable {
        /// Which.
        volume: VolumeId,
        /// Why.
        why: Unacceptable,
    },
    /// Its server lets nobody write.
    #[error("volume {volume} can be read only, and was not asked for like that")]
    ReadOnly {
        /// Which.
        volume: VolumeId,
    },
    /// Its storage says no, and would again until somebody mends what it says no to: a login, or a name.
    #[error("volume {volume} cannot be had: {why}")]
    Refused {
        /// Which.
        volume: VolumeId,
        /// Why.
        why: String,
    },
    /// It cannot be reached now.
    #[error("volume {volume} cannot be reached: {why}")]
    Unreachable {
        /// Which.
        volume: VolumeId,
        /// Why.
        why: String,
    },
    /// It has not the size that it should have.
    #[error("volume {volume} has {} bytes, not {}", found.0, wanted.0)]
    Size {
        /// Which.
        volume: VolumeId,
        /// What it has.
        found: Bytes,
        /// What it should have.
        wanted: Bytes,
    },
    /// It has become smaller since an instance has it.
    #[error(
        "volume {volume} has {} bytes, and had {} when it was looked at last: a guest is given back no disk that has shrunk",
        found.0,
        known.0
    )]
    Shrunk {
        /// Which.
        volume: VolumeId,
        /// What it has.
        found: Bytes,
        /// What it had.
        known: Bytes,
    },
    /// Its path leads to a disk of another name.
    #[error(
        "the path of volume {volume} leads to another disk than the instance had: to {found}, and it had {known}; set the path right, or detach the volume and attach what is there now"
    )]
    Another {
        /// Which.
        volume: VolumeId,
        /// The disk that is there, or words for one without a name.
        found: String,
        /// The disk that was there.
        known: String,
    },
    /// A file that its storage service has made for it is not to be used.
    #[error("the file for volume {volume} cannot be used: {why}")]
    Layer {
        /// Which.
        volume: VolumeId,
        /// Why.
        why: String,
    },
    /// A file of a volume that was detached with snapshots rests on it.
    #[error(
        "volume {volume} cannot be given out: {over}, a file of volume {of} that was detached with snapshots, rests on it, and would be destroyed by what is written below; merge the two, or remove {over}"
    )]
    Beneath {
        /// Which.
        volume: VolumeId,
        /// The volume whose file rests on it.
        of: VolumeId,
        /// That file's name.
        over: String,
    },
    /// This host's QEMU cannot reach such volumes.
    #[error(
        "volume {volume} cannot be reached: QEMU's driver for {driver} is not installed on this host; install the package qemu-block-extra there"
    )]
    Lacks {
        /// Which.
        volume: VolumeId,
        /// The driver that is missing.
        driver: &'static str,
    },
    /// It has a secret, and nothing here may keep it.
    #[error(
        "volume {volume} has a secret, and the hypervisor cannot keep one: libvirt's secret driver is not there; install the package libvirt-daemon-driver-secret or libvirt-daemon, or take a volume without a secret"
    )]
    NoSecrets {
        /// Which.
        volume: VolumeId,
    },
    /// Another instance has it, and one of both does not share it.
    #[error("volume {volume} is in use by instance {instance}, and not shared by both")]
    InUse {
        /// Which.
        volume: VolumeId,
        /// Whose it is.
        instance: InstanceId,
    },
}

impl VolumeError {
    /// A file or device of this host that cannot be looked at.
    pub(super) fn file(volume: VolumeId, e: &std::io::Error) -> Self {
        use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        match e.kind() {
            NotFound | NotADirectory | PermissionDenied => Self::Refused {
                volume,
                why: crate::error::chain(e),
            },
            _ => Self::unreachable(volume, e),
        }
    }

    pub(super) fn unreachable(volume: VolumeId, why: &(dyn std::error::Error + 'static)) -> Self {
        let why = crate::error::chain(why);
        Self::Unreachable { volume, why }
    }
}

impl Classify for VolumeError {
    fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } => Kind::Exists,
            Self::Unreachable { .. } => Kind::Pending,
            _ => Kind::Precondition,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "DISK_EXISTS",
            Self::Lacks { .. } | Self::NoSecrets { .. } => "NOT_SUPPORTED",
            Self::Unreachable { .. } => "VOLUME_CONNECT_FAILED",
            _ => "VOLUME_UNUSABLE",
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let (Self::Denied { volume }
        | Self::NoDisk { volume }
        | Self::Unacceptable { volume, .. }
        | Self::ReadOnly { volume }
        | Self::Refused { volume, .. }
        | Self::Unreachable { volume, .. }
        | Self::Size { volume, .. }
        | Self::Shrunk { volume, .. }
        | Self::Another { volume, .. }
        | Self::Layer { volume, .. }
        | Self::Beneath { volume, .. }
        | Self::Lacks { volume, .. }
        | Self::NoSecrets { volume }
        | Self::InUse { volume, .. }) = self;
        let mut fields = vec![("volume_id", volume.to_string())];
        if let Self::InUse { instance, .. } = self {
            fields.push(("instance_id", instance.to_string()));
        }
        if let Self::Beneath { of, over, .. } = self {
            fields.push(("over_volume_id", of.to_string()));
            fields.push(("file", over.clone()));
        }
        if let Self::Unacceptable { why, .. } = self {
            fields.push(("fault", why.fault().to_owned()));
        }
        fields
    }
}
