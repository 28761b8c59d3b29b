//! Whether a flavor is as large as its image says it needs.

use crate::{
    error::{Error, Kind},
    model::InstanceSpec,
};

/// Whether the flavor is as large as the image says it needs.
///
/// # Errors
/// `FLAVOR_DISK_TOO_SMALL`, `FLAVOR_MEMORY_TOO_SMALL`.
pub fn fits(spec: &InstanceSpec) -> Result<(), Error> {
    let least = &spec.properties;
    // A volume's size is known once it was looked at.
    let root = match spec.root_volume() {
        Some(volume) => volume.seen.as_ref().map(|seen| seen.size),
        None => spec.flavor.root,
    };
    if root.is_some_and(|root| root < least.min_disk) {
        let e = Error::new(
            Kind::Precondition,
            "FLAVOR_DISK_TOO_SMALL",
            format!("the image needs a root disk of {}", least.min_disk),
        );
        return Err(e.with("needed", least.min_disk));
    }
    if spec.flavor.memory < least.min_memory {
        let e = Error::new(
            Kind::Precondition,
            "FLAVOR_MEMORY_TOO_SMALL",
            format!("the image needs memory of {}", least.min_memory),
        );
        return Err(e.with("needed", least.min_memory));
    }
    Ok(())
}
