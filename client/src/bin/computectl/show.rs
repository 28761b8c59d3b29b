//! `computectl show`.

use clap::Args;
use computedriver_client::v1;
use serde_json::json;

use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// UUID of the instance.
    pub(crate) instance: String,
}

pub(crate) async fn run(args: ShowArgs, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = v1::GetInstanceRequest {
        instance_id: args.instance,
    };
    let answer = client.instances().get_instance(request).await?;
    let instance = answer.into_inner().instance.unwrap_or_default();
    tell(&instance, out)
}

/// An instance, as whoever asks reads it.
pub(crate) fn tell(instance: &v1::Instance, out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        let view = json::view("Instance", instance);
        out.object(&json!({ "instance": view }))?;
        return Ok(());
    }
    print(instance, out)
}

/// An instance, for people.
fn print(instance: &v1::Instance, out: &mut Out) -> Result<(), Failure> {
    let mut field = |name: &str, value: String| match value.is_empty() {
        true => Ok(()),
        false => out.line(format_args!("{name:<12}  {value}")),
    };
    field("instance", instance.instance_id.clone())?;
    field("state", text::power_state(instance.power_state()).into())?;
    if instance.rescued {
        let until = text::time(instance.rescue_end_time.as_ref());
        field(
            "rescued",
            if until.is_empty() {
                "yes".to_owned()
            } else {
                format!("until {until}")
            },
        )?;
    }
    field("name", instance.display_name.clone())?;
    field("hostname", instance.hostname.clone())?;
    if let Some(flavor) = &instance.flavor {
        let memory = text::bytes(flavor.memory_mib.saturating_mul(1 << 20));
        field("size", format!("{} vcpus, {memory}", flavor.vcpus))?;
    }
    if let Some(image) = &instance.image {
        field("image", format!("{} ({})", image.image_id, image.location))?;
    }
    field("created", text::time(instance.created_time.as_ref()))?;
    field("started", text::time(instance.started_time.as_ref()))?;
    field("operation", instance.operation_id.clone())?;
    for disk in &instance.disks {
        field("disk", disk_line(disk))?;
    }
    for interface in &instance.interfaces {
        field("interface", interface_line(interface))?;
    }
    for console in &instance.consoles {
        let kind = text::short(console.kind().as_str_name(), "CONSOLE_KIND_");
        field(
            "console",
            format!("{kind} {}:{}", console.host, console.port),
        )?;
    }
    let mut metadata: Vec<_> = instance.metadata.iter().collect();
    metadata.sort();
    for (key, value) in metadata {
        field("metadata", format!("{key}={value}"))?;
    }
    Ok(())
}

fn disk_line(disk: &v1::Disk) -> String {
    let kind = text::short(disk.kind().as_str_name(), "DISK_KIND_");
    let size = text::bytes(disk.size_bytes);
    let mut line = format!("{} {kind} {} {size}", disk.disk_id, disk.device_name);
    if let Some(allocated) = disk.allocated_bytes {
        line.push_str(&format!(", {} on the host", text::bytes(allocated)));
    }
    if !disk.reachable {
        line.push_str(", not reachable now");
    }
    line
}

fn interface_line(interface: &v1::Interface) -> String {
    let kind = text::short(interface.r#type().as_str_name(), "VIF_TYPE_");
    let mut line = format!(
        "{} {} {kind}",
        interface.interface_id, interface.mac_address
    );
    for part in [&interface.connected_to, &interface.host_device] {
        if !part.is_empty() {
            line.push_str(&format!(" {part}"));
        }
    }
    for ip in &interface.fixed_ips {
        line.push_str(&format!(" {}/{}", ip.address, ip.prefix_length));
    }
    line
}
