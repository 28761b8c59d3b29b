//! What libvirt reads to keep a secret.

use super::xml::Xml;
use crate::model::{SecretName, SecretUse};

/// A secret by its name; its value is told apart from this.
pub fn secret(name: SecretName, usage: SecretUse) -> String {
    let mut xml = Xml::new();
    // Private ones are never given out again, and a volume that grows is looked at with its secret.
    let kind = [("ephemeral", "no"), ("private", "no")];
    xml.node("secret", &kind, |xml| {
        xml.text("uuid", &[], &name.uuid().to_string());
        let of = match usage {
            SecretUse::Iscsi => "target",
            SecretUse::Ceph => "name",
        };
        xml.node("usage", &[("type", usage.as_str())], |xml| {
            xml.text(of, &[], &name.to_string());
        });
    });
    xml.finish()
}
