//! Our own element in a domain's metadata: the mark by which we know a guest as ours, and a record for people.

use std::time::SystemTime;

use jiff::Timestamp;

use super::xml::Xml;
use crate::model::Bytes;

/// Namespace of our element. A domain without an element of this namespace is not ours and is never touched.
pub const METADATA_URI: &str = "urn:computelet:instance:1";

/// Prefix that our element's namespace is bound to.
pub const METADATA_PREFIX: &str = "computelet";

/// What our element says. Records only: nothing is decided by it but whether a domain is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Version of computelet that wrote it.
    pub version: String,
    /// Name for people.
    pub name: String,
    /// When the instance's spawn began; whole seconds.
    pub created: SystemTime,
    /// The caller's name of its flavor.
    pub flavor: String,
    /// Its virtual processors.
    pub vcpus: u32,
    /// Its memory.
    pub memory: Bytes,
    /// The caller's id of the image that its root disk is made of, if it is of one.
    pub image: Option<String>,
}

pub(super) fn write(xml: &mut Xml, metadata: &Metadata) {
    let namespace = format!("xmlns:{METADATA_PREFIX}");
    xml.node(
        "computelet:instance",
        &[(namespace.as_str(), METADATA_URI)],
        |xml| {
            xml.leaf("computelet:package", &[("version", &metadata.version)]);
            xml.text("computelet:name", &[], &metadata.name);
            xml.text("computelet:created", &[], &rfc3339(metadata.created));
            xml.leaf(
                "computelet:flavor",
                &[
                    ("name", metadata.flavor.as_str()),
                    ("vcpus", &metadata.vcpus.to_string()),
                    ("memory_mib", &metadata.memory.mib_up().to_string()),
                ],
            );
            if let Some(image) = &metadata.image {
                xml.leaf("computelet:image", &[("id", image)]);
            }
        },
    );
}

/// A time outside the calendar's years is written as the epoch: it is a record only.
fn rfc3339(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
