//! Reversible changes to the host, each with the way back beside it.

mod again;
pub mod aside;
mod claim;
mod definition;
mod device;
pub(crate) mod disks;
mod export;
mod forward;
mod guest;
mod image;
pub mod inside;
mod merge;
mod mirror;
mod overlay;
mod power;
mod rescue;
mod resize;
mod save;
mod secret;
pub mod vifs;

pub use again::{found, has_moved, places};
pub use aside::SetAside;
pub use claim::{ClaimResources, ClaimRoot};
pub use definition::{RedefineGuest, domain_of, plan_of};
pub use device::{AttachDevice, DetachDevice, Pace, ResizeDisk};
pub use disks::{CreateDisks, CreatedDisks, WriteConfigDrive};
pub use export::{CopyDisk, PlaceImage, Thaw, UploadImage};
pub use forward::{Forward, forward};
pub use guest::{DefineGuest, StartGuest};
pub use image::{FetchImage, Fetched};
pub use inside::{FreezeGuest, UpdateFolder, WriteGuestFile};
pub use merge::{Cold, MergeFiles, MergeLayers};
pub use mirror::{MirrorDisk, PivotDisk};
pub use overlay::OverlayDisk;
pub use power::{PauseGuest, ReturnGuest, StopGuest, UnpauseGuest};
pub use rescue::{MakeRescueDisk, forget_rescue};
pub use resize::{ChangeClaim, GrowDisk, PlugVcpus};
pub use save::{DiscardMemory, RestoreGuest, SaveGuest};
pub use secret::{KeepSecret, ReplaceSecret};
pub use vifs::{PlugVifs, UnplugVif};

use crate::{
    error::{Error, Result},
    store::BegunStep,
    task::{Begun, Step},
};

/// Reads back a step that was written down.
///
/// # Errors
/// When this computelet does not know it: it was written by a newer one.
pub fn read(row: &BegunStep) -> Result<Begun> {
    match row.name.as_str() {
        ClaimResources::NAME => Begun::read::<ClaimResources>(row),
        ClaimRoot::NAME => Begun::read::<ClaimRoot>(row),
        FetchImage::NAME => Begun::read::<FetchImage>(row),
        CreateDisks::NAME => Begun::read::<CreateDisks>(row),
        WriteConfigDrive::NAME => Begun::read::<WriteConfigDrive>(row),
        PlugVifs::NAME => Begun::read::<PlugVifs>(row),
        DefineGuest::NAME => Begun::read::<DefineGuest>(row),
        StartGuest::NAME => Begun::read::<StartGuest>(row),
        RedefineGuest::NAME => Begun::read::<RedefineGuest>(row),
        AttachDevice::NAME => Begun::read::<AttachDevice>(row),
        DetachDevice::NAME => Begun::read::<DetachDevice>(row),
        MirrorDisk::NAME => Begun::read::<MirrorDisk>(row),
        MergeLayers::NAME => Begun::read::<MergeLayers>(row),
        MergeFiles::NAME => Begun::read::<MergeFiles>(row),
        OverlayDisk::NAME => Begun::read::<OverlayDisk>(row),
        PivotDisk::NAME => Begun::read::<PivotDisk>(row),
        ResizeDisk::NAME => Begun::read::<ResizeDisk>(row),
        UnplugVif::NAME => Begun::read::<UnplugVif>(row),
        PauseGuest::NAME => Begun::read::<PauseGuest>(row),
        UnpauseGuest::NAME => Begun::read::<UnpauseGuest>(row),
        CopyDisk::NAME => Begun::read::<CopyDisk>(row),
        PlaceImage::NAME => Begun::read::<PlaceImage>(row),
        UploadImage::NAME => Begun::read::<UploadImage>(row),
        ReturnGuest::NAME => Begun::read::<ReturnGuest>(row),
        MakeRescueDisk::NAME => Begun::read::<MakeRescueDisk>(row),
        KeepSecret::NAME => Begun::read::<KeepSecret>(row),
        ReplaceSecret::NAME => Begun::read::<ReplaceSecret>(row),
        SaveGuest::NAME => Begun::read::<SaveGuest>(row),
        DiscardMemory::NAME => Begun::read::<DiscardMemory>(row),
        RestoreGuest::NAME => Begun::read::<RestoreGuest>(row),
        SetAside::NAME => Begun::read::<SetAside>(row),
        ChangeClaim::NAME => Begun::read::<ChangeClaim>(row),
        PlugVcpus::NAME => Begun::read::<PlugVcpus>(row),
        GrowDisk::NAME => Begun::read::<GrowDisk>(row),
        StopGuest::NAME => Begun::read::<StopGuest>(row),
        WriteGuestFile::NAME => Begun::read::<WriteGuestFile>(row),
        UpdateFolder::NAME => Begun::read::<UpdateFolder>(row),
        FreezeGuest::NAME => Begun::read::<FreezeGuest>(row),
        other => Err(Error::internal(format!(
            "the store names a step {other:?} that this version does not know"
        ))),
    }
}
