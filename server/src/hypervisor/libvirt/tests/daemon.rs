//! A libvirtd of the test's own: what only a libvirt outside this process can do, which is to go away.

use std::path::{Path, PathBuf};

use super::*;
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
