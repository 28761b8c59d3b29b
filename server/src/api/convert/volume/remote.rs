//! Volumes that QEMU reaches by itself over a network, with a login.

use base64::{Engine, engine::general_purpose::STANDARD};
use computedriver::v1;

use super::Faults;
use crate::model::{Iscsi, Login, Portal, Rbd, Secret, VolumeTarget};

/// What libiscsi has room for.
const WORD: usize = 255;
/// What the wire's flat addressing has room for.
const LAST_LUN: u32 = (1 << 14) - 1;
/// More addresses of one storage than this are a mistake.
const ADDRESSES: usize = 16;

pub(super) fn iscsi(
    faults: &mut Faults,
    field: &str,
    asked: v1::IscsiTarget,
) -> Option<VolumeTarget> {
    let at = |name: &str| format!("{field}.{name}");
    let portals = portals(faults, &at("portals"), &asked.portals);
    if asked.portals.len() > 1 {
        let why = "must be one: QEMU's own initiator knows no multipath";
        faults.unserved(&at("portals"), why);
    }
    if !is_iscsi_name(&asked.iqn) {
        let why = "must be an iSCSI name like iqn.2001-04.com.example:storage or eui.02004567A425678D, of at most 223 characters";
        faults.wrong(&at("iqn"), why);
    }
    if asked.lun > LAST_LUN {
        faults.wrong(&at("lun"), format_args!("must be at most {LAST_LUN}"));
    }
    let names = (&*at("chap_username"), &*at("chap_password"));
    let word = faults.text(names.1, asked.chap_password, WORD);
    let word = word.map(String::into_bytes);
    let login = login(faults, names, (asked.chap_username, word));
    let mutual = [&asked.mutual_chap_username, &asked.mutual_chap_password];
    if mutual[0].is_empty() != mutual[1].is_empty() {
        faults.wrong(&at("mutual_chap_password"), PAIR);
    }
    // libvirt has no words for it.
    faults.refuse(&at("mutual_chap_username"), !mutual[0].is_empty());
    Some(VolumeTarget::Iscsi(Iscsi {
        portal: portals?.into_iter().next()?,
        target: asked.iqn,
        lun: asked.lun,
        login: login?,
    }))
}

pub(super) fn rbd(faults: &mut Faults, field: &str, asked: v1::RbdTarget) -> Option<VolumeTarget> {
    let at = |name: &str| format!("{field}.{name}");
    let monitors = portals(faults, &at("monitors"), &asked.monitors);
    for (name, value) in [("pool", &asked.pool), ("image", &asked.image)] {
        if !is_rbd_name(value) {
            let why = "must be 1 to 128 characters of A-Z a-z 0-9 . _ - + and =";
            faults.wrong(&at(name), why);
        }
    }
    let names = (&*at("username"), &*at("secret_key"));
    if asked.username.is_empty() {
        // Ceph's client would take what keys it finds on this host, those of its administrator first.
        faults.unserved(names.0, "is required");
    }
    let key = STANDARD.decode(asked.secret_key.trim_ascii_end());
    let key = key.map_err(|_| "must be base64, as ceph prints it");
    let key = faults.take(names.1, key);
    let login = login(faults, names, (asked.username, key));
    Some(VolumeTarget::Rbd(Rbd {
        monitors: monitors?,
        pool: asked.pool,
        image: asked.image,
        login: login?,
    }))
}

fn portals(faults: &mut Faults, field: &str, asked: &[String]) -> Option<Vec<Portal>> {
    if !matches!(asked.len(), 1..=ADDRESSES) {
        let why = format_args!("must have 1 to {ADDRESSES} entries");
        faults.wrong(field, why);
        return None;
    }
    let places = asked.iter().enumerate();
    let read: Vec<_> = places
        .map(|(i, text)| faults.take(&format!("{field}[{i}]"), text.parse()))
        .collect();
    read.into_iter().collect()
}

const PAIR: &str = "goes with its user only, and a user with it";

#[allow(clippy::option_option, reason = "none: wrong; some none: not given")]
fn login(
    faults: &mut Faults,
    (user_field, word_field): (&str, &str),
    (user, word): (String, Option<Vec<u8>>),
) -> Option<Option<Login>> {
    let word = word?;
    if user.is_empty() != word.is_empty() {
        faults.wrong(word_field, PAIR);
        return None;
    }
    let user = faults.text(user_field, user, WORD)?;
    if word.len() > WORD {
        let why = format_args!("must have at most {WORD} bytes");
        faults.wrong(word_field, why);
        return None;
    }
    Some((!user.is_empty()).then(|| Login {
        user,
        secret: Some(Secret::new(word)),
        mark: String::new(),
    }))
}

/// `iqn.` with a month and a name, or `eui.` with 16 hexadecimal digits.
fn is_iscsi_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    if let Some(digits) = name.strip_prefix("eui.") {
        return digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    }
    let Some((date, rest)) = name
        .strip_prefix("iqn.")
        .and_then(|name| name.split_once('.'))
    else {
        return false;
    };
    let month = date.split_once('-').is_some_and(|(year, month)| {
        let number =
            |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
        number(year, 4) && number(month, 2)
    });
    month && !rest.is_empty() && name.len() <= 223 && rest.chars().all(plain)
}

/// What neither librbd nor libvirt reads as anything but a name.
fn is_rbd_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '=');
    matches!(name.len(), 1..=128) && name.chars().all(plain)
}

#[cfg(test)]
mod tests;
