//! The descriptor set with its comments, and the tables of the documents.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost_reflect::{DescriptorPool, EnumDescriptor, MessageDescriptor, MethodDescriptor};

pub(crate) const PACKAGE: &str = "computedriver.v1";

/// The contract, read from what the crate exports.
pub(crate) struct Contract {
    pub(crate) pool: DescriptorPool,
    comments: HashMap<(String, Vec<i32>), String>,
}

impl Contract {
    pub(crate) fn read() -> Self {
        let pool = DescriptorPool::decode(computedriver::FILE_DESCRIPTOR_SET)
            .expect("the exported set decodes");
        let mut comments = HashMap::new();
        for file in pool.files() {
            let file = file.file_descriptor_proto();
            for location in file.source_code_info.iter().flat_map(|info| &info.location) {
                let key = (file.name().to_owned(), location.path.clone());
                comments.insert(key, location.leading_comments().to_owned());
            }
        }
        Self { pool, comments }
    }

    pub(crate) fn methods(&self) -> Vec<MethodDescriptor> {
        let services = self.pool.services().filter(|s| s.package_name() == PACKAGE);
        services
            .flat_map(|s| s.methods().collect::<Vec<_>>())
            .collect()
    }

    pub(crate) fn messages(&self) -> Vec<MessageDescriptor> {
        let all = self.pool.all_messages();
        all.filter(|m| m.package_name() == PACKAGE && !m.is_map_entry())
            .collect()
    }

    pub(crate) fn enums(&self) -> Vec<EnumDescriptor> {
        let all = self.pool.all_enums();
        all.filter(|e| e.package_name() == PACKAGE).collect()
    }

    /// The comment above whatever lies at `path` of `file`, as it was written; empty when there is none.
    pub(crate) fn comment(&self, file: &str, path: &[i32]) -> &str {
        let key = (file.to_owned(), path.to_vec());
        self.comments.get(&key).map_or("", String::as_str)
    }

    pub(crate) fn method_comment(&self, method: &MethodDescriptor) -> &str {
        self.comment(method.parent_file().name(), method.path())
    }
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every Rust file below `dir`.
pub(crate) fn sources(dir: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a folder of ours can be listed").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The rows of all Markdown tables in `text` that have `columns` columns, without their heads.
pub(crate) fn rows(text: &str, columns: usize) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut rows = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let is_head = lines
            .get(i + 1)
            .is_some_and(|next| next.starts_with("|---"));
        if !line.starts_with('|') || line.starts_with("|---") || is_head {
            continue;
        }
        let cells: Vec<String> = line
            .trim_matches('|')
            .split('|')
            .map(|c| c.trim().to_owned())
            .collect();
        if cells.len() == columns {
            rows.push(cells);
        }
    }
    rows
}

/// What stands between backticks.
pub(crate) fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
