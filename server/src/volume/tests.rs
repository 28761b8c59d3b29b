//! What is seen of volumes, and which are refused.

use std::{fs, path::Path};

use pretty_assertions::assert_eq;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

use super::*;
use crate::{
    error::{Classify, Kind},
    model::{BlockDevice, BlockSource, Bytes, DiskFormat, Qos},
};

fn volume(target: VolumeTarget, format: DiskFormat) -> Volume {
    Volume {
        id: VolumeId::random(),
        target,
        read_only: false,
        shared: false,
        serial: None,
        format,
        discard: false,
        qos: Qos::default(),
        seen: None,
    }
}

fn local(path: &Path, format: DiskFormat) -> Volume {
    let path = path.to_owned();
    volume(VolumeTarget::Local { path }, format)
}

async fn seen(volumes: &Volumes, volume: &Volume) -> Result<Seen, VolumeError> {
    let connected = volumes.connect(volume, &Credentials::default()).await?;
    assert!(connected.is_same(volume), "what was asked for stays");
    Ok(connected.seen.unwrap())
}

#[tokio::test]
async fn a_file_is_seen_where_its_links_lead_and_only_in_the_folders() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
    for folder in [&inside, &outside] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("disk"), [0; 4096]).unwrap();
    }
    std::os::unix::fs::symlink(inside.join("disk"), inside.join("link")).unwrap();
    std::os::unix::fs::symlink(outside.join("disk"), inside.join("escape")).unwrap();
    let volumes = Volumes::new(vec![inside.clone()]);
    let real = inside.join("disk").canonicalize().unwrap();
    for name in ["disk", "link", "../in/disk"] {
        let found = seen(&volumes, &local(&inside.join(name), DiskFormat::Raw)).await;
        let found = found.unwrap();
        assert_eq!(
            (found.path, found.block, found.size),
            (Some(real.clone()), false, Bytes(4096))
        );
    }
    std::os::unix::fs::symlink(outside.join("absent"), inside.join("nowhere")).unwrap();
    for path in ["escape", "../out/disk", "nowhere", "../out/absent"] {
        let path = inside.join(path);
        let e = seen(&volumes, &local(&path, DiskFormat::Raw)).await;
        let e = e.unwrap_err();
        assert!(matches!(e, VolumeError::Denied { .. }), "{path:?}: {e}");
        assert_eq!(e.reason(), "VOLUME_UNUSABLE");
    }
    let e = seen(&volumes, &local(&inside.join("absent"), DiskFormat::Raw)).await;
    let e = e.unwrap_err();
    assert!(e.to_string().contains("nothing of that name"), "{e}");
    assert_eq!(e.kind(), Kind::Precondition);
    let e = seen(&volumes, &local(&inside, DiskFormat::Raw)).await;
    assert!(matches!(e, Err(VolumeError::NoDisk { .. })), "{e:?}");
}

#[tokio::test]
async fn a_qcow2_volume_that_names_another_file_is_refused_before_anybody_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(vec![dir.path().to_owned()]);
    let mut header = vec![0; 65536 * 4];
    header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
    header[20..24].copy_from_slice(&16_u32.to_be_bytes());
    header[24..32].copy_from_slice(&(1_u64 << 20).to_be_bytes());
    header[36..40].copy_from_slice(&1_u32.to_be_bytes());
    header[40..48].copy_from_slice(&65536_u64.to_be_bytes());
    header[48..56].copy_from_slice(&131_072_u64.to_be_bytes());
    header[56..60].copy_from_slice(&1_u32.to_be_bytes());
    let path = dir.path().join("v.qcow2");
    fs::write(&path, &header).unwrap();
    let found = seen(&volumes, &local(&path, DiskFormat::Qcow2)).await;
    assert_eq!(found.unwrap().size, Bytes(1 << 20), "as its header says");
    let found = seen(&volumes, &local(&path, DiskFormat::Raw)).await;
    let length = Bytes(header.len() as u64);
    assert_eq!(found.unwrap().size, length, "raw is what it was declared");
    header[8..16].copy_from_slice(&512_u64.to_be_bytes());
    header[16..20].copy_from_slice(&11_u32.to_be_bytes());
    header[512..523].copy_from_slice(b"/etc/shadow");
    fs::write(&path, &header).unwrap();
    let e = seen(&volumes, &local(&path, DiskFormat::Qcow2)).await;
    let e = e.unwrap_err();
    assert!(
        e.fields().contains(&("fault", "backing_file".to_owned())),
        "{e}"
    );
    fs::write(&path, b"no header at all").unwrap();
    let e = seen(&volumes, &local(&path, DiskFormat::Qcow2)).await;
    assert!(matches!(e, Err(VolumeError::Unacceptable { .. })), "{e:?}");
}

