//! Pure decisions: what a guest is made of, decided before anything is touched.
//!
//! [`build`] turns a spec into a [`Plan`], or names everything in the spec that this host cannot honour; nothing is
//! passed over silently. The steps work from the plan; when they have placed and plugged what it names, [`assemble`]
//! turns both into the domain. A plan holds no secret and may be stored.

pub mod admission;
mod assemble;
mod disks;
mod extra_specs;
mod fit;
pub mod inside;
mod machine;
mod placement;
mod rescue;
mod settings;
mod vifs;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use assemble::{Placed, assemble, volume_disk};
pub use disks::local as local_disks;
pub use extra_specs::known as extra_specs;
pub use fit::fits;
pub use placement::cpu_traits;
pub use rescue::RESCUE_DISK;
pub use settings::{CpuChoice, PlanSettings};

use crate::{
    domain::{Bandwidth, Cache, DiskDevice, Format, IoTune, Machine},
    error::{Classify, Details, Kind, Violation},
    hypervisor::Capabilities,
    model::{
        Bytes, DiskBus, DiskId, InstanceId, InstanceRecord, InstanceSpec, InterfaceId, Pin, Rescue,
        Vif, Volume,
    },
};

/// The serial console's log, in the instance's folder.
pub const CONSOLE_LOG: &str = "console.log";

/// The definition as it was last given to libvirt, in the instance's folder.
pub const DEFINITION: &str = "libvirt.xml";

/// What an instance will be made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose it is.
    pub instance: InstanceId,
    /// Name for people.
    pub name: String,
    /// The caller's name of its flavor.
    pub flavor: String,
    /// The caller's id of its image, when its root disk is made of one.
    pub image: Option<String>,
    /// Board, processor, memory and small devices.
    pub machine: Machine,
    /// Command line of a kernel that QEMU loads itself; none boots from the root disk.
    pub command_line: Option<String>,
    /// Disks: root, ephemeral, swap, further ones, the config drive last.
    pub disks: Vec<DiskPlan>,
    /// Network interfaces, in the order of the guest's slots.
    pub vifs: Vec<VifPlan>,
}

/// What a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DiskRole {
    /// What the image becomes.
    Root,
    /// Empty, formatted, gone with the instance.
    Ephemeral,
    /// Swap space.
    Swap,
    /// An empty one that the caller asked for.
    Blank,
    /// A volume, which is not ours to make or to remove.
    Volume,
    /// What the guest is told of itself.
    ConfigDrive,
    /// What a rescue image becomes.
    Rescue,
}

/// A disk to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// Its id, unique within the instance.
    pub id: DiskId,
    /// What it is for.
    pub role: DiskRole,
    /// Its file in the instance's folder; empty for a volume.
    pub file_name: String,
    /// The file's format.
    pub format: Format,
    /// Its size; none is that of what it is made of.
    pub size: Option<Bytes>,
    /// What the guest sees.
    pub device: DiskDevice,
    /// How it is attached.
    pub bus: DiskBus,
    /// Its name in the guest, as `vda`.
    pub target: String,
    /// Unit on the virtio-scsi controller, for disks on that bus.
    pub unit: Option<u32>,
    /// Serial number that the guest reads.
    pub serial: Option<String>,
    /// Its turn among the disks that the firmware tries, as the caller counts them.
    #[serde(default)]
    pub boot_index: Option<u32>,
    /// The same in the hypervisor's count, which begins with 1.
    pub boot_order: Option<u32>,
    /// How the host caches it.
    pub cache: Cache,
    /// Bounds of its traffic.
    pub tune: IoTune,
    /// The volume that it is, for one that is.
    #[serde(default)]
    pub volume: Option<Volume>,
}

impl DiskPlan {
    /// Whether it is the root disk, be it made from an image or a volume.
    pub fn is_root(&self) -> bool {
        match self.role {
            DiskRole::Root => true,
            DiskRole::Volume => self.boot_index == Some(0),
            _ => false,
        }
    }
}

impl Plan {
    /// Where its disks are, so that nothing that comes or goes beside them moves them.
    pub fn pins(&self) -> BTreeMap<DiskId, Pin> {
        let pin = |disk: &DiskPlan| Pin {
            target: disk.target.clone(),
            unit: disk.unit,
        };
        let pins = self.disks.iter().map(|disk| (disk.id.clone(), pin(disk)));
        pins.collect()
    }
}

/// An interface to plug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VifPlan {
    /// As the caller describes it.
    pub vif: Vif,
    /// Bounds of its traffic.
    pub bandwidth: Bandwidth,
}

