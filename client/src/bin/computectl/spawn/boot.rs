//! The volume that an instance boots from in place of an image, as it is named on a command line.

use clap::Args;
use computedriver_client::v1::{self, block_device::Source};
use uuid::Uuid;

use crate::exit::Failure;
use crate::volume::LoginArgs;

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct BootArgs {
    /// Boot from this volume in place of an image; written as for `volume attach`.
    #[arg(long, value_name = "VOLUME")]
    boot_volume: Option<String>,
    /// The storage service's UUID of the volume, and the id of the disk. Default: a new one.
    #[arg(long, requires = "boot_volume")]
    boot_volume_id: Option<Uuid>,
    /// What is on the volume is qcow2, not raw.
    #[arg(long, requires = "boot_volume")]
    boot_volume_qcow2: bool,
}

impl BootArgs {
    /// The root disk, if a volume was named.
    pub(crate) fn device(&self, login: &mut LoginArgs) -> Result<Option<v1::BlockDevice>, Failure> {
        let Some(said) = &self.boot_volume else {
            return Ok(None);
        };
        let target = login.target(said)?;
        let volume_id = self.boot_volume_id.unwrap_or_else(Uuid::new_v4).to_string();
        Ok(Some(v1::BlockDevice {
            disk_id: volume_id.clone(),
            boot_index: Some(0),
            source: Some(Source::Volume(v1::VolumeConnection {
                volume_id,
                target: Some(target),
                format: self
                    .boot_volume_qcow2
                    .then_some(v1::DiskFormat::Qcow2.into()),
                ..Default::default()
            })),
            ..Default::default()
        }))
    }
}
