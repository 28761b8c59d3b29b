//! What a crash has left half written of a guest, set right before libvirt reads it.
//!
//! libvirt writes the status of a guest that starts before there is a process, and again when it knows that. It takes the
//! first for a guest that runs, looks after it no further because it has no process, and leaves the start's job open for
//! good: whatever is asked of the guest waits for that. So that status is removed: then the guest is off, and its
//! emulator, where there is one, is a stray.
//!
//! libvirt writes a guest's status before it asks QEMU to begin a job, and once more when QEMU has answered: what the job
//! needs for its end is in the second only. A process that dies between the two leaves the first, and QEMU at work.
//! libvirt 11.3 adopts such a guest, and
//!
//! - of a merge of the file that the guest writes to, it follows a null pointer as soon as the job ends otherwise than by
//!   a pivot, and this process ends with it (`docs/adr/0007`). So the job is given a kind that libvirt
//!   does not know: it ends such jobs by itself while it adopts the guest;
//! - of a backup, it holds the guest's one job for ever, and no copy or save can be begun until the guest is off. So
//!   the guest has no job. What QEMU copies is ended as any work on a disk.
//!
//! Where a status does not read as expected, it is left as it is.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use tracing::{info, warn};

use super::super::{settle, xml::Element};

/// A kind of job that no libvirt knows.
const UNKNOWN: &str = "half-begun";

/// Mends the status of each guest in a root that nobody else uses.
pub(super) fn all(root: &Path) {
    let folder = settle::status_folder(root);
    let Ok(listed) = fs::read_dir(&folder) else {
        return;
    };
    let files = listed.filter_map(|entry| Some(entry.ok()?.path()));
    for file in files.filter(|file| file.extension().is_some_and(|of| of == "xml")) {
        match one(&file) {
            Ok(Some(what)) => info!(file = %file.display(), what),
            Ok(None) => {}
            Err(e) => {
                warn!(file = %file.display(), error = %e, "the status of a guest is left as it is");
            }
        }
    }
}

/// What was done, if there was anything to do.
fn one(file: &Path) -> io::Result<Option<&'static str>> {
    let status = fs::read_to_string(file)?;
    if is_unborn(&status) {
        fs::remove_file(file)?;
        return Ok(Some("a start that a crash cut is forgotten"));
    }
    let Some(mended) = mended(&status) else {
        return Ok(None);
    };
    let part = file.with_extension("part");
    // At no moment may others read what the status tells of a guest.
    let mut own = fs::OpenOptions::new();
    let mut copy = own
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    copy.write_all(mended.as_bytes())?;
    let mode = fs::metadata(file)?.permissions().mode();
    fs::set_permissions(&part, fs::Permissions::from_mode(mode))?;
    fs::rename(part, file)?;
    Ok(Some("a job that a crash left half begun is ended"))
}

/// Whether there was no process yet.
fn is_unborn(status: &str) -> bool {
    let read = Element::parse(status);
    read.is_ok_and(|read| read.attribute("pid") == Some("0"))
}

fn mended(status: &str) -> Option<String> {
    let read = Element::parse(status).ok()?;
    let mut text = status.to_owned();
    for job in read.all(&["blockjobs", "blockjob"]) {
        if let Some(tag) = half_merge(&read, job) {
            let unknown = tag.replace("'active-commit'", &format!("'{UNKNOWN}'"));
            text = text.replacen(&tag, &unknown, 1);
        }
    }
    if read.first(&["backups", "domainbackup"]).is_none()
        && read.first(&["job"]).and_then(|job| job.attribute("async")) == Some("backup")
    {
        text = without_job(&text).unwrap_or(text);
    }
    (text != status).then_some(text)
}

/// How the element of a merge begins whose disk has no mirror.
fn half_merge(status: &Element, job: &Element) -> Option<String> {
    let name = job.attribute("name")?;
    let target = job.first(&["disk"])?.attribute("dst")?;
    let named = |disk: &&Element| {
        let name = disk.first(&["target"]);
        name.and_then(|name| name.attribute("dev")) == Some(target)
    };
    let disk = status.all(&["domain", "devices", "disk"]).find(named)?;
    let half = job.attribute("type") == Some("active-commit") && disk.first(&["mirror"]).is_none();
    half.then(|| format!("<blockjob name='{name}' type='active-commit'"))
}

