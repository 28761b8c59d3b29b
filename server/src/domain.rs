//! libvirt domain XML as types; write and read; no decisions.

use crate::model::InstanceId;

/// A guest's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Whose it is.
    pub id: InstanceId,
}

impl Domain {
    /// The XML that libvirt reads.
    pub fn to_xml(&self) -> String {
        format!("<domain><uuid>{}</uuid></domain>", self.id)
    }
}
