//! CreateVolumeSnapshot.

use computedriver::v1;
use tonic::Request;

use super::super::{Api, convert::Faults, status::status, work::Reply};
use crate::{
    action::{CreateVolumeSnapshot, VolumeSnapshotted},
    model::{SnapshotId, VolumeId},
};

/// A file's name without a folder.
fn file(faults: &mut Faults, field: &str, name: &str) -> Option<String> {
    let own = !matches!(name, "" | "." | "..") && !name.contains('/');
    if !own || name.len() > 255 {
        faults.wrong(field, "must be a file's name without folder");
        return None;
    }
    faults.text(field, name.to_owned(), 255)
}

type Wish = (VolumeId, SnapshotId, String);

fn create(faults: &mut Faults, asked: &mut v1::CreateVolumeSnapshotRequest) -> Option<Wish> {
    let volume = faults.take("volume_id", asked.volume_id.parse());
    let snapshot = faults.take("snapshot_id", asked.snapshot_id.parse());
    let file = file(faults, "new_file", &asked.new_file);
    Some((volume?, snapshot?, file?))
}

impl Api {
    pub(super) async fn do_create_volume_snapshot(
        &self,
        request: Request<v1::CreateVolumeSnapshotRequest>,
    ) -> Reply<v1::CreateVolumeSnapshotResponse> {
        let quiesce = request.get_ref().quiesce;
        let (asked, (volume, snapshot, file)) =
            self.asked(request, create).map_err(|e| status(&e))?;
        let action = CreateVolumeSnapshot {
            instance: asked.id,
            volume,
            snapshot,
            file,
            quiesce,
        };
        let ended = self.done(asked, action).await?;
        let VolumeSnapshotted { quiesced } = ended.answer().map_err(|e| status(&e))?;
        Ok(v1::CreateVolumeSnapshotResponse {
            quiesced,
            operation_id: ended.id.to_string(),
        }
        .into())
    }
}
