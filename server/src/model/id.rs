//! The names by which callers and the server speak of things.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdFault {
    /// Not a UUID in its hyphenated form.
    #[error("must be a UUID like 123e4567-e89b-12d3-a456-426614174000")]
    NotUuid,
    /// The nil UUID names nothing.
    #[error("must not be the nil UUID")]
    Nil,
    /// Not a short plain name.
    #[error(
        "must be 1 to 64 characters of a-z, A-Z, 0-9, '.', '_' or '-', and begin with a letter or digit"
    )]
    NotName,
}

fn uuid(text: &str) -> Result<Uuid, IdFault> {
    // The hyphenated form only: one id has one spelling, also as a folder name.
    let parsed = match text.len() {
        36 => Uuid::try_parse(text).map_err(|_| IdFault::NotUuid)?,
        _ => return Err(IdFault::NotUuid),
    };
    if parsed.is_nil() {
        Err(IdFault::Nil)
    } else {
        Ok(parsed)
    }
}

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The UUID itself.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = IdFault;
            fn from_str(text: &str) -> Result<Self, IdFault> {
                uuid(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    )*};
}

uuid_ids! {
    /// What the caller names: one virtual machine, for its whole life.
    InstanceId,
    /// One long call as the server sees it.
    OperationId,
    /// One request, however often it is repeated.
    RequestId,
    /// This host, whatever it is called.
    NodeId,
    /// One volume of a storage service.
    VolumeId,
    /// One snapshot of a volume.
    SnapshotId,
}

macro_rules! name_ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdFault;
            fn from_str(text: &str) -> Result<Self, IdFault> {
                name(text).map(|text| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

fn name(text: &str) -> Result<&str, IdFault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && text.len() <= 64 && text.chars().all(plain) {
        Ok(text)
    } else {
        Err(IdFault::NotName)
    }
}

name_ids! {
    /// A disk of an instance, unique within it.
    DiskId,
    /// A network interface of an instance, unique within it.
    InterfaceId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hyphenated_uuids_name_an_instance() {
        assert!(
            "123e4567-e89b-12d3-a456-426614174000"
                .parse::<InstanceId>()
                .is_ok()
        );
        for bad in [
            "",
            "x",
            "123e4567e89b12d3a456426614174000",
            "../../../../etc/passwd/aaaaaaaaaaaa",
        ] {
            assert_eq!(bad.parse::<InstanceId>(), Err(IdFault::NotUuid), "{bad}");
        }
        assert_eq!(
            Uuid::nil().to_string().parse::<InstanceId>(),
            Err(IdFault::Nil)
        );
    }

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        assert!("vda-1.2_x".parse::<DiskId>().is_ok());
        for bad in ["", "..", "../x", "a/b", "a\0b", "-x", &"x".repeat(65)] {
            assert_eq!(bad.parse::<DiskId>(), Err(IdFault::NotName), "{bad:?}");
        }
    }
}
