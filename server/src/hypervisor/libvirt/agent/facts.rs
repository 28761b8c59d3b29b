//! What a guest tells of itself, out of libvirt's names and values. Pure; what does not read is left out.

use std::time::{Duration, UNIX_EPOCH};

use crate::hypervisor::{
    agent::{GuestFilesystem, GuestInterface, GuestOs, GuestUser},
    libvirt::ffi::{Fact, Told},
};

/// More of a kind than this is no guest's true word.
const MANY: u64 = 4096;

fn text(told: &Told, name: &str) -> Option<String> {
    match told.get(name) {
        Some(Fact::Text(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn number(told: &Told, name: &str) -> Option<u64> {
    match told.get(name) {
        Some(Fact::Number(number)) => Some(*number),
        _ => None,
    }
}

/// The prefixes of the entries of a list.
fn entries(told: &Told, list: &str) -> impl Iterator<Item = String> + use<> {
    let count = number(told, &format!("{list}.count")).unwrap_or(0);
    let list = list.to_owned();
    (0..count.min(MANY)).map(move |at| format!("{list}.{at}"))
}

pub(super) fn hostname(told: &Told) -> Option<String> {
    text(told, "hostname")
}

pub(super) fn timezone(told: &Told) -> Option<String> {
    text(told, "timezone.name")
}

pub(super) fn os(told: &Told) -> GuestOs {
    let one = |name: &str| text(told, &format!("os.{name}"));
    GuestOs {
        id: one("id").unwrap_or_default(),
        name: one("name")
            .or_else(|| one("pretty-name"))
            .unwrap_or_default(),
        version: one("version")
            .or_else(|| one("version-id"))
            .unwrap_or_default(),
        kernel: one("kernel-release").unwrap_or_default(),
        machine: one("machine").unwrap_or_default(),
    }
}

pub(super) fn users(told: &Told) -> Vec<GuestUser> {
    let user = |entry: String| {
        let since = number(told, &format!("{entry}.login-time"));
        Some(GuestUser {
            name: text(told, &format!("{entry}.name"))?,
            since: since.and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms))),
        })
    };
    entries(told, "user").filter_map(user).collect()
}

pub(super) fn filesystems(told: &Told) -> Vec<GuestFilesystem> {
    let filesystem = |entry: String| {
        let one = |name: &str| text(told, &format!("{entry}.{name}"));
        Some(GuestFilesystem {
            mountpoint: one("mountpoint")?,
            device: one("name").unwrap_or_default(),
            kind: one("fstype").unwrap_or_default(),
            total: number(told, &format!("{entry}.total-bytes")),
            used: number(told, &format!("{entry}.used-bytes")),
        })
    };
    entries(told, "fs").filter_map(filesystem).collect()
}

pub(super) fn interfaces(told: &Told) -> Vec<GuestInterface> {
    let interface = |entry: String| {
        let address = |entry: String| {
            let ip = text(told, &format!("{entry}.addr"))?.parse().ok()?;
            let prefix = number(told, &format!("{entry}.prefix"))?;
            Some((ip, u8::try_from(prefix).ok()?))
        };
        let addresses = entries(told, &format!("{entry}.addr")).filter_map(address);
        Some(GuestInterface {
            name: text(told, &format!("{entry}.name"))?,
            mac: text(told, &format!("{entry}.hwaddr")),
            addresses: addresses.collect(),
        })
    };
    entries(told, "if").filter_map(interface).collect()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn told(values: &[(&str, &str)]) -> Told {
        let fact = |text: &str| match text.parse() {
            Ok(number) => Fact::Number(number),
            Err(_) => Fact::Text(text.to_owned()),
        };
        let one = |(name, value): &(&str, &str)| ((*name).to_owned(), fact(value));
        values.iter().map(one).collect()
    }

    #[test]
    fn interfaces_carry_the_addresses_that_read_as_such() {
        let told = told(&[
            ("if.count", "2"),
            ("if.0.name", "lo"),
            ("if.0.addr.count", "1"),
            ("if.0.addr.0.addr", "::1"),
            ("if.0.addr.0.prefix", "128"),
            ("if.1.name", "eth0"),
            ("if.1.hwaddr", "52:54:00:00:00:01"),
            ("if.1.addr.count", "2"),
            ("if.1.addr.0.addr", "not an address"),
            ("if.1.addr.0.prefix", "24"),
            ("if.1.addr.1.addr", "192.0.2.7"),
            ("if.1.addr.1.prefix", "24"),
        ]);
        let interfaces = interfaces(&told);
        assert_eq!(interfaces[0].mac, None);
        let eth0 = GuestInterface {
            name: "eth0".to_owned(),
            mac: Some("52:54:00:00:00:01".to_owned()),
            addresses: vec![("192.0.2.7".parse().unwrap(), 24)],
        };
        assert_eq!(interfaces[1], eth0);
    }

    #[test]
    fn what_a_guest_leaves_out_is_left_out() {
        let told = told(&[
            ("fs.count", "2"),
            ("fs.0.mountpoint", "/"),
            ("fs.0.fstype", "ext4"),
            ("user.count", "18446744073709551615"),
            ("user.0.login-time", "1"),
        ]);
        let expected = GuestFilesystem {
            mountpoint: "/".to_owned(),
            kind: "ext4".to_owned(),
            ..GuestFilesystem::default()
        };
        assert_eq!(filesystems(&told), [expected]);
        assert_eq!(users(&told), []);
        assert_eq!(hostname(&told), None);
        assert_eq!(interfaces(&told), []);
    }
}
