//! What libvirt reads to let a disk go on in another file.

use std::path::Path;

use super::{Format, xml::Xml};

/// From one moment on, the disk that the guest knows as `target` is `file`, which rests on what it was; the others stay.
pub fn overlay<'a>(
    target: &str,
    (file, format): (&Path, Format),
    others: impl Iterator<Item = &'a str>,
) -> String {
    let mut xml = Xml::new();
    let file = file.to_string_lossy();
    let disk = [("name", target), ("snapshot", "external"), ("type", "file")];
    xml.node("domainsnapshot", &[], |xml| {
        xml.node("disks", &[], |xml| {
            xml.node("disk", &disk, |xml| {
                xml.leaf("driver", &[("type", format.as_str())]);
                xml.leaf("source", &[("file", &file)]);
            });
            // A disk that is not named here would be given a file of libvirt's own choice.
            for other in others {
                xml.leaf("disk", &[("name", other), ("snapshot", "no")]);
            }
        });
    });
    xml.finish()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn one_disk_goes_on_in_another_file_and_no_other_does() {
        let expected = "<domainsnapshot>
  <disks>
    <disk name=\"vdb\" snapshot=\"external\" type=\"file\">
      <driver type=\"qcow2\"/>
      <source file=\"/a &amp; b\"/>
    </disk>
    <disk name=\"vda\" snapshot=\"no\"/>
  </disks>
</domainsnapshot>
";
        let file = (Path::new("/a & b"), Format::Qcow2);
        assert_eq!(overlay("vdb", file, ["vda"].into_iter()), expected);
    }
}
