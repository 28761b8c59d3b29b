//! CreateVolumeSnapshot and DeleteVolumeSnapshot.

use computedriver::v1;
use tonic::Request;

use super::super::{
    Api,
    convert::Faults,
    status::status,
    work::{Reply, Streamed},
};
use crate::{
    action::{CreateVolumeSnapshot, DeleteVolumeSnapshot, DeletedBefore, VolumeSnapshotted},
    model::{OperationRecord, SnapshotId, VolumeId},
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

type Merge = (VolumeId, SnapshotId, (String, Option<String>));

fn delete(faults: &mut Faults, asked: &mut v1::DeleteVolumeSnapshotRequest) -> Option<Merge> {
    let volume = faults.take("volume_id", asked.volume_id.parse());
    let snapshot = faults.take("snapshot_id", asked.snapshot_id.parse());
    let gone = file(faults, "file_to_merge", &asked.file_to_merge);
    let into = match asked.merge_target_file.as_str() {
        "" => Some(None),
        name => file(faults, "merge_target_file", name).map(Some),
    };
    Some((volume?, snapshot?, (gone?, into?)))
}

impl Api {
    pub(super) async fn do_delete_volume_snapshot(
        &self,
        request: Request<v1::DeleteVolumeSnapshotRequest>,
    ) -> Streamed<v1::DeleteVolumeSnapshotResponse> {
        let (asked, (volume, snapshot, (file, target))) =
            self.asked(request, delete).map_err(|e| status(&e))?;
        let action = DeleteVolumeSnapshot {
            instance: asked.id,
            volume,
            snapshot,
            file,
            target,
        };
        let last = move |_: Api, ended: OperationRecord| async move {
            let DeletedBefore { absent } = ended.answer()?;
            let snapshot_id = snapshot.to_string();
            Ok(v1::VolumeSnapshotDeleted {
                snapshot_id,
                absent,
            })
        };
        self.told(asked, action, last).await
    }

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
