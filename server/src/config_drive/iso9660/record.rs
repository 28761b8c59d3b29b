//! Directory records and Rock Ridge's fields in them, byte by byte.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Bytes of a sector.
pub(super) const SECTOR: usize = 2048;

/// A record's bytes before its identifier.
const FIXED: usize = 33;

const FLAG_DIRECTORY: u8 = 2;

/// Readable by all, as Nova's own drives are: only the guest's root can reach the device.
const MODE_DIRECTORY: u32 = 0o040_555;
const MODE_FILE: u32 = 0o100_444;

/// Where bytes lie on the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) sector: u32,
    pub(super) len: u32,
}

/// A directory entry.
pub(super) struct Record<'a> {
    pub(super) identifier: &'a [u8],
    pub(super) extent: Extent,
    pub(super) directory: bool,
    pub(super) time: Timestamp,
    /// Rock Ridge's fields; empty in the Joliet tree.
    pub(super) system_use: &'a [u8],
}

impl Record<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0, 0];
        out.extend(both32(self.extent.sector));
        out.extend(both32(self.extent.len));
        out.extend(short_date(self.time));
        out.push(if self.directory { FLAG_DIRECTORY } else { 0 });
        out.extend([0, 0]);
        out.extend(both16(1));
        out.push(byte(self.identifier.len()));
        debug_assert_eq!(out.len(), FIXED);
        out.extend(self.identifier);
        out.resize(out.len().next_multiple_of(2), 0);
        out.extend(self.system_use);
        out.resize(out.len().next_multiple_of(2), 0);
        out[0] = byte(out.len());
        out
    }
}

/// Rock Ridge: owner root, and the rights that everything on the image has.
pub(super) fn posix_attributes(directory: bool, links: u32) -> Vec<u8> {
    let mode = if directory { MODE_DIRECTORY } else { MODE_FILE };
    let numbers = [mode, links, 0, 0];
    field(*b"PX", &numbers.map(both32).concat())
}

/// Rock Ridge: the true name.
pub(super) fn alternate_name(name: &str) -> Vec<u8> {
    field(*b"NM", &[&[0], name.as_bytes()].concat())
}

/// Says that the fields are there; first in the root's own record.
pub(super) fn sharing_protocol() -> Vec<u8> {
    field(*b"SP", &[0xbe, 0xef, 0])
}

/// Says which fields are used. Too long for a directory record, so it lies apart.
pub(super) fn continuation() -> Vec<u8> {
    let id = b"RRIP_1991A".as_slice();
    let description =
        b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"
            .as_slice();
    let source = b"PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION.".as_slice();
    let lengths = [
        byte(id.len()),
        byte(description.len()),
        byte(source.len()),
        1,
    ];
    field(*b"ER", &[&lengths, id, description, source].concat())
}

/// Points to [`continuation`].
pub(super) fn continued_at(extent: Extent) -> Vec<u8> {
    let numbers = [extent.sector, 0, extent.len];
    field(*b"CE", &numbers.map(both32).concat())
}

fn field(signature: [u8; 2], body: &[u8]) -> Vec<u8> {
    [&signature, [byte(body.len() + 4), 1].as_slice(), body].concat()
}

/// Both byte orders, as the format wants most of its numbers.
pub(super) fn both32(n: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&n.to_le_bytes());
    out[4..].copy_from_slice(&n.to_be_bytes());
    out
}

/// Both byte orders.
pub(super) fn both16(n: u16) -> [u8; 4] {
    let [a, b] = n.to_le_bytes();
    [a, b, b, a]
}

/// Years since 1900, and UTC.
fn short_date(time: Timestamp) -> [u8; 7] {
    let at = civil(time);
    let year = (at.year() - 1900).clamp(0, 255);
    let parts = [at.month(), at.day(), at.hour(), at.minute(), at.second()];
    let [month, day, hour, minute, second] = parts.map(i8::unsigned_abs);
    let year = u8::try_from(year).expect("clamped to a byte");
    [year, month, day, hour, minute, second, 0]
}

/// A descriptor's date: digits, and UTC.
pub(super) fn long_date(time: Timestamp) -> Vec<u8> {
    let at = civil(time);
    let mut out = at.strftime("%Y%m%d%H%M%S00").to_string().into_bytes();
    out.push(0);
    out
}

fn civil(time: Timestamp) -> DateTime {
    time.to_zoned(TimeZone::UTC).datetime()
}

/// A length that the format keeps in one byte; names are limited so that it always fits.
pub(super) fn byte(len: usize) -> u8 {
    u8::try_from(len).expect("names are at most 64 characters, so every record fits 255 bytes")
}
