//! Which extra specs are honoured, and how.

use super::{faults, planned, spec, vif};
use crate::{
    domain::{CpuTune, IoTune, Rate, Topology, WatchdogAction},
    model::{Bytes, InstanceSpec, NicModel, VifKind, VirtType},
    plan::extra_specs,
};

fn with(specs: &[(&str, &str)]) -> InstanceSpec {
    let mut spec = spec();
    spec.flavor.vcpus = 4;
    let pairs = specs.iter();
    spec.flavor.extra_specs = pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    spec
}

#[test]
fn each_known_spec_refuses_nonsense_by_its_name() {
    for name in extra_specs() {
        let refused = faults(&with(&[(name, "no such value")]));
        let field = format!("flavor.extra_specs[\"{name}\"]");
        assert!(refused.iter().any(|(f, _)| *f == field), "{refused:?}");
    }
    let names: Vec<_> = extra_specs().collect();
    assert!(names.is_sorted(), "{names:?}");
}

#[test]
fn unknown_specs_are_refused_each_by_name() {
    let refused = faults(&with(&[
        ("a", ""),
        ("hw:numa_nodes", "1"),
        ("trait:X", "y"),
    ]));
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(
        refused
            .iter()
            .all(|(_, why)| why == "is not honoured by this server")
    );
}

#[test]
fn quotas_reach_processor_and_disks_but_not_the_config_drive() {
    let mut spec = with(&[
        ("quota:cpu_shares", "512"),
        ("quota:cpu_period", "20000"),
        ("quota:cpu_quota", "10000"),
        ("quota:disk_read_bytes_sec", "1048576"),
        ("quota:disk_write_bytes_sec", "2097152"),
        ("quota:disk_total_iops_sec", "100"),
    ]);
    spec.config_drive = true;
    let plan = planned(&spec, VirtType::Qemu);
    let tune = CpuTune {
        shares: Some(512),
        period: Some(20_000),
        quota: Some(10_000),
    };
    assert_eq!(plan.machine.cpu_tune, tune);
    let bounds = IoTune {
        read_bytes: Some(1 << 20),
        write_bytes: Some(2 << 20),
        total_iops: Some(100),
        ..IoTune::default()
    };
    let tunes: Vec<_> = plan.disks.iter().map(|disk| disk.tune).collect();
    assert_eq!(tunes, [bounds, IoTune::default()]);
}

#[test]
fn interface_quotas_need_a_tap() {
    let mut spec = with(&[
        ("quota:vif_inbound_average", "1000"),
        ("quota:vif_inbound_peak", "2000"),
        ("quota:vif_outbound_average", "500"),
    ]);
    let bridge = VifKind::Bridge {
        bridge: "br0".to_owned(),
    };
    spec.vifs = vec![vif(0, bridge, NicModel::Virtio)];
    let bandwidth = planned(&spec, VirtType::Qemu).vifs[0].bandwidth;
    let inbound = Rate {
        average: 1000,
        peak: Some(2000),
        burst: None,
    };
    assert_eq!(bandwidth.inbound, Some(inbound));
    assert_eq!(bandwidth.outbound.unwrap().average, 500);
    spec.vifs.push(vif(1, VifKind::User, NicModel::Virtio));
    assert_eq!(faults(&spec)[0].0, "vifs[1].type");
}

#[test]
fn specs_that_need_or_exclude_another_say_so() {
    let refused = faults(&with(&[
        ("hw_rng:rate_period", "1000"),
        ("quota:disk_read_bytes_sec", "1"),
        ("quota:disk_total_bytes_sec", "1"),
        ("quota:vif_outbound_burst", "1"),
    ]));
    let whys: Vec<_> = refused.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(
        whys,
        [
            "needs hw_rng:rate_bytes",
            "needs quota:vif_outbound_average",
            "excludes quota:disk_total_bytes_sec",
        ]
    );
}

#[test]
fn topology_fills_up_to_the_vcpus() {
    let topology = |specs: &[(&str, &str)]| {
        let cpu = planned(&with(specs), VirtType::Qemu).machine.cpu.unwrap();
        let parts = |t: Topology| (t.sockets, t.cores, t.threads);
        cpu.topology.map(parts)
    };
    assert_eq!(topology(&[]), None);
    assert_eq!(topology(&[("hw:cpu_sockets", "2")]), Some((2, 2, 1)));
    assert_eq!(topology(&[("hw:cpu_cores", "2")]), Some((2, 2, 1)));
    assert_eq!(topology(&[("hw:cpu_threads", "2")]), Some((2, 1, 2)));
    let all = [
        ("hw:cpu_sockets", "1"),
        ("hw:cpu_cores", "2"),
        ("hw:cpu_threads", "2"),
    ];
    assert_eq!(topology(&all), Some((1, 2, 2)));
    for wrong in ["3", "8"] {
        let refused = faults(&with(&[("hw:cpu_cores", wrong)]));
        assert_eq!(refused[0].0, "flavor.extra_specs[\"hw:cpu_cores\"]");
    }
    let too_few = [
        ("hw:cpu_cores", "1"),
        ("hw:cpu_sockets", "1"),
        ("hw:cpu_threads", "2"),
    ];
    assert_eq!(faults(&with(&too_few)).len(), 1);
}

#[test]
fn the_small_devices_follow_their_specs() {
    let machine = |specs: &[(&str, &str)]| planned(&with(specs), VirtType::Qemu).machine;
    assert!(machine(&[("hw_rng:allowed", "False")]).rng.is_none());
    let bound = machine(&[("hw_rng:rate_bytes", "64")]).rng.unwrap();
    assert_eq!((bound.bytes, bound.period), (Some(Bytes(64)), None));
    assert!(machine(&[("hw:boot_menu", "true")]).boot_menu);
    assert!(
        machine(&[("hw:watchdog_action", "disabled")])
            .watchdog
            .is_none()
    );
    let watchdog = machine(&[("hw:watchdog_action", "pause")]).watchdog;
    assert_eq!(watchdog.unwrap().action, WatchdogAction::Pause);
    machine(&[("hw:cpu_policy", "shared")]);
    assert_eq!(faults(&with(&[("hw:cpu_policy", "dedicated")])).len(), 1);
}
