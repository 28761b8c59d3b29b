//! Files of volumes that become one: which, in which direction, and what a failure leaves.

use pretty_assertions::assert_eq;

use super::{
    devices::{done, off, refused},
    layers::{create, file_of, files, name, over, with_volume},
    *,
};
use crate::{
    action::{CreateVolumeSnapshot, DeleteVolumeSnapshot, DeletedBefore, PowerOn},
    model::{BlockDevice, PowerState, SnapshotId},
    sys::command::Command,
};

/// An instance whose volume has `f1` and `f2` over it, and both snapshots.
struct Stack {
    id: InstanceId,
    volume: BlockDevice,
    first: SnapshotId,
    second: SnapshotId,
}

async fn stack(t: &TestHost) -> Stack {
    let (id, volume) = with_volume(t).await;
    let (first, second) = (create(id, &volume, "f1"), create(id, &volume, "f2"));
    let ids = (first.snapshot, second.snapshot);
    done(t, first).await;
    over(t, "f2", "f1", DiskFormat::Qcow2).await;
    done(t, second).await;
    Stack {
        id,
        volume,
        first: ids.0,
        second: ids.1,
    }
}

impl Stack {
    fn delete(
        &self,
        snapshot: SnapshotId,
        file: &str,
        target: Option<&str>,
    ) -> DeleteVolumeSnapshot {
        DeleteVolumeSnapshot {
            instance: self.id,
            volume: self.volume.volume().unwrap().id,
            snapshot,
            file: file.to_owned(),
            target: target.map(str::to_owned),
        }
    }
}

async fn absent(t: &TestHost, delete: DeleteVolumeSnapshot) -> bool {
    let ended = done(t, delete).await;
    ended.answer::<DeletedBefore>().unwrap().absent
}

#[tokio::test]
async fn two_files_become_one_in_either_direction_and_once() {
    for (second, gone, into, left) in [
        (true, "f1", None, ["f2", "vol"]),
        (true, "f2", Some("f1"), ["f1", "vol"]),
        (false, "f1", Some("vol"), ["f2", "vol"]),
    ] {
        let t = inhabited().await;
        let stack = stack(&t).await;
        let snapshot = if second { stack.second } else { stack.first };
        let delete = stack.delete(snapshot, gone, into);
        assert!(!absent(&t, delete.clone()).await);
        assert_eq!(files(&t, stack.id).await, left, "{gone} into {into:?}");
        let guest = t.fake.snapshot()[&stack.id].clone();
        assert_eq!(guest.state, PowerState::Running);
        let there = t.snapshot().await;
        assert!(absent(&t, delete).await);
        assert_eq!(t.snapshot().await, there);
        // The other snapshot is the line between what is left.
        let other = if second { stack.first } else { stack.second };
        let delete = stack.delete(other, left[0], Some(left[1]));
        assert!(!absent(&t, delete).await);
        assert_eq!(files(&t, stack.id).await, ["vol"]);
    }
}

#[tokio::test]
async fn what_cannot_be_merged_is_refused_and_nothing_changes() {
    let t = inhabited().await;
    let stack = stack(&t).await;
    let (first, second) = (stack.first, stack.second);
    for (snapshot, gone, into, reason) in [
        (first, "vol", None, "NOT_SUPPORTED"),
        (second, "f2", None, "INVALID_REQUEST"),
        (second, "f2", Some("vol"), "INVALID_REQUEST"),
        (second, "f1", Some("f1"), "INVALID_REQUEST"),
        (second, "f1", Some("vol"), "INVALID_REQUEST"),
        (first, "f1", None, "INVALID_REQUEST"),
        (first, "f1", Some("absent"), "INVALID_REQUEST"),
        (first, "other", None, "INVALID_REQUEST"),
    ] {
        let e = refused(&t, stack.delete(snapshot, gone, into)).await;
        assert_eq!(e.reason(), reason, "{gone} into {into:?}: {e}");
    }
    let unknown = uuid::Uuid::new_v4().to_string().parse().unwrap();
    assert!(absent(&t, stack.delete(unknown, "f1", Some("vol"))).await);
}

