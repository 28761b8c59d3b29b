//! QEMU's copy-on-write format, versions 2 and 3 (`docs/interop/qcow2.rst` of QEMU).

use std::io::{self, Read, Seek};

use super::{
    Content, Defect, Inspection,
    read::{Fields, Reader},
};

const V2_HEADER: u32 = 72;
const V3_HEADER: u32 = 104;

/// Incompatible features: the image was not closed; it is damaged; its data is elsewhere; clusters are compressed in
/// another way than zlib's; L2 entries have twice the size.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;

/// The header extension that says what is in the backing file.
const BACKING_FORMAT: u32 = 0xE279_2ACA;
/// QEMU's own bound on that.
const MAX_FORMAT: u64 = 15;
/// The header extension that names an external data file.
const DATA_FILE_NAME: u32 = 0x4441_5441;
/// QEMU writes half a dozen; the rest is somebody's game with us.
const MAX_EXTENSIONS: usize = 64;
/// QEMU's own bound: `QCOW_MAX_L1_SIZE`.
const MAX_L1: u64 = 32 << 20;
/// Bytes of L2 tables that are looked through for clusters beyond the file's end: enough for 512 GiB of written data
/// with the usual clusters, and a fraction of a second.
const L2_BUDGET: u64 = 64 << 20;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;

struct Header {
    version: u32,
    backing: u64,
    backing_len: u32,
    cluster_bits: u32,
    size: u64,
    crypt: u32,
    l1_entries: u32,
    l1: u64,
    refcounts: u64,
    refcount_clusters: u32,
    snapshots: u32,
    snapshots_at: u64,
    incompatible: u64,
    refcount_order: u32,
    length: u32,
}

