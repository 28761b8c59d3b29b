//! Board, processor and small devices of a guest.

use super::{
    CpuChoice, DiskPlan, Faults, PlanError, PlanSettings, VifPlan, extra_specs, extra_specs::Wishes,
};
use crate::{
    domain::{
        Clock, Cpu, CpuMode, Graphics, Machine, Room, Timers, Topology, Watchdog, WatchdogModel,
    },
    hypervisor::Capabilities,
    model::{DiskBus, InstanceSpec, MachineType, NicModel, OsType, VirtType},
};

/// The boards number processors in eight bits, and 255 means all of them.
const MOST_VCPUS: u32 = 255;

/// What the host brings to the decision.
pub(super) struct Host<'a> {
    pub(super) capabilities: &'a Capabilities,
    pub(super) settings: &'a PlanSettings,
    pub(super) board: MachineType,
}

/// Everything but the number of PCI Express ports, which hangs on the other devices.
pub(super) fn plan(
    spec: &InstanceSpec,
    wishes: &Wishes,
    host: &Host<'_>,
    faults: &mut Faults,
) -> Result<Machine, PlanError> {
    let Host {
        capabilities,
        settings,
        ..
    } = host;
    let flavor = &spec.flavor;
    let virt = capabilities.virt_type;
    for (field, vcpus) in [
        ("flavor.vcpus", flavor.vcpus),
        ("flavor.max_vcpus", flavor.max_vcpus.unwrap_or_default()),
    ] {
        if vcpus > MOST_VCPUS {
            let why = format!("must be at most {MOST_VCPUS}: no board here has room for more");
            faults.add(field, why);
        }
    }
    let topology = topology(flavor.most_vcpus(), wishes, faults);
    let windows = spec.properties.os == OsType::Windows;
    Ok(Machine {
        virt,
        architecture: (virt != VirtType::Test).then_some(capabilities.architecture),
        board: board(host, faults),
        emulator: capabilities.emulator.clone(),
        memory: flavor.memory,
        vcpus: flavor.vcpus,
        room: Room {
            vcpus: flavor.max_vcpus,
            memory: flavor.max_memory,
        },
        cpu: cpu(virt, &settings.cpu, topology)?,
        cpu_tune: wishes.cpu,
        boot_menu: wishes.boot_menu,
        clock: if windows {
            Clock::LocalTime
        } else {
            Clock::Utc
        },
        timers: match (virt, windows) {
            (VirtType::Kvm, true) => Timers::HyperV,
            (VirtType::Kvm, false) => Timers::Kvm,
            (VirtType::Qemu | VirtType::Test, _) => Timers::Emulated,
        },
        tb_cache: settings.tb_cache.filter(|_| virt == VirtType::Qemu),
        pcie_ports: 0,
        graphics: settings.vnc.then_some(Graphics::Vnc),
        video: spec.properties.video,
        rng: wishes.rng(),
        watchdog: wishes.watchdog.map(|action| Watchdog {
            model: match host.board {
                MachineType::Q35 => WatchdogModel::Itco,
                MachineType::Pc => WatchdogModel::I6300esb,
            },
            action,
        }),
        balloon_period: Some(settings.balloon_period),
        agent_channel: true,
    })
}

/// The board by its full name, which stays the same when the emulator is upgraded.
fn board(host: &Host<'_>, faults: &mut Faults) -> Option<String> {
    let alias = match host.board {
        MachineType::Q35 => "q35",
        MachineType::Pc => "pc",
    };
    let machines = &host.capabilities.machines;
    let known = machines.iter().find(|(name, _)| name == alias);
    match (known, host.capabilities.virt_type) {
        (Some((_, canonical)), _) => Some(canonical.clone()),
        (None, VirtType::Test) => None,
        (None, VirtType::Kvm | VirtType::Qemu) => {
            let why = format!("cannot be {alias}: the hypervisor has no such board");
            faults.add("image.properties.hw_machine_type", why);
            None
        }
    }
}

fn cpu(
    virt: VirtType,
    choice: &CpuChoice,
    topology: Option<Topology>,
) -> Result<Option<Cpu>, PlanError> {
    let mode = match (choice, virt) {
        // libvirt's test driver needs none, and knows of those that it is given no more than their words.
        (CpuChoice::Auto, VirtType::Test) if topology.is_none() => return Ok(None),
        // Measured, a guest boots no faster on a smaller one, and newer distributions boot on no smaller one at all.
        (CpuChoice::Auto, VirtType::Qemu | VirtType::Test) => CpuMode::Maximum,
        (CpuChoice::Auto | CpuChoice::HostModel, _) => CpuMode::HostModel,
        (CpuChoice::HostPassthrough, VirtType::Qemu) => {
            return Err(PlanError::Cpu {
                choice: choice.clone(),
                virt: "qemu",
            });
        }
        (CpuChoice::HostPassthrough, _) => CpuMode::HostPassthrough,
        (CpuChoice::Maximum, _) => CpuMode::Maximum,
        (CpuChoice::Custom(model), _) => CpuMode::Custom(model.clone()),
    };
    Ok(Some(Cpu { mode, topology }))
}

/// What is wished; the first of sockets, cores and threads that is not takes what is left, the others are one.
fn topology(vcpus: u32, wishes: &Wishes, faults: &mut Faults) -> Option<Topology> {
    let wished = [
        ("hw:cpu_sockets", wishes.sockets),
        ("hw:cpu_cores", wishes.cores),
        ("hw:cpu_threads", wishes.threads),
    ];
    let (last, _) = wished.iter().rfind(|(_, wish)| wish.is_some())?;
    let product = wished.iter().filter_map(|(_, wish)| *wish);
    let product = product.fold(1, u32::saturating_mul);
    let open = wished.iter().position(|(_, wish)| wish.is_none());
    let fits = vcpus.checked_rem(product) == Some(0) && (open.is_some() || product == vcpus);
    if !fits {
        let why = format!("does not give {vcpus} vcpus with the other hw:cpu_* specs");
        faults.add(extra_specs::field(last), why);
        return None;
    }
    let mut parts = wished.map(|(_, wish)| wish.unwrap_or(1));
    if let Some(open) = open {
        parts[open] = vcpus / product;
    }
    let [sockets, cores, threads] = parts;
    Some(Topology {
        sockets,
        cores,
        threads,
    })
}

/// Ports that the devices take, and those to spare; a board without PCI Express has none.
pub(super) fn pcie_ports(
    machine: &Machine,
    host: &Host<'_>,
    (disks, vifs): (&[DiskPlan], &[VifPlan]),
) -> u32 {
    if host.board == MachineType::Pc {
        return 0;
    }
    let on = |bus| disks.iter().filter(move |disk| disk.bus == bus);
    // Older cards share one bridge to conventional PCI; libvirt adds it, and a port for it.
    let express = |plan: &&VifPlan| matches!(plan.vif.model, NicModel::Virtio | NicModel::E1000e);
    let taken = [
        on(DiskBus::Virtio).count(),
        usize::from(on(DiskBus::Scsi).next().is_some()),
        vifs.iter().filter(express).count(),
        usize::from(machine.agent_channel),
        // The tablet that comes with the screen.
        usize::from(machine.graphics.is_some()),
        usize::from(machine.balloon_period.is_some()),
        usize::from(machine.rng.is_some()),
    ];
    let taken = u32::try_from(taken.iter().sum::<usize>()).unwrap_or(u32::MAX);
    taken.saturating_add(host.settings.spare_ports)
}
