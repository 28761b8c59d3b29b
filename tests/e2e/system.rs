//! What only a libvirt outside the server can do: go away, hold domains of others, and have networks of its own.

use computedriver::v1::{self, vif};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Sandbox, guest_request, reason, request, until};

async fn state(sandbox: &Sandbox, id: &str) -> Result<v1::PowerState, Status> {
    let asked = v1::GetInfoRequest {
        instance_id: id.to_owned(),
    };
    let answer = sandbox.instances().await.get_info(asked).await?;
    Ok(answer.into_inner().info.expect("an info").state())
}

async fn becomes(sandbox: &Sandbox, id: &str, wanted: v1::PowerState) {
    let seen = || async {
        // Whatever it is, it must never be an error: the instance is known.
        let state = state(sandbox, id).await.expect("a state");
        (state == wanted).then_some(())
    };
    until(&format!("{wanted:?}"), seen).await;
}

#[tokio::test]
async fn a_libvirtd_that_is_killed_costs_no_guest() {
    let Some(sandbox) = Sandbox::start_system(&[]).await else {
        return;
    };
    let asked = v1::GetCapabilitiesRequest {};
    let told = sandbox.host().await.get_capabilities(asked).await;
    let hypervisor = told.unwrap().into_inner().hypervisor.unwrap();
    assert_eq!(hypervisor.mode(), v1::HypervisorMode::System);
    let (instance, _) = sandbox.spawn(request()).await.unwrap();
    let id = instance.instance_id;
    let emulators = sandbox.emulators();
    sandbox.daemon().down();
    becomes(&sandbox, &id, v1::PowerState::Unknown).await;

    let refused = sandbox.spawn(request()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unavailable, "HYPERVISOR_UNAVAILABLE")
    );
    let details = refused.get_error_details();
    assert!(details.retry_info().is_some(), "{refused:?}");
    let words = refused.message();
    assert!(!words.contains('/'), "a path of the host: {words}");
    assert_eq!(sandbox.listed().await, std::slice::from_ref(&id));
    assert_eq!(sandbox.emulators(), emulators, "the guest runs on");

    sandbox.daemon().up();
    becomes(&sandbox, &id, v1::PowerState::Running).await;
    assert_eq!(sandbox.emulators(), emulators, "the guest is the same one");
    let (second, _) = sandbox.spawn(request()).await.unwrap();
    for id in [id, second.instance_id] {
        assert!(!sandbox.destroy(&id).await.unwrap());
    }
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_server_that_starts_before_its_libvirtd_deletes_nothing() {
    let Some(mut sandbox) = Sandbox::start_system(&[]).await else {
        return;
    };
    let (instance, _) = sandbox.spawn(request()).await.unwrap();
    let id = instance.instance_id;
    let emulators = sandbox.emulators();
    sandbox.kill();
    sandbox.daemon().down();
    sandbox.launch();
    let answer = || async { sandbox.try_spawn(request()).await };
    let refused = until("the server's answer", answer).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    sandbox.daemon().up();
    sandbox.ready().await;
    becomes(&sandbox, &id, v1::PowerState::Running).await;
    assert_eq!(sandbox.emulators(), emulators);
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_domain_of_somebody_else_is_neither_listed_nor_touched() {
    let Some(sandbox) = Sandbox::start_system(&[]).await else {
        return;
    };
    let asked = request();
    let id = asked.instance_id.clone();
    let xml = format!(
        "<domain type='qemu'><name>theirs</name><uuid>{id}</uuid><memory unit='MiB'>16</memory>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    );
    let file = sandbox.path().join("theirs.xml");
    std::fs::write(&file, xml).unwrap();
    let daemon = sandbox.daemon();
    daemon.virsh(&["define", &file.display().to_string()]);
    daemon.virsh(&["start", "theirs"]);
    let before = daemon.virsh(&["dumpxml", "theirs"]);
    assert_eq!(sandbox.listed().await, Vec::<String>::new());
    let absent = state(&sandbox, &id).await.unwrap_err();
    assert_eq!(reason(&absent), "INSTANCE_NOT_FOUND");

    let refused = sandbox.spawn(asked).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::AlreadyExists, "INSTANCE_EXISTS")
    );
    assert!(sandbox.destroy(&id).await.unwrap(), "nothing of ours");
    assert_eq!(daemon.virsh(&["dumpxml", "theirs"]), before);
    assert_eq!(daemon.virsh(&["domstate", "theirs"]), "running");
    sandbox.assert_clean().await;
}

