//! Reads settings one by one, remembers which keys there are, and collects every fault on the way.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use super::{
    Fault, Faults, Layers, Listen,
    value::{Raw, Setting},
};

/// Stands for the state directory in paths.
const STATE_DIR: &str = "{state_dir}";

#[derive(Debug)]
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    state_dir: PathBuf,
    known: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self {
            layers,
            state_dir: PathBuf::new(),
            known: Vec::new(),
            faults: layers.faults(),
        }
    }

    /// What `{state_dir}` stands for from now on.
    pub(super) fn state_dir(&mut self, dir: PathBuf) {
        self.state_dir = dir;
    }

    pub(super) fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// The value of `key`, or its default.
    pub(super) fn take<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        match self.raw(key) {
            Some(raw) => self.checked(key, &raw, T::read(&raw), default),
            None => default,
        }
    }

    /// The value of `key` within `range`, or its default.
    pub(super) fn within<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Setting + PartialOrd + std::fmt::Debug,
    {
        let Some(raw) = self.raw(key) else {
            return default;
        };
        let read = T::read(&raw).and_then(|value| {
            let right = || format!("must be from {:?} to {:?}", range.start(), range.end());
            range.contains(&value).then_some(value).ok_or_else(right)
        });
        self.checked(key, &raw, read, default)
    }

    /// The value of `key`; none when it is absent or says `absent`.
    pub(super) fn optional<T: Setting>(&mut self, key: &'static str, absent: &str) -> Option<T> {
        let raw = self.raw(key).filter(|raw| raw.text() != Some(absent))?;
        let read = T::read(&raw).map_err(|right| format!("{right}, or {absent:?}"));
        self.checked(key, &raw, read.map(Some), None)
    }

    /// A folder, made absolute.
    pub(super) fn dir(&mut self, key: &'static str, default: &str) -> PathBuf {
        let Some(raw) = self.raw(key) else {
            return PathBuf::from(default);
        };
        let read = PathBuf::read(&raw).and_then(|path| absolute(&path));
        self.checked(key, &raw, read, PathBuf::from(default))
    }

    /// Folders, made absolute.
    pub(super) fn dirs(&mut self, key: &'static str, default: &str) -> Vec<PathBuf> {
        let expand = |text: &str, state: &Path| absolute(Path::new(&expand(text, state)));
        self.list(key, default, expand)
    }

    /// A program and its arguments; none when absent.
    pub(super) fn words(&mut self, key: &'static str) -> Vec<String> {
        self.list(key, "", |word, _| Ok(word.to_owned()))
    }

    /// Addresses to listen at; at least one.
    pub(super) fn listen(&mut self, key: &'static str, default: &str) -> Vec<Listen> {
        let parse = |text: &str, state: &Path| Listen::parse(&expand(text, state));
        let listen = self.list(key, default, parse);
        if let Some(raw) = self.raw(key)
            && raw.list().is_some_and(|texts| texts.is_empty())
        {
            self.fault(key, &raw, "must name at least one address".to_owned());
        }
        listen
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        default: &str,
        parse: impl Fn(&str, &Path) -> Result<T, String>,
    ) -> Vec<T> {
        let given = self.raw(key);
        let raw = given.unwrap_or_else(|| Raw::texts("default", &[default.to_owned()]));
        let Some(texts) = raw.list() else {
            self.fault(key, &raw, "must be a list of texts".to_owned());
            return Vec::new();
        };
        let mut items = Vec::new();
        for text in texts {
            match parse(&text, &self.state_dir) {
                Ok(item) => items.push(item),
                Err(right) => {
                    let one = Raw::texts(&raw.origin, &[text]);
                    self.fault(key, &one, right);
                }
            }
        }
        items
    }

    /// A fault that shows only when two settings are seen together.
    pub(super) fn refuse(&mut self, key: &'static str, right: &str) {
        let raw = self.layers.get(key);
        let raw = raw.unwrap_or_else(|| Raw::texts("default", &[]));
        self.fault(key, &raw, right.to_owned());
    }

    /// Ends the reading: what is left over is unknown.
    pub(super) fn finish(mut self) -> Result<(), Faults> {
        for (key, origin) in self.layers.unknown(&self.known) {
            let section = key.split_once('.').map_or("", |(section, _)| section);
            let near = |known: &&&str| match known.split_once('.') {
                Some((of, _)) => of == section,
                None => section.is_empty(),
            };
            let mut near: Vec<_> = self.known.iter().filter(near).copied().collect();
            if near.is_empty() || origin == "environment" {
                near.clone_from(&self.known);
            }
            self.faults.push(Fault {
                key,
                value: String::new(),
                origin,
                right: format!("no such key; there are {}", near.join(", ")),
            });
        }
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Faults(self.faults))
        }
    }

    fn raw(&mut self, key: &'static str) -> Option<Raw> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.layers.get(key)
    }

    fn checked<T>(&mut self, key: &str, raw: &Raw, read: Result<T, String>, default: T) -> T {
        read.unwrap_or_else(|right| {
            self.fault(key, raw, right);
            default
        })
    }

    fn fault(&mut self, key: &str, raw: &Raw, right: String) {
        self.faults.push(Fault {
            key: key.to_owned(),
            value: raw.to_string(),
            origin: raw.origin.clone(),
            right,
        });
    }
}

fn expand(text: &str, state_dir: &Path) -> String {
    text.replace(STATE_DIR, &state_dir.to_string_lossy())
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|e| format!("must be a path: {e}"))
}
