//! The definition that libvirt keeps with a guest's saved memory, with its block devices at other places.
//!
//! It is changed as text, in libvirt's own words: what a restored guest is made of must be exactly what it was saved with,
//! and only the path of a device may differ.

use std::path::PathBuf;

use super::xml::{Element, NotXml};

/// A disk by its name in the guest, and the block device that it is now.
pub(super) type Moved = (String, PathBuf);

/// The same definition with those disks at those places; none when they are there already, or when it has no such disk.
pub(super) fn repointed(xml: &str, disks: &[Moved]) -> Result<Option<String>, NotXml> {
    let mut changed = String::with_capacity(xml.len());
    let mut rest = xml;
    while let Some(begin) = rest.find("<disk ") {
        let end = rest[begin..]
            .find("</disk>")
            .map_or(rest.len(), |end| begin + end);
        let (before, disk) = (&rest[..begin], &rest[begin..end]);
        changed.push_str(before);
        changed.push_str(&one(disk, disks)?);
        rest = &rest[end..];
    }
    changed.push_str(rest);
    Ok((changed != xml).then_some(changed))
}

/// One disk, from its begin to before its end.
fn one(disk: &str, disks: &[Moved]) -> Result<String, NotXml> {
    let element = Element::parse(&format!("{disk}</disk>"))?;
    let name = element
        .first(&["target"])
        .and_then(|target| target.attribute("dev"));
    let moved = disks
        .iter()
        .find(|(target, _)| Some(target.as_str()) == name);
    let was = element
        .first(&["source"])
        .and_then(|source| source.attribute("dev"));
    let (Some((_, path)), Some(_)) = (moved, was) else {
        return Ok(disk.to_owned());
    };
    // Its own source comes before those of what it rests on.
    let place = disk.find("<source ").and_then(|source| {
        let from = source + disk[source..].find(" dev='")? + " dev='".len();
        Some((from, from + disk[from..].find('\'')?))
    });
    Ok(match place {
        Some((from, to)) => {
            let path = quick_xml::escape::escape(path.to_string_lossy());
            format!("{}{path}{}", &disk[..from], &disk[to..])
        }
        None => disk.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "<domain type='qemu'>
  <devices>
    <disk type='file' device='disk'>
      <source file='/i/disk'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/>
      <source dev='/dev/sdb'>
        <reservations managed='no'/>
      </source>
      <backingStore/>
      <target dev='vdb' bus='virtio'/>
    </disk>
    <disk type='block' device='disk'>
      <source dev='/dev/sdc' startupPolicy='mandatory'/>
      <target dev='vdc' bus='virtio'/>
    </disk>
    <interface type='direct'>
      <source dev='/dev/sdb'/>
      <target dev='vdb'/>
    </interface>
  </devices>
</domain>
";

    fn moved(all: &[(&str, &str)]) -> Vec<Moved> {
        all.iter()
            .map(|(name, path)| ((*name).to_owned(), path.into()))
            .collect()
    }

    #[test]
    fn disks_that_have_changed_their_names_are_told_apart_by_their_own() {
        let disks = moved(&[("vdb", "/dev/sdc"), ("vdc", "/dev/a&b")]);
        let changed = repointed(SAVED, &disks).unwrap().unwrap();
        let expected = SAVED.replacen("'/dev/sdc'", "'/dev/a&amp;b'", 1).replacen(
            "'/dev/sdb'",
            "'/dev/sdc'",
            1,
        );
        assert_eq!(changed, expected);
        let back = moved(&[("vdb", "/dev/sdb"), ("vdc", "/dev/sdc")]);
        assert_eq!(repointed(&changed, &back).unwrap().as_deref(), Some(SAVED));
    }

    #[test]
    fn what_has_not_moved_is_left_alone() {
        for disks in [
            moved(&[("vdb", "/dev/sdb")]),
            moved(&[("vda", "/dev/sdb"), ("vdz", "/dev/sdb")]),
            Vec::new(),
        ] {
            assert_eq!(repointed(SAVED, &disks).unwrap(), None);
        }
    }
}
