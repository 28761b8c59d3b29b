//! Starts and ends: Spawn and Destroy beside bare libvirt calls for the same domain, one at a time and eight at once.

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result};
use computedriver::v1;
use serde_json::json;

use super::Bench;
use crate::{
    guests,
    peer::Lines,
    report::{Page, Row, figure},
    sample::Sample,
    server::{Daemon, Server, binaries, folder, repository},
};

/// Guests of a burst.
const BURST: usize = 8;
/// MiB of the image: Nova's bench in the same run takes the same.
pub(super) const IMAGE_MIB: u64 = 256;

/// Milliseconds.
#[derive(Default)]
struct Found {
    spawn: Sample,
    create: Sample,
    destroy: Sample,
    bare_destroy: Sample,
    burst: Sample,
    bare_burst: Sample,
}

pub(super) async fn run(bench: &Bench, page: &mut Page) -> Result<()> {
    let files = folder()?;
    let image = guests::image(files.path(), IMAGE_MIB)?;
    let daemon = Daemon::start()?;
    let system = Server::system(&daemon, &[]).await?;
    let found = rounds(bench, &system, (&image, daemon.uri())).await?;
    tell(page, "`qemu:///system` both", &found);
    drop(system);
    drop(daemon);
    let embedded = Server::embedded(&[]).await?;
    let root = folder()?;
    let uri = bare_root(&embedded, root.path())?;
    let found = rounds(bench, &embedded, (&image, &uri)).await?;
    tell(page, "embedded both", &found);
    Ok(())
}

/// A root for a driver inside the bare peer, configured as the server configures its own.
fn bare_root(server: &Server, root: &Path) -> Result<String> {
    fs::create_dir(root.join("etc"))?;
    let ours = server.path().join("qemu");
    let text = fs::read_to_string(ours.join("etc/qemu.conf"))?;
    let own = |path: &Path| path.display().to_string();
    fs::write(
        root.join("etc/qemu.conf"),
        text.replace(&own(&ours), &own(root)),
    )?;
    Ok(format!("qemu:///embed?root={}", root.display()))
}

/// The bare peer, beneath a process that buries QEMUs at once, as computelet does: libvirt waits for that.
pub(super) fn bare(uri: &str) -> Result<Lines> {
    let mut command = Command::new(repository("tests/host/reaper"));
    command
        .arg(binaries()?.join("computelet-bench"))
        .args(["bare", uri]);
    Lines::start(command)
}

/// What the server defined last, made into domains of the bare peer's own: the same but for ids and paths.
struct Template {
    id: String,
    xml: String,
    folder: std::path::PathBuf,
}

impl Template {
    /// Copies a spawned instance.
    fn of(server: &Server, id: &str, files: &Path) -> Result<Self> {
        let instance = server.path().join("instances").join(id);
        let folder = files.join("template");
        fs::create_dir_all(&folder)?;
        let xml = fs::read_to_string(instance.join("libvirt.xml"))?;
        for entry in fs::read_dir(&instance)?.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("disk") {
                fs::copy(entry.path(), folder.join(name))?;
            }
        }
        // Without our mark: the server must not take them for its own.
        let (head, rest) = xml.split_once("<metadata>").context("our own metadata")?;
        let (_, tail) = rest.split_once("</metadata>").context("its end")?;
        let xml = format!("{head}{tail}")
            .replace(&instance.display().to_string(), "@FOLDER@")
            .replace("<name>computelet-", "<name>bare-");
        Ok(Self {
            id: id.to_owned(),
            xml,
            folder,
        })
    }

    /// A domain with disks of its own: its name and its definition.
    fn make(&self, files: &Path) -> Result<(String, String)> {
        let id = uuid::Uuid::new_v4().to_string();
        let folder = files.join(&id);
        fs::create_dir(&folder)?;
        for entry in fs::read_dir(&self.folder)?.flatten() {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
        let xml = self
            .xml
            .replace("@FOLDER@", &folder.display().to_string())
            .replace(&self.id, &id);
        Ok((format!("bare-{id}"), xml))
    }
}

async fn rounds(bench: &Bench, server: &Server, (image, uri): (&v1::Image, &str)) -> Result<Found> {
    let files = folder()?;
    let mut peer = bare(uri)?;
    // Fetches the image, and is the pattern of the bare domains.
    let first = guests::spawn(server, guests::small(image)).await?;
    let template = Template::of(server, &first, files.path())?;
    guests::destroy(server, &first).await?;
    let mut found = Found::default();
    for round in 0..=bench.rounds {
        let mut one = Found::default();
        single(server, image, &mut one).await?;
        let (create, destroy) = peer_round(&mut peer, &template, (files.path(), 1))?;
        one.create.push(create);
        one.bare_destroy.push(destroy);
        if round > 0 {
            found.add(&one);
        }
    }
    for _ in 0..bench.rounds.div_ceil(4) {
        let begun = Instant::now();
        let spawns = (0..BURST).map(|_| guests::spawn(server, guests::small(image)));
        let ids = futures::future::try_join_all(spawns).await?;
        found.burst.time(begun.elapsed());
        guests::disperse(server, &ids).await?;
        let (create, _) = peer_round(&mut peer, &template, (files.path(), BURST))?;
        found.bare_burst.push(create);
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, one: &Self) {
        self.spawn.push(one.spawn.median());
        self.create.push(one.create.median());
        self.destroy.push(one.destroy.median());
        self.bare_destroy.push(one.bare_destroy.median());
    }
}

async fn single(server: &Server, image: &v1::Image, found: &mut Found) -> Result<()> {
    let request = guests::small(image);
    let begun = Instant::now();
    let id = guests::spawn(server, request).await?;
    found.spawn.time(begun.elapsed());
    let begun = Instant::now();
    guests::destroy(server, &id).await?;
    found.destroy.time(begun.elapsed());
    Ok(())
}

/// Creates so many bare domains and destroys them: how long each took.
fn peer_round(
    peer: &mut Lines,
    template: &Template,
    (files, count): (&Path, usize),
) -> Result<(f64, f64)> {
    let made = (0..count)
        .map(|_| template.make(files))
        .collect::<Result<Vec<_>>>()?;
    let (names, definitions): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    let create = peer.time(&json!({"do": "create", "domains": definitions}))?;
    let destroy = peer.time(&json!({"do": "destroy", "domains": names}))?;
    peer.time(&json!({"do": "undefine", "domains": names}))?;
    Ok((create, destroy))
}

fn tell(page: &mut Page, which: &str, found: &Found) {
    let mut row = |what: &str, (ours, beside): (&Sample, &Sample), name: &str, goal: f64| {
        page.add(Row {
            part: "spawn",
            what: format!("{what}, {which}"),
            ours: format!("{} ms", figure(ours.median())),
            beside: format!("{name}: {} ms", figure(beside.median())),
            found: ours.over(beside).median(),
            unit: "×",
            goal: Some(goal),
        });
    };
    row(
        "Spawn to RUNNING, image cached, config drive",
        (&found.spawn, &found.create),
        "bare define + create of the same domain",
        1.08,
    );
    row(
        "eight spawns at once",
        (&found.burst, &found.bare_burst),
        "eight bare creates, four at a time",
        1.1,
    );
    row(
        "Destroy",
        (&found.destroy, &found.bare_destroy),
        "bare destroy",
        1.05,
    );
}
