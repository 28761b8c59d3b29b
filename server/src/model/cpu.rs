//! A processor, as guests see it and as the host counts it.

/// A processor as guests see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuModel {
    /// Architecture, as in `uname -m`.
    pub architecture: String,
    /// Model, by libvirt's names.
    pub model: String,
    /// Vendor; none is any.
    pub vendor: Option<String>,
    /// Its parts.
    pub topology: CpuTopology,
    /// Features besides those of the model.
    pub features: Vec<String>,
    /// Features of the model that it does without.
    pub disabled: Vec<String>,
}

/// The parts of a processor; 0 is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTopology {
    /// Sockets.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores: u32,
    /// Threads of a core.
    pub threads: u32,
}

impl CpuTopology {
    /// How many virtual processors make it up; what is not said counts once.
    pub fn processors(self) -> u64 {
        let parts = [self.sockets, self.cores, self.threads];
        parts
            .iter()
            .map(|part| u64::from(*part).max(1))
            .fold(1, u64::saturating_mul)
    }

    /// Whether it is `host`'s as far as it is said.
    pub fn is_of(self, host: Self) -> bool {
        let same = |own: u32, host: u32| own == 0 || own == host;
        same(self.sockets, host.sockets)
            && same(self.cores, host.cores)
            && same(self.threads, host.threads)
    }
}

/// How what guests can be given here compares with a processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuFit {
    /// It is the same.
    Identical,
    /// It has more.
    Superset,
    /// It lacks something.
    Lacking {
        /// What, in words.
        why: String,
    },
}

/// What the host's processors have done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// In user space, ns.
    pub user: u64,
    /// In the kernel, ns.
    pub kernel: u64,
    /// Idle, ns.
    pub idle: u64,
    /// Waiting for input or output, ns.
    pub iowait: u64,
    /// Frequency, MHz; 0 when the host does not tell.
    pub mhz: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_counts_what_is_said() {
        let said = CpuTopology {
            sockets: 2,
            cores: 4,
            threads: 0,
        };
        assert_eq!(said.processors(), 8);
        assert_eq!(CpuTopology::default().processors(), 1);
        let host = CpuTopology { threads: 2, ..said };
        assert!(said.is_of(host) && CpuTopology::default().is_of(host));
        assert!(!host.is_of(CpuTopology { cores: 8, ..host }));
    }
}
