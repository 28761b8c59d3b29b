//! Reads from a live definition what is known only there: whose it is, and what libvirt chose for it.

use quick_xml::{
    XmlVersion,
    events::{BytesStart, Event},
    name::{Namespace, ResolveResult},
    reader::NsReader,
};

use super::{Domain, METADATA_URI};
use crate::model::{InstanceId, MacAddress};

/// What a live definition tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// The instance, when the domain is one of ours: it carries our mark, and the name that goes with its UUID. The
    /// mark alone is not enough: tools that clone a domain copy it.
    pub instance: Option<InstanceId>,
    /// Interfaces, in the order of the definition.
    pub interfaces: Vec<LiveInterface>,
    /// TCP port of its VNC server.
    pub vnc_port: Option<u16>,
    /// Path of the terminal behind its first serial port.
    pub serial_pty: Option<String>,
}

/// An interface of a live guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveInterface {
    /// Its address on the wire.
    pub mac: MacAddress,
    /// Host name of its tap, when it has one.
    pub target: Option<String>,
}

/// Why a definition cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not well-formed XML.
    #[error("the domain's definition is not well-formed at byte {position}")]
    Xml {
        /// Where.
        position: u64,
        /// In the parser's words.
        #[source]
        source: quick_xml::Error,
    },
    /// It is XML of something else.
    #[error("the definition is not one of a domain")]
    NotDomain,
}

/// Reads a definition as libvirt gives it out. What it does not know is passed over.
///
/// # Errors
///
/// When `xml` is not well-formed, or not of a domain.
pub fn read(xml: &str) -> Result<Live, ReadError> {
    let mut reader = NsReader::from_str(xml);
    let mut scan = Scan::default();
    loop {
        let event = reader.read_event();
        let position = reader.buffer_position();
        let wrong = |source| ReadError::Xml { position, source };
        match event.map_err(wrong)? {
            Event::Start(element) => {
                let ours = is_ours(&reader, &element);
                scan.enter(&element, ours).map_err(wrong)?;
            }
            Event::Empty(element) => {
                let ours = is_ours(&reader, &element);
                scan.enter(&element, ours).map_err(wrong)?;
                scan.leave();
            }
            Event::End(_) => scan.leave(),
            Event::Text(text) => scan.text(&text.xml10_content()),
            Event::Eof => return scan.finish(),
            _ => {}
        }
    }
}

fn is_ours(reader: &NsReader<&[u8]>, element: &BytesStart<'_>) -> bool {
    let (namespace, name) = reader.resolver().resolve_element(element.name());
    namespace == ResolveResult::Bound(Namespace(METADATA_URI)) && name.as_ref() == "instance"
}

/// What has been seen so far, and where the reader stands.
#[derive(Default)]
struct Scan {
    path: Vec<String>,
    live: Live,
    domain: bool,
    marked: bool,
    name: String,
    uuid: String,
    mac: Option<MacAddress>,
    target: Option<String>,
}

impl Scan {
    fn at(&self, path: &[&str]) -> bool {
        self.path == path
    }

    fn enter(&mut self, element: &BytesStart<'_>, ours: bool) -> Result<(), quick_xml::Error> {
        self.path.push(element.name().as_ref().to_owned());
        let attribute = |name| attribute(element, name);
        if self.at(&["domain"]) {
            self.domain = true;
        } else if self.path.len() == 3 && self.path[..2] == ["domain", "metadata"] {
            self.marked |= ours;
        } else if self.at(&["domain", "devices", "interface", "mac"]) {
            self.mac = attribute("address")?.and_then(|mac| mac.parse().ok());
        } else if self.at(&["domain", "devices", "interface", "target"]) {
            self.target = attribute("dev")?;
        } else if self.at(&["domain", "devices", "graphics"]) {
            if attribute("type")?.as_deref() == Some("vnc") {
                // A guest that is off has the port -1.
                self.live.vnc_port = attribute("port")?.and_then(|port| port.parse().ok());
            }
        } else if self.at(&["domain", "devices", "serial", "source"])
            && self.live.serial_pty.is_none()
        {
            self.live.serial_pty = attribute("path")?;
        }
        Ok(())
    }

    fn leave(&mut self) {
        if self.at(&["domain", "devices", "interface"]) {
            let target = self.target.take();
            let mac = self.mac.take();
            let interface = mac.map(|mac| LiveInterface { mac, target });
            self.live.interfaces.extend(interface);
        }
        self.path.pop();
    }

    fn text(&mut self, text: &str) {
        if self.at(&["domain", "name"]) {
            self.name.push_str(text);
        } else if self.at(&["domain", "uuid"]) {
            self.uuid.push_str(text);
        }
    }

    fn finish(self) -> Result<Live, ReadError> {
        if !self.domain {
            return Err(ReadError::NotDomain);
        }
        let mut live = self.live;
        let id: Option<InstanceId> = self.uuid.trim().parse().ok();
        live.instance = id.filter(|id| self.marked && self.name == Domain::name_of(*id));
        Ok(live)
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, quick_xml::Error> {
    let Some(attribute) = element.try_get_attribute(name)? else {
        return Ok(None);
    };
    let value = attribute.normalized_value(XmlVersion::Explicit1_0)?;
    Ok(Some(value.into_owned()))
}
