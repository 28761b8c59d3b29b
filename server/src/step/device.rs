//! A running guest is given a device, or lets go of one.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::{
    domain::Device,
    error::{Error, Kind, Result},
    host::Host,
    hypervisor::device::Detached,
    model::{Bytes, InstanceId, InstanceRecord, Phase, PowerState},
    task::{Cx, Step, cancelled},
};

/// How often a guest is asked to let go of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// How many times.
    pub tries: u32,
    /// From one time to the next.
    pub interval: Duration,
}

impl Default for Pace {
    /// A guest that boots looks at its slots when its kernel is up: until then it is asked again.
    fn default() -> Self {
        Self {
            tries: 8,
            interval: Duration::from_secs(20),
        }
    }
}

/// Gives a running guest a device.
#[derive(Debug, Serialize, Deserialize)]
pub struct AttachDevice {
    /// Whose.
    pub instance: InstanceId,
    /// What.
    pub device: Device,
    /// The instance as it is with it, where nothing comes after: a crash then finds it done once the guest has it. A guest
    /// that does not let go of it could not be brought back to where it was.
    #[serde(default)]
    pub record: Option<Box<InstanceRecord>>,
}

#[async_trait]
impl Step for AttachDevice {
    type Output = ();
    const NAME: &'static str = "attach device";
    const PHASE: Phase = Phase::Attach;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let attached = cx.host.hypervisor.attach(self.instance, &self.device);
        Ok(attached.await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        let pace = Pace::default();
        match host
            .hypervisor
            .detach(self.instance, &self.device, pace.interval)
            .await?
        {
            Detached::Gone => Ok(()),
            // Guests seldom let go of memory. What is more than told harms nobody, and goes with the run of the guest.
            Detached::Refused | Detached::Held if matches!(self.device, Device::Memory(_)) => {
                warn!(instance = %self.instance, "the guest keeps its memory until it is started anew");
                Ok(())
            }
            Detached::Refused | Detached::Held => Err(held(self.instance, &self.device)),
        }
    }
}

/// Has a running guest let go of a device.
#[derive(Debug, Serialize, Deserialize)]
pub struct DetachDevice {
    /// Whose.
    pub instance: InstanceId,
    /// What; whole, for the way back.
    pub device: Device,
    /// How often it is asked.
    pub pace: Pace,
}

#[async_trait]
impl Step for DetachDevice {
    type Output = ();
    const NAME: &'static str = "detach device";
    const PHASE: Phase = Phase::Detach;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let hypervisor = &cx.host.hypervisor;
        let Pace { tries, interval } = self.pace;
        for nth in 1..=tries {
            let again = Instant::now() + interval;
            let asked = hypervisor.detach(self.instance, &self.device, interval);
            let done = tokio::select! {
                biased;
                done = asked => done?,
                () = cx.cancel.cancelled() => return Err(cancelled()),
            };
            match done {
                Detached::Gone => return Ok(()),
                Detached::Refused if nth < tries => tokio::select! {
                    () = sleep_until(again) => {}
                    () = cx.cancel.cancelled() => return Err(cancelled()),
                },
                Detached::Refused | Detached::Held => {}
            }
        }
        Err(held(self.instance, &self.device))
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        let power = host.hypervisor.info(self.instance).await?.state;
        if !matches!(power, PowerState::Running | PowerState::Paused) {
            return Ok(());
        }
        Ok(host.hypervisor.attach(self.instance, &self.device).await?)
    }
}

/// Tells a running guest that a disk has grown.
#[derive(Debug, Serialize, Deserialize)]
pub struct ResizeDisk {
    /// Whose.
    pub instance: InstanceId,
    /// The disk's name in the guest.
    pub target: String,
    /// Its size.
    pub size: Bytes,
    /// The size that the guest saw before.
    #[serde(default)]
    pub seen: Bytes,
}

#[async_trait]
impl Step for ResizeDisk {
    type Output = ();
    const NAME: &'static str = "resize disk";
    const PHASE: Phase = Phase::ResizeDisks;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let (hypervisor, id) = (&cx.host.hypervisor, self.instance);
        if self.seen == self.size {
            return Ok(());
        }
        hypervisor.resize_disk(id, &self.target, self.size).await?;
        let seen = hypervisor.disk_size(id, &self.target).await?;
        if seen == self.size {
            return Ok(());
        }
        Err(Error::internal(format!(
            "the guest sees {} bytes, not {}",
            seen.0, self.size.0
        )))
    }

    /// A disk that has grown stays so: the guest may be using the room.
    async fn revert(&self, _host: &Host) -> Result<()> {
        Ok(())
    }
}

fn held(instance: InstanceId, device: &Device) -> Error {
    let id = device.id();
    let message = format!("the guest does not let go of {id}");
    Error::new(Kind::Pending, "DEVICE_DETACH_FAILED", message)
        .with("instance_id", instance)
        .with("device_id", id)
}
