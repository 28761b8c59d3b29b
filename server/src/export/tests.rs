use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;

use super::{ExportError, Exports};

const LONG: Duration = Duration::from_secs(60);

fn exports(dir: &TempDir) -> Exports {
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("copy"), b"a disk").unwrap();
    Exports::new(vec![dir.path().join("out")], LONG, LONG)
}

fn quiet(_: u64, _: u64) {}

#[tokio::test]
async fn a_file_appears_whole_and_can_be_taken_back_by_the_note_alone() {
    let dir = tempfile::tempdir().unwrap();
    let exports = exports(&dir);
    let (from, to) = (dir.path().join("copy"), dir.path().join("out/image"));
    let placed = exports.place(&from, &to, quiet).await.unwrap();
    assert_eq!(placed.size.0, 6);
    assert_eq!(fs::read(&to).unwrap(), b"a disk");
    exports.take_back(&from, &to).unwrap();
    assert!(fs::read(&to).is_err() && fs::read(&from).is_ok());
    exports.take_back(&from, &to).unwrap();
}

#[tokio::test]
async fn a_file_of_somebody_else_is_neither_replaced_nor_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let exports = exports(&dir);
    let (from, to) = (dir.path().join("copy"), dir.path().join("out/image"));
    fs::write(&to, b"somebody's").unwrap();
    let refused = exports.place(&from, &to, quiet).await.unwrap_err();
    assert!(matches!(refused, ExportError::Exists), "{refused}");
    exports.take_back(&from, &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"somebody's");
}

#[test]
fn only_allowed_folders_are_written_to_also_through_links() {
    let dir = tempfile::tempdir().unwrap();
    let exports = exports(&dir);
    let out = dir.path().join("out");
    std::os::unix::fs::symlink(dir.path(), out.join("up")).unwrap();
    fs::create_dir(out.join("deeper")).unwrap();
    exports.check(&out.join("new")).unwrap();
    exports.check(&out.join("deeper/new")).unwrap();
    for wrong in ["up/new", "../new", "absent/new"] {
        let refused = exports.check(&out.join(wrong)).unwrap_err();
        assert!(
            matches!(refused, ExportError::Forbidden),
            "{wrong}: {refused}"
        );
    }
    for wrong in ["out/new", "/", "/etc/passwd"] {
        assert!(exports.check(Path::new(wrong)).is_err(), "{wrong}");
    }
}