/// A server that greets, hears one question, and says `answer`.
async fn served(socket: &Path, answer: Vec<u8>) {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").await.unwrap();
        let mut asked = [0; 4 + 16 + 4 + 4 + 2];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked[4..20], b"IHAVEOPT\0\0\0\x06\0\0\0\x0a");
        assert_eq!(&asked[24..28], b"disk");
        stream.write_all(&answer).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut left = Vec::new();
        stream.read_to_end(&mut left).await.unwrap();
    });
}

fn reply(kind: u32, told: &[u8]) -> Vec<u8> {
    let length = u32::try_from(told.len()).unwrap();
    let mut reply = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
    reply.extend(6_u32.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend(length.to_be_bytes());
    reply.extend(told);
    reply
}

fn export(size: u64, flags: u16) -> Vec<u8> {
    let mut told = vec![0, 0];
    told.extend(size.to_be_bytes());
    told.extend(flags.to_be_bytes());
    let mut answer = reply(3, &[0, 3, 0, 0]);
    answer.extend(reply(3, &told));
    answer.extend(reply(1, &[]));
    answer
}

#[tokio::test]
async fn an_nbd_server_is_asked_for_its_export_and_believed_in_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(vec![dir.path().to_owned()]);
    let wrong = |words: &'static str| Err(words);
    let table = [
        (export(1 << 30, 1), Ok(Bytes(1 << 30))),
        (export(1 << 30, 3), wrong("can be read only")),
        (
            reply(0x8000_0006, b"no\nsuch export"),
            wrong("nosuch export"),
        ),
        (reply(1, &[]), wrong("size")),
        (reply(3, &[0, 0, 1]), wrong("cannot be reached")),
        (vec![7; 64], wrong("something else")),
        (
            [&reply(3, &[])[..16], &u32::MAX.to_be_bytes()[..]].concat(),
            wrong("too long"),
        ),
        (Vec::new(), wrong("cannot be reached")),
    ];
    for (i, (answer, expected)) in table.into_iter().enumerate() {
        let socket = dir.path().join(format!("{i}.sock"));
        served(&socket, answer).await;
        let target = VolumeTarget::Nbd {
            server: NbdServer::Unix(socket),
            export: "disk".to_owned(),
        };
        let volume = volume(target, DiskFormat::Raw);
        match (seen(&volumes, &volume).await, expected) {
            (Ok(seen), Ok(size)) => assert_eq!(seen.size, size),
            (Err(e), Err(words)) => assert!(e.to_string().contains(words), "{i}: {e}"),
            (found, _) => panic!("{i}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn a_socket_outside_the_folders_is_not_connected_to() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("in");
    fs::create_dir(&inside).unwrap();
    let socket = dir.path().join("sock");
    served(&socket, export(1, 0)).await;
    let target = VolumeTarget::Nbd {
        server: NbdServer::Unix(socket),
        export: "disk".to_owned(),
    };
    let e = seen(
        &Volumes::new(vec![inside]),
        &volume(target, DiskFormat::Raw),
    )
    .await;
    assert!(matches!(e, Err(VolumeError::Denied { .. })), "{e:?}");
}

#[test]
fn a_volume_is_given_to_one_instance_at_a_time() {
    let volumes = Volumes::default();
    let path = "/v".into();
    let volume = volume(VolumeTarget::Local { path }, DiskFormat::Raw);
    let held = volumes.hold(&volume, InstanceId::random()).unwrap();
    let e = volumes.hold(&volume, InstanceId::random()).unwrap_err();
    assert_eq!((e.kind(), e.reason()), (Kind::Exists, "DISK_EXISTS"));
    drop(held);
    volumes.hold(&volume, InstanceId::random()).unwrap();
}

/// Block devices of this machine that may be looked at, which is all that is done to them.
fn block_devices() -> Vec<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let all = fs::read_dir("/dev").unwrap().flatten();
    let blocks = all.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device()));
    let readable = blocks.map(|entry| entry.path());
    let readable = readable.filter(|path| fs::File::open(path).is_ok());
    readable.take(2).collect()
}

