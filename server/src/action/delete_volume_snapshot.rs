//! DeleteVolumeSnapshot: two files of a volume that lie one on the other become one, and the line between them, which was
//! the snapshot, is gone. The storage service removes the file that is not needed any more.

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{
    Action, devices, layers,
    standing::{Standing, admitted},
};
use crate::{
    domain::{Disk, Domain, Format},
    error::{Error, Result},
    host::Host,
    hypervisor::overlay::Merge,
    model::{
        DiskFormat, InstanceId, InstanceRecord, Layer, Phase, SnapshotId, Verb, Volume, VolumeId,
    },
    step::{Cold, MergeFiles, MergeLayers, RedefineGuest, plan_of},
    task::Task,
};

/// Merges two files of a volume.
#[derive(Clone, Debug)]
pub struct DeleteVolumeSnapshot {
    /// Whose.
    pub instance: InstanceId,
    /// The volume.
    pub volume: VolumeId,
    /// The storage service's id of the snapshot.
    pub snapshot: SnapshotId,
    /// The name of the file that goes.
    pub file: String,
    /// The name of the one that takes its content; none: the one that rests on it.
    pub target: Option<String>,
}

/// What a caller is told besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedBefore {
    /// Whether no disk rested on the file before.
    pub absent: bool,
}

/// Two files of a chain, by the place of the one that goes.
#[derive(Clone, Debug)]
struct Pair {
    chain: Vec<Layer>,
    gone: usize,
    into: usize,
}

/// What is to be done.
struct Prepared {
    record: InstanceRecord,
    domain: Domain,
    from: Disk,
    to: Disk,
}

impl DeleteVolumeSnapshot {
    /// None when there is no such snapshot.
    fn pair(&self, volume: &Volume) -> Result<Option<Pair>> {
        let chain = volume.chain();
        let place = |name: &str| {
            let mut files = chain.iter();
            files.position(|layer| layer.path.file_name().is_some_and(|own| own == name))
        };
        let Some(known) = volume.snapshot(self.snapshot) else {
            return Ok(None);
        };
        let gone = place(&self.file).ok_or_else(|| {
            let why = "is no file of the volume".to_owned();
            devices::invalid("file_to_merge", why)
        })?;
        let beside = [gone.checked_sub(1), Some(gone + 1)];
        let into = match &self.target {
            None => gone.checked_sub(1).ok_or_else(|| {
                let why = "is required: nothing rests on the file that goes".to_owned();
                devices::invalid("merge_target_file", why)
            })?,
            Some(name) => {
                let into = place(name).filter(|into| beside.contains(&Some(*into)));
                into.ok_or_else(|| {
                    let why = format!("must rest on {}, or {0} on it", self.file);
                    devices::invalid("merge_target_file", why)
                })?
            }
        };
        let pair = Pair { chain, gone, into };
        let sides = [&known.under, &known.over];
        if !sides.iter().all(|side| pair.has(side)) {
            let why = "must be the file of the snapshot, or the one that lies over it, and the other its target";
            return Err(devices::invalid("file_to_merge", why.to_owned()));
        }
        Ok(Some(pair))
    }

    async fn prepared(&self, host: &Host, standing: &Standing, pair: &Pair) -> Result<Prepared> {
        let volume = layers::volume(&standing.record.spec, self.volume)?;
        layers::unused(host, self.volume, &[pair.gone(), pair.into()])?;
        let volume = volume.merged(pair.gone(), pair.into());
        let (before, plan) = devices::pinned(host, &standing.record).await?;
        let old = devices::domain(host, &before, &plan).await?;
        let record = layers::with(&before, &volume);
        let plan = plan_of(host, &record).await?;
        let domain = devices::domain(host, &record, &plan).await?;
        Ok(Prepared {
            from: layers::disk(&old, &record, self.volume)?,
            to: layers::disk(&domain, &record, self.volume)?,
            record,
            domain,
        })
    }

    /// A crash may have come between the merge and the word of it.
    async fn cold(&self, task: &mut Task, volume: &Volume, pair: &Pair) -> Result<()> {
        let volumes = &task.host().volumes;
        let merged = volume.merged(pair.gone(), pair.into());
        let looked = volumes.chained(volume).await;
        if let Err(e) = looked {
            let done = pair.gone > 0 && volumes.chained(&merged).await.is_ok();
            return match done {
                true => Ok(()),
                false => Err(Error::from(e).in_phase(Phase::ConnectVolumes)),
            };
        }
        task.run(MergeFiles { cold: pair.cold() }).await
    }
}

impl Pair {
    fn gone(&self) -> &std::path::Path {
        &self.chain[self.gone].path
    }

    fn into(&self) -> &std::path::Path {
        &self.chain[self.into].path
    }

    fn has(&self, file: &std::path::Path) -> bool {
        file == self.gone() || file == self.into()
    }

    fn below(&self, place: usize) -> Option<(PathBuf, Format)> {
        let layer = self.chain.get(place + 1)?;
        let format = match layer.format {
            DiskFormat::Qcow2 => Format::Qcow2,
            _ => Format::Raw,
        };
        Some((layer.path.clone(), format))
    }

    /// How a guest that is on does it.
    fn hot(&self) -> Result<Merge> {
        let base = self.below(self.gone).map(|(path, _)| path);
        match (self.gone, self.into) {
            (_, 0) => Ok(Merge::Up { base }),
            (0, _) => Ok(Merge::Top {
                base: self.into().to_owned(),
            }),
            (gone, into) if into > gone => Ok(Merge::Down {
                top: self.gone().to_owned(),
                base: self.into().to_owned(),
            }),
            _ => Err(devices::not_while_on(
                "merge_target_file",
                "must be the file that the guest writes to, or the one below the one that goes, while the guest is on",
            )),
        }
    }

    /// How it is done while the guest is off.
    fn cold(&self) -> Cold {
        let file = self.chain[self.gone].path.clone();
        match (self.gone.checked_sub(1), self.below(self.gone)) {
            (above, Some(base)) if self.into > self.gone => Cold::Down {
                file,
                above: above.map(|above| self.chain[above].path.clone()),
                base,
            },
            (_, base) => Cold::Up {
                file: self.into().to_owned(),
                base,
            },
        }
    }
}

#[async_trait]
impl Action for DeleteVolumeSnapshot {
    const VERB: Verb = Verb::DeleteVolumeSnapshot;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        let volume = layers::volume(&standing.record.spec, self.volume)?;
        let pair = self.pair(volume)?;
        let answer = DeletedBefore {
            absent: pair.is_none(),
        };
        task.answer(&answer)?;
        let Some(pair) = pair else {
            return Ok(());
        };
        let _held = host.volumes.hold(volume, instance)?;
        let on = devices::is_on(standing.power);
        let merge = on.then(|| pair.hot()).transpose()?;
        let Prepared {
            record,
            domain,
            from,
            to,
        } = self.prepared(&host, &standing, &pair).await?;
        match merge {
            Some(merge) => {
                // The file that goes is emptied: nothing but the one that the guest writes to may count as that.
                devices::known(&host, instance, (&from, &from), "volume_id").await?;
                let merge = MergeLayers {
                    instance,
                    was: standing.power,
                    merge,
                    gone: pair.gone().to_owned(),
                    to,
                    record: record.clone(),
                    answer: serde_json::json!(answer),
                };
                task.run(merge).await?;
            }
            None => {
                self.cold(task, volume, &pair).await?;
                task.run(RedefineGuest::new(&host, domain)).await?;
            }
        }
        task.keep(record);
        Ok(())
    }
}
