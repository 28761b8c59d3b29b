//! InstanceService: WatchEvents, the journal of what happened.

use computedriver_client::v1::{self, watch_events_response::Event as Wire};
use tonic::{Code, Streaming};

use super::bench::{Bench, nobody};
use super::suite::{Check, Fault, Verdict, check, hold, refused};

pub(super) const CHECKS: &[Check] = &[
    check!(
        ["InstanceService/WatchEvents"],
        "the present state comes first, then the place in the journal",
        state
    ),
    check!(
        [
            "InstanceService/WatchEvents",
            "InstanceService/Spawn",
            "InstanceService/Destroy"
        ],
        "a cursor gives what came after it, in order, from any place",
        cursor
    ),
    check!(
        ["InstanceService/WatchEvents"],
        "a cursor of another journal is refused",
        expired
    ),
];

type Messages = Streaming<v1::WatchEventsResponse>;

async fn watch(bench: &Bench, request: v1::WatchEventsRequest) -> Result<Messages, Fault> {
    Ok(bench
        .client
        .instances()
        .watch_events(request)
        .await?
        .into_inner())
}

async fn next(messages: &mut Messages) -> Result<Wire, Fault> {
    while let Some(message) = messages.message().await? {
        match message.event {
            Some(Wire::Heartbeat(_)) | None => {}
            Some(event) => return Ok(event),
        }
    }
    Err(Fault::Failed("the stream ends".to_owned()))
}

/// The place in the journal that a stream begins at.
async fn place(bench: &Bench, ids: Vec<String>) -> Result<v1::EventsSynced, Fault> {
    let request = v1::WatchEventsRequest {
        instance_ids: ids,
        ..Default::default()
    };
    let mut messages = watch(bench, request).await?;
    loop {
        if let Wire::Synced(synced) = next(&mut messages).await? {
            return Ok(synced);
        }
    }
}

async fn state(bench: &Bench) -> Verdict {
    let id = bench.id()?;
    let mut messages = watch(bench, v1::WatchEventsRequest::default()).await?;
    let mut found = false;
    loop {
        match next(&mut messages).await? {
            Wire::State(info) => found |= info.instance_id == id,
            Wire::Synced(synced) => {
                hold!(found, "its state is not told");
                hold!(!synced.journal_id.is_empty(), "the journal has no id");
                return Ok(());
            }
            event => return Err(Fault::Failed(format!("{event:?} comes before synced"))),
        }
    }
}

/// What is told of one instance after `after`, until it is destroyed.
async fn told(bench: &Bench, id: &str, after: u64) -> Result<Vec<v1::Event>, Fault> {
    let request = v1::WatchEventsRequest {
        after: Some(after),
        instance_ids: vec![id.to_owned()],
        ..Default::default()
    };
    let mut messages = watch(bench, request).await?;
    let mut all: Vec<v1::Event> = Vec::new();
    loop {
        let Wire::Happened(event) = next(&mut messages).await? else {
            continue;
        };
        if event.instance_id != id {
            continue;
        }
        let last = all.last().map_or(after, |last| last.sequence);
        hold!(
            event.sequence > last,
            "{} comes after {last}",
            event.sequence
        );
        let end = event.kind() == v1::EventKind::OperationEnded;
        let destroy = matches!(&event.about, Some(v1::event::About::Operation(about)) if about.verb == "Destroy");
        all.push(event);
        if end && destroy {
            return Ok(all);
        }
    }
}

async fn cursor(bench: &Bench) -> Verdict {
    let request = bench.request();
    let id = request.instance_id.clone();
    let begin = place(bench, vec![id.clone()]).await?.sequence;
    bench.spawn(request).await?;
    bench.destroy(&id).await?;
    let all = told(bench, &id, begin).await?;
    let mut kinds = all.iter().map(v1::Event::kind);
    for due in [
        v1::EventKind::OperationBegun,
        v1::EventKind::Started,
        v1::EventKind::OperationEnded,
        v1::EventKind::OperationBegun,
        v1::EventKind::Destroyed,
        v1::EventKind::OperationEnded,
    ] {
        hold!(
            kinds.any(|kind| kind == due),
            "{due:?} is missing, or out of order"
        );
    }
    let middle = all.len() / 2;
    let rest = told(bench, &id, all[middle].sequence).await?;
    hold!(
        rest[..] == all[middle + 1..],
        "from the middle on it is told otherwise"
    );
    Ok(())
}

async fn expired(bench: &Bench) -> Verdict {
    let request = v1::WatchEventsRequest {
        after: Some(1),
        journal_id: nobody(),
        ..Default::default()
    };
    let outcome = match bench.client.instances().watch_events(request).await {
        Ok(messages) => messages.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    refused(outcome, (Code::OutOfRange, "EVENTS_EXPIRED")).map(drop)
}
