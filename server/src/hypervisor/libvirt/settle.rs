//! Waits, once at start, until the guests of an earlier life are known again, and ends what libvirt does not know.
//!
//! The embedded driver opens before it has found its guests: for each status file that it finds, a thread of its own
//! talks to the guest's monitor. A guest that is acted upon meanwhile answers with nonsense ("domain is not running").

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tracing::{info, warn};
use virt::{connect::Connect, error::ErrorNumber, sys};

use super::{
    Call, Kind, Libvirt,
    fault::Fault,
    ffi::{self, Control},
    stray,
};
use crate::hypervisor::{Hypervisor, HypervisorError, Link, Result};

/// The first time in a root, libvirt asks every QEMU on the host what it can do.
const LINK_LIMIT: Duration = Duration::from_secs(60);
/// Talking to a guest's monitor takes milliseconds; one whose monitor hangs must not keep the server from starting.
const ADOPTION_LIMIT: Duration = Duration::from_secs(30);
/// There is no event for the end of an adoption.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

const LIST: Call = Call::plain(Kind::Slow, "virConnectListAllDomains");

/// Returns when every guest is either known to run or known to be off.
pub(super) async fn run(libvirt: &Libvirt) -> Result<()> {
    let mut link = libvirt.link();
    let came_up = link.wait_for(|link| *link == Link::Up);
    if timeout_at(Instant::now() + LINK_LIMIT, came_up)
        .await
        .is_err()
    {
        // Says why.
        libvirt.exchange.route()?;
    }
    let Some(root) = &libvirt.root else {
        return libvirt.list().await.map(drop);
    };
    let root = root.path().to_owned();
    adopt(libvirt, &root).await?;
    // What libvirt finds of a guest that it adopts is told by no event.
    libvirt.exchange.known.clear();
    end_strays(libvirt, root).await
}

async fn adopt(libvirt: &Libvirt, root: &Path) -> Result<()> {
    let limit = Instant::now() + ADOPTION_LIMIT;
    let mut look = interval(LOOK_AGAIN);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let folder = status_folder(root);
        let pending = libvirt
            .call(LIST, move |conn| pending(conn, &folder))
            .await?;
        if pending.is_empty() {
            return Ok(());
        }
        if Instant::now() >= limit {
            warn!(guests = ?pending, "guests of an earlier life are not known again yet");
            return Ok(());
        }
    }
}

async fn end_strays(libvirt: &Libvirt, root: PathBuf) -> Result<()> {
    let folder = status_folder(&root);
    let known = libvirt
        .call(LIST, move |conn| active(conn, &folder))
        .await?;
    let ended = tokio::task::spawn_blocking(move || stray::end_all(&root, &known)).await;
    let failed = |message: String| HypervisorError::Failed {
        call: "settle",
        message,
        code: 0,
        domain: 0,
    };
    let ended = ended.map_err(|e| failed(e.to_string()))?;
    for name in ended.map_err(|e| failed(format!("cannot look for strays: {e}")))? {
        info!(name, "ended an emulator that an earlier life left behind");
    }
    Ok(())
}

/// Where the driver keeps a status and a pid file of every running guest.
pub(super) fn status_folder(root: &Path) -> PathBuf {
    root.join("run/qemu")
}

/// Names of the guests of whom libvirt has a status but no certainty.
fn pending(conn: &Connect, folder: &Path) -> Result<Vec<String>, Fault> {
    let mut pending = Vec::new();
    for name in with_status(folder) {
        let adopted = match conn.lookup_domain_by_name(&name).map_err(Fault::from) {
            Ok(domain) if domain.is_active()? => {
                is_free(ffi::control(&domain).map_err(Fault::from))?
            }
            Ok(_) => false,
            Err(fault) if fault.is(ErrorNumber::NoDomain) => false,
            Err(fault) => return Err(fault),
        };
        // The status file goes with the guest: one that is gone by now was dealt with while we asked.
        if !adopted && status(folder, &name).try_exists().unwrap_or(true) {
            pending.push(name);
        }
    }
    Ok(pending)
}

fn is_free(control: Result<Control, Fault>) -> Result<bool, Fault> {
    match control {
        Ok(control) => Ok(control == Control::Free),
        // It went off just now.
        Err(fault)
            if fault.is(ErrorNumber::OperationInvalid) || fault.is(ErrorNumber::NoDomain) =>
        {
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

fn status(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.xml"))
}

fn with_status(folder: &Path) -> Vec<String> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                warn!(folder = %folder.display(), error = %e, "cannot list the guests of an earlier life");
            }
            return Vec::new();
        }
    };
    let names = listed.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_suffix(".xml").map(str::to_owned)
    });
    names.collect()
}

/// Process ids of the guests that libvirt knows to run, by name; none where it left no pid file.
fn active(conn: &Connect, folder: &Path) -> Result<HashMap<String, Option<i32>>, Fault> {
    let mut known = HashMap::new();
    for domain in conn.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)? {
        let name = domain.name()?;
        let pid = fs::read_to_string(folder.join(format!("{name}.pid")));
        let pid = pid.ok().and_then(|pid| pid.trim().parse().ok());
        known.insert(name, pid);
    }
    Ok(known)
}
