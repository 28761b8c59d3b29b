//! An image is made of a disk, and brought to where it was asked for.

use std::{path::PathBuf, time::SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    inside,
    mirror::{Looks, end},
};
use crate::{
    domain::Format,
    error::{Error, Kind, Result},
    export::Exported,
    host::Host,
    hypervisor::copy::{Copied, DiskCopy},
    image::flatten,
    model::{Amount, InstanceId, Phase, Secret},
    sys::file,
    task::{Cx, Step, cancelled},
};

/// Copies a disk, whole, into a file of the instance's folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct CopyDisk {
    /// Whose.
    pub instance: InstanceId,
    /// The disk's own file, in the instance's folder.
    pub disk: String,
    /// Its format.
    pub disk_format: Format,
    /// Its name in the guest; none when the guest is off.
    pub target: Option<String>,
    /// The file to make, in the instance's folder.
    pub file_name: String,
    /// Its format.
    pub format: Format,
    /// Whether the guest's file systems are frozen for it, and when they thaw.
    #[serde(default)]
    pub frozen: Option<Thaw>,
}

/// When a guest that is frozen for a copy thaws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Thaw {
    /// As soon as the copy is of one moment.
    OnceBegun,
    /// Somebody else sees to that.
    Later,
}

impl CopyDisk {
    /// The file that it makes.
    pub fn file(&self, host: &Host) -> PathBuf {
        host.paths.instance(self.instance).join(&self.file_name)
    }

    /// QEMU copies, beside the guest's own work. Whether that was frozen at the copy's moment.
    async fn live(&self, cx: Cx<'_>, target: &str) -> Result<bool> {
        let copy = DiskCopy {
            target: target.to_owned(),
            file: self.file(cx.host),
            format: self.format,
        };
        cx.host.hypervisor.begin_copy(self.instance, &copy).await?;
        let known = cx
            .host
            .store
            .quiesced()
            .borrow()
            .get(&self.instance)
            .copied();
        // Its time may have been over before: then it was thawed, or is about to be.
        let in_time = known.is_some_and(|known| known.until > SystemTime::now());
        let frozen = self.frozen.is_some() && in_time;
        if self.frozen == Some(Thaw::OnceBegun) {
            inside::thaw(cx.host, self.instance).await?;
        }
        let mut looks = Looks::new(cx);
        loop {
            match cx.host.hypervisor.copied(self.instance).await? {
                Copied::Done => return Ok(frozen),
                Copied::Failed(why) if why.contains("No space left") => return Err(full()),
                Copied::Failed(why) => {
                    return Err(Error::internal(format!("the disk was not copied: {why}")));
                }
                Copied::Running { done, total } => looks.tell(done, total),
            }
            looks.later().await?;
        }
    }

    /// Nobody else has the disk open.
    async fn cold(&self, cx: Cx<'_>) -> Result<bool> {
        let disk = cx.host.paths.instance(self.instance).join(&self.disk);
        let (report, to) = (cx.report.clone(), self.file(cx.host));
        let show = move |percent| {
            report.advance(Phase::Copy, "", Some(Amount::Percent(percent)));
        };
        tokio::select! {
            done = flatten((&disk, self.disk_format), (&to, self.format), show) => Ok(done.map(|()| false)?),
            () = cx.cancel.cancelled() => Err(cancelled()),
        }
    }
}

fn full() -> Error {
    let message = "the disk cannot be copied: the file system is full";
    Error::new(Kind::Exhausted, "HOST_DISK_FULL", message)
}

#[async_trait]
impl Step for CopyDisk {
    /// Whether the guest's file systems were frozen at the copy's moment.
    type Output = bool;
    const NAME: &'static str = "copy disk";
    const PHASE: Phase = Phase::Copy;

    async fn apply(&self, cx: Cx<'_>) -> Result<bool> {
        match &self.target {
            Some(target) => self.live(cx, target).await,
            None => self.cold(cx).await,
        }
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        if let Some(target) = &self.target {
            host.hypervisor.abort_copy(self.instance).await?;
            // Of a copy that a crash has cut at its begin, nothing is left but the work on the disk.
            end(host, self.instance, target, false).await?;
        }
        file::remove(&self.file(host))
            .map_err(|e| Error::internal(format!("the copy cannot be removed: {e}")))
    }
}

/// Tells how much of an image is where it goes.
fn told(cx: Cx<'_>) -> impl Fn(u64, u64) + Send + Sync + use<> {
    let report = cx.report.clone();
    move |done, total| {
        let total = Some(total);
        report.advance(Phase::Upload, "", Some(Amount::Bytes { done, total }));
    }
}

/// Gives the copy the name that was asked for.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlaceImage {
    /// The copy.
    pub from: PathBuf,
    /// Where it should be.
    pub to: PathBuf,
}

#[async_trait]
impl Step for PlaceImage {
    type Output = Exported;
    const NAME: &'static str = "place image";
    const PHASE: Phase = Phase::Upload;

    async fn apply(&self, cx: Cx<'_>) -> Result<Exported> {
        let show = told(cx);
        Ok(cx.host.exports.place(&self.from, &self.to, show).await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        host.exports.take_back(&self.from, &self.to)?;
        Ok(host.exports.forget(&self.from)?)
    }
}

/// Sends the copy to an image service.
#[derive(Debug, Serialize, Deserialize)]
pub struct UploadImage {
    /// The copy.
    pub from: PathBuf,
    /// Where to; may hold secrets, and is not needed for the way back.
    #[serde(skip)]
    pub url: String,
    /// What it is told of us.
    #[serde(skip)]
    pub authorization: Option<Secret<String>>,
}

#[async_trait]
impl Step for UploadImage {
    type Output = Exported;
    const NAME: &'static str = "upload image";
    const PHASE: Phase = Phase::Upload;

    async fn apply(&self, cx: Cx<'_>) -> Result<Exported> {
        let show = told(cx);
        let to = (self.url.as_str(), self.authorization.as_ref());
        tokio::select! {
            sent = cx.host.exports.upload(&self.from, to, show) => Ok(sent?),
            () = cx.cancel.cancelled() => Err(cancelled()),
        }
    }

    /// What an image service has taken is its own; the caller, who named the image, removes it there.
    async fn revert(&self, _host: &Host) -> Result<()> {
        Ok(())
    }
}
