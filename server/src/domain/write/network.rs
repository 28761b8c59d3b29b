//! Disks that QEMU reaches over a network with a login of its own. The login's secret is named, never written.

use super::super::{DiskLogin, xml::Xml};
use crate::model::{Iscsi, Portal, Rbd, SecretUse};

pub(super) fn iscsi(
    xml: &mut Xml,
    iscsi: &Iscsi,
    (initiator, login): (Option<&str>, Option<&DiskLogin>),
) {
    let name = format!("{}/{}", iscsi.target, iscsi.lun);
    xml.node("source", &[("protocol", "iscsi"), ("name", &name)], |xml| {
        host(xml, &iscsi.portal);
        if let Some(initiator) = initiator {
            xml.node("initiator", &[], |xml| {
                xml.leaf("iqn", &[("name", initiator)]);
            });
        }
        auth(xml, login, SecretUse::Iscsi);
    });
}

pub(super) fn rbd(xml: &mut Xml, rbd: &Rbd, login: Option<&DiskLogin>) {
    let name = format!("{}/{}", rbd.pool, rbd.image);
    xml.node("source", &[("protocol", "rbd"), ("name", &name)], |xml| {
        rbd.monitors.iter().for_each(|monitor| host(xml, monitor));
        auth(xml, login, SecretUse::Ceph);
    });
}

fn host(xml: &mut Xml, at: &Portal) {
    let port = at.port.to_string();
    xml.leaf("host", &[("name", &at.host), ("port", &port)]);
}

fn auth(xml: &mut Xml, login: Option<&DiskLogin>, usage: SecretUse) {
    let Some(login) = login else { return };
    xml.node("auth", &[("username", &login.user)], |xml| {
        let id = login.secret.to_string();
        xml.leaf("secret", &[("type", usage.as_str()), ("uuid", &id)]);
    });
}
