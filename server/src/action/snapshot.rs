//! Snapshot: an image of the root disk as it is at one moment; the instance stays as it is.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    Action, devices,
    standing::{Standing, admitted},
    still::{Still, Wish},
};
use crate::{
    domain::Format,
    error::{Error, Kind, Result},
    export::Exported,
    host::Host,
    model::{Bytes, InstanceId, PowerState, Secret, Verb},
    plan::DiskRole,
    step::{CopyDisk, PauseGuest, PlaceImage, UnpauseGuest, UploadImage, plan_of},
    sys::file,
    task::Task,
};

/// What a copy in the making is called, in the instance's folder.
const COPY: &str = "snapshot.img";

/// Makes an image of the root disk.
#[derive(Debug)]
pub struct Snapshot {
    /// Whose.
    pub instance: InstanceId,
    /// Where it goes.
    pub to: Destination,
    /// What it becomes.
    pub format: Format,
    /// Whether the guest runs meanwhile.
    pub live: bool,
}

/// Where an image goes.
#[derive(Debug)]
pub enum Destination {
    /// A file that is not there yet.
    File(PathBuf),
    /// An image service.
    Upload {
        /// Its address for this image.
        url: String,
        /// What it is told of us.
        authorization: Option<Secret<String>>,
    },
}

/// What a caller is told of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshotted {
    /// Its length.
    pub size: Bytes,
    /// Its checksum, in hexadecimal.
    pub sha256: String,
    /// Its format.
    pub format: Format,
    /// Whether the guest's file systems were frozen for it.
    pub quiesced: bool,
}

#[async_trait]
impl Action for Snapshot {
    const VERB: Verb = Verb::Snapshot;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        if let Destination::File(to) = &self.to {
            host.exports.check(to)?;
        }
        let mut copy = self.copy(&host, &standing).await?;
        let from = copy.file(&host);
        // A crash may have kept an earlier one from being tidied away.
        file::remove(&from).map_err(|e| Error::internal(format!("an old copy: {e}")))?;
        let wish = Wish {
            required: standing.record.spec.properties.require_quiesce,
            live: self.live,
        };
        let still = Still::hold(task, &standing, wish).await?;
        copy.frozen = still.frozen;
        let on = copy.target.is_some();
        let stops = !self.live && standing.power == PowerState::Running;
        if stops {
            task.run(PauseGuest { instance }).await?;
        }
        let quiesced = task.run(copy).await?;
        if on {
            still.check(quiesced)?;
        }
        if stops {
            task.run(UnpauseGuest { instance }).await?;
            still.release(&host).await?;
        }
        let Exported { size, sha256 } = self.bring(task, from).await?;
        task.answer(&Snapshotted {
            size,
            sha256: hex::encode(sha256),
            format: self.format,
            quiesced,
        })
    }

    async fn tidy(&self, host: &Host) {
        tidy(host, self.instance);
    }
}

/// Removes the copy and the note beside it: until the end is written down, they say what is to be taken back.
pub(super) fn tidy(host: &Host, instance: InstanceId) {
    let copy = host.paths.instance(instance).join(COPY);
    let tidied = host.exports.forget(&copy).is_ok() && file::remove(&copy).is_ok();
    if !tidied {
        tracing::warn!(%instance, "a copy of a disk is left until the next start");
    }
}

impl Snapshot {
    /// Brings the copy to where it was asked for.
    async fn bring(&self, task: &mut Task, from: PathBuf) -> Result<Exported> {
        match &self.to {
            Destination::File(to) => {
                let to = to.clone();
                task.run(PlaceImage { from, to }).await
            }
            Destination::Upload { url, authorization } => {
                let upload = UploadImage {
                    from,
                    url: url.clone(),
                    authorization: authorization.clone(),
                };
                task.run(upload).await
            }
        }
    }

    async fn copy(&self, host: &Host, standing: &Standing) -> Result<CopyDisk> {
        let spec = &standing.record.spec;
        if spec.root_volume().is_some() {
            let why = "is not this host's to copy: have its storage service make a snapshot of the volume";
            return Err(devices::root_volume(spec, why));
        }
        let plan = plan_of(host, &standing.record).await?;
        let root = plan.disks.iter().find(|disk| disk.role == DiskRole::Root);
        let root = root.ok_or_else(|| {
            let message = "the instance has no root disk of this host's own";
            Error::new(Kind::Precondition, "NOT_SUPPORTED", message)
        })?;
        let on = matches!(standing.power, PowerState::Running | PowerState::Paused);
        Ok(CopyDisk {
            instance: self.instance,
            disk: root.file_name.clone(),
            disk_format: root.format,
            target: on.then(|| root.target.clone()),
            file_name: COPY.to_owned(),
            format: self.format,
            frozen: None,
        })
    }
}
