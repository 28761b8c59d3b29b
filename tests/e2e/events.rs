//! WatchEvents from outside: the order of a life, `kill -9` between events, a libvirt that goes and comes back.

use std::time::Duration;

use computedriver::v1::{
    self, EventKind, event::About, instance_service_client::InstanceServiceClient,
    watch_events_response::Event as Told,
};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming, transport::Endpoint};

use crate::support::{LIMIT, Sandbox, command, reason, request, until};

suite! {
    a_life_is_told_in_order_under_its_operations,
    a_crash_loses_and_repeats_no_event,
}

type Stream = Streaming<v1::WatchEventsResponse>;

async fn watch(sandbox: &Sandbox, after: Option<u64>) -> Result<Stream, Status> {
    let asked = v1::WatchEventsRequest {
        after,
        ..Default::default()
    };
    let answer = sandbox.instances().await.watch_events(asked).await?;
    Ok(answer.into_inner())
}

async fn told(stream: &mut Stream) -> Told {
    let message = tokio::time::timeout(LIMIT, stream.message()).await;
    let message = message.expect("a message in time").expect("no failure");
    message.and_then(|message| message.event).expect("an event")
}

/// Reads events up to the first that is looked for.
async fn until_told(stream: &mut Stream, last: impl Fn(&v1::Event) -> bool) -> Vec<v1::Event> {
    let mut events: Vec<v1::Event> = Vec::new();
    while !events.last().is_some_and(&last) {
        if let Told::Happened(event) = told(stream).await {
            events.push(event);
        }
    }
    events
}

fn ends(verb: &str) -> impl Fn(&v1::Event) -> bool {
    move |event| match &event.about {
        Some(About::Operation(operation)) => {
            event.kind() == EventKind::OperationEnded && operation.verb == verb
        }
        _ => false,
    }
}

async fn a_life_is_told_in_order_under_its_operations(sandbox: &mut Sandbox) {
    let (first, _) = sandbox.spawn(request()).await.unwrap();
    let mut stream = watch(sandbox, None).await.unwrap();
    let Told::State(state) = told(&mut stream).await else {
        panic!("the present state comes first");
    };
    assert_eq!(state.instance_id, first.instance_id);
    assert_eq!(state.state(), v1::PowerState::Running);
    let Told::Synced(synced) = told(&mut stream).await else {
        panic!("then its place in the journal");
    };

    let (second, _) = sandbox.spawn(request()).await.unwrap();
    let id = second.instance_id;
    sandbox.destroy(&id).await.unwrap();
    let mut events = until_told(&mut stream, ends("Destroy")).await;
    let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
    let expected = synced.sequence + 1..=synced.sequence + events.len() as u64;
    assert_eq!(sequences, Vec::from_iter(expected));
    // An emulator that is ended by a signal may say so before it goes.
    events.retain(|event| event.kind() != EventKind::ShuttingDown);
    let kinds: Vec<_> = events.iter().map(v1::Event::kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::OperationBegun,
            EventKind::Started,
            EventKind::Created,
            EventKind::OperationEnded,
            EventKind::OperationBegun,
            EventKind::Stopped,
            EventKind::Destroyed,
            EventKind::OperationEnded,
        ],
        "{events:#?}"
    );
    for life in [&events[..4], &events[4..]] {
        for event in life {
            assert_eq!(event.instance_id, id);
            assert_eq!(event.operation_id, life[0].operation_id, "{event:?}");
        }
    }
    assert_eq!(events[1].reason, "BOOTED");
    assert_eq!(events[5].reason, "DESTROYED");
    let Some(About::Operation(end)) = &events[3].about else {
        panic!("{:?}", events[3]);
    };
    assert_eq!(end.state(), v1::OperationState::Succeeded);
    assert!(end.caller.starts_with("unix:uid="), "{end:?}");

    let newer = watch(sandbox, Some(events[7].sequence + 1)).await;
    let newer = newer.expect_err("there is no such event");
    assert_eq!(
        (newer.code(), reason(&newer).as_str()),
        (Code::OutOfRange, "EVENTS_EXPIRED")
    );
    sandbox.destroy(&first.instance_id).await.unwrap();
    sandbox.assert_clean().await;
}

