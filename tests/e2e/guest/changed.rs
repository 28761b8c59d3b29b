//! What is changed inside guests: passwords, files, addresses, the agent itself.

use std::fs;

use super::*;
use crate::{
    support::sha256,
    web::{Answer, Web},
};

/// The words of an error's metadata.
fn word(status: &tonic::Status, name: &str) -> Option<String> {
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    details.error_info()?.metadata.get(name).cloned()
}

#[tokio::test]
async fn a_password_is_in_force_and_nowhere_else() {
    let sandbox = Sandbox::start(&[]).await;
    // The guest itself checks what it was given, with the salt that its agent has chosen; the word is written backwards.
    let check = r#"
echo 6retnuh-tercesym > /tmp/word
(
    while :; do
        hash=$(awk -F: '$1 == "root" { print $2 }' /etc/shadow)
        salt=$(echo "$hash" | cut -d'$' -f3)
        if [ -n "$hash" ] && [ "$(mkpasswd -m sha512 -S "$salt" "$(rev < /tmp/word)")" = "$hash" ]; then break; fi
        usleep 200000
    done
    echo GUEST-PASSWORD ok > /dev/console
) > /dev/null 2>&1 &"#;
    let password = "mysecret-hunter6";
    let request = scripted(check, "GUEST-WAITS");
    let id = sandbox.spawn(request).await.unwrap().0.instance_id;
    let mut guests = sandbox.guests().await;
    let request = v1::SetAdminPasswordRequest {
        instance_id: id.clone(),
        admin_password: password.to_owned(),
        ..Default::default()
    };
    guests.set_admin_password(request.clone()).await.unwrap();
    shown(&sandbox, &id, "GUEST-PASSWORD ok").await;

    let nobody = v1::SetAdminPasswordRequest {
        username: "nobody-here".to_owned(),
        ..request
    };
    let status = guests.set_admin_password(nobody).await.unwrap_err();
    assert_eq!(reason(&status), "GUEST_AGENT_ERROR", "{status:?}");
    assert!(!format!("{status:?}").contains(password));
    assert!(!sandbox.logged().contains(password));
    for entry in fs::read_dir(sandbox.path()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("state.db") {
            let bytes = fs::read(entry.path()).unwrap();
            let found = bytes
                .windows(password.len())
                .any(|w| w == password.as_bytes());
            assert!(!found, "{:?}", entry.path());
        }
    }
}

