//! The volume descriptors: where a reader starts.

use jiff::Timestamp;

use super::{
    name::Hierarchy,
    record::{SECTOR, both16, both32, long_date},
    tree::Tree,
};

/// Where the first descriptor lies.
pub(super) const FIRST_SECTOR: usize = 16;

/// UCS-2 level 3: marks a supplementary descriptor as Joliet's.
const JOLIET_ESCAPE: &[u8] = b"%/E";

/// No such date.
const NEVER: &[u8; 17] = b"0000000000000000\0";

/// What a volume descriptor tells.
pub(super) struct Volume<'a> {
    pub(super) label: &'a str,
    pub(super) time: Timestamp,
    /// Size of the whole image.
    pub(super) sectors: u32,
    pub(super) tree: &'a Tree<'a>,
}

impl Volume<'_> {
    /// One sector, field after field in the standard's order.
    pub(super) fn encode(&self) -> Vec<u8> {
        let hierarchy = self.tree.hierarchy;
        let (kind, escape) = match hierarchy {
            Hierarchy::Primary => (1, &b""[..]),
            Hierarchy::Joliet => (2, JOLIET_ESCAPE),
        };
        let mut out = header(kind);
        out.push(0);
        out.extend(hierarchy.text("LINUX", 32));
        out.extend(hierarchy.text(self.label, 32));
        out.resize(80, 0);
        out.extend(both32(self.sectors));
        out.extend(escape);
        out.resize(120, 0);
        out.extend(both16(1));
        out.extend(both16(1));
        out.extend(both16(2048));
        let [little, big] = self.tree.tables;
        out.extend(both32(little.len));
        out.extend(little.sector.to_le_bytes());
        out.extend([0; 4]);
        out.extend(big.sector.to_be_bytes());
        out.extend([0; 4]);
        out.extend(self.tree.root(self.time));
        for (text, len) in [
            ("", 128),
            ("COMPUTELET", 128),
            ("COMPUTELET", 128),
            ("COMPUTELET", 128),
            ("", 37),
            ("", 37),
            ("", 37),
        ] {
            out.extend(hierarchy.text(text, len));
        }
        let made = long_date(self.time);
        out.extend(&made);
        out.extend(&made);
        out.extend(NEVER);
        out.extend(&made);
        out.push(1);
        out.resize(SECTOR, 0);
        out
    }
}

/// Ends the list of descriptors.
pub(super) fn terminator() -> Vec<u8> {
    let mut out = header(255);
    out.resize(SECTOR, 0);
    out
}

fn header(kind: u8) -> Vec<u8> {
    [&[kind], b"CD001".as_slice(), &[1]].concat()
}
