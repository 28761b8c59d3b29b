//! A full specification, its drive on disk, and running a tool on it.

use std::{collections::BTreeMap, path::Path, process::Command, sync::LazyLock};

use computelet::{
    config_drive::{ConfigDrive, RANDOM_SEED_BYTES},
    model::{
        DiskFormat, Flavor, ImageFile, ImageProperties, ImageSource, InjectedFile, InstanceSpec,
        Limits, NicModel, Secret, Subnet, Vif, VifKind,
    },
};

pub(crate) const UUID: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const SEED: [u8; RANDOM_SEED_BYTES] = [0xa5; RANDOM_SEED_BYTES];
pub(crate) const PASSWORD: &str = "corr\"ect horse";

static DEVICES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let devices = [
        ("ami", "vda"),
        ("root", "/dev/vda"),
        ("ephemeral0", "/dev/vdb"),
    ];
    devices
        .map(|(name, device)| (name.to_owned(), device.to_owned()))
        .into()
});

/// Every byte there is, over several sectors, ending off a sector's end.
pub(crate) fn binary() -> Vec<u8> {
    (0..=255).cycle().take(5000).collect()
}

fn vif(id: &str, mac: &str, address: Option<&str>) -> Vif {
    Vif {
        id: id.parse().expect("an id"),
        mac: mac.parse().expect("a mac"),
        kind: VifKind::User,
        model: NicModel::Virtio,
        mtu: None,
        subnets: vec![Subnet {
            address: address.map(|a| a.parse().expect("an address")),
            ipv6: false,
            gateway: address.map(|_| "192.0.2.1".parse().expect("a gateway")),
            dns: vec!["9.9.9.9".parse().expect("a server")],
            routes: Vec::new(),
        }],
        network_id: None,
        network_label: String::new(),
    }
}

pub(crate) fn spec() -> InstanceSpec {
    InstanceSpec {
        id: UUID.parse().expect("an id"),
        hostname: "web-1".to_owned(),
        display_name: "Grüße aus \"Köln\"".to_owned(),
        metadata: BTreeMap::from([("role".to_owned(), "front\nend".to_owned())]),
        flavor: Flavor {
            name: "m1.tiny".to_owned(),
            vcpus: 1,
            memory: computelet::model::Bytes(1 << 28),
            root: None,
            ephemeral: None,
            swap: None,
            extra_specs: BTreeMap::new(),
            max_vcpus: None,
            max_memory: None,
        },
        image: Some(ImageSource {
            file: ImageFile {
                id: "image".to_owned(),
                location: "file:///image".to_owned(),
                sha256: None,
            },
            format: DiskFormat::Raw,
        }),
        properties: ImageProperties::default(),
        kernel: None,
        injected_files: vec![
            InjectedFile {
                path: "/etc/motd".to_owned(),
                contents: binary(),
            },
            InjectedFile {
                path: "/etc/empty".to_owned(),
                contents: Vec::new(),
            },
        ],
        user_data: b"#cloud-config\npackages: [htop]\n".to_vec(),
        public_keys: vec![
            "ssh-ed25519 AAAAC3Nza one".to_owned(),
            "ssh-ed25519 AAAAC3Nzb two".to_owned(),
        ],
        admin_password: Some(Secret::new(PASSWORD.to_owned())),
        vifs: vec![
            vif("port-1", "52:54:00:12:34:56", Some("192.0.2.7/24")),
            vif("port-2", "52:54:00:12:34:57", None),
        ],
        root_device_name: None,
        block_devices: Vec::new(),
        pins: std::collections::BTreeMap::new(),
        limits: Limits::default(),
        config_drive: true,
        wait_for: None,
    }
}

/// The bytes of the drive of `spec`, dated 2026-07-28 09:10:11.
pub(crate) fn image(spec: &InstanceSpec) -> Vec<u8> {
    let drive = ConfigDrive {
        spec,
        random_seed: &SEED,
        written: "2026-07-28T09:10:11Z".parse().expect("a time"),
        block_device_mapping: &DEVICES,
    };
    let finished = drive.image().expect("the drive can be laid out");
    let mut bytes = Vec::new();
    finished.write_to(&mut bytes).expect("memory takes it");
    assert_eq!(bytes.len() as u64, finished.size());
    bytes
}

/// What `tool` printed; `None`, said aloud, when it is not installed.
#[expect(clippy::disallowed_methods, reason = "other readers are programs")]
pub(crate) fn run(tool: &str, args: &[&str], on: &Path) -> Option<Vec<u8>> {
    match Command::new(tool).args(args).arg(on).output() {
        Ok(out) => {
            let stderr = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{tool} {args:?}: {stderr}");
            Some(out.stdout)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("NOT CHECKED: {tool} is not installed");
            None
        }
        Err(e) => panic!("{tool}: {e}"),
    }
}
