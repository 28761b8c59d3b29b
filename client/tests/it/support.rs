//! A host in memory behind a real socket: it keeps what it was asked, runs spawns from a script, and can be told to
//! refuse calls, to cut streams and to die.

mod consoles;
pub(crate) mod host;
pub(crate) mod make;
pub(crate) mod screen;
pub(crate) mod streams;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use computedriver_client::v1::console_service_server::ConsoleServiceServer;
use computedriver_client::v1::host_service_server::HostServiceServer;
use computedriver_client::v1::image_service_server::ImageServiceServer;
use computedriver_client::v1::instance_service_server::InstanceServiceServer;
use computedriver_client::v1::operation_service_server::OperationServiceServer;
use computedriver_client::v1::stats_service_server::StatsServiceServer;
use computedriver_client::{Builder, Client, RetryPolicy};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server as Tonic;
use tonic::transport::server::Router;

use host::Host;

/// A server in a runtime of its own, so that dropping it closes every connection as a killed process does.
pub(crate) struct Server {
    runtime: Option<Runtime>,
    endpoint: String,
    pub(crate) host: Arc<Host>,
    socket: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    /// Listens on a socket in a folder of its own.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("computelet.sock");
        let mut server = Self {
            runtime: None,
            endpoint: format!("unix:{}", socket.display()),
            host: Arc::new(Host::default()),
            socket,
            _folder: Some(folder),
        };
        server.revive();
        server
    }

    /// Listens on a free port of the loopback.
    pub(crate) fn start_tcp() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let host = Arc::new(Host::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("tokio wants it so");
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).expect("a listener")
        };
        let router = router(&host);
        runtime.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        Self {
            runtime: Some(runtime),
            endpoint: format!("http://{address}"),
            host,
            socket: PathBuf::new(),
            _folder: None,
        }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Dies: connections are cut, and the socket refuses.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        remove(&self.socket);
    }

    /// Comes back, with what the host knew.
    pub(crate) fn revive(&mut self) {
        let runtime = Runtime::new().expect("a runtime");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&self.socket).expect("the socket is free")
        };
        let router = router(&self.host);
        runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
        self.runtime = Some(runtime);
    }

    /// A client that does not dally.
    pub(crate) async fn client(&self) -> Client {
        self.builder().connect().await.expect("the server answers")
    }

    pub(crate) fn builder(&self) -> Builder {
        Client::builder().endpoint(&self.endpoint).retry(hasty())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn router(host: &Arc<Host>) -> Router {
    Tonic::builder()
        .add_service(InstanceServiceServer::from_arc(host.clone()))
        .add_service(ConsoleServiceServer::from_arc(host.clone()))
        .add_service(HostServiceServer::from_arc(host.clone()))
        .add_service(ImageServiceServer::from_arc(host.clone()))
        .add_service(OperationServiceServer::from_arc(host.clone()))
        .add_service(StatsServiceServer::from_arc(host.clone()))
}

fn remove(socket: &Path) {
    if let Err(error) = std::fs::remove_file(socket) {
        let gone = error.kind() == std::io::ErrorKind::NotFound;
        assert!(gone, "{}: {error}", socket.display());
    }
}

/// The default policy with pauses too short to notice.
pub(crate) fn hasty() -> RetryPolicy {
    RetryPolicy {
        initial_backoff: Duration::from_millis(2),
        max_backoff: Duration::from_millis(20),
        ..RetryPolicy::default()
    }
}
