//! The little of an XML writer that the domain needs: elements, attributes, text; all of it escaped.

use std::{borrow::Cow, io};

use quick_xml::{
    Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};

/// An element's attributes, in the order written.
pub(super) type Attributes<'a> = &'a [(&'a str, &'a str)];

/// Writes indented XML into memory.
pub(super) struct Xml(Writer<Vec<u8>>);

impl Xml {
    /// An empty document.
    pub(super) fn new() -> Self {
        Self(Writer::new_with_indent(Vec::new(), b' ', 2))
    }

    /// `<name …/>`
    pub(super) fn leaf(&mut self, name: &str, attributes: Attributes<'_>) {
        self.event(Event::Empty(start(name, attributes)));
    }

    /// `<name …>text</name>`
    pub(super) fn text(&mut self, name: &str, attributes: Attributes<'_>, text: &str) {
        self.event(Event::Start(start(name, attributes)));
        self.event(Event::Text(BytesText::new(&lawful(text))));
        self.event(Event::End(BytesEnd::new(name)));
    }

    /// `<name …>` children `</name>`
    pub(super) fn node(
        &mut self,
        name: &str,
        attributes: Attributes<'_>,
        children: impl FnOnce(&mut Self),
    ) {
        self.event(Event::Start(start(name, attributes)));
        children(self);
        self.event(Event::End(BytesEnd::new(name)));
    }

    /// The document.
    pub(super) fn finish(self) -> String {
        let mut text =
            String::from_utf8(self.0.into_inner()).expect("only text has been written into it");
        text.push('\n');
        text
    }

    fn event(&mut self, event: Event<'_>) {
        let written: io::Result<()> = self.0.write_event(event);
        written.expect("writing into memory cannot fail");
    }
}

fn start<'a>(name: &'a str, attributes: Attributes<'a>) -> BytesStart<'a> {
    let mut start = BytesStart::new(name);
    for (key, value) in attributes {
        start.push_attribute((*key, lawful(value).as_ref()));
    }
    start
}

/// Puts U+FFFD in place of what XML 1.0 has no way to write, escaped or not.
fn lawful(text: &str) -> Cow<'_, str> {
    let unlawful = |c: char| match c {
        '\t' | '\n' | '\r' => false,
        '\u{fffe}' | '\u{ffff}' => true,
        c => c < ' ',
    };
    if text.contains(unlawful) {
        Cow::Owned(text.replace(unlawful, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}
