//! The whole of it, from outside: the real binary, real sockets, real QEMU guests under TCG.
//!
//! Each test has a server of its own in a temp folder and leaves nothing behind, also when it fails.

/// Makes tests of checks that take a sandbox: over the embedded hypervisor, and over a libvirtd's `qemu:///system`.
macro_rules! suite {
    ($($check:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $check() {
                let mut sandbox = crate::support::Sandbox::start(&[]).await;
                super::$check(&mut sandbox).await;
            })*
        }

        mod system {
            $(#[tokio::test]
            async fn $check() {
                if let Some(mut sandbox) = crate::support::Sandbox::start_system(&[]).await {
                    super::$check(&mut sandbox).await;
                }
            })*
        }
    };
}

mod conformance;
mod console;
mod crash;
mod devices;
mod events;
mod fail;
mod feed;
mod guest;
mod half_begun;
mod host;
mod host_ctl;
mod images;
mod iscsi;
mod lifecycle;
mod listing;
mod ownership;
mod polyglot;
mod power;
mod rbd;
mod remake;
mod requests;
mod rescue;
mod scrape;
mod secrets;
mod snapshot;
mod spawn;
mod stats;
mod streams;
mod stuck;
mod support;
mod swap;
mod system;
mod telemetry;
mod volume_root;
mod volume_snapshot;
mod web;
