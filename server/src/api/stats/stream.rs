//! The streams of StatsService.
//!
//! Generated services encode each answer for each caller; these stand before them and hand out bytes that were encoded
//! once. A batch is made when the caller's connection has room for it, so that one who does not read costs nothing.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use computedriver::v1::{self, stats_service_server::StatsServiceServer};
use futures::{Stream, StreamExt, future::BoxFuture, stream};
use http::{Request, Response};
use prost::Message;
use tonic::{
    Status,
    body::Body,
    server::{Grpc, NamedService},
};
use tower::{Service, service_fn};

use super::codec::Encoded;
use crate::{
    api::{Api, convert, status::status, stream::Answers},
    error::Error,
    hypervisor::HypervisorError,
    operation::OperationError,
    sampler::Wish,
};

type Served = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// StatsService, its streams by the sampler's bytes.
#[derive(Clone, Debug)]
pub(in crate::api) struct Streams {
    api: Api,
    limit: usize,
    rest: StatsServiceServer<Api>,
}

impl Streams {
    /// Serves `api`; a request has at most `limit` bytes.
    pub(in crate::api) fn new(api: Api, limit: usize) -> Self {
        let rest = StatsServiceServer::new(api.clone()).max_decoding_message_size(limit);
        Self { api, limit, rest }
    }

    fn stream<T: Message + Default + 'static>(
        &self,
        request: Request<Body>,
        convert: fn(&T) -> Result<convert::Watch, Error>,
    ) -> Served {
        let (api, limit) = (self.api.clone(), self.limit);
        Box::pin(async move {
            let watch = service_fn(move |request: tonic::Request<T>| {
                let watch = convert(request.get_ref());
                let batches = watch.and_then(|watch| api.batches(watch));
                let batches = batches.map(tonic::Response::new).map_err(|e| status(&e));
                std::future::ready(batches)
            });
            let mut grpc = Grpc::new(Encoded::new()).max_decoding_message_size(limit);
            Ok(grpc.server_streaming(watch, request).await)
        })
    }
}

impl NamedService for Streams {
    const NAME: &'static str = StatsServiceServer::<Api>::NAME;
}

impl Service<Request<Body>> for Streams {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Served;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Served {
        let method = request.uri().path().rsplit('/').next();
        match method.unwrap_or_default() {
            "StreamBlockStats" => {
                self.stream::<v1::StreamBlockStatsRequest>(request, convert::block_watch)
            }
            "StreamInterfaceStats" => {
                self.stream::<v1::StreamInterfaceStatsRequest>(request, convert::interface_watch)
            }
            "StreamInstanceStats" => {
                self.stream::<v1::StreamInstanceStatsRequest>(request, convert::instance_watch)
            }
            _ => Box::pin(self.rest.call(request)),
        }
    }
}

/// A batch's messages, one after the other; a message is taken when there is room for it.
fn messages(
    batch: Result<Arc<[Bytes]>, Status>,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    let (batch, end) = match batch {
        Ok(batch) => (batch, None),
        Err(end) => (Arc::from([]), Some(Err(end))),
    };
    let all = (0..batch.len()).map(move |at| Ok(batch[at].clone()));
    stream::iter(all.chain(end))
}

impl Api {
    fn batches(&self, watch: convert::Watch) -> Result<Answers<Bytes>, Error> {
        let mut asked = watch.ids.iter().flat_map(|ids| ids.iter());
        if let Some(id) = asked.find(|id| self.host.store.instance(**id).is_none()) {
            return Err(HypervisorError::NotFound(*id).into());
        }
        let listener = self.sampler.listen(Wish {
            groups: watch.groups,
            interval: watch.interval,
            full_every: watch.full_every,
            // A sample from before may not know an instance that is here now.
            fresh: watch.ids.is_some(),
        });
        let batches = stream::unfold(Some((listener, watch)), |following| async move {
            let (mut listener, watch) = following?;
            match listener.next().await {
                Some(batch) => Some((Ok(watch.encode(&batch)), Some((listener, watch)))),
                None => Some((Err(status(&OperationError::Draining.into())), None)),
            }
        });
        Ok(Box::pin(batches.flat_map(messages)))
    }
}
