//! Rebuild: the root disk is made anew from an image, under the same id and with the same interfaces. What was there is
//! kept until the new guest runs.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use super::{
    Action, devices,
    power_off::ends,
    power_on::boots,
    spawn::{boot, too_small},
    standing::admitted,
};
use crate::{
    error::Result,
    host::{Claim, Host},
    hypervisor::StartMode,
    model::{
        Bytes, DirectKernel, ImageProperties, ImageSource, InjectedFile, InstanceId,
        InstanceRecord, InstanceSpec, NicModel, Phase, Secret, Verb, WaitFor, Wanted,
    },
    plan::{self, DiskRole, Plan},
    step::{
        ChangeClaim, CreateDisks, FetchImage, Fetched, SetAside, WriteConfigDrive, aside, disks,
        plan_of,
    },
    task::Task,
};

/// Makes an instance anew.
#[derive(Clone, Debug)]
pub struct Rebuild {
    /// Which one.
    pub instance: InstanceId,
    /// What it is made of.
    pub image: NewImage,
    /// What the guest is told.
    pub told: NewWords,
    /// Whether the disks beside the root disk stay.
    pub preserve_ephemeral: bool,
    /// What the caller waits for beyond RUNNING.
    pub wait_for: Option<WaitFor>,
}

/// What an instance is made of anew.
#[derive(Clone, Debug)]
pub struct NewImage {
    /// What its root disk is made of.
    pub source: ImageSource,
    /// What the image says about the machine.
    pub properties: ImageProperties,
    /// Kernel and ramdisk that QEMU loads itself.
    pub kernel: Option<DirectKernel>,
    /// The interfaces' model, when the image asks for one.
    pub nic: Option<NicModel>,
    /// Whether it needs a config drive.
    pub config_drive: bool,
}

/// What the guest is told anew. Secrets among it are not stored.
#[derive(Clone, Default)]
pub struct NewWords {
    /// Files for the config drive.
    pub injected_files: Vec<InjectedFile>,
    /// For cloud-init.
    pub user_data: Vec<u8>,
    /// Keys that may log in; none are those of before.
    pub public_keys: Vec<String>,
    /// Password of the guest's administrator.
    pub admin_password: Option<Secret<String>>,
    /// The caller's own words; none are those of before.
    pub metadata: BTreeMap<String, String>,
}

impl std::fmt::Debug for NewWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewWords { .. }")
    }
}

impl NewWords {
    /// Whether only a config drive can tell them.
    fn need_drive(&self) -> bool {
        let quiet = self.injected_files.is_empty()
            && self.user_data.is_empty()
            && self.admin_password.is_none();
        !quiet
    }
}

impl Rebuild {
    /// The instance as asked for now, secrets included.
    fn spec(&self, before: &InstanceSpec) -> InstanceSpec {
        let (image, told) = (self.image.clone(), self.told.clone());
        let mut spec = before.clone();
        spec.config_drive |= image.config_drive || told.need_drive();
        spec.image = Some(image.source);
        spec.properties = image.properties;
        spec.kernel = image.kernel;
        for vif in &mut spec.vifs {
            vif.model = image.nic.unwrap_or(vif.model);
        }
        spec.injected_files = told.injected_files;
        spec.user_data = told.user_data;
        spec.admin_password = told.admin_password;
        if !told.public_keys.is_empty() {
            spec.public_keys = told.public_keys;
        }
        if !told.metadata.is_empty() {
            spec.metadata = told.metadata;
        }
        spec.wait_for.clone_from(&self.wait_for);
        spec
    }

    async fn fetch(&self, task: &mut Task, before: &InstanceRecord) -> Result<Fetched> {
        task.run(FetchImage {
            instance: self.instance,
            image: Some(self.image.source.clone()),
            kernel: self.image.kernel.clone(),
            before: before.images.clone(),
        })
        .await
    }

    /// The root disk's size: the flavor's, or else the image's own.
    async fn root(&self, task: &mut Task, sizes: (&InstanceRecord, Bytes)) -> Result<Bytes> {
        let (before, image) = sizes;
        let spec = &before.spec;
        let old = before.root.or(spec.flavor.root).unwrap_or_default();
        let root = match spec.flavor.root {
            // It may have grown since.
            Some(root) => root.max(old),
            None => image,
        };
        if root < image {
            return Err(too_small(image, root).in_phase(Phase::FetchImage));
        }
        if root != old {
            task.run(ChangeClaim {
                instance: self.instance,
                before: Claim::of(spec, old),
                after: Claim::of(spec, root),
                limits: spec.limits.clone(),
            })
            .await?;
        }
        Ok(root)
    }

    /// Makes the disks in place of those that were there.
    async fn disks(
        &self,
        task: &mut Task,
        (plan, spec): (&Plan, InstanceSpec),
        (fetched, root): (&Fetched, Bytes),
    ) -> Result<()> {
        let mut made = CreateDisks::new(plan, fetched, root);
        made.beside = true;
        let stays = |role| role != DiskRole::Root && self.preserve_ephemeral;
        made.disks.retain(|disk| !stays(disk.role));
        let drive = plan.disks.iter().find(|d| d.role == DiskRole::ConfigDrive);
        let names = made.disks.iter().chain(drive).map(|d| d.file_name.clone());
        let kernel = [disks::KERNEL, disks::RAMDISK].map(str::to_owned);
        let about = (self.instance, task.report().record().id);
        let aside = SetAside::new(task.host(), about, names.chain(kernel))?;
        task.run(aside).await?;
        task.run(made).await?;
        if let Some(drive) = WriteConfigDrive::new(Arc::new(spec), plan) {
            task.run(drive).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Action for Rebuild {
    const VERB: Verb = Verb::Rebuild;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        let before = &standing.record;
        if before.spec.root_volume().is_some() {
            let why = "is not this host's to make anew: power the instance off, have the storage service write the image to the volume, and power it on";
            return Err(devices::root_volume(&before.spec, why));
        }
        let spec = self.spec(&before.spec);
        plan::fits(&spec)?;
        let mut after = InstanceRecord {
            spec: spec.without_secrets(),
            ..(**before).clone()
        };
        // What this host cannot honour is said before anything is fetched.
        let plan = plan_of(&host, &after).await?;
        let fetched = self.fetch(task, before).await?;
        let size = fetched.base.as_ref().map(|base| base.virtual_size);
        let root = self.root(task, (before, size.unwrap_or_default())).await?;
        after.root = Some(root);
        after.images.clone_from(&fetched.keys);
        ends(task, instance, standing.power).await?;
        self.disks(task, (&plan, spec), (&fetched, root)).await?;
        let from = boot::Before::start(task, instance).await?;
        let after = boots(task, &after, StartMode::Running).await?;
        if let Some(wait_for) = &self.wait_for {
            boot::wait(task, instance, (wait_for, from)).await?;
        }
        task.keep(after.started(Wanted::Running));
        Ok(())
    }

    async fn tidy(&self, host: &Host) {
        if let Some(record) = host.store.instance(self.instance) {
            host.keeps_images(self.instance, &record.images);
        }
        tidy(host, self.instance);
    }
}

/// Removes the old disks.
pub(super) fn tidy(host: &Host, instance: InstanceId) {
    if let Err(e) = aside::remove(&host.paths.instance(instance)) {
        tracing::warn!(%instance, error = %e, "an old disk is left until the next start");
    }
}
