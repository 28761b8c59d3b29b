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
            // Not the number of an earlier person, whose words may still show.
            nth: uuid::Uuid::new_v4().as_fields().1.into(),
        };
        shell.types("\n").await;
        // An earlier person may have left it open.
        if shell.sees_one_of(&["login:", "# "]).await == 0 {
            shell.types("root\n").await;
            shell.sees("# ").await;
        }
        shell
    }

    async fn types(&self, text: &str) {
        let event = Some(Say::Data(text.as_bytes().to_vec()));
        let typed = v1::OpenSerialConsoleRequest { event };
        self.keys.send(typed).await.expect("the session is open");
    }

    /// Reads until the text shows; what was before it.
    async fn sees(&mut self, text: &str) -> String {
        self.sees_one_of(&[text]).await;
        let at = self.seen.find(text).expect("it shows");
        let before = self.seen[..at].to_owned();
        self.seen.drain(..at + text.len());
        before
    }

    /// Reads until one of the texts shows; which.
    async fn sees_one_of(&mut self, texts: &[&str]) -> usize {
        let reading = async {
            loop {
                let shown = texts.iter().position(|text| self.seen.contains(text));
                if let Some(nth) = shown {
                    return nth;
                }
                let answer = self.answers.message().await.expect("it goes on");
                let answer = answer.unwrap_or_else(|| panic!("it ended before {texts:?}"));
                if let Some(Told::Data(bytes)) = answer.event {
                    self.seen.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
        };
        let nth = timeout(LIMIT, reading).await;
        nth.unwrap_or_else(|_| panic!("no {texts:?} in {:?}", self.seen))
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
