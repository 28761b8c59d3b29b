//! Counters of real guests, measured now.

use computedriver::v1;
use tonic::{Code, Status};

use crate::support::{Sandbox, command, guest_request, reason, request, until};

async fn block(sandbox: &Sandbox, id: &str, disk: &str) -> Result<v1::BlockCounters, Status> {
    let asked = v1::GetBlockStatsRequest {
        instance_id: id.to_owned(),
        disk_id: disk.to_owned(),
    };
    let answer = sandbox.stats().await.get_block_stats(asked).await?;
    let answer = answer.into_inner();
    assert!(answer.collect_time.is_some());
    Ok(answer.counters.expect("counters"))
}

async fn interface(
    sandbox: &Sandbox,
    id: &str,
    interface: &str,
) -> Result<v1::InterfaceCounters, Status> {
    let asked = v1::GetInterfaceStatsRequest {
        instance_id: id.to_owned(),
        interface_id: interface.to_owned(),
    };
    let answer = sandbox.stats().await.get_interface_stats(asked).await?;
    Ok(answer.into_inner().counters.expect("counters"))
}

#[tokio::test]
async fn a_guests_disks_are_counted_and_what_is_absent_is_told_so() {
    let sandbox = Sandbox::start(&[]).await;
    let asked = v1::SpawnRequest {
        vifs: vec![v1::Vif {
            interface_id: "nowhere".to_owned(),
            mac_address: "52:54:00:00:00:01".to_owned(),
            r#type: Some(v1::vif::Type::Unbound(v1::UnboundVif::default())),
            ..Default::default()
        }],
        ..guest_request("Linux version")
    };
    let (instance, _) = sandbox.spawn(asked).await.unwrap();
    let id = &instance.instance_id;
    for disk in &instance.disks {
        let counted = block(&sandbox, id, &disk.disk_id).await.unwrap();
        assert_eq!(counted.disk_id, disk.disk_id);
        assert!(counted.rd_bytes.is_some() && counted.rd_time_ns.is_some());
    }
    let root = &instance.disks[0].disk_id;
    let read = || async {
        let counted = block(&sandbox, id, root).await.unwrap();
        (counted.rd_bytes > Some(1 << 20)).then_some(counted)
    };
    let read = until("the guest's kernel is read", read).await;
    assert!(
        read.rd_req > Some(0) && read.rd_time_ns > Some(0),
        "{read:?}"
    );
    let silent = interface(&sandbox, id, "nowhere").await.unwrap();
    assert_eq!((silent.rx_bytes, silent.tx_bytes), (None, None));

    let other = uuid(id);
    let refusals = [
        (
            block(&sandbox, &other, root).await.err(),
            "INSTANCE_NOT_FOUND",
        ),
        (block(&sandbox, id, "none").await.err(), "DISK_NOT_FOUND"),
        (
            interface(&sandbox, &other, "nowhere").await.err(),
            "INSTANCE_NOT_FOUND",
        ),
        (
            interface(&sandbox, id, "none").await.err(),
            "INTERFACE_NOT_FOUND",
        ),
    ];
    for (refused, why) in refusals {
        let refused = refused.expect(why);
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::NotFound, why)
        );
    }
    let refused = block(&sandbox, "not an id", root).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    sandbox.destroy(id).await.unwrap();
    sandbox.assert_clean().await;
}

/// An id that nobody has.
fn uuid(id: &str) -> String {
    let last = if id.ends_with('0') { '1' } else { '0' };
    format!("{}{last}", &id[..id.len() - 1])
}

/// Sends a signal to an emulator.
fn kill(signal: &str, pid: u32) {
    let done = command("kill").args([signal, &pid.to_string()]).status();
    assert!(done.expect("kill runs").success());
}

#[tokio::test]
async fn a_guest_that_hangs_delays_who_asks_for_it_and_nobody_else() {
    let sandbox = Sandbox::start(&[]).await;
    let (hung, _) = sandbox.spawn(request()).await.unwrap();
    let [pid] = sandbox.emulators()[..] else {
        panic!("one guest runs");
    };
    let (other, _) = sandbox.spawn(request()).await.unwrap();
    kill("-STOP", pid);
    let stopped = || async {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains(") T ").then_some(())
    };
    until("the emulator stops", stopped).await;
    let asked = block(&sandbox, &hung.instance_id, &hung.disks[0].disk_id).await;
    let refused = asked.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "OVERLOADED")
    );
    let disk = &other.disks[0].disk_id;
    block(&sandbox, &other.instance_id, disk).await.unwrap();
    for id in [&hung.instance_id, &other.instance_id] {
        let asked = v1::GetInfoRequest {
            instance_id: id.clone(),
        };
        let told = sandbox.instances().await.get_info(asked).await.unwrap();
        let state = told.into_inner().info.unwrap().state();
        assert_eq!(state, v1::PowerState::Running);
    }
    kill("-CONT", pid);
    let answers = || async {
        let asked = block(&sandbox, &hung.instance_id, &hung.disks[0].disk_id).await;
        asked.ok()
    };
    until("it answers again", answers).await;
    for id in [&hung.instance_id, &other.instance_id] {
        sandbox.destroy(id).await.unwrap();
    }
    sandbox.assert_clean().await;
}
