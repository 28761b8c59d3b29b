//! Messages as JSON, by the contract's descriptor, so that no message needs a view of its own.
//!
//! Out: field names as in the proto; enums by their short names (`RUNNING`), times as RFC 3339, durations in seconds,
//! integers as numbers, bytes in base64, unset messages left out, secrets never. In: protobuf's own JSON mapping.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    MethodDescriptor, ReflectMessage as _, Value as Wire,
};
use serde_json::{Map, Value, json};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(computedriver::FILE_DESCRIPTOR_SET)
        .expect("the build wrote the descriptor set")
});

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("computedriver.v1.{name}"))
        .expect("the contract has this message")
}

/// Every RPC of the contract.
pub(crate) fn methods() -> impl Iterator<Item = MethodDescriptor> {
    let ours = POOL
        .services()
        .filter(|service| service.package_name() == "computedriver.v1");
    ours.flat_map(|service| service.methods().collect::<Vec<_>>())
}

/// The view of a message of this name.
pub(crate) fn view(name: &str, message: &impl Message) -> Value {
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(descriptor(name), bytes.as_slice())
        .map_or(Value::Null, |message| message_view(&message))
}

/// Reads a message of this name from protobuf's JSON.
pub(crate) fn read<M: Message + Default>(name: &str, text: &str) -> Result<M, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let message =
        DynamicMessage::deserialize(descriptor(name), &mut reader).map_err(|e| e.to_string())?;
    reader.end().map_err(|e| e.to_string())?;
    message.transcode_to().map_err(|e| e.to_string())
}

fn message_view(message: &DynamicMessage) -> Value {
    if let Some(known) = well_known(message) {
        return known;
    }
    let mut object = Map::new();
    for field in message.descriptor().fields() {
        if is_secret(&field) || field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        let value = message.get_field(&field);
        object.insert(field.name().to_owned(), value_view(&field.kind(), &value));
    }
    Value::Object(object)
}

fn is_secret(field: &FieldDescriptor) -> bool {
    let option = field.options();
    let redact = option.get_field_by_name("debug_redact");
    redact.and_then(|v| v.as_bool()).unwrap_or_default()
}

fn value_view(kind: &Kind, value: &Wire) -> Value {
    match value {
        Wire::Bool(v) => json!(v),
        Wire::I32(v) => json!(v),
        Wire::I64(v) => json!(v),
        Wire::U32(v) => json!(v),
        Wire::U64(v) => json!(v),
        Wire::F32(v) => json!(v),
        Wire::F64(v) => json!(v),
        Wire::String(v) => json!(v),
        Wire::Bytes(v) => json!(STANDARD.encode(v)),
        Wire::EnumNumber(number) => enum_view(kind, *number),
        Wire::Message(message) => message_view(message),
        Wire::List(values) => values.iter().map(|v| value_view(kind, v)).collect(),
        Wire::Map(entries) => {
            let kind = match kind {
                Kind::Message(entry) => entry.map_entry_value_field().kind(),
                other => other.clone(),
            };
            let entries = entries
                .iter()
                .map(|(key, v)| (key_view(key), value_view(&kind, v)));
            Value::Object(entries.collect())
        }
    }
}

fn key_view(key: &MapKey) -> String {
    match key {
        MapKey::String(key) => key.clone(),
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
    }
}

/// A value that this program does not know yet is its number.
fn enum_view(kind: &Kind, number: i32) -> Value {
    let Kind::Enum(descriptor) = kind else {
        return json!(number);
    };
    // The name of value 0 is the enum's own with `_UNSPECIFIED`, which the contract's lint sees to.
    let zero = descriptor.get_value(0);
    let zero = zero.as_ref().map_or("", |v| v.name());
    let prefix = zero.strip_suffix("UNSPECIFIED").unwrap_or_default();
    match descriptor.get_value(number) {
        Some(value) => {
            let name = value.name();
            json!(name.strip_prefix(prefix).unwrap_or(name))
        }
        None => json!(number),
    }
}

fn well_known(message: &DynamicMessage) -> Option<Value> {
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => {
            let time: prost_types::Timestamp = message.transcode_to().ok()?;
            let time = jiff::Timestamp::new(time.seconds, time.nanos).ok()?;
            Some(json!(time.to_string()))
        }
        "google.protobuf.Duration" => {
            let wire: prost_types::Duration = message.transcode_to().ok()?;
            // Sub-nanosecond digits mean nothing, and a span of centuries is none of ours.
            #[allow(clippy::cast_precision_loss)]
            let seconds = wire.seconds as f64 + f64::from(wire.nanos) / 1e9;
            Some(json!(seconds))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use computedriver_client::v1;
    use serde_json::json;

    use super::{read, view};

    #[test]
    fn a_view_is_short_whole_and_keeps_secrets() {
        let request = v1::SpawnRequest {
            instance_id: "i".into(),
            admin_password: "hunter2".into(),
            user_data: b"secret".to_vec(),
            metadata: [("role".to_owned(), "web".to_owned())].into(),
            wait_for: Some(v1::WaitFor {
                timeout: Some(prost_types::Duration {
                    seconds: 90,
                    nanos: 500_000_000,
                }),
                condition: Some(v1::wait_for::Condition::Phase(
                    v1::BootPhase::Userspace.into(),
                )),
            }),
            ..Default::default()
        };
        let view = view("SpawnRequest", &request);
        assert_eq!(
            view["wait_for"],
            json!({"phase": "USERSPACE", "timeout": 90.5})
        );
        assert_eq!(view["metadata"], json!({"role": "web"}));
        assert_eq!(view["vifs"], json!([]));
        assert!(view.get("flavor").is_none());
        let text = view.to_string();
        assert!(
            !text.contains("hunter2") && !text.contains("user_data"),
            "{text}"
        );
    }

    #[test]
    fn times_and_states_read_as_people_write_them() {
        let info = v1::InstanceInfo {
            state: v1::PowerState::Running.into(),
            created_time: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            ..Default::default()
        };
        let seen = view("InstanceInfo", &info);
        assert_eq!(seen["state"], "RUNNING");
        assert_eq!(seen["created_time"], "2023-11-14T22:13:20Z");
        let unknown = v1::InstanceInfo { state: 77, ..info };
        assert_eq!(view("InstanceInfo", &unknown)["state"], 77);
    }

    #[test]
    fn requests_are_read_from_protobufs_json_and_unknown_fields_refused() {
        let text = r#"{"instance_id": "i", "flavor": {"vcpus": 2}, "image": {"format": "DISK_FORMAT_RAW"}}"#;
        let request: v1::SpawnRequest = read("SpawnRequest", text).expect("good");
        assert_eq!(request.flavor.map(|f| f.vcpus), Some(2));
        let error = read::<v1::SpawnRequest>("SpawnRequest", r#"{"flavour": {}}"#);
        assert!(error.expect_err("unknown").contains("flavour"));
    }
}
