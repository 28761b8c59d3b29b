//! Writes an ISO 9660 image with Rock Ridge and Joliet names, in memory order, in one pass.
//!
//! ```text
//! sector 0   16       17      18   19           …              …                …
//!        │ empty │ primary │ Joliet │ end │ path tables │ directories │ Rock Ridge's own │ contents │
//! ```
//!
//! Two trees of directories name the same contents: Unix reads the first through Rock Ridge, Windows the second.
//! A content is written once, however many names it has. The same input gives the same bytes. Names are limited to
//! what both trees can say without tricks: this is no general-purpose writer.

mod descriptor;
mod name;
mod record;
mod tree;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    io::{self, Write},
};

use jiff::Timestamp;

use name::Hierarchy;
use record::{Extent, SECTOR};
use tree::Tree;

/// Where the path tables begin: behind the empty system area and three descriptors.
const FIRST_FREE_SECTOR: u32 = 19;

/// What both volume descriptors have room for: Joliet's 32 bytes hold 16 characters.
const LABEL_MAX: usize = 16;

/// ISO 9660 allows eight levels of directories, the root among them.
const DEPTH_MAX: usize = 8;

/// Why a file cannot be placed on an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsoError {
    /// The label is empty, too long or not plain.
    #[error("volume label {label:?} must be 1 to 16 of A-Z a-z 0-9 . _ -")]
    Label {
        /// The label.
        label: String,
    },
    /// A part of the path is empty, too long or not plain.
    #[error("path {path:?} must consist of names of 1 to 64 of A-Z a-z 0-9 . _ -")]
    Name {
        /// The whole path.
        path: String,
    },
    /// The path has more levels than the format knows.
    #[error("path {path:?} has more than 8 levels")]
    TooDeep {
        /// The whole path.
        path: String,
    },
    /// The path is taken, or runs through a file.
    #[error("path {path:?} is already on the image")]
    Duplicate {
        /// The whole path.
        path: String,
    },
    /// More bytes or more directories than the format can number.
    #[error("the image has more bytes or directories than its format can number")]
    TooLarge,
}

/// Bytes on an image, to be named by [`Image::file`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content(usize);

#[derive(Clone, Copy)]
enum Node {
    Directory(usize),
    File(Content),
}

#[derive(Default)]
struct Directory {
    parent: usize,
    children: BTreeMap<String, Node>,
}

/// An image that is being put together.
pub struct Image<'a> {
    label: String,
    time: Timestamp,
    /// The root is the first one and its own parent.
    directories: Vec<Directory>,
    contents: Vec<Cow<'a, [u8]>>,
}

