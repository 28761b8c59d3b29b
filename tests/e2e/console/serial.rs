//! The serial port.

use std::{io::Write, os::unix::fs::MetadataExt, time::Duration};

use computedriver::v1::{
    self, console_service_client::ConsoleServiceClient, open_serial_console_request::Event as Say,
    open_serial_console_response::Event as Told,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::support::{LIMIT, Sandbox, guest_request, reason, request, until};

suite!(a_person_logs_in_and_works_and_another_takes_over);

/// Far less than a guest writes in these tests.
const WINDOW: u32 = 512;
/// The contract's largest message.
const PAGE: usize = 64 << 10;
/// More than all windows and buffers on the way hold together.
const MUCH: usize = 16 << 20;

/// Somebody at a serial port.
struct Person {
    keys: mpsc::Sender<v1::OpenSerialConsoleRequest>,
    answers: Streaming<v1::OpenSerialConsoleResponse>,
    seen: String,
}

fn said(event: Say) -> v1::OpenSerialConsoleRequest {
    v1::OpenSerialConsoleRequest { event: Some(event) }
}

impl Person {
    async fn sit(sandbox: &Sandbox, id: &str, force: bool) -> Result<Self, Status> {
        Self::sit_by(sandbox.console().await, id, force).await
    }

    /// The same over a connection that takes little from who does not read.
    async fn narrow(sandbox: &Sandbox, id: &str) -> Result<Self, Status> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", sandbox.socket().display()));
        let narrow = endpoint.unwrap().initial_stream_window_size(WINDOW);
        let channel = narrow.connect().await.expect("the server listens");
        Self::sit_by(ConsoleServiceClient::new(channel), id, false).await
    }

    async fn sit_by(
        mut console: ConsoleServiceClient<Channel>,
        id: &str,
        force: bool,
    ) -> Result<Self, Status> {
        let (keys, typed) = mpsc::channel(1);
        let open = v1::SerialConsoleOpen {
            instance_id: id.to_owned(),
            force,
            ..Default::default()
        };
        keys.send(said(Say::Open(open))).await.expect("it is ours");
        let answer = console
            .open_serial_console(ReceiverStream::new(typed))
            .await?;
        Ok(Self {
            keys,
            answers: answer.into_inner(),
            seen: String::new(),
        })
    }

    async fn types(&self, text: &str) {
        let data = said(Say::Data(text.as_bytes().to_vec()));
        self.keys.send(data).await.expect("the session is open");
    }

    /// Reads until the text shows.
    async fn sees(&mut self, text: &str) {
        let reading = async {
            while !self.seen.contains(text) {
                match self.answers.message().await.expect("it goes on") {
                    Some(answer) => self.look(answer),
                    None => panic!("it ended before {text:?}"),
                }
            }
        };
        let late = timeout(LIMIT, reading).await.is_err();
        assert!(!late, "no {text:?} in {:?}", self.seen);
        let at = self.seen.find(text).expect("it shows") + text.len();
        self.seen.drain(..at);
    }

    fn look(&mut self, answer: v1::OpenSerialConsoleResponse) {
        if let Some(Told::Data(bytes)) = answer.event {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Reads to the end; how it ended.
    async fn ends(mut self) -> Result<String, Status> {
        let reading = async {
            while let Some(answer) = self.answers.message().await? {
                self.look(answer);
            }
            Ok(self.seen)
        };
        timeout(LIMIT, reading).await.expect("it ends")
    }

    /// Logs in, from whatever the port shows.
    async fn logs_in(&mut self) {
        self.types("\n").await;
        self.sees("login:").await;
        self.types("root\n").await;
        self.sees("# ").await;
    }
}

async fn log(sandbox: &Sandbox, id: &str) -> String {
    let asked = v1::GetConsoleOutputRequest {
        instance_id: id.to_owned(),
        tail_bytes: 1 << 20,
        ..Default::default()
    };
    let tail = sandbox.console().await.get_console_output(asked).await;
    String::from_utf8_lossy(&tail.unwrap().into_inner().output).into_owned()
}

fn refused(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

async fn a_person_logs_in_and_works_and_another_takes_over(sandbox: &mut Sandbox) {
    let guest = sandbox.spawn(guest_request("GUEST-MILESTONE-ready")).await;
    let id = guest.unwrap().0.instance_id;

    let mut first = Person::sit(sandbox, &id, false).await.unwrap();
    first.logs_in().await;
    first.types("echo sum $((40 + 2)).\n").await;
    first.sees("sum 42.").await;

    let busy = Person::sit(sandbox, &id, false)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(refused(&busy), (Code::Aborted, "CONSOLE_BUSY".to_owned()));
    let mut second = Person::sit(sandbox, &id, true).await.unwrap();
    let taken = first.ends().await.unwrap_err();
    assert_eq!(refused(&taken), (Code::Aborted, "CONSOLE_TAKEN".to_owned()));
    second.types("echo sum $((50 + 5)).\n").await;
    second.sees("sum 55.").await;
    let logged = log(sandbox, &id).await;
    assert!(logged.contains("sum 42.") && logged.contains("sum 55."));

    // A crash of the server hangs up; the guest and its shell go on.
    sandbox.kill();
    second.ends().await.unwrap_err();
    sandbox.launch();
    sandbox.ready().await;
    let mut third = Person::sit(sandbox, &id, false).await.unwrap();
    third.types("echo sum $((60 + 6)).\n").await;
    third.sees("sum 66.").await;

    // The last words of a guest that goes are shown, and the end is no error.
    third.types("echo b''ye; shutdown -P now\n").await;
    let rest = third.ends().await.unwrap();
    assert!(
        rest.contains("bye") && rest.contains("GUEST-SHUTDOWN"),
        "{rest:?}"
    );
    let (there, id) = (&*sandbox, id.as_str());
    let off = until("the guest to be off", || async {
        Person::sit(there, id, false).await.map(drop).err()
    });
    let off = off.await;
    assert_eq!(
        refused(&off),
        (Code::FailedPrecondition, "INSTANCE_STATE".to_owned())
    );
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn who_reads_nothing_keeps_neither_the_guest_nor_its_log_waiting() {
    let sandbox = Sandbox::start(&[]).await;
    let guest = sandbox.spawn(guest_request("GUEST-MILESTONE-ready")).await;
    let id = guest.unwrap().0.instance_id;
    let mut person = Person::narrow(&sandbox, &id).await.unwrap();
    person.logs_in().await;
    // Many times what a terminal and the connection hold.
    person.types("seq 1 20000; echo al''l\n").await;
    until("the log to have it all", || async {
        log(&sandbox, &id).await.contains("\nall").then_some(())
    })
    .await;
    // And nothing is lost for who reads late.
    person.sees("19999\r\n20000\r\nall").await;
    sandbox.destroy(&id).await.unwrap();
}

#[tokio::test]
async fn a_log_that_grows_fills_no_disk_and_its_offsets_stay() {
    const KEPT: u64 = 1 << 20;
    let sandbox = Sandbox::start(&["--set", "guests.console_log_max_mib=1"]).await;
    let guest = sandbox.spawn(guest_request("GUEST-MILESTONE-ready")).await;
    let id = guest.unwrap().0.instance_id;
    let path = sandbox
        .path()
        .join("instances")
        .join(&id)
        .join("console.log");
    // As much as a guest writes in days; QEMU's handle is open for appending beside this one.
    let mut log = std::fs::File::options().append(true).open(&path).unwrap();
    let line = "x".repeat(1023) + "\n";
    log.write_all(line.repeat(3 << 10).as_bytes()).unwrap();
    until("the log to be cut", || {
        let log = std::fs::metadata(&path).expect("there is a log");
        let cut = log.len() > 3 * KEPT && log.blocks() * 512 < KEPT;
        std::future::ready(cut.then_some(()))
    })
    .await;
    // The guest goes on writing where it was.
    let mut person = Person::sit(&sandbox, &id, false).await.unwrap();
    person.logs_in().await;
    person.types("echo sum $((70 + 7)).\n").await;
    person.sees("sum 77.").await;
    let asked = v1::StreamConsoleOutputRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    let mut whole = sandbox.console().await.stream_console_output(asked).await;
    let whole = whole.as_mut().unwrap().get_mut();
    let (mut next, mut last) = (None, Vec::new());
    while let Some(answer) = whole.message().await.unwrap() {
        let Some(v1::stream_console_output_response::Event::Chunk(chunk)) = answer.event else {
            continue;
        };
        assert!(!chunk.data.contains(&0), "a hole is not told as bytes");
        match next {
            None => assert!(chunk.truncated && chunk.offset > 0, "its begin is gone"),
            Some(next) => assert!(chunk.truncated || chunk.offset == next),
        }
        next = Some(chunk.offset + chunk.data.len() as u64);
        last.extend(chunk.data);
    }
    assert!(next > Some(3 * KEPT), "{next:?}");
    let last = &last[last.len().saturating_sub(PAGE)..];
    let last = String::from_utf8_lossy(last);
    assert!(last.contains("sum 77."), "{last:?}");
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_guest_that_takes_nothing_stops_who_types_and_nobody_else() {
    let sandbox = Sandbox::start(&[]).await;
    // Its processor is halted: it reads nothing, for ever.
    let (halted, _) = sandbox.spawn(request()).await.unwrap();
    let id = halted.instance_id;
    let person = Person::sit(&sandbox, &id, false).await.unwrap();
    let page = vec![b'x'; PAGE];
    let mut typed = 0;
    let pause = Duration::from_secs(2);
    while let Ok(sent) = timeout(pause, person.keys.send(said(Say::Data(page.clone())))).await {
        sent.expect("the session is open");
        typed += page.len();
        assert!(typed < MUCH, "it is kept in memory");
    }
    let asked = v1::GetInfoRequest {
        instance_id: id.clone(),
    };
    sandbox.instances().await.get_info(asked).await.unwrap();
    let other = Person::sit(&sandbox, &id, true).await.unwrap();
    let taken = person.ends().await.unwrap_err();
    assert_eq!(reason(&taken), "CONSOLE_TAKEN");
    drop(other);
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn what_is_said_out_of_order_is_refused() {
    let sandbox = Sandbox::start(&[]).await;
    let (guest, _) = sandbox.spawn(request()).await.unwrap();
    let id = guest.instance_id;
    let early = ReceiverStream::new({
        let (keys, typed) = mpsc::channel(1);
        keys.send(said(Say::Data(b"x".to_vec()))).await.unwrap();
        typed
    });
    let early = sandbox.console().await.open_serial_console(early).await;
    let invalid = (Code::InvalidArgument, "INVALID_REQUEST".to_owned());
    assert_eq!(refused(&early.map(drop).unwrap_err()), invalid);
    let twice = Person::sit(&sandbox, &id, false).await.unwrap();
    let again = said(Say::Open(v1::SerialConsoleOpen::default()));
    twice.keys.send(again).await.unwrap();
    assert_eq!(refused(&twice.ends().await.unwrap_err()), invalid);
    let nobody = Person::sit(&sandbox, &uuid::Uuid::new_v4().to_string(), false).await;
    assert_eq!(reason(&nobody.map(drop).unwrap_err()), "INSTANCE_NOT_FOUND");
    let large = Person::sit(&sandbox, &id, true).await.unwrap();
    let much = said(Say::Data(vec![0; PAGE + 1]));
    large.keys.send(much).await.unwrap();
    assert_eq!(refused(&large.ends().await.unwrap_err()), invalid);
    sandbox.destroy(&id).await.unwrap();
}
