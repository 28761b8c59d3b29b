//! `computectl guest info`.

use computedriver_client::v1;
use serde_json::json;

use super::{One, QUESTION, within};
use crate::args::Session;
use crate::exit::Failure;
use crate::out::Out;
use crate::{json, text};

pub(super) async fn run(args: One, session: &Session, out: &mut Out) -> Result<(), Failure> {
    let request = v1::GetGuestInfoRequest {
        instance_id: args.instance,
    };
    let mut guests = session.connect().await?.guests();
    let request = within(session, request, QUESTION);
    let info = guests.get_guest_info(request).await?.into_inner();
    if out.is_json() {
        let view = json::view("GetGuestInfoResponse", &info);
        out.object(&json!({ "guest": view }))?;
        return Ok(());
    }
    print(&info, out)
}

fn print(info: &v1::GetGuestInfoResponse, out: &mut Out) -> Result<(), Failure> {
    // All of it is the guest's own word.
    let mut field = |name: &str, value: String| match text::printable(&value) {
        value if value.is_empty() => Ok(()),
        value => out.line(format_args!("{name:<12}  {value}")),
    };
    field("agent", info.agent_version.clone())?;
    field("hostname", info.hostname.clone())?;
    if let Some(os) = &info.os {
        field("system", format!("{} {}", os.name, os.version))?;
        field("kernel", format!("{} {}", os.kernel_release, os.machine))?;
    }
    for told in &info.interfaces {
        field("interface", interface(told))?;
    }
    for told in &info.filesystems {
        field("filesystem", filesystem(told))?;
    }
    for user in &info.users {
        let since = text::time(user.login_time.as_ref());
        field("user", format!("{} since {since}", user.name))?;
    }
    let time = text::time(info.guest_time.as_ref());
    field("time", format!("{time} {}", info.timezone))?;
    Ok(())
}

/// An interface, for people.
pub(super) fn interface(told: &v1::GuestInterface) -> String {
    let parts = [&told.name, &told.mac_address, &told.interface_id];
    let parts = parts.into_iter().chain(&told.addresses);
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).cloned().collect();
    text::printable(&parts.join(" "))
}

fn filesystem(told: &v1::GuestFilesystemUsage) -> String {
    let mut line = format!("{} {} {}", told.mountpoint, told.filesystem, told.device);
    if let (Some(used), Some(total)) = (told.used_bytes, told.total_bytes) {
        let (used, total) = (text::bytes(used), text::bytes(total));
        line.push_str(&format!(", {used} of {total} used"));
    }
    line
}
