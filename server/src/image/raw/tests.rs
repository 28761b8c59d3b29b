use std::{
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
};

use uuid::Uuid;

use super::*;
use crate::image::backend::Base;

fn new(path: PathBuf, size: u64, content: DiskContent) -> NewDisk {
    NewDisk {
        path,
        size: Bytes(size),
        content,
    }
}

#[tokio::test]
async fn a_disk_begins_as_its_base_and_ends_in_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base");
    std::fs::write(&path, vec![7; 1 << 20]).unwrap();
    let base = Base {
        path,
        format: DiskFormat::Raw,
        virtual_size: Bytes(1 << 20),
    };
    let disk = new(dir.path().join("disk"), 8 << 30, DiskContent::Base(base));
    let made = Raw.create(&disk).await.unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&made.path)
        .unwrap();
    let mut bytes = [0; 2];
    file.read_exact_at(&mut bytes, (1 << 20) - 1).unwrap();
    assert_eq!(bytes, [7, 0]);
    assert!(
        file.metadata().unwrap().blocks() * 512 < 4 << 20,
        "holes were filled"
    );
    file.write_all_at(b"guest", 5 << 30).unwrap();
    assert_eq!(Raw.create(&disk).await.unwrap(), made);
    let mut bytes = [0; 5];
    file.read_exact_at(&mut bytes, 5 << 30).unwrap();
    assert_eq!(&bytes, b"guest");
}

#[tokio::test]
async fn sizes_are_whole_sectors_and_grow() {
    let dir = tempfile::tempdir().unwrap();
    let made = Raw
        .create(&new(dir.path().join("disk"), 1000, DiskContent::Blank))
        .await
        .unwrap();
    assert_eq!(made.size, Bytes(1024));
    let grown = Raw.resize(&made, Bytes(1 << 30)).await.unwrap();
    assert_eq!(grown.path.metadata().unwrap().len(), 1 << 30);
    assert_eq!(
        Raw.resize(&grown, Bytes(1)).await.unwrap().size,
        Bytes(1 << 30)
    );
    Raw.remove(&grown).await.unwrap();
    Raw.remove(&grown).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = || dir.path().join("disk");
    let swap = DiskContent::Swap {
        label: "swap0".to_owned(),
        uuid: Uuid::new_v4(),
    };
    let base = |format| {
        DiskContent::Base(Base {
            path: dir.path().join("no-base"),
            format,
            virtual_size: Bytes(1),
        })
    };
    for disk in [
        new(path(), 4096, swap),
        new(path(), 4096, base(DiskFormat::Qcow2)),
        new(path(), 4096, base(DiskFormat::Raw)),
        new(path(), u64::MAX, DiskContent::Blank),
    ] {
        let e = Raw.create(&disk).await.unwrap_err();
        assert!(!e.to_string().contains(dir.path().to_str().unwrap()), "{e}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{e}");
    }
}