impl fmt::Debug for Image<'_> {
    /// Contents may hold secrets: only their number is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("label", &self.label)
            .field("directories", &self.directories.len())
            .field("contents", &self.contents.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Image<'a> {
    /// An empty image whose files were all made at `time`.
    pub fn new(label: &str, time: Timestamp) -> Result<Self, IsoError> {
        let plain = name::is_plain(label) && label.len() <= LABEL_MAX;
        let label = label.to_owned();
        if !plain {
            return Err(IsoError::Label { label });
        }
        Ok(Self {
            label,
            time,
            directories: vec![Directory::default()],
            contents: Vec::new(),
        })
    }

    /// Takes bytes that one or more files will consist of.
    pub fn content(&mut self, bytes: impl Into<Cow<'a, [u8]>>) -> Content {
        self.contents.push(bytes.into());
        Content(self.contents.len() - 1)
    }

    /// Places a content at `path`, as in `openstack/latest/user_data`; missing directories are made.
    pub fn file(&mut self, path: &str, content: Content) -> Result<(), IsoError> {
        let parts: Vec<&str> = path.split('/').collect();
        if !parts.iter().all(|part| name::is_plain(part)) {
            return Err(IsoError::Name { path: path.into() });
        }
        if parts.len() > DEPTH_MAX {
            return Err(IsoError::TooDeep { path: path.into() });
        }
        let duplicate = || IsoError::Duplicate { path: path.into() };
        let (file, parents) = parts.split_last().ok_or_else(duplicate)?;
        let mut at = 0;
        for part in parents {
            at = self.directory(at, part).ok_or_else(duplicate)?;
        }
        let children = &mut self.directories[at].children;
        if children.contains_key(*file) {
            return Err(duplicate());
        }
        children.insert((*file).to_owned(), Node::File(content));
        Ok(())
    }

    /// The directory `name` in `parent`, made when it is missing; `None` when that is a file.
    fn directory(&mut self, parent: usize, name: &str) -> Option<usize> {
        match self.directories[parent].children.get(name) {
            Some(Node::Directory(found)) => return Some(*found),
            Some(Node::File(_)) => return None,
            None => {}
        }
        let made = self.directories.len();
        self.directories.push(Directory {
            parent,
            children: BTreeMap::new(),
        });
        let children = &mut self.directories[parent].children;
        children.insert(name.to_owned(), Node::Directory(made));
        Some(made)
    }

    /// The finished image, ready to be written.
    pub fn finish(self) -> Result<Finished<'a>, IsoError> {
        let mut free = Sectors(FIRST_FREE_SECTOR);
        let mut trees = [Hierarchy::Primary, Hierarchy::Joliet]
            .map(|hierarchy| Tree::new(&self.directories, hierarchy));
        for tree in &mut trees {
            tree.place_tables(&mut free)?;
        }
        for tree in &mut trees {
            tree.place_directories(&mut free, self.time)?;
        }
        // Behind the directories: libarchive reads forwards only and refuses it before them.
        let continuation = free.take(record::continuation().len())?;
        let contents: Vec<Extent> = self
            .contents
            .iter()
            .map(|bytes| free.take(bytes.len()))
            .collect::<Result<_, _>>()?;

        let mut head = vec![0; descriptor::FIRST_SECTOR * SECTOR];
        for tree in &trees {
            let volume = descriptor::Volume {
                label: &self.label,
                time: self.time,
                sectors: free.0,
                tree,
            };
            head.extend(volume.encode());
        }
        head.extend(descriptor::terminator());
        for tree in &trees {
            tree.write_tables(&mut head);
        }
        for tree in &trees {
            tree.write_directories(
                &mut head,
                &tree::Locations {
                    contents: &contents,
                    continuation,
                    time: self.time,
                },
            );
        }
        push_padded(&mut head, &record::continuation());
        Ok(Finished {
            head,
            contents: self.contents,
            len: u64::from(free.0) * SECTOR as u64,
        })
    }
}

/// A finished image: its directories encoded, its contents still where the caller keeps them.
pub struct Finished<'a> {
    head: Vec<u8>,
    contents: Vec<Cow<'a, [u8]>>,
    len: u64,
}

impl fmt::Debug for Finished<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Finished<'_> {
    /// Size of the image in bytes.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// Writes the image.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.head)?;
        for bytes in &self.contents {
            out.write_all(bytes)?;
            out.write_all(&[0; SECTOR][..padding(bytes.len())])?;
        }
        Ok(())
    }
}

/// Hands out sectors, first come first.
struct Sectors(u32);

impl Sectors {
    fn take(&mut self, bytes: usize) -> Result<Extent, IsoError> {
        let extent = Extent {
            sector: self.0,
            len: u32::try_from(bytes).map_err(|_| IsoError::TooLarge)?,
        };
        let sectors = u32::try_from(bytes.div_ceil(SECTOR)).map_err(|_| IsoError::TooLarge)?;
        self.0 = self.0.checked_add(sectors).ok_or(IsoError::TooLarge)?;
        Ok(extent)
    }
}

fn padding(len: usize) -> usize {
    len.next_multiple_of(SECTOR) - len
}

fn push_padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(SECTOR), 0);
}
