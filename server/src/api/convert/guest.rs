//! What goes into a guest and what it tells, field by field.

use computedriver::v1;

use super::{
    Faults,
    image::{address, digest},
    timestamp,
};
use crate::{
    hypervisor::agent::{GuestFacts, GuestFilesystem, GuestInterface, GuestOs, GuestUser},
    model::{ImageFile, InterfaceId, MacAddress, Secret, Vif},
};

/// The longest name of an account.
const ACCOUNT: usize = 255;
/// The longest password.
const PASSWORD: usize = 255;
/// The longest path, in bytes.
const PATH: usize = 255;
/// The longest owner.
const OWNER: usize = 64;
/// The largest file.
const CONTENTS: usize = 16 << 20;
/// The longest address of a program.
const URL: usize = 4096;

/// The name of an account, as a line of a password file may hold it.
pub(super) fn account(name: &str) -> Result<String, &'static str> {
    match name.chars().count() {
        0 => Err("must not be empty"),
        count if count > ACCOUNT => Err("must have at most 255 characters"),
        _ if name.chars().any(|c| c == ':' || c.is_control()) => {
            Err("must not have a colon or control characters")
        }
        _ => Ok(name.to_owned()),
    }
}

/// An account, when it is named, and its new password.
pub(crate) fn password(
    faults: &mut Faults,
    request: &mut v1::SetAdminPasswordRequest,
) -> Option<(Option<String>, Secret<String>)> {
    let account = match request.username.as_str() {
        "" => Some(None),
        name => faults.take("username", account(name)).map(Some),
    };
    let password = std::mem::take(&mut request.admin_password);
    let wrong = match password.chars().count() {
        1..=PASSWORD if !password.chars().any(char::is_control) => None,
        1..=PASSWORD => Some("must not have control characters"),
        _ => Some("must have 1 to 255 characters"),
    };
    if let Some(wrong) = wrong {
        faults.wrong("admin_password", wrong);
        return None;
    }
    Some((account?, Secret::new(password)))
}

/// A file to write inside a guest.
pub(crate) struct GuestFile {
    pub(crate) path: String,
    pub(crate) contents: Secret<Vec<u8>>,
    pub(crate) mode: u32,
    pub(crate) owner: Option<String>,
}

/// A file as it is asked for.
pub(crate) fn guest_file(
    faults: &mut Faults,
    request: &mut v1::InjectFileRequest,
) -> Option<GuestFile> {
    let path = faults.take("path", guest_path(&request.path));
    let contents = std::mem::take(&mut request.contents);
    if contents.len() > CONTENTS {
        faults.wrong("contents", "must have at most 16 MiB");
    }
    if request.mode > 0o777 {
        faults.wrong("mode", "must be at most 511 (0777)");
    }
    let owner = match request.owner.as_str() {
        "" => Some(None),
        owner => faults.take("owner", guest_owner(owner)).map(Some),
    };
    Some(GuestFile {
        path: path?,
        contents: Secret::new(contents),
        mode: match request.mode {
            0 => 0o600,
            mode => mode,
        },
        owner: owner?,
    })
}

fn guest_path(path: &str) -> Result<String, &'static str> {
    let mut parts = path.split('/').skip(1);
    if !path.starts_with('/') || path.ends_with('/') {
        Err("must be an absolute path of a file")
    } else if path.len() > PATH {
        Err("must have at most 255 bytes")
    } else if path.chars().any(char::is_control) {
        Err("must not have control characters")
    } else if parts.any(|part| matches!(part, "" | "." | "..")) {
        Err("must not have empty parts, . or ..")
    } else {
        Ok(path.to_owned())
    }
}

fn guest_owner(owner: &str) -> Result<String, &'static str> {
    let name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('-')
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || "._-$".contains(c))
    };
    if owner.chars().count() > OWNER {
        Err("must have at most 64 characters")
    } else if owner.split(':').count() <= 2 && owner.split(':').all(name) {
        Ok(owner.to_owned())
    } else {
        Err("must be a user or user:group, by name or number")
    }
}

