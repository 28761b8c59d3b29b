//! Whether what was found is what was declared, and harmless. Pure.

use super::{Content, Defect, Inspection};
use crate::model::{Bytes, DiskFormat};

/// Larger than any file system here can hold: a header that says more lies.
const MAX_VIRTUAL_SIZE: u64 = 1 << 50;
/// A name out of a hostile header is told, but not at any length.
const SHOWN_NAME: usize = 80;

/// Why an image is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is something else than its caller says.
    #[error("it was declared {} and is {actual}", name(*.declared))]
    Format {
        /// What the caller says.
        declared: DiskFormat,
        /// What it is.
        actual: Content,
    },
    /// It would make QEMU open another file of this host.
    #[error("it has a backing file, {0:?}")]
    BackingFile(String),
    /// It would make QEMU open another file of this host.
    #[error("its data is in an external file")]
    DataFile,
    /// Nobody gave us a key.
    #[error("it is encrypted")]
    Encrypted,
    /// A part of it is missing.
    #[error("it is truncated: its header speaks of bytes behind its end")]
    Truncated,
    /// No program wrote it like this.
    #[error("its header is malformed: {0}")]
    Malformed(&'static str),
    /// It is newer than we are.
    #[error("it needs unknown features {0:#x}")]
    Features(u64),
    /// Its last writer found it damaged.
    #[error("it is marked as corrupt")]
    Corrupt,
    /// No disk has this size.
    #[error("its virtual size of {0} makes no sense")]
    VirtualSize(Bytes),
}

impl Unacceptable {
    /// One word for programs.
    pub fn fault(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Format { .. } => "format",
            Self::BackingFile(_) => "backing_file",
            Self::DataFile => "data_file",
            Self::Encrypted => "encrypted",
            Self::Truncated => "truncated",
            Self::Malformed(_) => "malformed",
            Self::Features(_) => "features",
            Self::Corrupt => "corrupt",
            Self::VirtualSize(_) => "virtual_size",
        }
    }
}

/// The format's name as callers write it.
pub(in crate::image) fn name(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Vmdk => "vmdk",
        DiskFormat::Vdi => "vdi",
        DiskFormat::Vhdx => "vhdx",
        DiskFormat::Vpc => "vpc",
        DiskFormat::Iso => "iso",
    }
}

impl Inspection {
    /// Whether an image of which this was found may be used as the `declared` format.
    ///
    /// # Errors
    /// The gravest reason why not.
    pub fn check(&self, declared: DiskFormat) -> Result<(), Unacceptable> {
        if self.file_size == 0 {
            return Err(Unacceptable::Empty);
        }
        if !self.content.is(declared) {
            return Err(Unacceptable::Format {
                declared,
                actual: self.content,
            });
        }
        if let Some(name) = &self.backing {
            return Err(Unacceptable::BackingFile(
                name.chars().take(SHOWN_NAME).collect(),
            ));
        }
        if self.data_file {
            return Err(Unacceptable::DataFile);
        }
        if self.encrypted {
            return Err(Unacceptable::Encrypted);
        }
        match self.defect {
            Some(Defect::Truncated) => return Err(Unacceptable::Truncated),
            Some(Defect::Malformed(what)) => return Err(Unacceptable::Malformed(what)),
            Some(Defect::Features(bits)) => return Err(Unacceptable::Features(bits)),
            Some(Defect::Corrupt) => return Err(Unacceptable::Corrupt),
            None => {}
        }
        if self.virtual_size == 0 || self.virtual_size > MAX_VIRTUAL_SIZE {
            return Err(Unacceptable::VirtualSize(Bytes(self.virtual_size)));
        }
        Ok(())
    }
}
