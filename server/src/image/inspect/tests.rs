use std::{fs::File, io::Cursor, path::Path};

use proptest::prelude::*;

use super::*;
use crate::{model::Bytes, sys::command::Command};

async fn qemu_img(words: &str, dir: &Path) {
    let words = words.replace('@', &format!("{}/", dir.display()));
    Command::new("qemu-img")
        .args(words.split(' '))
        .run()
        .await
        .unwrap();
}

fn of(path: impl AsRef<Path>) -> Inspection {
    inspect(File::open(path).unwrap()).unwrap()
}

fn bytes(content: &[u8]) -> Inspection {
    inspect(Cursor::new(content)).unwrap()
}

/// A good image of 8 MiB with some data in it.
async fn good(dir: &Path, words: &str) -> Vec<u8> {
    std::fs::write(
        dir.join("raw"),
        (0..8u32 << 18)
            .flat_map(u32::to_le_bytes)
            .collect::<Vec<_>>(),
    )
    .unwrap();
    qemu_img(&format!("convert -f raw -O {words} @raw @image"), dir).await;
    std::fs::read(dir.join("image")).unwrap()
}

#[tokio::test]
async fn what_qemu_writes_is_accepted_as_what_it_is() {
    use DiskFormat as F;
    let all = [
        ("qcow2", F::Qcow2),
        ("qcow2 -c", F::Qcow2),
        ("qcow2 -c -o compression_type=zstd", F::Qcow2),
        ("qcow2 -o compat=0.10", F::Qcow2),
        ("qcow2 -o extended_l2=on", F::Qcow2),
        ("qcow2 -o cluster_size=512", F::Qcow2),
        ("qcow2 -o cluster_size=2M,preallocation=metadata", F::Qcow2),
        ("qcow2 -o lazy_refcounts=on,refcount_bits=1", F::Qcow2),
        ("vmdk -o subformat=monolithicSparse", F::Vmdk),
        ("vmdk -o subformat=streamOptimized", F::Vmdk),
        ("vdi", F::Vdi),
        ("vdi -o static=on", F::Vdi),
        ("vhdx", F::Vhdx),
        ("vhdx -o subformat=fixed", F::Vhdx),
        ("vpc -o force_size=on", F::Vpc),
        ("vpc -o force_size=on,subformat=fixed", F::Vpc),
        ("raw", F::Raw),
    ];
    for (words, format) in all {
        let dir = tempfile::tempdir().unwrap();
        good(dir.path(), words).await;
        let found = of(dir.path().join("image"));
        assert_eq!(found.check(format), Ok(()), "{words}: {found:?}");
        assert_eq!(found.virtual_size, 8 << 20, "{words}: {found:?}");
        for other in [F::Raw, F::Qcow2, F::Vmdk, F::Vdi, F::Vhdx, F::Vpc, F::Iso] {
            let refused = matches!(found.check(other), Err(Unacceptable::Format { .. }));
            assert_eq!(refused, other != format, "{words} as {other:?}");
        }
    }
}

#[tokio::test]
async fn images_on_a_backing_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    qemu_img("create -q -f qcow2 @base 1M", d).await;
    qemu_img("create -q -f vmdk @parent 1M", d).await;
    for (words, format) in [
        ("-f qcow2 -F raw -b /etc/passwd", DiskFormat::Qcow2),
        (
            "-f qcow2 -o compat=0.10 -F raw -b /etc/passwd",
            DiskFormat::Qcow2,
        ),
        ("-f qcow2 -F qcow2 -b @base", DiskFormat::Qcow2),
        (
            "-f qcow2 -u -F raw -b json:{\"driver\":\"null-co\"}",
            DiskFormat::Qcow2,
        ),
        ("-f vmdk -F vmdk -b @parent", DiskFormat::Vmdk),
    ] {
        let size = if words.contains("-u") { " 1M" } else { "" };
        qemu_img(&format!("create -q {words} @x{size}"), d).await;
        let verdict = of(d.join("x")).check(format);
        assert!(
            matches!(verdict, Err(Unacceptable::BackingFile(_))),
            "{words}: {verdict:?}"
        );
    }
}

