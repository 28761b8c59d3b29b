//! Events and counters, followed whatever happens to the connection.

use std::time::Duration;

use computedriver_client::v1::EventKind as Kind;
use computedriver_client::{EventNews, Events, SampleNews, StatsView, v1};
use pretty_assertions::assert_eq;
use tonic::Code;

use crate::support::host::Cut;
use crate::support::{Server, make};

/// What a watch told, up to the event of this sequence, a line each.
async fn told(events: &mut Events, last: u64) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        match events.next().await.expect("it goes on") {
            EventNews::State(info) => told.push(format!("state {}", info.instance_id)),
            EventNews::Synced { sequence, .. } => told.push(format!("synced {sequence}")),
            EventNews::Bookmark { sequence } => told.push(format!("bookmark {sequence}")),
            EventNews::Lost(_) => told.push("lost".into()),
            EventNews::Happened(event) => {
                told.push(event.sequence.to_string());
                if event.sequence == last {
                    return told;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

fn write(server: &Server, count: usize) {
    for _ in 0..count {
        let event = make::event(make::INSTANCE, Kind::Rebooted);
        server.host.journal.write(event);
    }
}

fn after(sequence: u64) -> v1::WatchEventsRequest {
    v1::WatchEventsRequest {
        after: Some(sequence),
        ..Default::default()
    }
}

#[tokio::test]
async fn without_a_cursor_the_present_comes_first_and_then_what_happens() {
    let server = Server::start();
    server.host.put_instances(vec![make::info()]);
    write(&server, 3);
    let mut events = server.client().await.events(Default::default());
    let state = events.next().await.expect("the present");
    assert!(matches!(state, EventNews::State(_)), "{state:?}");
    let synced = events.next().await.expect("its place");
    let EventNews::Synced {
        sequence,
        journal_id,
    } = synced
    else {
        panic!("{synced:?}");
    };
    assert_eq!((sequence, journal_id.as_str()), (3, make::JOURNAL));
    write(&server, 2);
    assert_eq!(told(&mut events, 5).await, ["4", "5"]);
    assert_eq!(events.cursor(), Some(5));
}

#[tokio::test]
async fn over_lost_connections_no_event_is_lost_and_none_comes_twice() {
    let server = Server::start();
    write(&server, 6);
    for cut in [Cut::Lost(0), Cut::Lost(3), Cut::Short(1), Cut::Short(3)] {
        server.host.cut_next(cut);
    }
    let mut events = server.client().await.events(after(0));
    let expected = [
        "lost", "synced 0", "1", "2", "lost", "lost", "3", "4", "lost", "5", "6",
    ];
    assert_eq!(told(&mut events, 6).await, expected);
    assert_eq!(server.host.calls(), ["WatchEvents"; 5]);
}

#[tokio::test]
async fn a_server_that_is_killed_goes_on_where_it_was_when_it_is_back() {
    let mut server = Server::start();
    write(&server, 2);
    let mut events = server.client().await.events(after(0));
    assert_eq!(told(&mut events, 2).await, ["synced 0", "1", "2"]);
    server.kill();
    let lost = events.next().await.expect("it is worth another attempt");
    assert!(matches!(lost, EventNews::Lost(_)), "{lost:?}");
    write(&server, 2);
    server.revive();
    let mut seen = told(&mut events, 4).await;
    seen.retain(|line| line != "lost");
    assert_eq!(seen, ["3", "4"]);
}

#[tokio::test]
async fn before_the_present_is_told_whole_it_is_told_anew() {
    let server = Server::start();
    server.host.put_instances(vec![make::info()]);
    server.host.cut_next(Cut::Lost(1));
    write(&server, 1);
    let mut events = server.client().await.events(Default::default());
    let state = format!("state {}", make::INSTANCE);
    let mut seen = Vec::new();
    while seen
        .last()
        .is_none_or(|line: &String| !line.starts_with("synced"))
    {
        seen.push(match events.next().await.expect("it goes on") {
            EventNews::State(info) => format!("state {}", info.instance_id),
            EventNews::Synced { sequence, .. } => format!("synced {sequence}"),
            EventNews::Lost(_) => "lost".into(),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, [state.as_str(), "lost", &state, "synced 1"]);
}

#[tokio::test]
async fn what_was_not_asked_for_moves_the_cursor_all_the_same() {
    let server = Server::start();
    let client = server.client().await;
    let mut events = client.events(v1::WatchEventsRequest {
        kinds: vec![Kind::Crashed.into()],
        ..after(0)
    });
    let synced = events.next().await.expect("its place");
    assert!(matches!(synced, EventNews::Synced { .. }), "{synced:?}");
    write(&server, 3);
    while events.cursor() != Some(3) {
        let news = events.next().await.expect("a bookmark");
        assert!(matches!(news, EventNews::Bookmark { .. }), "{news:?}");
    }
    server.host.journal.write(make::event("b", Kind::Crashed));
    assert_eq!(told(&mut events, 4).await, ["4"]);
}

#[tokio::test]
async fn events_that_are_not_kept_any_more_are_an_error_and_not_a_gap() {
    let mut server = Server::start();
    write(&server, 3);
    let client = server.client().await;
    let mut events = client.events(after(0));
    assert_eq!(told(&mut events, 3).await, ["synced 0", "1", "2", "3"]);
    server.kill();
    write(&server, 5);
    server.host.journal.expire(6);
    server.revive();
    let error = loop {
        match events.next().await {
            Ok(EventNews::Lost(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), "EVENTS_EXPIRED");
    assert_eq!(error.next_move(), "begin again without a cursor");
    assert_eq!(events.cursor(), Some(3));
}

#[tokio::test]
async fn another_journal_is_not_taken_for_the_one_that_was_watched() {
    let mut server = Server::start();
    write(&server, 1);
    let mut events = server.client().await.events(after(0));
    assert_eq!(told(&mut events, 1).await, ["synced 0", "1"]);
    server.kill();
    server.host.journal.replace("another");
    write(&server, 4);
    server.revive();
    let error = loop {
        match events.next().await {
            Ok(EventNews::Lost(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::OutOfRange);
}

#[tokio::test]
async fn counters_begin_anew_after_a_lost_connection_and_no_rate_spans_it() {
    let server = Server::start();
    let of = |value| vec![make::stats("a", value)];
    server.host.cut_next(Cut::Lost(2));
    server
        .host
        .samples
        .play(vec![make::batch(1, of(0)), make::batch(2, of(10))]);
    let again = vec![make::batch(1, of(500)), make::batch(2, of(530))];
    server.host.samples.play(again);
    let client = server.client().await;
    let mut samples = client.samples(v1::StreamInstanceStatsRequest::default());
    let mut view = StatsView::default();
    let mut rates = Vec::new();
    while rates.len() < 5 {
        match samples.next().await.expect("it goes on") {
            SampleNews::Batch(batch) => view.apply(batch),
            SampleNews::Lost(_) => view.lost(),
            other => panic!("{other:?}"),
        }
        let usage = view.get("a").expect("it is known from the first on");
        rates.push(usage.rates().read_requests);
    }
    assert_eq!(rates, [None, Some(10.0), None, None, Some(30.0)]);
}

#[tokio::test]
async fn a_stream_is_not_taken_for_lost_between_two_samples() {
    let server = Server::start();
    for _ in 0..100 {
        server.host.samples.play(vec![make::batch(1, vec![])]);
    }
    let silence = Duration::from_millis(100);
    let builder = server.builder().silence(silence);
    let client = builder.connect().await.expect("the server answers");
    let mut samples = client.samples(v1::StreamBlockStatsRequest {
        interval: Some(prost_types::Duration {
            seconds: 3600,
            nanos: 0,
        }),
        ..Default::default()
    });
    // On a busy machine the opening itself may be silent for too long.
    while let SampleNews::Lost(_) = samples.next().await.expect("the first") {}
    let waited = tokio::time::timeout(silence * 10, samples.next()).await;
    assert!(waited.is_err(), "{waited:?}");
}
