//! One of the two trees: its directories, their order and their places.

use std::collections::{BTreeSet, VecDeque};

use jiff::Timestamp;

use super::{
    Directory, IsoError, Node, Sectors,
    name::{Hierarchy, Of},
    push_padded,
    record::{self, Extent, Record, SECTOR, byte},
};

/// Where everything lies that directories point to.
pub(super) struct Locations<'a> {
    pub(super) contents: &'a [Extent],
    pub(super) continuation: Extent,
    pub(super) time: Timestamp,
}

struct Entry<'a> {
    identifier: Vec<u8>,
    name: &'a str,
    node: Node,
}

/// The path table exists once in each.
#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

/// A tree in one hierarchy.
pub(super) struct Tree<'a> {
    pub(super) hierarchy: Hierarchy,
    directories: &'a [Directory],
    /// What each directory holds, sorted by identifier as the format demands.
    entries: Vec<Vec<Entry<'a>>>,
    /// Directories in the order of the path table: level by level.
    order: Vec<usize>,
    /// Place of each directory.
    extents: Vec<Extent>,
    /// Place of the path table, little-endian and big-endian.
    pub(super) tables: [Extent; 2],
}

impl<'a> Tree<'a> {
    pub(super) fn new(directories: &'a [Directory], hierarchy: Hierarchy) -> Self {
        let entries: Vec<_> = directories
            .iter()
            .map(|directory| entries(directory, hierarchy))
            .collect();
        let mut order = Vec::with_capacity(directories.len());
        let mut next = VecDeque::from([0]);
        while let Some(directory) = next.pop_front() {
            order.push(directory);
            next.extend(entries[directory].iter().filter_map(Entry::directory));
        }
        Self {
            hierarchy,
            directories,
            entries,
            order,
            extents: vec![Extent::default(); directories.len()],
            tables: [Extent::default(); 2],
        }
    }

    pub(super) fn place_tables(&mut self, free: &mut Sectors) -> Result<(), IsoError> {
        // The table numbers parents in 16 bits.
        u16::try_from(self.order.len()).map_err(|_| IsoError::TooLarge)?;
        let len = self.table(Order::Little).len();
        self.tables = [free.take(len)?, free.take(len)?];
        Ok(())
    }

    pub(super) fn place_directories(
        &mut self,
        free: &mut Sectors,
        time: Timestamp,
    ) -> Result<(), IsoError> {
        for &directory in &self.order {
            // A record's length does not depend on where it points to.
            let nowhere = Locations {
                contents: &[],
                continuation: Extent::default(),
                time,
            };
            let len = self.encode(directory, &nowhere).len();
            self.extents[directory] = free.take(len.next_multiple_of(SECTOR))?;
        }
        Ok(())
    }

    pub(super) fn write_tables(&self, out: &mut Vec<u8>) {
        push_padded(out, &self.table(Order::Little));
        push_padded(out, &self.table(Order::Big));
    }

    pub(super) fn write_directories(&self, out: &mut Vec<u8>, locations: &Locations<'_>) {
        for &directory in &self.order {
            push_padded(out, &self.encode(directory, locations));
        }
    }

    /// The root's record as the volume descriptor repeats it.
    pub(super) fn root(&self, time: Timestamp) -> Vec<u8> {
        self.record(&[0], self.extents[0], &[], time)
    }

    fn record(
        &self,
        identifier: &[u8],
        extent: Extent,
        system_use: &[u8],
        time: Timestamp,
    ) -> Vec<u8> {
        let system_use = match self.hierarchy {
            Hierarchy::Primary => system_use,
            Hierarchy::Joliet => &[],
        };
        Record {
            identifier,
            extent,
            directory: true,
            time,
            system_use,
        }
        .encode()
    }

