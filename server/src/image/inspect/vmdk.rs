//! VMware's format: only the two kinds that are one file (`monolithicSparse`, `streamOptimized`).

use std::io::{self, Read, Seek};

use super::{
    Content, Defect, Inspection,
    read::{Fields, Reader},
};

const SECTOR: u64 = 512;
/// Where QEMU looks for the descriptor, whatever the header says, and how much of it it reads.
const DESCRIPTOR: u64 = SECTOR;
const DESCRIPTOR_SECTORS: u64 = 20;
const KINDS: [&str; 2] = ["monolithicsparse", "streamoptimized"];

pub(super) fn inspect<F: Read + Seek>(file: &mut Reader<F>) -> io::Result<Inspection> {
    let header = file.up_to(0, 512)?;
    let mut found = Inspection::sectors(Content::Vmdk, file.len());
    if header.len() < 512 {
        found.defect = Some(Defect::Truncated);
        return Ok(found);
    }
    found.virtual_size = header.le64(12).saturating_mul(SECTOR);
    let (at, sectors) = (header.le64(28), header.le64(36));
    if !matches!(header.le32(4), 1..=3) {
        found.defect = Some(Defect::Malformed("version"));
    } else if at != 1 || !(1..=DESCRIPTOR_SECTORS).contains(&sectors) {
        // No descriptor, or one at another place than where QEMU reads it: two readers would see two things.
        found.defect = Some(Defect::Malformed("descriptor place"));
    } else {
        let text = file.up_to(DESCRIPTOR, 20 * 512)?;
        judge(&String::from_utf8_lossy(&text), &mut found);
    }
    Ok(found)
}

/// Reads the embedded descriptor as distrustfully as it can be read.
fn judge(text: &str, found: &mut Inspection) {
    let text = text
        .split('\0')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let mut kind = None;
    let mut extents = 0;
    for line in text.lines().map(str::trim) {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let value = value.trim().trim_matches('"');
        match key.trim() {
            "createtype" => kind = Some(value.to_owned()),
            "parentcid" if value != "ffffffff" => found.backing = Some(format!("parent {value}")),
            "parentfilenamehint" => found.backing = Some(value.to_owned()),
            _ if is_extent(line) => {
                extents += 1;
                if !is_own_extent(line) {
                    found.defect = Some(Defect::Malformed("extent that names another file"));
                }
            }
            _ => {}
        }
    }
    // QEMU searches the text for this word; it need not begin a line.
    if found.backing.is_none() && text.contains("parentfilenamehint") {
        found.backing = Some(String::new());
    }
    if kind.is_none_or(|kind| !KINDS.contains(&kind.as_str())) {
        found.defect = Some(Defect::Malformed("create type"));
    } else if extents != 1 {
        found.defect = found.defect.or(Some(Defect::Malformed("extents")));
    }
}

fn is_extent(line: &str) -> bool {
    ["rw ", "rdonly ", "noaccess "]
        .iter()
        .any(|access| line.starts_with(access))
}

/// `RW 16384 SPARSE "disk.vmdk"`: this very file, whose name of old does not matter as long as it is no path.
fn is_own_extent(line: &str) -> bool {
    let name = line.split('"').nth(1);
    line.split_whitespace().nth(2) == Some("sparse")
        && name.is_some_and(|name| !name.contains(['/', '\\', ':']) && name != "..")
}
