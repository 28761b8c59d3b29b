//! What the hypervisor calls the devices that callers have named: it tells of them by these names, and each gives the
//! caller's id back.
//!
//! libvirt takes letters, digits, `-` and `_` after `ua-`; ids have dots too. So `_` is written `_u`, and `.` is `_d`.

use super::MemoryModule;
use crate::model::{DiskId, InterfaceId};

const DISK: &str = "ua-disk-";
const INTERFACE: &str = "ua-vif-";

/// A disk's.
pub(super) fn disk(id: &DiskId) -> String {
    alias(DISK, id.as_str())
}

/// An interface's.
pub(super) fn interface(id: &InterfaceId) -> String {
    alias(INTERFACE, id.as_str())
}

/// That of memory: what the guest has before and with it, so that the same is not given twice.
pub(super) fn memory(module: &MemoryModule) -> String {
    format!("ua-memory-{}-{}", module.from.kib(), module.to.kib())
}

fn alias(prefix: &str, id: &str) -> String {
    format!("{prefix}{}", id.replace('_', "_u").replace('.', "_d"))
}

/// The caller's id of the device with that alias; none when no caller named it.
pub fn id_of(alias: &str) -> Option<String> {
    let id = alias.strip_prefix(DISK);
    let id = id.or_else(|| alias.strip_prefix(INTERFACE))?;
    Some(id.replace("_d", ".").replace("_u", "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_gives_the_id_back_and_has_only_what_libvirt_takes() {
        for id in ["root", "vda-1.2_x", "a_d.u_", "a._u_d..__"] {
            let aliases = [disk(&id.parse().unwrap()), interface(&id.parse().unwrap())];
            for alias in aliases {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                assert!(alias.chars().all(plain), "{alias}");
                assert_eq!(id_of(&alias).as_deref(), Some(id), "{alias}");
            }
        }
    }

    #[test]
    fn what_no_caller_named_has_no_id() {
        for alias in ["virtio-disk0", "net0", "ua-other", "ua-memory-1-2", ""] {
            assert_eq!(id_of(alias), None, "{alias}");
        }
    }
}
