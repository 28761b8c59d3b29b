//! Where a volume is now, and whether it is the same one. The kernel gives block devices their names anew when a host
//! starts, and storage services reuse theirs: what a caller's path led to once may be another's by then.

use std::path::{Path, PathBuf};

use super::{VolumeError, Volumes, blocking, layer, local};
use crate::{
    model::{BlockDevice, Volume, VolumeTarget},
    sys::block,
};

impl Volumes {
    /// The same disks as they are found now, of those on this host: a block device where its path leads.
    ///
    /// # Errors
    /// When a path leads to none any more, out of the folders, or to another disk than it did.
    pub async fn found_again(
        &self,
        devices: &[BlockDevice],
    ) -> Result<Vec<BlockDevice>, VolumeError> {
        let looked = devices.iter().map(|device| async move {
            let Some(volume) = device.volume() else {
                return Ok(device.clone());
            };
            let (VolumeTarget::Local { path }, Some(_)) = (&volume.target, &volume.seen) else {
                return Ok(device.clone());
            };
            let (path, folders) = (path.clone(), self.folders.clone());
            let found = blocking(volume, move |volume| again(volume, &path, &folders)).await?;
            Ok(device.with_volume(|_| found))
        });
        futures::future::try_join_all(looked).await
    }
}

fn again(volume: &Volume, path: &Path, folders: &[PathBuf]) -> Result<Volume, VolumeError> {
    let was_block = volume.seen.as_ref().is_some_and(|seen| seen.block);
    // A file stays where all links led when it was connected, and snapshots have put others over it since.
    let by_path = Volume {
        seen: None,
        ..volume.clone()
    };
    let found = match was_block {
        true => local::look(&by_path, path, folders)?,
        false => local::look(volume, path, folders)?,
    };
    if found.block != was_block {
        return Err(VolumeError::NoDisk { volume: volume.id });
    }
    if !was_block && volume.chain().len() > 1 {
        layer::chain(volume, folders)?;
    }
    let found = Volume {
        seen: Some(found),
        ..volume.clone()
    };
    same(volume, &found)?;
    Ok(found)
}

/// Refuses to take `found` for the volume that an instance has: one that is smaller, or another disk.
///
/// # Errors
/// `Shrunk` and `Another`.
pub fn same(known: &Volume, found: &Volume) -> Result<(), VolumeError> {
    let (Some(was), Some(is)) = (&known.seen, &found.seen) else {
        return Ok(());
    };
    let volume = known.id;
    // A disk does not lose its name; one that had none may be given one, as by a newer kernel.
    if let Some(was) = &was.identity
        && !is
            .identity
            .as_ref()
            .is_some_and(|is| block::may_be_one(was, is))
    {
        let nameless = || "one without a name of its own".to_owned();
        return Err(VolumeError::Another {
            volume,
            found: is.identity.clone().unwrap_or_else(nameless),
            known: was.clone(),
        });
    }
    match is.size < was.size {
        true => Err(VolumeError::Shrunk {
            volume,
            found: is.size,
            known: was.size,
        }),
        false => Ok(()),
    }
}
