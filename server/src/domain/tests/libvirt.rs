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

/// Fails unless libvirt's schema and its driver take all `domains`, of one driver, and the driver keeps every word.
pub(crate) async fn assert_accepted(domains: &[Domain]) {
    let folder = tempfile::tempdir().unwrap();
    let uri = match domains[0].machine.virt {
        VirtType::Test => "test:///default".to_owned(),
        VirtType::Qemu | VirtType::Kvm => embedded(folder.path()),
    };
    let mut commands = Vec::new();
    for (i, domain) in domains.iter().enumerate() {
        let file = folder.path().join(format!("{i}.xml"));
        std::fs::write(&file, domain.to_xml()).unwrap();
        let validate = Command::new("virt-xml-validate").arg(&file).arg("domain");
        let validated = validate.run().await;
        validated.unwrap_or_else(|e| panic!("{e}\n{}", domain.to_xml()));
        let (file, name) = (file.display(), Domain::name_of(domain.id));
        commands.push(format!(
            "define --validate {file}; dumpxml --inactive {name}; undefine {name}"
        ));
    }
    // One process for all: each that opens an embedded driver asks QEMU anew what it can do.
    let output = virsh(&uri, &commands.join("; ")).await;
    let kept: Vec<_> = output.split_inclusive("</domain>").collect();
    for (domain, kept) in domains.iter().zip(&kept[..domains.len()]) {
        assert_kept(domain, kept);
    }
}

fn assert_kept(domain: &Domain, kept: &str) {
    let (asked, told) = (facts(&domain.to_xml()), facts(kept));
    let dropped: Vec<_> = asked.difference(&told).collect();
    assert!(dropped.is_empty(), "libvirt changed {dropped:#?}");
    // The bridge for conventional PCI cards comes with a port of its own.
    let bridge = u32::from(kept.contains("model='pcie-to-pci-bridge'"));
    let ports = u32::try_from(kept.matches("model='pcie-root-port'").count()).unwrap();
    if domain.machine.pcie_ports > 0 {
        let planned = domain.machine.pcie_ports + bridge;
        assert_eq!(ports, planned, "libvirt needs other ports");
    }
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
    let (test, mut real): (Vec<_>, Vec<_>) = golden()
        .into_iter()
        .map(|(_, domain)| domain)
        .partition(|domain| domain.machine.virt == VirtType::Test);
    for domain in &mut real {
        // A host without KVM has no such domains; nothing else of the XML hangs on it.
        domain.machine.virt = VirtType::Qemu;
    }
    assert_accepted(&test).await;
    assert_accepted(&real).await;
}
