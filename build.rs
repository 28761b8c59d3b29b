//! Compiles `proto/` into Rust and writes the descriptor set. No protoc is needed on the machine.
//!
//! prost's derived `Debug` knows nothing of `debug_redact`. So the messages that hold a secret get no derived one;
//! `redact.rs` is generated beside them with a `Debug` that prints every field but the secret ones.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use protox::prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor, OneofDescriptor};

const PACKAGE: &str = "computedriver.v1";
const ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={ROOT}/computedriver");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let mut compiler = protox::Compiler::new([ROOT])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(proto_files(&Path::new(ROOT).join("computedriver/v1"))?)?;
    // prost-types does not know debug_redact and would drop it: options are read from, and written by, protox.
    fs::write(
        out.join("computedriver.v1.bin"),
        compiler.encode_file_descriptor_set(),
    )?;

    let secrets = secret_messages(&compiler.descriptor_pool())?;
    fs::write(out.join("redact.rs"), redacted_debugs(&secrets)?)?;
    // A server that does not serve an RPC says so in one place of its own, not in a stub for each.
    tonic_prost_build::configure()
        // In one order: equal requests have equal bytes.
        .btree_map(".")
        .generate_default_stubs(true)
        .skip_debug(secrets.iter().map(|m| format!(".{PACKAGE}.{}", m.name())))
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn proto_files(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = fs::read_dir(dir)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    files.sort();
    Ok(files)
}

fn is_secret(field: &FieldDescriptor) -> bool {
    let options = field.options();
    options
        .get_field_by_name("debug_redact")
        .and_then(|v| v.as_bool())
        .unwrap_or_default()
}

/// The oneof that the Rust struct has a field for; that of a proto3 `optional` is none.
fn oneof(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|o| !o.is_synthetic())
}

/// The messages of the contract that hold a secret field.
fn secret_messages(pool: &DescriptorPool) -> Result<Vec<MessageDescriptor>, String> {
    let found: Vec<_> = pool
        .all_messages()
        .filter(|m| m.package_name() == PACKAGE && m.fields().any(|f| is_secret(&f)))
        .collect();
    for message in &found {
        if message.parent_message().is_some() {
            return Err(format!(
                "{}: a nested message cannot hold a secret",
                message.full_name()
            ));
        }
        if message
            .fields()
            .any(|f| is_secret(&f) && oneof(&f).is_some())
        {
            return Err(format!(
                "{}: a oneof cannot hold a secret",
                message.full_name()
            ));
        }
    }
    Ok(found)
}

fn redacted_debugs(messages: &[MessageDescriptor]) -> Result<String, std::fmt::Error> {
    let mut code = String::new();
    for message in messages {
        let name = message.name();
        writeln!(code, "impl ::core::fmt::Debug for {name} {{")?;
        writeln!(
            code,
            "    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{"
        )?;
        writeln!(code, "        f.debug_struct({name:?})")?;
        for (field, secret) in rust_fields(message) {
            let value = if secret {
                "crate::redact::Redacted::of(&self.FIELD)"
            } else {
                "self.FIELD"
            };
            writeln!(
                code,
                "            .field({field:?}, &{})",
                value.replace("FIELD", &field)
            )?;
        }
        writeln!(code, "            .finish()\n    }}\n}}")?;
    }
    Ok(code)
}

/// The fields of the generated struct, a oneof counting once, and whether each is secret.
fn rust_fields(message: &MessageDescriptor) -> Vec<(String, bool)> {
    let mut fields: Vec<(String, bool)> = Vec::new();
    for field in message.fields() {
        let name = oneof(&field).map_or_else(|| field.name().to_owned(), |o| o.name().to_owned());
        if fields.iter().all(|(known, _)| *known != name) {
            fields.push((name, is_secret(&field)));
        }
    }
    fields
}
