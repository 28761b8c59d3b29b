//! The servers under test: computelet, and a libvirtd of the bench's own.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use computedriver::v1::{
    self, host_service_client::HostServiceClient, instance_service_client::InstanceServiceClient,
};
use tonic::transport::{Channel, Endpoint};

/// How long anything that must come is waited for.
const LIMIT: Duration = Duration::from_secs(120);

/// The folder of this program, and of computelet beside it.
pub(crate) fn binaries() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own
        .parent()
        .context("a program lies in a folder")?
        .to_owned())
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A temporary folder that QEMU's own user may pass through; with a short name, as sockets lie below it.
pub(crate) fn folder() -> Result<tempfile::TempDir> {
    let dir = tempfile::Builder::new().prefix("cbench-").tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
    Ok(dir)
}

/// A libvirtd with namespaces of its own; it ends with this program, however that ends.
#[derive(Debug)]
pub(crate) struct Daemon {
    script: Child,
    uri: String,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts one, with a bridge `br0` among its network interfaces.
    pub(crate) fn start() -> Result<Self> {
        let folder = folder()?;
        let mut script = Command::new(repository("tests/host/libvirtd"))
            .arg("run")
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut uri = String::new();
        let output = script.stdout.take().context("a pipe")?;
        BufReader::new(output).read_line(&mut uri)?;
        ensure!(
            !uri.is_empty(),
            "a libvirtd of the bench's own needs root, and did not start"
        );
        let daemon = Self {
            script,
            uri: uri.trim().to_owned(),
            folder,
        };
        for words in [
            ["ip", "link", "add", "br0", "type", "bridge"].as_slice(),
            &["ip", "link", "set", "br0", "up"],
        ] {
            let done = daemon.inside(words[0]).args(&words[1..]).status()?;
            ensure!(done.success(), "{words:?}");
        }
        Ok(daemon)
    }

    /// Its address.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32> {
        let file = self.folder.path().join("run/libvirtd.pid");
        Ok(fs::read_to_string(file)?.trim().parse()?)
    }

    /// A command among its mounts and network interfaces.
    pub(crate) fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut run = Command::new(repository("tests/host/libvirtd"));
        run.arg("exec").arg(self.folder.path()).arg(program);
        run
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// A computelet in a folder of its own.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Its hypervisor: `embedded`, or an address.
    pub(crate) connect: String,
    folder: tempfile::TempDir,
}

impl Server {
    /// One with libvirt's driver inside it.
    pub(crate) async fn embedded(settings: &[&str]) -> Result<Self> {
        Self::launch(
            Command::new(binaries()?.join("computelet")),
            "embedded",
            settings,
        )
        .await
    }

    /// One on a libvirtd.
    pub(crate) async fn system(daemon: &Daemon, settings: &[&str]) -> Result<Self> {
        let binary = daemon.inside(binaries()?.join("computelet"));
        Self::launch(binary, daemon.uri(), settings).await
    }

    /// One on any other libvirt.
    pub(crate) async fn on(uri: &str, settings: &[&str]) -> Result<Self> {
        Self::launch(Command::new(binaries()?.join("computelet")), uri, settings).await
    }

    async fn launch(mut command: Command, connect: &str, settings: &[&str]) -> Result<Self> {
        let folder = folder()?;
        let log = fs::File::create(folder.path().join("log"))?;
        for setting in settings {
            command.args(["--set", setting]);
        }
        // No words in between: the log of a calm server at its default.
        let child = command
            .arg("serve")
            .arg("--state-dir")
            .arg(folder.path())
            .env("COMPUTELET_CONNECT", connect)
            .env("COMPUTELET_IMAGES_FILE_DIRS", "/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("computelet; `make bench` builds it")?;
        let mut server = Self {
            child,
            connect: connect.to_owned(),
            folder,
        };
        server.ready().await?;
        Ok(server)
    }

    async fn ready(&mut self) -> Result<()> {
        let since = Instant::now();
        loop {
            if let Ok(channel) = self.channel().await
                && let Ok(answer) = HostServiceClient::new(channel)
                    .get_readiness(v1::GetReadinessRequest {})
                    .await
                && answer.get_ref().readiness() == v1::Readiness::Ready
            {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || since.elapsed() > LIMIT {
                let log = fs::read_to_string(self.path().join("log")).unwrap_or_default();
                bail!("computelet on {} is not ready:\n{log}", self.connect);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its state directory.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A connection of its own.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        connect(&self.path().join("computelet.sock")).await
    }

    /// InstanceService.
    pub(crate) async fn instances(&self) -> Result<InstanceServiceClient<Channel>> {
        let client = InstanceServiceClient::new(self.channel().await?);
        Ok(client.max_decoding_message_size(64 << 20))
    }

    /// HostService.
    pub(crate) async fn host(&self) -> Result<HostServiceClient<Channel>> {
        Ok(HostServiceClient::new(self.channel().await?))
    }

    /// Emulators of its guests.
    pub(crate) fn emulators(&self) -> Vec<u32> {
        let mark = self.path().display().to_string();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.starts_with("/usr/bin/qemu-system") && line.contains(&mark)
        })
        .collect()
    }
}

/// A connection to a unix socket.
pub(crate) async fn connect(socket: &Path) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))?;
    Ok(endpoint.connect().await?)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in self.emulators() {
            let _ = Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .status();
        }
    }
}
