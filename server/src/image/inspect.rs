//! What a file really is, read from its own header before any other program opens it.
//!
//! A disk image comes from a stranger. QEMU follows what a header says: a backing file or an external data file
//! named there is opened on this host and shown to the guest. So the header is read here first, by code that reads a
//! bounded number of bytes, follows no name and cannot panic, and [`Inspection::check`] refuses whatever is not
//! exactly what its caller declared. Nothing here decides by a file's name.

mod qcow2;
mod read;
mod verdict;
mod virtual_pc;
mod vmdk;

use std::{
    fmt,
    io::{self, Read, Seek},
};

use self::read::Reader;
pub use self::verdict::Unacceptable;
pub(super) use self::verdict::name;
use crate::model::DiskFormat;

/// What a file's content says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing that we know: sectors, or anything else.
    Unknown,
    /// Sectors with a partition table of the old kind.
    Mbr,
    /// Sectors with a GUID partition table.
    Gpt,
    /// An ISO 9660 file system, perhaps with a boot sector before it.
    Iso,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
    /// Its first version.
    Qcow,
    /// QEMU's short-lived enhanced format.
    Qed,
    /// A VMware extent with its descriptor in it.
    Vmdk,
    /// A VMware descriptor that names other files, or an extent without one.
    VmdkParts,
    /// Virtual PC's format.
    Vpc,
    /// Hyper-V's format.
    Vhdx,
    /// VirtualBox's format.
    Vdi,
    /// An encrypted container.
    Luks,
    /// The format of Parallels.
    Parallels,
    /// The format of Bochs.
    Bochs,
    /// A compressed loop image.
    Cloop,
    /// Apple's format.
    Dmg,
}

/// What a header says. Hostile until [`Inspection::check`] has accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Inspection {
    /// What the file is.
    pub content: Content,
    /// Its length.
    pub file_size: u64,
    /// The size of the disk that a guest would see.
    pub virtual_size: u64,
    /// The file under it, as its header names it.
    pub backing: Option<String>,
    /// What its header says is in the file under it.
    pub backing_format: Option<String>,
    /// Whether nothing was ever written to it, so that it shows what is under it; known of qcow2 only.
    pub blank: bool,
    /// Whether its data lies in another file.
    pub data_file: bool,
    /// Whether a key is needed to read it.
    pub encrypted: bool,
    /// What is wrong with the header itself.
    pub defect: Option<Defect>,
}

/// What can be wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// It speaks of bytes beyond the file's end.
    Truncated,
    /// A field has a value that it cannot have.
    Malformed(&'static str),
    /// It needs features that we do not know.
    Features(u64),
    /// The program that wrote it has marked it as damaged.
    Corrupt,
}

impl Inspection {
    fn sectors(content: Content, file_size: u64) -> Self {
        Self {
            content,
            file_size,
            virtual_size: file_size,
            backing: None,
            backing_format: None,
            blank: false,
            data_file: false,
            encrypted: false,
            defect: None,
        }
    }

    fn broken(content: Content, file_size: u64, defect: Defect) -> Self {
        Self {
            virtual_size: 0,
            defect: Some(defect),
            ..Self::sectors(content, file_size)
        }
    }
}

/// Reads what `file` is.
///
/// # Errors
/// Only those of reading; a header that makes no sense is an [`Inspection`] that says so.
pub fn inspect<F: Read + Seek>(file: F) -> io::Result<Inspection> {
    let mut file = Reader::new(file)?;
    let start = file.up_to(0, 1024)?;
    let size = file.len();
    let plain = |content| Ok(Inspection::sectors(content, size));
    match &start[..] {
        [b'Q', b'F', b'I', 0xfb, 0, 0, 0, 1, ..] => plain(Content::Qcow),
        [b'Q', b'F', b'I', 0xfb, ..] => qcow2::inspect(&mut file),
        [b'Q', b'E', b'D', 0, ..] => plain(Content::Qed),
        [b'K', b'D', b'M', b'V', ..] => vmdk::inspect(&mut file),
        [b'C', b'O', b'W', b'D', ..] => plain(Content::VmdkParts),
        s if s.starts_with(b"# Disk DescriptorFile") => plain(Content::VmdkParts),
        s if s.starts_with(b"vhdxfile") => virtual_pc::vhdx(&mut file),
        s if s.get(64..68) == Some(&[0x7f, 0x10, 0xda, 0xbe]) => virtual_pc::vdi(&mut file),
        s if s.starts_with(b"LUKS\xba\xbe") || s.starts_with(b"SKUL\xba\xbe") => {
            plain(Content::Luks)
        }
        s if s.starts_with(b"WithoutFreeSpace") || s.starts_with(b"WithouFreSpacExt") => {
            plain(Content::Parallels)
        }
        s if s.starts_with(b"Bochs Virtual HD Image") => plain(Content::Bochs),
        s if s.starts_with(b"#!/bin/sh\n#V2.0 Format") => plain(Content::Cloop),
        s => match virtual_pc::vhd(&mut file)? {
            Some(vhd) => Ok(vhd),
            None => plain(sectors(&mut file, s)?),
        },
    }
}

/// Which kind of bare sectors these are.
fn sectors<F: Read + Seek>(file: &mut Reader<F>, start: &[u8]) -> io::Result<Content> {
    if file.up_to(file.len().saturating_sub(512), 4)? == b"koly" {
        return Ok(Content::Dmg);
    }
    if file.up_to(0x8001, 5)? == b"CD001" {
        return Ok(Content::Iso);
    }
    // The header of a disk with sectors of 512 and of 4096 bytes.
    if start.get(512..520) == Some(b"EFI PART") || file.up_to(4096, 8)? == b"EFI PART" {
        return Ok(Content::Gpt);
    }
    let mbr = start.get(510..512) == Some(&[0x55, 0xaa]);
    Ok(if mbr { Content::Mbr } else { Content::Unknown })
}

impl Content {
    /// Whether a file of this content may be declared as `format`.
    pub fn is(self, format: DiskFormat) -> bool {
        use DiskFormat as F;
        match self {
            Self::Unknown | Self::Mbr | Self::Gpt => format == F::Raw,
            // An ISO image is sectors too: a hybrid one boots as a disk.
            Self::Iso => matches!(format, F::Iso | F::Raw),
            Self::Qcow2 => format == F::Qcow2,
            Self::Vmdk => format == F::Vmdk,
            Self::Vpc => format == F::Vpc,
            Self::Vhdx => format == F::Vhdx,
            Self::Vdi => format == F::Vdi,
            _ => false,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "raw",
            Self::Mbr => "raw with an MBR",
            Self::Gpt => "raw with a GPT",
            Self::Iso => "iso",
            Self::Qcow2 => "qcow2",
            Self::Qcow => "qcow version 1",
            Self::Qed => "qed",
            Self::Vmdk => "vmdk",
            Self::VmdkParts => "vmdk in parts",
            Self::Vpc => "vpc",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
            Self::Luks => "luks",
            Self::Parallels => "parallels",
            Self::Bochs => "bochs",
            Self::Cloop => "cloop",
            Self::Dmg => "dmg",
        })
    }
}

#[cfg(test)]
mod tests;