#[tokio::test]
async fn a_block_device_is_found_again_by_its_path_whatever_the_kernel_calls_it_now() {
    let all = block_devices();
    let [one, other] = &all[..] else {
        eprintln!("SKIPPED: this machine shows no two block devices");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("by-id");
    let point = |to: &Path| {
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(to, &link).unwrap();
    };
    let folders = vec![dir.path().to_owned(), "/dev".into()];
    let volumes = Volumes::new(folders);
    let mut device = local(&link, DiskFormat::Raw);
    device.seen = Some(Seen {
        path: Some(one.clone()),
        block: true,
        size: Bytes(0),
        layers: Layers::default(),
        identity: None,
        initiator: None,
    });
    let disks = [BlockDevice {
        id: "vol".parse().unwrap(),
        device_name: None,
        bus: None,
        boot_index: None,
        source: BlockSource::Volume(Box::new(device)),
    }];
    let path = |disks: &[BlockDevice]| disks[0].volume()?.seen.clone()?.path;
    point(one);
    let found = volumes.found_again(&disks).await.unwrap();
    assert_eq!(path(&found).as_ref(), Some(one));
    point(other);
    let found = volumes.found_again(&disks).await.unwrap();
    assert_eq!(path(&found).as_ref(), Some(other));
    let file = dir.path().join("file");
    fs::write(&file, "no device").unwrap();
    point(&file);
    let e = volumes.found_again(&disks).await.unwrap_err();
    assert!(matches!(e, VolumeError::NoDisk { .. }), "{e}");
    fs::remove_file(&link).unwrap();
    let e = volumes.found_again(&disks).await.unwrap_err();
    assert!(matches!(e, VolumeError::Refused { .. }), "{e}");
}

const LASTING: (Kind, &str) = (Kind::Precondition, "VOLUME_UNUSABLE");
const PASSING: (Kind, &str) = (Kind::Pending, "VOLUME_CONNECT_FAILED");
/// What QEMU's drivers say, of which those of RBD begin with `error`.
const WORDS: &[(&str, (Kind, &str))] = &[
    (
        "iSCSI: Failed to connect to LUN : Authentication failure(513)",
        LASTING,
    ),
    (
        "iSCSI: Failed to connect to LUN : Target not found(515)",
        LASTING,
    ),
    (
        "SENSE KEY:ILLEGAL_REQUEST(5) ASCQ:LOGICAL_UNIT_NOT_SUPPORTED(0x2500)",
        LASTING,
    ),
    (
        "iSCSI: Failed to connect to LUN : Service unavailable(769)",
        PASSING,
    ),
    ("Can not resolv storage.example", PASSING),
    (
        "error opening pool volumes: No such file or directory",
        LASTING,
    ),
    (
        "error reading header from one: No such file or directory",
        LASTING,
    ),
    (
        "error reading header from one: Connection timed out",
        PASSING,
    ),
    ("error connecting: Permission denied", LASTING),
    ("error connecting: Connection timed out", PASSING),
];

#[tokio::test]
async fn what_stays_until_somebody_mends_it_is_told_apart_from_what_passes() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let tool = dir.path().join("look");
    let script = format!(
        "#!/bin/sh\ncat '{}/words' >&2\nexit 1\n",
        dir.path().display()
    );
    fs::write(&tool, script).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let volumes = Volumes::default().with_tool(&tool.display().to_string());
    let portal: crate::model::Portal = "192.0.2.7:3260".parse().unwrap();
    let unit = volume(
        VolumeTarget::Iscsi(crate::model::Iscsi {
            portal: portal.clone(),
            target: "iqn.2001-04.com.example:storage".to_owned(),
            lun: 1,
            login: None,
        }),
        DiskFormat::Raw,
    );
    let image = volume(
        VolumeTarget::Rbd(crate::model::Rbd {
            monitors: vec![portal],
            pool: "volumes".to_owned(),
            image: "one".to_owned(),
            login: None,
        }),
        DiskFormat::Raw,
    );
    for (words, (kind, reason)) in WORDS {
        let volume = match words.contains("error ") {
            true => &image,
            false => &unit,
        };
        fs::write(dir.path().join("words"), words).unwrap();
        let e = seen(&volumes, volume).await.unwrap_err();
        assert_eq!((e.kind(), e.reason()), (*kind, *reason), "{words}: {e}");
    }
}

#[test]
fn a_disk_that_is_smaller_or_another_is_not_the_same_one() {
    let known = |size, identity: Option<&str>| {
        let mut volume = local(Path::new("/dev/disk/by-id/v"), DiskFormat::Raw);
        volume.id = VolumeId::from(uuid::Uuid::nil());
        volume.seen = Some(Seen {
            path: Some("/dev/sdb".into()),
            block: true,
            size: Bytes(size),
            layers: Layers::default(),
            identity: identity.map(str::to_owned),
            initiator: None,
        });
        volume
    };
    let was = known(4096, Some("naa.1"));
    for fine in [
        known(4096, Some("naa.1")),
        known(8192, Some("naa.1")),
        known(4096, Some("serial.x")),
    ] {
        assert_eq!(same(&was, &fine), Ok(()));
        assert_eq!(same(&known(4096, None), &fine), Ok(()));
    }
    assert_eq!(same(&known(4096, None), &known(8192, None)), Ok(()));
    for (found, words) in [
        (known(8192, Some("naa.2")), "leads to another disk"),
        (known(4096, Some("dm.LVM-x")), "leads to another disk"),
        (known(4096, None), "to one without a name of its own"),
        (known(512, Some("naa.1")), "has shrunk"),
    ] {
        let e = same(&was, &found).unwrap_err();
        assert_eq!(
            (e.kind(), e.reason()),
            (Kind::Precondition, "VOLUME_UNUSABLE")
        );
        assert!(e.to_string().contains(words), "{e}");
    }
}
