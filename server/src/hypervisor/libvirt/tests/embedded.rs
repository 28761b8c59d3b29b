//! The real QEMU driver, embedded. A process can open one root only, so each test runs itself again in its own.

use std::{os::unix::fs::PermissionsExt, path::Path};

use super::*;
use crate::sys::command::Command;

const ROOT: &str = "COMPUTELET_TEST_ROOT";
const ROLE: &str = "COMPUTELET_TEST_ROLE";

/// Runs the named test of this module again, in a process of its own and in a role.
async fn again(test: &str, role: &str, root: &Path) -> Result<String, String> {
    let exe = std::env::current_exe().unwrap();
    let path = module_path!().split_once("::").map_or("", |(_, path)| path);
    let child = Command::new("env")
        .arg(format!("{ROOT}={}", root.display()))
        .arg(format!("{ROLE}={role}"))
        .arg(exe)
        .args([&format!("{path}::{test}"), "--exact", "--nocapture"])
        .time_limit(LIMIT * 3);
    let done = child.run().await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned() + &done.stderr)
}

/// The role that this process has, if any, and its root.
fn role() -> Option<(String, LibvirtSettings)> {
    let root = std::env::var_os(ROOT)?;
    let mut settings = LibvirtSettings::new(ConnectTo::Embedded { root: root.into() });
    settings.virt_type = VirtChoice::Qemu;
    Some((std::env::var(ROLE).unwrap(), settings))
}

fn qemu_is_here() -> bool {
    let here = Path::new("/usr/bin/qemu-system-x86_64")
        .try_exists()
        .unwrap();
    if !here {
        eprintln!("SKIPPED: no QEMU on this machine");
    }
    here
}

/// Short, for the sockets below it, and open to QEMU's own user.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("cl")
        .tempdir_in("/tmp")
        .unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

async fn in_own_process(test: &str, roles: &[&str]) {
    if !qemu_is_here() {
        return;
    }
    let dir = folder();
    for role in roles {
        let out = again(test, role, &dir.path().join("q")).await;
        println!("{role}: {out:?}");
        assert!(out.is_ok(), "{role} fails");
    }
}

async fn running(libvirt: &Libvirt) -> InstanceId {
    let id = InstanceId::random();
    libvirt.define(&domain(id, VirtType::Qemu)).await.unwrap();
    libvirt.start(id, StartMode::Running).await.unwrap();
    id
}

