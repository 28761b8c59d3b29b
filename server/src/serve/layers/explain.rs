//! Gives the reason to statuses that are not ours.
//!
//! Every error of the contract carries one `ErrorInfo`. Those that tonic makes before a service of ours is reached carry
//! none: a message that cannot be read or is too large, a method that does not exist.

use http::Response;
use tonic::{Code, Status, body::Body};

use super::status;
use crate::error::{Details, Error, Kind, Violation};

/// The same answer, or, when it is a bare failure, one that says why.
pub(super) fn explained(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    // Checked first: it is what nearly every answer ends at.
    if !headers.contains_key(Status::GRPC_STATUS) {
        return response;
    }
    let Some(bare) = Status::from_header_map(headers).filter(|s| s.code() != Code::Ok) else {
        return response;
    };
    if !bare.details().is_empty() {
        return response;
    }
    let e = error(bare.code(), bare.message().to_owned());
    // The other headers stay: a refused encoding names there those that are not.
    if status(&e).add_header(response.headers_mut()).is_err() {
        return super::told(&Error::internal("the failure cannot be told"));
    }
    response
}

fn error(code: Code, said: String) -> Error {
    match code {
        Code::Unimplemented => {
            let said = if said.is_empty() {
                "this server has no such method".to_owned()
            } else {
                said
            };
            Error::new(Kind::Unsupported, "NOT_SUPPORTED", said)
        }
        // The only one that tonic makes: a message beyond the limit.
        Code::OutOfRange => invalid(said),
        Code::Internal if said.contains("decode") || said.contains("Missing request message") => {
            invalid(said)
        }
        _ => Error::internal(said),
    }
}

fn invalid(said: String) -> Error {
    let violation = Violation {
        field: String::new(),
        description: said.clone(),
    };
    Error::new(Kind::Invalid, "INVALID_REQUEST", said).detailed(Details {
        violations: vec![violation],
        ..Details::default()
    })
}
