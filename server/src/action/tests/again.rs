//! What a guest is given back at a start: its own disks, where they are now, and nobody else's.

use pretty_assertions::assert_eq;

use super::{
    devices::{attach, device, done, file, off, refused},
    *,
};
use crate::{
    action::{ExtendVolume, PowerOff, PowerOn, Reboot, Resume, Suspend},
    domain::{Device, DiskSource},
    model::PowerState,
    step::RestoreGuest,
};

fn resize(t: &TestHost, size: u64) {
    let open = std::fs::File::options().write(true).open(file(t, "vol"));
    open.unwrap().set_len(size).unwrap();
}

fn power(t: &TestHost, id: InstanceId) -> PowerState {
    t.fake.snapshot()[&id].state
}

async fn with_volume(t: &TestHost) -> InstanceId {
    let id = t.spawned(t.spec()).await;
    done(t, attach(id, &device(t, "vol"))).await;
    id
}

#[tokio::test]
async fn no_start_gives_a_guest_a_disk_that_has_shrunk() {
    let t = TestHost::new().await;
    let instance = with_volume(&t).await;
    let is_refused = |e: Error| {
        assert_eq!(
            (e.reason(), e.phase()),
            ("VOLUME_UNUSABLE", Some(Phase::ConnectVolumes))
        );
        assert!(e.message().contains("has shrunk"), "{e}");
    };
    resize(&t, 512);
    let reboot = Reboot {
        instance,
        patience: None,
    };
    is_refused(refused(&t, reboot).await);
    assert_eq!(
        power(&t, instance),
        PowerState::Running,
        "it was not stopped"
    );
    done(&t, Suspend { instance }).await;
    is_refused(refused(&t, Resume { instance }).await);
    resize(&t, 1 << 20);
    done(&t, Resume { instance }).await;
    off(&t, instance).await;
    resize(&t, 512);
    is_refused(refused(&t, PowerOn { instance }).await);
    resize(&t, 2 << 20);
    done(&t, PowerOn { instance }).await;
    let record = t.host.store.instance(instance).unwrap();
    let volume = record.spec.block_devices[0].volume().unwrap();
    assert_eq!(
        volume.seen.as_ref().unwrap().size,
        Bytes(2 << 20),
        "larger is fine"
    );
}

#[tokio::test]
async fn a_start_that_takes_back_a_change_waits_for_the_guest_s_own_disks() {
    let t = TestHost::new().await;
    let instance = with_volume(&t).await;
    let cut = PowerOff {
        instance,
        patience: None,
    };
    let mut task = t.task(&cut).await.failing_at(0);
    cut.run(&mut task).await.unwrap_err();
    resize(&t, 512);
    let e = task.unwind().await.unwrap_err();
    assert_eq!(e.reason(), "VOLUME_UNUSABLE", "{e}");
    assert_eq!(power(&t, instance), PowerState::Shutdown);
    resize(&t, 1 << 20);
    task.unwind().await.unwrap();
    assert_eq!(power(&t, instance), PowerState::Running);
}

#[tokio::test]
async fn saved_memory_comes_back_with_a_device_that_has_another_name() {
    let t = TestHost::new().await;
    let instance = with_volume(&t).await;
    done(&t, Suspend { instance }).await;
    let mut task = t.task(&Resume { instance }).await;
    let moved = vec![("vdb".to_owned(), "/dev/elsewhere".into())];
    task.run(RestoreGuest {
        instance,
        places: moved,
    })
    .await
    .unwrap();
    let live = t.fake.snapshot()[&instance].live.clone().unwrap();
    let sources = live.into_values().filter_map(|device| match device {
        Device::Disk(disk) => Some(disk.source),
        Device::Interface(_) | Device::Memory(_) => None,
    });
    let expected = DiskSource::Block("/dev/elsewhere".into());
    assert!(sources.collect::<Vec<_>>().contains(&expected));
}

#[tokio::test]
async fn a_volume_is_never_cut_to_the_size_that_a_guest_is_told() {
    let t = TestHost::new().await;
    let instance = with_volume(&t).await;
    let to = |size| ExtendVolume {
        instance,
        disk: "vol".parse().unwrap(),
        size: Bytes(size),
    };
    let told = |t: &TestHost| {
        let calls = t.fake.calls().into_iter();
        calls.filter(|call| *call == "resize_disk").count()
    };
    resize(&t, 3 << 20);
    let e = refused(&t, to(2 << 20)).await;
    assert_eq!(e.reason(), "VOLUME_UNUSABLE", "it has grown once more: {e}");
    assert_eq!(told(&t), 0);
    for _ in 0..2 {
        done(&t, to(3 << 20)).await;
        assert_eq!(told(&t), 1, "who sees it is told nothing");
    }
    t.fake.set_disk_size(instance, "vdb", Bytes(4 << 20));
    let e = refused(&t, to(3 << 20)).await;
    assert_eq!(e.reason(), "INVALID_REQUEST", "the guest sees more: {e}");
}
