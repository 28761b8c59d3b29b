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
    /// It cannot be reached.
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
    /// A file that its storage service has made for it is not to be used.
    #[error("the file for volume {volume} cannot be used: {why}")]
    Layer {
        /// Which.
        volume: VolumeId,
        /// Why.
        why: String,
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
    pub(super) fn unreachable(volume: VolumeId, why: &(dyn std::error::Error + 'static)) -> Self {
        let why = crate::error::chain(why);
        Self::Unreachable { volume, why }
    }
}

impl Classify for VolumeError {
    fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } => Kind::Exists,
            Self::Lacks { .. } | Self::NoSecrets { .. } => Kind::Precondition,
            _ => Kind::Pending,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "DISK_EXISTS",
            Self::Lacks { .. } | Self::NoSecrets { .. } => "NOT_SUPPORTED",
            _ => "VOLUME_CONNECT_FAILED",
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let (Self::Denied { volume }
        | Self::NoDisk { volume }
        | Self::Unacceptable { volume, .. }
        | Self::ReadOnly { volume }
        | Self::Unreachable { volume, .. }
        | Self::Size { volume, .. }
        | Self::Layer { volume, .. }
        | Self::Lacks { volume, .. }
        | Self::NoSecrets { volume }
        | Self::InUse { volume, .. }) = self;
        let mut fields = vec![("volume_id", volume.to_string())];
        if let Self::InUse { instance, .. } = self {
            fields.push(("instance_id", instance.to_string()));
        }
        if let Self::Unacceptable { why, .. } = self {
            fields.push(("fault", why.fault().to_owned()));
        }
        fields
    }
}
