//! From a plan and what was made of it to the domain.

use std::{collections::BTreeMap, path::PathBuf, time::SystemTime};

use super::{CONSOLE_LOG, DiskPlan, Plan, PlanError, VifPlan};
use crate::{
    domain::{
        Backing, Disk, DiskDevice, DiskLogin, DiskSource, Domain, Format, Interface, Kernel,
        Metadata,
    },
    image::Base,
    model::{DiskFormat, DiskId, InstanceId, Iscsi, Rbd, SecretName, Seen, Volume, VolumeTarget},
    vif::Plugged,
};

/// What the steps have placed on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The instance's folder, which holds its disks.
    pub folder: PathBuf,
    /// The files that disks rest on; a disk that is not here rests on none.
    pub backing: BTreeMap<DiskId, Base>,
    /// The kernel's file, when QEMU loads it itself.
    pub kernel: Option<PathBuf>,
    /// The ramdisk's file.
    pub ramdisk: Option<PathBuf>,
    /// When the instance's spawn began.
    pub created: SystemTime,
}

/// The domain of a plan, whose disks are placed and whose interfaces are plugged.
///
/// # Errors
/// When the plan has an interface that is not in `plugged`, or a kernel that is not in `placed`: a bug of ours.
pub fn assemble(plan: &Plan, placed: &Placed, plugged: &[Plugged]) -> Result<Domain, PlanError> {
    let title = plan.name.trim();
    let instance = plan.instance;
    let disks = plan.disks.iter();
    let disks = disks.map(|each| disk(instance, each, placed));
    let interfaces = plan.vifs.iter().map(|vif| {
        let ours = plugged.iter().find(|p| p.interface == vif.vif.id);
        let missing = || PlanError::NotPlugged {
            instance: plan.instance,
            interface: vif.vif.id.clone(),
        };
        ours.map(|plugged| interface(vif, plugged))
            .ok_or_else(missing)
    });
    Ok(Domain {
        id: plan.instance,
        title: (!title.is_empty()).then(|| title.to_owned()),
        metadata: Metadata {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: plan.name.clone(),
            created: placed.created,
            flavor: plan.flavor.clone(),
            vcpus: plan.machine.vcpus,
            memory: plan.machine.memory,
            image: plan.image.clone(),
        },
        machine: plan.machine.clone(),
        kernel: kernel(plan, placed)?,
        disks: disks.collect(),
        interfaces: interfaces.collect::<Result<_, _>>()?,
        console_log: Some(placed.folder.join(CONSOLE_LOG)),
    })
}

fn kernel(plan: &Plan, placed: &Placed) -> Result<Option<Kernel>, PlanError> {
    let Some(command_line) = plan.command_line.clone() else {
        return Ok(None);
    };
    let missing = PlanError::NoKernel {
        instance: plan.instance,
    };
    Ok(Some(Kernel {
        kernel: placed.kernel.clone().ok_or(missing)?,
        ramdisk: placed.ramdisk.clone(),
        command_line,
    }))
}

fn disk(instance: InstanceId, plan: &DiskPlan, placed: &Placed) -> Disk {
    volume_disk(instance, plan).unwrap_or_else(|| {
        let source = DiskSource::File(placed.folder.join(&plan.file_name));
        disk_over(plan, source, placed.backing.get(&plan.id).map(backing))
    })
}

/// The disk that a volume is; none for one that this host keeps itself.
pub fn volume_disk(instance: InstanceId, plan: &DiskPlan) -> Option<Disk> {
    let volume = plan.volume.as_ref()?;
    Some(disk_over(plan, source(instance, volume), below(volume)))
}

fn disk_over(plan: &DiskPlan, source: DiskSource, backing: Option<Backing>) -> Disk {
    Disk {
        id: plan.id.clone(),
        source,
        format: plan.format,
        backing,
        device: plan.device,
        read_only: plan.volume.as_ref().is_some_and(|volume| volume.read_only),
        shared: plan.volume.as_ref().is_some_and(|volume| volume.shared),
        bus: plan.bus,
        target: plan.target.clone(),
        unit: plan.unit,
        cache: plan.cache,
        // Room that the guest gives back is room on the host; a CD-ROM has none to give.
        discard: match &plan.volume {
            Some(volume) => volume.discard,
            None => plan.device == DiskDevice::Disk,
        },
        serial: plan.serial.clone(),
        boot_order: plan.boot_order,
        tune: plan.tune,
    }
}

fn source(instance: InstanceId, volume: &Volume) -> DiskSource {
    let login = volume.login().map(|(login, _)| {
        let name = SecretName {
            instance,
            volume: volume.id,
        };
        DiskLogin {
            user: login.user.clone(),
            secret: name.uuid(),
        }
    });
    match &volume.target {
        VolumeTarget::Local { path } => {
            let Some(Seen {
                path: Some(real),
                block,
                ..
            }) = &volume.seen
            else {
                // Never connected: libvirt says whether it is there.
                return DiskSource::File(path.clone());
            };
            match block {
                true => DiskSource::Block(real.clone()),
                false => DiskSource::File(real.clone()),
            }
        }
        VolumeTarget::Nbd { server, export } => DiskSource::Nbd {
            server: server.clone(),
            export: export.clone(),
        },
        VolumeTarget::Iscsi(unit) => DiskSource::Iscsi {
            unit: Iscsi {
                login: None,
                ..unit.clone()
            },
            initiator: volume.seen.as_ref().and_then(|seen| seen.initiator.clone()),
            login,
        },
        VolumeTarget::Rbd(image) => DiskSource::Rbd {
            image: Rbd {
                login: None,
                ..image.clone()
            },
            login,
        },
    }
}

fn backing(base: &Base) -> Backing {
    Backing {
        path: base.path.clone(),
        format: format(base.format),
        own: false,
        backing: None,
    }
}

/// What the file rests on that the guest writes to.
fn below(volume: &Volume) -> Option<Backing> {
    let below = volume.chain().into_iter().skip(1).rev();
    below.fold(None, |backing, layer| {
        Some(Backing {
            path: layer.path,
            format: format(layer.format),
            own: true,
            backing: backing.map(Box::new),
        })
    })
}

fn format(format: DiskFormat) -> Format {
    match format {
        DiskFormat::Qcow2 => Format::Qcow2,
        // Neither the cache nor a volume has a third format.
        _ => Format::Raw,
    }
}

fn interface(plan: &VifPlan, plugged: &Plugged) -> Interface {
    Interface {
        id: plan.vif.id.clone(),
        source: plugged.source.clone(),
        mac: plan.vif.mac,
        model: plan.vif.model,
        mtu: plugged.mtu,
        bandwidth: plan.bandwidth,
    }
}
