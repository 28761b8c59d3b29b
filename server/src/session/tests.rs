//! Sessions over a host in memory.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Claim, ConsoleKind, Proxy, Serial, Sessions, Ticket};
use crate::{
    error::Error,
    hypervisor::fake::{Happening, Socket},
    model::InstanceId,
    plan::CONSOLE_LOG,
    testing::{LIMIT, TestHost},
};

const LIFETIME: Duration = Duration::from_secs(600);

struct Bench {
    t: TestHost,
    sessions: Sessions,
    id: InstanceId,
}

async fn bench() -> Bench {
    let t = TestHost::new().await;
    let id = t.spawned(t.spec()).await;
    let sessions = Sessions::new(t.host.clone(), LIFETIME);
    let bench = Bench { t, sessions, id };
    bench.says("before\n");
    bench
}

/// A keyboard, and what is typed on it.
fn keyboard() -> (
    mpsc::Sender<Result<Bytes, Error>>,
    impl Stream<Item = Result<Bytes, Error>> + Send,
) {
    let (keys, typed) = mpsc::channel(1);
    (keys, ReceiverStream::new(typed))
}

impl Bench {
    /// The guest writes to its console: QEMU appends to the log.
    fn says(&self, text: &str) {
        use std::io::Write;
        let path = self.t.host.paths.instance(self.id).join(CONSOLE_LOG);
        let mut open = std::fs::File::options();
        let log = open.create(true).append(true).open(path);
        log.unwrap().write_all(text.as_bytes()).unwrap();
    }

