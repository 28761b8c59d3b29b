//! Spawn: a virtual machine from an image, phase by phase; on any failure the host is as it was.

pub(super) mod boot;
mod volumes;

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;

use crate::{
    action::Action,
    error::{Error, Kind, Result},
    host::{Claim, Host},
    hypervisor::{HypervisorError, StartMode},
    model::{
        Bytes, InstanceId, InstanceRecord, InstanceSpec, InstanceState, OperationId, Phase, Verb,
        Wanted,
    },
    plan::{self, Placed, Plan},
    step::{
        ClaimResources, ClaimRoot, CreateDisks, DefineGuest, FetchImage, Fetched, PlugVifs,
        StartGuest, WriteConfigDrive,
    },
    task::Task,
};

/// Makes an instance and starts it.
#[derive(Debug)]
pub struct Spawn {
    spec: Arc<InstanceSpec>,
    plan: Plan,
    fingerprint: String,
}

impl Spawn {
    /// Plans the spawn; touches nothing.
    ///
    /// # Errors
    /// When the hypervisor cannot be asked what it can do, or the spec asks for what it cannot.
    pub async fn new(host: &Host, spec: InstanceSpec, fingerprint: String) -> Result<Self> {
        let capabilities = host.hypervisor.capabilities().await?;
        let plan = plan::build(&spec, &capabilities, &host.plan)?;
        Ok(Self {
            spec: Arc::new(spec),
            plan,
            fingerprint,
        })
    }

    /// What the caller waits for, as text: a part of what makes two requests equal.
    pub fn wait_for(&self) -> String {
        format!("{:?}", self.spec.wait_for)
    }

    /// Whether the instance that is there is the one that is asked for.
    ///
    /// # Errors
    /// `INSTANCE_EXISTS` when it is another.
    pub fn same(record: &InstanceRecord, fingerprint: &str) -> Result<()> {
        if record.fingerprint == fingerprint {
            return Ok(());
        }
        let id = record.spec.id;
        let message = format!("instance {id} is here already, with another spec");
        Err(Error::new(Kind::Exists, "INSTANCE_EXISTS", message).with("instance_id", id))
    }

    /// Whether the host has room for it, and its volumes are there; takes nothing.
    ///
    /// # Errors
    /// Names every shortage.
    pub async fn check(&self, host: &Host) -> Result<()> {
        match host.store.instance(self.spec.id) {
            // Its volumes are its own by now.
            Some(record) => return Self::same(&record, &self.fingerprint),
            None => host.admit_instance()?,
        }
        let claim = Claim::of(&self.spec, self.root());
        host.claims.check(self.spec.id, claim, &self.spec.limits)?;
        volumes::look(host, &self.spec, &self.plan).await.map(drop)
    }

    /// Room for the root disk as far as it is known before the image is; a volume takes none.
    fn root(&self) -> Bytes {
        self.spec.flavor.root.unwrap_or(Bytes(0))
    }

    fn record(&self, operation: OperationId) -> InstanceRecord {
        InstanceRecord {
            spec: self.spec.without_secrets(),
            fingerprint: self.fingerprint.clone(),
            operation,
            state: InstanceState::Building,
            root: None,
            images: Vec::new(),
            created: SystemTime::now(),
            launched: None,
            wanted: Wanted::Running,
            rescue: None,
        }
    }

    async fn claim(&self, task: &mut Task, record: &InstanceRecord) -> Result<()> {
        let claim = Claim::of(&self.spec, self.root());
        let (limits, record) = (self.spec.limits.clone(), Some(record.clone()));
        task.run(ClaimResources {
            instance: self.spec.id,
            claim,
            limits,
            record,
        })
        .await
    }

    async fn fetch(&self, task: &mut Task) -> Result<Fetched> {
        let spec = &self.spec;
        if spec.image.is_none() && spec.kernel.is_none() {
            return Ok(Fetched::default());
        }
        let step = FetchImage {
            instance: spec.id,
            image: spec.image.clone(),
            kernel: spec.kernel.clone(),
            before: Vec::new(),
        };
        task.run(step).await
    }

