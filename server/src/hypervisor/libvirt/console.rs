//! Lines into guests: the terminal behind a serial port, and the socket behind a screen.
//!
//! The terminal is opened by its name, not through one of libvirt's streams: those have no bound for what the other side
//! sends and one thread for all, and in our own process they are the very same file. It must lie on this host, as the
//! log that is read beside it does.

use std::{
    fs::File,
    io::{self, IsTerminal},
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
};

use async_trait::async_trait;
use rustix::fs::{Mode, OFlags, open};
use tokio::net::{
    UnixStream,
    unix::pipe::{Receiver, Sender},
};
use virt::{connect::Connect, domain::Domain as Handle};

use super::{
    Call, Kind, Libvirt,
    fault::Fault,
    ffi,
    guest::{self, Owned, wrong_state},
    xml::Element,
};
use crate::{
    hypervisor::{
        HypervisorError, Result,
        console::{Consoles, Wire},
    },
    model::InstanceId,
};

/// What is told to have failed when the runtime does not take what was opened.
const REGISTER: &str = "epoll_ctl";

#[async_trait]
impl Consoles for Libvirt {
    async fn serial(&self, id: InstanceId, port: u32) -> Result<Option<Wire>> {
        let exchange = self.exchange.clone();
        let call = Call::of(Kind::Cheap, "virDomainGetXMLDesc", id);
        let terminal = move |conn: &Connect| terminal(conn, &exchange.owned, id, port);
        let Some(terminal) = self.call(call, terminal).await? else {
            return Ok(None);
        };
        let wire = wire_of(terminal).map_err(|e| broken(&e));
        wire.map(Some)
    }

    async fn screen(&self, id: InstanceId) -> Result<Option<Wire>> {
        let exchange = self.exchange.clone();
        let call = Call::of(Kind::Monitor, "virDomainOpenGraphicsFD", id);
        let socket = move |conn: &Connect| screen(conn, &exchange.owned, id);
        let Some(socket) = self.call(call, socket).await? else {
            return Ok(None);
        };
        let socket = StdUnixStream::from(socket);
        let opened = socket
            .set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(socket));
        let (from, to) = opened.map_err(|e| broken(&e))?.into_split();
        Ok(Some(Wire::new(from, to)))
    }
}

fn broken(e: &io::Error) -> HypervisorError {
    HypervisorError::Failed {
        call: REGISTER,
        message: e.to_string(),
        code: 0,
        domain: 0,
    }
}

/// A terminal's two directions wait apart, each with a handle of its own.
fn wire_of(terminal: File) -> io::Result<Wire> {
    let from = Receiver::from_file_unchecked(terminal.try_clone()?)?;
    let to = Sender::from_file_unchecked(terminal)?;
    Ok(Wire::new(from, to))
}

/// The terminal behind a port, opened.
fn terminal(
    conn: &Connect,
    owned: &Owned,
    id: InstanceId,
    port: u32,
) -> Result<Option<File>, Fault> {
    let domain = running(conn, owned, id)?;
    let Some(before) = Place::of(&domain, id, port)? else {
        return Ok(None);
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = open(&before.path, flags, Mode::empty());
    // The name may have become another terminal's when the guest ended meanwhile: only in the same run was it its own.
    if !domain.is_active()? || Place::of(&domain, id, port)? != Some(before) {
        return Err(wrong_state(id, "domain is not running"));
    }
    let opened = opened.map_err(|e| HypervisorError::Unsupported {
        message: format!("the terminal of its serial port cannot be opened on this host: {e}"),
    })?;
    let opened = File::from(opened);
    if !opened.is_terminal() {
        let message = "its serial port is no terminal".to_owned();
        return Err(HypervisorError::Unsupported { message }.into());
    }
    Ok(Some(opened))
}

fn running(conn: &Connect, owned: &Owned, id: InstanceId) -> Result<Handle, Fault> {
    let domain = guest::readable(conn, owned, id)?;
    if domain.is_active()? {
        Ok(domain)
    } else {
        Err(wrong_state(id, "domain is not running"))
    }
}

/// Where a port's terminal is, in one run of the guest.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    run: Option<u32>,
    path: String,
}

impl Place {
    /// Where it is; none when there is no such port.
    fn of(domain: &Handle, id: InstanceId, port: u32) -> Result<Option<Self>, Fault> {
        let definition = definition(domain)?;
        let Some(serial) = serial(&definition, port) else {
            return Ok(None);
        };
        let source = serial.first(&["source"]);
        let path = source.and_then(|source| source.attribute("path"));
        // The guest has just ended: libvirt forgets its terminals first.
        let path = path.ok_or_else(|| wrong_state(id, "domain is not running"))?;
        Ok(Some(Self {
            run: domain.id(),
            path: path.to_owned(),
        }))
    }
}

fn serial(definition: &Element, port: u32) -> Option<&Element> {
    let port = port.to_string();
    let mut ports = definition.all(&["devices", "serial"]);
    ports.find(|serial| {
        let target = serial.first(&["target"]);
        target.and_then(|target| target.attribute("port")) == Some(&port)
    })
}

fn definition(domain: &Handle) -> Result<Element, Fault> {
    let text = guest::definition(domain, guest::PATIENCE)?;
    Element::parse(&text).map_err(|e| guest::unreadable(&e))
}

fn screen(conn: &Connect, owned: &Owned, id: InstanceId) -> Result<Option<OwnedFd>, Fault> {
    let domain = running(conn, owned, id)?;
    if definition(&domain)?
        .first(&["devices", "graphics"])
        .is_none()
    {
        return Ok(None);
    }
    Ok(Some(ffi::open_screen(&domain)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_its_number() {
        let text = "<domain><devices>\
            <serial type='pty'><source path='/dev/pts/7'/><target type='isa-serial' port='1'/></serial>\
            <serial type='pty'><source path='/dev/pts/4'/><target type='isa-serial' port='0'/></serial>\
            <serial type='tcp'><source mode='bind'/><target port='2'/></serial>\
            </devices></domain>";
        let definition = Element::parse(text).unwrap();
        let path = |port| {
            let source = serial(&definition, port)?.first(&["source"])?;
            source.attribute("path")
        };
        let found = [0, 1, 2, 3].map(path);
        assert_eq!(found, [Some("/dev/pts/4"), Some("/dev/pts/7"), None, None]);
        assert!(serial(&definition, 2).is_some() && serial(&definition, 3).is_none());
    }
}
