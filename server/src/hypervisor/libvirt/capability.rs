//! What the hypervisor is and can do, read from its own words.

use virt::connect::Connect;

use super::{VirtChoice, fault::Fault, ffi, xml::Element};
use crate::{
    hypervisor::{Capabilities, HypervisorError, VirtType},
    model::Architecture,
    sys::processor,
};

/// libvirt's name of the architecture that our guests have.
pub(super) const ARCH: &str = "x86_64";

/// libvirt's name of the driver that runs real guests.
const QEMU: &str = "QEMU";

/// Asks for everything. Blocks; the first time in an embedded root for seconds, as QEMU is probed.
pub(super) fn read(conn: &Connect, choice: VirtChoice) -> Result<Capabilities, Fault> {
    let host = Element::parse(&conn.capabilities()?).map_err(|e| unreadable(&e))?;
    let driver = conn.driver_type()?;
    let uri = without_secrets(&conn.uri()?);
    let node = conn.node_info()?;
    let arch = host
        .all(&["guest", "arch"])
        .find(|arch| arch.attribute("name") == Some(ARCH));
    // The test driver plays another architecture, with neither emulator nor machines of ours.
    if arch.is_none() && driver == QEMU {
        return Err(unsupported(format!("it runs no {ARCH} guests")));
    }
    let emulator = arch.and_then(|arch| arch.first(&["emulator"]));
    let machines = arch.into_iter().flat_map(|arch| arch.all(&["machine"]));
    let aliases = machines.filter_map(|machine| {
        let canonical = machine.attribute("canonical")?;
        Some((machine.text().to_owned(), canonical.to_owned()))
    });
    Ok(Capabilities {
        machines: aliases.collect(),
        virt_type: virt_type(conn, choice, &driver, &uri)?,
        libvirt_version: dotted(conn.lib_version()?),
        hypervisor_version: dotted(conn.hyp_version()?),
        emulator: emulator.map(|path| path.text().to_owned()),
        driver,
        uri,
        architecture: Architecture::X86_64,
        cpus: node.cpus,
        // The node's own word leaves out memory that a balloon holds at the moment.
        memory: ffi::memory(conn).unwrap_or(node.memory) * 1024,
    })
}

fn virt_type(
    conn: &Connect,
    choice: VirtChoice,
    driver: &str,
    uri: &str,
) -> Result<VirtType, Fault> {
    if driver != QEMU {
        return Ok(VirtType::Test);
    }
    let offered = |virt: &str| conn.domain_capabilities(None, Some(ARCH), None, Some(virt), 0);
    match choice {
        VirtChoice::Kvm => {
            // Also leaves what was learned of KVM in libvirt's cache, before a guest waits for it.
            offered("kvm").map_err(|e| unsupported(e.message().to_owned()))?;
            Ok(VirtType::Kvm)
        }
        VirtChoice::Auto if offered("kvm").is_ok() && has_hardware_virtualisation(uri) => {
            Ok(VirtType::Kvm)
        }
        VirtChoice::Auto | VirtChoice::Qemu => {
            offered("qemu")?;
            Ok(VirtType::Qemu)
        }
    }
}

/// Whether the processor itself can do it. A host elsewhere cannot be looked at, and is believed.
fn has_hardware_virtualisation(uri: &str) -> bool {
    let elsewhere =
        url::Url::parse(uri).is_ok_and(|uri| uri.host_str().is_some_and(|host| !host.is_empty()));
    elsewhere || processor::has_hardware_virtualisation()
}

/// An address as it may be shown: no user, no password, no parameters that name keys.
fn without_secrets(uri: &str) -> String {
    let Ok(mut shown) = url::Url::parse(uri) else {
        return uri.split(['?', '@']).next().unwrap_or_default().to_owned();
    };
    // Both fail only for addresses that cannot have them.
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    shown.set_query(None);
    shown.to_string()
}

fn dotted(version: u32) -> String {
    format!(
        "{}.{}.{}",
        version / 1_000_000,
        version / 1000 % 1000,
        version % 1000
    )
}

fn unreadable(e: &super::xml::NotXml) -> Fault {
    HypervisorError::Failed {
        call: "virConnectGetCapabilities",
        message: e.to_string(),
        code: 0,
        domain: 0,
    }
    .into()
}

fn unsupported(message: String) -> Fault {
    HypervisorError::Unsupported { message }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_dotted() {
        assert_eq!(dotted(11_003_000), "11.3.0");
        assert_eq!(dotted(10_000_002), "10.0.2");
    }

    #[test]
    fn addresses_are_shown_without_credentials() {
        assert_eq!(
            without_secrets("qemu+tls://me:pw@host/system?pkipath=/k"),
            "qemu+tls://host/system"
        );
        assert_eq!(
            without_secrets("qemu:///embed?root=/var/lib/x"),
            "qemu:///embed"
        );
        assert_eq!(without_secrets("test:///default"), "test:///default");
    }
}
