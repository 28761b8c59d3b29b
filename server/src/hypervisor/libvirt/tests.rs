//! Against libvirt's test driver and its real QEMU driver.

mod daemon;
mod embedded;
mod test_driver;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    hypervisor::HypervisorError,
    model::{PowerState, VirtType},
};

/// More than any wait here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what)
        .await
        .expect("it comes within the limit")
}

async fn up(settings: LibvirtSettings) -> Arc<Libvirt> {
    let libvirt = Libvirt::open(settings).unwrap();
    let mut link = libvirt.link();
    let seen = within(link.wait_for(|link| *link != Link::Connecting))
        .await
        .unwrap()
        .clone();
    assert_eq!(seen, Link::Up);
    libvirt
}

async fn signalled(libvirt: &Libvirt, id: InstanceId, state: PowerState) -> Signal {
    let mut signals = libvirt.signals(id);
    within(signals.wait_for(|signal| signal.state == Some(state)))
        .await
        .unwrap()
        .clone()
}

/// A guest without disks: firmware that finds nothing to boot.
fn domain(id: InstanceId, virt: VirtType) -> Domain {
    let mut domain = Domain::example(id, virt);
    if virt == VirtType::Test {
        // The test driver plays an architecture that we do not know.
        domain.machine.architecture = None;
    }
    domain
}

/// Stops a process and waits until that can be seen.
async fn stop(pid: rustix::process::Pid) {
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let stopped = async {
        let seen = || process::Process::read(pid.as_raw_pid()).unwrap().halt;
        while seen() != Some(process::Halt::Stopped) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(stopped).await;
}

/// Lets a stopped process go on.
fn resume(pid: rustix::process::Pid) {
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
}

/// A guest with a disk of its own.
fn with_disk(folder: &std::path::Path) -> Domain {
    let id = InstanceId::random();
    let path = folder.join(format!("{id}.raw"));
    std::fs::File::create(&path)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let mut domain = domain(id, VirtType::Qemu);
    domain.disks = vec![crate::domain::Disk {
        id: "root".parse().unwrap(),
        source: crate::domain::DiskSource::File(path),
        format: crate::domain::Format::Raw,
        backing: None,
        device: crate::domain::DiskDevice::Disk,
        read_only: false,
        shared: false,
        bus: crate::model::DiskBus::Virtio,
        target: "vda".to_owned(),
        unit: None,
        cache: crate::domain::Cache::Writeback,
        discard: false,
        serial: None,
        boot_order: Some(1),
        tune: crate::domain::IoTune::default(),
    }];
    domain
}