#[tokio::test]
async fn a_failure_leaves_all_as_it_was_or_all_of_it_done() {
    for (gone, into, left) in [
        ("f1", None, ["f2", "vol"]),
        ("f2", Some("f1"), ["f1", "vol"]),
    ] {
        let t = inhabited().await;
        let stack = stack(&t).await;
        let delete = || stack.delete(stack.second, gone, into);
        let before = t.snapshot().await;
        t.fake
            .fail("begin_merge", Times::Next(1), broken("begin_merge"));
        let e = done_badly(&t, delete()).await;
        assert_eq!(e.reason(), "HYPERVISOR_ERROR", "{e}");
        assert_eq!(t.snapshot().await, before);
        let action = delete();
        let mut task = t.task(&action).await.failing_at(0);
        action.run(&mut task).await.unwrap_err();
        for _ in 0..2 {
            task.unwind().await.unwrap();
            assert_eq!(files(&t, stack.id).await, left, "there is no way back");
        }
        assert!(absent(&t, delete()).await);
    }
}

async fn done_badly<A: Action>(t: &TestHost, action: A) -> Error {
    let mut task = t.task(&action).await;
    let e = action.run(&mut task).await.unwrap_err();
    task.unwind().await.unwrap();
    e
}

#[tokio::test]
async fn a_crash_leaves_all_as_it_was_or_all_of_it_done() {
    let all = ["f2", "f1", "vol"].as_slice();
    for (call, left) in [("begin_merge", all), ("define", &["f1", "vol"])] {
        let t = inhabited().await;
        let stack = stack(&t).await;
        let action = stack.delete(stack.second, "f2", Some("f1"));
        let mut task = t.task(&action).await;
        t.fake.fail(call, Times::Next(1), broken(call));
        action.run(&mut task).await.unwrap_err();
        drop(task);
        let next = t.next_life().await;
        crate::recover::run(&next.host).await.unwrap();
        assert_eq!(files(&next, stack.id).await, left, "cut in {call}");
        let guest = next.fake.snapshot()[&stack.id].clone();
        assert_eq!(guest.state, PowerState::Running);
    }
}

/// What a guest would read of the disk, by the headers of its files.
async fn content(t: &TestHost, stack: &Stack, top: &str) -> Vec<u8> {
    let top = file_of(&stack.volume).with_file_name(top);
    if name(&top) == "vol" {
        return std::fs::read(top).unwrap();
    }
    let flat = t.host.paths.state.join("flat");
    let convert = Command::new("qemu-img").args(["convert", "-f", "qcow2", "-O", "raw"]);
    convert.arg(&top).arg(&flat).run().await.unwrap();
    std::fs::read(flat).unwrap()
}

#[tokio::test]
async fn files_of_a_guest_that_is_off_become_one_and_show_the_same() {
    for (second, gone, into, left) in [
        (false, "vol", None, ["f2", "f1"]),
        (false, "f1", Some("vol"), ["f2", "vol"]),
        (true, "f1", None, ["f2", "vol"]),
        (true, "f2", Some("f1"), ["f1", "vol"]),
    ] {
        let t = inhabited().await;
        let stack = stack(&t).await;
        off(&t, stack.id).await;
        for (name, write) in [
            ("vol", "write -P 1 0 300k"),
            ("f1", "write -P 2 100k 200k"),
            ("f2", "write -P 3 200k 300k"),
        ] {
            let format = if name == "vol" { "raw" } else { "qcow2" };
            let file = file_of(&stack.volume).with_file_name(name);
            let io = Command::new("qemu-io").args(["-f", format, "-c", write]);
            io.arg(&file).run().await.unwrap();
        }
        let before = content(&t, &stack, "f2").await;
        let snapshot = if second { stack.second } else { stack.first };
        let delete = || stack.delete(snapshot, gone, into);
        let action = delete();
        let mut task = t.task(&action).await.failing_at(0);
        action.run(&mut task).await.unwrap_err();
        task.unwind().await.unwrap();
        assert_eq!(files(&t, stack.id).await, ["f2", "f1", "vol"]);
        assert!(!absent(&t, delete()).await);
        assert_eq!(files(&t, stack.id).await, left);
        std::fs::remove_file(file_of(&stack.volume).with_file_name(gone)).unwrap();
        assert!(
            content(&t, &stack, left[0]).await == before,
            "{gone} into {into:?}"
        );
        done(&t, PowerOn { instance: stack.id }).await;
        assert!(absent(&t, delete()).await);
        let create = CreateVolumeSnapshot {
            snapshot,
            ..create(stack.id, &stack.volume, "f3")
        };
        let last = if left[0] == "vol" {
            DiskFormat::Raw
        } else {
            DiskFormat::Qcow2
        };
        over(&t, "f3", left[0], last).await;
        done(&t, create).await;
    }
}
