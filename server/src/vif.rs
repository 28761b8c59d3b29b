//! The port through which interfaces are plugged into networks of the host.
//!
//! A driver answers for one or more kinds of network. [`Vifs`] picks the first that handles an interface; one that none
//! handles is refused before anything is touched.

mod bridge;
mod error;
pub mod fake;
mod unplugged;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use bridge::Bridge;
pub use error::VifError;
pub use unplugged::{Unbound, User};

use crate::{
    domain::InterfaceSource,
    model::{InstanceId, InterfaceId, Vif},
};

/// What the domain needs to know of a plugged interface, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugged {
    /// Which interface.
    pub interface: InterfaceId,
    /// Where it is plugged.
    pub source: InterfaceSource,
    /// Largest packet that the guest's device carries, in bytes; none is the 1500 of every device.
    pub mtu: Option<u32>,
}

/// A way to plug interfaces.
#[async_trait]
pub trait VifDriver: fmt::Debug + Send + Sync + 'static {
    /// Whether it answers for this interface.
    fn handles(&self, vif: &Vif) -> bool;

    /// Readies the host for the interface. Calling it twice before the guest starts changes nothing more.
    ///
    /// # Errors
    /// When the network is not there, or cannot be plugged into.
    async fn plug(&self, instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError>;

    /// What plugging it said, of an interface that is plugged already. Changes nothing.
    ///
    /// # Errors
    /// When the network is not there any more.
    async fn plugged(&self, instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError>;

    /// Takes back what [`VifDriver::plug`] and the guest's start have made; what is not there is as good.
    ///
    /// # Errors
    /// When something is left that cannot be removed.
    async fn unplug(&self, instance: InstanceId, vif: &Vif) -> Result<(), VifError>;
}

/// All ways of this host to plug interfaces.
#[derive(Clone, Debug)]
pub struct Vifs {
    drivers: Arc<[Box<dyn VifDriver>]>,
}

impl Vifs {
    /// Those of a Linux host.
    pub fn linux() -> Self {
        Self::new(vec![
            Box::new(Bridge::new()),
            Box::new(User),
            Box::new(Unbound),
        ])
    }

    /// Other ones, asked in their order.
    pub fn new(drivers: Vec<Box<dyn VifDriver>>) -> Self {
        Self {
            drivers: drivers.into(),
        }
    }

    /// Readies the host for the interface.
    ///
    /// # Errors
    /// Those of its driver; `Unsupported` when it has none.
    pub async fn plug(&self, instance: InstanceId, vif: &Vif) -> Result<Plugged, VifError> {
        self.driver(vif)?.plug(instance, vif).await
    }

    /// What plugging them said, of interfaces that are plugged already.
    ///
    /// # Errors
    /// Those of their drivers.
    pub async fn plugged(
        &self,
        instance: InstanceId,
        vifs: impl Iterator<Item = &Vif> + Send,
    ) -> Result<Vec<Plugged>, VifError> {
        let mut plugged = Vec::new();
        for vif in vifs {
            plugged.push(self.driver(vif)?.plugged(instance, vif).await?);
        }
        Ok(plugged)
    }

    /// Takes back what plugging it has made; one that has no driver was never plugged.
    ///
    /// # Errors
    /// Those of its driver.
    pub async fn unplug(&self, instance: InstanceId, vif: &Vif) -> Result<(), VifError> {
        match self.driver(vif) {
            Ok(driver) => driver.unplug(instance, vif).await,
            Err(_) => Ok(()),
        }
    }

    fn driver(&self, vif: &Vif) -> Result<&dyn VifDriver, VifError> {
        let driver = self.drivers.iter().find(|driver| driver.handles(vif));
        driver
            .map(AsRef::as_ref)
            .ok_or_else(|| VifError::Unsupported {
                interface: vif.id.clone(),
            })
    }
}
