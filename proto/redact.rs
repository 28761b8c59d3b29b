//! What the generated `Debug` of a message prints in place of a secret.

use std::fmt;

/// Stands for a secret: tells whether there is one, never what or how long it is.
pub(crate) struct Redacted(bool);

impl Redacted {
    pub(crate) fn of<S: Secret + ?Sized>(secret: &S) -> Self {
        Self(secret.is_set())
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "[redacted]" } else { "[unset]" })
    }
}

/// The Rust types that secret fields have.
pub(crate) trait Secret {
    fn is_set(&self) -> bool;
}

impl Secret for String {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl Secret for Vec<u8> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}
