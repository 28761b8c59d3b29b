//! As much of an XML reader as libvirt's answers need.

use std::collections::BTreeMap;

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};

/// An element with what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
    children: Vec<Element>,
    text: String,
}

/// A document that is not XML.
#[derive(Debug, thiserror::Error)]
#[error("libvirt's answer is not well-formed XML: {0}")]
pub(super) struct NotXml(String);

impl Element {
    /// Reads a document; the answer is its root element.
    pub(super) fn parse(text: &str) -> Result<Self, NotXml> {
        let mut reader = Reader::from_str(text);
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event().map_err(broken)? {
                Event::Start(start) => open.push(Self::begin(&start)?),
                Event::Empty(start) => last(&mut open)?.children.push(Self::begin(&start)?),
                Event::End(_) => {
                    let done = open.pop().unwrap_or_default();
                    last(&mut open)?.children.push(done);
                }
                Event::Text(text) => last(&mut open)?.text.push_str(text.as_ref()),
                Event::Eof => break,
                _ => {}
            }
        }
        let root = open.pop().and_then(|mut document| document.children.pop());
        root.ok_or_else(|| NotXml("no root element".to_owned()))
    }

    /// Elements down a path of names, below this one.
    pub(super) fn all<'a>(
        &'a self,
        path: &'a [&'a str],
    ) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        match path.split_first() {
            None => Box::new(std::iter::once(self)),
            Some((name, rest)) => {
                let named = self
                    .children
                    .iter()
                    .filter(move |child| child.name == *name);
                Box::new(named.flat_map(move |child| child.all(rest)))
            }
        }
    }

    /// The first element down a path.
    pub(super) fn first<'a>(&'a self, path: &'a [&'a str]) -> Option<&'a Self> {
        self.all(path).next()
    }

    /// An attribute of this element.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// The text directly in this element.
    pub(super) fn text(&self) -> &str {
        self.text.trim()
    }

    fn begin(start: &BytesStart<'_>) -> Result<Self, NotXml> {
        let mut attributes = BTreeMap::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(broken)?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(broken)?;
            attributes.insert(text(attribute.key.as_ref()), value.into_owned());
        }
        Ok(Self {
            name: text(start.name().as_ref()),
            attributes,
            ..Self::default()
        })
    }
}

fn text(name: &str) -> String {
    name.to_owned()
}

fn broken(e: impl std::fmt::Display) -> NotXml {
    NotXml(e.to_string())
}

fn last(open: &mut [Element]) -> Result<&mut Element, NotXml> {
    open.last_mut()
        .ok_or_else(|| NotXml("an end without a start".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_path() {
        let root = Element::parse("<a><b x='1&amp;2'/><b x='3'><c> t </c></b></a>").unwrap();
        let found: Vec<_> = root.all(&["b"]).filter_map(|b| b.attribute("x")).collect();
        assert_eq!(found, ["1&2", "3"]);
        assert_eq!(root.first(&["b", "c"]).unwrap().text(), "t");
        assert_eq!(root.first(&["c"]), None);
    }

    #[test]
    fn what_is_not_xml_is_an_error() {
        for bad in ["", "<a>", "</a>", "<a></b>", "x"] {
            assert!(Element::parse(bad).is_err(), "{bad}");
        }
    }
}