#[tokio::test]
async fn images_with_their_data_elsewhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for raw in ["", ",data_file_raw=on"] {
        qemu_img(
            &format!("create -q -f qcow2 -o data_file=@data{raw} @f 1M"),
            d,
        )
        .await;
        assert_eq!(
            of(d.join("f")).check(DiskFormat::Qcow2),
            Err(Unacceptable::DataFile)
        );
    }
    qemu_img("create -q -f vmdk -o subformat=monolithicFlat @g 1M", d).await;
    assert_eq!(of(d.join("g")).content, Content::VmdkParts);
    assert!(of(d.join("g")).check(DiskFormat::Vmdk).is_err());
}

#[tokio::test]
async fn a_raw_image_that_is_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for format in [
        "qcow2",
        "qcow",
        "qed",
        "vmdk",
        "vdi",
        "vhdx",
        "vpc",
        "parallels",
    ] {
        qemu_img(&format!("create -q -f {format} @x 8M"), dir.path()).await;
        let verdict = of(dir.path().join("x")).check(DiskFormat::Raw);
        assert!(
            matches!(verdict, Err(Unacceptable::Format { .. })),
            "{format}: {verdict:?}"
        );
    }
    assert_eq!(bytes(b"LUKS\xba\xbe\0\x01").content, Content::Luks);
}

#[test]
fn bare_sectors_are_told_apart_and_are_raw() {
    let mut disk = vec![0; 64 << 10];
    assert_eq!(bytes(&disk).content, Content::Unknown);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(bytes(&disk).content, Content::Mbr);
    disk[512..520].copy_from_slice(b"EFI PART");
    assert_eq!(bytes(&disk).content, Content::Gpt);
    disk[0x8001..0x8006].copy_from_slice(b"CD001");
    let iso = bytes(&disk);
    assert_eq!(iso.content, Content::Iso);
    for format in [DiskFormat::Raw, DiskFormat::Iso] {
        assert_eq!(iso.check(format), Ok(()));
    }
    assert_eq!(bytes(b"").check(DiskFormat::Raw), Err(Unacceptable::Empty));
    assert_eq!(bytes(b"x").check(DiskFormat::Raw), Ok(()));
}

#[tokio::test]
async fn an_image_cut_short_anywhere_is_refused() {
    for words in ["qcow2", "qcow2 -c"] {
        let dir = tempfile::tempdir().unwrap();
        let image = good(dir.path(), words).await;
        for part in 1..100 {
            let cut = &image[..image.len() * part / 100];
            let verdict = bytes(cut).check(DiskFormat::Qcow2);
            assert_eq!(
                verdict,
                Err(Unacceptable::Truncated),
                "{words} cut to {part} %"
            );
        }
    }
}

/// A file that is longer when one asks for its end a second time, as one that a guest writes to.
struct Growing<'a> {
    file: Cursor<&'a [u8]>,
    first: Option<u64>,
}

impl Read for Growing<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into)
    }
}

impl Seek for Growing<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        match (to, self.first.take()) {
            (io::SeekFrom::End(0), Some(first)) => Ok(first),
            (_, first) => {
                self.first = first;
                self.file.seek(to)
            }
        }
    }
}

#[tokio::test]
async fn an_image_that_grows_meanwhile_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let image = good(dir.path(), "qcow2").await;
    for part in (1..100).filter(|part| image.len() * part / 100 >= 65536) {
        let file = Growing {
            file: Cursor::new(&image),
            first: Some((image.len() * part / 100) as u64),
        };
        let found = inspect(file).unwrap();
        assert_eq!(found.check(DiskFormat::Qcow2), Ok(()), "from {part} %");
    }
}

