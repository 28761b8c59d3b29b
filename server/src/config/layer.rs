//! The places that settings come from, before anyone knows what they mean.

use std::{collections::BTreeMap, fs, io, path::Path};

use toml::{Table, Value};

use super::{Fault, value::Raw};

/// The file that is read when none is named, and need not be there.
pub const DEFAULT_FILE: &str = "/etc/computelet/computelet.toml";

/// What every variable of ours begins with.
const PREFIX: &str = "COMPUTELET_";
/// Names the file, so it is no key of the file.
const FILE_VARIABLE: &str = "COMPUTELET_CONFIG";
/// Variables of ours that are no settings: the file's name, the client's endpoint, and those of our own scripts.
const NO_SETTINGS: [&str; 5] = [
    FILE_VARIABLE,
    "COMPUTELET_ENDPOINT",
    "COMPUTELET_BIN",
    "COMPUTELET_GUEST",
    "COMPUTELET_VENV",
];

/// One setting from the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag: `--listen`.
    pub flag: &'static str,
    /// The key that it sets: `listen`.
    pub key: String,
    /// Its values: several when the flag was given again.
    pub values: Vec<String>,
}

/// All layers, strongest last.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    file: BTreeMap<String, Raw>,
    variables: BTreeMap<String, String>,
    flags: Vec<Flag>,
    faults: Vec<Fault>,
}

impl Layers {
    /// Adds the settings of the file at `path`, or, when none is named, of the default one if it is there.
    #[must_use]
    pub fn file(mut self, path: Option<&Path>) -> Self {
        let shown = path.unwrap_or_else(|| Path::new(DEFAULT_FILE));
        match fs::read_to_string(shown) {
            Ok(text) => self.text(&shown.display().to_string(), &text),
            Err(e) if path.is_none() && e.kind() == io::ErrorKind::NotFound => self,
            Err(e) => {
                self.faults.push(whole(
                    &shown.display().to_string(),
                    format!("cannot be read: {e}"),
                ));
                self
            }
        }
    }

    /// Adds the settings of a TOML text that came from `origin`.
    #[must_use]
    pub fn text(mut self, origin: &str, text: &str) -> Self {
        match text.parse::<Table>() {
            Ok(table) => flatten("", table, origin, &mut self.file),
            // The parser's message shows the line and points at the place.
            Err(e) => self.faults.push(whole(origin, format!("is no TOML: {e}"))),
        }
        self
    }

    /// Adds every variable that begins with `COMPUTELET_`.
    #[must_use]
    pub fn variables(mut self, all: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = all
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX) && !NO_SETTINGS.contains(&name.as_str()));
        self.variables.extend(ours);
        self
    }

    /// Adds settings from the command line; a later one wins.
    #[must_use]
    pub fn flags(mut self, flags: impl IntoIterator<Item = Flag>) -> Self {
        self.flags.extend(flags);
        self
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        self.faults.clone()
    }

    /// The strongest word on `key`.
    pub(super) fn get(&self, key: &str) -> Option<Raw> {
        let flag = self.flags.iter().rev().find(|flag| flag.key == key);
        if let Some(flag) = flag {
            return Some(Raw::texts(flag.flag, &flag.values));
        }
        let variable = variable(key);
        if let Some(text) = self.variables.get(&variable) {
            return Some(Raw::texts(&variable, std::slice::from_ref(text)));
        }
        self.file.get(key).cloned()
    }

    /// What was given and is none of `known`: the name as it was written, and where.
    pub(super) fn unknown(&self, known: &[&'static str]) -> Vec<(String, String)> {
        let keys = self
            .file
            .iter()
            .map(|(key, raw)| (key.clone(), raw.origin.clone()));
        let flags = self
            .flags
            .iter()
            .map(|flag| (flag.key.clone(), flag.flag.to_owned()));
        let mut unknown: Vec<_> = keys
            .chain(flags)
            .filter(|(key, _)| !known.contains(&key.as_str()))
            .collect();
        let names: Vec<_> = known.iter().map(|key| variable(key)).collect();
        let variables = self.variables.keys().filter(|name| !names.contains(name));
        unknown.extend(variables.map(|name| (name.clone(), "environment".to_owned())));
        unknown
    }
}

fn whole(origin: &str, right: String) -> Fault {
    Fault {
        key: String::new(),
        value: String::new(),
        origin: origin.to_owned(),
        right,
    }
}

/// The variable that sets `key`: `images.max_mib` → `COMPUTELET_IMAGES_MAX_MIB`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

fn flatten(path: &str, table: Table, origin: &str, into: &mut BTreeMap<String, Raw>) {
    for (name, value) in table {
        let key = if path.is_empty() {
            name
        } else {
            format!("{path}.{name}")
        };
        match value {
            Value::Table(inner) => flatten(&key, inner, origin, into),
            value => {
                into.insert(key, Raw::toml(origin, value));
            }
        }
    }
}
