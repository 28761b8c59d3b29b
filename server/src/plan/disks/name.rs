//! Names of disks: `vda`, `vdb` … `vdz`, `vdaa`, by the prefix of their bus.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::DiskBus;

/// `zz`: more than any board has room for.
const LAST: usize = 26 * 26 + 26 - 1;

/// The names that are taken, by prefix.
#[derive(Debug, Default)]
pub(in crate::plan) struct Names(BTreeMap<&'static str, BTreeSet<usize>>);

impl Names {
    /// Takes a wanted name, with or without `/dev/` before it.
    pub(super) fn take(&mut self, bus: DiskBus, wanted: &str) -> Result<String, String> {
        let wanted = wanted.strip_prefix("/dev/").unwrap_or(wanted);
        let prefix = prefix(bus);
        let place = wanted.strip_prefix(prefix).and_then(place);
        let place = place.ok_or_else(|| format!("must be {prefix} and one or two letters"))?;
        if self.0.entry(prefix).or_default().insert(place) {
            Ok(wanted.to_owned())
        } else {
            Err(format!("cannot be {wanted}: another disk has that name"))
        }
    }

    /// Takes the first free name.
    pub(in crate::plan) fn next(&mut self, bus: DiskBus) -> String {
        let prefix = prefix(bus);
        let taken = self.0.entry(prefix).or_default();
        let free = (0..).find(|place| !taken.contains(place)).unwrap_or(LAST);
        taken.insert(free);
        format!("{prefix}{}", letters(free))
    }

    /// The first name before `name` on its bus that nobody has.
    pub(super) fn gap_before(&self, name: &str) -> Option<String> {
        let (prefix, rest) = name.split_at_checked(2)?;
        let taken = self.0.get(prefix)?;
        let gap = (0..place(rest)?).find(|place| !taken.contains(place))?;
        Some(format!("{prefix}{}", letters(gap)))
    }
}

/// The first name on a bus.
pub(super) fn first(bus: DiskBus) -> &'static str {
    match bus {
        DiskBus::Virtio => "vda",
        DiskBus::Scsi | DiskBus::Sata => "sda",
        DiskBus::Ide => "hda",
    }
}

pub(in crate::plan) fn prefix(bus: DiskBus) -> &'static str {
    &first(bus)[..2]
}

/// `a` is 0, `z` 25, `aa` 26.
fn place(letters: &str) -> Option<usize> {
    if !(1..=2).contains(&letters.len()) {
        return None;
    }
    let place = letters.bytes().try_fold(0, |place, letter| {
        let letter = letter.is_ascii_lowercase().then(|| letter - b'a')?;
        Some(place * 26 + usize::from(letter) + 1)
    });
    place.map(|place| place - 1)
}

fn letters(mut place: usize) -> String {
    let mut letters = Vec::new();
    loop {
        let letter = u8::try_from(place % 26).unwrap_or_default();
        letters.push(char::from(b'a' + letter));
        match place / 26 {
            0 => return letters.iter().rev().collect(),
            more => place = more - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_count_without_a_zero() {
        for (at, name) in [(0, "a"), (25, "z"), (26, "aa"), (27, "ab"), (LAST, "zz")] {
            assert_eq!(letters(at), name);
            assert_eq!(place(name), Some(at));
        }
        for bad in ["", "A", "1", "aaa", "é", "a/"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
