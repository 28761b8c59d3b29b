//! One guest whose QEMU is stopped, and two hundred calls that want its counters: what the others' GetInfo feels.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use computedriver::v1::{self, stats_service_client::StatsServiceClient};

use super::Bench;
use crate::{
    guests,
    report::{Page, Row, figure},
    sample::Sample,
    server::{Daemon, Server, connect, folder},
};

const GUESTS: usize = 10;
const CALLS: usize = 200;
const INFOS: usize = 2_000;
/// Until all have asked, or have hung up.
const SETTLE: Duration = Duration::from_millis(500);

pub(super) async fn run(bench: &Bench, page: &mut Page) -> Result<()> {
    let files = folder()?;
    let image = guests::image(files.path(), 1)?;
    let rounds = bench.rounds.div_ceil(4);
    let daemon = Daemon::start()?;
    let system = Server::system(&daemon, &[]).await?;
    let found = one(&system, (&image, rounds)).await?;
    tell(page, "`qemu:///system`", &found);
    drop(system);
    let embedded = Server::embedded(&[]).await?;
    let found = one(&embedded, (&image, rounds)).await?;
    tell(page, "embedded", &found);
    Ok(())
}

/// p99 in µs, without and with, by rounds.
async fn one(server: &Server, (image, rounds): (&v1::Image, usize)) -> Result<(Sample, Sample)> {
    let victim = guests::spawn(server, guests::small(image)).await?;
    let emulator = *server.emulators().first().context("one emulator")?;
    let healthy = guests::crowd(server, || guests::small(image), GUESTS).await?;
    p99(server, &healthy).await?;
    let (mut without, mut with) = (Sample::default(), Sample::default());
    for _ in 0..rounds {
        without.push(p99(server, &healthy).await?);
        signal("-STOP", emulator)?;
        let asking = ask(&server.path().join("computelet.sock"), &victim);
        tokio::time::sleep(SETTLE).await;
        let during = p99(server, &healthy).await;
        signal("-CONT", emulator)?;
        drop(asking);
        with.push(during?);
        tokio::time::sleep(SETTLE).await;
    }
    Ok((without, with))
}

/// Two hundred callers on a thread of their own, so that none of them takes the time of the one that measures; they hang
/// up when this is dropped.
fn ask(socket: &Path, victim: &str) -> tokio::sync::oneshot::Sender<()> {
    let (stop_tx, stop_rx) = tokio::sync::oneshot::channel();
    let (socket, instance_id) = (socket.to_owned(), victim.to_owned());
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        else {
            return;
        };
        let calls = (0..CALLS).map(|_| async {
            let mut client = StatsServiceClient::new(connect(&socket).await?);
            let asked = v1::GetBlockStatsRequest {
                instance_id: instance_id.clone(),
                disk_id: "root".to_owned(),
            };
            anyhow::Ok(client.get_block_stats(asked).await?)
        });
        runtime.block_on(async {
            tokio::select! {
                _ = stop_rx => {}
                _ = async { (futures::future::join_all(calls).await, std::future::pending::<()>().await) } => {}
            }
        });
    });
    stop_tx
}

fn tell(page: &mut Page, which: &str, (without, with): &(Sample, Sample)) {
    page.add(Row {
        part: "stuck",
        what: format!(
            "p99 of GetInfo while one QEMU is stopped and {CALLS} calls want its counters, {which}"
        ),
        ours: format!("{} µs", figure(with.median())),
        beside: format!("without: {} µs", figure(without.median())),
        found: with.over(without).median(),
        unit: "×",
        goal: Some(1.5),
    });
}

fn signal(which: &str, pid: u32) -> Result<()> {
    Command::new("kill")
        .args([which, &pid.to_string()])
        .status()?;
    Ok(())
}

async fn p99(server: &Server, ids: &[String]) -> Result<f64> {
    let mut client = server.instances().await?;
    let mut times = Sample::default();
    for id in ids.iter().cycle().take(INFOS) {
        let instance_id = id.clone();
        let begun = Instant::now();
        client.get_info(v1::GetInfoRequest { instance_id }).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times.quantile(0.99))
}
