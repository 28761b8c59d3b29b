//! What volumes are kept in, and what their storage service does.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use computedriver::v1::{self, volume_connection::Target};
use uuid::Uuid;

use crate::support::{Sandbox, command, guest};

/// A place for a volume in a file.
pub(super) fn place(sandbox: &Sandbox, name: &str) -> PathBuf {
    let folder = sandbox.path().join("volumes");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
    folder.join(name)
}

pub(super) fn run(program: &str, args: &[&str]) -> String {
    let ran = command(program).args(args).output();
    let ran = ran.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(ran.status.success(), "{program} {args:?}: {ran:?}");
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

/// A block device over a file, until it is dropped.
pub(super) struct Loop {
    device: PathBuf,
    file: PathBuf,
    /// The name that stays, as below `/dev/disk/by-id`.
    link: PathBuf,
}

impl Loop {
    /// None when this machine lets us have none.
    pub(super) fn over(file: &Path) -> Option<Self> {
        let made = Self {
            device: Self::device(file)?,
            file: file.to_owned(),
            link: file.with_extension("by-id"),
        };
        symlink(&made.device, &made.link).unwrap();
        Some(made)
    }

    /// It has another name from now on, as after a start of the host.
    pub(super) fn rename(&mut self) {
        let device = Self::device(&self.file).unwrap();
        assert_ne!(device, self.device);
        detach(&std::mem::replace(&mut self.device, device));
        fs::remove_file(&self.link).unwrap();
        symlink(&self.device, &self.link).unwrap();
    }

    fn device(file: &Path) -> Option<PathBuf> {
        let ran = command("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output();
        let device = ran.ok().filter(|ran| ran.status.success());
        let Some(device) = device else {
            eprintln!("SKIPPED: a block device of the test's own needs losetup, and root");
            return None;
        };
        let device = String::from_utf8(device.stdout).unwrap();
        Some(device.trim().into())
    }

    pub(super) fn size(&self) -> u64 {
        fs::metadata(&self.file).unwrap().len()
    }

    pub(super) fn grow(&self, size: u64) {
        let file = fs::File::options().write(true).open(&self.file);
        file.unwrap().set_len(size).unwrap();
        run(
            "losetup",
            &["--set-capacity", self.device.to_str().unwrap()],
        );
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        detach(&self.device);
    }
}

fn detach(device: &Path) {
    let _ = command("losetup").arg("--detach").arg(device).status();
}

/// What a volume is kept in.
pub(super) enum Kept {
    Raw(PathBuf),
    Qcow2(PathBuf),
    Block(Loop),
}

impl Kept {
    /// The tiny guest on a volume.
    pub(super) fn raw(sandbox: &Sandbox) -> Self {
        let (from, to) = (guest().join("guest.qcow2"), place(sandbox, "root.raw"));
        let (from, path) = (from.to_str().unwrap(), to.to_str().unwrap());
        run("qemu-img", &["convert", "-O", "raw", from, path]);
        Self::Raw(to)
    }

    pub(super) fn qcow2(sandbox: &Sandbox) -> Self {
        let to = place(sandbox, "root.qcow2");
        fs::copy(guest().join("guest.qcow2"), &to).unwrap();
        Self::Qcow2(to)
    }

    pub(super) fn block(sandbox: &Sandbox) -> Option<Self> {
        match Self::raw(sandbox) {
            Self::Raw(file) => Loop::over(&file).map(Self::Block),
            _ => None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Raw(path) | Self::Qcow2(path) => path,
            Self::Block(Loop { link, .. }) => link,
        }
    }

    pub(super) fn volume(&self) -> v1::VolumeConnection {
        let local = v1::LocalTarget {
            path: self.path().display().to_string(),
        };
        let qcow2 = matches!(self, Self::Qcow2(_));
        v1::VolumeConnection {
            volume_id: Uuid::new_v4().to_string(),
            target: Some(Target::Local(local)),
            format: qcow2.then_some(v1::DiskFormat::Qcow2.into()),
            ..Default::default()
        }
    }

    /// As its storage service does; of a qcow2 that a guest has open, the emulator is the one to do it.
    pub(super) fn grow(&self, size: u64) {
        match self {
            Self::Raw(path) => {
                let file = fs::File::options().write(true).open(path);
                file.unwrap().set_len(size).unwrap();
            }
            Self::Qcow2(_) => {}
            Self::Block(device) => device.grow(size),
        }
    }

    /// Whose it is on the host.
    pub(super) fn owner(&self) -> (u32, u32) {
        let found = fs::metadata(self.path()).unwrap();
        (found.uid(), found.gid())
    }
}
