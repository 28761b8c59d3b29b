//! Why an operation was not begun, or is not known.

use std::time::Duration;

use crate::{
    error::{Classify, Details, Kind},
    model::{InstanceId, OperationId, RequestId, Verb},
};

/// Why an operation was not begun, or is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OperationError {
    /// Another one holds the instance.
    #[error("operation {operation} ({verb:?}) holds instance {instance}")]
    Pending {
        /// The one that holds it.
        operation: OperationId,
        /// What it does.
        verb: Verb,
        /// What it holds.
        instance: InstanceId,
    },
    /// Another one runs, and one of the two has the host for itself.
    #[error("operation {operation} ({verb:?}) runs on this host")]
    HostHeld {
        /// The one that runs.
        operation: OperationId,
        /// What it does.
        verb: Verb,
    },
    /// The same request id came with another body.
    #[error("request_id {0} was used before for another request")]
    RequestIdReused(RequestId),
    /// There is no such operation.
    #[error("there is no operation {0}")]
    NotFound(OperationId),
    /// It has ended, or it only goes forward.
    #[error("operation {0} cannot be cancelled: it has ended, or it only goes forward")]
    NotCancellable(OperationId),
    /// The server is about to stop.
    #[error("the server is draining and begins nothing new")]
    Draining,
    /// The server has not yet looked after what an earlier life left.
    #[error("the server is starting and begins nothing yet")]
    Starting,
}

impl Classify for OperationError {
    fn kind(&self) -> Kind {
        match self {
            Self::Pending { .. } | Self::HostHeld { .. } => Kind::Pending,
            Self::RequestIdReused(_) => Kind::Invalid,
            Self::NotFound(_) => Kind::NotFound,
            Self::NotCancellable(_) => Kind::Precondition,
            Self::Draining | Self::Starting => Kind::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Pending { .. } | Self::HostHeld { .. } => "OPERATION_PENDING",
            Self::RequestIdReused(_) => "REQUEST_ID_REUSED",
            Self::NotFound(_) => "OPERATION_NOT_FOUND",
            Self::NotCancellable(_) => "OPERATION_NOT_CANCELLABLE",
            Self::Draining => "DRAINING",
            Self::Starting => "STARTING",
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Pending {
                operation,
                verb,
                instance,
            } => vec![
                ("operation_id", operation.to_string()),
                ("verb", verb.as_str().to_owned()),
                ("instance_id", instance.to_string()),
            ],
            Self::HostHeld { operation, verb } => vec![
                ("operation_id", operation.to_string()),
                ("verb", verb.as_str().to_owned()),
            ],
            Self::RequestIdReused(id) => vec![("request_id", id.to_string())],
            Self::NotFound(id) | Self::NotCancellable(id) => vec![("operation_id", id.to_string())],
            Self::Draining | Self::Starting => Vec::new(),
        }
    }

    fn details(&self) -> Details {
        let retry = matches!(self.kind(), Kind::Unavailable | Kind::Pending);
        Details {
            retry_after: retry.then_some(Duration::from_secs(1)),
            ..Details::default()
        }
    }
}
