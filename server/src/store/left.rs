//! Files of volumes that left their instances with snapshots: each rests on another, which must not be written to as long
//! as it does. Kept in memory, written through; a pair goes when somebody looks and it is one no more.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Transaction, params};

use super::{Result, Store};
use crate::model::{BlockDevice, InstanceRecord, Volume, VolumeId};

/// Two files, one of which rests on the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftFile {
    /// The file that rests on the other.
    pub over: PathBuf,
    /// The file below.
    pub under: PathBuf,
    /// Whose both are.
    pub volume: VolumeId,
}

/// By the file that rests on the other.
pub(super) type LeftFiles = BTreeMap<PathBuf, LeftFile>;

pub(super) fn load(connection: &Connection) -> Result<LeftFiles> {
    let mut statement = connection.prepare("SELECT over, under, volume FROM left_files")?;
    let rows = statement.query_map([], |row| {
        let text = |at| row.get::<_, String>(at);
        Ok((text(0)?, text(1)?, text(2)?))
    })?;
    let mut all = LeftFiles::new();
    for row in rows {
        let (over, under, volume) = row?;
        if let Ok(volume) = volume.parse() {
            let (over, under) = (PathBuf::from(over), PathBuf::from(under));
            let left = LeftFile {
                over: over.clone(),
                under,
                volume,
            };
            all.insert(over, left);
        }
    }
    Ok(all)
}

/// The files of volumes that an instance had and has no more.
pub(super) fn between(
    before: Option<&InstanceRecord>,
    now: Option<&InstanceRecord>,
) -> Vec<LeftFile> {
    let has = |id| {
        let mut all = now.into_iter().flat_map(volumes);
        all.any(|volume| volume.id == id)
    };
    let gone = before.into_iter().flat_map(volumes);
    let gone = gone.filter(|volume| !has(volume.id));
    gone.flat_map(|volume| {
        let chain = volume.chain();
        let pairs = chain.windows(2).map(|pair| LeftFile {
            over: pair[0].path.clone(),
            under: pair[1].path.clone(),
            volume: volume.id,
        });
        pairs.collect::<Vec<_>>()
    })
    .collect()
}

fn volumes(record: &InstanceRecord) -> impl Iterator<Item = &Volume> {
    let devices = record.spec.block_devices.iter();
    devices.filter_map(BlockDevice::volume)
}

pub(super) fn put(transaction: &Transaction<'_>, left: &[LeftFile]) -> Result<()> {
    for LeftFile {
        over,
        under,
        volume,
    } in left
    {
        transaction.execute(
            "INSERT INTO left_files (over, under, volume) VALUES (?1, ?2, ?3)
             ON CONFLICT (over) DO UPDATE SET under = excluded.under, volume = excluded.volume",
            params![over.to_str(), under.to_str(), volume.to_string()],
        )?;
    }
    Ok(())
}

impl Store {
    /// The files that rested on that one when their volume left its instance.
    pub fn left_over(&self, under: &Path) -> Vec<LeftFile> {
        let left = self.left.read();
        let over = left.values().filter(|left| left.under == under);
        over.cloned().collect()
    }

    /// Forgets a file that rests on no other any more.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn forget_left(&self, over: PathBuf) -> Result<()> {
        let gone = over.clone();
        self.write(move |transaction| {
            let delete = "DELETE FROM left_files WHERE over = ?1";
            Ok(transaction.execute(delete, [gone.to_str()])?)
        })
        .await?;
        self.left.write().remove(&over);
        Ok(())
    }

    pub(super) fn keep_left(&self, left: Vec<LeftFile>) {
        let left = left.into_iter().map(|left| (left.over.clone(), left));
        self.left.write().extend(left);
    }
}
