//! What a single setting may look like, in TOML and as the text of a variable or a flag.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use toml::Value;

/// A value as it was given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Raw {
    /// The file, variable or flag that it comes from.
    pub(super) origin: String,
    form: Form,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Toml(Value),
    Texts(Vec<String>),
}

impl Raw {
    pub(super) fn toml(origin: &str, value: Value) -> Self {
        Self {
            origin: origin.to_owned(),
            form: Form::Toml(value),
        }
    }

    pub(super) fn texts(origin: &str, texts: &[String]) -> Self {
        Self {
            origin: origin.to_owned(),
            form: Form::Texts(texts.to_vec()),
        }
    }

    /// The value when it is a single text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.form {
            Form::Toml(Value::String(text)) => Some(text),
            Form::Texts(texts) => texts.last().map(String::as_str),
            Form::Toml(_) => None,
        }
    }

    /// The value when it is a list of texts; in a variable or a flag they are separated by commas.
    pub(super) fn list(&self) -> Option<Vec<String>> {
        match &self.form {
            Form::Toml(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect(),
            Form::Toml(_) => None,
            Form::Texts(texts) => {
                let parts = texts.iter().flat_map(|text| text.split(','));
                let parts = parts.map(str::trim).filter(|part| !part.is_empty());
                Some(parts.map(str::to_owned).collect())
            }
        }
    }

    /// The value when it is no text in TOML, or the text itself.
    fn scalar<T: FromStr>(&self, of: impl Fn(&Value) -> Option<T>) -> Option<T> {
        match &self.form {
            Form::Toml(value) => of(value),
            Form::Texts(texts) => texts.last()?.trim().parse().ok(),
        }
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Form::Toml(value) => value.fmt(f),
            Form::Texts(texts) => write!(f, "{:?}", texts.join(",")),
        }
    }
}

/// What a setting's value can be read as.
pub(super) trait Setting: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What would be right.
    fn read(raw: &Raw) -> Result<Self, String>;
}

impl Setting for bool {
    fn read(raw: &Raw) -> Result<Self, String> {
        let read = raw.scalar(Value::as_bool);
        read.ok_or_else(|| "must be true or false".to_owned())
    }
}

impl Setting for u64 {
    fn read(raw: &Raw) -> Result<Self, String> {
        let read = raw.scalar(|value| u64::try_from(value.as_integer()?).ok());
        read.ok_or_else(|| "must be a whole number, not below 0".to_owned())
    }
}

impl Setting for f64 {
    fn read(raw: &Raw) -> Result<Self, String> {
        let whole = |value: &Value| value.as_integer()?.to_string().parse().ok();
        let read = raw.scalar(|value| value.as_float().or_else(|| whole(value)));
        read.filter(|n: &f64| n.is_finite())
            .ok_or_else(|| "must be a number".to_owned())
    }
}

impl Setting for Duration {
    fn read(raw: &Raw) -> Result<Self, String> {
        let read = raw.text().and_then(|text| text.parse().ok());
        read.and_then(|span: jiff::SignedDuration| Self::try_from(span).ok())
            .ok_or_else(|| {
                "must be a length of time with its unit, as \"30s\" or \"24h\"".to_owned()
            })
    }
}

impl Setting for IpAddr {
    fn read(raw: &Raw) -> Result<Self, String> {
        let read = raw.text().and_then(|text| text.parse().ok());
        read.ok_or_else(|| "must be an IP address".to_owned())
    }
}

impl Setting for PathBuf {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw
            .text()
            .filter(|text| !text.is_empty() && !text.contains('\0'));
        text.map(Self::from)
            .ok_or_else(|| "must be a path".to_owned())
    }
}

/// A text that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl Setting for Text {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.text().filter(|text| !text.trim().is_empty());
        text.map(|text| Self(text.to_owned()))
            .ok_or_else(|| "must be a text".to_owned())
    }
}

/// An enum whose variants are words of the configuration.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$about])* $variant),+ }

        impl $name {
            /// The word in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl $crate::config::value::Setting for $name {
            fn read(raw: &$crate::config::value::Raw) -> Result<Self, String> {
                match raw.text() {
                    $(Some($word) => Ok(Self::$variant),)+
                    _ => Err(format!("must be one of {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}
pub(super) use words;
