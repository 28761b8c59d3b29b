//! Against libvirt's test driver and its real QEMU driver.

mod daemon;
mod embedded;
mod test_driver;

use std::{sync::Arc, time::Duration};

use super::*;
use crate::model::{PowerState, VirtType};

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
