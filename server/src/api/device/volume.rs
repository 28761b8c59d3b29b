//! AttachVolume, DetachVolume and ExtendVolume.

use computedriver::v1;
use tonic::Request;

use super::super::{Api, convert, convert::Faults, status::status, work::Reply};
use crate::{
    action::{AttachVolume, DetachVolume, DetachedBefore, ExtendVolume, Which},
    error::Error,
    model::{BlockDevice, Bytes, DiskId, InstanceId},
    step::Pace,
};

fn device(faults: &mut Faults, asked: &mut v1::AttachVolumeRequest) -> Option<BlockDevice> {
    let Some(device) = asked.device.take() else {
        faults.wrong("device", "is required");
        return None;
    };
    if device.boot_index.is_some() {
        faults.wrong(
            "device.boot_index",
            "must not be set: nothing boots from it",
        );
    }
    let is_volume = matches!(device.source, Some(v1::block_device::Source::Volume(_)));
    if !is_volume {
        faults.wrong("device.source", "must be a volume");
        return None;
    }
    let device = v1::BlockDevice {
        boot_index: None,
        ..device
    };
    convert::block_device(faults, "device", device)
}

fn which(faults: &mut Faults, asked: &mut v1::DetachVolumeRequest) -> Option<Which> {
    use v1::detach_volume_request::Disk;
    match asked.disk.take() {
        Some(Disk::DiskId(id)) => faults.take("disk_id", id.parse()).map(Which::Disk),
        Some(Disk::VolumeId(id)) => faults.take("volume_id", id.parse()).map(Which::Volume),
        None => {
            faults.wrong("disk", "is required, as disk_id or volume_id");
            None
        }
    }
}

/// Whole sectors: no disk has half of one.
const SECTOR: u64 = 512;

fn grown(faults: &mut Faults, asked: &mut v1::ExtendVolumeRequest) -> Option<(DiskId, Bytes)> {
    let disk = faults.take("disk_id", asked.disk_id.parse());
    if asked.size_bytes == 0 || !asked.size_bytes.is_multiple_of(SECTOR) {
        faults.wrong("size_bytes", "must be a multiple of 512, and not 0");
    }
    Some((disk?, Bytes(asked.size_bytes)))
}

impl Api {
    pub(super) async fn do_extend_volume(
        &self,
        request: Request<v1::ExtendVolumeRequest>,
    ) -> Reply<v1::ExtendVolumeResponse> {
        let read = self.asked(request, grown);
        let (asked, (disk, size)) = read.map_err(|e| status(&e))?;
        let (instance, id) = (asked.id, disk.to_string());
        let action = ExtendVolume {
            instance,
            disk,
            size,
        };
        self.done(asked, action).await?;
        let disk = self.disk(instance, &id).await.map_err(|e| status(&e))?;
        Ok(v1::ExtendVolumeResponse { disk }.into())
    }

    pub(super) async fn do_attach_volume(
        &self,
        request: Request<v1::AttachVolumeRequest>,
    ) -> Reply<v1::AttachVolumeResponse> {
        let validate_only = request.get_ref().validate_only;
        let read = self.asked(request, device);
        let (asked, device) = read.map_err(|e| status(&e))?;
        let (instance, disk_id) = (asked.id, device.id.to_string());
        let device = self.host.marked(&device);
        let action = AttachVolume { instance, device };
        if validate_only {
            action.check(&self.host).await.map_err(|e| status(&e))?;
            return Ok(v1::AttachVolumeResponse::default().into());
        }
        let ended = self.done(asked, action).await?;
        let disk = self.disk(instance, &disk_id).await;
        Ok(v1::AttachVolumeResponse {
            disk: disk.map_err(|e| status(&e))?,
            operation_id: ended.id.to_string(),
        }
        .into())
    }

    /// A disk of an instance; none when it has gone again.
    pub(super) async fn disk(
        &self,
        instance: InstanceId,
        id: &str,
    ) -> Result<Option<v1::Disk>, Error> {
        let mut disks = self.disks_of(instance).await?.into_iter();
        Ok(disks.find(|disk| disk.disk_id == id))
    }

    pub(super) async fn do_detach_volume(
        &self,
        request: Request<v1::DetachVolumeRequest>,
    ) -> Reply<v1::DetachVolumeResponse> {
        let (asked, which) = self.asked(request, which).map_err(|e| status(&e))?;
        let action = DetachVolume {
            instance: asked.id,
            which,
            pace: Pace::default(),
        };
        let ended = self.done(asked, action).await?;
        let DetachedBefore { absent } = ended.answer().map_err(|e| status(&e))?;
        Ok(v1::DetachVolumeResponse {
            absent,
            operation_id: ended.id.to_string(),
        }
        .into())
    }
}
