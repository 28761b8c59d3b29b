//! Mirrors of disks in memory: one is ready at once.

use async_trait::async_trait;

use super::{Fake, FakeGuest, wrong_state};
use crate::{
    domain::{Device, Disk},
    hypervisor::{
        Result,
        mirror::{Mirrored, Mirrors},
    },
    model::InstanceId,
};

impl FakeGuest {
    /// The disk of that name, while it runs.
    pub(super) fn live_disk(&mut self, target: &str) -> Option<&mut Disk> {
        let live = self.live.as_mut()?.values_mut();
        let mut disks = live.filter_map(|device| match device {
            Device::Disk(disk) => Some(&mut **disk),
            Device::Interface(_) | Device::Memory(_) => None,
        });
        disks.find(|disk| disk.target == target)
    }
}

#[async_trait]
impl Mirrors for Fake {
    async fn begin_mirror(&self, id: InstanceId, to: &Disk, _: Option<u64>) -> Result<()> {
        self.enter("begin_mirror").await?;
        self.unlock([to])?;
        let there = self.guest(id, |guest| guest.live_disk(&to.target).is_some())?;
        if !there {
            return Err(wrong_state(id, "domain is not running"));
        }
        let key = (id, to.target.clone());
        self.mirrors.lock().insert(key, to.clone());
        self.faults.leave("begin_mirror")
    }

    async fn mirrored(&self, id: InstanceId, target: &str) -> Result<Mirrored> {
        self.enter("mirrored").await?;
        let key = (id, target.to_owned());
        let there = self.mirrors.lock().contains_key(&key);
        self.faults.leave("mirrored")?;
        Ok(match there {
            true => Mirrored::Ready,
            false => Mirrored::None,
        })
    }

    async fn end_mirror(&self, id: InstanceId, target: &str, pivot: bool) -> Result<()> {
        self.enter("end_mirror").await?;
        let key = (id, target.to_owned());
        let to = self.mirrors.lock().remove(&key);
        if let Some(to) = to.filter(|_| pivot) {
            self.guest(id, |guest| {
                if let Some(disk) = guest.live_disk(target) {
                    *disk = to;
                }
            })?;
        }
        self.faults.leave("end_mirror")
    }

    async fn reads(&self, id: InstanceId, disk: &Disk) -> Result<bool> {
        self.enter("reads").await?;
        let live = self.guest(id, |guest| {
            guest
                .live_disk(&disk.target)
                .map(|live| live.source.clone())
        })?;
        self.faults.leave("reads")?;
        Ok(live.as_ref() == Some(&disk.source))
    }
}
