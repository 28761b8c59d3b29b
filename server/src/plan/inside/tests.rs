use pretty_assertions::assert_eq;

use super::*;
use crate::model::{NicModel, Route, VifKind};

fn subnet(address: Option<&str>, gateway: Option<&str>) -> Subnet {
    Subnet {
        address: address.map(|address| address.parse().unwrap()),
        ipv6: false,
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        dns: Vec::new(),
        routes: Vec::new(),
    }
}

fn vif(subnets: Vec<Subnet>) -> Vif {
    Vif {
        id: "port".parse().unwrap(),
        mac: "52:54:00:00:00:01".parse().unwrap(),
        kind: VifKind::User,
        model: NicModel::Virtio,
        mtu: Some(1450),
        subnets,
        network_id: None,
        network_label: String::new(),
    }
}

fn told(addresses: &[(&str, u8)]) -> GuestInterface {
    let addresses = addresses
        .iter()
        .map(|(ip, bits)| (ip.parse().unwrap(), *bits));
    GuestInterface {
        name: "eth0; reboot".to_owned(),
        mac: None,
        addresses: addresses.collect(),
    }
}

#[test]
fn a_part_lies_beside_its_file_and_is_the_same_each_time() {
    let id = InstanceId::random();
    let part = part_of(id, "/etc/motd");
    assert!(part.starts_with("/etc/.computelet-"), "{part}");
    assert_eq!(part, part_of(id, "/etc/motd"));
    assert_ne!(part, part_of(id, "/etc/issue"));
    assert!(part_of(id, "/motd").starts_with("/.computelet-"));
}

#[test]
fn what_others_say_is_an_argument_and_never_part_of_a_script() {
    let evil = "$(reboot)'\"";
    let id = InstanceId::random();
    let part = part_of(id, &format!("/{evil}/x"));
    for program in [
        begin_file(&part),
        drop_file(&part),
        finish_file(&part, evil, (0o640, Some(evil))),
        reset(evil),
        set_addresses(&vif(Vec::new()), &told(&[])),
    ] {
        assert_eq!(program.args[0], "-c");
        let script = &program.args[1];
        assert!(!script.contains("reboot"), "{script}");
    }
    let finish = finish_file("/p", "/q", (0o7, None));
    assert_eq!(finish.args[3..], ["/p", "/q", "0007", ""]);
}

#[test]
fn an_interface_gets_what_its_vif_says_and_loses_the_rest() {
    let mut first = subnet(Some("192.0.2.7/24"), Some("192.0.2.1"));
    first.routes.push(Route {
        destination: "203.0.113.0/24".parse().unwrap(),
        gateway: "192.0.2.2".parse().unwrap(),
    });
    let vif = vif(vec![first, subnet(None, Some("198.51.100.1"))]);
    let now = told(&[
        ("192.0.2.7", 24),
        ("10.0.2.15", 24),
        ("2001:db8::1", 64),
        ("169.254.1.1", 16),
    ]);
    let program = set_addresses(&vif, &now);
    let lines: Vec<_> = program.args[1].lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            r#"ip link set dev "$1" mtu 1450"#,
            r#"ip link set dev "$1" up"#,
            r#"ip -4 addr del 10.0.2.15/24 dev "$1""#,
            r#"ip -4 addr replace 192.0.2.7/24 dev "$1""#,
            r#"ip -4 route replace default via 192.0.2.1 dev "$1""#,
            r#"ip -4 route replace 203.0.113.0/24 via 192.0.2.2 dev "$1""#,
        ]
    );
    assert_eq!(program.args[3], "eth0; reboot");
}
