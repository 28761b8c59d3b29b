//! Nova's LibvirtDriver on the same libvirtd: Spawn, and what a host has left.

use anyhow::{Context, Result};
use computedriver::v1;
use serde_json::json;
use std::time::Instant;

use super::{Bench, spawn::IMAGE_MIB};
use crate::{
    guests,
    peer::Lines,
    report::{Page, Row, figure},
    sample::Sample,
    server::{Daemon, Server, folder, repository},
};

const GUESTS: usize = 20;

pub(super) async fn run(bench: &Bench, page: &mut Page) -> Result<()> {
    let files = folder()?;
    let image = guests::image(files.path(), IMAGE_MIB)?;
    let daemon = Daemon::start()?;
    let server = Server::system(&daemon, &[]).await?;
    let embedded = Server::embedded(&[]).await?;
    let mut nova = nova(bench, &daemon, files.path());
    if let Ok(nova) = &mut nova {
        spawns(bench, (&server, &image), nova, page).await?;
    }
    let ask = || guests::small(&image);
    guests::crowd(&server, ask, GUESTS).await?;
    guests::crowd(&embedded, ask, GUESTS).await?;
    resources(bench, (&server, &embedded), nova.as_mut().ok(), page).await?;
    nova.map(drop)
}

fn nova(bench: &Bench, daemon: &Daemon, files: &std::path::Path) -> Result<Lines> {
    let python = bench.python.as_ref().context("no Python with Nova here")?;
    let state = files.join("nova");
    std::fs::create_dir(&state)?;
    let mut command = daemon.inside(python);
    command
        .arg(repository("benches/nova_driver.py"))
        .arg(state)
        .arg(files.join(format!("image-{IMAGE_MIB}.raw")))
        .stderr(std::process::Stdio::null());
    Lines::start(command)
}

async fn spawns(
    bench: &Bench,
    (server, image): (&Server, &v1::Image),
    nova: &mut Lines,
    page: &mut Page,
) -> Result<()> {
    let (mut ours, mut theirs) = (Sample::default(), Sample::default());
    let (mut our_end, mut their_end) = (Sample::default(), Sample::default());
    for round in 0..=bench.rounds / 2 {
        let begun = Instant::now();
        let id = guests::spawn(server, guests::small(image)).await?;
        let spawned = begun.elapsed();
        let begun = Instant::now();
        guests::destroy(server, &id).await?;
        let destroyed = begun.elapsed();
        let (spawn, destroy) = (
            nova.time(&json!({"do": "spawn"}))?,
            nova.time(&json!({"do": "destroy"}))?,
        );
        if round > 0 {
            ours.time(spawned);
            our_end.time(destroyed);
            theirs.push(spawn);
            their_end.push(destroy);
        }
    }
    let mut row = |what: &str, (ours, theirs): (&Sample, &Sample), name: &str, goal| {
        page.add(Row {
            part: "nova",
            what: what.to_owned(),
            ours: format!("{} ms", figure(ours.median())),
            beside: format!("{name}: {} ms", figure(theirs.median())),
            found: ours.over(theirs).median(),
            unit: "×",
            goal,
        });
    };
    row(
        "Spawn to RUNNING, image cached, config drive, the same libvirtd",
        (&ours, &theirs),
        "Nova 34's LibvirtDriver.spawn, in process",
        Some(0.62),
    );
    row(
        "Destroy, the same libvirtd",
        (&our_end, &their_end),
        "Nova's LibvirtDriver.destroy",
        None,
    );
    Ok(())
}

async fn resources(
    bench: &Bench,
    (server, embedded): (&Server, &Server),
    mut nova: Option<&mut Lines>,
    page: &mut Page,
) -> Result<()> {
    let [mut system, mut inside, mut theirs] = [(); 3].map(|()| Sample::default());
    for round in 0..=bench.rounds / 4 {
        let (one, other) = (resource(server).await?, resource(embedded).await?);
        let nova = match &mut nova {
            Some(nova) => nova.time(&json!({"do": "resources"}))?,
            None => 0.0,
        };
        if round > 0 {
            system.push(one);
            inside.push(other);
            theirs.push(nova);
        }
    }
    let beside = match nova {
        Some(_) => format!(
            "Nova 34's get_available_resource: {} ms",
            figure(theirs.median())
        ),
        None => String::new(),
    };
    for (which, ours) in [("`qemu:///system`", &system), ("embedded", &inside)] {
        page.add(Row {
            part: "nova",
            what: format!("GetAvailableResource, {GUESTS} guests, {which}"),
            ours: format!("{} ms", figure(ours.median())),
            beside: beside.clone(),
            found: ours.median(),
            unit: "ms",
            goal: Some(20.0),
        });
    }
    Ok(())
}

/// The median of a few, in milliseconds.
async fn resource(server: &Server) -> Result<f64> {
    let mut client = server.host().await?;
    let mut times = Sample::default();
    for _ in 0..10 {
        let begun = Instant::now();
        client
            .get_available_resource(v1::GetAvailableResourceRequest {})
            .await?;
        times.time(begun.elapsed());
    }
    Ok(times.median())
}