/// The status without the word that something holds the guest.
fn without_job(status: &str) -> Option<String> {
    let (before, job) = status.split_once("<job ")?;
    let (tag, after) = job.split_once('>')?;
    tag.ends_with('/').then_some(())?;
    Some(format!("{before}<job type='none'/>{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(mirror: &str, job: &str, rest: &str) -> String {
        format!(
            "<domstatus state='running'>\n  <blockjobs active='no'>\n    {job}\n  </blockjobs>\n  {rest}\n  <domain><devices>
            <disk><source file='/f1'/>{mirror}<target dev='vdb'/></disk></devices></domain>\n</domstatus>"
        )
    }

    const MERGE: &str = "<blockjob name='commit-vdb-libvirt-1-format' type='active-commit' state='new' jobflags='0x4'>
      <disk dst='vdb'/><base node='libvirt-2-storage'/><top node='libvirt-1-storage'/></blockjob>";

    #[test]
    fn a_merge_without_its_mirror_becomes_a_job_that_libvirt_ends() {
        let found = mended(&status("", MERGE, "")).unwrap();
        assert!(
            found.contains("-1-format' type='half-begun' state='new'"),
            "{found}"
        );
        assert_eq!(mended(&found), None, "it is done once");
    }

    #[test]
    fn what_libvirt_has_written_whole_is_left() {
        let mirror = "<mirror type='file' job='active-commit'><source file='/f0'/></mirror>";
        assert_eq!(mended(&status(mirror, MERGE, "")), None);
        let down = MERGE.replace("active-commit", "commit");
        assert_eq!(mended(&status("", &down, "")), None);
        let backup = "<job type='none' async='backup' flags='0x0' asyncStarted='1'/><backups><domainbackup mode='push'/></backups>";
        assert_eq!(mended(&status("", "", backup)), None);
        let save = "<job type='none' async='save' flags='0x0' asyncStarted='1'/>";
        assert_eq!(mended(&status("", "", save)), None);
        assert_eq!(mended("<domstatus><blockjobs>"), None);
    }

    #[test]
    fn a_backup_of_which_nothing_is_known_holds_nobody() {
        let held = "<job type='none' async='backup' flags='0x0' asyncStarted='1'/>";
        let found = mended(&status("", "", held)).unwrap();
        assert!(found.contains("<job type='none'/>\n"), "{found}");
        assert_eq!(mended(&found), None);
    }

    #[test]
    fn a_start_without_a_process_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let folder = settle::status_folder(root.path());
        fs::create_dir_all(&folder).unwrap();
        let note = |pid: &str| {
            format!(
                "<!--\nx\n-->\n\n<domstatus state='paused' reason='starting up' pid='{pid}'>\n</domstatus>\n"
            )
        };
        for (name, text) in [("a.xml", note("0")), ("b.xml", note("6204"))] {
            fs::write(folder.join(name), text).unwrap();
        }
        all(root.path());
        assert!(!folder.join("a.xml").try_exists().unwrap());
        assert_eq!(
            fs::read_to_string(folder.join("b.xml")).unwrap(),
            note("6204")
        );
    }

    #[test]
    fn only_statuses_are_touched_and_they_keep_their_mode() {
        let root = tempfile::tempdir().unwrap();
        let folder = settle::status_folder(root.path());
        fs::create_dir_all(&folder).unwrap();
        let (file, other) = (folder.join("g.xml"), folder.join("g.pid"));
        for file in [&file, &other] {
            fs::write(file, status("", MERGE, "")).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        all(root.path());
        assert!(fs::read_to_string(&file).unwrap().contains(UNKNOWN));
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(!fs::read_to_string(&other).unwrap().contains(UNKNOWN));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }
}
