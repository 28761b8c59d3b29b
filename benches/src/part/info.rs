//! One cheap call: GetInfo beside libvirt's own client, and a no-op through all layers beside a bare one.

use std::{process::Command, time::Instant};

use anyhow::Result;
use computedriver::v1::{self, host_service_client::HostServiceClient};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use virt::connect::Connect;

use super::Bench;
use crate::{
    guests,
    report::{Page, Row, figure},
    sample::Sample,
    server::{Daemon, Server, binaries, connect, folder},
};

const GUESTS: usize = 20;
/// Calls of one kind in one round, from one processor.
const CALLS: usize = 200;
/// Processors that the caller takes in turn.
const PLACES: usize = 4;

/// Medians of rounds, µs.
#[derive(Default)]
struct Found {
    direct: Sample,
    embedded: Sample,
    system: Sample,
    noop: Sample,
    bare: Sample,
}

pub(super) async fn run(bench: &Bench, page: &mut Page) -> Result<()> {
    let daemon = Daemon::start()?;
    let files = folder()?;
    let image = guests::image(files.path(), 1)?;
    let embedded = Server::embedded(&[]).await?;
    let system = Server::system(&daemon, &[]).await?;
    let ask = || guests::small(&image);
    let there = guests::crowd(&embedded, ask, GUESTS).await?;
    let beyond = guests::crowd(&system, ask, GUESTS).await?;
    let socket = files.path().join("noop");
    let mut child = Command::new(binaries()?.join("computelet-bench"))
        .arg("noop")
        .arg(&socket)
        .spawn()?;
    let measured = rounds(bench, (&embedded, &there), (&system, &beyond), &socket).await;
    child.kill()?;
    child.wait()?;
    tell(page, &measured?);
    Ok(())
}

async fn rounds(
    bench: &Bench,
    (embedded, there): (&Server, &[String]),
    (system, beyond): (&Server, &[String]),
    socket: &std::path::Path,
) -> Result<Found> {
    let libvirt = Connect::open(Some(&system.connect))?;
    let mut bare = HostServiceClient::new(until_there(socket).await?);
    let mut noop = embedded.host().await?;
    let mut found = Found::default();
    let anywhere = sched_getaffinity(None)?;
    let places = places(&anywhere);
    // The first round warms up.
    for round in 0..=bench.rounds {
        let mut turn = Found::default();
        for place in &places {
            sched_setaffinity(None, place)?;
            turn.direct.push(direct(&libvirt, beyond)?);
            turn.embedded.push(infos(embedded, there).await?);
            turn.system.push(infos(system, beyond).await?);
            turn.noop.push(noops(&mut noop).await?);
            turn.bare.push(noops(&mut bare).await?);
        }
        sched_setaffinity(None, &anywhere)?;
        if round > 0 {
            found.direct.push(turn.direct.mean());
            found.embedded.push(turn.embedded.mean());
            found.system.push(turn.system.mean());
            found.noop.push(turn.noop.mean());
            found.bare.push(turn.bare.mean());
        }
    }
    Ok(found)
}

/// Each of the first processors alone. Whether caller and server share one decides a cheap call's time by a factor of
/// two, and a server stays for long where it is: so the caller goes to each, and the mean counts.
fn places(anywhere: &CpuSet) -> Vec<CpuSet> {
    let all = (0..CpuSet::MAX_CPU).filter(|cpu| anywhere.is_set(*cpu));
    let alone = all.take(PLACES).map(|cpu| {
        let mut place = CpuSet::new();
        place.set(cpu);
        place
    });
    alone.collect()
}

async fn until_there(socket: &std::path::Path) -> Result<tonic::transport::Channel> {
    let mut tries = 0;
    loop {
        match connect(socket).await {
            Err(_) if tries < 100 => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            done => return done,
        }
    }
}

fn micros(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6
}

/// What Nova does, in the fastest language: look the domain up by its UUID, and ask for its info.
fn direct(libvirt: &Connect, ids: &[String]) -> Result<f64> {
    let mut times = Sample::default();
    for id in ids.iter().cycle().take(CALLS) {
        let begun = Instant::now();
        libvirt.lookup_domain_by_uuid_string(id)?.info()?;
        times.push(micros(begun));
    }
    Ok(times.median())
}

async fn infos(server: &Server, ids: &[String]) -> Result<f64> {
    let mut client = server.instances().await?;
    let mut times = Sample::default();
    for id in ids.iter().cycle().take(CALLS) {
        let instance_id = id.clone();
        let begun = Instant::now();
        client.get_info(v1::GetInfoRequest { instance_id }).await?;
        times.push(micros(begun));
    }
    Ok(times.median())
}

async fn noops(client: &mut HostServiceClient<tonic::transport::Channel>) -> Result<f64> {
    let mut times = Sample::default();
    for _ in 0..CALLS {
        let begun = Instant::now();
        client.get_host_ip_addr(v1::GetHostIpAddrRequest {}).await?;
        times.push(micros(begun));
    }
    Ok(times.median())
}

fn tell(page: &mut Page, found: &Found) {
    let mut row = |what: &str, (ours, beside): (&Sample, &Sample), name: &str, goal: f64| {
        page.add(Row {
            part: "info",
            what: what.to_owned(),
            ours: format!("{} µs", figure(ours.median())),
            beside: format!("{name}: {} µs", figure(beside.median())),
            found: ours.over(beside).median(),
            unit: "×",
            goal: Some(goal),
        });
    };
    let client = "libvirt's own client on libvirtd, look-up + info";
    row(
        "GetInfo p50, unix socket, embedded",
        (&found.embedded, &found.direct),
        client,
        0.35,
    );
    row(
        "GetInfo p50, unix socket, `qemu:///system`",
        (&found.system, &found.direct),
        client,
        1.15,
    );
    row(
        "an RPC that does nothing, through all our layers",
        (&found.noop, &found.bare),
        "the same on bare tonic",
        1.3,
    );
}
