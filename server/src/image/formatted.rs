//! Empty file systems that ephemeral disks begin as: one is made for each size and kind, the disks are overlays on it.

use std::path::Path;

use super::{
    backend::{Base, SECTOR, blocking},
    error::ImageError,
};
use crate::{
    model::{Bytes, DiskFormat},
    sys::{
        command::Command,
        file::{Durable, Part},
    },
};

/// Kinds of file systems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filesystem {
    /// Linux's usual one.
    #[default]
    Ext4,
    /// One that Windows reads too.
    Vfat,
}

impl Filesystem {
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
        }
    }

    fn longest_label(self) -> usize {
        match self {
            Self::Ext4 => 16,
            Self::Vfat => 11,
        }
    }

    fn make(self, label: &str) -> Command {
        match self {
            // What can be written when it is first used is left to the guest: the file stays nearly empty.
            Self::Ext4 => Command::new("mkfs.ext4")
                .args(["-q", "-F", "-L", label, "-E"])
                .arg("lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0,nodiscard"),
            Self::Vfat => Command::new("mkfs.vfat").args(["-n", label]),
        }
    }
}

/// The file system of this size, kind and label in `folder`, made if it is not there.
pub(super) async fn formatted(
    folder: &Path,
    filesystem: Filesystem,
    label: &str,
    size: Bytes,
) -> Result<Base, ImageError> {
    let what = || format!("{} file system {label:?} of {size}", filesystem.name());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if label.is_empty() || label.len() > filesystem.longest_label() || !label.chars().all(plain) {
        let why = "its label is not of letters, digits, '-' and '_', or too long";
        return Err(ImageError::Impossible { what: what(), why });
    }
    let size = Bytes(size.0.next_multiple_of(SECTOR));
    let path = folder.join(format!("{}-{label}-{}.raw", filesystem.name(), size.0));
    let base = Base {
        path: path.clone(),
        format: DiskFormat::Raw,
        virtual_size: size,
    };
    let (name, target) = (what(), path.clone());
    let part = blocking(move || {
        let begin = || match target.try_exists()? {
            true => Ok(None),
            false => {
                let part = Part::create(&target)?;
                part.file().set_len(size.0)?;
                Ok(Some(part))
            }
        };
        begin().map_err(|e| ImageError::storage(name, e))
    });
    let Some(part) = part.await? else {
        return Ok(base);
    };
    let made = filesystem.make(label).arg(part.path()).run().await;
    made.map_err(|e| ImageError::tool(what(), &e))?;
    let name = what();
    blocking(move || {
        let kept = part.share();
        let kept = kept.and_then(|()| part.keep_unless_there(&path, Durable::Synced));
        kept.map_err(|e| ImageError::storage(name, e))
    })
    .await?;
    Ok(base)
}
