//! A long call followed to its end.
//!
//! The operation belongs to the server, so losing the connection loses nothing: the same request, with the same
//! `request_id`, joins it again. Messages that were seen before are left out by their sequence.
//!
//! ```text
//!   open ──▶ listen ──▶ done, or the operation's own failure
//!    ▲         │ lost: connection, silence, a server that drains or starts
//!    └─ pause ◀┘ gives up after the builder's `rejoin_for` without a word
//! ```

mod call;
mod rejoin;

use std::fmt;

use computedriver::v1;
use tonic::Streaming;

use crate::Result;
use crate::client::Client;
use crate::error::Error;

pub(crate) use call::Event;
pub use call::LongRequest;
pub(crate) use rejoin::Rejoin;

/// What a long call tells.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum News<T> {
    /// Where the operation stood when this caller began to watch it.
    Standing(Box<v1::Operation>),
    /// A step forward.
    Progress(v1::OperationProgress),
    /// The server was lost; the next call of [`Follow::next`] joins the operation again.
    Lost(Error),
    /// The end.
    Done(T),
}

/// A long call that is being followed; made by [`Client::follow`].
///
/// ```no_run
/// # async fn example(client: computedriver_client::Client) -> computedriver_client::Result<()> {
/// use computedriver_client::{News, v1};
/// let request = v1::DestroyRequest { instance_id: "4dfa7a5e-…".into(), ..Default::default() };
/// let mut destroy = client.follow(request);
/// loop {
///     match destroy.next().await? {
///         News::Done(destroyed) => break println!("absent before: {}", destroyed.absent),
///         news => println!("{news:?}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Follow<R: LongRequest> {
    client: Client,
    request: R,
    stream: Option<Streaming<R::Response>>,
    rejoin: Rejoin,
    operation_id: Option<String>,
    sequence: u64,
    standing: bool,
}

impl<R: LongRequest> Follow<R> {
    pub(crate) fn new(client: Client, mut request: R) -> Self {
        request.name_request();
        let rejoin = Rejoin::new(&client);
        Self {
            client,
            request,
            stream: None,
            rejoin,
            operation_id: None,
            sequence: 0,
            standing: false,
        }
    }

    /// The request as it is sent, with its `request_id` filled in.
    pub fn request(&self) -> &R {
        &self.request
    }

    /// The operation, once the server has named it.
    pub fn operation_id(&self) -> Option<&str> {
        self.operation_id.as_deref()
    }

    /// The next piece of news; waits for it.
    ///
    /// # Errors
    /// The operation's own failure, or `Unavailable` when the server was not found again in time.
    ///
    /// # Cancel safety
    /// May be dropped and called again: no news is lost.
    pub async fn next(&mut self) -> Result<News<R::Done>> {
        loop {
            match self.hear().await {
                Ok(Event::Idle) => {}
                Ok(Event::Done(done)) => return Ok(News::Done(done)),
                Ok(Event::Progress(progress)) => {
                    if let Some(news) = self.advance(progress) {
                        return Ok(news);
                    }
                }
                Ok(Event::Standing(operation)) => {
                    if let Some(news) = self.stand(operation) {
                        return Ok(news);
                    }
                }
                Err(error) => {
                    self.stream = None;
                    return match self.rejoin.lost(&error) {
                        true => Ok(News::Lost(error)),
                        false => Err(self.named(error)),
                    };
                }
            }
        }
    }

    /// Follows to the end.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn finish(
        mut self,
        mut on_progress: impl FnMut(&v1::OperationProgress),
    ) -> Result<R::Done> {
        loop {
            match self.next().await? {
                News::Progress(progress) => on_progress(&progress),
                News::Done(done) => return Ok(done),
                News::Standing(_) | News::Lost(_) => {}
            }
        }
    }

    async fn hear(&mut self) -> Result<Event<R::Done>> {
        if self.stream.is_none() {
            self.rejoin.pause().await;
            let opened = self.request.clone().open(&self.client).await?;
            self.stream = Some(opened);
        }
        let stream = self.stream.as_mut().expect("opened above");
        let message = stream.message().await?;
        let message = message
            .ok_or_else(|| Error::cut("the server ended the stream before the operation ended"))?;
        self.rejoin.heard();
        Ok(self.request.read(message))
    }

    fn advance(&mut self, progress: v1::OperationProgress) -> Option<News<R::Done>> {
        self.follow_operation(&progress.operation_id);
        if progress.sequence <= self.sequence {
            return None;
        }
        self.sequence = progress.sequence;
        Some(News::Progress(progress))
    }

    /// Where it stands is told once; after a rejoin only what is new of it.
    fn stand(&mut self, operation: Box<v1::Operation>) -> Option<News<R::Done>> {
        self.follow_operation(&operation.operation_id);
        if self.standing {
            return operation.progress.and_then(|p| self.advance(p));
        }
        self.standing = true;
        self.sequence = operation.progress.as_ref().map_or(0, |p| p.sequence);
        Some(News::Standing(operation))
    }

    /// Another operation counts anew: after a restart of the server the request may have begun a second one.
    fn follow_operation(&mut self, id: &str) {
        if self.operation_id.as_deref() != Some(id) {
            self.operation_id = Some(id.to_owned());
            self.sequence = 0;
        }
    }

    fn named(&self, error: Error) -> Error {
        match &self.operation_id {
            Some(id) => error.with("operation_id", id),
            None => error,
        }
    }
}

impl<R: LongRequest> fmt::Debug for Follow<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("endpoint", &self.client.endpoint())
            .field("operation_id", &self.operation_id)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}
