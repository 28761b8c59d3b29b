//! The devices of a domain in libvirt's XML.

use super::{
    super::{
        Backing, Bandwidth, Device, Disk, DiskDevice, DiskSource, Domain, Graphics, Interface,
        InterfaceSource, Machine, MemoryModule, Rate, Rng, alias, interface, xml::Xml,
    },
    network, path,
};
use crate::model::{Bytes, DiskBus, NbdServer, VideoModel};

pub(super) fn write(xml: &mut Xml, domain: &Domain) {
    let machine = &domain.machine;
    xml.node("devices", &[], |xml| {
        if let Some(emulator) = &machine.emulator {
            xml.text("emulator", &[], emulator);
        }
        domain.disks.iter().for_each(|each| disk(xml, each));
        controllers(xml, domain);
        domain.interfaces.iter().for_each(|each| nic(xml, each));
        console(xml, domain);
        if machine.agent_channel {
            xml.node("channel", &[("type", "unix")], |xml| {
                xml.leaf(
                    "target",
                    &[("type", "virtio"), ("name", "org.qemu.guest_agent.0")],
                );
            });
        }
        screen(xml, machine);
        small(xml, machine);
    });
}

/// A device by itself.
pub(in super::super) fn device(device: &Device) -> String {
    let mut xml = Xml::new();
    match device {
        Device::Disk(one) => disk(&mut xml, one),
        Device::Interface(one) => nic(&mut xml, one),
        Device::Memory(one) => memory(&mut xml, *one),
    }
    xml.finish()
}

fn memory(xml: &mut Xml, module: MemoryModule) {
    xml.node("memory", &[("model", "dimm")], |xml| {
        xml.node("target", &[], |xml| {
            let size = Bytes(module.to.0.saturating_sub(module.from.0)).kib();
            xml.text("size", &[("unit", "KiB")], &size.to_string());
            xml.text("node", &[], "0");
        });
        xml.leaf("alias", &[("name", &alias::memory(&module))]);
    });
}

fn disk(xml: &mut Xml, disk: &Disk) {
    let kind = match disk.source {
        DiskSource::File(_) => "file",
        DiskSource::Block(_) => "block",
        DiskSource::Nbd { .. } | DiskSource::Iscsi { .. } | DiskSource::Rbd { .. } => "network",
    };
    let kind = [("type", kind), ("device", disk.device.as_str())];
    xml.node("disk", &kind, |xml| {
        let mut driver = vec![
            ("name", "qemu"),
            ("type", disk.format.as_str()),
            ("cache", disk.cache.as_str()),
        ];
        if disk.discard {
            driver.push(("discard", "unmap"));
        }
        xml.leaf("driver", &driver);
        source(xml, &disk.source);
        backing(xml, disk.backing.as_ref());
        xml.leaf("target", &[("dev", &disk.target), ("bus", bus(disk.bus))]);
        xml.leaf("alias", &[("name", &alias::disk(&disk.id))]);
        if disk.tune.bounds().next().is_some() {
            xml.node("iotune", &[], |xml| {
                for (name, value) in disk.tune.bounds() {
                    xml.text(name, &[], &value.to_string());
                }
            });
        }
        if disk.read_only || disk.device == DiskDevice::Cdrom {
            xml.leaf("readonly", &[]);
        }
        if disk.shared {
            xml.leaf("shareable", &[]);
        }
        if let Some(serial) = &disk.serial {
            xml.text("serial", &[], serial);
        }
        if let Some(order) = disk.boot_order {
            xml.leaf("boot", &[("order", &order.to_string())]);
        }
        if let Some(unit) = disk.unit {
            // Without it libvirt would open a second controller at the 17th name, and of a model that few guests know.
            let unit = unit.to_string();
            xml.leaf(
                "address",
                &[
                    ("type", "drive"),
                    ("controller", "0"),
                    ("bus", "0"),
                    ("target", "0"),
                    ("unit", &unit),
                ],
            );
        }
    });
}

fn source(xml: &mut Xml, source: &DiskSource) {
    match source {
        DiskSource::File(file) => xml.leaf("source", &[("file", &path(file))]),
        DiskSource::Block(device) => xml.leaf("source", &[("dev", &path(device))]),
        DiskSource::Iscsi {
            unit,
            initiator,
            login,
        } => network::iscsi(xml, unit, (initiator.as_deref(), login.as_ref())),
        DiskSource::Rbd { image, login } => network::rbd(xml, image, login.as_ref()),
        DiskSource::Nbd { server, export } => {
            let mut told = vec![("protocol", "nbd")];
            if !export.is_empty() {
                told.push(("name", export));
            }
            xml.node("source", &told, |xml| {
                match server {
                    NbdServer::Tcp(at) => {
                        let port = at.port.to_string();
                        xml.leaf("host", &[("name", &at.host), ("port", &port)]);
                    }
                    NbdServer::Unix(socket) => {
                        let socket = path(socket);
                        xml.leaf("host", &[("transport", "unix"), ("socket", &socket)]);
                    }
                }
                // A server that is restarted is waited for; what the guest asks meanwhile waits too.
                xml.leaf("reconnect", &[("delay", "30")]);
            });
        }
    }
}

/// Says that the chain ends here, or where: left to find it out from the file, libvirt would give the file below to QEMU's
/// user too, and an emulator that a guest took over could write what the disks of others rest on. What is the disk's alone
/// is QEMU's like the disk: it was the disk itself once, and may become it again.
fn backing(xml: &mut Xml, backing: Option<&Backing>) {
    let Some(backing) = backing else {
        return xml.leaf("backingStore", &[]);
    };
    xml.node("backingStore", &[("type", "file")], |xml| {
        xml.leaf("format", &[("type", backing.format.as_str())]);
        xml.node("source", &[("file", &path(&backing.path))], |xml| {
            if !backing.own {
                xml.leaf("seclabel", &[("model", "dac"), ("relabel", "no")]);
            }
        });
        self::backing(xml, backing.backing.as_deref());
    });
}

