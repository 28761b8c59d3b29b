//! What libvirt reads to copy a disk.

use std::path::Path;

use super::{Format, xml::Xml};

/// A copy of the disk that the guest knows as `target`, pushed into a file by itself.
pub fn backup(target: &str, file: &Path, format: Format) -> String {
    let mut xml = Xml::new();
    let file = file.to_string_lossy();
    let disk = [("name", target), ("backup", "yes"), ("type", "file")];
    xml.node("domainbackup", &[("mode", "push")], |xml| {
        xml.node("disks", &[], |xml| {
            xml.node("disk", &disk, |xml| {
                xml.leaf("driver", &[("type", format.as_str())]);
                xml.leaf("target", &[("file", &file)]);
            });
        });
    });
    xml.finish()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn one_disk_is_pushed_into_a_file() {
        let expected = "<domainbackup mode=\"push\">
  <disks>
    <disk name=\"vda\" backup=\"yes\" type=\"file\">
      <driver type=\"qcow2\"/>
      <target file=\"/a &amp; b\"/>
    </disk>
  </disks>
</domainbackup>
";
        assert_eq!(backup("vda", Path::new("/a & b"), Format::Qcow2), expected);
    }
}
