//! Readers of ISO images other than ours find the same names and bytes.

use std::{collections::BTreeSet, fs, io::Write};

use computelet::{config_drive::iso9660::Image, model::InstanceSpec};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use crate::support::{PASSWORD, binary, image, run, spec};

const ALL_VERSIONS: [&str; 10] = [
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "latest",
];

/// How isoinfo names its two trees.
const TREES: [&str; 2] = ["-R", "-J"];

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("room");
    file
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

fn isoinfo(args: &[&str], iso: &NamedTempFile) -> Vec<u8> {
    let args: Vec<&str> = args.iter().copied().chain(["-i"]).collect();
    run("isoinfo", &args, iso.path()).expect("isoinfo is installed with genisoimage")
}

/// Paths of all files and directories.
fn listed(tree: &str, iso: &NamedTempFile) -> BTreeSet<String> {
    text(isoinfo(&[tree, "-f"], iso))
        .lines()
        .map(str::to_owned)
        .collect()
}

/// What the drive of `spec` must hold, Nova's rules spelled out by hand.
fn expected(spec: &InstanceSpec) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = [
        "/openstack",
        "/openstack/content",
        "/ec2",
        "/ec2/2009-04-04",
        "/ec2/latest",
    ]
    .map(str::to_owned)
    .into();
    for version in ["2009-04-04", "latest"] {
        all.insert(format!("/ec2/{version}/meta-data.json"));
        all.insert(format!("/ec2/{version}/user-data"));
    }
    for (age, version) in ALL_VERSIONS.iter().enumerate() {
        all.insert(format!("/openstack/{version}"));
        let files = [
            ("meta_data.json", 0),
            ("user_data", 0),
            ("vendor_data.json", 2),
            ("network_data.json", 3),
            ("vendor_data2.json", 5),
        ];
        let there = files.iter().filter(|(_, since)| age >= *since);
        all.extend(there.map(|(name, _)| format!("/openstack/{version}/{name}")));
    }
    all.extend((0..spec.injected_files.len()).map(|n| format!("/openstack/content/{n:04}")));
    all
}

#[test]
fn both_trees_list_every_version_with_novas_files() {
    let spec = spec();
    let iso = file(&image(&spec));
    for tree in TREES {
        assert_eq!(listed(tree, &iso), expected(&spec), "{tree}");
    }
}

#[test]
fn files_of_any_bytes_come_back_from_both_trees() {
    let iso = file(&image(&spec()));
    for tree in TREES {
        let read = |path: &str| isoinfo(&[tree, "-x", path], &iso);
        assert!(read("/openstack/content/0000") == binary(), "{tree}");
        assert_eq!(read("/openstack/content/0001"), b"", "{tree}");
        assert_eq!(
            read("/openstack/2012-08-10/user_data"),
            spec().user_data,
            "{tree}"
        );
    }
}

#[test]
fn versions_tell_what_novas_do() {
    let iso = file(&image(&spec()));
    for (age, version) in ALL_VERSIONS.iter().enumerate() {
        let path = format!("/openstack/{version}/meta_data.json");
        let json: Value =
            serde_json::from_slice(&isoinfo(&["-R", "-x", &path], &iso)).expect("json");
        for (field, since) in [("random_seed", 1), ("devices", 4), ("dedicated_cpus", 8)] {
            assert_eq!(json.get(field).is_some(), age >= since, "{version} {field}");
        }
        assert_eq!(json["admin_pass"], PASSWORD, "{version}");
        assert_eq!(
            json["files"][0]["content_path"], "/content/0000",
            "{version}"
        );
    }
}

#[test]
fn what_is_not_asked_for_is_not_there() {
    let mut spec = spec();
    spec.user_data.clear();
    spec.injected_files.clear();
    spec.public_keys.clear();
    spec.metadata.clear();
    spec.vifs.clear();
    spec.admin_password = None;
    let iso = file(&image(&spec));
    for absent in ["user_data", "user-data", "network_data", "content"] {
        let listed = listed("-R", &iso);
        assert!(
            !listed.iter().any(|path| path.contains(absent)),
            "{absent}: {listed:?}"
        );
    }
    let json: Value = serde_json::from_slice(&isoinfo(
        &["-R", "-x", "/openstack/2012-08-10/meta_data.json"],
        &iso,
    ))
    .expect("json");
    let fields: Vec<&String> = json.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["hostname", "launch_index", "name", "uuid"]);
}

#[test]
fn blkid_finds_the_label_that_cloud_init_looks_for() {
    let iso = file(&image(&spec()));
    let Some(found) = run("blkid", &["-p", "-o", "export"], iso.path()) else {
        return;
    };
    let found = text(found);
    for line in [
        "LABEL=config-2",
        "TYPE=iso9660",
        "UUID=2026-07-28-09-10-11-00",
        "BLOCK_SIZE=2048",
    ] {
        assert!(found.lines().any(|l| l == line), "{line}: {found}");
    }
}

#[test]
fn bsdtar_and_7z_unpack_it() {
    let spec = spec();
    let iso = file(&image(&spec));
    let dir = TempDir::new().expect("a folder");
    let tar = format!("{}", dir.path().join("tar").display());
    fs::create_dir(&tar).expect("a folder");
    let zip = format!("-o{}", dir.path().join("7z").display());
    for (tool, args) in [("bsdtar", ["-C", &tar, "-xf"]), ("7z", ["x", "-y", &zip])] {
        if run(tool, &args, iso.path()).is_none() {
            continue;
        }
        let root = dir.path().join(tool.trim_start_matches("bsd"));
        let read = |path: &str| fs::read(root.join(path)).expect("the file is there");
        assert!(read("openstack/content/0000") == binary(), "{tool}");
        assert_eq!(read("openstack/latest/user_data"), spec.user_data, "{tool}");
    }
}

#[test]
fn xorriso_loads_it_without_complaint() {
    let iso = file(&image(&spec()));
    let strict = [
        "-abort_on",
        "WARNING",
        "-return_with",
        "WARNING",
        "32",
        "-indev",
    ];
    run("xorriso", &strict, iso.path());
}

/// Names of one directory that need more than one sector, one of them the longest there may be.
#[test]
fn a_large_directory_reads_back_whole() {
    let names: Vec<String> = (0..500)
        .map(|n| format!("a-rather-long-name-{n}.JSON"))
        .chain(["x".repeat(64)])
        .collect();
    let mut image =
        Image::new("BIG", "2026-07-28T09:10:11Z".parse().expect("a time")).expect("a label");
    for name in &names {
        let content = image.content(name.clone().into_bytes());
        image.file(&format!("d/{name}"), content).expect("a path");
    }
    let mut bytes = Vec::new();
    image
        .finish()
        .expect("small")
        .write_to(&mut bytes)
        .expect("memory");
    let iso = file(&bytes);
    for tree in TREES {
        let expected: BTreeSet<String> = names
            .iter()
            .map(|name| format!("/d/{name}"))
            .chain(["/d".to_owned()])
            .collect();
        assert_eq!(listed(tree, &iso), expected, "{tree}");
        let path = format!("/d/{}", names[499]);
        assert_eq!(isoinfo(&[tree, "-x", &path], &iso), names[499].as_bytes());
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_and_one_copy_of_what_is_shared() {
    let mut spec = spec();
    assert_eq!(image(&spec), image(&spec));
    let small = image(&spec).len();
    spec.user_data = vec![b'u'; 1 << 20];
    let grown = image(&spec).len() - small;
    assert_eq!(
        grown,
        (1 << 20) - 2048,
        "user data is there once, not once a version"
    );
}
