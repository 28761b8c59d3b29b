//! Rescue and Unrescue: the guest starts from another image, its own root disk beside it; and from its own again.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tracing::warn;

use super::{
    Action, devices,
    power_off::ends,
    power_on::{boots, redefines},
    standing::admitted,
};
use crate::{
    error::{Error, Kind, Result},
    host::Host,
    hypervisor::StartMode,
    model::{
        self, Event, EventKind, ImageSource, InstanceId, InstanceRecord, InstanceSpec, PowerState,
        Verb, Wanted,
    },
    step::{FetchImage, MakeRescueDisk, forget_rescue},
    task::Task,
};

/// Starts the guest from a rescue image.
#[derive(Clone, Debug)]
pub struct Rescue {
    /// Whose.
    pub instance: InstanceId,
    /// From what; none is the image that the instance was made from.
    pub image: Option<ImageSource>,
    /// Keyed hash of the request: tells a repeat from another rescue.
    pub fingerprint: String,
}

/// Starts a rescued guest from its own disk.
#[derive(Clone, Copy, Debug)]
pub struct Unrescue {
    /// Whose.
    pub instance: InstanceId,
    /// Whether nobody asked for it: its time is over. Then a guest that its owner has switched off stays off.
    pub by_itself: bool,
}

#[async_trait]
impl Action for Rescue {
    const VERB: Verb = Verb::Rescue;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let standing = admitted(task.host(), Self::VERB, self.instance).await?;
        if let Some(rescue) = &standing.record.rescue {
            return self.same(rescue);
        }
        // First all that leaves the guest alone.
        let record = self.rescued(task, &standing.record).await?;
        ends(task, self.instance, standing.power).await?;
        let record = boots(task, &record, StartMode::Running).await?;
        tell(
            task,
            self.instance,
            (EventKind::Rescued, PowerState::Running),
        )
        .await;
        task.keep(record.started(Wanted::Running));
        Ok(())
    }
}

impl Rescue {
    /// Whether the instance is rescued as is asked for.
    fn same(&self, rescue: &model::Rescue) -> Result<()> {
        if rescue.fingerprint == self.fingerprint {
            return Ok(());
        }
        let id = self.instance;
        let message = format!("instance {id} is rescued in another way; unrescue it first");
        Err(Error::new(Kind::Precondition, "INSTANCE_STATE", message).with("instance_id", id))
    }

    /// What it starts from: what was asked for, or else what its own root disk was made from.
    fn image(&self, spec: &InstanceSpec) -> Result<ImageSource> {
        let image = self.image.as_ref().or(spec.image.as_ref());
        image.cloned().ok_or_else(|| {
            let why = "is required: the root disk is a volume, not made from an image";
            devices::invalid("image", why.to_owned())
        })
    }

    /// Makes the rescue disk. Answers with the instance as it is with that.
    async fn rescued(
        &self,
        task: &mut Task,
        record: &Arc<InstanceRecord>,
    ) -> Result<InstanceRecord> {
        let (host, instance) = (task.host().clone(), self.instance);
        let fetch = FetchImage {
            instance,
            image: Some(self.image(&record.spec)?),
            kernel: None,
            before: record.images.clone(),
        };
        let fetched = task.run(fetch).await?;
        let missing = || Error::internal("nothing to make a rescue disk from");
        let base = fetched.base.ok_or_else(missing)?;
        let size = base.virtual_size;
        let disk = MakeRescueDisk::new(&host, instance, base);
        task.run(disk).await?;
        let since = SystemTime::now();
        Ok(InstanceRecord {
            rescue: Some(model::Rescue {
                since,
                until: host.plan.rescue_timeout.and_then(|t| since.checked_add(t)),
                fingerprint: self.fingerprint.clone(),
                image: fetched.keys.first().cloned().unwrap_or_default(),
                size,
            }),
            ..(**record).clone()
        })
    }
}

#[async_trait]
impl Action for Unrescue {
    const VERB: Verb = Verb::Unrescue;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let standing = admitted(task.host(), Self::VERB, self.instance).await?;
        if standing.already {
            return Ok(());
        }
        let record = InstanceRecord {
            rescue: None,
            ..(*standing.record).clone()
        };
        ends(task, self.instance, standing.power).await?;
        if self.by_itself && record.wanted == Wanted::Off {
            let record = redefines(task, &record).await?;
            tell(
                task,
                self.instance,
                (EventKind::Unrescued, PowerState::Shutdown),
            )
            .await;
            task.keep(record);
            return Ok(());
        }
        let record = boots(task, &record, StartMode::Running).await?;
        tell(
            task,
            self.instance,
            (EventKind::Unrescued, PowerState::Running),
        )
        .await;
        task.keep(record.started(Wanted::Running));
        Ok(())
    }

    /// The rescue disk goes when no way back can need it any more; what a crash leaves of it goes at the next start.
    async fn tidy(&self, host: &Host) {
        let record = host.store.instance(self.instance);
        let plain = record.filter(|record| record.rescue.is_none());
        if let Some(Err(e)) = plain.map(|record| forget_rescue(host, &record)) {
            warn!(instance = %self.instance, error = %e, "the rescue disk is left until the next start");
        }
    }
}

async fn tell(task: &Task, instance: InstanceId, (kind, power): (EventKind, PowerState)) {
    task.host()
        .journal
        .tell(Event::of(instance, kind).power(power))
        .await;
}
