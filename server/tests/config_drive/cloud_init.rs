//! Real cloud-init reads the drive as its ConfigDrive data source.

use std::{fs, io::Write, path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PASSWORD, SEED, UUID, binary, image, spec};

/// Names the Python that can import cloud-init, when it is not the system's.
const PYTHON: &str = "CLOUD_INIT_PYTHON";

/// Prints what cloud-init makes of the drive unpacked in `argv[1]`.
const SCRIPT: &str = include_str!("read.py");

#[expect(clippy::disallowed_methods, reason = "cloud-init is a program")]
fn python(args: &[&str]) -> Option<Vec<u8>> {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_owned());
    let out = Command::new(&python).args(args).output().ok()?;
    if !out.status.success() {
        eprintln!("{python}: {}", String::from_utf8_lossy(&out.stderr));
    }
    out.status.success().then_some(out.stdout)
}

/// Unpacks the drive as a mount would show it.
fn unpack(into: &Path) {
    let iso = into.join("iso");
    let mut file = fs::File::create(&iso).expect("a file");
    file.write_all(&image(&spec())).expect("room");
    let isoinfo = |args: &[&str]| {
        crate::support::run("isoinfo", args, &iso).expect("isoinfo is installed with genisoimage")
    };
    let listed = String::from_utf8(isoinfo(&["-R", "-f", "-i"])).expect("text");
    let paths: Vec<&str> = listed.lines().collect();
    for path in &paths {
        let target = into.join("drive").join(path.trim_start_matches('/'));
        if paths
            .iter()
            .any(|other| other.starts_with(&format!("{path}/")))
        {
            fs::create_dir_all(&target).expect("a folder");
        } else {
            fs::create_dir_all(target.parent().expect("a folder above")).expect("a folder");
            fs::write(&target, isoinfo(&["-R", "-x", path, "-i"])).expect("room");
        }
    }
}

#[test]
fn cloud_init_takes_metadata_files_and_networks() {
    if python(&["-c", "import cloudinit.sources"]).is_none() {
        eprintln!("NOT CHECKED: no cloud-init to import; name a Python that has it in {PYTHON}");
        return;
    }
    let dir = TempDir::new().expect("a folder");
    unpack(dir.path());
    let drive = dir.path().join("drive");
    let drive = drive.to_str().expect("a plain path");
    let said = python(&["-c", SCRIPT, drive]).expect("cloud-init accepts the drive");
    let said: Value = serde_json::from_slice(&said).expect("json");
    assert_eq!(
        said,
        json!({
            "instance_id": UUID,
            "hostname": "web-1",
            "name": spec().display_name,
            "meta": {"role": "front\nend"},
            "keys": spec().public_keys,
            "admin_pass": PASSWORD,
            "random_seed": hex::encode(SEED),
            "userdata": hex::encode(spec().user_data),
            "files": {"/etc/motd": hex::encode(binary()), "/etc/empty": ""},
            "vendordata": [{}, {}],
            "ephemeral0": "/dev/vdb",
            "network": {
                "eth0": {"mac": "52:54:00:12:34:56", "subnets": [{
                    "type": "static", "address": "192.0.2.7", "prefix": 24, "gateways": ["192.0.2.1"],
                }]},
                "eth1": {"mac": "52:54:00:12:34:57", "subnets": [{"type": "dhcp4"}]},
            },
            "dns": ["9.9.9.9"],
        })
    );
}
