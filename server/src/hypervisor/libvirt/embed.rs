//! The folder in which libvirt's QEMU driver lives inside our own process: `qemu:///embed?root=ROOT`.
//!
//! One process owns a root. QEMU runs as the distribution's own user for it when computelet is root, as far as that user
//! can reach the root: every folder above it must let others search it (mode 0711 does, 0700 does not). Where it cannot,
//! as below `/root`, QEMU runs as root and a warning says so. An ordinary user's QEMU runs as that user, who needs a home
//! (or `XDG_RUNTIME_DIR`): libvirt keeps a little of it outside the root.
//! What is behind a guest's disks is given to QEMU's user by libvirt when the guest starts, and back to root when it ends.

mod mend;

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use tracing::warn;

/// Longest socket path: 107 bytes, less `/run/qemu/channel/123456-` + 20 of the name + `/org.qemu.guest_agent.0`.
const MAX_ROOT: usize = 107 - 18 - 27 - 23;

/// Users that distributions have for QEMU: Debian and Ubuntu, then Fedora, RHEL, Arch and SUSE.
const EMULATOR_USERS: [&str; 2] = ["libvirt-qemu", "qemu"];

/// Why an embedded root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another computelet owns this state directory: {0}")]
    Owned(PathBuf),
    /// The sockets below it would have too long a path.
    #[error("the path {path} is {over} characters too long: sockets of guests lie below it")]
    TooLong {
        /// The root.
        path: PathBuf,
        /// By how much.
        over: usize,
    },
    /// It cannot stand in an address.
    #[error("the path {0} is not valid UTF-8")]
    NotUtf8(PathBuf),
    /// A file or folder of it cannot be made.
    #[error("cannot prepare {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[from] io::Error),
}

/// An embedded root that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    _lock: File,
}

impl Root {
    /// Makes the folder if need be, takes it, and writes the driver's configuration.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let mut make = DirBuilder::new();
        make.recursive(true)
            .mode(if is_root() { 0o711 } else { 0o700 });
        make.create(path).map_err(at(path))?;
        // QEMU's command line, by which strays are known again, holds the path as it is given here.
        let path = fs::canonicalize(path).map_err(at(path))?;
        let length = path.as_os_str().as_bytes().len();
        if length > MAX_ROOT {
            let over = length - MAX_ROOT;
            return Err(OpenError::TooLong { path, over });
        }
        let lock = lock(&path)?;
        let folder = path.join("etc");
        make.create(&folder).map_err(at(&folder))?;
        let file = folder.join("qemu.conf");
        write(&file, &configuration(&path)).map_err(at(&file))?;
        mend::all(&path);
        Ok(Self { path, _lock: lock })
    }

    /// Where it is, without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The address that opens it.
    pub(super) fn uri(&self) -> Result<String, OpenError> {
        let path = self
            .path
            .to_str()
            .ok_or_else(|| OpenError::NotUtf8(self.path.clone()))?;
        let root: String = url::form_urlencoded::byte_serialize(path.as_bytes()).collect();
        // libvirt reads `%20` but not `+` as a space.
        Ok(format!("qemu:///embed?root={}", root.replace('+', "%20")))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// libvirt has a lock of its own, but a process in which it failed once can never open the driver again.
fn lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join("computelet.lock");
    let mut open = File::options();
    let file = open
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(at(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Owned(root.to_owned())),
        Err(e) => Err(at(&path)(e.into())),
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("conf.part");
    File::create(&part)?.write_all(text.as_bytes())?;
    fs::rename(part, path)
}

fn configuration(root: &Path) -> String {
    let mut text = String::from(
        "# Written by computelet at each start; changes are lost.\n\
         # Consoles are logged by QEMU itself: no log daemon is needed.\n\
         stdio_handler = \"file\"\n\
         # All files are root's between two runs of a guest, so there is no former owner to remember, and no attribute\n\
         # that a crash could leave behind on an image shared by many guests.\n\
         remember_owner = 0\n",
    );
    if is_root()
        && let Some(barred) = barred(root)
    {
        warn!(
            folder = %barred.folder.display(), user = barred.user,
            "QEMU runs as root: its own user cannot search a folder above its files; mode 0711 lets it"
        );
        text.push_str("user = \"root\"\ngroup = \"root\"\n");
    }
    text
}

/// The folder that keeps QEMU's own user out.
#[derive(Debug, PartialEq, Eq)]
struct Barred {
    folder: PathBuf,
    user: &'static str,
}

fn barred(root: &Path) -> Option<Barred> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let (user, uid) = EMULATOR_USERS
        .iter()
        .find_map(|name| Some((*name, uid(&users, name)?)))?;
    let closed = |folder: &&Path| !fs::metadata(folder).is_ok_and(|meta| can_search(&meta, uid));
    let folder = root.ancestors().find(closed)?.to_owned();
    Some(Barred { folder, user })
}

fn uid(users: &str, name: &str) -> Option<u32> {
    let mut lines = users.lines().map(|line| line.split(':'));
    let mut found = lines.find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    found.nth(1)?.parse().ok()
}

/// By owner or as anybody; groups and access lists are not looked at, which errs towards what always works.
fn can_search(folder: &fs::Metadata, uid: u32) -> bool {
    let bit = if folder.uid() == uid { 0o100 } else { 0o001 };
    folder.mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_root_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("q");
        let first = Root::take(&root).unwrap();
        let second = Root::take(&root).unwrap_err();
        assert!(
            second
                .to_string()
                .starts_with("another computelet owns this state directory"),
            "{second}"
        );
        drop(first);
        Root::take(&root).unwrap();
    }

    #[test]
    fn a_root_too_deep_for_sockets_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Root::take(&dir.path().join("x".repeat(MAX_ROOT))).unwrap_err();
        assert!(matches!(error, OpenError::TooLong { .. }), "{error}");
    }

    #[test]
    fn a_path_survives_its_address() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let root = Root::take(&dir.path().join("a b&c+%")).unwrap();
        let address = root.uri().unwrap();
        assert!(address.ends_with("%2Fa%20b%26c%2B%25"), "{address}");
    }

    #[test]
    fn qemus_user_needs_every_folder_on_the_way() {
        let users = "root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:993::/:/bin/false\n";
        assert_eq!(uid(users, "libvirt-qemu"), Some(64055));
        assert_eq!(uid(users, "qemu"), None);
        let dir = tempfile::tempdir().unwrap();
        for (mode, open) in [(0o711, true), (0o700, false), (0o755, true)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            let meta = fs::metadata(dir.path()).unwrap();
            assert_eq!(can_search(&meta, 64055), open, "{mode:o}");
        }
    }
}
