//! What guests share stays out of their reach: an emulator that a guest has taken over can write its own disks only.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use computedriver::v1;

use crate::support::{Sandbox, command, guest, guest_request, image, sha256};

/// Ids that the kernel knows a process by.
struct Identity {
    uid: String,
    gid: String,
    groups: String,
}

impl Identity {
    fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let words: Vec<_> = line.unwrap().split_whitespace().collect();
            words.join(",")
        };
        let first = |ids: String| ids.split(',').next().unwrap().to_owned();
        Self {
            uid: first(of("Uid:")),
            gid: first(of("Gid:")),
            groups: of("Groups:"),
        }
    }

    /// Whether it may do with a file what `test` calls `-r` or `-w`.
    fn may(&self, what: &str, path: &Path) -> bool {
        let mut run = command("setpriv");
        run.arg(format!("--reuid={}", self.uid));
        run.arg(format!("--regid={}", self.gid));
        match self.groups.is_empty() {
            true => run.arg("--clear-groups"),
            false => run.arg(format!("--groups={}", self.groups)),
        };
        run.args(["test", what])
            .arg(path)
            .status()
            .unwrap()
            .success()
    }
}

/// Cached images and empty file systems; not the records beside them.
fn shared(sandbox: &Sandbox) -> Vec<PathBuf> {
    let images = sandbox.path().join("images");
    let folders = [images.join("formatted"), images];
    let files = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file() && path.extension().is_none_or(|end| end != "json"))
        .collect()
}

fn direct() -> v1::SpawnRequest {
    let file = |name: &str| {
        let path = guest().join(name);
        Some(v1::KernelImage {
            image_id: name.to_owned(),
            location: format!("file://{}", path.display()),
            sha256: sha256(&path),
        })
    };
    let image = v1::Image {
        kernel: file("vmlinuz"),
        ramdisk: file("initrd.gz"),
        kernel_command_line: "root=/dev/vda2 console=ttyS0 tsc=unstable mitigations=off".to_owned(),
        ..image(&guest().join("guest.qcow2"), v1::DiskFormat::Qcow2)
    };
    let mut asked = guest_request("GUEST-MILESTONE-init");
    asked.flavor.as_mut().unwrap().ephemeral_gib = 1;
    asked.image = Some(image);
    asked
}

#[tokio::test]
async fn a_running_guest_can_write_nothing_that_others_rest_on() {
    let sandbox = Sandbox::start(&[]).await;
    if std::fs::metadata(sandbox.path()).unwrap().uid() != 0 {
        eprintln!("SKIPPED: only root's QEMU has a user of its own");
        return;
    }
    let asked = direct();
    let id = asked.instance_id.clone();
    sandbox.spawn(asked).await.unwrap();
    let emulator = Identity::of(sandbox.emulators()[0]);
    assert_ne!(emulator.uid, "0", "QEMU runs as a user of its own");
    let own = sandbox.path().join("instances").join(&id).join("disk");
    assert!(emulator.may("-w", &own), "its own disk is its own");
    let shared_while_it_runs = shared(&sandbox);
    assert_eq!(
        shared_while_it_runs.len(),
        4,
        "disk, kernel, ramdisk, file system"
    );
    for path in &shared_while_it_runs {
        println!("{}", path.display());
        assert_eq!(
            std::fs::metadata(path).unwrap().uid(),
            0,
            "{}",
            path.display()
        );
        assert!(!emulator.may("-w", path), "{}", path.display());
        let disk = path.extension().is_some_and(|end| end != "file");
        assert_eq!(emulator.may("-r", path), disk, "{}", path.display());
    }
    for (sealed, what) in [("state.db", "-r"), ("computelet.sock", "-w")] {
        let path = sandbox.path().join(sealed);
        assert!(!emulator.may(what, &path), "{sealed} is not for emulators");
    }
    sandbox.destroy(&id).await.unwrap();
    for path in shared_while_it_runs {
        assert_eq!(
            std::fs::metadata(&path).unwrap().uid(),
            0,
            "{}",
            path.display()
        );
    }
    sandbox.assert_clean().await;
}
