//! Files of this host, from folders that its operator has opened for this.

use std::{
    fs::File,
    io::{self, Read, Seek},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{Fetched, Fetcher, Outcome, Report, Validator, fetching, storage};
use crate::{
    image::{backend::blocking, error::ImageError},
    model::{Bytes, ImageFile},
    sys::file::{Part, clone_or_copy},
};

/// How often a reader sees progress: some hundred times for a usual image.
const PIECE: usize = 4 << 20;

pub(super) async fn fetch(
    fetcher: &Fetcher,
    file: &ImageFile,
    path: PathBuf,
    known: &[Validator],
    report: Report<'_>,
) -> Result<Outcome, ImageError> {
    let (wanted, folders) = (file.clone(), fetcher.limits.file_folders.clone());
    let (source, validator) = blocking(move || open(&wanted, &path, &folders)).await?;
    if known.contains(&validator) {
        return Ok(Outcome::Unchanged(validator));
    }
    let size = validator.size.unwrap_or(0);
    fetcher.admit(file, size)?;
    let part = fetcher.part(file)?;
    report(fetching(0, Some(size)));
    // The reader never waits for whoever watches: a full channel skips a number.
    let (done_tx, mut done_rx) = mpsc::channel(1);
    let wanted = file.clone();
    let copy = blocking(move || {
        let sha256 = copy(&source, &part, |done| {
            done_tx.try_send(done).is_ok() || !done_tx.is_closed()
        });
        let copied = sha256.and_then(|sha256| Ok((sha256, part.file().metadata()?.len())));
        let (sha256, size) = copied.map_err(|e| storage(&wanted, e))?;
        Ok(Fetched {
            part,
            sha256,
            size: Bytes(size),
            validator,
        })
    });
    tokio::pin!(copy);
    loop {
        tokio::select! {
            // The result first: after it no number means anything.
            biased;
            fetched = &mut copy => return fetched.map(Outcome::Fetched),
            Some(done) = done_rx.recv() => report(fetching(done, Some(size))),
        }
    }
}

/// Opens a file that lies in one of `folders` when all links are followed, and cannot be exchanged meanwhile.
fn open(
    wanted: &ImageFile,
    path: &Path,
    folders: &[PathBuf],
) -> Result<(File, Validator), ImageError> {
    let denied = || ImageError::LocationDenied {
        image: wanted.id.clone(),
    };
    // Whether a file exists outside the folders is nobody's business: the same answer for both.
    let real = path
        .canonicalize()
        .map_err(|e| absent_or_denied(wanted, path, folders, &e))?;
    let inside = |folder: &PathBuf| {
        folder
            .canonicalize()
            .is_ok_and(|folder| real.starts_with(folder))
    };
    if !folders.iter().any(inside) {
        return Err(denied());
    }
    // Not blocking, so that a pipe under this name holds nobody.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat2(CWD, &real, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let file = File::from(file.map_err(|e| not_found(wanted, &e.into()))?);
    let stat = file.metadata().map_err(|e| storage(wanted, e))?;
    if !stat.is_file() {
        return Err(ImageError::Location {
            image: wanted.id.clone(),
            why: "not a regular file".to_owned(),
        });
    }
    let validator = Validator {
        size: Some(stat.len()),
        modified: Some(format!("{}.{:09}", stat.mtime(), stat.mtime_nsec())),
        etag: Some(format!("{}:{}", stat.dev(), stat.ino())),
    };
    Ok((file, validator))
}

fn absent_or_denied(
    wanted: &ImageFile,
    path: &Path,
    folders: &[PathBuf],
    e: &io::Error,
) -> ImageError {
    let plain = path
        .components()
        .all(|part| part != std::path::Component::ParentDir);
    if plain && folders.iter().any(|folder| path.starts_with(folder)) {
        not_found(wanted, e)
    } else {
        ImageError::LocationDenied {
            image: wanted.id.clone(),
        }
    }
}

fn not_found(wanted: &ImageFile, e: &io::Error) -> ImageError {
    ImageError::NotFound {
        image: wanted.id.clone(),
        why: e.to_string(),
    }
}

/// Copies, then hashes the copy: what is inspected and used is what was hashed, whatever happens to the source.
fn copy(source: &File, part: &Part, mut go_on: impl FnMut(u64) -> bool) -> io::Result<[u8; 32]> {
    clone_or_copy(source, part.file())?;
    let mut copied = part.file();
    copied.rewind()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    loop {
        match copied.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            n => {
                hash.update(&buffer[..n]);
                done += n as u64;
            }
        }
        if !go_on(done) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}
