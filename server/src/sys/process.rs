//! What this process takes of the host.

use std::{fs, io, time::Duration};

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// What this process takes of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, of all threads, its own and the kernel's for it.
    pub cpu: Duration,
    /// Bytes in RAM.
    pub resident: u64,
    /// Threads.
    pub threads: u64,
    /// Open files, sockets and the like.
    pub open_files: u64,
    /// How many of them it may have.
    pub open_files_limit: u64,
}

/// Asks the kernel.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn usage() -> io::Result<Usage> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, in parentheses, may hold anything; the numbers follow its end.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = |number: usize| {
        let text = fields.split(' ').nth(number - 3);
        text.and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| io::Error::other("/proc/self/stat does not read"))
    };
    let ticks = field(14)? + field(15)?;
    let millis = ticks.saturating_mul(1000) / clock_ticks_per_second();
    Ok(Usage {
        cpu: Duration::from_millis(millis),
        resident: field(24)? * page_size() as u64,
        threads: field(20)?,
        // Less the one that reads the folder.
        open_files: (fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1),
        open_files_limit: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::usage;

    #[test]
    fn what_is_opened_is_counted() {
        let before = usage().unwrap();
        let files: Vec<_> = (0..9)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        let after = usage().unwrap();
        assert!(
            after.open_files >= before.open_files + 9,
            "{before:?} {after:?}"
        );
        assert!(after.resident > 1 << 20 && after.threads >= 1, "{after:?}");
        assert!(after.open_files_limit >= after.open_files && after.cpu >= before.cpu);
        drop(files);
    }
}
