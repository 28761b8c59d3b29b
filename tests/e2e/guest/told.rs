//! What a guest tells of itself, and agents that do not tell.

use super::*;

suite! {
    a_guest_tells_of_itself,
}

async fn a_guest_tells_of_itself(sandbox: &mut Sandbox) {
    let mac = "52:54:00:ab:cd:01";
    let request = v1::SpawnRequest {
        vifs: vec![v1::Vif {
            interface_id: "port-1".to_owned(),
            mac_address: mac.to_owned(),
            r#type: Some(v1::vif::Type::User(v1::UserVif::default())),
            ..Default::default()
        }],
        ..guest_request("GUEST-NETIO")
    };
    let (instance, _) = sandbox.spawn(request).await.expect("a guest");
    let mut guests = sandbox.guests().await;
    let told = guests.get_guest_info(of(&instance.instance_id)).await;
    let told = told.expect("the guest's word").into_inner();
    println!("{told:#?}");

    assert!(!told.agent_version.is_empty());
    assert!(told.agent_commands.contains(&"guest-file-open".to_owned()));
    assert_eq!(told.hostname, "computelet-guest");
    let os = told.os.expect("a system");
    assert_eq!((&*os.os_id, &*os.machine), ("computelet-test", "x86_64"));
    assert!(!os.kernel_release.is_empty());
    let eth0 = told.interfaces.iter().find(|told| told.name == "eth0");
    let eth0 = eth0.expect("the guest's interface");
    assert_eq!((&*eth0.mac_address, &*eth0.interface_id), (mac, "port-1"));
    assert!(
        eth0.addresses.iter().any(|ip| ip.starts_with("10.0.2.")),
        "{eth0:?}"
    );
    let lo = told.interfaces.iter().find(|told| told.name == "lo");
    assert_eq!(lo.expect("its loopback").interface_id, "");
    let root = told.filesystems.iter().find(|told| told.mountpoint == "/");
    assert_eq!(root.expect("its root").filesystem, "ext4");
    let now = std::time::SystemTime::now();
    let guest: std::time::SystemTime = told.guest_time.expect("its clock").try_into().unwrap();
    let off = now.duration_since(guest).unwrap_or_else(|e| e.duration());
    assert!(off < Duration::from_secs(60), "its clock is off by {off:?}");

    sandbox.destroy(&instance.instance_id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_stopped_agent_is_told_in_time_and_holds_nobody_up() {
    let sandbox = Sandbox::start(&[]).await;
    let stop = "killall -STOP qemu-ga";
    let (silent, other) = tokio::join!(
        sandbox.spawn(scripted(stop, "AGENT-STOPPED")),
        with_agent(&sandbox)
    );
    let silent = silent.expect("a guest").0.instance_id;

    let since = Instant::now();
    let mut guests = sandbox.guests().await;
    let question = tokio::spawn(async move { guests.get_guest_info(of(&silent)).await });
    let mut asked = 0;
    while !question.is_finished() {
        // Its neighbour's agent answers meanwhile.
        let mut guests = sandbox.guests().await;
        guests.get_guest_info(of(&other)).await.expect("a word");
        asked += 1;
    }
    let status = question.await.unwrap().unwrap_err();
    assert_eq!(reason(&status), "GUEST_AGENT_TIMEOUT", "{status:?}");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert!(asked > 2, "the neighbour was asked {asked} times");
}

#[tokio::test]
async fn calls_that_need_no_agent_go_on_while_it_says_nothing() {
    let sandbox = Sandbox::start(&[]).await;
    let stop = "killall -STOP qemu-ga";
    let request = scripted(stop, "AGENT-STOPPED");
    let id = sandbox.spawn(request).await.unwrap().0.instance_id;
    let mut guests = sandbox.guests().await;
    let asked = of(&id);
    let question = tokio::spawn(async move { guests.get_guest_info(asked).await });
    let mut instances = sandbox.instances().await;
    let (mut slowest, mut asked) = (Duration::ZERO, 0);
    while !question.is_finished() {
        let since = Instant::now();
        let request = v1::GetInstanceRequest {
            instance_id: id.clone(),
        };
        instances.get_instance(request).await.expect("an answer");
        slowest = slowest.max(since.elapsed());
        asked += 1;
    }
    assert!(asked > 2, "asked {asked} times");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    // It can be destroyed at once, too.
    let mut guests = sandbox.guests().await;
    let asked = of(&id);
    let question = tokio::spawn(async move { guests.get_guest_info(asked).await });
    sandbox.destroy(&id).await.expect("it goes");
    let status = question.await.unwrap().unwrap_err();
    println!("{status:?}");
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_guest_without_an_agent_is_told_at_once() {
    let sandbox = Sandbox::start(&[]).await;
    let (instance, _) = sandbox.spawn(crate::support::request()).await.unwrap();
    let since = Instant::now();
    let mut guests = sandbox.guests().await;
    let status = guests
        .get_guest_info(of(&instance.instance_id))
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "GUEST_AGENT_UNAVAILABLE", "{status:?}");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(since.elapsed() < Duration::from_secs(3));
    let absent = of("7f9c24e8-3b12-4d9b-8c3a-0a7b9e2f4d10");
    let status = guests.get_guest_info(absent).await.unwrap_err();
    assert_eq!(reason(&status), "INSTANCE_NOT_FOUND");
}

/// Ends the agent and whatever would start it again, and answers its port by `$2` in its place.
const IMPOSTOR: &str = r#"
for p in /sys/class/virtio-ports/*; do
    [ "$(cat "$p/name")" = org.qemu.guest_agent.0 ] && port=/dev/${p##*/}
done
agent=$(pidof qemu-ga)
keeper=$(awk '{ print $4 }' "/proc/$agent/stat")
kill -9 "$keeper" "$agent"
while kill -0 "$agent" 2> /dev/null; do usleep 10000; done
(exec 3<> "$port"; while read -r _ <&3; do echo 'hunter2 {"ret' >&3; done) &
"#;

#[tokio::test]
async fn an_agent_that_answers_garbage_is_told_and_not_quoted() {
    let sandbox = Sandbox::start(&[]).await;
    let (instance, _) = sandbox
        .spawn(scripted(IMPOSTOR, "AGENT-REPLACED"))
        .await
        .unwrap();
    let since = Instant::now();
    let mut guests = sandbox.guests().await;
    let status = guests
        .get_guest_info(of(&instance.instance_id))
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "GUEST_AGENT_ERROR", "{status:?}");
    assert_eq!(status.code(), Code::Aborted);
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert!(!format!("{status:?}").contains("hunter2"));
    assert!(!sandbox.logged().contains("hunter2"));
}
