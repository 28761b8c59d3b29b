//! Network interfaces.

use computedriver::v1;

use super::fault::Faults;
use crate::model::{Address, NicModel, Route, Subnet, Vif, VifKind};

/// The interfaces of a request; ids and addresses are unique.
pub(crate) fn vifs(
    faults: &mut Faults,
    vifs: Vec<v1::Vif>,
    default: Option<NicModel>,
) -> Option<Vec<Vif>> {
    faults.at_most("vifs", vifs.len(), 32);
    let vifs: Vec<_> = vifs
        .into_iter()
        .take(32)
        .enumerate()
        .map(|(i, vif)| one(faults, &format!("vifs[{i}]"), (vif, default)))
        .collect();
    for (i, vif) in vifs.iter().enumerate() {
        let Some(vif) = vif else { continue };
        let before = || vifs[..i].iter().flatten();
        if before().any(|other| other.id == vif.id) {
            faults.wrong(&format!("vifs[{i}].interface_id"), "is used twice");
        }
        if before().any(|other| other.mac == vif.mac) {
            faults.wrong(&format!("vifs[{i}].mac_address"), "is used twice");
        }
    }
    vifs.into_iter().collect()
}

pub(super) fn model(faults: &mut Faults, field: &str, model: v1::VifModel) -> Option<NicModel> {
    match model {
        v1::VifModel::Virtio => return Some(NicModel::Virtio),
        v1::VifModel::E1000 => return Some(NicModel::E1000),
        v1::VifModel::E1000e => return Some(NicModel::E1000e),
        v1::VifModel::Rtl8139 => return Some(NicModel::Rtl8139),
        v1::VifModel::Unspecified => faults.wrong(
            field,
            "must not be UNSPECIFIED; leave it out for the default",
        ),
        _ => faults.refuse(field, true),
    }
    None
}

/// One interface.
pub(crate) fn vif(faults: &mut Faults, field: &str, asked: v1::Vif) -> Option<Vif> {
    one(faults, field, (asked, None))
}

fn one(
    faults: &mut Faults,
    field: &str,
    (vif, default): (v1::Vif, Option<NicModel>),
) -> Option<Vif> {
    let at = |name: &str| format!("{field}.{name}");
    let id = faults.take(&at("interface_id"), vif.interface_id.parse());
    let mac = faults.take(&at("mac_address"), vif.mac_address.parse());
    let model = match vif.model {
        None => Some(default.unwrap_or_default()),
        Some(_) => model(faults, &at("model"), vif.model()),
    };
    let kind = kind(faults, field, vif.r#type);
    let mtu = match vif.mtu {
        0 => Some(None),
        68..=65535 => Some(Some(vif.mtu)),
        _ => {
            faults.wrong(&at("mtu"), "must be 68 to 65535");
            None
        }
    };
    faults.refuse(
        &at("security_group_ids"),
        !vif.security_group_ids.is_empty(),
    );
    faults.refuse(&at("tags"), !vif.tags.is_empty());
    faults.refuse(&at("await_plugged"), vif.await_plugged);
    let network_label = faults.text(&at("network_label"), vif.network_label, 255);
    let network_id = faults.text(&at("network_id"), vif.network_id, 64);
    faults.at_most(&at("fixed_ips"), vif.fixed_ips.len(), 32);
    let subnet = |(i, ip)| subnet(faults, &format!("{field}.fixed_ips[{i}]"), &ip);
    let subnets: Vec<_> = vif
        .fixed_ips
        .into_iter()
        .take(32)
        .enumerate()
        .map(subnet)
        .collect();
    Some(Vif {
        id: id?,
        mac: mac?,
        kind: kind?,
        model: model?,
        mtu: mtu?,
        subnets: subnets.into_iter().collect::<Option<_>>()?,
        network_id: Some(network_id?).filter(|id| !id.is_empty()),
        network_label: network_label?,
    })
}

fn kind(faults: &mut Faults, field: &str, kind: Option<v1::vif::Type>) -> Option<VifKind> {
    use v1::vif::Type;
    let unserved = match kind {
        None => {
            faults.wrong(&format!("{field}.type"), "is required, as bridge or user");
            return None;
        }
        Some(Type::Bridge(bridge)) => {
            return bridge_name(faults, &format!("{field}.bridge.bridge"), bridge.bridge);
        }
        Some(Type::User(_)) => return Some(VifKind::User),
        Some(Type::Unbound(_)) => return Some(VifKind::Unbound),
        Some(Type::Ovs(_)) => "ovs",
        Some(Type::Macvtap(_)) => "macvtap",
        Some(Type::Ethernet(_)) => "ethernet",
        Some(Type::VhostUser(_)) => "vhost_user",
        Some(Type::Hostdev(_)) => "hostdev",
    };
    faults.refuse(&format!("{field}.{unserved}"), true);
    None
}

fn bridge_name(faults: &mut Faults, field: &str, bridge: String) -> Option<VifKind> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    if matches!(bridge.len(), 1..=15)
        && bridge.chars().all(plain)
        && !matches!(bridge.as_str(), "." | "..")
    {
        return Some(VifKind::Bridge { bridge });
    }
    faults.wrong(
        field,
        "must be the name of a network device: 1 to 15 printable characters without '/' and ':'",
    );
    None
}

fn subnet(faults: &mut Faults, field: &str, ip: &v1::FixedIp) -> Option<Subnet> {
    let at = |name: &str| format!("{field}.{name}");
    let assignment = ip.assignment.map(|_| ip.assignment());
    let fixed = matches!(assignment, None | Some(v1::IpAssignment::Static));
    let ipv6 = match assignment {
        Some(v1::IpAssignment::Unspecified) => {
            faults.wrong(
                &at("assignment"),
                "must not be UNSPECIFIED; leave it out for STATIC",
            );
            return None;
        }
        Some(v1::IpAssignment::Slaac) => true,
        _ => ip.address.contains(':'),
    };
    let address = if fixed {
        let text = format!("{}/{}", ip.address, ip.prefix_length);
        Some(faults.take::<Address, _>(&at("address"), text.parse()))
    } else {
        None
    };
    let gateway = match ip.gateway.as_str() {
        "" => Some(None),
        text => faults
            .take(
                &at("gateway"),
                text.parse().map_err(|_| "must be an IP address"),
            )
            .map(Some),
    };
    faults.at_most(&at("dns_servers"), ip.dns_servers.len(), 8);
    faults.at_most(&at("routes"), ip.routes.len(), 64);
    let dns: Vec<_> = ip
        .dns_servers
        .iter()
        .enumerate()
        .map(|(i, text)| {
            faults.take(
                &format!("{field}.dns_servers[{i}]"),
                text.parse().map_err(|_| "must be an IP address"),
            )
        })
        .collect();
    let routes: Vec<_> = ip
        .routes
        .iter()
        .enumerate()
        .map(|(i, one)| route(faults, &format!("{field}.routes[{i}]"), one))
        .collect();
    Some(Subnet {
        address: match address {
            Some(address) => Some(address?),
            None => None,
        },
        ipv6,
        gateway: gateway?,
        dns: dns.into_iter().collect::<Option<_>>()?,
        routes: routes.into_iter().collect::<Option<_>>()?,
    })
}

fn route(faults: &mut Faults, field: &str, route: &v1::Route) -> Option<Route> {
    let destination = faults.take(&format!("{field}.destination"), route.destination.parse());
    let gateway = route.gateway.parse().map_err(|_| "must be an IP address");
    let gateway = faults.take(&format!("{field}.gateway"), gateway);
    Some(Route {
        destination: destination?,
        gateway: gateway?,
    })
}