#[tokio::test]
async fn fields_out_of_bounds_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = good(dir.path(), "qcow2").await;
    let with = |at: usize, new: &[u8]| {
        let mut image = image.clone();
        image[at..at + new.len()].copy_from_slice(new);
        bytes(&image).check(DiskFormat::Qcow2)
    };
    let malformed = |what| Err(Unacceptable::Malformed(what));
    assert_eq!(with(4, &4u32.to_be_bytes()), malformed("version"));
    assert_eq!(with(20, &8u32.to_be_bytes()), malformed("cluster bits"));
    assert_eq!(with(20, &63u32.to_be_bytes()), malformed("cluster bits"));
    assert_eq!(
        with(24, &0u64.to_be_bytes()),
        Err(Unacceptable::VirtualSize(Bytes(0)))
    );
    assert_eq!(
        with(24, &u64::MAX.to_be_bytes()),
        malformed("l1 table size")
    );
    assert_eq!(with(32, &2u32.to_be_bytes()), Err(Unacceptable::Encrypted));
    assert_eq!(
        with(36, &u32::MAX.to_be_bytes()),
        malformed("l1 table size")
    );
    assert_eq!(with(40, &1u64.to_be_bytes()), malformed("table offset"));
    assert_eq!(
        with(40, &(1u64 << 40).to_be_bytes()),
        Err(Unacceptable::Truncated)
    );
    assert_eq!(
        with(56, &0u32.to_be_bytes()),
        malformed("refcount table size")
    );
    assert_eq!(
        with(60, &u32::MAX.to_be_bytes()),
        malformed("snapshot count")
    );
    assert_eq!(with(72, &2u64.to_be_bytes()), Err(Unacceptable::Corrupt));
    assert_eq!(with(72, &4u64.to_be_bytes()), Err(Unacceptable::DataFile));
    assert_eq!(
        with(72, &32u64.to_be_bytes()),
        Err(Unacceptable::Features(32))
    );
    assert_eq!(with(96, &7u32.to_be_bytes()), malformed("refcount order"));
    assert_eq!(with(100, &12u32.to_be_bytes()), malformed("header length"));
    // The name of a data file counts even without the feature bit.
    assert_eq!(with(112, b"DATA\0\0\0\0"), Err(Unacceptable::DataFile));
    assert_eq!(
        with(112, b"XXXX\xff\xff\xff\xff"),
        malformed("header extension")
    );
}

#[tokio::test]
async fn a_vmdk_descriptor_that_names_other_files_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = good(dir.path(), "vmdk").await;
    let text = String::from_utf8_lossy(&image[512..512 + 10240]).into_owned();
    let with = |from: &str, to: &str| {
        let mut image = image.clone();
        assert!(text.contains(from), "{text}");
        let mut new = text.replace(from, to).into_bytes();
        new.resize(10240, 0);
        image[512..512 + 10240].copy_from_slice(&new);
        bytes(&image).check(DiskFormat::Vmdk)
    };
    let other = Err(Unacceptable::Malformed("extent that names another file"));
    assert_eq!(with("\"image\"", "\"/etc/passwd\""), other);
    assert_eq!(with("\"image\"", "\"../image\""), other);
    assert_eq!(with("SPARSE", "FLAT"), other);
    assert_eq!(
        with("monolithicSparse", "monolithicFlat"),
        Err(Unacceptable::Malformed("create type"))
    );
    let extent = "RW 16384 SPARSE \"image\"";
    assert_eq!(
        with(extent, &format!("{extent}\n{extent}")),
        Err(Unacceptable::Malformed("extents"))
    );
    let hint = with("parentCID=ffffffff", "parentFileNameHint=\"/etc/passwd\"");
    assert_eq!(
        hint,
        Err(Unacceptable::BackingFile("/etc/passwd".to_owned()))
    );
}

/// The beginnings that lead into a parser.
fn magics() -> impl Strategy<Value = Vec<u8>> {
    let mut vdi = vec![0; 64];
    vdi.extend([0x7f, 0x10, 0xda, 0xbe]);
    prop::sample::select(vec![
        b"QFI\xfb\0\0\0\x02".to_vec(),
        b"QFI\xfb\0\0\0\x03".to_vec(),
        b"KDMV\x01\0\0\0".to_vec(),
        b"vhdxfile".to_vec(),
        b"conectix".to_vec(),
        vdi,
        vec![],
    ])
}

