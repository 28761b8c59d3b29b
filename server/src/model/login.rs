//! How this host proves to a storage service who it is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{IdFault, InstanceId, Secret, VolumeId};

/// A user of a storage service, and the word that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The word; never stored, and gone once the hypervisor keeps it.
    #[serde(skip)]
    pub secret: Option<Secret<Vec<u8>>>,
    /// A keyed hash of the word, which tells it from another.
    pub mark: String,
}

/// What a secret is for, which is how libvirt tells secrets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SecretUse {
    /// A CHAP secret.
    Iscsi,
    /// A cephx key, its base64 undone.
    Ceph,
}

impl SecretUse {
    /// libvirt's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Iscsi => "iscsi",
            Self::Ceph => "ceph",
        }
    }
}

/// The secret of one volume of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretName {
    /// Whose.
    pub instance: InstanceId,
    /// Of which volume. Not of which disk: for as long as one is swapped, a disk is two volumes.
    pub volume: VolumeId,
}

impl SecretName {
    /// The id by which a definition names it; always the same.
    pub fn uuid(self) -> Uuid {
        Uuid::new_v5(&self.instance.uuid(), self.to_string().as_bytes())
    }
}

const PREFIX: &str = "computelet";

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}/{}/{}", self.instance, self.volume)
    }
}

impl FromStr for SecretName {
    type Err = IdFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or(IdFault::NotName);
        if part()? != PREFIX {
            return Err(IdFault::NotName);
        }
        let name = Self {
            instance: part()?.parse()?,
            volume: part()?.parse()?,
        };
        match part() {
            Ok(_) => Err(IdFault::NotName),
            Err(_) => Ok(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_s_name_reads_back_and_no_other_name_does() {
        let name = SecretName {
            instance: InstanceId::random(),
            volume: VolumeId::random(),
        };
        let text = name.to_string();
        assert_eq!(text.parse(), Ok(name));
        let other = SecretName {
            volume: VolumeId::random(),
            ..name
        };
        assert_ne!(name.uuid(), other.uuid());
        let theirs = text.replacen(PREFIX, "theirs", 1);
        for wrong in ["", PREFIX, &theirs, &format!("{text}/x"), &text[..50]] {
            assert!(wrong.parse::<SecretName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_login_is_written_down_without_its_word() {
        let login = Login {
            user: "me".to_owned(),
            secret: Some(Secret::new(b"word".to_vec())),
            mark: "m".to_owned(),
        };
        let json = serde_json::to_string(&login).unwrap();
        assert_eq!(json, r#"{"user":"me","mark":"m"}"#);
        assert!(!format!("{login:?}").contains("word"));
    }
}
