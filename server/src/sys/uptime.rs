//! How long the host has run, and how busy it is.

use rustix::system::sysinfo;

/// How long the host has run, and how busy it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uptime {
    /// Seconds since it booted.
    pub seconds: f64,
    /// Mean number of runnable tasks over 1, 5 and 15 minutes.
    pub load: [f64; 3],
}

/// Linux counts load in units of 2^-16.
const LOAD_UNIT: f64 = 65536.0;

/// Asks the kernel; no process, no file.
///
/// # Errors
/// Never on Linux; the signature leaves room for hosts that must read a file.
#[allow(clippy::cast_precision_loss, reason = "an uptime of 2^52 s is not met")]
pub fn read() -> std::io::Result<Uptime> {
    let info = sysinfo();
    let load = info.loads.map(|load| load as f64 / LOAD_UNIT);
    Ok(Uptime {
        seconds: info.uptime as f64,
        load,
    })
}
