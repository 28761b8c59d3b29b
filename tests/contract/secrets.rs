//! Secrets are marked, and what is marked is not printed.

use computedriver::v1::{
    BlockDevice, InjectedFile, IscsiTarget, SetAdminPasswordRequest, SpawnRequest,
    VolumeConnection, VolumeEncryption, block_device, volume_connection,
};
use prost_reflect::{FieldDescriptor, Kind};

use crate::support::Contract;

/// A field whose name has one of these holds a secret, unless the whole name is among the harmless.
const TELLING: [&str; 8] = [
    "password",
    "secret",
    "passphrase",
    "token",
    "authorization",
    "user_data",
    "contents",
    "private",
];
const HARMLESS: [&str; 2] = ["page_token", "next_page_token"];

const SECRET: &str = "correct horse battery staple";

fn is_redacted(field: &FieldDescriptor) -> bool {
    let options = field.options();
    options
        .get_field_by_name("debug_redact")
        .and_then(|v| v.as_bool())
        .unwrap_or_default()
}

#[test]
fn every_field_that_sounds_secret_is_marked() {
    for message in Contract::read().messages() {
        for field in message.fields() {
            let text = matches!(field.kind(), Kind::String | Kind::Bytes);
            let tells = TELLING.iter().any(|word| field.name().contains(word))
                && !HARMLESS.contains(&field.name());
            assert!(
                !(text && tells) || is_redacted(&field),
                "{} is not debug_redact",
                field.full_name()
            );
        }
    }
}

#[test]
fn no_answer_about_instances_or_operations_can_carry_a_secret() {
    let contract = Contract::read();
    let mut left = vec![
        "Instance",
        "InstanceInfo",
        "Operation",
        "OperationProgress",
        "Event",
        "CachedImage",
    ]
    .into_iter()
    .map(|name| {
        contract
            .pool
            .get_message_by_name(&format!("computedriver.v1.{name}"))
            .expect(name)
    })
    .collect::<Vec<_>>();
    while let Some(message) = left.pop() {
        for field in message.fields() {
            assert!(!is_redacted(&field), "{} would be told", field.full_name());
            if let Kind::Message(part) = field.kind() {
                left.push(part);
            }
        }
    }
}

fn spawn() -> SpawnRequest {
    let iscsi = IscsiTarget {
        iqn: "iqn.visible".into(),
        chap_password: SECRET.into(),
        ..Default::default()
    };
    let volume = VolumeConnection {
        target: Some(volume_connection::Target::Iscsi(iscsi)),
        encryption: Some(VolumeEncryption {
            passphrase: SECRET.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    SpawnRequest {
        instance_id: "visible".into(),
        admin_password: SECRET.into(),
        user_data: SECRET.into(),
        injected_files: vec![InjectedFile {
            path: "/visible".into(),
            contents: SECRET.into(),
        }],
        block_devices: vec![BlockDevice {
            source: Some(block_device::Source::Volume(volume)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn assert_hidden(printed: &str) {
    assert!(!printed.contains(SECRET), "{printed}");
    let bytes = format!("{:?}", SECRET.as_bytes());
    let bytes = bytes.trim_matches(['[', ']']);
    assert!(
        !printed
            .replace([' ', '\n'], "")
            .contains(&bytes.replace(' ', "")),
        "as bytes: {printed}"
    );
    assert!(printed.contains("[redacted]"), "{printed}");
}

#[test]
fn debug_prints_every_field_but_the_secret_ones() {
    for printed in [format!("{:?}", spawn()), format!("{:#?}", spawn())] {
        assert_hidden(&printed);
        for visible in [
            "instance_id: \"visible\"",
            "\"/visible\"",
            "iqn.visible",
            "wait_for: None",
            "flavor: None",
        ] {
            assert!(printed.contains(visible), "no {visible} in {printed}");
        }
    }
    let request = SetAdminPasswordRequest {
        admin_password: SECRET.into(),
        ..Default::default()
    };
    assert_hidden(&format!("{request:?}"));
}

#[test]
fn debug_tells_an_unset_secret_from_a_set_one() {
    assert!(
        format!("{:?}", SetAdminPasswordRequest::default()).contains("admin_password: [unset]")
    );
}
