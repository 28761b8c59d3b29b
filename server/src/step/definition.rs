//! An instance's definition, made anew from its record, and put in place of the one it has.

use std::{collections::BTreeMap, io::Write};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    domain::Domain,
    error::{Error, Result},
    host::Host,
    image::{Base, Filesystem, ImageKey},
    model::{DiskId, InstanceId, InstanceRecord, Phase},
    plan::{self, DEFINITION, DiskRole, Placed, Plan},
    sys::file::{Durable, Part},
    task::{Cx, Step},
    vif::Plugged,
};

/// The label of every ephemeral disk's file system.
pub(super) const EPHEMERAL: &str = "ephemeral0";

/// The plan of an instance that is there: a function of its record.
///
/// # Errors
/// When the hypervisor cannot be asked, or this host's settings no longer go with the spec.
pub async fn plan_of(host: &Host, record: &InstanceRecord) -> Result<Plan> {
    let capabilities = host.hypervisor.capabilities().await?;
    Ok(plan::of(record, &capabilities, &host.plan)?)
}

/// The domain of an instance that is there, its disks placed and its interfaces plugged.
///
/// # Errors
/// Those of [`plan_of`]; and when what its disks rest on is not in the cache any more.
pub async fn domain_of(
    host: &Host,
    record: &InstanceRecord,
    plan: &Plan,
    plugged: &[Plugged],
) -> Result<Domain> {
    let folder = host.paths.instance(record.spec.id);
    let kernel = record.spec.kernel.as_ref();
    let ramdisk = kernel.and_then(|direct| direct.ramdisk.as_ref());
    let placed = Placed {
        backing: backing(host, record, plan).await?,
        kernel: kernel.map(|_| folder.join(super::disks::KERNEL)),
        ramdisk: ramdisk.map(|_| folder.join(super::disks::RAMDISK)),
        created: record.created,
        folder,
    };
    Ok(plan::assemble(plan, &placed, plugged)?)
}

/// What the disks rest on, of those that rest on something.
async fn backing(
    host: &Host,
    record: &InstanceRecord,
    plan: &Plan,
) -> Result<BTreeMap<DiskId, Base>> {
    let mut backing = BTreeMap::new();
    for disk in &plan.disks {
        let base = match disk.role {
            DiskRole::Root => Some(base(host, record.images.first())?),
            DiskRole::Rescue => {
                let rescue = record.rescue.as_ref();
                Some(base(host, rescue.map(|rescue| &rescue.image))?)
            }
            DiskRole::Ephemeral => {
                let size = disk.size.unwrap_or_default();
                Some(
                    host.images
                        .formatted(Filesystem::Ext4, EPHEMERAL, size)
                        .await?,
                )
            }
            DiskRole::Swap | DiskRole::Blank | DiskRole::ConfigDrive | DiskRole::Volume => None,
        };
        if let Some(base) = base {
            backing.insert(disk.id.clone(), base);
        }
    }
    Ok(backing)
}

fn base(host: &Host, key: Option<&String>) -> Result<Base> {
    let key = key.and_then(|key| ImageKey::read(key));
    let base = key.and_then(|key| host.images.base(&key));
    base.ok_or_else(|| Error::internal("what a disk rests on is not in the cache any more"))
}

/// Puts another definition in place of the one that the instance has.
#[derive(Debug, Serialize, Deserialize)]
pub struct RedefineGuest {
    /// Whose.
    pub instance: InstanceId,
    /// The definition as it was, for the way back; none when there was none.
    pub before: Option<String>,
    /// The new one; not needed for the way back.
    #[serde(skip)]
    pub domain: Option<Domain>,
}

impl RedefineGuest {
    /// Puts `domain` in place of what the instance has now.
    pub fn new(host: &Host, domain: Domain) -> Self {
        let path = host.paths.instance(domain.id).join(DEFINITION);
        Self {
            instance: domain.id,
            before: std::fs::read_to_string(path).ok(),
            domain: Some(domain),
        }
    }
}

#[async_trait]
impl Step for RedefineGuest {
    type Output = ();
    const NAME: &'static str = "redefine guest";
    const PHASE: Phase = Phase::Define;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let Some(domain) = &self.domain else {
            return Err(Error::internal("nothing to define"));
        };
        write(cx.host, self.instance, &domain.to_xml())?;
        Ok(cx.host.hypervisor.define(domain).await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        let Some(before) = &self.before else {
            return Ok(());
        };
        write(host, self.instance, before)?;
        let again = host.hypervisor.define_again(self.instance, before.clone());
        Ok(again.await?)
    }
}

/// Keeps the definition in the instance's folder, as it is given to the hypervisor.
pub(super) fn write(host: &Host, instance: InstanceId, xml: &str) -> Result<()> {
    let path = host.paths.instance(instance).join(DEFINITION);
    let write = || {
        let part = Part::create(&path)?;
        part.file().write_all(xml.as_bytes())?;
        part.keep(Durable::Lazily)
    };
    // A few kB to the page cache: shorter than a hop to another thread.
    write().map_err(|e| Error::internal(format!("the definition cannot be written: {e}")))
}
