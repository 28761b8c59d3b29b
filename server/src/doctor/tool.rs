//! The programs that the server starts.

use super::Check;
use crate::{sys::command::Command, volume::Volumes};

/// A program, how to ask for its version, its package, and what it is for when guests run without it.
struct Tool {
    program: &'static str,
    ask: &'static str,
    package: &'static str,
    only_for: Option<&'static str>,
}

const TOOLS: &[Tool] = &[
    Tool {
        program: "qemu-img",
        ask: "--version",
        package: "qemu-utils",
        only_for: None,
    },
    Tool {
        program: "prlimit",
        ask: "--version",
        package: "util-linux",
        only_for: None,
    },
    Tool {
        program: "mkfs.ext4",
        ask: "-V",
        package: "e2fsprogs",
        only_for: Some("ephemeral disks"),
    },
    Tool {
        program: "mkfs.vfat",
        ask: "--help",
        package: "dosfstools",
        only_for: Some("ephemeral disks with vfat"),
    },
    Tool {
        program: "nft",
        ask: "--version",
        package: "nftables",
        only_for: Some("security groups"),
    },
];

/// QEMU's drivers for volumes that are not on the host, which are modules of their own.
const DRIVERS: &[(&str, &str)] = &[("qemu-iscsi", "iscsi"), ("qemu-rbd", "rbd")];

pub(super) async fn examine() -> Vec<Check> {
    let tools = futures::future::join_all(TOOLS.iter().map(Tool::examine));
    let (tools, drivers) = tokio::join!(tools, drivers());
    [tools, drivers].concat()
}

async fn drivers() -> Vec<Check> {
    let volumes = Volumes::default();
    let look = DRIVERS.iter().map(async |(name, driver)| {
        if volumes.has_driver(driver).await {
            return Check::ok(name, "found");
        }
        let found = format!("not found, needed for {driver} volumes only");
        Check::note(name, found, "apt-get install qemu-block-extra")
    });
    futures::future::join_all(look).await
}

impl Tool {
    async fn examine(&self) -> Check {
        let install = format!("apt-get install {}", self.package);
        match (
            Command::new(self.program).arg(self.ask).run().await,
            self.only_for,
        ) {
            (Ok(output), _) => {
                let all = String::from_utf8_lossy(&output.stdout).into_owned() + &output.stderr;
                let line = all.lines().find(|line| !line.trim().is_empty());
                Check::ok(self.program, line.unwrap_or("found").trim())
            }
            (Err(e), None) => Check::missing(self.program, crate::error::chain(&e), install),
            (Err(_), Some(what)) => {
                let found = format!("not found, needed for {what} only");
                Check::note(self.program, found, install)
            }
        }
    }
}