    /// Size of the root disk: the flavor's, or else the image's own; none when it is a volume.
    async fn root_disk(&self, task: &mut Task, fetched: &Fetched) -> Result<Option<Bytes>> {
        let Some(image) = fetched.base.as_ref().map(|base| base.virtual_size) else {
            return Ok(None);
        };
        match self.spec.flavor.root {
            Some(root) if root < image => Err(too_small(image, root).in_phase(Phase::FetchImage)),
            Some(root) => Ok(Some(root)),
            None => {
                let (instance, limits) = (self.spec.id, self.spec.limits.clone());
                let claim = Claim::of(&self.spec, image);
                task.run(ClaimRoot {
                    whole: ClaimResources {
                        instance,
                        claim,
                        limits,
                        record: None,
                    },
                })
                .await?;
                Ok(Some(image))
            }
        }
    }
}

#[async_trait]
impl Action for Spawn {
    const VERB: Verb = Verb::Spawn;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.spec.id)
    }

    fn gives_way(&self) -> bool {
        true
    }

    fn admit(&self, host: &Host) -> Result<()> {
        match host.store.instance(self.spec.id) {
            None => host.admit_instance(),
            Some(record) => {
                Self::same(&record, &self.fingerprint)?;
                let message = format!(
                    "instance {} is left over from a failed operation; destroy it first",
                    self.spec.id
                );
                Err(Error::new(Kind::Precondition, "INSTANCE_STATE", message)
                    .with("instance_id", self.spec.id))
            }
        }
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let instance = self.spec.id;
        let mut record = self.record(task.report().record().id);
        no_stranger(task.host(), instance).await?;
        let _held = volumes::hold(task.host(), &self.spec)?;
        self.claim(task, &record).await?;
        let connected = volumes::connect(task, &self.spec, &self.plan).await?;
        let plan = &connected.plan;
        record.spec = connected.spec;
        let fetched = self.fetch(task).await?;
        let root = self.root_disk(task, &fetched).await?;
        // Written before anything rests on it: a guest that is adopted after a crash is told from this.
        record.root = root;
        record.images = fetched.keys.clone();
        task.host().store.put_instance(record.clone()).await?;
        let disks = CreateDisks::new(plan, &fetched, root.unwrap_or_default());
        let created = task.run(disks).await?;
        if let Some(drive) = WriteConfigDrive::new(self.spec.clone(), plan) {
            task.run(drive).await?;
        }
        let plugged = task.run(PlugVifs::new(plan)).await?;
        let folder = task.host().paths.instance(instance);
        let placed = Placed {
            folder,
            backing: created.backing,
            kernel: created.kernel,
            ramdisk: created.ramdisk,
            created: record.created,
        };
        let domain = plan::assemble(plan, &placed, &plugged)?;
        task.run(DefineGuest {
            instance,
            domain: Some(domain),
        })
        .await?;
        let before = boot::Before::start(task, instance).await?;
        let mode = StartMode::Running;
        task.run(StartGuest { instance, mode }).await?;
        task.report().mark(Phase::Running, "the guest runs");
        record.state = InstanceState::Active;
        record.launched = Some(SystemTime::now());
        if let Some(wait_for) = &self.spec.wait_for {
            boot::wait(task, instance, (wait_for, before)).await?;
        }
        task.keep(record);
        Ok(())
    }
}

/// The image does not fit the root disk.
pub(super) fn too_small(image: Bytes, root: Bytes) -> Error {
    let message = format!("the image's disk of {image} does not fit a root disk of {root}");
    let e = Error::new(Kind::Precondition, "FLAVOR_DISK_TOO_SMALL", message);
    e.with("image", image).with("root", root)
}

/// Refuses to build over a guest of ours that the store does not know, as after the store was lost: its disks would be
/// replaced beneath it, and an undo would take it away.
async fn no_stranger(host: &Host, id: InstanceId) -> Result<()> {
    match host.hypervisor.info(id).await {
        Err(HypervisorError::NotFound(_)) => Ok(()),
        Err(e) => Err(Error::from(e).in_phase(Phase::Claim)),
        Ok(_) => {
            let message = format!(
                "the hypervisor has a guest {id} that is not in the store; destroy it, or take another id"
            );
            let e = Error::new(Kind::Exists, "INSTANCE_EXISTS", message);
            Err(e.with("instance_id", id).in_phase(Phase::Claim))
        }
    }
}
