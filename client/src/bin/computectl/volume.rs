//! `computectl volume` and `computectl interface`: devices that come and go.

mod login;
mod place;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use computedriver_client::v1::{self, vif};
use serde_json::json;
use uuid::Uuid;

use crate::args::Session;
use crate::exit::Failure;
use crate::long::Long;
use crate::out::Out;
use crate::{json, text, volume_snapshot};

pub(crate) use login::LoginArgs;
pub(crate) use place::PLACES;

/// A guest is asked 8 times, 20 s apart.
const DETACH: Duration = Duration::from_secs(180);

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List the disks of an instance.
    List(ListArgs),
    /// Give an instance a volume.
    Attach(Box<AttachArgs>),
    /// Take a volume from an instance; an absent one is a success.
    Detach(DetachArgs),
    /// Tell a guest that a volume has grown.
    Extend(ExtendArgs),
    /// Replace a volume by another under a running guest.
    Swap(SwapArgs),
    /// Let a guest go on in a new file over a volume, whose old file is the snapshot.
    CreateSnapshot(volume_snapshot::CreateArgs),
    /// Merge two files of a volume, so that a snapshot's file is not needed; an absent one is a success.
    DeleteSnapshot(volume_snapshot::DeleteArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum InterfaceCommand {
    /// List the interfaces of an instance.
    List(ListArgs),
    /// Give an instance an interface.
    Attach(AttachInterfaceArgs),
    /// Take an interface from an instance; an absent one is a success.
    Detach(DetachInterfaceArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// UUID of the instance.
    instance: String,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct AttachArgs {
    /// UUID of the instance.
    instance: String,
    #[arg(help = PLACES)]
    volume: String,
    #[command(flatten)]
    login: LoginArgs,
    /// Id of the disk. Default: the volume's id.
    #[arg(long)]
    disk_id: Option<String>,
    /// The storage service's UUID of the volume. Default: a new one.
    #[arg(long)]
    volume_id: Option<Uuid>,
    /// Name in the guest, as vdb.
    #[arg(long)]
    device_name: Option<String>,
    /// Bus. Default: that of the root disk.
    #[arg(long, value_enum)]
    bus: Option<Bus>,
    /// What is on it is qcow2, not raw.
    #[arg(long)]
    qcow2: bool,
    /// The guest may not write.
    #[arg(long)]
    read_only: bool,
    /// Other instances may have it too.
    #[arg(long)]
    multi_attach: bool,
    /// The guest's discards reach the storage.
    #[arg(long)]
    discard: bool,
    /// Serial number that the guest reads. Default: the volume's id.
    #[arg(long)]
    serial: Option<String>,
    /// Bytes a second, both ways.
    #[arg(long)]
    bytes_sec: Option<u64>,
    /// Requests a second, both ways.
    #[arg(long)]
    iops_sec: Option<u64>,
    /// Check everything and change nothing.
    #[arg(long)]
    validate_only: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bus {
    Virtio,
    Scsi,
    Sata,
    Ide,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    /// UUID of the instance.
    instance: String,
    /// Id of the disk.
    disk: String,
    /// What is given is the volume's UUID.
    #[arg(long)]
    by_volume: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExtendArgs {
    /// UUID of the instance.
    instance: String,
    /// Id of the disk.
    disk: String,
    /// The new size, bytes.
    size: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SwapArgs {
    /// UUID of the instance.
    instance: String,
    /// Id of the disk.
    disk: String,
    /// Where the new volume is, as for `attach`.
    volume: String,
    #[command(flatten)]
    login: LoginArgs,
    /// The storage service's UUID of the new volume. Default: a new one.
    #[arg(long)]
    volume_id: Option<Uuid>,
    /// What is on the new volume becomes qcow2, not raw.
    #[arg(long)]
    qcow2: bool,
    /// MiB a second at most.
    #[arg(long)]
    bandwidth: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct AttachInterfaceArgs {
    /// UUID of the instance.
    instance: String,
    /// Id of the interface.
    interface: String,
    /// Its address on the wire.
    #[arg(long)]
    mac: String,
    /// The bridge that it is plugged into. Default: QEMU's own user-mode network.
    #[arg(long)]
    bridge: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DetachInterfaceArgs {
    /// UUID of the instance.
    instance: String,
    /// Id of the interface.
    interface: String,
}

pub(crate) async fn volume(
    command: VolumeCommand,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    match command {
        VolumeCommand::List(args) => disks(args, session, out).await,
        VolumeCommand::Attach(args) => attach(*args, session, out).await,
        VolumeCommand::Detach(args) => detach(args, session, out).await,
        VolumeCommand::Extend(args) => extend(args, session, out).await,
        VolumeCommand::Swap(args) => swap(args, session, out).await,
        VolumeCommand::CreateSnapshot(args) => volume_snapshot::create(args, session, out).await,
        VolumeCommand::DeleteSnapshot(args) => volume_snapshot::delete(args, session, out).await,
    }
}

pub(crate) async fn interface(
    command: InterfaceCommand,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    match command {
        InterfaceCommand::List(args) => interfaces(args, session, out).await,
        InterfaceCommand::Attach(args) => plug(args, session, out).await,
        InterfaceCommand::Detach(args) => unplug(args, session, out).await,
    }
}

async fn disks(args: ListArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let client = session.connect().await?;
    let mut request = v1::ListDisksRequest {
        instance_id: args.instance,
        ..Default::default()
    };
    let mut disks = Vec::new();
    loop {
        let page = client.devices().list_disks(request.clone()).await?;
        let page = page.into_inner();
        disks.extend(page.disks);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if out.is_json() {
        for disk in &disks {
            out.object(&json!({ "disk": json::view("Disk", disk) }))?;
        }
        return Ok(());
    }
    let row = |disk: &v1::Disk| {
        let kind = text::short(disk.kind().as_str_name(), "DISK_KIND_");
        vec![
            disk.disk_id.clone(),
            kind.to_owned(),
            disk.device_name.clone(),
            text::bytes(disk.size_bytes),
            disk.allocated_bytes.map(text::bytes).unwrap_or_default(),
            if disk.reachable { "yes" } else { "no" }.to_owned(),
            disk.volume_id.clone(),
        ]
    };
    let headers = [
        "DISK",
        "KIND",
        "NAME",
        "SIZE",
        "ON HOST",
        "REACHABLE",
        "VOLUME",
    ];
    let rows: Vec<_> = disks.iter().map(row).collect();
    Ok(out.table(&headers, &rows)?)
}

async fn attach(args: AttachArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let bus = args.bus.map(|bus| match bus {
        Bus::Virtio => v1::DiskBus::Virtio,
        Bus::Scsi => v1::DiskBus::Scsi,
        Bus::Sata => v1::DiskBus::Sata,
        Bus::Ide => v1::DiskBus::Ide,
    });
    let volume_id = args.volume_id.unwrap_or_else(Uuid::new_v4).to_string();
    let bounds = v1::DiskQos {
        total_bytes_sec: args.bytes_sec.unwrap_or_default(),
        total_iops_sec: args.iops_sec.unwrap_or_default(),
        ..Default::default()
    };
    let volume = v1::VolumeConnection {
        volume_id: volume_id.clone(),
        target: Some(args.login.only(&args.volume)?),
        read_only: args.read_only,
        multi_attach: args.multi_attach,
        serial: args.serial.unwrap_or_default(),
        format: args.qcow2.then_some(v1::DiskFormat::Qcow2.into()),
        discard: args.discard,
        qos: Some(bounds).filter(|bounds| *bounds != v1::DiskQos::default()),
        ..Default::default()
    };
    let request = v1::AttachVolumeRequest {
        instance_id: args.instance,
        request_id: Uuid::new_v4().to_string(),
        device: Some(v1::BlockDevice {
            disk_id: args.disk_id.unwrap_or(volume_id),
            device_name: args.device_name.unwrap_or_default(),
            bus: bus.map(i32::from),
            source: Some(v1::block_device::Source::Volume(volume)),
            ..Default::default()
        }),
        validate_only: args.validate_only,
    };
    let client = session.connect().await?;
    let answer = client.devices().attach_volume(request).await?.into_inner();
    if out.is_json() {
        let view = json::view("AttachVolumeResponse", &answer);
        return Ok(out.object(&json!({ "attached": view }))?);
    }
    let Some(disk) = answer.disk else {
        return Ok(out.line(format_args!("it could be attached"))?);
    };
    let size = text::bytes(disk.size_bytes);
    let told = format_args!("{} attached as {}, {size}", disk.disk_id, disk.device_name);
    Ok(out.line(told)?)
}

async fn detach(args: DetachArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    use v1::detach_volume_request::Disk;
    let which = match args.by_volume {
        true => Disk::VolumeId(args.disk.clone()),
        false => Disk::DiskId(args.disk.clone()),
    };
    let request = v1::DetachVolumeRequest {
        instance_id: args.instance,
        request_id: Uuid::new_v4().to_string(),
        disk: Some(which),
    };
    let client = session.connect_for(DETACH).await?;
    let answer = client.devices().detach_volume(request).await?.into_inner();
    if out.is_json() {
        let view = json::view("DetachVolumeResponse", &answer);
        return Ok(out.object(&json!({ "detached": view }))?);
    }
    detached(&args.disk, answer.absent, out)
}

async fn extend(args: ExtendArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::ExtendVolumeRequest {
        instance_id: args.instance,
        request_id: Uuid::new_v4().to_string(),
        disk_id: args.disk,
        size_bytes: args.size,
    };
    let client = session.connect().await?;
    let answer = client.devices().extend_volume(request).await?.into_inner();
    if out.is_json() {
        let view = json::view("ExtendVolumeResponse", &answer);
        return Ok(out.object(&json!({ "extended": view }))?);
    }
    let disk = answer.disk.unwrap_or_default();
    let size = text::bytes(disk.size_bytes);
    Ok(out.line(format_args!("{} has {size}", disk.disk_id))?)
}

async fn swap(args: SwapArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let look = format!("computectl volume list {}", args.instance);
    let volume_id = args.volume_id.unwrap_or_else(Uuid::new_v4).to_string();
    let request = v1::SwapVolumeRequest {
        instance_id: args.instance,
        request_id: Uuid::new_v4().to_string(),
        disk_id: args.disk,
        new_volume: Some(v1::VolumeConnection {
            volume_id,
            target: Some(args.login.only(&args.volume)?),
            format: args.qcow2.then_some(v1::DiskFormat::Qcow2.into()),
            ..Default::default()
        }),
        bandwidth_mib_sec: args.bandwidth.unwrap_or_default(),
    };
    let client = session.connect().await?;
    let long = Long {
        look,
        follow: client.follow(request),
        limit: session.limit(),
    };
    let disk = long.run(out).await?;
    if out.is_json() {
        let view = json::view("Disk", &disk);
        return Ok(out.object(&json!({ "swapped": view }))?);
    }
    let told = format_args!("{} is volume {} now", disk.disk_id, disk.volume_id);
    Ok(out.line(told)?)
}

fn detached(what: &str, absent: bool, out: &mut Out) -> Result<(), Failure> {
    let how = if absent {
        "was not attached"
    } else {
        "detached"
    };
    Ok(out.line(format_args!("{what} {how}"))?)
}

async fn interfaces(args: ListArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let client = session.connect().await?;
    let mut request = v1::ListInterfacesRequest {
        instance_id: args.instance,
        ..Default::default()
    };
    let mut interfaces = Vec::new();
    loop {
        let page = client.devices().list_interfaces(request.clone()).await?;
        let page = page.into_inner();
        interfaces.extend(page.interfaces);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if out.is_json() {
        for nic in &interfaces {
            out.object(&json!({ "interface": json::view("Interface", nic) }))?;
        }
        return Ok(());
    }
    let row = |nic: &v1::Interface| {
        vec![
            nic.interface_id.clone(),
            nic.mac_address.clone(),
            text::short(nic.r#type().as_str_name(), "VIF_TYPE_").to_owned(),
            nic.connected_to.clone(),
            nic.host_device.clone(),
            if nic.link_up { "up" } else { "down" }.to_owned(),
        ]
    };
    let headers = ["INTERFACE", "MAC", "TYPE", "AT", "DEVICE", "LINK"];
    let rows: Vec<_> = interfaces.iter().map(row).collect();
    Ok(out.table(&headers, &rows)?)
}

async fn plug(args: AttachInterfaceArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let kind = match args.bridge {
        Some(bridge) => vif::Type::Bridge(v1::BridgeVif { bridge }),
        None => vif::Type::User(v1::UserVif {}),
    };
    let request = v1::AttachInterfaceRequest {
        instance_id: args.instance,
        request_id: Uuid::new_v4().to_string(),
        vif: Some(v1::Vif {
            interface_id: args.interface,
            mac_address: args.mac,
            r#type: Some(kind),
            ..Default::default()
        }),
        validate_only: false,
    };
    let client = session.connect().await?;
    let answer = client.devices().attach_interface(request).await?;
    let answer = answer.into_inner();
    if out.is_json() {
        let view = json::view("AttachInterfaceResponse", &answer);
        return Ok(out.object(&json!({ "attached": view }))?);
    }
    let nic = answer.interface.unwrap_or_default();
    Ok(out.line(format_args!("{} attached", nic.interface_id))?)
}

async fn unplug(
    args: DetachInterfaceArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = v1::DetachInterfaceRequest {
        instance_id: args.instance,
        request_id: Uuid::new_v4().to_string(),
        interface_id: args.interface.clone(),
    };
    let client = session.connect_for(DETACH).await?;
    let answer = client.devices().detach_interface(request).await?;
    let answer = answer.into_inner();
    if out.is_json() {
        let view = json::view("DetachInterfaceResponse", &answer);
        return Ok(out.object(&json!({ "detached": view }))?);
    }
    detached(&args.interface, answer.absent, out)
}
