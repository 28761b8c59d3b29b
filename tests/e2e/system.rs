//! The same server joined to a libvirtd: `qemu:///system`, here one of the test's own.

use computedriver::v1;
use tonic::Code;

use crate::support::{Sandbox, guest_request, reason, request};

#[tokio::test]
async fn a_guest_boots_is_told_and_goes_on_a_joined_libvirt() {
    let Some(mut sandbox) = Sandbox::start_system().await else {
        return;
    };
    let told = v1::GetCapabilitiesRequest {};
    let told = sandbox
        .host()
        .await
        .get_capabilities(told)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(told.hypervisor.unwrap().mode(), v1::HypervisorMode::System);
    let asked = guest_request("GUEST-MILESTONE-ready");
    let id = asked.instance_id.clone();
    let (one, two) = tokio::join!(sandbox.spawn(asked.clone()), sandbox.spawn(asked));
    assert_eq!(one.unwrap().0.power_state(), v1::PowerState::Running);
    assert_eq!(two.unwrap().0.instance_id, id);
    assert_eq!(sandbox.emulators().len(), 1);
    sandbox.kill();
    sandbox.launch();
    sandbox.ready().await;
    let info = v1::GetInfoRequest {
        instance_id: id.clone(),
    };
    let info = sandbox
        .instances()
        .await
        .get_info(info)
        .await
        .unwrap()
        .into_inner()
        .info
        .unwrap();
    assert_eq!(info.state(), v1::PowerState::Running);
    sandbox.destroy(&id).await.unwrap();
    sandbox.assert_clean().await;
    let left = sandbox.libvirtd().virsh(&["list", "--all", "--name"]);
    assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "");
}

#[tokio::test]
async fn a_domain_that_is_not_ours_is_neither_told_nor_touched() {
    let Some(sandbox) = Sandbox::start_system().await else {
        return;
    };
    let asked = request();
    let id = asked.instance_id.clone();
    let xml = format!(
        "<domain type='qemu'><name>theirs</name><uuid>{id}</uuid><memory>16384</memory><os><type>hvm</type></os></domain>"
    );
    let file = sandbox.path().join("theirs.xml");
    std::fs::write(&file, xml).unwrap();
    let defined = sandbox
        .libvirtd()
        .virsh(&["define", &file.display().to_string()]);
    assert!(defined.status.success(), "{defined:?}");
    assert_eq!(sandbox.listed().await, Vec::<String>::new());
    let refused = sandbox.spawn(asked).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::AlreadyExists, "INSTANCE_EXISTS")
    );
    sandbox.destroy(&id).await.unwrap();
    let left = sandbox.libvirtd().virsh(&["list", "--all", "--name"]);
    assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "theirs");
    sandbox.assert_clean().await;
}
