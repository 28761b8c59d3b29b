//! Sizes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A size in bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Bytes {
    /// `None` when it does not fit 64 bits.
    pub fn from_mib(mib: u64) -> Option<Self> {
        mib.checked_mul(MIB).map(Self)
    }

    /// `None` when it does not fit 64 bits.
    pub fn from_gib(gib: u64) -> Option<Self> {
        gib.checked_mul(GIB).map(Self)
    }

    /// Whole KiB, rounded down: libvirt's unit of memory.
    pub fn kib(self) -> u64 {
        self.0 / KIB
    }

    /// Whole MiB, rounded up: what a claim of this size takes.
    pub fn mib_up(self) -> u64 {
        self.0.div_ceil(MIB)
    }

    /// Whole GiB, rounded up.
    pub fn gib_up(self) -> u64 {
        self.0.div_ceil(GIB)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= GIB && n % GIB == 0 => write!(f, "{} GiB", n / GIB),
            n if n >= MIB && n % MIB == 0 => write!(f, "{} MiB", n / MIB),
            n => write!(f, "{n} bytes"),
        }
    }
}
