//! Taps on Linux bridges that are there already.
//!
//! libvirt makes the tap when the guest starts and the kernel removes it when QEMU ends. What is left to us: to see
//! before the start that it can go well, and after a crash that nothing is left. The bridge is looked for in our own
//! network namespace.

use async_trait::async_trait;

use super::{Plugged, VifDriver, VifError};
use crate::{
    domain::InterfaceSource,
    model::{InstanceId, TapName, Vif, VifKind},
    sys::netlink::{self, LinkKind, NetlinkError},
};

/// What every device carries unless told otherwise.
const ETHERNET: u32 = 1500;

/// Plugs into Linux bridges.
#[derive(Debug, Default)]
pub struct Bridge(());

impl Bridge {
    /// Those of this thread's network namespace.
    pub fn new() -> Self {
        Self(())
    }
}

#[async_trait]
impl VifDriver for Bridge {
    fn handles(&self, vif: &Vif) -> bool {
        matches!(vif.kind, VifKind::Bridge { .. })
    }

    async fn plug(&self, instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError> {
        let plugged = self.plugged(instance, vif).await?;
        let tap = TapName::of(instance, &vif.id);
        let clash = netlink::link(tap.as_str())
            .await
            .map_err(not(vif, "plugged"))?;
        if clash.is_some() {
            return Err(VifError::NameTaken {
                interface: vif.id.clone(),
                tap,
            });
        }
        Ok(plugged)
    }

    async fn plugged(&self, instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError> {
        let interface = || vif.id.clone();
        let VifKind::Bridge { bridge } = &vif.kind else {
            let interface = interface();
            return Err(VifError::Unsupported { interface });
        };
        let found = netlink::link(bridge).await.map_err(not(vif, "plugged"))?;
        let link = match found {
            Some(link) if link.kind == LinkKind::Bridge => link,
            Some(_) => {
                return Err(VifError::NotBridge {
                    interface: interface(),
                    bridge: bridge.clone(),
                });
            }
            None => {
                return Err(VifError::NoBridge {
                    interface: interface(),
                    bridge: bridge.clone(),
                });
            }
        };
        // A guest that sends more than its bridge carries loses packets silently: it is told the bridge's own.
        let own = link.mtu.filter(|mtu| *mtu != ETHERNET);
        Ok(Plugged {
            interface: interface(),
            source: InterfaceSource::Bridge {
                bridge: bridge.clone(),
                tap: TapName::of(instance, &vif.id),
            },
            mtu: vif.mtu.or(own),
        })
    }

    async fn unplug(&self, instance: InstanceId, vif: &Vif) -> Result<(), VifError> {
        let tap = TapName::of(instance, &vif.id);
        let found = netlink::link(tap.as_str())
            .await
            .map_err(not(vif, "unplugged"))?;
        match found {
            // A device of another kind that has the name by chance is none of ours.
            Some(link) if link.kind == LinkKind::Tap => {
                netlink::remove(link).await.map_err(not(vif, "unplugged"))
            }
            _ => Ok(()),
        }
    }
}

fn not(vif: &Vif, done: &'static str) -> impl FnOnce(NetlinkError) -> VifError {
    let interface = vif.id.clone();
    move |source| VifError::Netlink {
        interface,
        done,
        source,
    }
}
