//! The files of a volume that was snapshotted while an instance had it.
//!
//! ```text
//! top ──rests on──▶ below[0] ──rests on──▶ below[1] ──▶ …
//! ```
//!
//! The guest writes to the top only. A snapshot is the line between two files that lie one on the other: it goes when
//! those two become one, whichever of them takes the other's content.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DiskFormat, Seen, SnapshotId, Volume};

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The file itself, all links followed.
    pub path: PathBuf,
    /// What is in it: raw or qcow2.
    pub format: DiskFormat,
}

/// What has become of a volume's one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// What is in the file that the guest writes to; none: what the volume's caller said.
    pub format: Option<DiskFormat>,
    /// The files that it rests on, nearest first.
    pub below: Vec<Layer>,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<VolumeSnapshot>,
}

/// A snapshot that the storage service has had made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSnapshot {
    /// The storage service's id of it.
    pub id: SnapshotId,
    /// The name of the file that was put over the volume for it, as its caller said.
    pub file: String,
    /// Whether the guest's file systems were frozen for it.
    pub quiesced: bool,
    /// The file under the line.
    pub under: PathBuf,
    /// The file over the line.
    pub over: PathBuf,
}

impl Volume {
    /// What is in the file that the guest writes to.
    pub fn format_now(&self) -> DiskFormat {
        let layers = self.seen.as_ref().map(|seen| &seen.layers);
        layers
            .and_then(|layers| layers.format)
            .unwrap_or(self.format)
    }

    /// Its files, the one that the guest writes to first; empty unless it is a file of this host that was looked at.
    pub fn chain(&self) -> Vec<Layer> {
        let Some(Seen {
            path: Some(path),
            block: false,
            layers,
            ..
        }) = &self.seen
        else {
            return Vec::new();
        };
        let top = Layer {
            path: path.clone(),
            format: self.format_now(),
        };
        let below = layers.below.iter().cloned();
        std::iter::once(top).chain(below).collect()
    }

    /// The snapshot of that id.
    pub fn snapshot(&self, id: SnapshotId) -> Option<&VolumeSnapshot> {
        let layers = self.seen.as_ref().map(|seen| &seen.layers)?;
        layers.snapshots.iter().find(|snapshot| snapshot.id == id)
    }

    /// The same, its guest writing to `over`, which is qcow2 and rests on what the guest has written to before.
    #[must_use]
    pub fn overlaid(&self, (id, file): (SnapshotId, &str), over: PathBuf, quiesced: bool) -> Self {
        let below = self.chain();
        let mut volume = self.clone();
        let (Some(seen), Some(under)) = (&mut volume.seen, below.first()) else {
            return volume;
        };
        seen.layers.snapshots.push(VolumeSnapshot {
            id,
            file: file.to_owned(),
            quiesced,
            under: under.path.clone(),
            over: over.clone(),
        });
        seen.path = Some(over);
        seen.layers.format = Some(DiskFormat::Qcow2);
        seen.layers.below = below;
        volume
    }

    /// The same, once the content of `gone` is in `into`, which lies beside it in the chain.
    #[must_use]
    pub fn merged(&self, gone: &Path, into: &Path) -> Self {
        let mut left = self.chain().into_iter().filter(|layer| layer.path != gone);
        let mut volume = self.clone();
        let (Some(seen), Some(top)) = (&mut volume.seen, left.next()) else {
            return volume;
        };
        seen.path = Some(top.path);
        seen.layers.format = Some(top.format);
        seen.layers.below = left.collect();
        let snapshots = &mut seen.layers.snapshots;
        for side in snapshots
            .iter_mut()
            .flat_map(|snapshot| [&mut snapshot.under, &mut snapshot.over])
        {
            if side == gone {
                *side = into.to_owned();
            }
        }
        snapshots.retain(|snapshot| snapshot.under != snapshot.over);
        volume
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bytes, Qos, VolumeId, VolumeTarget};

    fn volume() -> Volume {
        let path = PathBuf::from("/v/f0");
        Volume {
            id: VolumeId::random(),
            target: VolumeTarget::Local { path: path.clone() },
            read_only: false,
            shared: false,
            serial: None,
            format: DiskFormat::Raw,
            discard: false,
            qos: Qos::default(),
            seen: Some(Seen {
                path: Some(path),
                block: false,
                size: Bytes(1 << 20),
                layers: Layers::default(),
                identity: None,
                initiator: None,
            }),
        }
    }

    fn names(volume: &Volume) -> Vec<String> {
        let name = |layer: Layer| format!("{} {:?}", layer.path.display(), layer.format);
        volume.chain().into_iter().map(name).collect()
    }

    fn lines(volume: &Volume) -> Vec<(SnapshotId, String, String)> {
        let layers = &volume.seen.as_ref().unwrap().layers;
        let line = |one: &VolumeSnapshot| {
            let [under, over] = [&one.under, &one.over].map(|path| path.display().to_string());
            (one.id, under, over)
        };
        layers.snapshots.iter().map(line).collect()
    }

    #[test]
    fn a_snapshot_goes_with_the_line_that_it_is_and_the_others_stay() {
        let ids = [(); 2].map(|()| SnapshotId::random());
        let one = volume().overlaid((ids[0], "f1"), "/v/f1".into(), false);
        let two = one.overlaid((ids[1], "f2"), "/v/f2".into(), true);
        assert_eq!(names(&two), ["/v/f2 Qcow2", "/v/f1 Qcow2", "/v/f0 Raw"]);
        let line = |id, under: &str, over: &str| (id, under.to_owned(), over.to_owned());
        let both = [
            line(ids[0], "/v/f0", "/v/f1"),
            line(ids[1], "/v/f1", "/v/f2"),
        ];
        assert_eq!(lines(&two), both);
        let down = two.merged(Path::new("/v/f1"), Path::new("/v/f0"));
        assert_eq!(names(&down), ["/v/f2 Qcow2", "/v/f0 Raw"]);
        assert_eq!(lines(&down), [line(ids[1], "/v/f0", "/v/f2")]);
        let up = two.merged(Path::new("/v/f1"), Path::new("/v/f2"));
        assert_eq!(names(&up), ["/v/f2 Qcow2", "/v/f0 Raw"]);
        assert_eq!(lines(&up), [line(ids[0], "/v/f0", "/v/f2")]);
        let whole = down.merged(Path::new("/v/f2"), Path::new("/v/f0"));
        assert_eq!(names(&whole), ["/v/f0 Raw"]);
        assert_eq!(lines(&whole), []);
        assert_eq!(whole.format_now(), DiskFormat::Raw);
    }

    #[test]
    fn what_was_written_down_before_there_were_layers_still_reads() {
        let mut old = serde_json::to_value(volume()).unwrap();
        old["seen"].as_object_mut().unwrap().remove("layers");
        let read: Volume = serde_json::from_value(old).unwrap();
        assert_eq!(names(&read), ["/v/f0 Raw"]);
    }
}
