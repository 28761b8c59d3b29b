use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use futures::channel::mpsc;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt;

use super::{Door, Drain, ServeError, standard};
use crate::config::{Config, Layers, Limits, Listen};

/// Long enough for any machine; a test that waits this long has failed.
const SOON: Duration = Duration::from_secs(20);
const SERVICE: &str = "computedriver.v1.InstanceService";

fn limits() -> Limits {
    Config::load(&Layers::default())
        .expect("defaults are right")
        .limits
}

struct Server {
    addresses: Vec<Listen>,
    stop: mpsc::UnboundedSender<()>,
    begun: CancellationToken,
    ended: JoinHandle<Result<(), ServeError>>,
    // Held until a test lets the running operations finish.
    finish: tokio::sync::oneshot::Sender<()>,
}

async fn start(addresses: &[Listen]) -> Server {
    let door = Door::bind(addresses).await.expect("it listens");
    let (routes, health) = standard(Routes::default(), [SERVICE.to_owned()])
        .await
        .unwrap();
    health.serving().await;
    let (begun, close) = (CancellationToken::new(), CancellationToken::new());
    let drain = Drain {
        health,
        begun: begun.clone(),
        close: close.clone(),
    };
    let (stop, words) = mpsc::unbounded();
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let addresses = door.addresses();
    let ended = tokio::spawn(async move {
        let finish = async { drop(finished.await) };
        let limits = limits();
        let serve = door.serve(&limits, routes.prepare(), close);
        let (served, ()) = tokio::join!(serve, drain.when(words, finish));
        served
    });
    Server {
        addresses,
        stop,
        begun,
        ended,
        finish,
    }
}

fn unix(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("computelet.sock")
}

async fn channel(address: &Listen) -> Channel {
    match address.clone() {
        Listen::Tcp(address) => Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap(),
        Listen::Unix(path) => {
            let connect = tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            let endpoint = Endpoint::from_static("http://localhost");
            endpoint.connect_with_connector(connect).await.unwrap()
        }
    }
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

async fn refusal(path: &Path) -> String {
    let refused = Door::bind(&[Listen::Unix(path.to_owned())]).await;
    crate::error::chain(&refused.expect_err("it is refused"))
}

#[tokio::test]
async fn health_and_both_reflections_answer_over_unix_and_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let tcp = Listen::Tcp("127.0.0.1:0".parse().unwrap());
    let server = start(&[Listen::Unix(unix(&folder)), tcp]).await;
    for address in &server.addresses {
        let channel = channel(address).await;
        let mut health = HealthClient::new(channel.clone());
        for service in ["", SERVICE] {
            let told = health.check(about(service)).await.unwrap().into_inner();
            assert_eq!(
                told.status(),
                ServingStatus::Serving,
                "{service:?} at {address}"
            );
        }
        let unknown = health
            .check(about("nobody"))
            .await
            .expect_err("it is unknown");
        assert_eq!(unknown.code(), Code::NotFound);

        let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
        let ask = v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(list),
        };
        let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
        let ask = tokio_stream::once(ask);
        let mut answers = client
            .server_reflection_info(ask)
            .await
            .unwrap()
            .into_inner();
        let told = format!("{:?}", answers.message().await.unwrap());
        assert!(
            told.contains(SERVICE) && told.contains("grpc.health.v1.Health"),
            "{told}"
        );

        let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
        let ask = tokio_stream::once(v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(list),
        });
        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
        let mut answers = client
            .server_reflection_info(ask)
            .await
            .unwrap()
            .into_inner();
        assert!(format!("{:?}", answers.message().await.unwrap()).contains(SERVICE));
    }
}

#[tokio::test]
async fn a_method_that_does_not_exist_says_so_with_its_reason() {
    let server = start(&[Listen::Tcp("127.0.0.1:0".parse().unwrap())]).await;
    let channel = channel(&server.addresses[0]).await;
    let mut client = computedriver::v1::host_service_client::HostServiceClient::new(channel);
    let ask = computedriver::v1::GetHostUptimeRequest::default();
    let status = client
        .get_host_uptime(ask)
        .await
        .expect_err("it is not routed");
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(
        status.get_details_error_info().expect("a reason").reason,
        "NOT_SUPPORTED"
    );
}

