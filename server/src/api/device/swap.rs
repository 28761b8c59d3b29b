//! SwapVolume.

use computedriver::v1;
use tonic::Request;

use super::super::{Api, convert, convert::Faults, status::status, work::Streamed};
use crate::{
    action::SwapVolume,
    error::{Error, Result},
    model::{DiskId, OperationRecord, Volume},
};

/// Most MiB a second that can be asked for.
const FASTEST: u64 = 1 << 20;

fn wish(
    faults: &mut Faults,
    asked: &mut v1::SwapVolumeRequest,
) -> Option<(DiskId, Volume, Option<u64>)> {
    let disk = faults.take("disk_id", asked.disk_id.parse());
    let volume = match asked.new_volume.take() {
        Some(volume) => convert::volume(faults, "new_volume", volume),
        None => {
            faults.wrong("new_volume", "is required");
            None
        }
    };
    if asked.bandwidth_mib_sec > FASTEST {
        faults.wrong("bandwidth_mib_sec", "must be at most 1048576");
    }
    let bandwidth = Some(asked.bandwidth_mib_sec << 20).filter(|bytes| *bytes > 0);
    Some((disk?, volume?, bandwidth))
}

impl Api {
    pub(super) async fn do_swap_volume(
        &self,
        request: Request<v1::SwapVolumeRequest>,
    ) -> Streamed<v1::SwapVolumeResponse> {
        let read = self.asked(request, wish);
        let (asked, (disk, volume, bandwidth)) = read.map_err(|e| status(&e))?;
        let (instance, id) = (asked.id, disk.to_string());
        let action = SwapVolume {
            instance,
            disk,
            volume: self.host.marked_volume(&volume),
            bandwidth,
        };
        let last = move |api: Api, _: OperationRecord| {
            let id = id.clone();
            async move { swapped(&api, instance, &id).await }
        };
        self.told(asked, action, last).await
    }
}

async fn swapped(api: &Api, instance: crate::model::InstanceId, id: &str) -> Result<v1::Disk> {
    let disk = api.disk(instance, id).await?;
    disk.ok_or_else(|| Error::internal("the disk has been detached since"))
}
