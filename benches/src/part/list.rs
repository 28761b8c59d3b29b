//! A listing of ten thousand instances: when the first word comes, how large a word gets, what it costs in memory.
//!
//! libvirt's test driver plays the guests; the server, its store and its folders are real.

use std::time::{Duration, Instant};

use anyhow::Result;
use computedriver::v1;
use prost::Message;

use super::Bench;
use crate::{
    guests,
    report::{Page, Row, figure},
    sample::{self, Sample},
    server::{Server, folder},
};

const INSTANCES: usize = 10_000;

pub(super) async fn run(bench: &Bench, page: &mut Page) -> Result<()> {
    let files = folder()?;
    let image = guests::image(files.path(), 1)?;
    let server = Server::on("test:///default", &[]).await?;
    guests::crowd(&server, || guests::small(&image), INSTANCES).await?;
    let before = sample::rss_kib(server.pid());
    let (mut first, mut whole, mut largest) = (Sample::default(), Sample::default(), 0);
    for _ in 0..bench.rounds {
        let (at, all, size) = stream(&server).await?;
        first.time(at);
        whole.time(all);
        largest = largest.max(size);
    }
    let grown = (sample::rss_kib(server.pid()) - before) / 1024.0;
    let mut row = |what: &str, (ours, found): (String, f64), unit, goal| {
        page.add(Row {
            part: "list",
            what: format!("StreamInstances of {INSTANCES}: {what}"),
            ours,
            beside: String::new(),
            found,
            unit,
            goal,
        });
    };
    let at = first.median();
    let all = format!(
        "{} ms to the first, {} ms to the last",
        figure(at),
        figure(whole.median())
    );
    row("first message", (all, at), "ms", Some(50.0));
    let mib = f64::from(u32::try_from(largest)?) / f64::from(1 << 20);
    row(
        "largest message",
        (format!("{largest} bytes"), mib),
        "MiB",
        Some(1.0),
    );
    let times = format!("{} listings one after the other", bench.rounds);
    row(
        "memory that the server keeps of it",
        (times, grown),
        "MiB",
        None,
    );
    Ok(())
}

/// Times of the first message and of the last, and the size of the largest.
async fn stream(server: &Server) -> Result<(Duration, Duration, usize)> {
    let mut client = server.instances().await?;
    let begun = Instant::now();
    let asked = v1::StreamInstancesRequest::default();
    let mut stream = client.stream_instances(asked).await?.into_inner();
    let (mut first, mut largest) = (None, 0);
    while let Some(message) = stream.message().await? {
        first.get_or_insert_with(|| begun.elapsed());
        largest = largest.max(message.encoded_len());
    }
    Ok((first.unwrap_or_default(), begun.elapsed(), largest))
}
