use serde_json::{Value, json};

use super::*;
use crate::model::{Address, MacAddress, NicModel, Route};

fn vif(kind: VifKind, subnets: Vec<Subnet>) -> Vif {
    Vif {
        id: "port-1".parse().expect("an id"),
        mac: "52:54:00:12:34:56".parse::<MacAddress>().expect("a mac"),
        kind,
        model: NicModel::Virtio,
        mtu: Some(1450),
        subnets,
        network_id: None,
        network_label: String::new(),
    }
}

fn dhcp(ipv6: bool) -> Subnet {
    Subnet {
        address: None,
        ipv6,
        gateway: None,
        dns: Vec::new(),
        routes: Vec::new(),
    }
}

fn fixed(address: &str, gateway: &str) -> Subnet {
    Subnet {
        address: Some(address.parse::<Address>().expect("an address")),
        gateway: Some(gateway.parse().expect("a gateway")),
        dns: vec!["9.9.9.9".parse().expect("a server")],
        ..dhcp(false)
    }
}

fn written(vifs: &[Vif]) -> Value {
    let json = openstack(vifs).expect("json").expect("some network");
    serde_json::from_slice(&json).expect("json")
}

#[test]
fn interfaces_without_known_networks_leave_the_guest_to_its_own_default() {
    let bridge = || VifKind::Bridge {
        bridge: "br0".to_owned(),
    };
    assert_eq!(openstack(&[]).expect("json"), None);
    assert_eq!(openstack(&[vif(bridge(), Vec::new())]).expect("json"), None);
    let both = [
        vif(bridge(), Vec::new()),
        vif(VifKind::User, vec![dhcp(false)]),
    ];
    assert_eq!(written(&both)["links"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_fixed_network_tells_mask_default_route_and_name_servers() {
    let mut subnet = fixed("192.0.2.7/26", "192.0.2.1");
    subnet.routes = vec![Route {
        destination: "198.51.100.9/24".parse().expect("an address"),
        gateway: "192.0.2.2".parse().expect("a gateway"),
    }];
    let bridge = VifKind::Bridge {
        bridge: "br0".to_owned(),
    };
    let dns = json!([{"type": "dns", "address": "9.9.9.9"}]);
    assert_eq!(
        written(&[vif(bridge, vec![subnet])]),
        json!({
            "links": [{
                "id": "interface0", "vif_id": "port-1", "type": "bridge", "mtu": 1450,
                "ethernet_mac_address": "52:54:00:12:34:56",
            }],
            "networks": [{
                "id": "network0", "link": "interface0", "network_id": "port-1", "type": "ipv4",
                "ip_address": "192.0.2.7", "netmask": "255.255.255.192",
                "routes": [
                    {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.1"},
                    {"network": "198.51.100.0", "netmask": "255.255.255.0", "gateway": "192.0.2.2"},
                ],
                "services": dns,
            }],
            "services": dns,
        })
    );
}

#[test]
fn each_kind_of_network_has_its_type_and_shared_name_servers_are_told_once() {
    let subnets = vec![
        fixed("192.0.2.7/32", "192.0.2.1"),
        fixed("2001:db8::7/0", "2001:db8::1"),
        dhcp(false),
        dhcp(true),
    ];
    let data = written(&[vif(VifKind::User, subnets)]);
    let of = |field: &str| -> Vec<&str> {
        let networks = data["networks"].as_array().expect("a list");
        networks.iter().filter_map(|n| n[field].as_str()).collect()
    };
    assert_eq!(of("type"), ["ipv4", "ipv6", "ipv4_dhcp", "ipv6_slaac"]);
    assert_eq!(of("netmask"), ["255.255.255.255", "::"]);
    assert_eq!(data["services"].as_array().map(Vec::len), Some(1));
    assert_eq!(data["links"][0]["type"], "phy");
}
