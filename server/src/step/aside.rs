//! Files of an instance are set aside, so that others can be made in their place.

use std::{io, path::Path};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    host::Host,
    model::{InstanceId, OperationId, Phase},
    sys::file,
    task::{Cx, Step},
};

/// Between a file's name and the operation that set it aside.
const ASIDE: &str = ".aside-";

/// Sets files aside. On the way back they are put where they were, over whatever is there now.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetAside {
    /// Whose.
    pub instance: InstanceId,
    /// Who does it: what another operation has set aside is never taken for this one's.
    pub operation: OperationId,
    /// The files, in the instance's folder, and whether each is there.
    pub files: Vec<(String, bool)>,
}

impl SetAside {
    /// The files of these names, so far as they are there.
    ///
    /// # Errors
    /// When the folder cannot be looked at.
    pub fn new(
        host: &Host,
        (instance, operation): (InstanceId, OperationId),
        names: impl IntoIterator<Item = String>,
    ) -> Result<Self> {
        let folder = host.paths.instance(instance);
        let files = names.into_iter().map(|name| {
            let there = folder.join(&name).try_exists()?;
            Ok((name, there))
        });
        let files = files.collect::<io::Result<_>>();
        Ok(Self {
            instance,
            operation,
            files: files.map_err(|e| Error::internal(format!("a disk cannot be found: {e}")))?,
        })
    }

    fn aside(&self, name: &str) -> String {
        format!("{name}{ASIDE}{}", self.operation)
    }
}

#[async_trait]
impl Step for SetAside {
    type Output = ();
    const NAME: &'static str = "set aside";
    const PHASE: Phase = Phase::CreateDisks;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let folder = cx.host.paths.instance(self.instance);
        // Those of other operations stay: one may have to be taken back yet.
        let set = || {
            for (name, _) in self.files.iter().filter(|(_, there)| *there) {
                std::fs::rename(folder.join(name), folder.join(self.aside(name)))?;
            }
            io::Result::Ok(())
        };
        set().map_err(|e| Error::internal(format!("a disk cannot be set aside: {e}")))
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        let folder = host.paths.instance(self.instance);
        let back = || {
            for (name, there) in &self.files {
                let (file, aside) = (folder.join(name), folder.join(self.aside(name)));
                if !there {
                    file::remove(&file)?;
                } else if aside.try_exists()? {
                    std::fs::rename(aside, file)?;
                }
            }
            io::Result::Ok(())
        };
        back().map_err(|e| Error::internal(format!("a disk cannot be put back: {e}")))
    }
}

/// Removes all that was set aside in an instance's folder. Only for an instance that no operation is to be taken back of.
///
/// # Errors
/// When a file cannot be removed.
pub fn remove(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(ASIDE) {
            file::remove(&entry.path())?;
        }
    }
    Ok(())
}
