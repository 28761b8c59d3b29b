//! Streams of counters, followed over lost connections. The first batch after each is whole.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use computedriver::v1;
use tonic::{Request, Status, Streaming};

use crate::Result;
use crate::client::Client;
use crate::error::Error;
use crate::layers::Silence;
use crate::progress::Rejoin;

/// What a stream of counters tells.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SampleNews<B> {
    /// A batch.
    Batch(B),
    /// The server was lost; the next call of [`Samples::next`] asks anew, and a whole batch comes first.
    Lost(Error),
}

/// A request for a stream of counters; see [`Client::samples`].
pub trait SampleRequest: sealed::Sealed + Clone + Send + Sync + 'static {
    /// The messages of its stream.
    type Batch: Send + 'static;

    #[doc(hidden)]
    fn interval(&self) -> Option<prost_types::Duration>;

    #[doc(hidden)]
    fn open(
        request: Request<Self>,
        client: &Client,
    ) -> impl Future<Output = Result<Streaming<Self::Batch>, Status>> + Send;
}

mod sealed {
    /// The contract decides which calls stream counters.
    pub trait Sealed {}
}

/// Reads: request, RPC, the message of its stream.
macro_rules! sample_streams {
    ($($request:ident: $rpc:ident -> $batch:ident;)*) => {$(
        impl sealed::Sealed for v1::$request {}

        impl SampleRequest for v1::$request {
            type Batch = v1::$batch;

            fn interval(&self) -> Option<prost_types::Duration> {
                self.interval
            }

            async fn open(
                request: Request<Self>,
                client: &Client,
            ) -> Result<Streaming<Self::Batch>, Status> {
                Ok(client.stats().$rpc(request).await?.into_inner())
            }
        }
    )*};
}

sample_streams! {
    StreamBlockStatsRequest: stream_block_stats -> StreamBlockStatsResponse;
    StreamInterfaceStatsRequest: stream_interface_stats -> StreamInterfaceStatsResponse;
    StreamInstanceStatsRequest: stream_instance_stats -> StreamInstanceStatsResponse;
}

impl Client {
    /// Follows a stream of counters. [`StatsView`](crate::StatsView) puts batches of all counters together.
    ///
    /// ```no_run
    /// # async fn example(client: computedriver_client::Client) -> computedriver_client::Result<()> {
    /// use computedriver_client::{SampleNews, StatsView, v1};
    /// let mut samples = client.samples(v1::StreamInstanceStatsRequest::default());
    /// let mut view = StatsView::default();
    /// loop {
    ///     match samples.next().await? {
    ///         SampleNews::Batch(batch) => view.apply(batch),
    ///         _ => view.lost(),
    ///     }
    ///     for usage in view.instances() {
    ///         println!("{} {:?}", usage.id(), usage.rates().cpu);
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn samples<R: SampleRequest>(&self, request: R) -> Samples<R> {
        Samples {
            rejoin: Rejoin::new(self),
            client: self.clone(),
            request,
            stream: None,
        }
    }
}

/// A stream of counters that is being followed; made by [`Client::samples`].
pub struct Samples<R: SampleRequest> {
    client: Client,
    request: R,
    stream: Option<Streaming<R::Batch>>,
    rejoin: Rejoin,
}

impl<R: SampleRequest> Samples<R> {
    /// The next batch; waits for it, and has no end.
    ///
    /// # Errors
    /// Whatever the contract lists for the stream; `Unavailable` when the server was not found again in time.
    ///
    /// # Cancel safety
    /// May be dropped and called again: no batch is lost.
    pub async fn next(&mut self) -> Result<SampleNews<R::Batch>> {
        match self.hear().await {
            Ok(batch) => Ok(SampleNews::Batch(batch)),
            Err(error) => {
                self.stream = None;
                match self.rejoin.lost(&error) {
                    true => Ok(SampleNews::Lost(error)),
                    false => Err(error),
                }
            }
        }
    }

    async fn hear(&mut self) -> Result<R::Batch> {
        if self.stream.is_none() {
            self.rejoin.pause().await;
            let mut request = Request::new(self.request.clone());
            request.extensions_mut().insert(Silence(self.expected()));
            self.stream = Some(R::open(request, &self.client).await?);
        }
        let stream = self.stream.as_mut().expect("opened above");
        let message = stream.message().await?;
        let batch = message.ok_or_else(|| Error::cut("the server ended the stream of counters"))?;
        self.rejoin.heard();
        Ok(batch)
    }

    /// Silence that is no fault: a server that has nothing to say between two samples says nothing.
    fn expected(&self) -> Duration {
        let asked = self.request.interval();
        asked
            .and_then(|d| Duration::try_from(d).ok())
            .unwrap_or_default()
    }
}

impl<R: SampleRequest> fmt::Debug for Samples<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Samples")
            .field("endpoint", &self.client.endpoint())
            .field("interval", &self.expected())
            .finish_non_exhaustive()
    }
}
