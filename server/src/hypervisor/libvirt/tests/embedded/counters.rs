//! What is counted of real guests, and what one that hangs does to the others.

use super::*;
use crate::domain::{Interface, InterfaceSource};

fn folder(settings: &LibvirtSettings) -> PathBuf {
    let ConnectTo::Embedded { root } = &settings.connect else {
        unreachable!("the role is one of an embedded root");
    };
    root.parent().unwrap().to_owned()
}

async fn started(libvirt: &Libvirt, domain: &Domain, mode: StartMode) -> InstanceId {
    libvirt.define(domain).await.unwrap();
    libvirt.start(domain.id, mode).await.unwrap();
    domain.id
}

async fn host(libvirt: &Libvirt, id: InstanceId) -> HostCounters {
    let all = libvirt.host_counters(Groups::HOST).await.unwrap();
    let one = libvirt.host_counters_of(id, Groups::HOST).await.unwrap();
    let found = all.into_iter().find(|guest| guest.id == id).unwrap();
    assert_eq!((found.id, found.state), (one.id, one.state));
    assert_eq!((found.life, found.cpus.len()), (one.life, one.cpus.len()));
    found
}

/// Looks again and again until what it sees is what was waited for.
async fn until<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(looking).await
}

#[tokio::test]
async fn counters_of_a_guest_grow_and_begin_again_with_its_next_life() {
    let Some((_, settings)) = role() else {
        let test = "counters::counters_of_a_guest_grow_and_begin_again_with_its_next_life";
        return in_own_process(test, &["all"]).await;
    };
    let domain = with_disk(&folder(&settings));
    let libvirt = up(settings).await;
    let id = started(&libvirt, &domain, StartMode::Paused).await;
    let before = host(&libvirt, id).await;
    assert_eq!(before.state, PowerState::Paused);
    let still = libvirt.monitor_counters(id, Groups::MONITOR).await.unwrap();
    assert_eq!(still.life, before.life);
    let [(target, disk)] = &still.disks[..] else {
        panic!("{still:?}");
    };
    assert_eq!((target.as_str(), disk.rd_req), ("vda", Some(0)));
    libvirt.resume(id).await.unwrap();
    let libvirt = &libvirt;
    let read = until(|| async move {
        let counted = libvirt.monitor_counters(id, Groups::BLOCK).await.unwrap();
        let (_, disk) = counted.disks[0];
        (disk.rd_bytes > Some(0)).then_some(disk)
    })
    .await;
    println!("{read:?}");
    assert!(read.rd_req > Some(0) && read.rd_time_ns > Some(0));
    let after = until(|| async move {
        let after = host(libvirt, id).await;
        (after.cpu_time_ns > Some(0) && after.cpus[0].time_ns > Some(0)).then_some(after)
    })
    .await;
    println!("{after:?}");
    assert!(after.cpu_time_ns >= before.cpu_time_ns && after.life == before.life);
    assert!(after.cpus[0].time_ns > before.cpus[0].time_ns);
    let memory = after.memory.unwrap();
    assert_eq!(memory.maximum_kib, 16 << 10);
    assert!(memory.rss_kib > Some(1 << 10), "{memory:?}");

    libvirt.destroy(id).await.unwrap();
    let off = libvirt.host_counters_of(id, Groups::HOST).await.unwrap();
    assert_eq!((off.state, off.life), (PowerState::Shutdown, 0));
    let refused = libvirt.monitor_counters(id, Groups::BLOCK).await;
    assert!(
        matches!(refused, Err(HypervisorError::State { .. })),
        "{refused:?}"
    );
    libvirt.start(id, StartMode::Paused).await.unwrap();
    let next = host(libvirt, id).await;
    assert!(next.life != 0 && next.life != before.life, "{next:?}");
    gone(libvirt, id).await;
}

/// Runs `ip` in this process's network namespace.
async fn ip(words: &str) {
    let words: Vec<_> = words.split(' ').collect();
    Command::new("ip").args(words).run().await.unwrap();
}