#[tokio::test]
async fn a_file_is_there_whole_with_its_mode_and_its_owner_or_not_at_all() {
    let sandbox = Sandbox::start(&[]).await;
    let check = r#"
(
    while [ ! -e /root/big ]; do usleep 100000; done
    echo "GUEST-FILE $(stat -c %a:%u:%g /root/big) $(sha256sum < /root/big | cut -c1-64) left=$(ls -A / /root /tmp | grep -c computelet-)" > /dev/console
) > /dev/null 2>&1 &"#;
    let request = scripted(check, "GUEST-WAITS");
    let id = sandbox.spawn(request).await.unwrap().0.instance_id;
    let mut guests = sandbox.guests().await;
    let bytes: Vec<u8> = (0..5_u32 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let request = v1::InjectFileRequest {
        instance_id: id.clone(),
        path: "/root/big".to_owned(),
        contents: bytes.clone(),
        mode: 0o640,
        owner: "1000:1001".to_owned(),
        ..Default::default()
    };
    for path in ["/nowhere/big", "/tmp"] {
        let wrong = v1::InjectFileRequest {
            path: path.to_owned(),
            contents: b"hunter2".to_vec(),
            ..request.clone()
        };
        let status = guests.inject_file(wrong).await.unwrap_err();
        assert_eq!(reason(&status), "GUEST_AGENT_ERROR", "{status:?}");
    }
    let nobody = v1::InjectFileRequest {
        owner: "nobody-here".to_owned(),
        contents: Vec::new(),
        ..request.clone()
    };
    let status = guests.inject_file(nobody).await.unwrap_err();
    assert_eq!(reason(&status), "GUEST_AGENT_ERROR", "{status:?}");
    assert!(
        word(&status, "agent_message")
            .unwrap()
            .contains("nobody-here")
    );

    let since = Instant::now();
    let written = guests.inject_file(request).await.unwrap().into_inner();
    println!("5 MiB in {:?}", since.elapsed());
    assert_eq!(written.written_bytes, 5 << 20);
    let hash = {
        let path = sandbox.path().join("big");
        fs::write(&path, &bytes).unwrap();
        sha256(&path)
    };
    let expected = format!("GUEST-FILE 640:1000:1001 {hash} left=0");
    shown(&sandbox, &id, &expected).await;
    assert!(!sandbox.logged().contains("hunter2"));
}

#[tokio::test]
async fn a_guest_gets_the_addresses_of_its_vifs_and_its_links_back() {
    let sandbox = Sandbox::start(&[]).await;
    let request = v1::SpawnRequest {
        vifs: vec![v1::Vif {
            interface_id: "port-1".to_owned(),
            mac_address: "52:54:00:ab:cd:01".to_owned(),
            r#type: Some(v1::vif::Type::User(v1::UserVif::default())),
            fixed_ips: vec![v1::FixedIp {
                address: "10.0.2.77".to_owned(),
                prefix_length: 24,
                gateway: "10.0.2.2".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..guest_request("GUEST-NETIO")
    };
    let id = sandbox.spawn(request).await.unwrap().0.instance_id;
    let mut guests = sandbox.guests().await;
    let request = v1::InjectNetworkInfoRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    let told = guests.inject_network_info(request.clone()).await.unwrap();
    let told = told.into_inner().interfaces;
    let port = told
        .iter()
        .find(|told| told.interface_id == "port-1")
        .unwrap();
    assert!(
        port.addresses.contains(&"10.0.2.77/24".to_owned()),
        "{port:?}"
    );
    assert!(
        !port.addresses.iter().any(|ip| ip.starts_with("10.0.2.15")),
        "{port:?}"
    );
    guests
        .inject_network_info(request.clone())
        .await
        .expect("it is so already");

    let reset = v1::ResetNetworkRequest {
        instance_id: id.clone(),
        ..Default::default()
    };
    guests.reset_network(reset).await.unwrap();
    let told = guests.get_guest_info(of(&id)).await.unwrap().into_inner();
    let port = told
        .interfaces
        .iter()
        .find(|told| told.interface_id == "port-1");
    assert!(
        port.unwrap().addresses.contains(&"10.0.2.77/24".to_owned()),
        "{port:?}"
    );

    let absent = v1::InjectNetworkInfoRequest {
        interface_ids: vec!["port-2".to_owned()],
        ..request
    };
    let status = guests.inject_network_info(absent).await.unwrap_err();
    assert_eq!(reason(&status), "INTERFACE_NOT_FOUND", "{status:?}");
}

#[tokio::test]
async fn an_agent_is_renewed_by_a_program_that_ends_it() {
    let sandbox = Sandbox::start(&[]).await;
    let id = with_agent(&sandbox).await;
    let mut guests = sandbox.guests().await;
    let program = |name: &str, text: &str| {
        let path = sandbox.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let good = program(
        "good",
        "#!/bin/sh\nold=$(pidof qemu-ga)\nkill $old\nwhile kill -0 $old; do usleep 10000; done\n\
         while [ -z \"$(pidof qemu-ga)\" ]; do usleep 10000; done\necho GUEST-RENEWED > /dev/console\n",
    );
    let bad = program("bad", "#!/bin/sh\necho no room >&2\nexit 7\n");
    let (web, broken) = tokio::join!(
        Web::start(Answer::File(good.clone())),
        Web::start(Answer::File(bad.clone()))
    );
    let request = v1::UpdateAgentRequest {
        instance_id: id.clone(),
        url: web.url(),
        sha256: sha256(&good),
        ..Default::default()
    };
    let updated = guests.update_agent(request.clone()).await.unwrap();
    let version = updated.into_inner().version;
    assert!(version.contains('.'), "{version}");
    shown(&sandbox, &id, "GUEST-RENEWED").await;

    let failing = v1::UpdateAgentRequest {
        url: broken.url(),
        sha256: sha256(&bad),
        ..request.clone()
    };
    let status = guests.update_agent(failing).await.unwrap_err();
    assert_eq!(reason(&status), "GUEST_AGENT_ERROR", "{status:?}");
    assert_eq!(word(&status, "exit_status").as_deref(), Some("7"));
    assert!(status.message().contains("no room"), "{status:?}");

    // What has this hash has never been seen: nothing in the cache stands in for it.
    let other = v1::UpdateAgentRequest {
        url: broken.url(),
        sha256: "5a".repeat(32),
        ..request
    };
    let status = guests.update_agent(other).await.unwrap_err();
    assert_eq!(reason(&status), "IMAGE_CHECKSUM_MISMATCH", "{status:?}");
}