    fn encode(&self, directory: usize, locations: &Locations<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let parent = self.directories[directory].parent;
        let mut own = record::posix_attributes(true, self.links(directory));
        if directory == 0 {
            own = [
                record::sharing_protocol(),
                own,
                record::continued_at(locations.continuation),
            ]
            .concat();
        }
        let parents = record::posix_attributes(true, self.links(parent));
        out.extend(self.record(&[0], self.extents[directory], &own, locations.time));
        out.extend(self.record(&[1], self.extents[parent], &parents, locations.time));
        for entry in &self.entries[directory] {
            let record = self.entry(entry, locations);
            // A record never crosses a sector's end.
            if out.len() % SECTOR + record.len() > SECTOR {
                out.resize(out.len().next_multiple_of(SECTOR), 0);
            }
            out.extend(record);
        }
        out
    }

    fn entry(&self, entry: &Entry<'_>, locations: &Locations<'_>) -> Vec<u8> {
        let (extent, links) = match entry.node {
            Node::Directory(directory) => (self.extents[directory], self.links(directory)),
            Node::File(content) => (
                locations
                    .contents
                    .get(content.0)
                    .copied()
                    .unwrap_or_default(),
                1,
            ),
        };
        let directory = entry.directory().is_some();
        let system_use = match self.hierarchy {
            Hierarchy::Primary => [
                record::posix_attributes(directory, links),
                record::alternate_name(entry.name),
            ]
            .concat(),
            Hierarchy::Joliet => Vec::new(),
        };
        Record {
            identifier: &entry.identifier,
            extent,
            directory,
            time: locations.time,
            system_use: &system_use,
        }
        .encode()
    }

    /// As Unix counts them: its name, its own dot, and the dots of what it holds.
    fn links(&self, directory: usize) -> u32 {
        let inner = self.entries[directory]
            .iter()
            .filter_map(Entry::directory)
            .count();
        u32::try_from(inner).unwrap_or(u32::MAX).saturating_add(2)
    }

    fn table(&self, order: Order) -> Vec<u8> {
        let mut numbers = vec![1_u16; self.directories.len()];
        let mut out = Vec::new();
        for (number, &directory) in (1..).zip(&self.order) {
            numbers[directory] = number;
            let identifier = self.identifier(directory);
            out.push(byte(identifier.len()));
            out.push(0);
            out.extend(order.of32(self.extents[directory].sector));
            out.extend(order.of16(numbers[self.directories[directory].parent]));
            out.extend(identifier);
            out.resize(out.len().next_multiple_of(2), 0);
        }
        out
    }

    fn identifier(&self, directory: usize) -> &[u8] {
        let siblings = &self.entries[self.directories[directory].parent];
        siblings
            .iter()
            .find(|entry| entry.directory() == Some(directory))
            .map_or(&[0], |entry| entry.identifier.as_slice())
    }
}

impl Order {
    fn of32(self, n: u32) -> [u8; 4] {
        match self {
            Self::Little => n.to_le_bytes(),
            Self::Big => n.to_be_bytes(),
        }
    }

    fn of16(self, n: u16) -> [u8; 2] {
        match self {
            Self::Little => n.to_le_bytes(),
            Self::Big => n.to_be_bytes(),
        }
    }
}

impl Entry<'_> {
    fn directory(&self) -> Option<usize> {
        match self.node {
            Node::Directory(directory) => Some(directory),
            Node::File(_) => None,
        }
    }
}

fn entries(directory: &Directory, hierarchy: Hierarchy) -> Vec<Entry<'_>> {
    let mut taken = BTreeSet::new();
    let mut entries = Vec::with_capacity(directory.children.len());
    for (name, &node) in &directory.children {
        let of = match node {
            Node::Directory(_) => Of::Directory,
            Node::File(_) => Of::File,
        };
        let identifier = hierarchy.identifier(name, of, &taken);
        taken.insert(identifier.clone());
        entries.push(Entry {
            identifier,
            name,
            node,
        });
    }
    entries.sort_by(|a, b| a.identifier.cmp(&b.identifier));
    entries
}
