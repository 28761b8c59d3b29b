//! Streams that go on where they were after a lost connection.

use std::fmt;

use computedriver::v1;
use computedriver::v1::stream_console_output_request::Start;
use computedriver::v1::stream_console_output_response::Event;
use tonic::Streaming;

use crate::Result;
use crate::client::Client;
use crate::error::Error;
use crate::progress::{Follow, Rejoin};

impl Client {
    /// Watches a boot that any caller began: first where it stands, then live, last the instance.
    #[must_use]
    pub fn watch_boot(&self, instance_id: impl Into<String>) -> Follow<v1::WatchBootRequest> {
        self.follow(v1::WatchBootRequest {
            instance_id: instance_id.into(),
        })
    }

    /// Watches an operation to its end. [`News::Done`](crate::News::Done) carries it whatever the outcome; its failure
    /// is [`operation_error`](Self::operation_error).
    #[must_use]
    pub fn watch_operation(
        &self,
        operation_id: impl Into<String>,
    ) -> Follow<v1::WatchOperationRequest> {
        self.follow(v1::WatchOperationRequest {
            operation_id: operation_id.into(),
        })
    }

    /// The failure that an operation ended with, as the call that began it would have told it.
    #[must_use]
    pub fn operation_error(operation: &v1::Operation) -> Option<Error> {
        Error::of_operation(operation)
    }

    /// Reads the console log that the request asks for.
    ///
    /// ```no_run
    /// # async fn example(client: computedriver_client::Client) -> computedriver_client::Result<()> {
    /// use computedriver_client::v1;
    /// let mut console = client.console(v1::StreamConsoleOutputRequest {
    ///     instance_id: "4dfa7a5e-…".into(),
    ///     follow: true,
    ///     ..Default::default()
    /// });
    /// while let Some(chunk) = console.next().await? {
    ///     print!("{}", String::from_utf8_lossy(&chunk.data));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn console(&self, request: v1::StreamConsoleOutputRequest) -> Console {
        Console {
            rejoin: Rejoin::new(self),
            client: self.clone(),
            request,
            stream: None,
        }
    }
}

/// A console log that is being read; made by [`Client::console`]. After a lost connection it goes on at the byte where
/// it was.
pub struct Console {
    client: Client,
    request: v1::StreamConsoleOutputRequest,
    stream: Option<Streaming<v1::StreamConsoleOutputResponse>>,
    rejoin: Rejoin,
}

impl Console {
    /// The next bytes; `None` at the end of the log, or, when it is followed, of the instance.
    ///
    /// # Errors
    /// Whatever the contract lists for `StreamConsoleOutput`; `Unavailable` when the server was not found again.
    ///
    /// # Cancel safety
    /// May be dropped and called again: no bytes are lost.
    pub async fn next(&mut self) -> Result<Option<v1::ConsoleChunk>> {
        loop {
            match self.hear().await {
                Ok(Some(chunk)) => {
                    let end = chunk.offset + chunk.data.len() as u64;
                    self.request.start = Some(Start::Offset(end));
                    return Ok(Some(chunk));
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.stream = None;
                    if !self.rejoin.lost(&error) {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn hear(&mut self) -> Result<Option<v1::ConsoleChunk>> {
        if self.stream.is_none() {
            self.rejoin.pause().await;
            let mut consoles = self.client.consoles();
            let opened = consoles.stream_console_output(self.request.clone());
            self.stream = Some(opened.await?.into_inner());
        }
        let stream = self.stream.as_mut().expect("opened above");
        while let Some(message) = stream.message().await? {
            self.rejoin.heard();
            match message.event {
                Some(Event::Chunk(chunk)) => return Ok(Some(chunk)),
                Some(Event::Heartbeat(_)) | None => {}
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("instance_id", &self.request.instance_id)
            .field("start", &self.request.start)
            .finish_non_exhaustive()
    }
}
