//! A shell in the tiny guest, over its serial port.

use computedriver::v1::{
    self, open_serial_console_request::Event as Say, open_serial_console_response::Event as Told,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{LIMIT, Sandbox};

/// A person who has logged in.
pub struct Shell {
    keys: mpsc::Sender<v1::OpenSerialConsoleRequest>,
    answers: Streaming<v1::OpenSerialConsoleResponse>,
    seen: String,
    nth: u32,
}

impl Shell {
    /// Logs in as root.
    pub async fn login(sandbox: &Sandbox, id: &str) -> Self {
        let (keys, typed) = mpsc::channel(4);
        let open = v1::SerialConsoleOpen {
            instance_id: id.to_owned(),
            force: true,
            ..Default::default()
        };
        let open = Say::Open(open);
        let open = v1::OpenSerialConsoleRequest { event: Some(open) };
        keys.send(open).await.expect("it is ours");
        let mut console = sandbox.console().await;
        let answers = console.open_serial_console(ReceiverStream::new(typed));
        let answers = answers.await.expect("a console").into_inner();
        let mut shell = Self {
            keys,
            answers,
            seen: String::new(),
            nth: 0,
        };
        shell.types("\n").await;
        shell.sees("login:").await;
        shell.types("root\n").await;
        shell.sees("# ").await;
        shell
    }

    async fn types(&self, text: &str) {
        let event = Some(Say::Data(text.as_bytes().to_vec()));
        let typed = v1::OpenSerialConsoleRequest { event };
        self.keys.send(typed).await.expect("the session is open");
    }

    /// Reads until the text shows; what was before it.
    async fn sees(&mut self, text: &str) -> String {
        let reading = async {
            while !self.seen.contains(text) {
                let answer = self.answers.message().await.expect("it goes on");
                let answer = answer.unwrap_or_else(|| panic!("it ended before {text:?}"));
                if let Some(Told::Data(bytes)) = answer.event {
                    self.seen.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
        };
        let late = timeout(LIMIT, reading).await.is_err();
        assert!(!late, "no {text:?} in {:?}", self.seen);
        let at = self.seen.find(text).expect("it shows");
        let before = self.seen[..at].to_owned();
        self.seen.drain(..at + text.len());
        before
    }

    /// Runs a command line to its good end; what it printed, its own echo before it.
    pub async fn run(&mut self, command: &str) -> String {
        self.nth += 1;
        let nth = self.nth;
        // What is typed is echoed, and must not look like the end.
        self.types(&format!("{command} && echo do''ne-{nth}-ok\n"))
            .await;
        self.sees(&format!("done-{nth}-ok")).await
    }
}