/// Reads all events there ever are, over whatever becomes of the server.
async fn subscriber(socket: String, events_tx: mpsc::UnboundedSender<v1::Event>) {
    let mut after = 0;
    while !events_tx.is_closed() {
        let _ = follow(&socket, &mut after, &events_tx).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn follow(
    socket: &str,
    after: &mut u64,
    events_tx: &mpsc::UnboundedSender<v1::Event>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let channel = Endpoint::from_shared(format!("unix:{socket}"))?
        .connect()
        .await?;
    let asked = v1::WatchEventsRequest {
        after: Some(*after),
        ..Default::default()
    };
    let answer = InstanceServiceClient::new(channel)
        .watch_events(asked)
        .await?;
    let mut stream = answer.into_inner();
    while let Some(message) = stream.message().await? {
        if let Some(Told::Happened(event)) = message.event {
            *after = event.sequence;
            events_tx.send(event)?;
        }
    }
    Ok(())
}

/// Begins a spawn and kills the server once it has told so many steps.
async fn cut(sandbox: &mut Sandbox, messages: usize) {
    let stream = sandbox.instances().await.spawn(request()).await;
    let mut stream = stream.expect("the spawn begins").into_inner();
    for _ in 0..messages {
        let message = stream.message().await;
        assert!(message.expect("no failure").is_some(), "it ended before");
    }
    sandbox.kill();
}

async fn a_crash_loses_and_repeats_no_event(sandbox: &mut Sandbox) {
    let (events_tx, mut events_rx) = mpsc::unbounded_channel();
    let socket = sandbox.socket().display().to_string();
    let following = tokio::spawn(subscriber(socket, events_tx));
    let mut dead = Vec::new();
    for messages in [1, 4, 8, 12] {
        let (instance, _) = sandbox.spawn(request()).await.unwrap();
        cut(sandbox, messages).await;
        // All guests die while nobody looks.
        for pid in sandbox.emulators() {
            // One whose start was cut may end by itself before its turn.
            let _ = command("kill").args(["-9", &pid.to_string()]).status();
        }
        let emulators = || async { sandbox.emulators().is_empty().then_some(()) };
        until("the emulators' end", emulators).await;
        dead.push(instance.instance_id);
        sandbox.launch();
        sandbox.ready().await;
    }
    for id in sandbox.listed().await {
        // Guests that died are being brought back.
        sandbox.destroy(&id).await.unwrap();
    }
    // The last of all: an id that everything before it has been told by.
    let (last, _) = sandbox.spawn(request()).await.unwrap();
    sandbox.destroy(&last.instance_id).await.unwrap();

    let is_last =
        |event: &v1::Event| ends("Destroy")(event) && event.instance_id == last.instance_id;
    let mut seen: Vec<v1::Event> = Vec::new();
    while !seen.last().is_some_and(is_last) {
        let event = tokio::time::timeout(LIMIT, events_rx.recv()).await;
        seen.push(event.expect("events come").expect("the subscriber lives"));
    }
    drop(events_rx);
    following.abort();
    let sequences: Vec<_> = seen.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, Vec::from_iter(1..=seen.len() as u64));
    let mut replay = watch(sandbox, Some(0)).await.unwrap();
    assert_eq!(
        until_told(&mut replay, is_last).await,
        seen,
        "what was told is what is kept"
    );
    for id in dead {
        let life = seen.iter().filter(|event| event.instance_id == id);
        let life: Vec<_> = life.map(v1::Event::kind).collect();
        let started = life.iter().position(|kind| *kind == EventKind::Started);
        let ended = |kind: &EventKind| matches!(kind, EventKind::Stopped | EventKind::Crashed);
        let ended = life.iter().position(ended);
        assert!(started.is_some() && started < ended, "{life:?}");
    }
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn what_happens_to_devices_and_disks_of_our_guests_is_told() {
    let Some(sandbox) = Sandbox::start_system(&[]).await else {
        return;
    };
    let (instance, _) = sandbox.spawn(request()).await.unwrap();
    let mut stream = watch(&sandbox, None).await.unwrap();
    let (daemon, domain) = (
        sandbox.daemon(),
        format!("computelet-{}", instance.instance_id),
    );
    let nic = sandbox.path().join("nic.xml");
    let xml = "<interface type='user'><model type='virtio'/></interface>";
    std::fs::write(&nic, xml).unwrap();
    daemon.virsh(&["attach-device", &domain, &nic.display().to_string()]);
    let added = |event: &v1::Event| event.kind() == EventKind::DeviceAdded;
    let added = until_told(&mut stream, added).await;
    assert!(
        added.last().unwrap().device_id.starts_with("net"),
        "{added:?}"
    );

    daemon.virsh(&["blockpull", &domain, "vda"]);
    let job = |event: &v1::Event| event.kind() == EventKind::BlockJob;
    let job = until_told(&mut stream, job).await;
    let job = job.last().unwrap();
    assert_eq!(
        (job.device_id.as_str(), &job.instance_id),
        ("root", &instance.instance_id)
    );
    let Some(About::BlockJob(about)) = &job.about else {
        panic!("{job:?}");
    };
    assert_eq!(about.r#type(), v1::BlockJobType::Pull);
    assert_eq!(about.status(), v1::BlockJobStatus::Completed);
    sandbox.destroy(&instance.instance_id).await.unwrap();
    sandbox.assert_clean().await;
}

#[tokio::test]
async fn a_libvirtd_that_is_lost_is_told_and_what_changed_meanwhile_too() {
    let Some(sandbox) = Sandbox::start_system(&[]).await else {
        return;
    };
    let (killed, _) = sandbox.spawn(request()).await.unwrap();
    let emulators = sandbox.emulators();
    let (same, _) = sandbox.spawn(request()).await.unwrap();
    let mut stream = watch(&sandbox, None).await.unwrap();
    sandbox.daemon().down();
    let lost = |event: &v1::Event| event.kind() == EventKind::Unreachable;
    let told = until_told(&mut stream, lost).await;
    assert_eq!(told.last().unwrap().instance_id, "");
    for pid in emulators {
        let done = command("kill").args(["-9", &pid.to_string()]).status();
        assert!(done.unwrap().success());
    }
    sandbox.daemon().up();
    let ended = |event: &v1::Event| event.instance_id == killed.instance_id;
    let told = until_told(&mut stream, ended).await;
    assert_eq!(told[0].kind(), EventKind::Reachable, "{told:?}");
    assert_eq!(told[0].reason, "RECONNECTED");
    let end = told.last().unwrap();
    assert!(
        matches!(end.kind(), EventKind::Stopped | EventKind::Crashed),
        "{end:?}"
    );
    assert_ne!(end.power_state(), v1::PowerState::Running);
    assert_eq!(end.operation_id, "");
    for id in [killed.instance_id, same.instance_id] {
        sandbox.destroy(&id).await.unwrap();
    }
    sandbox.assert_clean().await;
}
