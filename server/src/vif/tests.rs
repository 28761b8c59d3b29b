//! The drivers, those of bridges against the kernel in a network namespace of its own.

use super::{Plugged, User, VifError, Vifs, fake::Fake};
use crate::{
    domain::InterfaceSource,
    error::{Classify, Kind},
    model::{InstanceId, NicModel, TapName, Vif, VifKind},
};

mod namespace;

use namespace::{in_namespace, ip};

fn vif(kind: VifKind) -> Vif {
    Vif {
        id: "eth0".parse().unwrap(),
        mac: "52:54:00:00:00:01".parse().unwrap(),
        kind,
        model: NicModel::Virtio,
        mtu: None,
        subnets: Vec::new(),
        network_id: None,
        network_label: String::new(),
    }
}

fn on(bridge: &str) -> Vif {
    vif(VifKind::Bridge {
        bridge: bridge.to_owned(),
    })
}

#[tokio::test]
async fn an_interface_that_nobody_handles_is_refused() {
    let vifs = Vifs::new(vec![Box::new(User)]);
    let id = InstanceId::random();
    assert!(vifs.plug(id, &vif(VifKind::User)).await.is_ok());
    let refused = vifs.plug(id, &on("br0")).await.unwrap_err();
    assert!(matches!(refused, VifError::Unsupported { .. }), "{refused}");
}

#[tokio::test]
async fn user_and_unbound_interfaces_need_nothing_of_the_host() {
    let vifs = Vifs::linux();
    for (kind, source) in [
        (VifKind::User, InterfaceSource::User),
        (VifKind::Unbound, InterfaceSource::Unbound),
    ] {
        let vif = vif(kind);
        let plugged = Plugged {
            interface: vif.id.clone(),
            source,
            mtu: None,
        };
        let id = InstanceId::random();
        assert_eq!(vifs.plug(id, &vif).await.unwrap(), plugged);
        vifs.unplug(id, &vif).await.unwrap();
    }
}

#[tokio::test]
async fn the_fake_keeps_what_is_plugged_and_fails_when_told_to() {
    let fake = Fake::default();
    let (vifs, id, vif) = (fake.vifs(), InstanceId::random(), on("br0"));
    vifs.plug(id, &vif).await.unwrap();
    assert_eq!(fake.all_plugged(), [(id, vif.id.clone())].into());
    let no = VifError::Unsupported {
        interface: vif.id.clone(),
    };
    fake.fail_unplug(no);
    assert!(vifs.unplug(id, &vif).await.is_err());
    fake.fail_unplug(None);
    vifs.unplug(id, &vif).await.unwrap();
    assert_eq!(fake.all_plugged(), [].into());
}

#[test]
fn a_bridge_that_is_there_is_plugged_into() {
    in_namespace(|| async {
        ip("link add br0 type bridge").await;
        let (vifs, id) = (Vifs::linux(), InstanceId::random());
        let tap = TapName::of(id, &"eth0".parse().unwrap());
        let expected = Plugged {
            interface: "eth0".parse().unwrap(),
            source: InterfaceSource::Bridge {
                bridge: "br0".to_owned(),
                tap,
            },
            mtu: None,
        };
        for _ in 0..2 {
            assert_eq!(vifs.plug(id, &on("br0")).await.unwrap(), expected);
        }
    });
}

#[test]
fn a_guest_is_told_what_its_bridge_carries() {
    in_namespace(|| async {
        ip("link add br0 mtu 1450 type bridge").await;
        let (vifs, id) = (Vifs::linux(), InstanceId::random());
        let plugged = vifs.plug(id, &on("br0")).await.unwrap();
        assert_eq!(plugged.mtu, Some(1450));
        let wanted = Vif {
            mtu: Some(1400),
            ..on("br0")
        };
        assert_eq!(vifs.plug(id, &wanted).await.unwrap().mtu, Some(1400));
    });
}

#[test]
fn what_is_no_bridge_is_refused_by_name() {
    in_namespace(|| async {
        ip("link add veth0 type veth peer name veth1").await;
        let (vifs, id) = (Vifs::linux(), InstanceId::random());
        for name in ["br0", "veth0", "lo", "a-name-that-no-device-can-have", ""] {
            let refused = vifs.plug(id, &on(name)).await.unwrap_err();
            assert_eq!(refused.reason(), "NETWORK_NOT_FOUND", "{name}: {refused}");
            assert_eq!(refused.kind(), Kind::NotFound);
            let fields = refused.fields();
            assert!(fields.contains(&("bridge", name.to_owned())), "{fields:?}");
        }
    });
}

#[test]
fn a_tap_that_is_left_over_stops_a_plug_and_is_removed_by_unplug() {
    in_namespace(|| async {
        let (vifs, id) = (Vifs::linux(), InstanceId::random());
        let tap = TapName::of(id, &"eth0".parse().unwrap());
        ip("link add br0 type bridge").await;
        ip(&format!("tuntap add dev {tap} mode tap")).await;
        let refused = vifs.plug(id, &on("br0")).await.unwrap_err();
        assert_eq!(refused.reason(), "VIF_PLUG_FAILED", "{refused}");
        for _ in 0..2 {
            vifs.unplug(id, &on("br0")).await.unwrap();
        }
        assert!(!ip("-o link").await.contains(tap.as_str()));
        vifs.plug(id, &on("br0")).await.unwrap();
    });
}

#[test]
fn a_device_that_is_no_tap_is_never_removed() {
    in_namespace(|| async {
        let (vifs, id) = (Vifs::linux(), InstanceId::random());
        let name = TapName::of(id, &"eth0".parse().unwrap());
        ip("link add br0 type bridge").await;
        ip(&format!("link add {name} type veth peer name other")).await;
        let refused = vifs.plug(id, &on("br0")).await.unwrap_err();
        assert!(matches!(refused, VifError::NameTaken { .. }), "{refused}");
        vifs.unplug(id, &on("br0")).await.unwrap();
        assert!(ip("-o link").await.contains(name.as_str()));
    });
}
