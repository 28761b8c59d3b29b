//! The memory of this host.

use std::io;

use crate::model::Bytes;

/// The memory of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All there is.
    pub total: Bytes,
    /// What could be had without swapping: free, or kept only because nobody else wanted it.
    pub available: Bytes,
}

impl Memory {
    /// What could not.
    pub fn used(&self) -> Bytes {
        Bytes(self.total.0.saturating_sub(self.available.0))
    }
}

/// Asks the kernel.
///
/// # Errors
/// When it does not tell.
pub fn read() -> io::Result<Memory> {
    parse(&std::fs::read_to_string("/proc/meminfo")?)
        .ok_or_else(|| io::Error::other("/proc/meminfo does not tell it"))
}

fn parse(text: &str) -> Option<Memory> {
    let line = |name: &str| {
        let mut lines = text.lines();
        let rest = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024).map(Bytes)
    };
    Some(Memory {
        total: line("MemTotal")?,
        available: line("MemAvailable")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cached_is_not_in_use() {
        let text = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    600 kB\n";
        assert_eq!(parse(text).unwrap().used(), Bytes(400 << 10));
        assert_eq!(parse("MemTotal: 1000 kB\n"), None);
        assert!(read().unwrap().used().0 > 0);
    }
}
