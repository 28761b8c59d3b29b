//! Linux swap space: the header that `mkswap` would write.

use std::{fs::File, io, os::unix::fs::FileExt};

use uuid::Uuid;

/// The page size that the header is made for: that of every guest we run.
const PAGE: u64 = 4096;
/// The kernel refuses less.
pub(super) const MIN_SIZE: u64 = 10 * PAGE;

/// Makes `file`, all zeros and `size` bytes long, swap space.
pub(super) fn write_header(file: &File, size: u64, label: &str, uuid: Uuid) -> io::Result<()> {
    let last_page = u32::try_from(size / PAGE).unwrap_or(u32::MAX) - 1;
    let mut header = [0; 4096];
    // The first 1024 bytes are left to boot loaders. Then: version, last page, number of bad pages.
    header[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    header[1028..1032].copy_from_slice(&last_page.to_le_bytes());
    header[1036..1052].copy_from_slice(uuid.as_bytes());
    let label = clipped(label);
    header[1052..1052 + label.len()].copy_from_slice(label.as_bytes());
    header[4086..].copy_from_slice(b"SWAPSPACE2");
    file.write_all_at(&header, 0)
}

/// As much of a label as fits beside its end, without cutting a character.
fn clipped(label: &str) -> &str {
    let fits = (0..=15).rev().find(|&end| label.is_char_boundary(end));
    &label[..fits.unwrap_or(0).min(label.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::command::Command;

    #[tokio::test]
    async fn swap_space_is_what_other_tools_take_it_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swap");
        let file = File::create_new(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        let uuid = Uuid::new_v4();
        write_header(&file, 64 << 20, "swap0", uuid).unwrap();
        let seen = Command::new("blkid")
            .arg("-p")
            .arg(&path)
            .run()
            .await
            .unwrap();
        let seen = String::from_utf8(seen.stdout).unwrap();
        for part in [
            r#"LABEL="swap0""#,
            &format!("UUID=\"{uuid}\""),
            r#"TYPE="swap""#,
        ] {
            assert!(seen.contains(part), "{seen}");
        }
        let seen = Command::new("swaplabel").arg(&path).run().await.unwrap();
        assert!(seen.stdout.starts_with(b"LABEL: swap0"), "{seen:?}");
    }

    #[tokio::test]
    async fn the_header_equals_that_of_mkswap() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        let uuid = Uuid::new_v4();
        for path in [&ours, &theirs] {
            File::create_new(path).unwrap().set_len(1 << 20).unwrap();
        }
        let file = File::options().write(true).open(&ours).unwrap();
        write_header(&file, 1 << 20, "a label too long for it", uuid).unwrap();
        let uuid = uuid.to_string();
        let words = ["-q", "-L", "a label too lon", "-U", &uuid];
        Command::new("mkswap")
            .args(words)
            .arg(&theirs)
            .run()
            .await
            .unwrap();
        assert!(std::fs::read(ours).unwrap() == std::fs::read(theirs).unwrap());
    }
}
