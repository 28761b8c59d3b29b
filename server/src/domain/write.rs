//! A domain in libvirt's XML, section by section in the order of libvirt's own manual.

use std::path::Path;

use super::{Clock, Cpu, CpuMode, CpuTune, Domain, Machine, Timers, metadata, xml::Xml};
use crate::model::{Architecture, VirtType};

mod devices;
mod network;

pub(super) use devices::device;

/// How often a guest can be given memory between two starts. QEMU's own bound is 256, and each slot costs the firmware's
/// tables a little.
const MEMORY_SLOTS: &str = "32";

pub(super) fn domain(domain: &Domain) -> String {
    let machine = &domain.machine;
    let mut xml = Xml::new();
    let virt = match machine.virt {
        VirtType::Kvm => "kvm",
        VirtType::Qemu => "qemu",
        VirtType::Test => "test",
    };
    xml.node("domain", &[("type", virt)], |xml| {
        xml.text("name", &[], &Domain::name_of(domain.id));
        xml.text("uuid", &[], &domain.id.to_string());
        if let Some(title) = &domain.title {
            xml.text("title", &[], title);
        }
        xml.node("metadata", &[], |xml| {
            metadata::write(xml, &domain.metadata);
        });
        size(xml, machine);
        cpu_tune(xml, &machine.cpu_tune);
        sysinfo(xml, domain);
        os(xml, domain);
        features(xml, machine);
        if let Some(cpu) = &machine.cpu {
            processor(xml, cpu, machine);
        }
        clock(xml, machine);
        // A guest that crashes is stopped and kept for whoever wants to know why.
        xml.text("on_poweroff", &[], "destroy");
        xml.text("on_reboot", &[], "restart");
        xml.text("on_crash", &[], "destroy");
        devices::write(xml, domain);
    });
    xml.finish()
}

fn size(xml: &mut Xml, machine: &Machine) {
    if let Some(most) = machine.room.memory {
        let most = most.kib().to_string();
        xml.text(
            "maxMemory",
            &[("slots", MEMORY_SLOTS), ("unit", "KiB")],
            &most,
        );
    }
    let memory = machine.memory.kib().to_string();
    xml.text("memory", &[("unit", "KiB")], &memory);
    xml.text("currentMemory", &[("unit", "KiB")], &memory);
    let vcpus = machine.vcpus.to_string();
    match machine.room.vcpus {
        None => xml.text("vcpu", &[("placement", "static")], &vcpus),
        Some(most) => xml.text(
            "vcpu",
            &[("placement", "static"), ("current", &vcpus)],
            &most.to_string(),
        ),
    }
}

fn cpu_tune(xml: &mut Xml, tune: &CpuTune) {
    let bounds = [
        ("shares", tune.shares),
        ("period", tune.period),
        ("quota", tune.quota),
    ];
    if bounds.iter().all(|(_, value)| value.is_none()) {
        return;
    }
    xml.node("cputune", &[], |xml| {
        for (name, value) in bounds {
            if let Some(value) = value {
                xml.text(name, &[], &value.to_string());
            }
        }
    });
}

fn sysinfo(xml: &mut Xml, domain: &Domain) {
    let id = domain.id.to_string();
    let entries = [
        ("manufacturer", "computelet"),
        ("product", "computelet"),
        ("version", &domain.metadata.version),
        ("serial", &id),
        ("uuid", &id),
        ("family", "Virtual Machine"),
    ];
    xml.node("sysinfo", &[("type", "smbios")], |xml| {
        xml.node("system", &[], |xml| {
            for (name, value) in entries {
                xml.text("entry", &[("name", name)], value);
            }
        });
    });
}