fn bus(bus: DiskBus) -> &'static str {
    match bus {
        DiskBus::Virtio => "virtio",
        DiskBus::Scsi => "scsi",
        DiskBus::Sata => "sata",
        DiskBus::Ide => "ide",
    }
}

fn controllers(xml: &mut Xml, domain: &Domain) {
    if domain.disks.iter().any(|disk| disk.bus == DiskBus::Scsi) {
        xml.leaf(
            "controller",
            &[("type", "scsi"), ("index", "0"), ("model", "virtio-scsi")],
        );
    }
    xml.leaf("controller", &[("type", "usb"), ("model", "none")]);
    if domain.machine.pcie_ports > 0 {
        xml.leaf("controller", &[("type", "pci"), ("model", "pcie-root")]);
    }
    for _ in 0..domain.machine.pcie_ports {
        xml.leaf(
            "controller",
            &[("type", "pci"), ("model", "pcie-root-port")],
        );
    }
}

fn nic(xml: &mut Xml, nic: &Interface) {
    let kind = match nic.source {
        InterfaceSource::Bridge { .. } => "bridge",
        // QEMU cannot have a card with no network behind it; this one's cable is out.
        InterfaceSource::User | InterfaceSource::Unbound => "user",
    };
    xml.node("interface", &[("type", kind)], |xml| {
        xml.leaf("mac", &[("address", &nic.mac.to_string())]);
        if let InterfaceSource::Bridge { bridge, tap } = &nic.source {
            xml.leaf("source", &[("bridge", bridge)]);
            xml.leaf("target", &[("dev", tap.as_str())]);
        }
        xml.leaf("alias", &[("name", &alias::interface(&nic.id))]);
        bandwidth(xml, &nic.bandwidth);
        xml.leaf("model", &[("type", interface::model(nic.model))]);
        if let Some(mtu) = nic.mtu {
            xml.leaf("mtu", &[("size", &mtu.to_string())]);
        }
        if nic.source == InterfaceSource::Unbound {
            xml.leaf("link", &[("state", "down")]);
        }
        // Loading the card's boot ROM takes a second, and no guest of ours boots from the network.
        xml.leaf("rom", &[("enabled", "no")]);
    });
}

fn bandwidth(xml: &mut Xml, bandwidth: &Bandwidth) {
    if *bandwidth == Bandwidth::default() {
        return;
    }
    xml.node("bandwidth", &[], |xml| {
        if let Some(rate) = &bandwidth.inbound {
            side(xml, "inbound", rate);
        }
        if let Some(rate) = &bandwidth.outbound {
            side(xml, "outbound", rate);
        }
    });
}

fn side(xml: &mut Xml, name: &str, rate: &Rate) {
    let average = rate.average.to_string();
    let further = [("peak", rate.peak), ("burst", rate.burst)];
    let further = further.map(|(name, value)| (name, value.map(|value| value.to_string())));
    let mut bounds = vec![("average", average.as_str())];
    for (name, value) in &further {
        bounds.extend(value.as_deref().map(|value| (*name, value)));
    }
    xml.leaf(name, &bounds);
}

fn console(xml: &mut Xml, domain: &Domain) {
    for (name, target) in [("serial", "isa-serial"), ("console", "serial")] {
        xml.node(name, &[("type", "pty")], |xml| {
            if let Some(log) = &domain.console_log {
                xml.leaf("log", &[("file", &path(log)), ("append", "on")]);
            }
            xml.leaf("target", &[("type", target), ("port", "0")]);
        });
    }
}

fn screen(xml: &mut Xml, machine: &Machine) {
    if let Some(Graphics::Vnc) = machine.graphics {
        // An absolute pointer: with a relative one the viewer's and the guest's drift apart.
        xml.leaf("input", &[("type", "tablet"), ("bus", "virtio")]);
        xml.leaf(
            "graphics",
            &[
                ("type", "vnc"),
                ("autoport", "yes"),
                ("listen", "127.0.0.1"),
            ],
        );
    }
    xml.node("video", &[], |xml| {
        let model = match machine.video {
            VideoModel::Virtio => "virtio",
            VideoModel::Vga => "vga",
            VideoModel::None => "none",
        };
        xml.leaf("model", &[("type", model)]);
    });
}

fn small(xml: &mut Xml, machine: &Machine) {
    if let Some(watchdog) = machine.watchdog {
        xml.leaf(
            "watchdog",
            &[
                ("model", watchdog.model.as_str()),
                ("action", watchdog.action.as_str()),
            ],
        );
    }
    match machine.balloon_period {
        Some(period) => xml.node("memballoon", &[("model", "virtio")], |xml| {
            xml.leaf("stats", &[("period", &period.to_string())]);
        }),
        None => xml.leaf("memballoon", &[("model", "none")]),
    }
    if let Some(rng) = machine.rng {
        randomness(xml, rng);
    }
}

fn randomness(xml: &mut Xml, rng: Rng) {
    xml.node("rng", &[("model", "virtio")], |xml| {
        if let Some(bytes) = rng.bytes {
            let bytes = bytes.0.to_string();
            let period = rng.period.map(|period| period.to_string());
            let mut rate = vec![("bytes", bytes.as_str())];
            rate.extend(period.as_deref().map(|period| ("period", period)));
            xml.leaf("rate", &rate);
        }
        xml.text("backend", &[("model", "random")], "/dev/urandom");
    });
}