#[tokio::test]
async fn an_interface_counts_by_the_guests_side() {
    let Some((_, settings)) = role() else {
        if as_root() {
            let test = "counters::an_interface_counts_by_the_guests_side";
            in_own_process(test, &[&format!("{NETWORK}all")]).await;
        }
        return;
    };
    ip("link add br0 type bridge").await;
    ip("address add 192.0.2.1/24 dev br0").await;
    ip("link set br0 up").await;
    let mut domain = domain(InstanceId::random(), VirtType::Qemu);
    let nic: crate::model::InterfaceId = "nic".parse().unwrap();
    domain.interfaces = vec![Interface {
        id: nic.clone(),
        source: InterfaceSource::Bridge {
            bridge: "br0".to_owned(),
            tap: crate::model::TapName::of(domain.id, &nic),
        },
        mac: "52:54:00:12:34:56".parse().unwrap(),
        model: crate::model::NicModel::Virtio,
        mtu: None,
        bandwidth: crate::domain::Bandwidth::default(),
    }];
    let libvirt = up(settings).await;
    let id = started(&libvirt, &domain, StartMode::Paused).await;
    // A guest that takes nothing: what is sent to it is dropped on its side once its queue is full.
    let socket = tokio::net::UdpSocket::bind("192.0.2.1:0").await.unwrap();
    socket.set_broadcast(true).unwrap();
    let libvirt = &libvirt;
    let socket = &socket;
    let counted = until(|| async move {
        for _ in 0..500 {
            // A full queue of the host's own is waited for, or not; both are fine.
            let _ = socket.try_send_to(b"hello", "192.0.2.255:9".parse().unwrap());
            tokio::task::yield_now().await;
        }
        let counted = host(libvirt, id).await;
        println!("{:?}", counted.interfaces);
        let (_, nic) = counted.interfaces.first()?;
        (nic.rx_drop > Some(0)).then_some(counted)
    })
    .await;
    let [(mac, nic)] = &counted.interfaces[..] else {
        panic!("{counted:?}");
    };
    assert_eq!(mac, "52:54:00:12:34:56");
    assert_eq!((nic.tx_packets, nic.tx_drop), (Some(0), Some(0)));
    gone(libvirt, id).await;
}

#[tokio::test]
async fn guests_that_hang_are_passed_over_and_the_others_are_counted() {
    let Some((_, mut settings)) = role() else {
        let test = "counters::guests_that_hang_are_passed_over_and_the_others_are_counted";
        return in_own_process(test, &["all"]).await;
    };
    // None may be lost: a thread that hung would show in what follows.
    settings.monitor_timeout = LIMIT * 10;
    let folder = folder(&settings);
    let libvirt = up(settings).await;
    let mut guests = Vec::new();
    for _ in 0..MONITOR.workers + 2 {
        guests.push(started(&libvirt, &with_disk(&folder), StartMode::Running).await);
    }
    let (healthy, hung) = guests.split_first().unwrap();
    for id in hung {
        stop(pid(&libvirt, *id)).await;
    }
    for _ in 0..3 {
        for id in hung {
            let refused = within(libvirt.monitor_counters(*id, Groups::BLOCK)).await;
            assert!(matches!(refused, Err(HypervisorError::Busy)), "{refused:?}");
        }
        within(libvirt.monitor_counters(*healthy, Groups::BLOCK))
            .await
            .unwrap();
        let counted = within(libvirt.host_counters(Groups::HOST)).await.unwrap();
        assert_eq!(counted.len(), guests.len());
        let told = |guest: &HostCounters| {
            guest.state == PowerState::Running && guest.cpu_time_ns.is_some()
        };
        assert!(counted.iter().all(told), "{counted:?}");
    }
    for id in hung {
        resume(pid(&libvirt, *id));
        within(libvirt.monitor_counters(*id, Groups::BLOCK))
            .await
            .unwrap();
    }
    for id in &guests {
        libvirt.destroy(*id).await.unwrap();
    }
}
