//! A libvirtd of the test's own: what only a libvirt outside this process can do, which is to go away.

use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::*;
use crate::hypervisor::{power::Power as _, secret::Secrets as _};
use crate::sys::command::{Command, CommandError};

/// Starts and stops a libvirtd whose world is a folder.
struct Daemon {
    folder: tempfile::TempDir,
}

impl Daemon {
    fn script() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/host/libvirtd")
    }

    async fn run(&self, verb: &str) -> Result<String, CommandError> {
        let script = Command::new("bash")
            .arg(Self::script())
            .arg(verb)
            .arg(self.folder.path());
        let done = script.time_limit(LIMIT * 2).run().await?;
        Ok(String::from_utf8(done.stdout).unwrap().trim().to_owned())
    }

    /// None when this machine lets us have none.
    async fn start() -> Option<(Self, String)> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: a libvirtd of one's own needs root");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("cl")
            .tempdir_in("/tmp")
            .unwrap();
        let daemon = Self { folder };
        let uri = daemon.run("start").await.unwrap();
        Some((daemon, uri))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // However the test ended, and outside its runtime, which waits for nobody here.
        let stop = || {
            tokio::runtime::Runtime::new()
                .unwrap()
                .block_on(self.run("stop"))
        };
        let stopped = std::thread::scope(|scope| scope.spawn(stop).join());
        if !std::thread::panicking() {
            stopped.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_guest_lives_and_goes_in_a_libvirtd() {
    let Some((_daemon, uri)) = Daemon::start().await else {
        return;
    };
    let mut settings = LibvirtSettings::new(ConnectTo::Uri(uri));
    settings.virt_type = VirtChoice::Qemu;
    let libvirt = up(settings).await;
    libvirt.settle().await.unwrap();
    assert!(libvirt.keeps_secrets().await.unwrap());
    let id = InstanceId::random();
    libvirt.define(&domain(id, VirtType::Qemu)).await.unwrap();
    libvirt.start(id, StartMode::Running).await.unwrap();
    signalled(&libvirt, id, PowerState::Running).await;
    assert_eq!(libvirt.info(id).await.unwrap().state, PowerState::Running);
    libvirt.destroy(id).await.unwrap();
    signalled(&libvirt, id, PowerState::Shutdown).await;
    libvirt.undefine(id).await.unwrap();
}

#[tokio::test]
async fn a_libvirtd_that_goes_away_is_noticed_and_joined_again() {
    let Some((daemon, uri)) = Daemon::start().await else {
        return;
    };
    let mut settings = LibvirtSettings::new(ConnectTo::Uri(uri));
    settings.virt_type = VirtChoice::Qemu;
    let libvirt = up(settings).await;
    let id = InstanceId::random();
    libvirt.define(&domain(id, VirtType::Qemu)).await.unwrap();
    libvirt.start(id, StartMode::Running).await.unwrap();
    signalled(&libvirt, id, PowerState::Running).await;

    // Its guests go with it, as with a host that restarts.
    daemon.run("stop").await.unwrap();
    let mut link = libvirt.link();
    within(link.wait_for(|link| matches!(link, Link::Down { .. })))
        .await
        .unwrap();
    let refused = libvirt.info(id).await;
    assert!(
        matches!(refused, Err(HypervisorError::Unavailable { .. })),
        "{refused:?}"
    );
    let last = libvirt.signals(id).borrow().state;
    assert_eq!(last, Some(PowerState::Running), "unreachable is not gone");

    daemon.run("start").await.unwrap();
    within(link.wait_for(|link| *link == Link::Up))
        .await
        .unwrap();
    let signal = signalled(&libvirt, id, PowerState::Shutdown).await;
    assert_eq!(signal.reason, Some("observed"));
    assert_eq!(libvirt.info(id).await.unwrap().state, PowerState::Shutdown);
    libvirt.start(id, StartMode::Running).await.unwrap();
    let signal = signalled(&libvirt, id, PowerState::Running).await;
    assert_eq!(signal.reason, Some("booted"), "events come again");
    libvirt.destroy(id).await.unwrap();
    libvirt.undefine(id).await.unwrap();
}

/// What others do to a guest, over a connection of their own.
async fn another(uri: &str, id: InstanceId, what: fn(&virt::domain::Domain) -> bool) {
    let uri = uri.to_owned();
    let act = move || {
        let theirs = Connect::open(Some(&uri)).unwrap();
        what(&theirs.lookup_domain_by_uuid(id.uuid()).unwrap())
    };
    assert!(tokio::task::spawn_blocking(act).await.unwrap());
}

#[tokio::test]
async fn what_others_do_to_a_guest_is_told_once_it_was_heard() {
    let Some((daemon, uri)) = Daemon::start().await else {
        return;
    };
    let mut settings = LibvirtSettings::new(ConnectTo::Uri(uri.clone()));
    settings.virt_type = VirtChoice::Qemu;
    let libvirt = up(settings).await;
    let id = running(&libvirt, &daemon).await;
    let kept = |libvirt: &Libvirt| libvirt.exchange.known.last(id).is_some();
    let told = async |state| {
        let info = libvirt.info(id).await.unwrap();
        assert_eq!(info.state, state);
        info
    };
    type Act = fn(&virt::domain::Domain) -> bool;
    let acts: [(Act, PowerState); 4] = [
        (|theirs| theirs.suspend().is_ok(), PowerState::Paused),
        (|theirs| theirs.resume().is_ok(), PowerState::Running),
        (|theirs| theirs.destroy().is_ok(), PowerState::Shutdown),
        (|theirs| theirs.create().is_ok(), PowerState::Running),
    ];
    let first = told(PowerState::Running).await;
    assert!(kept(&libvirt), "what runs is known");
    let again = told(PowerState::Running).await;
    assert!(again.cpu_time_ns >= first.cpu_time_ns);
    let same = GuestInfo {
        cpu_time_ns: first.cpu_time_ns,
        ..again
    };
    assert_eq!(same, first);
    for (act, state) in acts {
        // It is known when they act.
        let _ = libvirt.info(id).await.unwrap();
        another(&uri, id, act).await;
        signalled(&libvirt, id, state).await;
        told(state).await;
        assert_eq!(kept(&libvirt), state != PowerState::Shutdown);
    }
    // It ends on its own, and nobody is told that it runs whose emulator is gone.
    rustix::process::kill_process(pid(&daemon, id), rustix::process::Signal::KILL).unwrap();
    signalled(&libvirt, id, PowerState::Shutdown).await;
    told(PowerState::Shutdown).await;
    // And what we do ourselves is true when the call has ended.
    libvirt.start(id, StartMode::Paused).await.unwrap();
    told(PowerState::Paused).await;
    libvirt.resume(id).await.unwrap();
    told(PowerState::Running).await;
    libvirt.destroy(id).await.unwrap();
    told(PowerState::Shutdown).await;
    libvirt.undefine(id).await.unwrap();
}

/// The emulator of a guest, by the pid file that libvirtd keeps.
fn pid(daemon: &Daemon, id: InstanceId) -> Pid {
    let file = format!("run/qemu/{}.pid", Domain::name_of(id));
    let pid = std::fs::read_to_string(daemon.folder.path().join(file)).unwrap();
    Pid::from_raw(pid.trim().parse().unwrap()).unwrap()
}

async fn running(libvirt: &Libvirt, daemon: &Daemon) -> InstanceId {
    let domain = with_disk(daemon.folder.path());
    libvirt.define(&domain).await.unwrap();
    libvirt.start(domain.id, StartMode::Running).await.unwrap();
    domain.id
}

#[tokio::test]
async fn a_guest_that_hangs_is_seen_and_not_asked() {
    let Some((daemon, uri)) = Daemon::start().await else {
        return;
    };
    let mut settings = LibvirtSettings::new(ConnectTo::Uri(uri));
    settings.virt_type = VirtChoice::Qemu;
    settings.monitor_timeout = LIMIT * 10;
    let libvirt = up(settings).await;
    let (hung, other) = (
        running(&libvirt, &daemon).await,
        running(&libvirt, &daemon).await,
    );
    stop(pid(&daemon, hung)).await;
    let refused = within(libvirt.monitor_counters(hung, Groups::BLOCK)).await;
    assert!(matches!(refused, Err(HypervisorError::Busy)), "{refused:?}");
    within(libvirt.monitor_counters(other, Groups::BLOCK))
        .await
        .unwrap();
    let counted = within(libvirt.host_counters(Groups::HOST)).await.unwrap();
    let told = |guest: &HostCounters| guest.cpus.len() == 1 && guest.cpu_time_ns > Some(0);
    assert!(
        counted.len() == 2 && counted.iter().all(told),
        "{counted:?}"
    );
    resume(pid(&daemon, hung));
    within(libvirt.monitor_counters(hung, Groups::BLOCK))
        .await
        .unwrap();
}

/// As with a libvirtd whose emulators run on another host: only the answers tell that a guest hangs.
#[tokio::test]
async fn a_guest_that_takes_a_question_and_never_answers_costs_one_thread() {
    let Some((daemon, uri)) = Daemon::start().await else {
        return;
    };
    let (_, socket) = uri.split_once("socket=").unwrap();
    let elsewhere = tempfile::tempdir_in("/tmp").unwrap();
    let link = elsewhere.path().join("sock");
    std::os::unix::fs::symlink(socket, &link).unwrap();
    let far = format!("qemu+unix:///system?socket={}", link.display());
    let mut settings = LibvirtSettings::new(ConnectTo::Uri(far));
    settings.virt_type = VirtChoice::Qemu;
    settings.monitor_timeout = Duration::from_secs(2);
    let libvirt = up(settings).await;
    let (hung, other) = (
        running(&libvirt, &daemon).await,
        running(&libvirt, &daemon).await,
    );
    stop(pid(&daemon, hung)).await;
    let timeout = within(libvirt.monitor_counters(hung, Groups::BLOCK)).await;
    assert!(
        matches!(timeout, Err(HypervisorError::Timeout { .. })),
        "{timeout:?}"
    );
    for _ in 0..50 {
        let refused = within(libvirt.monitor_counters(hung, Groups::BLOCK)).await;
        assert!(matches!(refused, Err(HypervisorError::Busy)), "{refused:?}");
        within(libvirt.monitor_counters(other, Groups::BLOCK))
            .await
            .unwrap();
        within(libvirt.info(hung)).await.unwrap();
        let locked = within(libvirt.live(hung)).await;
        assert!(matches!(locked, Err(HypervisorError::Busy)), "{locked:?}");
        let counted = within(libvirt.host_counters(Groups::HOST)).await.unwrap();
        let told = |guest: &HostCounters| {
            // No emulator can be seen, so libvirt itself is asked.
            guest.life != 0 && guest.cpu_time_ns > Some(0) && guest.cpus.is_empty()
        };
        assert!(
            counted.len() == 2 && counted.iter().all(told),
            "{counted:?}"
        );
    }
    resume(pid(&daemon, hung));
    let answers = async {
        while libvirt.monitor_counters(hung, Groups::BLOCK).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(answers).await;
}
