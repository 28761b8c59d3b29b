//! Block devices by what they are, whatever the kernel calls them now.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::fs::{Dev, major, minor};

/// The name that a device has by itself, `scheme.name`: world-wide for what is behind SCSI, NVMe and multipath, the device
/// mapper's own for a logical volume, a serial number elsewhere. None for one that has none, as a loop device.
pub fn identity(device: Dev) -> Option<String> {
    below(Path::new("/sys/dev/block"), device)
}

/// Whether two such names can be of one device. Names of different schemes can where one is multipath's own, which tells a
/// disk by other digits than its paths do, or a serial number, which is all that is told where nothing better is.
pub fn may_be_one(one: &str, other: &str) -> bool {
    let scheme = |name: &str| name.split_once('.').map(|(scheme, _)| scheme.to_owned());
    let is_vague = |name: &str| name.starts_with("serial.") || is_multipath(name);
    one == other || (scheme(one) != scheme(other) && (is_vague(one) || is_vague(other)))
}

/// A multipath disk, or a partition that the device mapper makes of one.
fn is_multipath(name: &str) -> bool {
    let Some(mapped) = name.strip_prefix("dm.") else {
        return false;
    };
    let whole = match mapped.strip_prefix("part") {
        Some(part) => part.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => return mapped.starts_with("mpath-"),
    };
    whole.starts_with("-mpath-")
}

fn below(root: &Path, device: Dev) -> Option<String> {
    let at = root.join(format!("{}:{}", major(device), minor(device)));
    let at = at.canonicalize().ok()?;
    match text(&at.join("partition")) {
        Some(number) => Some(format!("{}-part{number}", whole(at.parent()?)?)),
        None => whole(&at),
    }
}

fn whole(disk: &Path) -> Option<String> {
    let read = |name: &str| text(&disk.join(name));
    if let Some(mapped) = read("dm/uuid") {
        // A disk is the same one over one path and over many.
        return Some(match mapped.strip_prefix("mpath-") {
            Some(name) => match name.strip_prefix('3') {
                Some(digits) => format!("naa.{digits}"),
                None if name.contains('.') => name.to_owned(),
                None => format!("dm.{mapped}"),
            },
            None => format!("dm.{mapped}"),
        });
    }
    let wide = read("wwid").or_else(|| read("device/wwid"));
    wide.or_else(|| read("serial").map(|serial| format!("serial.{serial}")))
}

fn text(path: &PathBuf) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of the kernel's, with what it says of itself.
    fn disk(root: &Path, name: &str, number: &str, said: &[(&str, &str)]) {
        let folder = root.join("devices").join(name);
        for (file, text) in said {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{text}\n")).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(folder, root.join(number)).unwrap();
    }

    #[test]
    fn a_device_is_known_by_its_own_name_over_whatever_leads_to_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let naa = "naa.6001405a1b2c3d4e";
        disk(root, "sda", "8:0", &[("device/wwid", naa)]);
        disk(root, "sda/sda1", "8:1", &[("partition", "1")]);
        let mapped = [("dm/uuid", "mpath-36001405a1b2c3d4e")];
        disk(root, "dm-0", "253:0", &mapped);
        disk(root, "dm-1", "253:1", &[("dm/uuid", "LVM-abcdef")]);
        disk(
            root,
            "nvme0n1",
            "259:0",
            &[("wwid", "eui.0025385b71b0a2f3")],
        );
        disk(root, "vda", "254:0", &[("serial", "volume-1")]);
        disk(root, "loop0", "7:0", &[("loop/backing_file", "/srv/file")]);
        disk(root, "vdb", "254:16", &[("serial", "")]);
        let of = |major, minor| below(root, rustix::fs::makedev(major, minor));
        assert_eq!(of(8, 0).as_deref(), Some(naa));
        assert_eq!(of(253, 0).as_deref(), Some(naa), "the same by many paths");
        assert_eq!(of(8, 1), Some(format!("{naa}-part1")));
        assert_eq!(of(253, 1).as_deref(), Some("dm.LVM-abcdef"));
        assert_eq!(of(259, 0).as_deref(), Some("eui.0025385b71b0a2f3"));
        assert_eq!(of(254, 0).as_deref(), Some("serial.volume-1"));
        for nameless in [of(7, 0), of(254, 16), of(1, 1)] {
            assert_eq!(nameless, None);
        }
    }

    #[test]
    fn names_of_different_kinds_are_of_one_disk_only_where_one_is_vague() {
        assert!(may_be_one("naa.1", "naa.1"));
        assert!(!may_be_one("naa.1", "naa.2"));
        assert!(!may_be_one("naa.1", "naa.1-part1"));
        assert!(may_be_one("t10.ATA 1", "dm.mpath-1ATA_1"));
        assert!(may_be_one("dm.part1-mpath-31", "naa.1-part1"));
        assert!(may_be_one("serial.1", "eui.1"));
        assert!(!may_be_one("naa.1", "dm.LVM-1"));
        assert!(!may_be_one("naa.1", "eui.1"));
        assert!(!may_be_one("serial.1", "serial.2"));
    }
}
