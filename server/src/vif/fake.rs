//! Interfaces plugged in memory, failing when told to. For tests, of this crate and of others.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Plugged, VifDriver, VifError, Vifs};
use crate::{
    domain::InterfaceSource,
    model::{InstanceId, InterfaceId, TapName, Vif, VifKind},
};

/// Handles every interface, and remembers which are plugged.
#[derive(Clone, Debug, Default)]
pub struct Fake(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    plugged: BTreeSet<(InstanceId, InterfaceId)>,
    plug: Option<VifError>,
    unplug: Option<VifError>,
}

impl Fake {
    /// All interfaces through this fake.
    pub fn vifs(&self) -> Vifs {
        Vifs::new(vec![Box::new(self.clone())])
    }

    /// What is plugged.
    pub fn all_plugged(&self) -> BTreeSet<(InstanceId, InterfaceId)> {
        self.0.lock().plugged.clone()
    }

    /// From now on plugging fails so, with nothing plugged; none plugs again.
    pub fn fail_plug(&self, error: impl Into<Option<VifError>>) {
        self.0.lock().plug = error.into();
    }

    /// From now on unplugging the interface that the error names fails so; none unplugs again.
    pub fn fail_unplug(&self, error: impl Into<Option<VifError>>) {
        self.0.lock().unplug = error.into();
    }
}

#[async_trait]
impl VifDriver for Fake {
    fn handles(&self, _vif: &Vif) -> bool {
        true
    }

    async fn plug(&self, instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError> {
        {
            let mut state = self.0.lock();
            if let Some(error) = &state.plug {
                return Err(error.clone());
            }
            state.plugged.insert((instance, vif.id.clone()));
        }
        self.plugged(instance, vif).await
    }

    async fn plugged(&self, instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError> {
        let source = match &vif.kind {
            VifKind::Bridge { bridge } => InterfaceSource::Bridge {
                bridge: bridge.clone(),
                tap: TapName::of(instance, &vif.id),
            },
            VifKind::User => InterfaceSource::User,
            VifKind::Unbound => InterfaceSource::Unbound,
        };
        Ok(Plugged {
            interface: vif.id.clone(),
            source,
            mtu: vif.mtu,
        })
    }

    async fn unplug(&self, instance: InstanceId, vif: &Vif) -> Result<(), VifError> {
        let mut state = self.0.lock();
        if let Some(error) = state.unplug.as_ref().filter(|e| *e.interface() == vif.id) {
            return Err(error.clone());
        }
        state.plugged.remove(&(instance, vif.id.clone()));
        Ok(())
    }
}
