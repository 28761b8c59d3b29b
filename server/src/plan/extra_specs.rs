//! Extra specs of flavors: those that are honoured, each by Nova's name, and what they ask for.
//!
//! One table says which are known and what each does. Whatever is not in it is refused by name.

use std::{collections::BTreeMap, ops::RangeInclusive, str::FromStr};

use super::Faults;
use crate::{
    domain::{Bandwidth, CpuTune, IoTune, Rate, Rng, WatchdogAction},
    model::Bytes,
};

/// What the extra specs ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) cpu: CpuTune,
    pub(super) io: IoTune,
    pub(super) inbound: WishedRate,
    pub(super) outbound: WishedRate,
    pub(super) sockets: Option<u32>,
    pub(super) cores: Option<u32>,
    pub(super) threads: Option<u32>,
    pub(super) boot_menu: bool,
    pub(super) watchdog: Option<WatchdogAction>,
    rng_allowed: bool,
    rng_bytes: Option<u64>,
    rng_period: Option<u32>,
}

/// A rate as its three specs come, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WishedRate {
    average: Option<u64>,
    peak: Option<u64>,
    burst: Option<u64>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            cpu: CpuTune::default(),
            io: IoTune::default(),
            inbound: WishedRate::default(),
            outbound: WishedRate::default(),
            sockets: None,
            cores: None,
            threads: None,
            boot_menu: false,
            watchdog: None,
            rng_allowed: true,
            rng_bytes: None,
            rng_period: None,
        }
    }
}

impl Wishes {
    /// The source of randomness, which every guest has unless its flavor says no.
    pub(super) fn rng(&self) -> Option<Rng> {
        self.rng_allowed.then_some(Rng {
            bytes: self.rng_bytes.map(Bytes),
            period: self.rng_period,
        })
    }

    /// The bounds of every interface.
    pub(super) fn bandwidth(&self) -> Bandwidth {
        let rate = |wished: WishedRate| {
            wished.average.map(|average| Rate {
                average,
                peak: wished.peak,
                burst: wished.burst,
            })
        };
        Bandwidth {
            inbound: rate(self.inbound),
            outbound: rate(self.outbound),
        }
    }
}

type Put = fn(&mut Wishes, &str) -> Result<(), String>;

/// What the kernel's processor groups take.
const SHARES: RangeInclusive<u64> = 2..=262_144;
const PERIOD: RangeInclusive<u64> = 1_000..=1_000_000;
const QUOTA: RangeInclusive<u64> = 1_000..=17_592_186_044_415;
/// What QEMU's throttle takes.
const THROTTLE: RangeInclusive<u64> = 1..=1_000_000_000_000_000;
/// What traffic control takes, KiB.
const TRAFFIC: RangeInclusive<u64> = 1..=4_294_967_295 / 1024;
const THREADS: RangeInclusive<u32> = 1..=255;

/// Every extra spec that is honoured.
const KNOWN: &[(&str, Put)] = &[
    ("hw:boot_menu", |w, v| put(&mut w.boot_menu, flag(v))),
    ("hw:cpu_cores", |w, v| {
        some(&mut w.cores, number(v, THREADS))
    }),
    // How all guests here run; the other policies are refused.
    ("hw:cpu_policy", |_, v| only("shared", v)),
    ("hw:cpu_sockets", |w, v| {
        some(&mut w.sockets, number(v, THREADS))
    }),
    ("hw:cpu_threads", |w, v| {
        some(&mut w.threads, number(v, THREADS))
    }),
    ("hw:watchdog_action", |w, v| {
        put(&mut w.watchdog, watchdog(v))
    }),
    ("hw_rng:allowed", |w, v| put(&mut w.rng_allowed, flag(v))),
    ("hw_rng:rate_bytes", |w, v| {
        some(&mut w.rng_bytes, number(v, 1..=u64::from(u32::MAX)))
    }),
    ("hw_rng:rate_period", |w, v| {
        some(&mut w.rng_period, number(v, 1..=u32::MAX))
    }),
    ("quota:cpu_period", |w, v| {
        some(&mut w.cpu.period, number(v, PERIOD))
    }),
    ("quota:cpu_quota", |w, v| {
        some(&mut w.cpu.quota, number(v, QUOTA))
    }),
    ("quota:cpu_shares", |w, v| {
        some(&mut w.cpu.shares, number(v, SHARES))
    }),
    ("quota:disk_read_bytes_sec", |w, v| {
        some(&mut w.io.read_bytes, number(v, THROTTLE))
    }),
    ("quota:disk_read_iops_sec", |w, v| {
        some(&mut w.io.read_iops, number(v, THROTTLE))
    }),
    ("quota:disk_total_bytes_sec", |w, v| {
        some(&mut w.io.total_bytes, number(v, THROTTLE))
    }),
    ("quota:disk_total_iops_sec", |w, v| {
        some(&mut w.io.total_iops, number(v, THROTTLE))
    }),
    ("quota:disk_write_bytes_sec", |w, v| {
        some(&mut w.io.write_bytes, number(v, THROTTLE))
    }),
    ("quota:disk_write_iops_sec", |w, v| {
        some(&mut w.io.write_iops, number(v, THROTTLE))
    }),
    ("quota:vif_inbound_average", |w, v| {
        some(&mut w.inbound.average, number(v, TRAFFIC))
    }),
    ("quota:vif_inbound_burst", |w, v| {
        some(&mut w.inbound.burst, number(v, TRAFFIC))
    }),
    ("quota:vif_inbound_peak", |w, v| {
        some(&mut w.inbound.peak, number(v, TRAFFIC))
    }),
    ("quota:vif_outbound_average", |w, v| {
        some(&mut w.outbound.average, number(v, TRAFFIC))
    }),
    ("quota:vif_outbound_burst", |w, v| {
        some(&mut w.outbound.burst, number(v, TRAFFIC))
    }),
    ("quota:vif_outbound_peak", |w, v| {
        some(&mut w.outbound.peak, number(v, TRAFFIC))
    }),
];

