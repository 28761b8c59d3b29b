//! The real QEMU driver, embedded. A process can open one root only, so each test runs itself again in its own.

use crate::hypervisor::power::Power as _;
use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

mod copy;
mod counters;
mod node;

use super::*;
use crate::{hypervisor::Agent, sys::command::Command};

const ROOT: &str = "COMPUTELET_TEST_ROOT";
const ROLE: &str = "COMPUTELET_TEST_ROLE";
/// Roles that begin so are played in a pid namespace of their own.
const NAMESPACE: &str = "namespaced ";
/// And these among network interfaces of their own.
pub(super) const NETWORK: &str = "networked ";

/// Runs the named test of this module, or of one below it, again, in a process of its own and in a role.
async fn again(test: &str, role: &str, root: &Path) -> Result<String, String> {
    let exe = std::env::current_exe().unwrap();
    let path = module_path!().split_once("::").map_or("", |(_, path)| path);
    let child = if role.starts_with(NAMESPACE) {
        // The session begins outside of it, so that inside it has no id.
        let own = Command::new("unshare").args(["--pid", "--fork", "--kill-child"]);
        own.args(["--mount-proc", "env"])
    } else if role.starts_with(NETWORK) {
        Command::new("unshare").args(["--net", "env"])
    } else {
        Command::new("env")
    };
    let child = child
        .arg(format!("{ROOT}={}", root.display()))
        .arg(format!("{ROLE}={role}"))
        // An ordinary user's driver keeps a little outside its root, and this user may have no home.
        .arg(format!("HOME={}", root.parent().unwrap().display()))
        .arg(exe)
        .args([&format!("{path}::{test}"), "--exact", "--nocapture"])
        .time_limit(LIMIT * 3);
    let done = child.run().await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned() + &done.stderr)
}

/// The role that this process has, if any, and its root.
pub(super) fn role() -> Option<(String, LibvirtSettings)> {
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

/// A folder whose emulators end with it, however the test ends.
struct Folder(tempfile::TempDir);

impl Drop for Folder {
    fn drop(&mut self) {
        for pid in emulators(self.0.path()) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Folder {
    /// Short, for the sockets below it, and open to QEMU's own user.
    fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("cl")
            .tempdir_in("/tmp")
            .unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        Self(dir)
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("q")
    }
}

pub(super) async fn in_own_process(test: &str, roles: &[&str]) {
    if !qemu_is_here() {
        return;
    }
    let folder = Folder::new();
    for role in roles {
        let out = again(test, role, &folder.root()).await;
        println!("{role}: {out:?}");
        assert!(out.is_ok(), "{role} fails");
    }
}

pub(super) async fn running(libvirt: &Libvirt) -> InstanceId {
    let id = InstanceId::random();
    libvirt.define(&domain(id, VirtType::Qemu)).await.unwrap();
    libvirt.start(id, StartMode::Running).await.unwrap();
    id
}

/// As in a container, or below a build that shuts its processes in.
#[tokio::test]
async fn a_guest_lives_and_goes_in_a_pid_namespace() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: only root makes pid namespaces");
    }
    let role = format!("{NAMESPACE}all");
    in_own_process("a_guest_lives_and_goes", &[&role]).await;
}

