//! Where a volume is now. The kernel gives block devices their names anew when a host starts: what a caller's path led to
//! once may be another's by then.

use std::os::unix::fs::FileTypeExt;

use super::{VolumeError, Volumes, local};
use crate::model::{BlockDevice, BlockSource, Seen, Volume, VolumeTarget};

impl Volumes {
    /// The same disks, each volume that is a block device where its path leads now.
    ///
    /// # Errors
    /// When a path leads to none any more, or out of the folders.
    pub async fn found_again(
        &self,
        devices: &[BlockDevice],
    ) -> Result<Vec<BlockDevice>, VolumeError> {
        let mut devices = devices.to_vec();
        for device in &mut devices {
            if let Some(found) = self.moved(device).await? {
                device.source = BlockSource::Volume(Box::new(found));
            }
        }
        Ok(devices)
    }

    /// None for what cannot move.
    async fn moved(&self, device: &BlockDevice) -> Result<Option<Volume>, VolumeError> {
        let Some(volume) = device.volume() else {
            return Ok(None);
        };
        let (VolumeTarget::Local { path }, Some(seen @ Seen { block: true, .. })) =
            (&volume.target, &volume.seen)
        else {
            return Ok(None);
        };
        let (id, path, folders) = (volume.id, path.clone(), self.folders.clone());
        let look = move || {
            let real = local::allowed(id, &path, &folders)?;
            let found = std::fs::metadata(&real).map_err(|e| VolumeError::unreachable(id, &e))?;
            match found.file_type().is_block_device() {
                true => Ok(real),
                false => Err(VolumeError::NoDisk { volume: id }),
            }
        };
        let looked = tokio::task::spawn_blocking(look).await;
        let real = looked.map_err(|e| VolumeError::unreachable(id, &e))??;
        Ok(Some(Volume {
            seen: Some(Seen {
                path: Some(real),
                ..seen.clone()
            }),
            ..volume.clone()
        }))
    }
}