#[tokio::test]
async fn a_guest_lives_and_goes() {
    let Some((_, settings)) = role() else {
        return in_own_process("a_guest_lives_and_goes", &["all"]).await;
    };
    let t = Instant::now();
    let libvirt = up(settings).await;
    println!("up {:?}", t.elapsed());
    println!("{:#?}", libvirt.capabilities().await.unwrap());
    let t = Instant::now();
    let id = running(&libvirt).await;
    println!("start {:?}", t.elapsed());
    assert_eq!(
        signalled(&libvirt, id, PowerState::Running).await.reason,
        Some("booted")
    );
    assert_eq!(libvirt.info(id).await.unwrap().state, PowerState::Running);
    println!("{:?}", libvirt.live(id).await.unwrap());
    let ping = libvirt.ping_agent(id).await;
    assert!(matches!(ping, Err(HypervisorError::Agent(_))), "{ping:?}");
    let t = Instant::now();
    libvirt.destroy(id).await.unwrap();
    println!("destroy {:?}", t.elapsed());
    assert_eq!(
        signalled(&libvirt, id, PowerState::Shutdown).await.reason,
        Some("destroyed")
    );
    libvirt.undefine(id).await.unwrap();
    assert_eq!(libvirt.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_second_owner_is_refused_with_a_clear_word() {
    let Some((_, settings)) = role() else {
        return in_own_process("a_second_owner_is_refused_with_a_clear_word", &["all"]).await;
    };
    let _first = up(settings.clone()).await;
    let refused = Libvirt::open(settings).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("another computelet owns this state directory"),
        "{refused}"
    );
}

#[tokio::test]
async fn settling_leaves_the_guests_of_this_life_alone() {
    let Some((_, settings)) = role() else {
        return in_own_process("settling_leaves_the_guests_of_this_life_alone", &["all"]).await;
    };
    let libvirt = up(settings).await;
    let id = running(&libvirt).await;
    libvirt.settle().await.unwrap();
    assert_eq!(libvirt.info(id).await.unwrap().state, PowerState::Running);
    gone(&libvirt, id).await;
}

/// Starts a guest and dies as `kill -9` lets one die.
async fn die_with_a_guest(settings: LibvirtSettings) -> ! {
    let libvirt = up(settings).await;
    running(&libvirt).await;
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        .unwrap();
    unreachable!("nobody survives that")
}

async fn gone(libvirt: &Libvirt, id: InstanceId) {
    libvirt.destroy(id).await.unwrap();
    libvirt.undefine(id).await.unwrap();
    assert_eq!(libvirt.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_guest_outlives_its_server_and_is_known_again() {
    let test = "a_guest_outlives_its_server_and_is_known_again";
    let Some((role, settings)) = role() else {
        if !qemu_is_here() {
            return;
        }
        let dir = folder();
        let root = dir.path().join("q");
        again(test, "die", &root).await.expect_err("it is killed");
        let adopted = again(test, "adopt", &root).await;
        return println!("{}", adopted.unwrap());
    };
    if role == "die" {
        die_with_a_guest(settings).await;
    }
    let libvirt = up(settings).await;
    let t = Instant::now();
    libvirt.settle().await.unwrap();
    println!("settled in {:?}", t.elapsed());
    let [(id, info)] = libvirt.list().await.unwrap()[..] else {
        panic!("one guest is there");
    };
    assert_eq!(info.state, PowerState::Running);
    assert_eq!(
        signalled(&libvirt, id, PowerState::Running).await.reason,
        Some("observed")
    );
    gone(&libvirt, id).await;
}

#[tokio::test]
async fn an_emulator_that_libvirt_does_not_know_is_ended() {
    let test = "an_emulator_that_libvirt_does_not_know_is_ended";
    let Some((role, settings)) = role() else {
        if !qemu_is_here() {
            return;
        }
        let dir = folder();
        let root = dir.path().join("q");
        again(test, "die", &root).await.expect_err("it is killed");
        // As if it had been killed before libvirt noted the guest.
        let status = settle::status_folder(&root.canonicalize().unwrap());
        let notes = std::fs::read_dir(status)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let [note] = &notes
            .filter(|path| path.extension().is_some_and(|e| e == "xml"))
            .collect::<Vec<_>>()[..]
        else {
            panic!("one guest ran");
        };
        std::fs::remove_file(note).unwrap();
        let out = again(test, "settle", &root).await;
        return println!("{}", out.unwrap());
    };
    if role == "die" {
        die_with_a_guest(settings).await;
    }
    let ConnectTo::Embedded { root } = &settings.connect else {
        unreachable!("the role is one of an embedded root");
    };
    let root = root.canonicalize().unwrap();
    assert_eq!(emulators(&root), 1, "the stray is there");
    let libvirt = up(settings).await;
    libvirt.settle().await.unwrap();
    assert_eq!(emulators(&root), 0, "the stray is gone");
    let [(id, info)] = libvirt.list().await.unwrap()[..] else {
        panic!("one guest is defined");
    };
    assert_eq!(info.state, PowerState::Shutdown);
    libvirt.start(id, StartMode::Running).await.unwrap();
    gone(&libvirt, id).await;
}

fn emulators(root: &Path) -> usize {
    let root = root.to_str().unwrap();
    let below = |pid: &i32| {
        process::arguments(*pid).is_ok_and(|words| words.iter().any(|word| word.contains(root)))
    };
    let alive = |pid: &i32| {
        process::Process::read(*pid).is_ok_and(|seen| seen.status == process::Status::Alive)
    };
    let is_qemu =
        |pid: &i32| process::Process::read(*pid).is_ok_and(|seen| seen.command.starts_with("qemu"));
    process::all()
        .unwrap()
        .iter()
        .filter(|pid| below(pid) && alive(pid) && is_qemu(pid))
        .count()
}
