//! An iSCSI target of the test's own: tgtd in the foreground, on a port of its own, ended with the test.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use computedriver::v1;

use super::{Sandbox, command, free_ports, until, volume::beside};

/// Who may log in.
pub const USER: &str = "chap-user";
/// With which word.
pub const PASSWORD: &str = "chap-secret-5183";

/// A target whose units are files, for whoever knows the password.
pub struct Target {
    folder: PathBuf,
    server: Child,
    port: u16,
    outside: Vec<String>,
}

const NAME: &str = "iqn.2001-04.com.example:storage";

impl Target {
    /// Starts it where the sandbox's guests can reach it.
    pub async fn start(sandbox: &Sandbox) -> Self {
        let folder = sandbox.path().join("target");
        fs::create_dir(&folder).unwrap();
        let [port] = free_ports();
        let portal = format!("portal=127.0.0.1:{port}");
        let log = fs::File::create(folder.join("log")).unwrap();
        let server = beside(sandbox, "tgtd")
            .env("TGT_IPC_SOCKET", folder.join("control"))
            .args(["-f", "-C", "0", "--iscsi", &portal])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("tgtd starts; `tools/setup tests` installs it");
        let target = Self {
            folder,
            server,
            port,
            outside: outside(sandbox),
        };
        let up = || std::future::ready(target.admin(&["--op", "show", "--mode", "sys"]).ok());
        until("tgtd to answer", up).await;
        let all: [&[&str]; 4] = [
            &["--op", "new", "--mode", "target", "--tid", "1", "-T", NAME],
            &[
                "--op",
                "new",
                "--mode",
                "account",
                "--user",
                USER,
                "--password",
                PASSWORD,
            ],
            &[
                "--op", "bind", "--mode", "account", "--tid", "1", "--user", USER,
            ],
            &[
                "--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL",
            ],
        ];
        for words in all {
            target.told(words);
        }
        target
    }

    /// From now on whoever logs in needs another password.
    pub fn rotate(&self, password: &str) {
        let user = ["--mode", "account", "--user", USER];
        self.told(&[&["--op", "unbind", "--tid", "1"], &user[..]].concat());
        self.told(&[&["--op", "delete"], &user[..]].concat());
        self.told(&[&["--op", "new", "--password", password], &user[..]].concat());
        self.told(&[&["--op", "bind", "--tid", "1"], &user[..]].concat());
    }

    fn admin(&self, words: &[&str]) -> Result<(), String> {
        let (program, before) = self.outside.split_first().expect("a program");
        let done = command(program)
            .args(before)
            .args(["-C", "0", "--lld", "iscsi"])
            .args(words)
            .env("TGT_IPC_SOCKET", self.folder.join("control"))
            .output()
            .expect("tgtadm runs");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        done.status.success().then_some(()).ok_or(said)
    }

    fn told(&self, words: &[&str]) {
        self.admin(words)
            .unwrap_or_else(|e| panic!("{words:?}: {e}"));
    }

    /// The file behind a unit, made if need be.
    pub fn file(&self, lun: u32) -> PathBuf {
        self.folder.join(format!("unit-{lun}"))
    }

    /// A unit of that many MiB, made anew over the same bytes when it is there.
    pub fn unit(&self, lun: u32, mib: u64) -> v1::IscsiTarget {
        let (number, path) = (lun.to_string(), self.file(lun));
        if path.try_exists().unwrap() {
            self.told(&[
                "--op",
                "delete",
                "--mode",
                "logicalunit",
                "--tid",
                "1",
                "--lun",
                &number,
            ]);
        }
        let mut open = fs::OpenOptions::new();
        let file = open.create(true).truncate(false).write(true).open(&path);
        file.unwrap().set_len(mib << 20).unwrap();
        let path = path.display().to_string();
        let new = ["--op", "new", "--mode", "logicalunit", "--tid", "1"];
        self.told(&[&new[..], &["--lun", &number, "-b", &path]].concat());
        v1::IscsiTarget {
            portals: vec![format!("127.0.0.1:{}", self.port)],
            iqn: NAME.to_owned(),
            lun,
            chap_username: USER.to_owned(),
            chap_password: PASSWORD.to_owned(),
            ..Default::default()
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn outside(sandbox: &Sandbox) -> Vec<String> {
    let run = beside(sandbox, "tgtadm");
    let words = std::iter::once(run.get_program()).chain(run.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}