fn on_bridge(bridge: &str) -> v1::SpawnRequest {
    v1::SpawnRequest {
        vifs: vec![v1::Vif {
            interface_id: "port-1".to_owned(),
            mac_address: "52:54:00:00:00:01".to_owned(),
            r#type: Some(vif::Type::Bridge(v1::BridgeVif {
                bridge: bridge.to_owned(),
            })),
            ..Default::default()
        }],
        ..request()
    }
}

async fn packets(sandbox: &Sandbox, id: &str) -> (i64, i64) {
    let asked = v1::GetInterfaceStatsRequest {
        instance_id: id.to_owned(),
        interface_id: "port-1".to_owned(),
    };
    let answer = sandbox.stats().await.get_interface_stats(asked).await;
    let counters = answer.unwrap().into_inner().counters.unwrap();
    (counters.rx_packets.unwrap(), counters.tx_packets.unwrap())
}

/// What the guest sends is what the host receives from its tap.
async fn counts_by_the_guests_side(sandbox: &Sandbox, id: &str, device: &str) {
    // It looks for a DHCP server, and for routers; nobody answers, so that the two directions differ.
    let sent = || async {
        let (_, sent) = packets(sandbox, id).await;
        (sent > 2).then_some(())
    };
    until("packets of the guest", sent).await;
    let before = packets(sandbox, id).await;
    let link = sandbox
        .daemon()
        .run(&["ip", "-s", "-j", "link", "show", device]);
    let after = packets(sandbox, id).await;
    let link: serde_json::Value = serde_json::from_str(&link).expect("ip's JSON");
    let host = |way: &str| link[0]["stats64"][way]["packets"].as_i64().unwrap();
    let guest = (host("tx"), host("rx"));
    assert!(
        before.0 <= guest.0 && guest.0 <= after.0,
        "{before:?} {guest:?}"
    );
    assert!(
        before.1 <= guest.1 && guest.1 <= after.1,
        "{before:?} {guest:?}"
    );
}

#[tokio::test]
async fn a_guest_is_plugged_into_a_bridge_and_leaves_no_tap() {
    let Some(mut sandbox) = Sandbox::start_system(&[]).await else {
        return;
    };
    // A bridge, and a server that sees it, where no other test and no machine's own network is.
    sandbox.move_inside().await;
    let daemon = sandbox.daemon();
    daemon.run(&["ip", "link", "add", "br0", "type", "bridge"]);
    daemon.run(&["ip", "link", "set", "br0", "up"]);
    let taps = || {
        sandbox
            .daemon()
            .run(&["ip", "-o", "link", "show", "master", "br0"])
    };

    let asked = v1::SpawnRequest {
        vifs: on_bridge("br0").vifs,
        ..guest_request("Linux version")
    };
    let (instance, _) = sandbox.spawn(asked).await.unwrap();
    let asked = v1::GetInstanceRequest {
        instance_id: instance.instance_id.clone(),
    };
    let answer = sandbox.instances().await.get_instance(asked).await;
    let seen = answer.unwrap().into_inner().instance.unwrap();
    let [interface] = &seen.interfaces[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(interface.connected_to, "br0");
    let device = &interface.host_device;
    assert!(
        !device.is_empty() && taps().contains(device),
        "{device}: {}",
        taps()
    );
    counts_by_the_guests_side(&sandbox, &instance.instance_id, device).await;
    sandbox.destroy(&instance.instance_id).await.unwrap();
    assert_eq!(taps(), "", "taps are left");

    let refused = sandbox.spawn(on_bridge("br1")).await.unwrap_err();
    assert_eq!(reason(&refused), "NETWORK_NOT_FOUND", "{refused:?}");
    assert_eq!(refused.code(), Code::NotFound);
    sandbox.assert_clean().await;
}
