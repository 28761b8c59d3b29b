//! More and more guests: what calls cost, and what a server costs that nobody asks.

use std::time::{Duration, Instant};

use anyhow::Result;
use computedriver::v1;

use super::{
    Bench,
    stats::{self, Seat},
};
use crate::{
    guests,
    report::{Page, Row, figure},
    sample::{self, Meter, Sample},
    server::{Server, folder},
};

const STEPS: [usize; 5] = [1, 10, 50, 100, 200];
/// How long a server is watched while it idles.
const IDLE: Duration = Duration::from_secs(20);

pub(super) async fn run(bench: &Bench, page: &mut Page) -> Result<()> {
    let files = folder()?;
    let image = guests::image(files.path(), 1)?;
    let server = Server::embedded(&[]).await?;
    let mut ids = Vec::new();
    for guests in STEPS {
        let ask = || guests::bridged(&image);
        ids.extend(guests::crowd(&server, ask, guests - ids.len()).await?);
        let mut costs = Vec::new();
        costs.push(("GetInfo, p50 µs", info(&server, &ids, bench.rounds).await?));
        let meter = Meter::start(&[server.pid()]);
        costs.push((
            "StreamInstances, p50 ms",
            list(&server, bench.rounds).await?,
        ));
        let each = meter.ms() / f64::from(u32::try_from(bench.rounds)?);
        costs.push(("StreamInstances, our CPU ms", each));
        costs.push((
            "GetAvailableResource, p50 ms",
            resource(&server, bench.rounds).await?,
        ));
        let seat = Seat {
            server: &server,
            libvirtd: None,
            guests,
        };
        let tick = stats::tick(&seat, stats::CHEAP, 1).await?;
        costs.push(("tick without block, CPU ms", tick.whole()));
        let tick = stats::tick(&seat, stats::BLOCK, 1).await?;
        costs.push(("tick with block, CPU ms", tick.whole()));
        page.grow(guests, costs);
    }
    idle(&server, page).await
}

async fn info(server: &Server, ids: &[String], rounds: usize) -> Result<f64> {
    let mut client = server.instances().await?;
    let mut times = Sample::default();
    for id in ids.iter().cycle().take(100 * rounds) {
        let instance_id = id.clone();
        let begun = Instant::now();
        client.get_info(v1::GetInfoRequest { instance_id }).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times.median())
}

async fn list(server: &Server, rounds: usize) -> Result<f64> {
    let mut client = server.instances().await?;
    let mut times = Sample::default();
    for _ in 0..rounds {
        let begun = Instant::now();
        let asked = v1::StreamInstancesRequest::default();
        let mut stream = client.stream_instances(asked).await?.into_inner();
        while stream.message().await?.is_some() {}
        times.time(begun.elapsed());
    }
    Ok(times.median())
}

async fn resource(server: &Server, rounds: usize) -> Result<f64> {
    let mut client = server.host().await?;
    let mut times = Sample::default();
    for _ in 0..rounds {
        let begun = Instant::now();
        let asked = v1::GetAvailableResourceRequest {};
        client.get_available_resource(asked).await?;
        times.time(begun.elapsed());
    }
    Ok(times.median())
}

async fn idle(server: &Server, page: &mut Page) -> Result<()> {
    let pid = server.pid();
    let (meter, since) = (Meter::start(&[pid]), Instant::now());
    tokio::time::sleep(IDLE).await;
    let share = meter.ms() / (since.elapsed().as_secs_f64() * 1e3) * 100.0;
    let rss = sample::rss_kib(pid) / 1024.0;
    let mut row = |what: &str, found, unit, goal| {
        page.add(Row {
            part: "scale",
            what: format!("{what} of a server with 200 idle guests, embedded, nobody asks"),
            ours: format!("{} {unit}", figure(found)),
            beside: String::new(),
            found,
            unit,
            goal: Some(goal),
        });
    };
    row("RSS", rss, "MiB", 60.0);
    row("processor time", share, "% of a core", 0.2);
    Ok(())
}