impl Header {
    fn read(h: &[u8]) -> Self {
        let v3 = h.be32(4) >= 3;
        Self {
            version: h.be32(4),
            backing: h.be64(8),
            backing_len: h.be32(16),
            cluster_bits: h.be32(20),
            size: h.be64(24),
            crypt: h.be32(32),
            l1_entries: h.be32(36),
            l1: h.be64(40),
            refcounts: h.be64(48),
            refcount_clusters: h.be32(56),
            snapshots: h.be32(60),
            snapshots_at: h.be64(64),
            incompatible: if v3 { h.be64(72) } else { 0 },
            refcount_order: if v3 { h.be32(96) } else { 4 },
            length: if v3 { h.be32(100) } else { V2_HEADER },
        }
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn l2_entry(&self) -> u64 {
        if self.incompatible & EXTENDED_L2 == 0 {
            8
        } else {
            16
        }
    }

    /// How many L1 entries the disk's size needs.
    fn l1_needed(&self) -> u64 {
        self.size
            .div_ceil(self.cluster() * (self.cluster() / self.l2_entry()))
    }

    /// The fields that can be judged by themselves.
    fn sanity(&self) -> Result<(), Defect> {
        let malformed = |what| Err(Defect::Malformed(what));
        if !matches!(self.version, 2 | 3) {
            return malformed("version");
        }
        if self.incompatible & !KNOWN != 0 {
            return Err(Defect::Features(self.incompatible & !KNOWN));
        }
        if self.incompatible & CORRUPT != 0 {
            return Err(Defect::Corrupt);
        }
        if !(9..=21).contains(&self.cluster_bits) {
            return malformed("cluster bits");
        }
        if self.refcount_order > 6 {
            return malformed("refcount order");
        }
        let minimum = if self.version == 2 {
            V2_HEADER
        } else {
            V3_HEADER
        };
        if self.length < minimum
            || u64::from(self.length) > self.cluster()
            || !self.length.is_multiple_of(8)
        {
            return malformed("header length");
        }
        Ok(())
    }

    /// The tables: aligned, of a size that the disk's own size asks for.
    fn tables(&self, file_size: u64) -> Result<(), Defect> {
        let malformed = |what| Err(Defect::Malformed(what));
        let l1_bytes = u64::from(self.l1_entries) * 8;
        if l1_bytes > MAX_L1 || u64::from(self.l1_entries) < self.l1_needed() {
            return malformed("l1 table size");
        }
        let refcount_bytes = u64::from(self.refcount_clusters) << self.cluster_bits;
        if refcount_bytes == 0 || refcount_bytes > 8 << 20 {
            return malformed("refcount table size");
        }
        // QEMU's own bound on snapshots; one entry has at least 40 bytes.
        if self.snapshots > 65536 {
            return malformed("snapshot count");
        }
        for (at, bytes) in [
            (self.l1, l1_bytes),
            (self.refcounts, refcount_bytes),
            (self.snapshots_at, u64::from(self.snapshots) * 40),
        ] {
            if bytes > 0 && at % self.cluster() != 0 {
                return malformed("table offset");
            }
            if bytes > 0 && at.checked_add(bytes).is_none_or(|end| end > file_size) {
                return Err(Defect::Truncated);
            }
        }
        Ok(())
    }
}

pub(super) fn inspect<F: Read + Seek>(file: &mut Reader<F>) -> io::Result<Inspection> {
    let raw = file.up_to(0, 512)?;
    if raw.len() < V2_HEADER as usize {
        return Ok(Inspection::broken(
            Content::Qcow2,
            file.len(),
            Defect::Truncated,
        ));
    }
    let header = Header::read(&raw);
    let mut found = Inspection {
        virtual_size: header.size,
        backing: backing(file, &header)?,
        data_file: header.incompatible & DATA_FILE != 0,
        encrypted: header.crypt != 0,
        defect: header.sanity().err(),
        ..Inspection::sectors(Content::Qcow2, file.len())
    };
    if found.defect.is_none() {
        match extensions(file, &header)? {
            Ok(Extensions {
                data_file,
                backing_format,
            }) => {
                found.data_file |= data_file;
                found.backing_format = backing_format;
            }
            Err(defect) => found.defect = Some(defect),
        }
    }
    // Clusters of an image with an external data file lie there, so it is refused before they could count.
    if found.defect.is_none() && !found.data_file {
        found.defect = header.tables(file.len()).err();
        if found.defect == Some(Defect::Truncated) {
            found.defect = header.tables(file.measured()?).err();
        }
        if found.defect.is_none() {
            let Written { anything, beyond } = written(file, &header)?;
            found.defect = beyond.then_some(Defect::Truncated);
            found.blank = !anything && header.snapshots == 0;
        }
    }
    Ok(found)
}

/// The backing file's name: any that the header speaks of, be it ever so odd.
fn backing<F: Read + Seek>(file: &mut Reader<F>, header: &Header) -> io::Result<Option<String>> {
    if header.backing == 0 && header.backing_len == 0 {
        return Ok(None);
    }
    // QEMU takes names of up to 1023 bytes.
    let want = usize::try_from(header.backing_len.min(1023)).unwrap_or(0);
    let name = file.up_to(header.backing, want)?;
    Ok(Some(String::from_utf8_lossy(&name).into_owned()))
}

/// What the header extensions say.
#[derive(Default)]
struct Extensions {
    /// Whether they name an external data file.
    data_file: bool,
    backing_format: Option<String>,
}

fn extensions<F: Read + Seek>(
    file: &mut Reader<F>,
    header: &Header,
) -> io::Result<Result<Extensions, Defect>> {
    let mut found = Extensions::default();
    let end = match header.backing {
        0 => header.cluster(),
        at => at.min(header.cluster()),
    };
    let mut at = u64::from(header.length);
    for _ in 0..MAX_EXTENSIONS {
        if at + 8 > end {
            return Ok(Ok(found));
        }
        let Some(head) = file.exactly::<8>(at)? else {
            return Ok(Err(Defect::Truncated));
        };
        let (kind, length) = (head[..].be32(0), u64::from(head[..].be32(4)));
        match kind {
            0 => return Ok(Ok(found)),
            DATA_FILE_NAME => {
                found.data_file = true;
                return Ok(Ok(found));
            }
            _ if length > end - at - 8 => {
                return Ok(Err(Defect::Malformed("header extension")));
            }
            BACKING_FORMAT if length <= MAX_FORMAT => {
                let name = file.up_to(at + 8, usize::try_from(length).unwrap_or(0))?;
                found.backing_format = Some(String::from_utf8_lossy(&name).into_owned());
            }
            _ => {}
        }
        at += 8 + length.next_multiple_of(8);
    }
    Ok(Err(Defect::Malformed("header extensions")))
}

/// What the tables say of an image's clusters.
struct Written {
    /// Whether there is any.
    anything: bool,
    /// Whether tables or clusters lie behind the end of the file, as those of a download cut short do.
    beyond: bool,
}

/// A cluster counts by its first byte: the last one of a good image may be written in part. A guest may write to the file
/// meanwhile, and its tables then speak of what lies behind the end that the file had: only one that is still too short is.
fn written<F: Read + Seek>(file: &mut Reader<F>, header: &Header) -> io::Result<Written> {
    let mut anything = false;
    let answer = |anything, beyond| Ok(Written { anything, beyond });
    let mut budget = L2_BUDGET;
    let mut l1 = Vec::new();
    for entry in 0..header.l1_needed() {
        if entry % 8192 == 0 {
            l1 = file.up_to(header.l1 + entry * 8, 8192 * 8)?;
        }
        let place = usize::try_from(entry % 8192 * 8).unwrap_or(usize::MAX);
        let l2 = l1[..].be64(place) & OFFSET;
        if l2 == 0 {
            continue;
        }
        anything = true;
        if !file.holds(l2, header.cluster()) {
            file.measured()?;
            if !file.holds(l2, header.cluster()) {
                return answer(anything, true);
            }
        }
        if budget >= header.cluster() {
            budget -= header.cluster();
            let table = file.up_to(l2, usize::try_from(header.cluster()).unwrap_or(0))?;
            if clusters_beyond(&table, header, file.len())
                && clusters_beyond(&table, header, file.measured()?)
            {
                return answer(anything, true);
            }
        }
    }
    answer(anything, false)
}

fn clusters_beyond(table: &[u8], header: &Header, file_size: u64) -> bool {
    // The bits of a compressed cluster's offset; those above count its sectors.
    let compressed_offset = (1 << (62 - (header.cluster_bits - 8))) - 1;
    let step = if header.l2_entry() == 16 { 16 } else { 8 };
    table.chunks_exact(step).any(|entry| {
        let entry = entry.be64(0);
        let at = if entry & COMPRESSED == 0 {
            entry & OFFSET
        } else {
            entry & compressed_offset
        };
        at != 0 && at >= file_size
    })
}
