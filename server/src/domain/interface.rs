//! Network interfaces of a guest.

use serde::{Deserialize, Serialize};

use crate::model::{InterfaceId, MacAddress, NicModel, TapName};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// What its caller calls it.
    pub id: InterfaceId,
    /// Where it is plugged.
    pub source: InterfaceSource,
    /// Its address on the wire.
    pub mac: MacAddress,
    /// The device that the guest sees.
    pub model: NicModel,
    /// Largest packet that the device carries, in bytes; none leaves it to the network.
    pub mtu: Option<u32>,
    /// Bounds of its traffic.
    pub bandwidth: Bandwidth,
}

/// Where an interface is plugged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterfaceSource {
    /// A tap on a Linux bridge; libvirt makes and removes the tap.
    Bridge {
        /// Name of the bridge.
        bridge: String,
        /// Name of the tap.
        tap: TapName,
    },
    /// QEMU's own user-mode network.
    User,
    /// Nowhere: the guest sees an interface without a link.
    Unbound,
}

/// Bounds of an interface's traffic, by the guest's side: inbound is what it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What the guest receives.
    pub inbound: Option<Rate>,
    /// What the guest sends.
    pub outbound: Option<Rate>,
}

/// A bound of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// In the long run, KiB a second.
    pub average: u64,
    /// While a burst lasts, KiB a second.
    pub peak: Option<u64>,
    /// Size of a burst, KiB.
    pub burst: Option<u64>,
}

pub(super) fn model(model: NicModel) -> &'static str {
    match model {
        NicModel::Virtio => "virtio",
        NicModel::E1000 => "e1000",
        NicModel::E1000e => "e1000e",
        NicModel::Rtl8139 => "rtl8139",
    }
}
