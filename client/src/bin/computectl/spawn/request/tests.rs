//! Command lines and the requests that they make.

use std::fs;

use clap::Parser as _;
use computedriver_client::v1;
use computedriver_client::v1::wait_for::Condition;

use crate::args::{Cli, Command};
use crate::exit::Failure;

fn request(line: &[&str]) -> Result<v1::SpawnRequest, Failure> {
    let line = ["computectl", "spawn"].iter().chain(line);
    match Cli::try_parse_from(line).expect("a good line").command {
        Command::Spawn(args) => args.request(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_alone_is_enough() {
    let request = request(&["--image", "/srv/x.qcow2"]).expect("good");
    let flavor = request.flavor.expect("a flavor");
    assert_eq!((flavor.vcpus, flavor.memory_mib), (1, 512));
    let image = request.image.expect("an image");
    assert_eq!(image.location, "file:///srv/x.qcow2");
    assert_eq!(image.format(), v1::DiskFormat::Qcow2);
    assert_eq!(request.instance_id.len(), 36);
    assert_eq!(request.config_drive, None);
}

#[test]
fn what_is_waited_for_is_a_phase_or_a_pattern() {
    let wait = |what| request(&["--image", "/x", "--wait-for", what, "--wait-timeout", "90s"]);
    let phase = wait("userspace").expect("good").wait_for.expect("set");
    assert_eq!(
        phase.condition,
        Some(Condition::Phase(v1::BootPhase::Userspace.into()))
    );
    assert_eq!(phase.timeout.map(|t| t.seconds), Some(90));
    let pattern = wait("/login: $/").expect("good").wait_for.expect("set");
    assert_eq!(
        pattern.condition,
        Some(Condition::ConsolePattern("login: $".into()))
    );
    let line = [
        "computectl",
        "spawn",
        "--image",
        "/x",
        "--wait-for",
        "lunch",
    ];
    assert!(Cli::try_parse_from(line).is_err());
}

#[test]
fn files_are_read_and_the_password_is_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let request = request(&[
        "--image",
        "/x",
        "--ssh-key",
        &file("keys", "# mine\nssh-ed25519 AAAA me\n\n"),
        "--user-data",
        &file("data", "#cloud-config\n"),
        "--inject",
        &format!("/etc/motd={}", file("motd", "hello")),
        "--admin-password-file",
        &file("password", "s3cret\nrest"),
        "--no-config-drive",
    ])
    .expect("good");
    assert_eq!(request.ssh_public_keys, ["ssh-ed25519 AAAA me"]);
    assert_eq!(request.user_data, b"#cloud-config\n");
    assert_eq!(request.injected_files[0].path, "/etc/motd");
    assert_eq!(request.injected_files[0].contents, b"hello");
    assert_eq!(request.admin_password, "s3cret");
    assert_eq!(request.config_drive, Some(false));
}

#[test]
fn options_go_over_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("request.json");
    let text =
        r#"{"instance_id": "a", "hostname": "one", "flavor": {"vcpus": 4, "memory_mib": "64"}}"#;
    fs::write(&path, text).expect("written");
    let file = path.display().to_string();
    let request = request(&["--file", &file, "--hostname", "two", "--memory-mib", "128"]);
    let request = request.expect("good");
    assert_eq!(
        (request.instance_id.as_str(), request.hostname.as_str()),
        ("a", "two")
    );
    let flavor = request.flavor.expect("a flavor");
    assert_eq!((flavor.vcpus, flavor.memory_mib), (4, 128));
    assert!(request.image.is_none());
}

#[test]
fn a_volume_is_booted_from_in_place_of_an_image() {
    let id = "1c0dd3e8-0b1e-4c59-9d55-0d6b8f1f2a10";
    let line = [
        "--boot-volume",
        "nbd:10.0.0.1:10809/x",
        "--boot-volume-id",
        id,
    ];
    let asked = request(&line).expect("good");
    assert_eq!(asked.image, None);
    let [root] = &asked.block_devices[..] else {
        panic!("{:?}", asked.block_devices);
    };
    assert_eq!((root.disk_id.as_str(), root.boot_index), (id, Some(0)));
    let Some(v1::block_device::Source::Volume(volume)) = &root.source else {
        panic!("{root:?}");
    };
    assert!(volume.target.is_some() && volume.format.is_none());

    let kernel = [
        "--boot-volume",
        "/srv/v",
        "--kernel",
        "/vmlinuz",
        "--boot-volume-qcow2",
    ];
    let image = request(&kernel).expect("good").image.expect("a kernel");
    assert!(image.kernel.is_some() && image.location.is_empty());
    for wrong in [
        ["--boot-volume", "/v", "--image", "/x"],
        ["--boot-volume", "/v", "--sha256", "00"],
    ] {
        let Err(Failure::Usage(_)) = request(&wrong) else {
            panic!("{wrong:?}");
        };
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let failure = request(&["--image", "/x", "--user-data", "/nowhere/at/all"]);
    let Err(Failure::Usage(message)) = failure else {
        panic!("{failure:?}");
    };
    assert!(message.contains("/nowhere/at/all"), "{message}");
}
