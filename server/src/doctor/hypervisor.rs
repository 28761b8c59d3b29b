//! libvirt, the emulator and the processor.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;

use super::Check;
use crate::{
    config::{Config, Connect, Virt},
    error::chain,
    hypervisor::{
        Capabilities, Hypervisor, Link,
        libvirt::{ConnectTo, Libvirt, LibvirtSettings},
    },
    sys::{command::Command, processor},
};

const LIBVIRT: &str = "libvirt";
const QEMU: &str = "qemu";
const KVM: &str = "kvm";
const EMULATOR: &str = "qemu-system-x86_64";
/// A driver that has never seen this QEMU asks it what it can do, which takes seconds.
const OPEN_WITHIN: Duration = Duration::from_secs(60);
const INSTALL: &str = "apt-get install libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86";

pub(super) async fn examine(config: &Config) -> Vec<Check> {
    let mut checks = match open(config).await {
        Ok(seen) => {
            let mode = match &config.connect {
                Connect::Embedded => "embedded",
                Connect::Uri(_) => seen.uri.as_str(),
            };
            let emulator = seen.emulator.as_deref().unwrap_or(EMULATOR);
            vec![
                Check::ok(
                    LIBVIRT,
                    format!(
                        "{}, its {} driver opens ({mode})",
                        seen.libvirt_version, seen.driver
                    ),
                ),
                Check::ok(QEMU, format!("{} ({emulator})", seen.hypervisor_version)),
            ]
        }
        Err(why) => {
            let remedy = match &config.connect {
                Connect::Embedded => INSTALL.to_owned(),
                Connect::Uri(uri) => format!(
                    "start the libvirt at {}, or leave connect at embedded",
                    uri.0
                ),
            };
            vec![Check::missing(LIBVIRT, why, remedy), emulator().await]
        }
    };
    // What a hypervisor elsewhere runs on is not seen from here.
    if config.connect == Connect::Embedded {
        checks.push(kvm(config.virt_type));
    }
    checks
}

async fn emulator() -> Check {
    match Command::new(EMULATOR).arg("--version").run().await {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            Check::ok(QEMU, said.lines().next().unwrap_or("found"))
        }
        Err(e) => Check::missing(QEMU, chain(&e), "apt-get install qemu-system-x86"),
    }
}

/// Opens the hypervisor as the server would, but with a root of its own.
async fn open(config: &Config) -> Result<Arc<Capabilities>, String> {
    let root = Root::new().map_err(|e| format!("no folder for a try can be made: {e}"))?;
    let connect = match &config.connect {
        Connect::Embedded => ConnectTo::Embedded {
            root: root.0.clone(),
        },
        Connect::Uri(uri) => ConnectTo::Uri(uri.0.clone()),
    };
    let libvirt = Libvirt::open(LibvirtSettings::new(connect)).map_err(|e| chain(&e))?;
    let mut link = libvirt.link();
    let settled = link.wait_for(|link| *link != Link::Connecting);
    let settled = timeout(OPEN_WITHIN, settled).await;
    match settled.map(|link| link.map(|link| link.clone())) {
        Ok(Ok(Link::Down { reason })) => return Err(reason),
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Err(format!("does not open within {OPEN_WITHIN:?}")),
    }
    libvirt.capabilities().await.map_err(|e| chain(&e))
}

/// A folder of the driver; goes with what is in it.
struct Root(PathBuf);

impl Root {
    fn new() -> io::Result<Self> {
        // Short, because the paths of sockets lie below it; new, because others may write to the temp folder.
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let path = std::env::temp_dir().join(format!("clet-{}", &unique[..12]));
        // QEMU is probed by its own user, who must pass through.
        DirBuilder::new().mode(0o711).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // The driver may still write there until the process ends; what it leaves is a cache in the temp folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether guests can run on the processor itself, by all that must hold for it.
fn kvm(wanted: Virt) -> Check {
    if wanted == Virt::Qemu {
        return Check::ok(
            KVM,
            format!("not asked for: virt_type is {}", wanted.as_str()),
        );
    }
    let (why, remedy) = match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) if processor::has_hardware_virtualisation() => {
            return Check::ok(KVM, "usable: guests run on the processor");
        }
        Ok(_) => (
            "/dev/kvm opens, but the processor has neither vmx nor svm: guests would hang"
                .to_owned(),
            "switch nested virtualisation on below this host",
        ),
        Err(e) if e.kind() == io::ErrorKind::NotFound => (
            "there is no /dev/kvm".to_owned(),
            "switch virtualisation on in the firmware, or nested virtualisation below this host; modprobe kvm_intel or kvm_amd",
        ),
        Err(e) => (
            format!("/dev/kvm cannot be opened: {e}"),
            "add this user to the group kvm",
        ),
    };
    if wanted == Virt::Kvm {
        let remedy = format!("{remedy}, or set virt_type to auto");
        return Check::missing(KVM, why, remedy);
    }
    let found = format!("{why}; guests run under QEMU's translator (TCG), slowly");
    Check::note(KVM, found, remedy)
}
