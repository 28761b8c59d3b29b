//! A sandbox: one server in a temp folder, over a unix socket, with what tests ask of it.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use computedriver::v1::{
    self, console_service_client::ConsoleServiceClient, device_service_client::DeviceServiceClient,
    guest_service_client::GuestServiceClient, host_service_client::HostServiceClient,
    image_service_client::ImageServiceClient, instance_service_client::InstanceServiceClient,
    operation_service_client::OperationServiceClient, stats_service_client::StatsServiceClient,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

mod book;
pub mod ceph;
mod console;
mod daemon;
mod request;
mod shell;
pub mod target;
pub mod volume;

pub use book::{Book, Reader};
pub use console::said;
pub use daemon::Daemon;
pub use request::{fields, finish, guest_request, image, reason, request, sha256};

pub use shell::Shell;

/// How long a test waits for what must come: guests under TCG on a busy machine take their time.
pub const LIMIT: Duration = Duration::from_secs(180);

/// A server of one test.
pub struct Sandbox {
    server: Option<Child>,
    args: Vec<String>,
    daemon: Option<Daemon>,
    inside: bool,
    dir: tempfile::TempDir,
}

/// The folder that cargo built the binaries into.
pub fn binaries() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let deps = test.parent().expect("a test lies in a folder");
    deps.parent()
        .expect("deps lies in the build's folder")
        .to_owned()
}

/// The tiny guest's folder; `make guest` builds it.
pub fn guest() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/guest/current");
    fs::canonicalize(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}: run `make guest` first", folder.display()))
}

/// A command of a test.
#[allow(
    clippy::disallowed_methods,
    reason = "tests start the server and its peers from outside"
)]
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// Waits until `probe` answers.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let since = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(since.elapsed() < LIMIT, "gave up waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Ports that are free, no two alike. Another program may take one before it is used: see [`serves`].
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    held.map(|port| port.local_addr().expect("it is bound").port())
}

/// Waits until somebody serves at the port; false when the program ended instead, as it does when the port is taken.
pub async fn serves(program: &mut Child, port: u16) -> bool {
    let mut served = || match program.try_wait().expect("our own child") {
        Some(_) => Some(false),
        None => TcpStream::connect(("127.0.0.1", port))
            .is_ok()
            .then_some(true),
    };
    until("a program to serve", || std::future::ready(served())).await
}

/// A state directory as computelet makes it: QEMU's own user may pass through.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("computelet-test-")
        .tempdir()
        .expect("a temp folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("our own");
    dir
}

impl Sandbox {
    /// A server with the embedded hypervisor and further arguments, ready.
    pub async fn start(args: &[&str]) -> Self {
        Self::launched(folder(), None, args).await
    }

    /// A server over a `qemu:///system` of the test's own, ready; none when this machine lets us have none.
    pub async fn start_system(args: &[&str]) -> Option<Self> {
        let dir = folder();
        let daemon = Daemon::start(&dir.path().join("host"))?;
        Some(Self::launched(dir, Some(daemon), args).await)
    }

    async fn launched(dir: tempfile::TempDir, daemon: Option<Daemon>, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut sandbox = Self {
            server: None,
            args,
            daemon,
            inside: false,
            dir,
        };
        sandbox.launch();
        sandbox.ready().await;
        sandbox
    }

