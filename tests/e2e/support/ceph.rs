//! A Ceph cluster of the test's own: one monitor and one storage daemon that keeps all in memory, ended with the test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use computedriver::v1;
use tempfile::TempDir;
use uuid::Uuid;

use super::{Sandbox, free_ports, volume::beside};

/// The user of the images.
pub const USER: &str = "guest";
const POOL: &str = "volumes";

/// A cluster.
pub struct Ceph {
    folder: TempDir,
    port: u16,
    daemons: Vec<Child>,
}

fn settings(folder: &Path, port: u16, cluster: Uuid) -> String {
    let folder = folder.display();
    format!(
        "[global]
fsid = {cluster}
mon host = [v2:127.0.0.1:{port}]
mon initial members = a
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon warn on pool no redundancy = false
mon allow pool size one = true
auth allow insecure global id reclaim = false
mon data avail crit = 1
mon data avail warn = 1
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
ms bind ipv6 = false
ms bind msgr1 = false
mon data = {folder}/mon
mon cluster log file = {folder}/cluster.log
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 268435456
"
    )
}

impl Ceph {
    /// Starts one where the sandbox's guests can reach it.
    pub fn start(sandbox: &Sandbox) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port] = free_ports();
        let mut ceph = Self {
            folder,
            port,
            daemons: Vec::new(),
        };
        for name in ["mon", "osd"] {
            fs::create_dir(ceph.folder.path().join(name)).unwrap();
        }
        let cluster = Uuid::new_v4();
        let settings = settings(ceph.folder.path(), port, cluster);
        fs::write(ceph.path("ceph.conf"), settings).unwrap();
        ceph.keys(sandbox);
        let (map, keys) = (ceph.path("map"), ceph.path("keyring"));
        let at = format!("[v2:127.0.0.1:{port}]");
        let cluster = cluster.to_string();
        let make = ["--create", "--fsid", &cluster, "--addv", "a", &at, &map];
        ceph.run(sandbox, "monmaptool", &make);
        let make = ["--mkfs", "-i", "a", "--monmap", &map, "--keyring", &keys];
        ceph.run(sandbox, "ceph-mon", &make);
        ceph.serve(sandbox, "ceph-mon", "a");
        let disk = Uuid::new_v4().to_string();
        ceph.run(sandbox, "ceph", &["osd", "new", &disk]);
        let make = ["--mkfs", "-i", "0", "--osd-uuid", &disk];
        ceph.run(sandbox, "ceph-osd", &make);
        ceph.serve(sandbox, "ceph-osd", "0");
        let pool = ["osd", "pool", "create", POOL, "8", "8"];
        ceph.run(sandbox, "ceph", &pool);
        ceph
    }

    /// A place for a file beside the cluster's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn keys(&self, sandbox: &Sandbox) {
        let keyring = self.path("keyring");
        let all: [&[&str]; 4] = [
            &["-C", "-n", "mon.", "--cap", "mon", "allow *"],
            &[
                "-n",
                "client.admin",
                "--cap",
                "mon",
                "allow *",
                "--cap",
                "osd",
                "allow *",
            ],
            &[
                "-n",
                "osd.0",
                "--cap",
                "mon",
                "allow profile osd",
                "--cap",
                "osd",
                "allow *",
            ],
            &[
                "-n",
                "client.guest",
                "--cap",
                "mon",
                "profile rbd",
                "--cap",
                "osd",
                "profile rbd",
            ],
        ];
        for words in all {
            let words = [words, &["--gen-key", &keyring]].concat();
            self.run(sandbox, "ceph-authtool", &words);
        }
    }

    fn command(&self, sandbox: &Sandbox, program: &str) -> Command {
        let mut command = beside(sandbox, program);
        command.env("CEPH_CONF", self.path("ceph.conf"));
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, sandbox: &Sandbox, program: &str, words: &[&str]) -> Vec<u8> {
        let done = self.command(sandbox, program).args(words).output();
        let done = done.expect("it runs; `tools/setup tests` installs it");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program} {words:?}: {said}");
        done.stdout
    }

    fn serve(&mut self, sandbox: &Sandbox, program: &str, id: &str) {
        let log = fs::File::create(self.path(&format!("{program}.out"))).unwrap();
        let daemon = self
            .command(sandbox, program)
            .args(["-f", "-i", id])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.daemons.push(daemon.expect("it starts"));
    }

    /// What `rbd` answers about the pool.
    pub fn rbd(&self, sandbox: &Sandbox, words: &[&str]) -> Vec<u8> {
        self.run(sandbox, "rbd", &[&["-p", POOL], words].concat())
    }

    /// The key of [`USER`].
    pub fn key(&self, sandbox: &Sandbox) -> String {
        let key = ["-p", "-n", "client.guest", &self.path("keyring")];
        let key = self.run(sandbox, "ceph-authtool", &key);
        String::from_utf8(key).unwrap().trim().to_owned()
    }

    /// An image of the pool, for [`USER`].
    pub fn image(&self, sandbox: &Sandbox, name: &str) -> v1::RbdTarget {
        v1::RbdTarget {
            monitors: vec![format!("127.0.0.1:{}", self.port)],
            pool: POOL.to_owned(),
            image: name.to_owned(),
            username: USER.to_owned(),
            secret_key: self.key(sandbox),
        }
    }
}

impl Drop for Ceph {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