fn os(xml: &mut Xml, domain: &Domain) {
    let machine = &domain.machine;
    let mut kind = Vec::new();
    if let Some(Architecture::X86_64) = machine.architecture {
        kind.push(("arch", "x86_64"));
    }
    if let Some(board) = &machine.board {
        kind.push(("machine", board.as_str()));
    }
    xml.node("os", &[], |xml| {
        xml.text("type", &kind, "hvm");
        if let Some(kernel) = &domain.kernel {
            xml.text("kernel", &[], &path(&kernel.kernel));
            if let Some(ramdisk) = &kernel.ramdisk {
                xml.text("initrd", &[], &path(ramdisk));
            }
            if !kernel.command_line.is_empty() {
                xml.text("cmdline", &[], &kernel.command_line);
            }
        }
        if machine.boot_menu {
            xml.leaf("bootmenu", &[("enable", "yes")]);
        }
        xml.leaf("smbios", &[("mode", "sysinfo")]);
    });
}

fn features(xml: &mut Xml, machine: &Machine) {
    xml.node("features", &[], |xml| {
        xml.leaf("acpi", &[]);
        xml.leaf("apic", &[]);
        if machine.timers == Timers::HyperV {
            xml.node("hyperv", &[("mode", "custom")], |xml| {
                xml.leaf("relaxed", &[("state", "on")]);
                xml.leaf("vapic", &[("state", "on")]);
                // As often as Windows itself asks Hyper-V for before it yields.
                xml.leaf("spinlocks", &[("state", "on"), ("retries", "8191")]);
            });
        }
        if let Some(size) = machine.tb_cache {
            xml.node("tcg", &[], |xml| {
                let size = size.kib().to_string();
                xml.text("tb-cache", &[("unit", "KiB")], &size);
            });
        }
    });
}

fn processor(xml: &mut Xml, cpu: &Cpu, machine: &Machine) {
    let (attributes, model): (&[_], _) = match &cpu.mode {
        CpuMode::HostModel => (&[("mode", "host-model")], None),
        CpuMode::HostPassthrough => (&[("mode", "host-passthrough")], None),
        CpuMode::Maximum => (&[("mode", "maximum")], None),
        CpuMode::Custom(model) => (&[("mode", "custom"), ("match", "exact")], Some(model)),
    };
    xml.node("cpu", attributes, |xml| {
        if let Some(model) = model {
            xml.text("model", &[("fallback", "forbid")], model);
        }
        if let Some(topology) = cpu.topology {
            xml.leaf(
                "topology",
                &[
                    ("sockets", &topology.sockets.to_string()),
                    ("cores", &topology.cores.to_string()),
                    ("threads", &topology.threads.to_string()),
                ],
            );
        }
        if machine.room.memory.is_some() {
            numa(xml, machine);
        }
    });
}

/// Memory that comes later has to come to some cell; there is one, with all that the guest starts with.
fn numa(xml: &mut Xml, machine: &Machine) {
    let last = machine.room.vcpus.unwrap_or(machine.vcpus) - 1;
    let memory = machine.memory.kib().to_string();
    xml.node("numa", &[], |xml| {
        xml.leaf(
            "cell",
            &[
                ("id", "0"),
                ("cpus", &format!("0-{last}")),
                ("memory", &memory),
                ("unit", "KiB"),
            ],
        );
    });
}

fn clock(xml: &mut Xml, machine: &Machine) {
    let offset = match machine.clock {
        Clock::Utc => [("offset", "utc")],
        Clock::LocalTime => [("offset", "localtime")],
    };
    if machine.timers == Timers::Emulated {
        return xml.leaf("clock", &offset);
    }
    xml.node("clock", &offset, |xml| {
        xml.leaf("timer", &[("name", "pit"), ("tickpolicy", "delay")]);
        xml.leaf("timer", &[("name", "rtc"), ("tickpolicy", "catchup")]);
        xml.leaf("timer", &[("name", "hpet"), ("present", "no")]);
        if machine.timers == Timers::HyperV {
            xml.leaf("timer", &[("name", "hypervclock"), ("present", "yes")]);
        }
    });
}

/// The host's paths come from our own configuration, which admits none that is not UTF-8.
fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
