//! What is known of a method before it is called.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message;
use prost_types::FileDescriptorSet;

/// How a call answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// With one message, soon.
    Unary,
    /// With messages for as long as it is open.
    Stream,
}

impl Shape {
    /// The word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Stream => "stream",
        }
    }
}

static SHAPES: LazyLock<HashMap<String, Shape>> = LazyLock::new(|| {
    let sets = [
        computedriver::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let sets = sets.map(|set| {
        FileDescriptorSet::decode(set).expect("descriptor sets are written by the build")
    });
    let files = sets.iter().flat_map(|set| &set.file);
    files
        .flat_map(|file| {
            let services = file.service.iter();
            services.flat_map(move |service| {
                let one = move |method: &prost_types::MethodDescriptorProto| {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let stream = method.server_streaming() || method.client_streaming();
                    (path, if stream { Shape::Stream } else { Shape::Unary })
                };
                service.method.iter().map(one)
            })
        })
        .collect()
});

/// How the method at `path` answers. One that nobody knows is answered at once.
pub(super) fn shape(path: &str) -> Shape {
    SHAPES.get(path).copied().unwrap_or(Shape::Unary)
}

/// The method's full name, as `computedriver.v1.HostService/GetVersion`. A caller can make up any number of paths, so
/// those that nobody knows share one name.
pub(super) fn name(path: &str) -> &'static str {
    let known = SHAPES.get_key_value(path);
    known.map_or("_OTHER", |(path, _)| path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::{Shape, name, shape};

    #[test]
    fn a_path_that_a_caller_made_up_has_no_name_of_its_own() {
        let known = "/computedriver.v1.InstanceService/GetInfo";
        assert_eq!(name(known), &known[1..]);
        assert_eq!(name("/computedriver.v1.InstanceService/Nonsense"), "_OTHER");
    }

    #[test]
    fn methods_are_told_by_their_descriptors() {
        assert_eq!(
            shape("/computedriver.v1.InstanceService/Spawn"),
            Shape::Stream
        );
        assert_eq!(
            shape("/computedriver.v1.InstanceService/GetInfo"),
            Shape::Unary
        );
        assert_eq!(shape("/grpc.health.v1.Health/Check"), Shape::Unary);
        assert_eq!(shape("/grpc.health.v1.Health/Watch"), Shape::Stream);
        let reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(shape(&format!("/{reflection}")), Shape::Stream);
        assert_eq!(shape("/nobody/Knows"), Shape::Unary);
    }
}