#[tokio::test]
async fn the_socket_is_for_its_user_alone_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = unix(&folder);
    let door = Door::bind(&[Listen::Unix(path.clone())]).await.unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    drop(door);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_socket_path_of_full_length_is_listened_at() {
    let folder = tempfile::tempdir().unwrap();
    let left = 107 - folder.path().as_os_str().len() - 3;
    let path = folder.path().join("d".repeat(left)).join("s");
    let door = Door::bind(&[Listen::Unix(path.clone())]).await.unwrap();
    assert!(UnixStream::connect(&path).await.is_ok());
    drop(door);
}

#[tokio::test]
async fn a_dead_servers_socket_is_taken_over_and_a_live_ones_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = unix(&folder);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.try_exists().unwrap(), "a dead server left it");
    let door = Door::bind(&[Listen::Unix(path.clone())]).await.unwrap();
    let said = refusal(&path).await;
    assert!(
        said.contains("computelet.sock cannot be listened at"),
        "{said}"
    );
    assert!(said.contains("another server answers there"), "{said}");
    drop(door);
    assert!(!path.try_exists().unwrap());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = unix(&folder);
    fs::write(&path, "precious").unwrap();
    let said = refusal(&path).await;
    assert!(said.contains("a file is there that is no socket"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_successors_socket_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = unix(&folder);
    let first = Door::bind(&[Listen::Unix(path.clone())]).await.unwrap();
    fs::remove_file(&path).unwrap();
    let second = Door::bind(&[Listen::Unix(path.clone())]).await.unwrap();
    drop(first);
    assert!(path.try_exists().unwrap());
    drop(second);
}

#[tokio::test]
async fn a_drain_tells_who_watches_answers_on_and_then_closes() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&[Listen::Unix(unix(&folder))]).await;
    let mut client = HealthClient::new(channel(&server.addresses[0]).await);
    let mut watch = client.watch(about(SERVICE)).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().expect("the state now");
    assert_eq!(first.status(), ServingStatus::Serving);

    server.stop.unbounded_send(()).unwrap();
    let next = watch.message().await.unwrap().expect("the new state");
    assert_eq!(next.status(), ServingStatus::NotServing);
    timeout(SOON, server.begun.cancelled())
        .await
        .expect("streams are told");
    let told = client
        .check(about(""))
        .await
        .expect("calls are still answered");
    assert_eq!(told.into_inner().status(), ServingStatus::NotServing);

    server.finish.send(()).unwrap();
    let end = watch.message().await.expect_err("the stream is ended");
    assert_eq!(end.code(), Code::Unavailable);
    assert_eq!(
        end.get_details_error_info().expect("a reason").reason,
        "DRAINING"
    );
    timeout(SOON, server.ended)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_second_word_stops_what_does_not_finish() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&[Listen::Unix(unix(&folder))]).await;
    server.stop.unbounded_send(()).unwrap();
    server.stop.unbounded_send(()).unwrap();
    timeout(SOON, server.ended)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap();
}

/// A call as a C-core client makes it: the percent-encoded path of the socket as `:authority`.
#[tokio::test]
async fn a_call_with_a_sockets_path_as_authority_is_answered() {
    const HEADERS: u8 = 1;
    let folder = tempfile::tempdir().unwrap();
    let path = unix(&folder);
    let _server = start(&[Listen::Unix(path.clone())]).await;
    let field = |index: u8, value: &str| {
        let mut field = vec![index, u8::try_from(value.len()).unwrap()];
        field.extend(value.as_bytes());
        field
    };
    let mut block = vec![0x83, 0x86];
    block.extend(field(0x44, "/grpc.health.v1.Health/Check"));
    block.extend(field(0x40, ":authority"));
    block.extend(b"\x15tmp%2Fcomputelet.sock");
    block.extend(field(0x5f, "application/grpc"));
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend([
        0,
        0,
        u8::try_from(block.len()).unwrap(),
        HEADERS,
        4,
        0,
        0,
        0,
        1,
    ]);
    bytes.extend(block);
    bytes.extend([0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    // The first frame of stream 1 is the answer's head, not a reset.
    let first = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.unwrap();
            if head[8] == 1 {
                return head[3];
            }
        }
    };
    assert_eq!(timeout(SOON, first).await.expect("an answer"), HEADERS);
}
