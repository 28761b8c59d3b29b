//! What the server says that it serves, and whether that is so: every RPC of every service is called.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Buf, BufMut};
use computedriver_client::Error;
use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

use super::bench::{Bench, nobody};
use super::suite::{Check, Fault, Verdict, check, hold};
use crate::json;

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["HostService/GetCapabilities"],
        "every RPC of the contract is named once",
        whole
    ),
    check!(
        ["HostService/GetCapabilities"],
        "what is not served answers UNIMPLEMENTED, for a reason",
        unserved
    ),
    check!(
        ["HostService/GetCapabilities"],
        "what is served and only reads answers an empty request in order",
        empty
    ),
    check!(
        ["HostService/GetCapabilities"],
        "what reads of an instance does not know an absent one",
        absent
    ),
];

/// How long a stream may say nothing before it counts as begun.
const BEGUN: Duration = Duration::from_secs(3);

pub(super) fn name(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().name(), method.name())
}

async fn whole(bench: &Bench) -> Verdict {
    let mut told = BTreeMap::new();
    for rpc in &bench.capabilities.rpcs {
        let name = format!("{}/{}", rpc.service, rpc.method);
        *told.entry(name).or_insert(0) += 1;
        let silent = !rpc.supported && rpc.unsupported_reason.is_empty();
        hold!(!silent, "{} is not served, and nobody says why", rpc.method);
    }
    let full = |method: MethodDescriptor| {
        format!("{}/{}", method.parent_service().full_name(), method.name())
    };
    let contract: BTreeSet<String> = json::methods().map(full).collect();
    let missing: Vec<_> = contract
        .iter()
        .filter(|rpc| told.get(*rpc) != Some(&1))
        .collect();
    hold!(missing.is_empty(), "not named, or named twice: {missing:?}");
    Ok(())
}

async fn unserved(bench: &Bench) -> Verdict {
    for method in json::methods().filter(|method| !bench.serves(&name(method))) {
        let error = match call(bench, &method, Vec::new()).await {
            Ok(()) => return Err(Fault::Failed(format!("{} answers", name(&method)))),
            Err(status) => Error::from(status),
        };
        let due = error.code() == Code::Unimplemented && error.reason() == "NOT_SUPPORTED";
        let (code, reason) = (error.code(), error.reason());
        hold!(due, "{} answers {code:?} [{reason}]", name(&method));
    }
    Ok(())
}

fn reads(bench: &Bench) -> impl Iterator<Item = MethodDescriptor> {
    json::methods().filter(|method| {
        let option = method.options();
        let level = option.get_field_by_name("idempotency_level");
        let only_reads = level.and_then(|level| level.as_enum_number()) == Some(1);
        only_reads && !method.is_client_streaming() && bench.serves(&name(method))
    })
}

async fn empty(bench: &Bench) -> Verdict {
    for method in reads(bench) {
        let Err(status) = call(bench, &method, Vec::new()).await else {
            continue;
        };
        let error = Error::from(status);
        let (code, reason) = (error.code(), error.reason());
        let wild = matches!(code, Code::Unimplemented | Code::Internal | Code::Unknown);
        hold!(
            !wild && !reason.is_empty(),
            "{} answers {code:?} [{reason}]: {error}",
            name(&method)
        );
    }
    Ok(())
}

async fn absent(bench: &Bench) -> Verdict {
    let about_one = [
        "InstanceService",
        "DeviceService",
        "GuestService",
        "ConsoleService",
        "StatsService",
    ];
    for method in reads(bench) {
        let service = method.parent_service();
        let mut request = DynamicMessage::new(method.input());
        let field = request.descriptor().get_field_by_name("instance_id");
        let (Some(field), true) = (field, about_one.contains(&service.name())) else {
            continue;
        };
        request.set_field(&field, Value::String(nobody()));
        let outcome = call(bench, &method, prost::Message::encode_to_vec(&request)).await;
        let error = outcome.err().map(Error::from);
        let due = error.as_ref().is_some_and(|error| {
            let unknown = error.code() == Code::NotFound && error.reason() == "INSTANCE_NOT_FOUND";
            // More of the request is required, and all of its faults come first.
            unknown || error.code() == Code::InvalidArgument && !error.violations().is_empty()
        });
        hold!(due, "{} answers {error:?}", name(&method));
    }
    Ok(())
}

/// Calls any RPC with the bytes of a message, and waits for its first answer.
async fn call(bench: &Bench, method: &MethodDescriptor, message: Vec<u8>) -> Result<(), Status> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path = path.parse().map_err(|_| Status::internal("no path"))?;
    let mut grpc = tonic::client::Grpc::new(bench.channel.clone());
    grpc.ready()
        .await
        .map_err(|e| Status::unavailable(e.to_string()))?;
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(60));
    let answers = grpc.server_streaming(request, path, Plain).await?;
    let mut answers = answers.into_inner();
    match tokio::time::timeout(BEGUN, answers.message()).await {
        Ok(first) => first.map(drop),
        Err(_) => Ok(()),
    }
}

/// Messages as their bytes.
#[derive(Clone, Copy, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, bytes: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        bytes.advance(bytes.remaining());
        Ok(Some(()))
    }
}
