//! What the guest is told about its networks: `network_data.json`, as Nova words it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::model::{Subnet, Vif, VifKind};

#[derive(Default, Serialize)]
struct NetworkData<'a> {
    links: Vec<Link<'a>>,
    networks: Vec<Network>,
    services: Vec<Service>,
}

#[derive(Serialize)]
struct Link<'a> {
    id: String,
    vif_id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    mtu: Option<u32>,
    ethernet_mac_address: String,
}

#[derive(Serialize)]
struct Network {
    id: String,
    link: String,
    network_id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    fixed: Option<Fixed>,
    services: Vec<Service>,
}

#[derive(Serialize)]
struct Fixed {
    ip_address: IpAddr,
    netmask: IpAddr,
    routes: Vec<GuestRoute>,
}

#[derive(Serialize)]
struct GuestRoute {
    network: IpAddr,
    netmask: IpAddr,
    gateway: IpAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
struct Service {
    #[serde(rename = "type")]
    kind: &'static str,
    address: IpAddr,
}

/// The networks of the interfaces that have any; `None` when nothing is known about any network.
///
/// An empty file would mean "no network": cloud-init would then leave even DHCP alone. No file leaves the guest to
/// its own default.
pub(super) fn openstack(vifs: &[Vif]) -> serde_json::Result<Option<Vec<u8>>> {
    let mut data = NetworkData::default();
    let known = vifs.iter().filter(|vif| !vif.subnets.is_empty());
    for (number, vif) in known.enumerate() {
        let id = format!("interface{number}");
        for subnet in &vif.subnets {
            let number = data.networks.len();
            data.networks.push(network(number, &id, (vif, subnet)));
            for service in services(subnet) {
                if !data.services.contains(&service) {
                    data.services.push(service);
                }
            }
        }
        data.links.push(link(id, vif));
    }
    if data.links.is_empty() {
        return Ok(None);
    }
    serde_json::to_vec(&data).map(Some)
}

fn link(id: String, vif: &Vif) -> Link<'_> {
    Link {
        id,
        vif_id: vif.id.as_str(),
        kind: match vif.kind {
            VifKind::Bridge { .. } => "bridge",
            VifKind::User | VifKind::Unbound => "phy",
        },
        mtu: vif.mtu,
        ethernet_mac_address: vif.mac.to_string(),
    }
}

fn network(number: usize, link: &str, (vif, subnet): (&Vif, &Subnet)) -> Network {
    let kind = match (subnet.address, subnet.ipv6) {
        (Some(address), _) if address.ip.is_ipv4() => "ipv4",
        (Some(_), _) => "ipv6",
        (None, false) => "ipv4_dhcp",
        (None, true) => "ipv6_slaac",
    };
    Network {
        id: format!("network{number}"),
        link: link.to_owned(),
        network_id: vif.network_id.clone().unwrap_or_else(|| vif.id.to_string()),
        kind,
        fixed: subnet.address.map(|address| Fixed {
            ip_address: address.ip,
            netmask: netmask(address.ip, address.prefix),
            routes: routes(subnet),
        }),
        services: services(subnet).collect(),
    }
}

/// The default route first, as Nova does.
fn routes(subnet: &Subnet) -> Vec<GuestRoute> {
    let default = subnet.gateway.map(|gateway| {
        let nowhere = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        GuestRoute {
            network: nowhere,
            netmask: nowhere,
            gateway,
        }
    });
    let further = subnet.routes.iter().map(|route| {
        let to = route.destination;
        GuestRoute {
            network: masked(to.ip, to.prefix),
            netmask: netmask(to.ip, to.prefix),
            gateway: route.gateway,
        }
    });
    default.into_iter().chain(further).collect()
}

fn services(subnet: &Subnet) -> impl Iterator<Item = Service> {
    let dns = subnet.dns.iter();
    dns.map(|&address| Service {
        kind: "dns",
        address,
    })
}

/// The mask of a prefix, in the family of `like`.
fn netmask(like: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match like {
        IpAddr::V4(_) => {
            let ones = u32::MAX.checked_shl(32_u32.saturating_sub(prefix));
            Ipv4Addr::from_bits(ones.unwrap_or(0)).into()
        }
        IpAddr::V6(_) => {
            let ones = u128::MAX.checked_shl(128_u32.saturating_sub(prefix));
            Ipv6Addr::from_bits(ones.unwrap_or(0)).into()
        }
    }
}

/// A route to `192.0.2.7/24` leads to the network `192.0.2.0`.
fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    match (ip, netmask(ip, prefix)) {
        (IpAddr::V4(ip), IpAddr::V4(mask)) => (ip & mask).into(),
        (IpAddr::V6(ip), IpAddr::V6(mask)) => (ip & mask).into(),
        _ => ip,
    }
}

#[cfg(test)]
mod tests;
