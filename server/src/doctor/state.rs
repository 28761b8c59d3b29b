//! The place where instances' disks will lie.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access, statvfs};

use super::Check;
use crate::{
    config::Config,
    model::Bytes,
    sys::file::{CopiedBy, clone_or_copy},
};

const STATE: &str = "state-dir";
const REFLINK: &str = "reflink";
/// Less holds hardly one image and its guest.
const ENOUGH: Bytes = Bytes(10 << 30);
/// More than any file system's block.
const SAMPLE: usize = 128 << 10;

pub(super) async fn examine(config: &Config) -> Vec<Check> {
    let state = config.state_dir.clone();
    let look = tokio::task::spawn_blocking(move || look(&state)).await;
    look.unwrap_or_else(|e| vec![Check::missing(STATE, e.to_string(), "report this")])
}

fn look(state: &Path) -> Vec<Check> {
    let place = match nearest(state) {
        Ok(place) => place,
        Err(e) => {
            let found = format!("{}: {e}", state.display());
            return vec![Check::missing(
                STATE,
                found,
                "choose another by --state-dir",
            )];
        }
    };
    vec![room(state, &place), reflink(&place)]
}

/// The directory, or the nearest one above it that is there.
fn nearest(path: &Path) -> io::Result<PathBuf> {
    for place in path.ancestors() {
        match fs::metadata(place) {
            Ok(found) if found.is_dir() => return Ok(place.to_owned()),
            Ok(_) => {
                let said = format!("{} is no directory", place.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, said));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn room(state: &Path, place: &Path) -> Check {
    let (shown, there) = (state.display(), state == place);
    if let Err(e) = access(place, Access::WRITE_OK | Access::EXEC_OK) {
        let found = if there {
            format!("{shown} cannot be written to: {e}")
        } else {
            format!(
                "{shown} cannot be made: {} cannot be written to: {e}",
                place.display()
            )
        };
        return Check::missing(
            STATE,
            found,
            "run as its owner, or choose another by --state-dir",
        );
    }
    let free = match statvfs(place) {
        Ok(of) => Bytes(of.f_bavail.saturating_mul(of.f_frsize)),
        Err(e) => {
            return Check::missing(
                STATE,
                format!("{shown}: {e}"),
                "choose another by --state-dir",
            );
        }
    };
    let whole = Bytes((free.0 >> 30) << 30);
    let will = if there { "" } else { ", will be made" };
    let found = format!(
        "{shown}{will}, {} free",
        if whole.0 == 0 { free } else { whole }
    );
    if free < ENOUGH {
        let remedy = format!(
            "{ENOUGH} hold an image and a few guests: make room, or choose another by --state-dir"
        );
        return Check::note(STATE, found, remedy);
    }
    Check::ok(STATE, found)
}

fn reflink(place: &Path) -> Check {
    let sample = Sample::new(place);
    match sample.and_then(|sample| sample.copy()) {
        Ok(CopiedBy::Reflink) => Check::ok(REFLINK, "raw disks share the blocks of their image"),
        Ok(CopiedBy::SparseCopy) => Check::note(
            REFLINK,
            "this file system copies block by block",
            "matters for images.disks = \"raw\" only: XFS and Btrfs share blocks",
        ),
        Err(e) => Check::note(REFLINK, format!("cannot be tried: {e}"), "none"),
    }
}

/// A folder for one try; goes with what is in it.
struct Sample(PathBuf);

impl Sample {
    fn new(place: &Path) -> io::Result<Self> {
        let path = place.join(format!(".doctor-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn copy(&self) -> io::Result<CopiedBy> {
        let path = self.0.join("from");
        let mut from = File::create_new(&path)?;
        from.write_all(&vec![1; SAMPLE])?;
        clone_or_copy(&File::open(&path)?, &File::create_new(self.0.join("to"))?)
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        // Nothing depends on it, and there is nobody to tell but the caller, who is told more important things.
        let _ = fs::remove_dir_all(&self.0);
    }
}
