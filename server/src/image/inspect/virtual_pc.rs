//! The formats of Virtual PC (VHD), Hyper-V (VHDX) and VirtualBox (VDI).

use std::io::{self, Read, Seek};

use super::{
    Content, Defect, Inspection,
    read::{Fields, Reader},
};

/// The largest geometry: all larger disks have it, and QEMU's own when asked for an exact size.
const MAX_GEOMETRY: u64 = 65535 * 16 * 255 * 512;

/// A VHD by its footer, which a dynamic one repeats at its beginning.
pub(super) fn vhd<F: Read + Seek>(file: &mut Reader<F>) -> io::Result<Option<Inspection>> {
    let mut footer = file.up_to(0, 512)?;
    if !footer.starts_with(b"conectix") {
        // Old ones end with a footer of 511 bytes.
        footer = file.up_to(file.len().saturating_sub(512), 512)?;
        if footer.get(1..9) == Some(b"conectix") {
            footer.remove(0);
        }
    }
    if !footer.starts_with(b"conectix") {
        return Ok(None);
    }
    let mut found = Inspection::sectors(Content::Vpc, file.len());
    // QEMU takes the size from the geometry or from the field, depending on who wrote it: the larger one counts.
    let [heads, sectors] = footer.piece::<2>(58);
    let cylinders = u16::from_be_bytes(footer.piece(56));
    let geometry = u64::from(cylinders) * u64::from(heads) * u64::from(sectors) * 512;
    let named = footer.be64(48);
    found.virtual_size = if geometry == MAX_GEOMETRY {
        named
    } else {
        named.max(geometry)
    };
    match footer.be32(60) {
        2 => {
            let data = found.file_size.saturating_sub(512);
            let short = footer.be64(48) > data;
            found.defect = short.then_some(Defect::Truncated);
        }
        3 => {
            let table = file.exactly::<8>(footer.be64(16))?;
            if table.as_ref() != Some(b"cxsparse") {
                found.defect = Some(Defect::Malformed("dynamic header"));
            }
        }
        4 => found.backing = Some("parent disk".to_owned()),
        _ => found.defect = Some(Defect::Malformed("disk type")),
    }
    Ok(Some(found))
}

/// GUIDs as they lie in the file.
const METADATA_REGION: [u8; 16] = guid(0x8B7C_A206, 0x4790, 0x4B9A, 0xB8FE_575F_050F_886E);
const FILE_PARAMETERS: [u8; 16] = guid(0xCAA1_6737, 0xFA36, 0x4D43, 0xB3B6_33F0_AA44_E76B);
const VIRTUAL_SIZE: [u8; 16] = guid(0x2FA5_4224, 0xCD1B, 0x4876, 0xB211_5DBE_D83B_F4B8);
const PARENT_LOCATOR: [u8; 16] = guid(0xA8D3_5F2D, 0xB30B, 0x454D, 0xABF7_D3D8_4834_AB0C);
/// The bounds that the format itself sets on entries of the two tables.
const MAX_ENTRIES: usize = 2047;

const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let (a, b, c, d) = (
        a.to_le_bytes(),
        b.to_le_bytes(),
        c.to_le_bytes(),
        d.to_be_bytes(),
    );
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6],
        d[7],
    ]
}

/// A VHDX by its region and metadata tables.
pub(super) fn vhdx<F: Read + Seek>(file: &mut Reader<F>) -> io::Result<Inspection> {
    let size = file.len();
    let broken = |defect| Ok(Inspection::broken(Content::Vhdx, size, defect));
    let mut places = Vec::new();
    // Two copies of one table; whichever of them QEMU would take, both must say the same.
    for at in [192 << 10, 256 << 10] {
        let table = file.up_to(at, 64 << 10)?;
        places.push(metadata_place(&table));
    }
    let [Some(place), Some(other)] = places[..] else {
        return broken(Defect::Malformed("region table"));
    };
    if place != other {
        return broken(Defect::Malformed("region tables that differ"));
    }
    let table = file.up_to(place, 64 << 10)?;
    if table.len() < 64 << 10 {
        return broken(Defect::Truncated);
    }
    if !table.starts_with(b"metadata") {
        return broken(Defect::Malformed("metadata table"));
    }
    items(file, place, &table)
}

/// Where the region table says that the metadata are.
fn metadata_place(table: &[u8]) -> Option<u64> {
    if !table.starts_with(b"regi") {
        return None;
    }
    let entries = usize::try_from(table.le32(8))
        .unwrap_or(usize::MAX)
        .min(MAX_ENTRIES);
    let entries = table.get(16..)?.chunks_exact(32).take(entries);
    let mut places = entries
        .filter(|e| e.starts_with(&METADATA_REGION))
        .map(|e| e.le64(16));
    places.next()
}

fn items<F: Read + Seek>(file: &mut Reader<F>, place: u64, table: &[u8]) -> io::Result<Inspection> {
    let mut found = Inspection::sectors(Content::Vhdx, file.len());
    found.virtual_size = 0;
    let entries = usize::from(table.le16(10)).min(MAX_ENTRIES);
    for entry in table[32..].chunks_exact(32).take(entries) {
        let at = place.saturating_add(u64::from(entry.le32(16)));
        let value = file.up_to(at, 8)?;
        match entry.piece::<16>(0) {
            VIRTUAL_SIZE => found.virtual_size = found.virtual_size.max(value.le64(0)),
            // The second bit says that there is a parent.
            FILE_PARAMETERS if value.le32(4) & 2 == 0 => {}
            FILE_PARAMETERS | PARENT_LOCATOR => found.backing = Some("parent disk".to_owned()),
            _ => {}
        }
    }
    Ok(found)
}

/// A VDI by its header.
pub(super) fn vdi<F: Read + Seek>(file: &mut Reader<F>) -> io::Result<Inspection> {
    let header = file.up_to(0, 512)?;
    if header.len() < 512 {
        return Ok(Inspection::broken(
            Content::Vdi,
            file.len(),
            Defect::Truncated,
        ));
    }
    let mut found = Inspection::sectors(Content::Vdi, file.len());
    found.virtual_size = header.le64(368);
    // Dynamic and static ones; the others are differences to another image, which these two ids name.
    let linked = header.piece::<16>(424) != [0; 16] || header.piece::<16>(440) != [0; 16];
    if !matches!(header.le32(76), 1 | 2) || linked {
        found.backing = Some("parent disk".to_owned());
    }
    let map = (u64::from(header.le32(340)), u64::from(header.le32(384)) * 4);
    if header.le32(360) != 512 || header.le32(376) != 1 << 20 {
        found.defect = Some(Defect::Malformed("block size"));
    } else if !file.holds(map.0, map.1) {
        found.defect = Some(Defect::Truncated);
    }
    Ok(found)
}