proptest! {
    #[test]
    fn random_bytes_never_panic(magic in magics(), noise in prop::collection::vec(any::<u8>(), 0..2048)) {
        let content = [magic, noise].concat();
        let found = bytes(&content);
        for format in [DiskFormat::Raw, DiskFormat::Qcow2, DiskFormat::Vmdk, DiskFormat::Vhdx] {
            let _ = found.check(format);
        }
    }

    #[test]
    fn random_tables_never_panic(
        fields in prop::collection::vec((0usize..1200, prop::sample::select(vec![0u64, 1, 9, 16, 21, 512, 65536, 1 << 32, 1 << 62, u64::MAX])), 0..12),
    ) {
        for start in [&b"QFI\xfb\0\0\0\x03"[..], b"KDMV\x01\0\0\0", b"vhdxfile"] {
            let mut content = vec![0; 320 << 10];
            content[..start.len()].copy_from_slice(start);
            content[192 << 10..][..4].copy_from_slice(b"regi");
            content[256 << 10..][..4].copy_from_slice(b"regi");
            for (at, value) in &fields {
                let at = (at + start.len()) & !3;
                content[at..at + 8].copy_from_slice(&value.to_be_bytes());
                content[(192 << 10) + at..][..8].copy_from_slice(&value.to_le_bytes());
            }
            let _ = bytes(&content).check(DiskFormat::Qcow2);
        }
    }

    /// Whatever a changed header is accepted as, it leads to no other file.
    #[test]
    fn a_backing_file_never_passes(at in 0usize..104, value in any::<u8>()) {
        let mut content = vec![0; 4 << 16];
        let mut header = vec![];
        header.extend(b"QFI\xfb\0\0\0\x03");
        header.extend(400u64.to_be_bytes());
        header.extend(11u32.to_be_bytes());
        header.extend(16u32.to_be_bytes());
        header.extend((1u64 << 20).to_be_bytes());
        header.extend([0; 4]);
        header.extend(1u32.to_be_bytes());
        header.extend((3u64 << 16).to_be_bytes());
        header.extend((1u64 << 16).to_be_bytes());
        header.extend(1u32.to_be_bytes());
        header.resize(96, 0);
        header.extend(4u32.to_be_bytes());
        header.extend(104u32.to_be_bytes());
        content[..header.len()].copy_from_slice(&header);
        content[400..411].copy_from_slice(b"/etc/passwd");
        prop_assume!(!(8..20).contains(&at));
        content[at] = value;
        prop_assert!(bytes(&content).check(DiskFormat::Qcow2).is_err());
    }
}

/// Whatever is done to a header: when we accept the image, QEMU opens no other file for it.
#[test]
fn what_we_accept_leads_qemu_nowhere() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (d, changed) = (dir.path(), dir.path().join("changed"));
    let mut images = Vec::new();
    for (words, format) in [
        ("-f qcow2 -F raw -b /etc/passwd @x 1M", DiskFormat::Qcow2),
        (
            "-f qcow2 -o compat=0.10 -F raw -b /etc/passwd @x 1M",
            DiskFormat::Qcow2,
        ),
        ("-f qcow2 -o data_file=@data @x 1M", DiskFormat::Qcow2),
        ("-f qcow2 @x 1M", DiskFormat::Qcow2),
        ("-f vmdk @x 1M", DiskFormat::Vmdk),
    ] {
        runtime.block_on(qemu_img(&format!("create -q {words}"), d));
        images.push((std::fs::read(d.join("x")).unwrap(), format));
    }
    let place = prop_oneof![3 => 0usize..128, 1 => 128usize..1024];
    let byte = prop_oneof![Just(0u8), Just(1), Just(b'\n'), Just(0xff), any::<u8>()];
    let changes = prop::collection::vec((place, byte), 1..6);
    proptest!(ProptestConfig::with_cases(512), |(which in 0..images.len(), changes in changes)| {
        let (mut image, format) = images[which].clone();
        changes.iter().for_each(|&(at, byte)| image[at] = byte);
        if bytes(&image).check(format).is_ok() {
            std::fs::write(&changed, &image).unwrap();
            let words = ["info", "--output=json", "-f", name(format)];
            let info = runtime.block_on(Command::new("qemu-img").args(words).arg(&changed).run());
            // What QEMU refuses altogether harms nobody.
            let info = info.map_or(String::new(), |info| String::from_utf8(info.stdout).unwrap());
            prop_assert!(!info.contains("backing-filename") && !info.contains("data-file\":"), "{info}");
            prop_assert!(!info.contains("/etc/passwd"), "{info}");
        }
    });
}
