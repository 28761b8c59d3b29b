//! Tells a repeated request from another one without keeping what it said.
//!
//! A keyed hash: the key is random, made once, and lies in a file of its own, so that a copy of the database alone does
//! not let anyone try passwords against the hashes.

use std::{
    fmt,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::model::InstanceSpec;

/// Hashes requests with this host's key.
#[derive(Clone)]
pub struct Fingerprinter {
    key: [u8; 32],
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter")
    }
}

impl Fingerprinter {
    /// Reads the key, and makes it when there is none.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let mut key = [0; 32];
        match std::fs::File::open(path) {
            Ok(mut file) => file.read_exact(&mut key)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
                key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
                let part = path.with_extension("part");
                let mut file = std::fs::OpenOptions::new()
                    .create(true)
                    .truncate(true)
                    .write(true)
                    .mode(0o600)
                    .open(&part)?;
                file.write_all(&key)?;
                file.sync_all()?;
                std::fs::rename(part, path)?;
            }
            Err(e) => return Err(e),
        }
        Ok(Self { key })
    }

    /// The hash of `parts`, each told apart from its neighbours.
    pub fn of(&self, parts: &[&[u8]]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            mac.update(part);
        }
        hex::encode(mac.finalize().into_bytes())
    }

    /// The hash of what an instance is, secrets included, what is waited for left out.
    ///
    /// # Errors
    /// Never in practice: a spec has only text keys.
    pub fn spec(&self, spec: &InstanceSpec) -> Result<String, serde_json::Error> {
        let bare = InstanceSpec {
            wait_for: None,
            ..spec.clone()
        };
        let json = serde_json::to_vec(&bare)?;
        let password = spec.admin_password.as_ref();
        let mut parts: Vec<&[u8]> = vec![
            &json,
            &spec.user_data,
            password.map_or(b"-", |p| p.expose().as_bytes()),
        ];
        parts.extend(
            spec.injected_files
                .iter()
                .map(|file| file.contents.as_slice()),
        );
        Ok(self.of(&parts))
    }
}
