//! Parts of the host in memory that go on: its journal of events, and its counters.

use std::collections::VecDeque;

use computedriver_client::v1;
use computedriver_client::v1::stats_service_server::StatsService;
use computedriver_client::v1::watch_events_response::Event as Wire;
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{Code, Request, Response, Status, async_trait};

use super::host::{Events, Host, Reply};
use super::make;

/// Events, numbered from 1 without gaps, and who waits for more.
pub(crate) struct Journal {
    id: Mutex<String>,
    events: watch::Sender<Vec<v1::Event>>,
    expired: Mutex<u64>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            id: Mutex::new(make::JOURNAL.into()),
            events: watch::Sender::default(),
            expired: Mutex::default(),
        }
    }
}

impl Journal {
    /// Writes an event down and tells it to all who watch.
    pub(crate) fn write(&self, mut event: v1::Event) {
        self.events.send_modify(|events| {
            event.sequence = events.len() as u64 + 1;
            events.push(event);
        });
    }

    /// Forgets all up to this one.
    pub(crate) fn expire(&self, sequence: u64) {
        *self.expired.lock() = sequence;
    }

    /// Begins a new journal, as a server does whose state was lost.
    pub(crate) fn replace(&self, id: &str) {
        *self.id.lock() = id.into();
        self.events.send_replace(Vec::new());
    }

    fn admit(&self, request: &v1::WatchEventsRequest) -> Result<u64, Status> {
        let newest = self.events.borrow().len() as u64;
        let after = request.after.unwrap_or(newest);
        let id = self.id.lock().clone();
        let other = !request.journal_id.is_empty() && request.journal_id != id;
        if other || after < *self.expired.lock() || after > newest {
            let message = "the events after this cursor are not kept";
            let oldest = self.expired.lock().saturating_add(1).to_string();
            let fields = [("oldest", oldest)];
            return Err(make::told(
                Code::OutOfRange,
                "EVENTS_EXPIRED",
                message,
                &fields,
            ));
        }
        Ok(after)
    }

    /// The events after the cursor that the request selects, then those to come.
    pub(super) fn watch(
        &self,
        request: v1::WatchEventsRequest,
        instances: Vec<v1::InstanceInfo>,
    ) -> Result<Events<v1::WatchEventsResponse>, Status> {
        let after = self.admit(&request)?;
        let synced = Wire::Synced(v1::EventsSynced {
            sequence: after,
            journal_id: self.id.lock().clone(),
        });
        let states = match request.after {
            Some(_) => Vec::new(),
            None => instances,
        };
        let states = states.into_iter().map(Wire::State);
        let head: Vec<_> = states.chain([synced]).collect();
        let mut told = after;
        let news = WatchStream::new(self.events.subscribe()).map(move |events| {
            let new: Vec<_> = events.into_iter().filter(|e| e.sequence > told).collect();
            told = new.last().map_or(told, |event| event.sequence);
            select(&request, new, told)
        });
        let all = stream::iter(head).chain(news.flat_map(stream::iter));
        Ok(all
            .map(|event| Ok(v1::WatchEventsResponse { event: Some(event) }))
            .boxed())
    }
}

fn select(request: &v1::WatchEventsRequest, new: Vec<v1::Event>, told: u64) -> Vec<Wire> {
    let (ids, kinds) = (&request.instance_ids, &request.kinds);
    let wanted = |e: &v1::Event| {
        let of_it = ids.is_empty() || e.instance_id.is_empty() || ids.contains(&e.instance_id);
        of_it && (kinds.is_empty() || kinds.contains(&e.kind))
    };
    let passed = new.last().is_some_and(|event| !wanted(event));
    let mut wires: Vec<_> = new.into_iter().filter(wanted).map(Wire::Happened).collect();
    if passed {
        wires.push(Wire::Bookmark(v1::EventsSynced {
            sequence: told,
            journal_id: String::new(),
        }));
    }
    wires
}

/// Streams of counters, one script for each that is opened. When a script has ended, its stream says nothing more.
#[derive(Default)]
pub(crate) struct Samples {
    scripts: Mutex<VecDeque<Vec<v1::StreamInstanceStatsResponse>>>,
    asked: Mutex<Vec<v1::StreamInstanceStatsRequest>>,
}

impl Samples {
    /// What the next stream tells.
    pub(crate) fn play(&self, batches: Vec<v1::StreamInstanceStatsResponse>) {
        self.scripts.lock().push_back(batches);
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<v1::StreamInstanceStatsRequest> {
        self.asked.lock().clone()
    }

    fn next(&self) -> Vec<v1::StreamInstanceStatsResponse> {
        self.scripts.lock().pop_front().unwrap_or_default()
    }
}

#[async_trait]
impl StatsService for Host {
    async fn stream_instance_stats(
        &self,
        request: Request<v1::StreamInstanceStatsRequest>,
    ) -> Reply<Events<v1::StreamInstanceStatsResponse>> {
        self.begin("StreamInstanceStats")?;
        self.samples.asked.lock().push(request.into_inner());
        let batches = self.samples.next().into_iter().map(Ok);
        self.cut(stream::iter(batches).chain(stream::pending()))
    }

    async fn stream_block_stats(
        &self,
        _: Request<v1::StreamBlockStatsRequest>,
    ) -> Reply<Events<v1::StreamBlockStatsResponse>> {
        self.begin("StreamBlockStats")?;
        let batches = self.samples.next().into_iter().map(|batch| {
            let instances = batch.instances.into_iter();
            Ok(v1::StreamBlockStatsResponse {
                more: false,
                sequence: batch.sequence,
                collect_time: batch.collect_time,
                interval: batch.interval,
                full: batch.full,
                instances: instances
                    .map(|i| v1::InstanceBlockStats {
                        sample: i.sample,
                        disks: i.disks,
                    })
                    .collect(),
            })
        });
        self.cut(stream::iter(batches).chain(stream::pending()))
    }

    async fn stream_interface_stats(
        &self,
        _: Request<v1::StreamInterfaceStatsRequest>,
    ) -> Reply<Events<v1::StreamInterfaceStatsResponse>> {
        self.begin("StreamInterfaceStats")?;
        let batches = self.samples.next().into_iter().map(|batch| {
            let instances = batch.instances.into_iter();
            Ok(v1::StreamInterfaceStatsResponse {
                more: false,
                sequence: batch.sequence,
                collect_time: batch.collect_time,
                interval: batch.interval,
                full: batch.full,
                instances: instances
                    .map(|i| v1::InstanceInterfaceStats {
                        sample: i.sample,
                        interfaces: i.interfaces,
                    })
                    .collect(),
            })
        });
        self.cut(stream::iter(batches).chain(stream::pending()))
    }

    async fn get_block_stats(
        &self,
        request: Request<v1::GetBlockStatsRequest>,
    ) -> Reply<v1::GetBlockStatsResponse> {
        self.begin("GetBlockStats")?;
        let stats = make::stats(&request.into_inner().instance_id, 1000);
        Ok(Response::new(v1::GetBlockStatsResponse {
            counters: stats.disks.into_iter().next(),
            collect_time: make::time(100),
        }))
    }

    async fn get_interface_stats(
        &self,
        request: Request<v1::GetInterfaceStatsRequest>,
    ) -> Reply<v1::GetInterfaceStatsResponse> {
        self.begin("GetInterfaceStats")?;
        let stats = make::stats(&request.into_inner().instance_id, 1000);
        Ok(Response::new(v1::GetInterfaceStatsResponse {
            counters: stats.interfaces.into_iter().next(),
            collect_time: make::time(100),
        }))
    }
}