/// The program that installs an agent.
pub(crate) fn updater(
    faults: &mut Faults,
    request: &mut v1::UpdateAgentRequest,
) -> Option<ImageFile> {
    let location = faults.text("url", std::mem::take(&mut request.url), URL);
    let location = location.and_then(|url| address(faults, "url", url));
    if location
        .as_ref()
        .is_some_and(|url| url.starts_with("file:"))
    {
        faults.wrong("url", "must begin with http:// or https://");
    }
    let hash = faults.take("sha256", digest(&request.sha256))?;
    Some(ImageFile {
        id: format!("agent-{}", &request.sha256[..12]),
        location: location?,
        sha256: Some(hash),
    })
}

/// Interfaces by their ids.
pub(crate) fn interface_ids(
    faults: &mut Faults,
    request: &mut v1::InjectNetworkInfoRequest,
) -> Option<Vec<InterfaceId>> {
    let named = std::mem::take(&mut request.interface_ids);
    let read = named.iter().enumerate().map(|(at, id)| {
        let field = format!("interface_ids[{at}]");
        faults.take(&field, id.parse())
    });
    // All of them are read before one that is wrong ends it.
    let read: Vec<Option<InterfaceId>> = read.collect();
    read.into_iter().collect()
}

/// What a guest tells of itself.
pub(crate) fn facts(facts: GuestFacts, vifs: &[Vif]) -> v1::GetGuestInfoResponse {
    v1::GetGuestInfoResponse {
        agent_version: facts.agent.version,
        agent_commands: facts.agent.commands,
        hostname: facts.hostname.unwrap_or_default(),
        os: facts.os.map(os),
        interfaces: interfaces(facts.interfaces, vifs),
        filesystems: facts.filesystems.into_iter().map(filesystem).collect(),
        users: facts.users.into_iter().map(user).collect(),
        guest_time: facts.time.map(timestamp),
        timezone: facts.timezone.unwrap_or_default(),
    }
}

/// A guest's interfaces, each with the id of the vif that has its address on the wire.
pub(crate) fn interfaces(told: Vec<GuestInterface>, vifs: &[Vif]) -> Vec<v1::GuestInterface> {
    let interface = |told: GuestInterface| {
        let mac: Option<MacAddress> = told.mac.as_deref().and_then(|mac| mac.parse().ok());
        let vif = vifs.iter().find(|vif| Some(vif.mac) == mac);
        let addresses = told.addresses.iter();
        v1::GuestInterface {
            interface_id: vif.map(|vif| vif.id.to_string()).unwrap_or_default(),
            name: told.name,
            mac_address: mac.map(|mac| mac.to_string()).unwrap_or_default(),
            addresses: addresses.map(|(ip, bits)| format!("{ip}/{bits}")).collect(),
        }
    };
    told.into_iter().map(interface).collect()
}

fn os(os: GuestOs) -> v1::GuestOs {
    v1::GuestOs {
        os_id: os.id,
        name: os.name,
        version: os.version,
        kernel_release: os.kernel,
        machine: os.machine,
    }
}

fn filesystem(told: GuestFilesystem) -> v1::GuestFilesystemUsage {
    v1::GuestFilesystemUsage {
        mountpoint: told.mountpoint,
        device: told.device,
        filesystem: told.kind,
        total_bytes: told.total,
        used_bytes: told.used,
    }
}

fn user(user: GuestUser) -> v1::GuestUser {
    v1::GuestUser {
        name: user.name,
        login_time: user.since.map(timestamp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_a_file_and_nowhere_else() {
        assert_eq!(guest_path("/etc/motd"), Ok("/etc/motd".to_owned()));
        let long = format!("/{}", "x".repeat(255));
        for bad in [
            "", "etc/motd", "/", "/etc/", "/a//b", "/a/../b", "/a/./b", "/a\nb", &long,
        ] {
            assert!(guest_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn owners_are_names_or_numbers() {
        for good in [
            "root",
            "root:root",
            "0:0",
            "www-data",
            "_apt:nogroup",
            "host$",
        ] {
            assert!(guest_owner(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in [
            "",
            ":",
            "a:",
            ":a",
            "a:b:c",
            "--reference=x",
            "a b",
            "a;b",
            &long,
        ] {
            assert!(guest_owner(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn accounts_fit_into_a_line_of_a_password_file() {
        assert!(account("Administrator").is_ok());
        for bad in ["", "a:b", "a\nb"] {
            assert!(account(bad).is_err(), "{bad:?}");
        }
    }
}
