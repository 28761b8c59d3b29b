//! The config drive: what a guest is told at its first boot, as a small CD.
//!
//! The layout is OpenStack's, every dated version of it, so that cloud-init and cloudbase-init read it as they read
//! Nova's. Pure: the caller brings the time and the randomness, and writes the bytes where it wants them. It is the
//! one place that holds user data, injected files and the administrator's password.

pub mod iso9660;
mod metadata;
mod network;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;

use crate::{
    error::{Classify, Kind},
    model::InstanceSpec,
};
use iso9660::{Content, Finished, Image, IsoError};

/// What cloud-init looks for among the guest's disks.
pub const LABEL: &str = "config-2";

/// Nova's choice of how much randomness a guest starts with.
pub const RANDOM_SEED_BYTES: usize = 512;

/// Why a config drive cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigDriveError {
    /// A file cannot be placed.
    #[error("config drive cannot be laid out")]
    Layout(#[from] IsoError),
    /// Metadata cannot be written as JSON.
    #[error("config drive's metadata cannot be written")]
    Metadata(#[from] serde_json::Error),
}

impl Classify for ConfigDriveError {
    fn kind(&self) -> Kind {
        Kind::Internal
    }

    fn reason(&self) -> &'static str {
        "INTERNAL"
    }
}

/// What goes onto a config drive.
#[derive(Clone, Copy)]
pub struct ConfigDrive<'a> {
    /// Names, metadata, keys, password, user data, injected files and interfaces.
    pub spec: &'a InstanceSpec,
    /// Fresh randomness for the guest's pool.
    pub random_seed: &'a [u8; RANDOM_SEED_BYTES],
    /// Date of every file.
    pub written: Timestamp,
    /// EC2's words for the guest's disks: `root` or `ami`, `ephemeral0`, `swap` → device as the guest names it.
    pub block_device_mapping: &'a BTreeMap<String, String>,
}

impl fmt::Debug for ConfigDrive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigDrive")
            .field("instance", &self.spec.id)
            .finish_non_exhaustive()
    }
}

impl<'a> ConfigDrive<'a> {
    /// The drive's image; [`Finished::write_to`] gives its bytes.
    pub fn image(&self) -> Result<Finished<'a>, ConfigDriveError> {
        let mut image = Image::new(LABEL, self.written)?;
        let user_data = &self.spec.user_data;
        let user_data = (!user_data.is_empty()).then(|| image.content(user_data));
        self.place_openstack(&mut image, user_data)?;
        self.place_ec2(&mut image, user_data)?;
        for (number, file) in (0..).zip(&self.spec.injected_files) {
            let content = image.content(&file.contents);
            let path = metadata::content_path(number);
            image.file(&format!("openstack/{path}"), content)?;
        }
        Ok(image.finish()?)
    }

    fn place_openstack(
        &self,
        image: &mut Image<'a>,
        user_data: Option<Content>,
    ) -> Result<(), ConfigDriveError> {
        let network_data = network::openstack(&self.spec.vifs)?.map(|json| image.content(json));
        let vendor_data = Some(image.content(&b"{}"[..]));
        for version in metadata::OPENSTACK_VERSIONS {
            let since =
                |first: &str, content: Option<Content>| content.filter(|_| version >= first);
            let meta_data = image.content(metadata::openstack(self, version)?);
            let files = [
                ("meta_data.json", Some(meta_data)),
                ("user_data", user_data),
                (
                    "vendor_data.json",
                    since(metadata::VENDOR_DATA_SINCE, vendor_data),
                ),
                (
                    "network_data.json",
                    since(metadata::NETWORK_DATA_SINCE, network_data),
                ),
                (
                    "vendor_data2.json",
                    since(metadata::VENDOR_DATA2_SINCE, vendor_data),
                ),
            ];
            place(image, &format!("openstack/{version}"), &files)?;
        }
        Ok(())
    }

    fn place_ec2(
        &self,
        image: &mut Image<'a>,
        user_data: Option<Content>,
    ) -> Result<(), ConfigDriveError> {
        let meta_data = Some(image.content(metadata::ec2(self)?));
        let files = [("meta-data.json", meta_data), ("user-data", user_data)];
        for version in metadata::EC2_VERSIONS {
            place(image, &format!("ec2/{version}"), &files)?;
        }
        Ok(())
    }
}

fn place(
    image: &mut Image<'_>,
    directory: &str,
    files: &[(&str, Option<Content>)],
) -> Result<(), IsoError> {
    for (name, content) in files {
        if let Some(content) = content {
            image.file(&format!("{directory}/{name}"), *content)?;
        }
    }
    Ok(())
}