/// Why there is no plan, or no domain from one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The spec asks for what cannot be honoured.
    #[error(
        "the spec of instance {instance} asks for what this host cannot honour: {}",
        listed(violations)
    )]
    Refused {
        /// Whose spec.
        instance: InstanceId,
        /// All of it.
        violations: Vec<Violation>,
    },
    /// This host is set to a processor that its hypervisor does not have.
    #[error("the host's setting cpu = {choice} does not go with {virt}")]
    Cpu {
        /// The setting.
        choice: CpuChoice,
        /// What runs the guests' code.
        virt: &'static str,
    },
    /// An interface of the plan was not plugged.
    #[error("interface {interface} of instance {instance} has not been plugged")]
    NotPlugged {
        /// Whose.
        instance: InstanceId,
        /// Which.
        interface: InterfaceId,
    },
    /// The kernel of the plan was not placed.
    #[error("the kernel of instance {instance} has not been placed")]
    NoKernel {
        /// Whose.
        instance: InstanceId,
    },
}

impl Classify for PlanError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused { .. } => Kind::Invalid,
            Self::Cpu { .. } => Kind::Precondition,
            Self::NotPlugged { .. } | Self::NoKernel { .. } => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "INVALID_REQUEST",
            Self::Cpu { .. } => "INVALID_CPU_INFO",
            Self::NotPlugged { .. } | Self::NoKernel { .. } => "INTERNAL",
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Refused { instance, .. } | Self::NoKernel { instance } => {
                vec![("instance_id", instance.to_string())]
            }
            Self::Cpu { choice, virt } => vec![
                ("cpu", choice.to_string()),
                ("virt_type", (*virt).to_owned()),
            ],
            Self::NotPlugged {
                instance,
                interface,
            } => vec![
                ("instance_id", instance.to_string()),
                ("interface_id", interface.to_string()),
            ],
        }
    }

    fn details(&self) -> Details {
        match self {
            Self::Refused { violations, .. } => Details {
                violations: violations.clone(),
                ..Details::default()
            },
            _ => Details::default(),
        }
    }
}

fn listed(violations: &[Violation]) -> String {
    let lines = violations
        .iter()
        .map(|fault| format!("{} {}", fault.field, fault.description));
    lines.collect::<Vec<_>>().join("; ")
}

/// Everything that is wrong with a spec, gathered on the way.
#[derive(Debug, Default)]
struct Faults(Vec<Violation>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        let (field, description) = (field.into(), description.into());
        self.0.push(Violation { field, description });
    }
}

/// Decides everything about an instance that can be decided without touching anything.
///
/// # Errors
/// `Refused` with everything in the spec that cannot be honoured; `Cpu` when the host's own setting cannot.
pub fn build(
    spec: &InstanceSpec,
    capabilities: &Capabilities,
    settings: &PlanSettings,
) -> Result<Plan, PlanError> {
    planned((spec, None), capabilities, settings)
}

/// The plan of an instance that is there, as it is now.
///
/// # Errors
/// Those of [`build`]: this host's settings no longer go with the spec, or there is no room for a rescue disk.
pub fn of(
    record: &InstanceRecord,
    capabilities: &Capabilities,
    settings: &PlanSettings,
) -> Result<Plan, PlanError> {
    planned(
        (&record.spec, record.rescue.as_ref()),
        capabilities,
        settings,
    )
}

fn planned(
    (spec, rescue): (&InstanceSpec, Option<&Rescue>),
    capabilities: &Capabilities,
    settings: &PlanSettings,
) -> Result<Plan, PlanError> {
    let mut faults = Faults::default();
    let wishes = extra_specs::parse(&spec.flavor.extra_specs, &mut faults);
    let board = spec.properties.machine.unwrap_or(settings.machine);
    words(spec, &mut faults);
    let mut disks = disks::plan((spec, board), &wishes, settings, &mut faults);
    if let Some(rescue) = rescue {
        rescue::first(&mut disks, (rescue, settings), &mut faults);
    }
    let vifs = vifs::plan(spec, &wishes, &mut faults);
    let host = machine::Host {
        capabilities,
        settings,
        board,
    };
    let machine = machine::plan(spec, &wishes, &host, &mut faults)?;
    if !faults.0.is_empty() {
        return Err(PlanError::Refused {
            instance: spec.id,
            violations: faults.0,
        });
    }
    let pcie_ports = machine::pcie_ports(&machine, &host, (&disks, &vifs));
    Ok(Plan {
        instance: spec.id,
        name: spec.display_name.clone(),
        flavor: spec.flavor.name.clone(),
        image: spec.image.as_ref().map(|image| image.file.id.clone()),
        machine: Machine {
            pcie_ports,
            ..machine
        },
        command_line: spec.kernel.as_ref().map(|k| k.command_line.clone()),
        disks,
        vifs,
    })
}

/// Refuses what XML has no way to say.
fn words(spec: &InstanceSpec, faults: &mut Faults) {
    let image = spec.image.as_ref().map(|image| &image.file.id);
    let command_line = spec.kernel.as_ref().map(|kernel| &kernel.command_line);
    let words = [
        ("display_name", Some(&spec.display_name)),
        ("flavor.name", Some(&spec.flavor.name)),
        ("image.image_id", image),
        ("image.kernel_command_line", command_line),
    ];
    let unlawful = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    for (field, word) in words {
        if word.is_some_and(|word| word.contains(unlawful)) {
            faults.add(field, "must not contain control characters");
        }
    }
}
