//! Interfaces that need nothing of the host: QEMU's own user-mode network, and none at all.

use async_trait::async_trait;

use super::{Plugged, VifDriver, VifError};
use crate::{
    domain::InterfaceSource,
    model::{InstanceId, Vif, VifKind},
};

/// QEMU's own user-mode network.
#[derive(Clone, Copy, Debug)]
pub struct User;

/// An interface without a link.
#[derive(Clone, Copy, Debug)]
pub struct Unbound;

fn plugged(vif: &Vif, source: InterfaceSource) -> Plugged {
    Plugged {
        interface: vif.id.clone(),
        source,
        // libvirt takes a size for taps only; the guest learns a smaller one from its config drive.
        mtu: None,
    }
}

#[async_trait]
impl VifDriver for User {
    fn handles(&self, vif: &Vif) -> bool {
        vif.kind == VifKind::User
    }

    async fn plug(&self, _instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError> {
        Ok(plugged(vif, InterfaceSource::User))
    }

    async fn plugged(&self, _instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError> {
        Ok(plugged(vif, InterfaceSource::User))
    }

    async fn unplug(&self, _instance: InstanceId, _vif: &Vif) -> Result<(), VifError> {
        Ok(())
    }
}

#[async_trait]
impl VifDriver for Unbound {
    fn handles(&self, vif: &Vif) -> bool {
        vif.kind == VifKind::Unbound
    }

    async fn plug(&self, _instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError> {
        Ok(plugged(vif, InterfaceSource::Unbound))
    }

    async fn plugged(&self, _instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError> {
        Ok(plugged(vif, InterfaceSource::Unbound))
    }

    async fn unplug(&self, _instance: InstanceId, _vif: &Vif) -> Result<(), VifError> {
        Ok(())
    }
}
