//! `computectl volume create-snapshot` and `delete-snapshot`: files that a storage service puts over a volume.

use clap::Args;
use computedriver_client::v1;
use serde_json::json;
use uuid::Uuid;

use crate::args::Session;
use crate::exit::Failure;
use crate::json;
use crate::long::Long;
use crate::out::Out;

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// UUID of the instance.
    instance: String,
    /// The storage service's UUID of the volume.
    volume: Uuid,
    /// Name of the new file beside the volume's own: empty, qcow2, and over that.
    file: String,
    /// The storage service's UUID of the snapshot. Default: a new one.
    #[arg(long)]
    snapshot_id: Option<Uuid>,
    /// Freeze the guest's file systems for it.
    #[arg(long)]
    quiesce: bool,
}

pub(crate) async fn create(
    args: CreateArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let snapshot_id = args.snapshot_id.unwrap_or_else(Uuid::new_v4).to_string();
    let request = v1::CreateVolumeSnapshotRequest {
        instance_id: args.instance,
        request_id: Uuid::new_v4().to_string(),
        volume_id: args.volume.to_string(),
        snapshot_id: snapshot_id.clone(),
        new_file: args.file,
        quiesce: args.quiesce,
    };
    let client = session.connect().await?;
    let answer = client.devices().create_volume_snapshot(request).await?;
    let answer = answer.into_inner();
    if out.is_json() {
        let view = json::view("CreateVolumeSnapshotResponse", &answer);
        let told = json!({ "snapshot_id": snapshot_id, "snapshotted": view });
        return Ok(out.object(&told)?);
    }
    let how = if answer.quiesced { ", frozen" } else { "" };
    Ok(out.line(format_args!("snapshot {snapshot_id} made{how}"))?)
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// UUID of the instance.
    instance: String,
    /// The storage service's UUID of the volume.
    volume: Uuid,
    /// The storage service's UUID of the snapshot.
    snapshot: Uuid,
    /// Name of the file that goes.
    file: String,
    /// Name of the file that takes its content. Default: the one that rests on it.
    #[arg(long)]
    into: Option<String>,
}

pub(crate) async fn delete(
    args: DeleteArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let look = format!("computectl volume list {}", args.instance);
    let request = v1::DeleteVolumeSnapshotRequest {
        instance_id: args.instance,
        request_id: Uuid::new_v4().to_string(),
        volume_id: args.volume.to_string(),
        snapshot_id: args.snapshot.to_string(),
        file_to_merge: args.file.clone(),
        merge_target_file: args.into.unwrap_or_default(),
    };
    let client = session.connect().await?;
    let long = Long {
        look,
        follow: client.follow(request),
        limit: session.limit(),
    };
    let deleted = long.run(out).await?;
    if out.is_json() {
        let view = json::view("VolumeSnapshotDeleted", &deleted);
        return Ok(out.object(&json!({ "deleted": view }))?);
    }
    let how = if deleted.absent {
        "no disk rests on"
    } else {
        "not needed any more:"
    };
    Ok(out.line(format_args!("{how} {}", args.file))?)
}
