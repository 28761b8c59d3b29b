//! How a file is called in each of the two trees.

use std::collections::BTreeSet;

/// Joliet's limit, in characters.
const NAME_MAX: usize = 64;

/// What is kept of a long name for old readers: level 2 allows 30 characters with the dot.
const STEM_MAX: usize = 20;
const EXTENSION_MAX: usize = 6;

/// One of the two trees of directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// Upper-case identifiers, the true names in Rock Ridge's fields.
    Primary,
    /// UCS-2 identifiers.
    Joliet,
}

/// What an identifier is for: only files carry a version, and of those only the ones for old readers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    File,
    Directory,
}

/// Whether both trees can say `name` as it is, and no reader takes it for a path.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain) && name != "." && name != ".."
}

impl Hierarchy {
    /// The identifier of `name`, unlike any in `taken`.
    pub(super) fn identifier(self, name: &str, of: Of, taken: &BTreeSet<Vec<u8>>) -> Vec<u8> {
        match self {
            Self::Joliet => ucs2(name).collect(),
            Self::Primary => (0..)
                .map(|attempt| primary(name, of, attempt))
                .find(|identifier| !taken.contains(identifier))
                .expect("there are more numbers than names"),
        }
    }

    /// Text of a volume descriptor, `len` bytes of it, filled with blanks.
    pub(super) fn text(self, text: &str, len: usize) -> Vec<u8> {
        let blank = " ".repeat(len);
        let chars = text.chars().chain(blank.chars());
        let padded: String = chars.collect();
        match self {
            Self::Primary => padded.bytes().take(len).collect(),
            Self::Joliet => ucs2(&padded).take(len).collect(),
        }
    }
}

/// Plain names are ASCII, so the high byte is always zero.
fn ucs2(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().flat_map(|b| [0, b])
}

/// `meta_data.json` as `META_DATA.JSON;1`; a later attempt numbers the stem.
fn primary(name: &str, of: Of, attempt: u32) -> Vec<u8> {
    let (stem, extension) = match (of, name.rsplit_once('.')) {
        (Of::File, Some(parts)) => parts,
        _ => (name, ""),
    };
    let mut stem = upper(stem, STEM_MAX);
    if attempt > 0 {
        stem.push_str(&attempt.to_string());
    }
    match of {
        Of::Directory => stem,
        Of::File => format!("{stem}.{};1", upper(extension, EXTENSION_MAX)),
    }
    .into_bytes()
}

fn upper(text: &str, max: usize) -> String {
    let known = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    text.chars().take(max).map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_readers_get_upper_case_names_that_differ() {
        let mut taken = BTreeSet::new();
        for (name, of, expected) in [
            ("meta_data.json", Of::File, "META_DATA.JSON;1"),
            ("META_DATA.json", Of::File, "META_DATA1.JSON;1"),
            ("user_data", Of::File, "USER_DATA.;1"),
            (".hidden", Of::File, ".HIDDEN;1"),
            ("2012-08-10", Of::Directory, "2012_08_10"),
            ("2012_08_10", Of::Directory, "2012_08_101"),
        ] {
            let identifier = Hierarchy::Primary.identifier(name, of, &taken);
            assert_eq!(String::from_utf8_lossy(&identifier), expected, "{name}");
            taken.insert(identifier);
        }
    }

    #[test]
    fn names_that_are_paths_or_not_plain_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a\0b",
            "naïve",
            "a b",
            &"x".repeat(65),
        ] {
            assert!(!is_plain(name), "{name:?}");
        }
        assert!(is_plain(&"x".repeat(64)));
    }
}
