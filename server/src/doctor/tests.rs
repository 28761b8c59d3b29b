use super::{Check, Report, Verdict, examine};
use crate::config::{Config, Layers};

fn config(text: &str) -> Config {
    Config::load(&Layers::default().text("test.toml", text)).expect("it is right")
}

fn of<'a>(report: &'a Report, name: &str) -> &'a Check {
    let found = report.0.iter().find(|check| check.name == name);
    found.unwrap_or_else(|| panic!("no {name} in\n{report}"))
}

#[test]
fn a_line_tells_verdict_name_finding_and_remedy() {
    let report = Report(vec![
        Check::ok("qemu", "10.0.2"),
        Check::note("nft", "not found", "apt-get install nftables"),
    ]);
    assert_eq!(
        report.to_string(),
        "ok       qemu        10.0.2\nnote     nft         not found — apt-get install nftables\n"
    );
    assert!(report.fit());
    let missing = Report(vec![Check::missing("qemu", "none", "get one")]);
    assert!(!missing.fit());
    let json: serde_json::Value = serde_json::from_str(&missing.json()).unwrap();
    assert_eq!(json[0]["verdict"], "missing");
    assert_eq!(json[0]["remedy"], "get one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_told_by_one_check_each_and_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("not/yet/there");
    let text = format!("connect = \"test:///default\"\nstate_dir = {state:?}");
    let report = examine(&config(&text)).await;
    let names: Vec<_> = report.0.iter().map(|check| check.name).collect();
    let expected = [
        "libvirt",
        "qemu",
        "qemu-img",
        "prlimit",
        "mkfs.ext4",
        "mkfs.vfat",
        "nft",
        "qemu-iscsi",
        "qemu-rbd",
        "state-dir",
        "reflink",
        "bridge",
        "privilege",
        "libvirtd",
    ];
    assert_eq!(names, expected, "{report}");
    assert_eq!(of(&report, "libvirt").verdict, Verdict::Ok, "{report}");
    assert!(
        of(&report, "state-dir").found.contains("will be made"),
        "{report}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let state = file.join("state");
    let text = format!("connect = \"qemu+unix:///system?socket=/nowhere\"\nstate_dir = {state:?}");
    let report = examine(&config(&text)).await;
    for name in ["libvirt", "state-dir"] {
        let check = of(&report, name);
        assert_eq!(check.verdict, Verdict::Missing, "{report}");
        assert!(check.remedy.is_some(), "{report}");
    }
    assert!(!report.fit());
}