/// Names of all extra specs that are honoured, in order.
pub fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

/// The field of an extra spec, as faults name it.
pub(super) fn field(name: &str) -> String {
    format!("flavor.extra_specs[\"{name}\"]")
}

/// Reads all of them, and names every one that is unknown, unfit, or at odds with another.
pub(super) fn parse(specs: &BTreeMap<String, String>, faults: &mut Faults) -> Wishes {
    let mut wishes = Wishes::default();
    for (name, value) in specs {
        let known = KNOWN.iter().find(|(known, _)| known == name);
        let read = match known {
            Some((_, put)) => put(&mut wishes, value),
            None => Err("is not honoured by this server".to_owned()),
        };
        if let Err(fault) = read {
            faults.add(field(name), fault);
        }
    }
    for (name, base) in NEEDS {
        if specs.contains_key(*name) && !specs.contains_key(*base) {
            faults.add(field(name), format!("needs {base}"));
        }
    }
    for (name, total) in EXCLUDES {
        if specs.contains_key(*name) && specs.contains_key(*total) {
            faults.add(field(name), format!("excludes {total}"));
        }
    }
    wishes
}

/// Extra specs that mean nothing without another.
const NEEDS: &[(&str, &str)] = &[
    ("hw_rng:rate_period", "hw_rng:rate_bytes"),
    ("quota:vif_inbound_burst", "quota:vif_inbound_average"),
    ("quota:vif_inbound_peak", "quota:vif_inbound_average"),
    ("quota:vif_outbound_burst", "quota:vif_outbound_average"),
    ("quota:vif_outbound_peak", "quota:vif_outbound_average"),
];

/// Extra specs that QEMU does not take together.
const EXCLUDES: &[(&str, &str)] = &[
    ("quota:disk_read_bytes_sec", "quota:disk_total_bytes_sec"),
    ("quota:disk_read_iops_sec", "quota:disk_total_iops_sec"),
    ("quota:disk_write_bytes_sec", "quota:disk_total_bytes_sec"),
    ("quota:disk_write_iops_sec", "quota:disk_total_iops_sec"),
];

fn put<T>(slot: &mut T, value: Result<T, String>) -> Result<(), String> {
    *slot = value?;
    Ok(())
}

fn some<T>(slot: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    put(slot, value.map(Some))
}

fn number<N: FromStr + PartialOrd + std::fmt::Display>(
    text: &str,
    range: RangeInclusive<N>,
) -> Result<N, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
}

/// The words for yes and no that Nova takes.
fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn only(right: &str, text: &str) -> Result<(), String> {
    if text == right {
        Ok(())
    } else {
        Err(format!("can only be {right} on this server"))
    }
}

fn watchdog(text: &str) -> Result<Option<WatchdogAction>, String> {
    match text {
        "disabled" => Ok(None),
        "none" => Ok(Some(WatchdogAction::None)),
        "pause" => Ok(Some(WatchdogAction::Pause)),
        "poweroff" => Ok(Some(WatchdogAction::Poweroff)),
        "reset" => Ok(Some(WatchdogAction::Reset)),
        _ => Err("must be disabled, none, pause, poweroff or reset".to_owned()),
    }
}
