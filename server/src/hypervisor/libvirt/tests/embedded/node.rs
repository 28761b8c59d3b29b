//! The host's processor, as the real QEMU driver sees it.

use super::*;
use crate::{
    hypervisor::Node,
    model::{CpuFit, CpuModel},
};

/// A processor that every machine can give.
fn plain() -> CpuModel {
    CpuModel {
        architecture: "x86_64".to_owned(),
        model: "qemu64".to_owned(),
        ..CpuModel::default()
    }
}

fn why(fit: CpuFit) -> String {
    match fit {
        CpuFit::Lacking { why } => why,
        fit => panic!("{fit:?}"),
    }
}

#[tokio::test]
async fn the_host_can_give_what_it_says_it_can() {
    let Some((_, settings)) = role() else {
        return in_own_process("node::the_host_can_give_what_it_says_it_can", &["all"]).await;
    };
    let libvirt = up(settings).await;
    let own = libvirt.cpu().await.unwrap();
    println!("{own:?}");
    assert!(own.topology.processors() > 0 && own.architecture == "x86_64");
    let fit = libvirt.compare_cpu(own.clone()).await.unwrap();
    assert_eq!(fit, CpuFit::Identical);
    let mut smaller = own.clone();
    smaller.topology.sockets += 1;
    let fit = libvirt.compare_cpu(smaller).await.unwrap();
    assert_eq!(fit, CpuFit::Superset, "another topology is not the same");
    let fit = libvirt.compare_cpu(plain()).await.unwrap();
    assert_eq!(fit, CpuFit::Superset);

    let features = libvirt.cpu_features(None).await.unwrap();
    for there in own.features.iter().map(String::as_str).chain(["sse2"]) {
        assert!(features.iter().any(|name| name == there), "{there}");
    }
    for without in &own.disabled {
        assert!(!features.contains(without), "{without}");
    }
    let old = libvirt.cpu_features(Some("Conroe".to_owned())).await;
    let old = old.unwrap();
    assert!(old.contains(&"ssse3".to_owned()) && !old.contains(&"avx".to_owned()));
}

#[tokio::test]
async fn what_the_host_lacks_is_named() {
    let Some((_, settings)) = role() else {
        return in_own_process("node::what_the_host_lacks_is_named", &["all"]).await;
    };
    let libvirt = up(settings).await;
    let refused = async |cpu: CpuModel| why(libvirt.compare_cpu(cpu).await.unwrap());
    let with = |feature: &str| CpuModel {
        features: vec![feature.to_owned()],
        ..plain()
    };
    // The translator has never had it.
    let told = refused(with("avx512f")).await;
    assert!(told.contains("avx512f"), "{told}");
    let told = refused(with("nonsense")).await;
    assert!(told.contains("nonsense"), "{told}");
    let unknown = CpuModel {
        model: "NoSuch".to_owned(),
        ..plain()
    };
    let told = refused(unknown).await;
    assert!(told.contains("NoSuch"), "{told}");
    let other = CpuModel {
        architecture: "aarch64".to_owned(),
        ..plain()
    };
    assert_eq!(refused(other).await, "guests here are x86_64");
    let mut wide = plain();
    wide.topology.sockets = u32::MAX;
    let told = refused(wide).await;
    assert!(told.contains("virtual CPUs"), "{told}");
}

#[tokio::test]
async fn the_hosts_processors_are_counted() {
    let Some((_, settings)) = role() else {
        return in_own_process("node::the_hosts_processors_are_counted", &["all"]).await;
    };
    let libvirt = up(settings).await;
    let before = libvirt.cpu_times().await.unwrap();
    assert!(before.user > 0 && before.kernel > 0 && before.idle > 0);
    let later = libvirt.cpu_times().await.unwrap();
    assert!(later.user >= before.user && later.mhz == before.mhz);
}
