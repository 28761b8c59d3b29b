//! Network interfaces as the caller describes them.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{InstanceId, InterfaceId};

/// A unicast Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Its six bytes.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be six hex pairs like 52:54:00:12:34:56".to_owned();
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair = pairs.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        match (pairs.next(), octets) {
            (Some(_), _) => Err(wrong()),
            (None, [0, 0, 0, 0, 0, 0]) => Err("must not be all zero".to_owned()),
            (None, [first, ..]) if first & 1 == 1 => {
                Err("must not be a multicast address".to_owned())
            }
            (None, _) => Ok(Self(octets)),
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for MacAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The host's name of a tap of ours: at most 15 bytes, the same every time for the same interface of the same instance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TapName(String);

impl TapName {
    /// `cl`, and 48 bits of a hash of both ids.
    pub fn of(instance: InstanceId, interface: &InterfaceId) -> Self {
        let hash = Uuid::new_v5(&instance.uuid(), interface.as_str().as_bytes());
        Self(format!("cl{}", &hash.simple().to_string()[..12]))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an interface is plugged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VifKind {
    /// A tap on an existing Linux bridge.
    Bridge {
        /// Name of the bridge.
        bridge: String,
    },
    /// QEMU's own user-mode network: outgoing only, needs no privileges.
    User,
    /// Nowhere: the guest sees an interface without a link.
    Unbound,
}

/// The device that the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NicModel {
    /// virtio-net.
    #[default]
    Virtio,
    /// Intel 82540EM.
    E1000,
    /// Intel 82574L.
    E1000e,
    /// Realtek RTL8139.
    Rtl8139,
}

/// An address with the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the network's prefix.
    pub prefix: u8,
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be an address with its prefix length like 192.0.2.7/24".to_owned();
        let (ip, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        if prefix <= longest {
            Ok(Self { ip, prefix })
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// A route that the guest should set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub destination: Address,
    /// Through whom.
    pub gateway: IpAddr,
}

/// What the guest is told of one network behind an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Fixed address; none means DHCP (or SLAAC, by `ipv6`).
    pub address: Option<Address>,
    /// Whether an address-less subnet is IPv6.
    pub ipv6: bool,
    /// Default gateway.
    pub gateway: Option<IpAddr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<Route>,
}

/// A network interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vif {
    /// The caller's name for it.
    pub id: InterfaceId,
    /// Its address on the wire.
    pub mac: MacAddress,
    /// Where it is plugged.
    pub kind: VifKind,
    /// The device that the guest sees.
    pub model: NicModel,
    /// Largest packet, in bytes; none leaves it to the network.
    pub mtu: Option<u32>,
    /// What the guest is told of the networks behind it.
    pub subnets: Vec<Subnet>,
    /// The network's id, told to the guest; the interface's id unless said.
    pub network_id: Option<String>,
    /// The network's name, kept for the caller.
    pub network_label: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_has_one_name_that_the_kernel_takes() {
        let instance = InstanceId::random();
        let eth0 = TapName::of(instance, &"eth0".parse().unwrap());
        assert_eq!(eth0, TapName::of(instance, &"eth0".parse().unwrap()));
        assert_ne!(eth0, TapName::of(instance, &"eth1".parse().unwrap()));
        assert_ne!(
            eth0,
            TapName::of(InstanceId::random(), &"eth0".parse().unwrap())
        );
        assert_eq!(eth0.as_str().len(), 14, "IFNAMSIZ leaves 15 bytes");
    }
}
