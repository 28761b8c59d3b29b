//! One recipe a verb: which steps, in which order.

mod attach_interface;
mod attach_volume;
mod crash_dump;
mod create_volume_snapshot;
mod delete_volume_snapshot;
mod destroy;
mod detach_interface;
mod detach_volume;
mod devices;
mod extend_volume;
mod guest_network;
mod host_power;
mod inject_file;
mod layers;
mod pause;
mod power_off;
mod power_on;
mod pull_image;
mod quiesce;
mod reboot;
mod rebuild;
mod remove_images;
mod rescue;
mod resize;
mod set_password;
mod snapshot;
mod spawn;
mod standing;
mod still;
mod suspend;
mod swap_volume;
#[cfg(test)]
mod tests;
mod update_agent;

use async_trait::async_trait;

use crate::{
    error::Result,
    host::Host,
    model::{InstanceId, Verb},
    task::Task,
};

pub use attach_interface::AttachInterface;
pub use attach_volume::AttachVolume;
pub use crash_dump::TriggerCrashDump;
pub use create_volume_snapshot::{CreateVolumeSnapshot, VolumeSnapshotted};
pub use delete_volume_snapshot::{DeleteVolumeSnapshot, DeletedBefore};
pub use destroy::Destroy;
pub use detach_interface::DetachInterface;
pub use detach_volume::{DetachVolume, DetachedBefore, Which};
pub use extend_volume::ExtendVolume;
pub use guest_network::{InjectNetworkInfo, ResetNetwork};
pub use host_power::{HostPower, PowerVerb};
pub use inject_file::InjectFile;
pub use pause::{Pause, Unpause};
pub use power_off::{Patience, PowerOff, PoweredOff};
pub use power_on::{BringBack, PowerOn, is_off};
pub use pull_image::PullImage;
pub use quiesce::{Frozen, Quiesce, Thawed, Unquiesce};
pub use reboot::Reboot;
pub use rebuild::{NewImage, NewWords, Rebuild};
pub use remove_images::{PruneImages, RemoveImage, RemovedImages, Wanted as WantedImage};
pub use rescue::{Rescue, Unrescue};
pub use resize::Resize;
pub use set_password::SetAdminPassword;
pub use snapshot::{Destination, Snapshot, Snapshotted};
pub use spawn::Spawn;
pub use suspend::{Resume, Suspend};
pub use swap_volume::SwapVolume;
pub use update_agent::{UpdateAgent, Updated};

/// Removes whatever changes of an instance kept for their way back: for a start, when none of them is to be taken back.
pub fn tidy(host: &Host, instance: InstanceId) {
    snapshot::tidy(host, instance);
    rebuild::tidy(host, instance);
}

/// The recipe of one verb.
#[async_trait]
pub trait Action: Send + Sync + 'static {
    /// The verb.
    const VERB: Verb;

    /// The instance that it holds while it runs.
    fn instance(&self) -> Option<InstanceId>;

    /// The image it works on, for work on the image cache.
    fn image(&self) -> Option<String> {
        None
    }

    /// Whether it has the host for itself: it begins while nothing else runs, and nothing begins beside it.
    fn is_alone(&self) -> bool {
        false
    }

    /// Whether a destroy of its instance is not kept waiting for its end: it is cancelled, and the destroy comes after it.
    fn gives_way(&self) -> bool {
        false
    }

    /// Whether it may begin now; asked once nothing else holds the instance. Asks no hypervisor: what hangs on the guest's
    /// state is the first thing that `run` looks at. Unless said otherwise, the instance must be there, and whole.
    ///
    /// # Errors
    /// When the host's present state forbids it.
    fn admit(&self, host: &Host) -> Result<()> {
        let instance = self.instance();
        instance.map_or(Ok(()), |id| standing::present(host, id).map(drop))
    }

    /// Does it, step by step. When it fails, the task takes back what it began. What is to be written down with the
    /// operation's end is told to the task: [`Task::keep`], [`Task::answer`].
    async fn run(&self, task: &mut Task) -> Result<()>;

    /// Removes what was kept for the way back, once its good end is written down. A crash before it costs some room, no
    /// more.
    async fn tidy(&self, _host: &Host) {}
}
