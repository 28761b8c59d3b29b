//! `computectl conformance`: whether a server does what the contract says, looked at from outside.
//!
//! Each check is one thing that holds. It is left out where the server says that it does not serve what the check needs;
//! that this is true is a check of its own. All that is made is removed at the end.

mod bench;
mod capabilities;
mod console;
mod device;
mod event;
mod guest;
mod host;
mod image;
mod instance;
mod operation;
mod power;
mod remake;
mod stats;
mod suite;
mod volume;

use std::path::PathBuf;

use clap::Args;
use computedriver_client::v1;
use serde_json::json;

use crate::args::Session;
use crate::exit::{Failure, Left};
use crate::out::Out;
use crate::spawn::SpawnArgs;

use bench::Bench;
use suite::{Check, Table, Verdict, check};

#[derive(Debug, Args)]
pub(crate) struct ConformanceArgs {
    #[command(flatten)]
    spawn: SpawnArgs,
    /// Only checks whose RPC or words have this in them; those that make and remove the instance are always done.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// A folder on the host, below one of its `images.export_dirs`, for an image of the instance.
    #[arg(long, value_name = "FOLDER")]
    export_dir: Option<PathBuf>,
    /// A file beside that of `--boot-volume`, made by `qemu-img create -f qcow2 -b THAT_FILE -F ITS_FORMAT`: an instance goes on
    /// in it for a moment, and is merged back.
    #[arg(long, value_name = "NAME", requires = "boot_volume")]
    boot_volume_layer: Option<String>,
    /// Also disable the host for a moment, and enable it again.
    #[arg(long)]
    host_changes: bool,
}

/// Nothing may be left of the checks themselves.
const TIDY: &[Check] = &[check!(
    ["InstanceService/Destroy"],
    "all that was made is removed",
    tidy
)];

async fn tidy(bench: &Bench) -> Verdict {
    bench.tidy().await
}

/// All checks, in their order: most look at the instance that the first ones make.
fn checks(only: Option<&str>) -> Vec<Check> {
    let all = [
        capabilities::CHECKS,
        host::CHECKS,
        instance::FIRST,
        operation::CHECKS,
        image::CHECKS,
        console::CHECKS,
        stats::CHECKS,
        guest::CHECKS,
        device::CHECKS,
        volume::CHECKS,
        event::CHECKS,
        power::CHECKS,
        remake::CHECKS,
        instance::LAST,
        TIDY,
    ];
    let makes = [
        "an instance is made and runs, its progress in order",
        TIDY[0].name,
    ];
    let wanted = |check: &Check| {
        let is_it = |text: &str| {
            check.name.contains(text) || check.needs.iter().any(|rpc| rpc.contains(text))
        };
        only.is_none_or(is_it) || makes.contains(&check.name)
    };
    all.into_iter().flatten().copied().filter(wanted).collect()
}

/// What an instance is made from. Its names are the checks' own.
fn template(spawn: SpawnArgs) -> Result<v1::SpawnRequest, Failure> {
    if let Some(option) = spawn.names() {
        let message = format!("{option} cannot be said here: each check names what it makes");
        return Err(Failure::Usage(message));
    }
    spawn.request()
}

async fn bench(mut args: ConformanceArgs, session: &Session) -> Result<Bench, Failure> {
    let boot_volume = args.spawn.take_boot()?;
    let template = template(args.spawn)?;
    let client = session.connect().await?;
    let request = v1::GetCapabilitiesRequest {};
    let capabilities = client.host().get_capabilities(request).await?.into_inner();
    let mut bench = Bench::new(client, template, capabilities);
    bench.boot_volume = boot_volume;
    bench.boot_volume_layer = args.boot_volume_layer;
    bench.export = args.export_dir;
    bench.host_changes = args.host_changes;
    bench.look_at_images().await;
    Ok(bench)
}

pub(crate) async fn run(
    args: ConformanceArgs,
    session: &Session,
    out: &mut Out,
) -> Result<(), Failure> {
    let checks = checks(args.only.as_deref());
    let bench = bench(args, session).await?;
    let mut table = Table::begin(&checks, out)?;
    let ended = {
        let all = async {
            for check in &checks {
                table.run(check, &bench, out).await?;
            }
            Ok::<_, std::io::Error>(false)
        };
        tokio::select! {
            done = all => done,
            _ = tokio::signal::ctrl_c() => Ok(true),
        }
    };
    if !bench.tidied.get() {
        // Whoever reads the table may be gone; what was made goes all the same.
        let _ = table.run(&TIDY[0], &bench, out).await;
    }
    let interrupted = ended?;
    let tally = table.tally;
    if out.is_json() {
        let told =
            json!({ "passed": tally.passed, "failed": tally.failed, "skipped": tally.skipped });
        out.object(&json!({ "conformance": told }))?;
    } else {
        let (passed, failed, skipped) = (tally.passed, tally.failed, tally.skipped);
        out.line(format_args!(
            "{passed} passed, {failed} failed, {skipped} skipped"
        ))?;
    }
    let all = tally.passed + tally.failed;
    match (interrupted, tally.failed) {
        (true, _) => Err(Failure::Left {
            why: Left::Interrupted,
            message: "interrupted".to_owned(),
        }),
        (false, 0) => Ok(()),
        (false, failed) => Err(Failure::Some {
            failed,
            all,
            code: 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::json;

    /// What no server is known to serve: a check of it would be a guess.
    const UNTRIED: [&str; 2] = ["MigrationService", "NetworkService"];

    #[test]
    fn every_rpc_that_is_served_somewhere_has_a_check() {
        let checks = super::checks(None);
        let needed: BTreeSet<_> = checks
            .iter()
            .flat_map(|check| check.needs)
            .copied()
            .collect();
        let all = json::methods().filter(|method| {
            let service = method.parent_service();
            !UNTRIED.contains(&service.name())
        });
        let unasked: Vec<_> = all
            .map(|method| super::capabilities::name(&method))
            .filter(|name| !needed.contains(name.as_str()))
            .collect();
        assert_eq!(unasked, Vec::<String>::new());
    }
}
