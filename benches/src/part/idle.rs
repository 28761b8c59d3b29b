//! Streams on which nothing happens: what each of them takes of the server's memory.

use anyhow::{Context, Result};
use computedriver::v1::{self, instance_service_client::InstanceServiceClient};
use tonic::Streaming;

use crate::{
    report::{Page, Row, figure},
    sample,
    server::Server,
};

/// Streams of one connection.
const STREAMS: usize = 100;
/// Connections that are open before it is measured, so that what is allocated once is not counted.
const BEFORE: usize = 10;
const MEASURED: usize = 20;

type Stream = Streaming<v1::WatchEventsResponse>;

pub(super) async fn run(page: &mut Page) -> Result<()> {
    let server = Server::on("test:///default", &[]).await?;
    let _before = open(&server, BEFORE).await?;
    let before = sample::rss_kib(server.pid());
    let _measured = open(&server, MEASURED).await?;
    let grown = sample::rss_kib(server.pid()) - before;
    let each = grown / f64::from(u32::try_from(MEASURED * STREAMS)?);
    page.add(Row {
        part: "idle",
        what: format!("memory of an idle stream of events, {STREAMS} a connection"),
        ours: format!("{} KiB", figure(each)),
        beside: String::new(),
        found: each * 1.024,
        unit: "kB",
        goal: Some(9.0),
    });
    Ok(())
}

/// Connections, each with its streams; every one has said its first word.
async fn open(server: &Server, connections: usize) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let mut client = InstanceServiceClient::new(server.channel().await?);
        for _ in 0..STREAMS {
            let asked = v1::WatchEventsRequest::default();
            let mut stream = client.watch_events(asked).await?.into_inner();
            stream.message().await?.context("a first word")?;
            streams.push(stream);
        }
    }
    Ok(streams)
}
