//! libvirt itself takes what we write, and drops nothing of it.

use std::{collections::BTreeSet, path::Path};

use quick_xml::{Reader, XmlVersion, events::Event};

use super::{Domain, VirtType, golden};
use crate::sys::command::Command;

/// Every attribute and text of a document with the path of its element.
fn facts(xml: &str) -> BTreeSet<String> {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().expand_empty_elements = true;
    let mut path = String::new();
    let mut text = String::new();
    let mut facts = BTreeSet::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(element) => {
                path = format!("{path}/{}", element.name().as_ref());
                for attribute in element.attributes().map(Result::unwrap) {
                    let key = attribute.key.as_ref();
                    let value = attribute.normalized_value(XmlVersion::Explicit1_0);
                    facts.insert(format!("{path}@{key}={}", value.unwrap()));
                }
                text.clear();
            }
            Event::Text(piece) => text.push_str(&piece),
            Event::GeneralRef(name) => text.push_str(&format!("&{};", &*name)),
            Event::End(_) => {
                facts.insert(format!("{path}={}", text.trim()));
                text.clear();
                path.truncate(path.rfind('/').unwrap());
            }
            Event::Eof => return facts,
            _ => {}
        }
    }
}

async fn virsh(uri: &str, commands: &str) -> String {
    let virsh = Command::new("virsh").args(["-q", "-c", uri, commands]);
    let output = virsh.run().await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(output.stderr, "", "{commands}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fails unless libvirt's schema and its driver take `domain`, and the driver keeps every word of it.
pub(crate) async fn assert_accepted(domain: &Domain) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("domain.xml");
    let xml = domain.to_xml();
    std::fs::write(&file, &xml).unwrap();
    let validate = Command::new("virt-xml-validate").arg(&file).arg("domain");
    validate
        .run()
        .await
        .unwrap_or_else(|e| panic!("{e}\n{xml}"));

    let uri = match domain.machine.virt {
        VirtType::Test => "test:///default".to_owned(),
        VirtType::Qemu | VirtType::Kvm => embedded(folder.path()),
    };
    let name = Domain::name_of(domain.id);
    let file = file.display();
    let kept = virsh(
        &uri,
        &format!("define --validate {file}; dumpxml --inactive {name}; undefine {name}"),
    )
    .await;
    let (asked, kept) = (facts(&xml), facts(&kept));
    let dropped: Vec<_> = asked.difference(&kept).collect();
    assert!(dropped.is_empty(), "libvirt changed {dropped:#?}");
}

/// libvirt's QEMU driver inside virsh's own process: no daemon is asked.
fn embedded(folder: &Path) -> String {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/qemu.conf"), "stdio_handler = \"file\"\n").unwrap();
    format!("qemu:///embed?root={}", root.display())
}

#[tokio::test]
async fn libvirt_takes_every_golden_domain_as_it_is() {
    for (_, mut domain) in golden() {
        // A host without KVM has no such domains; nothing else of the XML hangs on it.
        if domain.machine.virt == VirtType::Kvm {
            domain.machine.virt = VirtType::Qemu;
        }
        assert_accepted(&domain).await;
    }
}