#[tokio::test]
async fn a_guest_lives_and_goes() {
    let Some((_, mut settings)) = role() else {
        return in_own_process("a_guest_lives_and_goes", &["all"]).await;
    };
    settings.virt_type = VirtChoice::Auto;
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

/// libvirt lets an embedded driver be opened some twenty times in the life of a process.
#[tokio::test]
async fn every_worker_reaches_the_driver_however_many_there_are() {
    let Some((_, settings)) = role() else {
        let test = "every_worker_reaches_the_driver_however_many_there_are";
        return in_own_process(test, &["all"]).await;
    };
    let libvirt = up(settings).await;
    for (kind, workers) in [
        (Kind::Cheap, CHEAP.workers),
        (Kind::Monitor, MONITOR.workers),
        (Kind::Agent, AGENT_WORKERS_EMBEDDED),
    ] {
        let all = Arc::new(std::sync::Barrier::new(workers));
        let calls = (0..workers).map(|_| {
            let all = all.clone();
            libvirt.call(Call::plain(kind, "each"), move |conn| {
                all.wait();
                Ok(conn.hostname()?)
            })
        });
        for answer in futures::future::join_all(calls).await {
            answer.unwrap();
        }
    }
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

pub(super) async fn gone(libvirt: &Libvirt, id: InstanceId) {
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
        let folder = Folder::new();
        let root = folder.root();
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
        // As if it had been killed before libvirt noted the guest, or the guest's process.
        for noted in [false, true] {
            let folder = Folder::new();
            let root = folder.root();
            again(test, "die", &root).await.expect_err("it is killed");
            let note = note(&root.canonicalize().unwrap());
            match noted {
                true => make_unborn(&note),
                false => std::fs::remove_file(note).unwrap(),
            }
            let out = again(test, "settle", &root).await;
            println!("{}", out.unwrap());
        }
        return;
    };
    if role == "die" {
        die_with_a_guest(settings).await;
    }
    let ConnectTo::Embedded { root } = &settings.connect else {
        unreachable!("the role is one of an embedded root");
    };
    let root = root.canonicalize().unwrap();
    assert_eq!(emulators(&root).len(), 1, "the stray is there");
    let libvirt = up(settings).await;
    libvirt.settle().await.unwrap();
    assert_eq!(emulators(&root).len(), 0, "the stray is gone");
    let [(id, info)] = libvirt.list().await.unwrap()[..] else {
        panic!("one guest is defined");
    };
    assert_eq!(info.state, PowerState::Shutdown);
    libvirt.start(id, StartMode::Running).await.unwrap();
    gone(&libvirt, id).await;
}

/// libvirt's note of the one guest that runs.
fn note(root: &Path) -> PathBuf {
    let entries = std::fs::read_dir(settle::status_folder(root)).unwrap();
    let mut notes: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    notes.retain(|path| path.extension().is_some_and(|e| e == "xml"));
    assert_eq!(notes.len(), 1, "one guest ran");
    notes.remove(0)
}

/// Makes of it what libvirt writes between the start's beginning and the process.
fn make_unborn(note: &Path) {
    let text = std::fs::read_to_string(note).unwrap();
    let (head, rest) = text.split_once("<domstatus ").unwrap();
    let (_, rest) = rest.split_once('>').unwrap();
    let (before, after) = rest.split_once("<blockjobs ").unwrap();
    let job = "<job type='none' async='start' flags='0x0' asyncStarted='1'/>";
    let begun = format!("{before}{job}<blockjobs {after}");
    let tag = "<domstatus state='paused' reason='starting up' pid='0'>";
    std::fs::write(note, format!("{head}{tag}{begun}")).unwrap();
}

/// Emulators whose command line names a folder.
fn emulators(folder: &Path) -> Vec<i32> {
    let folder = folder.to_str().unwrap();
    let names_it = |pid: i32| {
        let words = process::arguments(pid).unwrap_or_default();
        words.iter().any(|word| word.contains(folder))
    };
    let lives = |pid: i32| {
        process::Process::read(pid).is_ok_and(|seen| {
            seen.status == process::Status::Alive && seen.command.starts_with("qemu")
        })
    };
    let mut all = process::all().unwrap();
    all.retain(|pid| lives(*pid) && names_it(*pid));
    all
}

/// The emulator of a guest, by the pid file that libvirt keeps.
pub(super) fn pid(libvirt: &Libvirt, id: InstanceId) -> rustix::process::Pid {
    let folder = settle::status_folder(libvirt.root.as_ref().unwrap().path());
    let file = folder.join(format!("{}.pid", Domain::name_of(id)));
    let pid = std::fs::read_to_string(file).unwrap();
    rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap()
}

fn user_of(pid: rustix::process::Pid) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap();
    line.split_ascii_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_guest_started_paused_runs_when_resumed() {
    let Some((_, settings)) = role() else {
        return in_own_process("a_guest_started_paused_runs_when_resumed", &["all"]).await;
    };
    let libvirt = up(settings).await;
    let id = InstanceId::random();
    libvirt.define(&domain(id, VirtType::Qemu)).await.unwrap();
    libvirt.start(id, StartMode::Paused).await.unwrap();
    signalled(&libvirt, id, PowerState::Paused).await;
    assert_eq!(libvirt.info(id).await.unwrap().state, PowerState::Paused);
    libvirt.resume(id).await.unwrap();
    let signal = signalled(&libvirt, id, PowerState::Running).await;
    assert_eq!(signal.reason, Some("unpaused"));
    gone(&libvirt, id).await;
}

#[tokio::test]
async fn an_emulator_that_dies_is_told_and_the_guest_can_start_again() {
    let Some((_, settings)) = role() else {
        let test = "an_emulator_that_dies_is_told_and_the_guest_can_start_again";
        return in_own_process(test, &["all"]).await;
    };
    let libvirt = up(settings).await;
    let id = running(&libvirt).await;
    rustix::process::kill_process(pid(&libvirt, id), rustix::process::Signal::KILL).unwrap();
    let signal = signalled(&libvirt, id, PowerState::Shutdown).await;
    assert_eq!(signal.reason, Some("failed"));
    libvirt.start(id, StartMode::Running).await.unwrap();
    signalled(&libvirt, id, PowerState::Running).await;
    gone(&libvirt, id).await;
}

#[tokio::test]
async fn a_guest_that_hangs_delays_no_other_and_can_be_destroyed() {
    let Some((_, mut settings)) = role() else {
        let test = "a_guest_that_hangs_delays_no_other_and_can_be_destroyed";
        return in_own_process(test, &["all"]).await;
    };
    settings.workers = 1;
    let libvirt = up(settings).await;
    let (hung, other) = (running(&libvirt).await, running(&libvirt).await);
    rustix::process::kill_process(pid(&libvirt, hung), rustix::process::Signal::STOP).unwrap();
    for id in [hung, other] {
        assert_eq!(libvirt.info(id).await.unwrap().state, PowerState::Running);
        libvirt.live(id).await.unwrap();
    }
    assert_eq!(libvirt.list().await.unwrap().len(), 2);
    libvirt.destroy(hung).await.unwrap();
    libvirt.undefine(hung).await.unwrap();
    gone(&libvirt, other).await;
}

/// Starts a guest with a disk over a shared base and tells whose process it is.
async fn user_of_a_guest_with_disks(settings: LibvirtSettings) -> u32 {
    let ConnectTo::Embedded { root } = &settings.connect else {
        unreachable!("the role is one of an embedded root");
    };
    let folder = root.parent().unwrap().to_owned();
    let (base, top) = (folder.join("base.raw"), folder.join("top.qcow2"));
    std::fs::File::create(&base)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let create = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    create.arg(&base).arg(&top).run().await.unwrap();
    let libvirt = up(settings).await;
    let id = InstanceId::random();
    let mut domain = domain(id, VirtType::Qemu);
    domain.console_log = Some(folder.join("console.log"));
    domain.disks = vec![crate::domain::Disk {
        id: "root".parse().unwrap(),
        source: crate::domain::DiskSource::File(top.clone()),
        format: crate::domain::Format::Qcow2,
        backing: Some(crate::domain::Backing {
            path: base.clone(),
            format: crate::domain::Format::Raw,
            own: false,
            backing: None,
        }),
        device: crate::domain::DiskDevice::Disk,
        read_only: false,
        shared: false,
        bus: crate::model::DiskBus::Virtio,
        target: "vda".to_owned(),
        unit: None,
        cache: crate::domain::Cache::Writeback,
        discard: false,
        serial: None,
        boot_order: None,
        tune: crate::domain::IoTune::default(),
    }];
    libvirt.define(&domain).await.unwrap();
    libvirt.start(id, StartMode::Running).await.unwrap();
    let user = user_of(pid(&libvirt, id));
    let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
    assert_eq!(owner(&top), user, "the guest's own disk is its emulator's");
    assert_eq!(owner(&base), 0, "what others rest on stays root's");
    gone(&libvirt, id).await;
    assert_eq!(
        std::fs::metadata(top).unwrap().uid(),
        0,
        "it is root's again"
    );
    user
}

pub(super) fn as_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root's QEMU has another user");
    }
    root
}

#[tokio::test]
async fn qemu_is_not_root_where_its_user_can_reach_its_files() {
    let Some((_, settings)) = role() else {
        if as_root() {
            let test = "qemu_is_not_root_where_its_user_can_reach_its_files";
            in_own_process(test, &["all"]).await;
        }
        return;
    };
    assert_ne!(user_of_a_guest_with_disks(settings).await, 0);
}

#[tokio::test]
async fn a_closed_folder_works_too_and_makes_qemu_root() {
    let Some((_, settings)) = role() else {
        if as_root() {
            in_own_process("a_closed_folder_works_too_and_makes_qemu_root", &["all"]).await;
        }
        return;
    };
    let ConnectTo::Embedded { root } = &settings.connect else {
        unreachable!("the role is one of an embedded root");
    };
    let folder = root.parent().unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(user_of_a_guest_with_disks(settings).await, 0);
}
