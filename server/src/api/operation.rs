//! OperationService.

use computedriver::v1::{self, operation_service_server::OperationService};
use futures::StreamExt;
use tonic::{Request, Response, Status};

use super::{
    Api, convert, page,
    status::status,
    stream::{Answers, Seen, follow},
};
use crate::{
    error::{Error, Kind},
    model::{OperationId, OperationRecord, OperationState},
    store::OperationFilter,
};

type Reply<T> = Result<Response<T>, Status>;

impl Api {
    async fn operation(&self, id: OperationId) -> Result<v1::Operation, Error> {
        let progress = self.operations.watch(id).await?;
        let seen = progress.borrow();
        Ok(convert::operation(&seen, self.operations.cancelling(id)))
    }

    async fn page_of(
        &self,
        request: v1::ListOperationsRequest,
    ) -> Result<v1::ListOperationsResponse, Error> {
        let instance = match request.instance_id.as_str() {
            "" => None,
            text => Some(convert::instance_id(text)?),
        };
        let states = states(&request.states)?;
        let size = page::size(request.page_size);
        let listing = format!("operations {} {:?}", request.instance_id, request.states);
        let mut after = match page::after(&listing, &request.page_token)? {
            Some(id) => {
                let last = self.operations.watch(convert::operation_id(&id)?).await?;
                let last = last.borrow();
                Some((last.record.begun, last.record.id))
            }
            None => None,
        };
        let mut taken: Vec<OperationRecord> = Vec::new();
        loop {
            let filter = OperationFilter {
                instance,
                after,
                limit: size,
            };
            let rows = self.operations.list(filter).await?;
            let full = rows.len() == size;
            after = rows.last().map(|row| (row.begun, row.id)).or(after);
            for row in rows {
                if taken.len() < size && (states.is_empty() || states.contains(&row.state)) {
                    taken.push(row);
                }
            }
            if !full || taken.len() == size {
                let more = full && taken.len() == size;
                let last = taken.last().map(|row| row.id.to_string()).filter(|_| more);
                return self
                    .answer(taken, last.map(|last| page::token(&listing, &last)))
                    .await;
            }
        }
    }

    async fn answer(
        &self,
        rows: Vec<OperationRecord>,
        token: Option<String>,
    ) -> Result<v1::ListOperationsResponse, Error> {
        let mut operations = Vec::with_capacity(rows.len());
        for row in rows {
            operations.push(self.operation(row.id).await?);
        }
        Ok(v1::ListOperationsResponse {
            operations,
            next_page_token: token.unwrap_or_default(),
        })
    }
}

fn states(wire: &[i32]) -> Result<Vec<OperationState>, Error> {
    let one = |state: &i32| match v1::OperationState::try_from(*state) {
        Ok(v1::OperationState::Running | v1::OperationState::Cancelling) => {
            Ok(OperationState::Running)
        }
        Ok(v1::OperationState::Unwinding) => Ok(OperationState::Unwinding),
        Ok(v1::OperationState::Succeeded) => Ok(OperationState::Succeeded),
        Ok(v1::OperationState::Failed) => Ok(OperationState::Failed),
        Ok(v1::OperationState::Cancelled) => Ok(OperationState::Cancelled),
        Ok(v1::OperationState::Unspecified) | Err(_) => Err(Error::new(
            Kind::Invalid,
            "INVALID_REQUEST",
            "states must be known states",
        )
        .with("field", "states")),
    };
    wire.iter().map(one).collect()
}

#[tonic::async_trait]
impl OperationService for Api {
    async fn get_operation(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Reply<v1::GetOperationResponse> {
        let id =
            convert::operation_id(&request.into_inner().operation_id).map_err(|e| status(&e))?;
        let operation = self.operation(id).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::GetOperationResponse {
            operation: Some(operation),
        }))
    }

    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Reply<v1::ListOperationsResponse> {
        self.page_of(request.into_inner())
            .await
            .map(Response::new)
            .map_err(|e| status(&e))
    }

    async fn watch_operation(
        &self,
        request: Request<v1::WatchOperationRequest>,
    ) -> Reply<Answers<v1::WatchOperationResponse>> {
        use v1::watch_operation_response::Event;
        let id =
            convert::operation_id(&request.into_inner().operation_id).map_err(|e| status(&e))?;
        let progress = self.operations.watch(id).await.map_err(|e| status(&e))?;
        let first = Event::Operation(convert::operation(
            &progress.borrow(),
            self.operations.cancelling(id),
        ));
        let operations = self.operations.clone();
        let last = progress.clone();
        let rest = follow(progress, self.drain.clone()).map(move |seen| match seen {
            Ok(Seen::Progress(event)) => Ok(Event::Progress(convert::progress(*event))),
            Ok(Seen::Heartbeat) => Ok(Event::Heartbeat(heartbeat())),
            Ok(Seen::Done) => Ok(Event::Operation(convert::operation(
                &last.borrow(),
                operations.cancelling(id),
            ))),
            // The watch itself succeeds however the operation ends; only the server's own end is an error of it.
            Err(_) if last.borrow().record.state.is_final() => {
                Ok(Event::Operation(convert::operation(&last.borrow(), false)))
            }
            Err(e) => Err(e),
        });
        let events = futures::stream::iter([Ok(first)]).chain(rest);
        let answers = events
            .map(|event| event.map(|event| v1::WatchOperationResponse { event: Some(event) }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn cancel_operation(
        &self,
        request: Request<v1::CancelOperationRequest>,
    ) -> Reply<v1::CancelOperationResponse> {
        let id =
            convert::operation_id(&request.into_inner().operation_id).map_err(|e| status(&e))?;
        self.operations.cancel(id).await.map_err(|e| status(&e))?;
        let operation = self.operation(id).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::CancelOperationResponse {
            operation: Some(operation),
        }))
    }
}

/// A sign of life.
pub(super) fn heartbeat() -> v1::Heartbeat {
    v1::Heartbeat {
        time: Some(convert::timestamp(std::time::SystemTime::now())),
    }
}
