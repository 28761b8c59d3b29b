//! What is wrong with a target is told, all of it, by name.

use pretty_assertions::assert_eq;

use super::*;

fn fields(faults: Faults) -> Vec<String> {
    let told = faults.into_result(|| Some(()));
    let Err(e) = told else { return Vec::new() };
    let violations = e.details().violations.iter();
    violations.map(|fault| fault.field.clone()).collect()
}

fn good() -> v1::IscsiTarget {
    v1::IscsiTarget {
        portals: vec!["[2001:db8::7]:3260".to_owned()],
        iqn: "iqn.2001-04.com.example:storage.1".to_owned(),
        lun: 1,
        chap_username: "me".to_owned(),
        chap_password: "a long secret".to_owned(),
        ..Default::default()
    }
}

fn image() -> v1::RbdTarget {
    v1::RbdTarget {
        monitors: vec!["192.0.2.1:6789".to_owned(), "mon-b:3300".to_owned()],
        pool: "volumes".to_owned(),
        image: "volume-1".to_owned(),
        username: "cinder".to_owned(),
        secret_key: "AQBSdFhcAAAAABAAJ5yEzoXcAyAPc1RVKCQZsg==".to_owned(),
    }
}

#[test]
fn a_target_is_read_whole() {
    let mut faults = Faults::default();
    let Some(VolumeTarget::Iscsi(read)) = iscsi(&mut faults, "v", good()) else {
        panic!("{faults:?}");
    };
    assert_eq!(read.portal.to_string(), "[2001:db8::7]:3260");
    let login = read.login.unwrap();
    assert_eq!((login.user.as_str(), read.lun), ("me", 1));
    assert_eq!(login.secret.unwrap().expose(), b"a long secret");
    let Some(VolumeTarget::Rbd(read)) = rbd(&mut faults, "v", image()) else {
        panic!("{faults:?}");
    };
    assert_eq!(read.monitors.len(), 2);
    assert_eq!(read.login.unwrap().secret.unwrap().expose().len(), 28);
    assert_eq!(fields(faults), Vec::<String>::new());
}

#[test]
fn all_faults_of_a_target_are_told_at_once() {
    let mut faults = Faults::default();
    let wrong = v1::IscsiTarget {
        portals: vec!["here".to_owned()],
        iqn: "iqn.04.example:a/b".to_owned(),
        lun: 1 << 14,
        chap_username: String::new(),
        chap_password: "alone".to_owned(),
        mutual_chap_username: "alone".to_owned(),
        mutual_chap_password: String::new(),
    };
    assert!(iscsi(&mut faults, "v", wrong).is_none());
    let wrong = v1::RbdTarget {
        monitors: Vec::new(),
        pool: "a/b".to_owned(),
        image: "x@snap".to_owned(),
        username: "me".to_owned(),
        secret_key: "no base64!".to_owned(),
    };
    assert!(rbd(&mut faults, "w", wrong).is_none());
    let all = [
        "v.portals[0]",
        "v.iqn",
        "v.lun",
        "v.chap_password",
        "v.mutual_chap_password",
        "w.monitors",
        "w.pool",
        "w.image",
        "w.secret_key",
    ];
    assert_eq!(fields(faults), all.map(str::to_owned));
}

#[test]
fn what_qemu_s_initiator_cannot_do_is_refused_by_name() {
    let mut faults = Faults::default();
    let portals = ["192.0.2.1:3260", "192.0.2.2:3260"].map(str::to_owned);
    let asked = v1::IscsiTarget {
        portals: portals.to_vec(),
        mutual_chap_username: "them".to_owned(),
        mutual_chap_password: "another secret".to_owned(),
        ..good()
    };
    iscsi(&mut faults, "v", asked);
    let e = faults.into_result(|| Some(())).unwrap_err();
    assert_eq!(e.reason(), "NOT_SUPPORTED");
    let violations = e.details().violations.iter();
    let fields: Vec<_> = violations.map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["v.portals", "v.mutual_chap_username"]);
    assert!(!format!("{e:?}").contains("secret"), "{e:?}");
}

#[test]
fn iscsi_names_are_those_of_the_standard() {
    for good in [
        "iqn.1993-08.org.debian:01:abc",
        "iqn.2001-04.com.example",
        "eui.02004567A425678D",
    ] {
        assert!(is_iscsi_name(good), "{good}");
    }
    let long = format!("iqn.2001-04.com.example:{}", "x".repeat(200));
    for bad in [
        "",
        "iqn",
        "iqn.",
        "iqn.2001-04.",
        "iqn.2001-4.com.example",
        "iqn.2001-04.com.example/1",
        "iqn.2001-04.com.exa mple",
        "eui.02004567A425678",
        "eui.02004567A425678G",
        "example",
        &long,
    ] {
        assert!(!is_iscsi_name(bad), "{bad}");
    }
}
