use std::path::PathBuf;

use serde_json::Value;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

async fn qemu_img(args: &[&str], path: &Path) -> String {
    let output = Command::new("qemu-img")
        .args(args)
        .arg(path)
        .run()
        .await
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn name_of(format: DiskFormat) -> &'static str {
    if format == DiskFormat::Raw {
        "raw"
    } else {
        "qcow2"
    }
}

async fn base(dir: &Path, format: DiskFormat) -> Base {
    let name = name_of(format);
    let path = dir.join(format!("base.{name}"));
    let words = ["create", "-q", "-f", name];
    Command::new("qemu-img")
        .args(words)
        .arg(&path)
        .arg("1M")
        .run()
        .await
        .unwrap();
    Base {
        path,
        format,
        virtual_size: Bytes(MIB),
    }
}

fn new(path: PathBuf, size: u64, content: DiskContent) -> NewDisk {
    NewDisk {
        path,
        size: Bytes(size),
        content,
    }
}

#[tokio::test]
async fn disks_of_all_sizes_are_clean_and_say_what_they_rest_on() {
    let dir = tempfile::tempdir().unwrap();
    let bases = [
        None,
        Some(base(dir.path(), DiskFormat::Raw).await),
        Some(base(dir.path(), DiskFormat::Qcow2).await),
    ];
    for size in [
        MIB,
        512 * MIB,
        512 * MIB + 512,
        10 * GIB,
        TIB,
        7 * TIB + 512,
        64 * TIB,
        1 << 50,
    ] {
        for base in &bases {
            let content = base.clone().map_or(DiskContent::Blank, DiskContent::Base);
            let path = dir.path().join("disk");
            let made = Qcow2
                .create(&new(path.clone(), size, content))
                .await
                .unwrap();
            assert_eq!((made.size.0, made.format), (size, DiskFormat::Qcow2));
            let check = qemu_img(&["check", "-f", "qcow2"], &path).await;
            assert!(check.contains("No errors were found"), "{check}");
            let info = qemu_img(&["info", "-f", "qcow2", "--output=json"], &path).await;
            let info: Value = serde_json::from_str(&info).unwrap();
            assert_eq!(info["virtual-size"], size);
            let name = base.as_ref().map(|base| base.path.to_str().unwrap());
            assert_eq!(info["full-backing-filename"].as_str(), name);
            let format = base.as_ref().map(|base| name_of(base.format));
            assert_eq!(info["backing-filename-format"].as_str(), format);
            Qcow2.remove(&made).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_written_to_an_overlay_stays_clean_and_apart_from_its_base() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path(), DiskFormat::Raw).await;
    std::fs::write(&base.path, vec![7; 1 << 20]).unwrap();
    let disk = new(
        dir.path().join("disk"),
        20 * GIB,
        DiskContent::Base(base.clone()),
    );
    let made = Qcow2.create(&disk).await.unwrap();
    let script = [
        "-f",
        "qcow2",
        "-c",
        "read -P 7 0 1M",
        "-c",
        "read -P 0 1M 1M",
        "-c",
        "write -P 9 512k 64k",
        "-c",
        "write -P 9 19G 1M",
    ];
    let said = Command::new("qemu-io")
        .args(script)
        .arg(&made.path)
        .run()
        .await
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(!said.contains("failed"), "{said}");
    let check = qemu_img(&["check", "-f", "qcow2"], &made.path).await;
    assert!(check.contains("No errors were found"), "{check}");
    assert!(
        std::fs::read(&base.path)
            .unwrap()
            .iter()
            .all(|&byte| byte == 7)
    );
    // What the guest has written is still there when the call is repeated.
    let before = std::fs::read(&made.path).unwrap();
    assert_eq!(Qcow2.create(&disk).await.unwrap(), made);
    assert!(before == std::fs::read(&made.path).unwrap());
}

#[tokio::test]
async fn another_disk_in_its_place_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path(), DiskFormat::Qcow2).await;
    let path = dir.path().join("disk");
    let disk = new(path.clone(), GIB, DiskContent::Base(base.clone()));
    Qcow2.create(&disk).await.unwrap();
    for other in [
        new(path.clone(), 2 * GIB, DiskContent::Base(base.clone())),
        new(path.clone(), GIB, DiskContent::Blank),
    ] {
        let e = Qcow2.create(&other).await.unwrap_err();
        assert!(matches!(e, ImageError::DiskExists { .. }), "{e}");
    }
    let small = new(dir.path().join("small"), 512, DiskContent::Base(base));
    let e = Qcow2.create(&small).await.unwrap_err();
    assert!(matches!(e, ImageError::DiskTooSmall { .. }), "{e}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_disk_grows_and_never_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    let made = Qcow2
        .create(&new(dir.path().join("disk"), GIB, DiskContent::Blank))
        .await
        .unwrap();
    let grown = Qcow2.resize(&made, Bytes(3 * TIB)).await.unwrap();
    assert_eq!(grown.size, Bytes(3 * TIB));
    assert_eq!(Qcow2.resize(&grown, Bytes(GIB)).await.unwrap(), grown);
    let check = qemu_img(&["check", "-f", "qcow2"], &made.path).await;
    assert!(check.contains("No errors were found"), "{check}");
    Qcow2.remove(&grown).await.unwrap();
    Qcow2.remove(&grown).await.unwrap();
}
