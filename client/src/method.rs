//! What the contract says of each RPC, read from its descriptor: its shape and whether it may be repeated.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::method_options::IdempotencyLevel;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

/// How messages flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One request, one answer.
    Unary,
    /// One request, many answers: heartbeats come when nothing else does.
    Stream,
    /// Both sides talk; silence means nothing.
    Duplex,
}

/// What repeating a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing.
    Read,
    /// Twice is as once.
    Idempotent,
    /// Twice may be twice.
    Once,
}

/// One RPC of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) effect: Effect,
}

/// Every RPC of the contract, in its order.
pub(crate) static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(computedriver::FILE_DESCRIPTOR_SET)
        .expect("the build wrote the descriptor set");
    let services = set.file.iter().flat_map(|file| {
        let package = file.package();
        file.service
            .iter()
            .map(move |s| (format!("{package}.{}", s.name()), s))
    });
    services
        .flat_map(|(service, s)| {
            s.method
                .iter()
                .map(move |m| Method::new(service.clone(), m))
        })
        .collect()
});

static BY_PATH: LazyLock<HashMap<String, &'static Method>> =
    LazyLock::new(|| METHODS.iter().map(|m| (m.path(), m)).collect());

/// The RPC of an HTTP path; none for services outside the contract.
pub(crate) fn of(path: &str) -> Option<&'static Method> {
    BY_PATH.get(path).copied()
}

impl Method {
    fn new(service: String, method: &MethodDescriptorProto) -> Self {
        let shape = match (method.client_streaming(), method.server_streaming()) {
            (false, false) => Shape::Unary,
            (false, true) => Shape::Stream,
            (true, _) => Shape::Duplex,
        };
        let level = method
            .options
            .as_ref()
            .map_or(IdempotencyLevel::IdempotencyUnknown, |o| {
                o.idempotency_level()
            });
        let effect = match level {
            IdempotencyLevel::NoSideEffects => Effect::Read,
            IdempotencyLevel::Idempotent => Effect::Idempotent,
            IdempotencyLevel::IdempotencyUnknown => Effect::Once,
        };
        Self {
            service,
            name: method.name().to_owned(),
            shape,
            effect,
        }
    }

    fn path(&self) -> String {
        format!("/{}/{}", self.service, self.name)
    }

    /// Whether the call may be repeated when the server was away.
    pub(crate) fn repeatable(&self) -> bool {
        self.shape == Shape::Unary && self.effect != Effect::Once
    }
}

#[cfg(test)]
mod tests {
    use super::{Effect, Shape, of};

    #[test]
    fn the_descriptor_tells_shape_and_effect() {
        let told = |path| of(path).map(|m| (m.shape, m.effect, m.repeatable()));
        assert_eq!(
            told("/computedriver.v1.InstanceService/GetInfo"),
            Some((Shape::Unary, Effect::Read, true))
        );
        assert_eq!(
            told("/computedriver.v1.InstanceService/Spawn"),
            Some((Shape::Stream, Effect::Idempotent, false))
        );
        assert_eq!(
            told("/computedriver.v1.InstanceService/TriggerCrashDump"),
            Some((Shape::Unary, Effect::Once, false))
        );
        assert_eq!(
            told("/computedriver.v1.ConsoleService/OpenVncConsole").map(|t| t.0),
            Some(Shape::Duplex)
        );
        assert_eq!(told("/grpc.health.v1.Health/Check"), None);
    }
}
