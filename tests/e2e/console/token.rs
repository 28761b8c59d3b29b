//! The console proxy.

use std::time::SystemTime;

use computedriver::v1::{self, ConsoleKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status};

use crate::support::{LIMIT, Sandbox, reason, request, until};

const LISTEN: &str = "console.listen=tcp:127.0.0.1:0";

async fn access(
    sandbox: &Sandbox,
    id: &str,
    kind: ConsoleKind,
) -> Result<v1::GetConsoleAccessResponse, Status> {
    let asked = v1::GetConsoleAccessRequest {
        instance_id: id.to_owned(),
        kind: kind.into(),
    };
    let granted = sandbox.console().await.get_console_access(asked).await;
    granted.map(tonic::Response::into_inner)
}

/// Connects with a token.
async fn come(access: &v1::GetConsoleAccessResponse, token: &str) -> TcpStream {
    let port = u16::try_from(access.port).expect("a port");
    let stream = TcpStream::connect((access.host.as_str(), port)).await;
    let mut stream = stream.expect("the proxy listens");
    stream.write_all(token.as_bytes()).await.unwrap();
    stream.write_all(b"\n").await.unwrap();
    stream
}

/// Whether nothing is said before the connection is closed.
async fn shut(mut stream: TcpStream) -> bool {
    let mut said = Vec::new();
    let read = timeout(LIMIT, stream.read_to_end(&mut said)).await;
    // Closed with the token unread is a reset.
    let _ = read.expect("it is closed");
    said.is_empty()
}

#[tokio::test]
async fn a_token_opens_one_console_once() {
    let sandbox = Sandbox::start(&["--set", LISTEN]).await;
    let (guest, _) = sandbox.spawn(request()).await.unwrap();
    let id = guest.instance_id;

    let vnc = access(&sandbox, &id, ConsoleKind::Vnc).await.unwrap();
    assert_eq!(vnc.kind(), ConsoleKind::Vnc);
    assert!(shut(come(&vnc, "guessed").await).await);
    let mut screen = come(&vnc, &vnc.token).await;
    let mut version = [0; 12];
    let read = timeout(LIMIT, screen.read_exact(&mut version)).await;
    read.expect("the screen speaks").unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
    assert!(shut(come(&vnc, &vnc.token).await).await, "it was used");

    // A serial console has one client, whichever way it came.
    let serial = access(&sandbox, &id, ConsoleKind::Serial).await.unwrap();
    let sitting = come(&serial, &serial.token).await;
    let sits = || sandbox.logged().contains("kind=Serial");
    until("it to sit there", || {
        std::future::ready(sits().then_some(()))
    })
    .await;
    let second = access(&sandbox, &id, ConsoleKind::Serial).await.unwrap();
    assert!(shut(come(&second, &second.token).await).await);
    drop(sitting);

    let pool = v1::GetConsolePoolInfoRequest {
        kind: ConsoleKind::Serial.into(),
    };
    let pool = sandbox.console().await.get_console_pool_info(pool).await;
    assert_eq!(pool.unwrap().into_inner().port, vnc.port);
    let spice = access(&sandbox, &id, ConsoleKind::Spice).await.unwrap_err();
    assert_eq!(reason(&spice), "CONSOLE_NOT_FOUND");
    let none = access(&sandbox, &id, ConsoleKind::Unspecified).await;
    assert_eq!(none.unwrap_err().code(), Code::InvalidArgument);

    // The guest's end is the console's.
    sandbox.destroy(&id).await.unwrap();
    let mut rest = Vec::new();
    let read = timeout(LIMIT, screen.read_to_end(&mut rest)).await;
    read.expect("it is closed").unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_token_grows_old_and_a_host_without_a_proxy_gives_none() {
    let young = ["--set", LISTEN, "--set", "console.token_lifetime=1s"];
    let told = ["--set", "console.address=console.example:6080"];
    let mut sandbox = Sandbox::start(&[young, ["--set", LISTEN, told[0], told[1]]].concat()).await;
    let (guest, _) = sandbox.spawn(request()).await.unwrap();
    let id = guest.instance_id;
    let elsewhere = access(&sandbox, &id, ConsoleKind::Serial).await.unwrap();
    assert_eq!(
        (elsewhere.host.as_str(), elsewhere.port),
        ("console.example", 6080)
    );

    sandbox.relisten(&young).await;
    let granted = access(&sandbox, &id, ConsoleKind::Serial).await.unwrap();
    let end = SystemTime::try_from(granted.expire_time.expect("it ends")).unwrap();
    until("the token's end", || {
        std::future::ready((SystemTime::now() > end).then_some(()))
    })
    .await;
    assert!(shut(come(&granted, &granted.token).await).await);

    sandbox.relisten(&[]).await;
    let refused = access(&sandbox, &id, ConsoleKind::Vnc).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "NOT_SUPPORTED".to_owned());
    assert_eq!((refused.code(), reason(&refused)), expected);
    assert!(refused.message().contains("console.listen"), "{refused:?}");
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}