    /// The libvirtd under the server.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it was started over a system")
    }

    /// Whether the server is over a libvirtd.
    pub fn is_system(&self) -> bool {
        self.daemon.is_some()
    }

    /// Whether the server sees its libvirtd's own network interfaces.
    pub fn is_inside(&self) -> bool {
        self.inside
    }

    /// Ends the server, and starts it again among its libvirtd's own network interfaces.
    pub async fn move_inside(&mut self) {
        self.stop().await;
        self.inside = true;
        self.launch();
        self.ready().await;
    }

    /// Starts the server, and does not wait for it.
    pub fn launch(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a log file");
        let binary = binaries().join("computelet");
        let mut server = match &self.daemon {
            Some(daemon) if self.inside => daemon.inside(binary),
            _ => command(binary),
        };
        if let Some(daemon) = &self.daemon {
            server.env("COMPUTELET_CONNECT", daemon.uri());
        }
        let server = server
            .arg("serve")
            .arg("--state-dir")
            .arg(self.dir.path())
            .args(&self.args)
            .env(
                "COMPUTELET_LOG_FILTER",
                "trace,h2=info,hyper=info,tower=info",
            )
            .env("COMPUTELET_IMAGES_FILE_DIRS", "/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("computelet starts; `cargo build --workspace` builds it");
        self.server = Some(server);
    }

    /// Waits until the server says that it is ready.
    pub async fn ready(&mut self) {
        let since = Instant::now();
        loop {
            if let Ok(channel) = self.try_channel().await
                && let Ok(answer) = HostServiceClient::new(channel)
                    .get_readiness(v1::GetReadinessRequest {})
                    .await
                && answer.get_ref().readiness() == v1::Readiness::Ready
            {
                return;
            }
            let ended = self
                .server
                .as_mut()
                .and_then(|server| server.try_wait().ok().flatten());
            assert!(
                ended.is_none(),
                "the server ended with {ended:?}:\n{}",
                self.tail()
            );
            assert!(
                since.elapsed() < LIMIT,
                "the server is not ready:\n{}",
                self.tail()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the server, and starts it again with other arguments.
    pub async fn relisten(&mut self, args: &[&str]) {
        self.stop().await;
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.launch();
        self.ready().await;
    }

    /// Ends the server without a word, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("our own child can be killed");
            server.wait().expect("our own child can be waited for");
        }
    }

    /// Asks the server to end, and waits for it.
    pub async fn stop(&mut self) -> std::process::ExitStatus {
        let mut server = self.server.take().expect("a running server");
        let id = server.id().to_string();
        command("kill")
            .args(["-TERM", &id])
            .status()
            .expect("kill runs");
        let ended = until("the server's end", || {
            std::future::ready(server.try_wait().expect("our own child"))
        });
        ended.await
    }

    /// The state directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("computelet.sock")
    }

    /// The port of the metrics page, when it was asked for at `tcp:127.0.0.1:0`.
    pub async fn page(&self) -> u16 {
        let mark = "address=tcp:127.0.0.1:";
        let port = || {
            let log = self.logged();
            let (_, rest) = log.split_once(mark)?;
            rest.split_whitespace().next()?.parse().ok()
        };
        until("the page's port", || std::future::ready(port())).await
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("test.log")
    }

    /// All that the server has logged.
    pub fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn tail(&self) -> String {
        let log = self.logged();
        let lines: Vec<_> = log.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    async fn try_channel(&self) -> Result<Channel, tonic::transport::Error> {
        let socket = self.socket();
        Endpoint::from_shared(format!("unix:{}", socket.display()))?
            .connect()
            .await
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Channel {
        self.try_channel().await.expect("the server listens")
    }

    /// InstanceService.
    pub async fn instances(&self) -> InstanceServiceClient<Channel> {
        InstanceServiceClient::new(self.channel().await)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(256 << 20)
    }

    /// ConsoleService.
    pub async fn console(&self) -> ConsoleServiceClient<Channel> {
        ConsoleServiceClient::new(self.channel().await)
    }

    /// GuestService.
    pub async fn guests(&self) -> GuestServiceClient<Channel> {
        GuestServiceClient::new(self.channel().await).max_encoding_message_size(64 << 20)
    }

    /// DeviceService.
    pub async fn devices(&self) -> DeviceServiceClient<Channel> {
        DeviceServiceClient::new(self.channel().await)
    }

    /// ImageService.
    pub async fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel().await)
    }

    /// OperationService.
    pub async fn operations(&self) -> OperationServiceClient<Channel> {
        OperationServiceClient::new(self.channel().await)
    }

    /// StatsService.
    pub async fn stats(&self) -> StatsServiceClient<Channel> {
        StatsServiceClient::new(self.channel().await)
    }

    /// HostService.
    pub async fn host(&self) -> HostServiceClient<Channel> {
        HostServiceClient::new(self.channel().await)
    }

    /// Spawns to the end.
    pub async fn spawn(
        &self,
        request: v1::SpawnRequest,
    ) -> Result<(v1::Instance, Vec<v1::OperationProgress>), Status> {
        let stream = self.instances().await.spawn(request).await?.into_inner();
        finish(stream).await
    }

    /// Spawns to the end; none while nobody listens.
    pub async fn try_spawn(
        &self,
        request: v1::SpawnRequest,
    ) -> Option<Result<v1::Instance, Status>> {
        let mut client = InstanceServiceClient::new(self.try_channel().await.ok()?);
        Some(match client.spawn(request).await {
            Ok(stream) => finish(stream.into_inner())
                .await
                .map(|(instance, _)| instance),
            Err(status) => Err(status),
        })
    }

    /// Destroys to the end.
    pub async fn destroy(&self, id: &str) -> Result<bool, Status> {
        let request = v1::DestroyRequest {
            instance_id: id.to_owned(),
            ..Default::default()
        };
        let mut stream = self.instances().await.destroy(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            if let Some(v1::destroy_response::Event::Destroyed(destroyed)) = message.event {
                return Ok(destroyed.absent);
            }
        }
        Err(Status::internal("the stream ended without a result"))
    }

    /// The ids of all instances.
    pub async fn listed(&self) -> Vec<String> {
        let answer = self
            .instances()
            .await
            .list_instances(v1::ListInstancesRequest::default())
            .await;
        answer.expect("a listing").into_inner().instance_ids
    }

    /// Process ids of the emulators that run guests of this sandbox.
    pub fn emulators(&self) -> Vec<u32> {
        let mark = self.dir.path().display().to_string();
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = processes.filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
        });
        pids.filter(|pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.starts_with("/usr/bin/qemu-system")
                && line.contains("guest=computelet-")
                && line.contains(&mark)
        })
        .collect()
    }

    /// Whether the emulator of the sandbox's one guest has the file open.
    pub fn has_open(&self, file: &Path) -> bool {
        self.opens(file, 0o400) || self.writes(file)
    }

    /// Whether it has the file open for writing.
    pub fn writes(&self, file: &Path) -> bool {
        self.opens(file, 0o200)
    }

    /// By the rights that /proc shows on what a process has open.
    fn opens(&self, file: &Path, right: u32) -> bool {
        let is_it = |fd: fs::DirEntry| {
            let mode = fs::symlink_metadata(fd.path()).map(|link| link.permissions().mode());
            mode.is_ok_and(|mode| mode & right != 0)
                && fs::read_link(fd.path()).is_ok_and(|path| path == file)
        };
        let open = |pid: &u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd"));
            files.into_iter().flatten().flatten().any(is_it)
        };
        self.emulators().iter().any(open)
    }

    /// Asserts that no instance has left anything: folder, guest, row, claim, part.
    pub async fn assert_clean(&self) {
        assert_eq!(
            self.listed().await,
            Vec::<String>::new(),
            "instances are listed"
        );
        let left: Vec<_> = fs::read_dir(self.dir.path().join("instances"))
            .map(|dir| dir.flatten().map(|e| e.path()).collect())
            .unwrap_or_default();
        assert_eq!(left, Vec::<PathBuf>::new(), "folders are left");
        assert_eq!(
            self.emulators(),
            Vec::<u32>::new(),
            "emulators run\n{}",
            self.tail()
        );
        let embedded = fs::read_dir(self.dir.path().join("qemu/etc/qemu"));
        let system = fs::read_dir(self.dir.path().join("host/etc/qemu"));
        let files = [embedded, system].into_iter().flatten().flatten().flatten();
        let defined: Vec<_> = files
            .map(|file| file.path())
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("computelet-") && name.ends_with(".xml")
            })
            .collect();
        assert_eq!(defined, Vec::<PathBuf>::new(), "domains are defined");
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
        for pid in self.emulators() {
            let _ = command("kill").args(["-KILL", &pid.to_string()]).status();
        }
        if std::thread::panicking() {
            eprintln!("the server's last words:\n{}", self.tail());
        }
    }
}
