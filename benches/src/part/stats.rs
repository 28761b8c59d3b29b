//! What counting guests costs: a tick beside a scrape of Debian's exporter, for one collector and for many.

use std::{
    cell::Cell,
    process::{Child, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use computedriver::v1::{self, StatsGroup, stats_service_client::StatsServiceClient};
use tonic::Streaming;

use super::Bench;
use crate::{
    guests,
    report::{Page, Row, figure},
    sample::{Meter, Sample},
    server::{Daemon, Server, folder},
};

const FEW: usize = 20;
const MANY: usize = 50;
const COLLECTORS: usize = 20;
const SUBSCRIBERS: usize = 100;
/// How long ticks of a second are watched in one round.
const WATCH: Duration = Duration::from_secs(4);
pub(super) const CHEAP: &[StatsGroup] =
    &[StatsGroup::State, StatsGroup::Cpu, StatsGroup::Interface];
pub(super) const BLOCK: &[StatsGroup] = &[
    StatsGroup::State,
    StatsGroup::Cpu,
    StatsGroup::Interface,
    StatsGroup::Block,
];
const EXPORTER: &str = "prometheus-libvirt-exporter";

/// Processor time of one tick, ms.
#[derive(Clone, Copy, Default)]
pub(super) struct Cost {
    server: f64,
    libvirtd: f64,
}

impl Cost {
    /// Of both.
    pub(super) fn whole(self) -> f64 {
        self.server + self.libvirtd
    }
}

/// A server, and the libvirtd under it.
pub(super) struct Seat<'a> {
    pub(super) server: &'a Server,
    pub(super) libvirtd: Option<u32>,
    /// How many guests a whole batch holds at least.
    pub(super) guests: usize,
}

pub(super) async fn run(bench: &Bench, page: &mut Page) -> Result<()> {
    let files = folder()?;
    let image = guests::image(files.path(), 1)?;
    let daemon = Daemon::start()?;
    let (system, embedded) = (
        Server::system(&daemon, &[]).await?,
        Server::embedded(&[]).await?,
    );
    let across = Seat {
        server: &system,
        libvirtd: Some(daemon.pid()?),
        guests: FEW,
    };
    let through = Seat {
        server: &embedded,
        libvirtd: None,
        guests: FEW,
    };
    let exporter = Exporter::start(&daemon);
    for (guests, more) in [(FEW, FEW), (MANY, MANY - FEW)] {
        let ask = || guests::bridged(&image);
        guests::crowd(&system, ask, more).await?;
        guests::crowd(&embedded, ask, more).await?;
        if guests == FEW {
            collectors(bench, (&across, &daemon), exporter.as_ref().ok(), page).await?;
        }
    }
    ticks(
        bench,
        [&across, &through],
        (&daemon, exporter.as_ref().ok()),
        page,
    )
    .await?;
    subscribers(bench, &across, page).await?;
    exporter.map(drop)
}

/// The peer, among its libvirtd's own namespaces.
struct Exporter(Child);

impl Exporter {
    fn start(daemon: &Daemon) -> Result<Self> {
        let mut command = daemon.inside(EXPORTER);
        let child = command
            .args([
                "--web.listen-address=127.0.0.1:9177",
                "--libvirt.uri=qemu:///system",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let exporter = Self(child);
        let since = Instant::now();
        while !scrape(daemon)?.wait()?.success() {
            ensure!(
                since.elapsed() < Duration::from_secs(20),
                "no {EXPORTER} here"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(exporter)
    }

    /// What so many scrapes at once cost it and libvirtd.
    fn cost(&self, daemon: &Daemon, scrapes: usize) -> Result<f64> {
        let pids = [self.0.id(), daemon.pid()?];
        let meter = Meter::start(&pids);
        let begun: Vec<_> = (0..scrapes)
            .map(|_| scrape(daemon))
            .collect::<Result<_>>()?;
        for mut one in begun {
            ensure!(one.wait()?.success(), "a scrape failed");
        }
        Ok(meter.ms())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn scrape(daemon: &Daemon) -> Result<Child> {
    let mut curl = daemon.inside("curl");
    curl.args(["-sf", "-o", "/dev/null", "http://127.0.0.1:9177/metrics"]);
    curl.spawn().context("curl")
}

/// One stream, with its first batch read. Every batch holds every guest, as every scrape does: guests that idle would
/// otherwise cost next to nothing.
async fn subscribe(
    server: &Server,
    groups: &[StatsGroup],
) -> Result<Streaming<v1::StreamInstanceStatsResponse>> {
    let second = prost_types::Duration {
        seconds: 1,
        nanos: 0,
    };
    let asked = v1::StreamInstanceStatsRequest {
        interval: Some(second),
        full_every: Some(second),
        groups: groups.iter().map(|group| (*group).into()).collect(),
        ..Default::default()
    };
    let mut client = StatsServiceClient::new(server.channel().await?);
    let mut stream = client.stream_instance_stats(asked).await?.into_inner();
    stream.message().await?.context("a first batch")?;
    Ok(stream)
}

/// What one tick costs while so many listen, each of whom must get all of it.
#[allow(clippy::cast_precision_loss, reason = "some hundreds")]
pub(super) async fn tick(seat: &Seat<'_>, groups: &[StatsGroup], listeners: usize) -> Result<Cost> {
    let got = Rc::new(Cell::new(0_usize));
    let mut reading = Vec::new();
    for _ in 0..listeners {
        let (mut stream, got) = (subscribe(seat.server, groups).await?, got.clone());
        reading.push(async move {
            while let Ok(Some(batch)) = stream.message().await {
                got.set(got.get() + usize::from(batch.instances.len() >= seat.guests));
            }
        });
    }
    let meters = (
        Meter::start(&[seat.server.pid()]),
        Meter::start(seat.libvirtd.as_slice()),
    );
    let since = Instant::now();
    // Ends with the time; a listener whose stream ended is one too few below.
    let _ = tokio::time::timeout(WATCH, futures::future::join_all(reading)).await;
    tokio::time::sleep(WATCH.saturating_sub(since.elapsed())).await;
    let (server, libvirtd) = (meters.0.ms(), meters.1.ms());
    let ticks = since.elapsed().as_secs_f64();
    let each = got.get() as f64 / listeners as f64;
    ensure!(
        each + 1.5 > ticks,
        "{listeners} listeners got {each} whole batches each in {ticks} s"
    );
    Ok(Cost {
        server: server / ticks,
        libvirtd: libvirtd / ticks,
    })
}

async fn collectors(
    bench: &Bench,
    (seat, daemon): (&Seat<'_>, &Daemon),
    exporter: Option<&Exporter>,
    page: &mut Page,
) -> Result<()> {
    let (mut ours, mut theirs) = (Sample::default(), Sample::default());
    for _ in 0..bench.rounds.div_ceil(4) {
        ours.push(tick(seat, BLOCK, COLLECTORS).await?.whole());
        theirs.push(match exporter {
            Some(exporter) => exporter.cost(daemon, COLLECTORS)?,
            None => return Ok(()),
        });
    }
    page.add(Row {
        part: "stats",
        what: format!("{COLLECTORS} collectors, {FEW} guests with block, `qemu:///system`: agent + libvirtd CPU"),
        ours: format!("{} ms a tick", figure(ours.median())),
        beside: format!("{EXPORTER}: {} ms", figure(theirs.median())),
        found: ours.over(&theirs).median(),
        unit: "×",
        goal: Some(1.0 / 15.0),
    });
    Ok(())
}

async fn ticks(
    bench: &Bench,
    [across, through]: [&Seat<'_>; 2],
    (daemon, exporter): (&Daemon, Option<&Exporter>),
    page: &mut Page,
) -> Result<()> {
    let [mut cheap, mut distant, mut system, mut embedded, mut theirs] =
        [(); 5].map(|()| Sample::default());
    for _ in 0..bench.rounds.div_ceil(4) {
        cheap.push(tick(through, CHEAP, 1).await?.whole());
        distant.push(tick(across, CHEAP, 1).await?.whole());
        system.push(tick(across, BLOCK, 1).await?.whole());
        embedded.push(tick(through, BLOCK, 1).await?.whole());
        if let Some(exporter) = exporter {
            theirs.push(exporter.cost(daemon, 1)?);
        }
    }
    for (which, ours, goal) in [
        ("embedded: our whole CPU", &cheap, Some(6.0)),
        ("`qemu:///system`: agent + libvirtd CPU", &distant, None),
    ] {
        page.add(Row {
            part: "stats",
            what: format!("tick, {MANY} guests, state + cpu + interface, {which}"),
            ours: format!("{} ms", figure(ours.median())),
            beside: String::new(),
            found: ours.median(),
            unit: "ms",
            goal,
        });
    }
    if exporter.is_none() {
        return Ok(());
    }
    for (which, ours, goal) in [
        ("`qemu:///system`: agent + libvirtd CPU", &system, 0.42),
        ("embedded: our whole CPU", &embedded, 0.35),
    ] {
        page.add(Row {
            part: "stats",
            what: format!("tick, {MANY} guests, block too, {which}"),
            ours: format!("{} ms", figure(ours.median())),
            beside: format!("one scrape of {EXPORTER}: {} ms", figure(theirs.median())),
            found: ours.over(&theirs).median(),
            unit: "×",
            goal: Some(goal),
        });
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a hundred")]
async fn subscribers(bench: &Bench, seat: &Seat<'_>, page: &mut Page) -> Result<()> {
    let [mut one, mut all, mut delivery] = [(); 3].map(|()| Sample::default());
    for _ in 0..bench.rounds.div_ceil(4) {
        let alone = tick(seat, CHEAP, 1).await?;
        let crowd = tick(seat, CHEAP, SUBSCRIBERS).await?;
        one.push(alone.libvirtd);
        all.push(crowd.libvirtd);
        delivery.push((crowd.server - alone.server) * 1e3 / (SUBSCRIBERS - 1) as f64);
    }
    page.add(Row {
        part: "stats",
        what: format!("{SUBSCRIBERS} subscribers, {MANY} guests: libvirtd's CPU a tick"),
        ours: format!("{} ms", figure(all.median())),
        beside: format!("one subscriber: {} ms", figure(one.median())),
        found: all.over(&one).median(),
        unit: "×",
        goal: Some(1.05),
    });
    page.add(Row {
        part: "stats",
        what: format!(
            "a delivery of {MANY} guests to one more subscriber, with a connection of its own"
        ),
        ours: format!("{} µs", figure(delivery.median())),
        beside: String::new(),
        found: delivery.median(),
        unit: "µs",
        goal: Some(20.0),
    });
    Ok(())
}