    async fn sit(
        &self,
        claim: Claim,
        typed: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Result<Serial, Error> {
        self.sessions.serial((self.id, 0), claim, typed).await
    }

    async fn watch(&self, claim: Claim) -> Serial {
        self.sit(claim, stream::pending()).await.unwrap()
    }

    fn guest(&self, socket: Socket) -> tokio::io::DuplexStream {
        self.t.fake.end_of(self.id, socket).expect("a line is open")
    }
}

/// What is shown, until there is as much as expected.
async fn shows(serial: &mut Serial, expected: &str) {
    let mut shown = Vec::new();
    while shown.len() < expected.len() {
        let next = timeout(LIMIT, serial.next()).await.expect("it is shown");
        shown.extend(next.expect("it goes on").expect("it goes well"));
    }
    assert_eq!(String::from_utf8_lossy(&shown), expected);
}

/// How it ends, when nothing more is shown.
async fn ends(serial: &mut Serial) -> Option<String> {
    let end = timeout(LIMIT, serial.next()).await.expect("it ends");
    let end = end.map(|end| end.expect_err("nothing more is shown").reason().to_owned());
    let next = serial.next().await;
    assert!(next.is_none(), "it ends once: {next:?}");
    end
}

#[tokio::test]
async fn what_is_typed_reaches_the_guest_and_what_it_writes_from_then_on_is_shown() {
    let b = bench().await;
    let (keys, typed) = keyboard();
    let mut serial = b.sit(Claim::Free, typed).await.unwrap();
    keys.send(Ok("root\n".into())).await.unwrap();
    let mut typed = [0; 5];
    let mut guest = b.guest(Socket::Serial);
    guest.read_exact(&mut typed).await.unwrap();
    assert_eq!(&typed, b"root\n");
    b.says("welcome\n");
    shows(&mut serial, "welcome\n").await;
    // Who has typed its last goes on reading.
    drop(keys);
    b.says("more\n");
    shows(&mut serial, "more\n").await;
}

#[tokio::test]
async fn a_port_has_one_client_and_force_sends_it_away() {
    let b = bench().await;
    let mut first = b.watch(Claim::Free).await;
    let refused = b.sit(Claim::Free, stream::pending()).await.unwrap_err();
    assert_eq!(refused.reason(), "CONSOLE_BUSY");
    b.says("hello\n");
    shows(&mut first, "hello\n").await;
    let mut second = b.watch(Claim::Force).await;
    assert_eq!(ends(&mut first).await.as_deref(), Some("CONSOLE_TAKEN"));
    b.says("again\n");
    shows(&mut second, "again\n").await;
    drop(second);
    // Free again, once the line is hung up.
    while b.sit(Claim::Free, stream::pending()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_guest_that_takes_nothing_stops_who_types_and_nothing_else() {
    let b = bench().await;
    let (keys, typed) = keyboard();
    let mut serial = b.sit(Claim::Free, typed).await.unwrap();
    let mut taken = 0;
    let page = Bytes::from_static(&[b'x'; 4096]);
    while let Ok(sent) = timeout(Duration::from_millis(200), keys.send(Ok(page.clone()))).await {
        sent.unwrap();
        taken += 1;
    }
    assert!(taken < 8, "{taken} pages wait in memory");
    b.says("alive\n");
    shows(&mut serial, "alive\n").await;
    b.watch(Claim::Force).await;
    assert_eq!(ends(&mut serial).await.as_deref(), Some("CONSOLE_TAKEN"));
}

#[tokio::test]
async fn a_client_that_reads_nothing_keeps_no_guest_waiting_and_loses_nothing() {
    let b = bench().await;
    let mut serial = b.watch(Claim::Free).await;
    let mut guest = b.guest(Socket::Serial);
    let line = "x".repeat(1023) + "\n";
    for _ in 0..1024 {
        let written = guest.write_all(line.as_bytes());
        timeout(LIMIT, written)
            .await
            .expect("nobody waits")
            .unwrap();
        b.says(&line);
    }
    shows(&mut serial, &line.repeat(1024)).await;
}

#[tokio::test]
async fn the_last_words_of_a_guest_are_shown_and_its_next_run_has_a_line_of_its_own() {
    let b = bench().await;
    let mut serial = b.watch(Claim::Free).await;
    b.says("bye\n");
    b.t.fake.emit(b.id, Happening::PowerOff);
    shows(&mut serial, "bye\n").await;
    assert_eq!(ends(&mut serial).await, None);
    let off = b.sit(Claim::Free, stream::pending()).await.unwrap_err();
    assert_eq!(off.reason(), "INSTANCE_STATE");
    let mode = crate::hypervisor::StartMode::Running;
    b.t.host.hypervisor.start(b.id, mode).await.unwrap();
    let mut serial = b.watch(Claim::Free).await;
    b.says("hello\n");
    shows(&mut serial, "hello\n").await;
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let b = bench().await;
    let typed = stream::pending::<Result<Bytes, Error>>;
    let e = b.sessions.serial((b.id, 1), Claim::Free, typed()).await;
    assert_eq!(e.unwrap_err().reason(), "CONSOLE_NOT_FOUND");
    let nobody = InstanceId::random();
    let e = b.sessions.serial((nobody, 0), Claim::Free, typed()).await;
    assert_eq!(e.unwrap_err().reason(), "INSTANCE_NOT_FOUND");
    let e = b.sessions.screen(nobody, typed()).await;
    assert_eq!(e.unwrap_err().reason(), "INSTANCE_NOT_FOUND");
    let e = b.sessions.grant(b.id, ConsoleKind::Vnc).await;
    assert_eq!(e.unwrap_err().reason(), "NOT_SUPPORTED");
    b.t.fake.emit(b.id, Happening::Crash);
    let e = b.sessions.screen(b.id, typed()).await;
    assert_eq!(e.unwrap_err().reason(), "INSTANCE_STATE");
}

#[tokio::test]
async fn a_client_that_says_nonsense_is_told_so_and_gets_up() {
    let b = bench().await;
    let nonsense = Error::new(crate::error::Kind::Invalid, "INVALID_REQUEST", "nonsense");
    let typed = stream::iter([Err(nonsense.clone())]);
    let mut serial = b.sit(Claim::Free, typed).await.unwrap();
    assert_eq!(ends(&mut serial).await.as_deref(), Some("INVALID_REQUEST"));
    b.watch(Claim::Force).await;
    let typed = stream::iter([Err(nonsense)]);
    let mut screen = b.sessions.screen(b.id, typed).await.unwrap();
    let e = screen.next().await.unwrap().unwrap_err();
    assert_eq!(e.reason(), "INVALID_REQUEST");
    assert!(screen.next().await.is_none());
}

#[tokio::test]
async fn a_screen_is_carried_both_ways_until_one_side_ends() {
    let b = bench().await;
    let (keys, typed) = keyboard();
    let mut screen = b.sessions.screen(b.id, typed).await.unwrap();
    let mut guest = b.guest(Socket::Screen);
    guest.write_all(b"RFB 003.008\n").await.unwrap();
    let said = screen.next().await.unwrap().unwrap();
    assert_eq!(&said[..], b"RFB 003.008\n");
    keys.send(Ok("RFB 003.008\n".into())).await.unwrap();
    let mut answer = [0; 12];
    guest.read_exact(&mut answer).await.unwrap();
    drop(guest);
    assert!(screen.next().await.is_none());
}

#[tokio::test]
async fn a_token_opens_once_and_not_for_ever() {
    let b = bench().await;
    let proxy = Proxy {
        host: "console.example".to_owned(),
        port: 6080,
    };
    b.sessions.proxied_at(proxy.clone());
    let ticket = Ticket {
        instance: b.id,
        kind: ConsoleKind::Serial,
    };
    let access = b.sessions.grant(b.id, ticket.kind).await.unwrap();
    assert_eq!(access.proxy, proxy);
    let token = access.token.expose();
    assert_eq!(b.sessions.redeem("guessed"), None);
    assert_eq!(b.sessions.redeem(token), Some(ticket));
    assert_eq!(b.sessions.redeem(token), None, "it was used");
    let late = b.sessions.grant(b.id, ticket.kind).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(LIFETIME).await;
    assert_eq!(
        b.sessions.redeem(late.token.expose()),
        None,
        "it is too old"
    );
}

#[tokio::test]
async fn tokens_that_nobody_uses_fill_no_memory() {
    let b = bench().await;
    b.sessions.proxied_at(Proxy {
        host: "console.example".to_owned(),
        port: 6080,
    });
    let grant = || b.sessions.grant(b.id, ConsoleKind::Vnc);
    let granted = stream::repeat_with(grant).then(|grant| grant);
    let mut granted = std::pin::pin!(granted);
    let refused = loop {
        if let Err(e) = granted.next().await.unwrap() {
            break e;
        }
    };
    assert_eq!(refused.reason(), "OVERLOADED");
    tokio::time::pause();
    tokio::time::advance(LIFETIME).await;
    grant().await.expect("old ones are forgotten");
}
