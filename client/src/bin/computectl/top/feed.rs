//! What the board is fed with, each by a task of its own, so that a slow answer holds up neither keys nor drawing.

use std::collections::HashMap;
use std::time::Duration;

use computedriver_client::{Client, Error, SampleNews, v1};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Names of new guests appear within this time.
const FACTS: Duration = Duration::from_secs(5);

/// Something for the board.
pub(super) enum News {
    Batch(Box<v1::StreamInstanceStatsResponse>),
    Facts(Box<Facts>),
    Lost(Error),
    /// The stream failed for good.
    End(Error),
}

/// What counters do not tell. Parts that the server does not serve are absent.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Display names by id.
    pub(super) names: HashMap<String, String>,
    pub(super) resource: Option<v1::AvailableResource>,
    /// Name and version, as `computelet 0.1.0`.
    pub(super) server: String,
}

/// The stream of counters that the board shows.
pub(super) fn request(interval: Duration) -> v1::StreamInstanceStatsRequest {
    use v1::StatsGroup as Group;
    let groups = [Group::Cpu, Group::Memory, Group::Block, Group::Interface];
    v1::StreamInstanceStatsRequest {
        interval: prost_types::Duration::try_from(interval).ok(),
        groups: groups.map(i32::from).to_vec(),
        ..Default::default()
    }
}

/// Begins both tasks; they end when the answer is dropped.
pub(super) fn begin(client: &Client, interval: Duration, news: mpsc::Sender<News>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(batches(client.clone(), interval, news.clone()));
    tasks.spawn(tell_facts(client.clone(), news));
    tasks
}

async fn batches(client: Client, interval: Duration, news: mpsc::Sender<News>) {
    let mut samples = client.samples(request(interval));
    loop {
        let told = match samples.next().await {
            Ok(SampleNews::Batch(batch)) => News::Batch(Box::new(batch)),
            Ok(SampleNews::Lost(error)) => News::Lost(error),
            Ok(_) => continue,
            Err(error) => News::End(error),
        };
        let end = matches!(told, News::End(_));
        if news.send(told).await.is_err() || end {
            return;
        }
    }
}

async fn tell_facts(client: Client, news: mpsc::Sender<News>) {
    let mut facts = Facts::default();
    loop {
        gather(&client, &mut facts).await;
        let told = News::Facts(Box::new(facts.clone()));
        if news.send(told).await.is_err() {
            return;
        }
        tokio::time::sleep(FACTS).await;
    }
}

/// What cannot be had now stays as it was.
pub(super) async fn gather(client: &Client, facts: &mut Facts) {
    if let Ok(instances) = client.stream_instances().await {
        let named = instances.into_iter();
        facts.names = named.map(|i| (i.instance_id, i.display_name)).collect();
    }
    let mut host = client.host();
    let request = v1::GetAvailableResourceRequest {};
    if let Ok(answer) = host.get_available_resource(request).await {
        facts.resource = answer.into_inner().resource;
    }
    if facts.server.is_empty()
        && let Ok(answer) = host.get_capabilities(v1::GetCapabilitiesRequest {}).await
    {
        let server = answer.into_inner().server.unwrap_or_default();
        facts.server = format!("{} {}", server.name, server.version);
    }
}
