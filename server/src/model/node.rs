//! This host as schedulers know it: its identity, and whether it takes new instances.

use serde::{Deserialize, Serialize};

use super::NodeId;

/// What is kept of the host itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its identity, made once.
    pub id: NodeId,
    /// Whether it was disabled, and why.
    #[serde(default)]
    pub disabled: Option<String>,
    /// Whether it is in maintenance, and why.
    #[serde(default)]
    pub maintenance: Option<String>,
}

/// A switch of the host that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeSwitch {
    /// Whether it is disabled.
    Disabled,
    /// Whether it is in maintenance.
    Maintenance,
}

impl NodeRecord {
    /// A host that is seen for the first time.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            disabled: None,
            maintenance: None,
        }
    }

    /// Whether new instances are taken.
    pub fn is_open(&self) -> bool {
        self.disabled.is_none() && self.maintenance.is_none()
    }

    /// Why none are taken, as whoever closed it put it; empty when nobody said.
    pub fn note(&self) -> &str {
        let notes = [&self.maintenance, &self.disabled];
        let mut said = notes.into_iter().flatten().filter(|note| !note.is_empty());
        said.next().map_or("", String::as_str)
    }

    /// The same, with a switch turned on for a reason, or off.
    #[must_use]
    pub fn with(mut self, switch: NodeSwitch, on: Option<String>) -> Self {
        match switch {
            NodeSwitch::Disabled => self.disabled = on,
            NodeSwitch::Maintenance => self.maintenance = on,
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_open_when_neither_switch_is_on() {
        let open = NodeRecord::new(NodeId::random());
        assert!(open.is_open());
        let disabled = open.clone().with(NodeSwitch::Disabled, Some(String::new()));
        assert!(!disabled.is_open() && disabled.note().is_empty());
        let both = disabled.with(NodeSwitch::Maintenance, Some("new disks".to_owned()));
        assert_eq!(both.note(), "new disks");
        let one = both.with(NodeSwitch::Disabled, None);
        assert!(!one.is_open());
        assert_eq!(one.with(NodeSwitch::Maintenance, None), open);
    }
}
