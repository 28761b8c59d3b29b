//! Why an interface is not plugged.

use crate::{
    error::{Classify, Kind},
    model::{InterfaceId, TapName},
    sys::netlink::NetlinkError,
};

/// Why an interface is not plugged, or not unplugged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VifError {
    /// No driver of this host handles it.
    #[error("this host has no driver for interface {interface}")]
    Unsupported {
        /// Which interface.
        interface: InterfaceId,
    },
    /// Its bridge is not there.
    #[error("interface {interface}: this host has no bridge {bridge}")]
    NoBridge {
        /// Which interface.
        interface: InterfaceId,
        /// The bridge that it names.
        bridge: String,
    },
    /// What it names is no bridge.
    #[error("interface {interface}: {bridge} is no bridge")]
    NotBridge {
        /// Which interface.
        interface: InterfaceId,
        /// What it names.
        bridge: String,
    },
    /// A device has the name that its tap would have.
    #[error("interface {interface}: this host has a device {tap} already")]
    NameTaken {
        /// Which interface.
        interface: InterfaceId,
        /// The name.
        tap: TapName,
    },
    /// The kernel did not do it.
    #[error("interface {interface} cannot be {done}")]
    Netlink {
        /// Which interface.
        interface: InterfaceId,
        /// `plugged` or `unplugged`.
        done: &'static str,
        /// Why.
        #[source]
        source: NetlinkError,
    },
}

impl VifError {
    /// Which interface.
    pub fn interface(&self) -> &InterfaceId {
        match self {
            Self::Unsupported { interface }
            | Self::NoBridge { interface, .. }
            | Self::NotBridge { interface, .. }
            | Self::NameTaken { interface, .. }
            | Self::Netlink { interface, .. } => interface,
        }
    }
}

impl Classify for VifError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsupported { .. } => Kind::Precondition,
            Self::NoBridge { .. } | Self::NotBridge { .. } => Kind::NotFound,
            // Another try may do better.
            Self::NameTaken { .. } | Self::Netlink { .. } => Kind::Pending,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "NOT_SUPPORTED",
            Self::NoBridge { .. } | Self::NotBridge { .. } => "NETWORK_NOT_FOUND",
            Self::NameTaken { .. } | Self::Netlink { .. } => "VIF_PLUG_FAILED",
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("interface_id", self.interface().to_string())];
        match self {
            Self::NoBridge { bridge, .. } | Self::NotBridge { bridge, .. } => {
                fields.push(("bridge", bridge.clone()));
            }
            Self::NameTaken { tap, .. } => fields.push(("device", tap.to_string())),
            Self::Unsupported { .. } | Self::Netlink { .. } => {}
        }
        fields
    }
}
