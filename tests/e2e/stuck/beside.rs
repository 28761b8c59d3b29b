//! Another guest, asked and changed all the while: how long that takes, against how long it took before.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use computedriver::v1;
use futures::future::{Either, select};

use crate::{
    power::{pause, unpause},
    support::Sandbox,
};

/// Rounds before anything is stopped.
const BEFORE: usize = 20;
/// What else goes on meanwhile, starts of guests among it, has two processors too. Whoever waits for a stopped emulator waits
/// a thousand times as long.
const SLOWER: u32 = 20;

/// A guest beside those that are stopped.
pub(super) struct Beside<'a> {
    sandbox: &'a Sandbox,
    id: &'a str,
    before: Vec<Duration>,
    during: Vec<Duration>,
}

impl<'a> Beside<'a> {
    /// Measures it while all is well.
    pub(super) async fn begin(sandbox: &'a Sandbox, id: &'a str) -> Self {
        let mut beside = Self {
            sandbox,
            id,
            before: Vec::new(),
            during: Vec::new(),
        };
        for _ in 0..BEFORE {
            let round = beside.round().await;
            beside.before.push(round);
        }
        beside
    }

    /// One round of calls that the server's ways to a guest are needed for.
    async fn round(&self) -> Duration {
        let (sandbox, instance_id) = (self.sandbox, self.id.to_owned());
        let since = Instant::now();
        let asked = v1::GetDiagnosticsRequest {
            instance_id: instance_id.clone(),
        };
        let told = sandbox.instances().await.get_diagnostics(asked).await;
        told.expect("diagnostics");
        let asked = v1::GetBlockStatsRequest {
            instance_id: instance_id.clone(),
            disk_id: "root".to_owned(),
        };
        let told = sandbox.stats().await.get_block_stats(asked).await;
        told.expect("counters");
        let asked = v1::ListDisksRequest {
            instance_id,
            ..Default::default()
        };
        let told = sandbox.devices().await.list_disks(asked).await;
        told.expect("disks");
        pause(sandbox, self.id).await.expect("it is paused");
        unpause(sandbox, self.id).await.expect("it goes on");
        since.elapsed()
    }

    /// Goes round and round until all of `work` is done.
    pub(super) async fn during<T>(mut self, work: impl Future<Output = T>) -> (T, Self) {
        let mut during = Vec::new();
        let done = {
            let mut work = pin!(work);
            loop {
                let round = pin!(self.round());
                match select(&mut work, round).await {
                    Either::Left((done, round)) => {
                        round.await;
                        break done;
                    }
                    Either::Right((took, _)) => during.push(took),
                }
            }
        };
        self.during = during;
        (done, self)
    }

    /// A round takes as long as before, but for what the host's processors have to do beside it.
    pub(super) fn assert_as_before(mut self) {
        self.before.sort();
        self.during.sort();
        let middle = |all: &[Duration]| all[all.len() / 2];
        let most = self.during[self.during.len() * 9 / 10];
        let (before, during) = (middle(&self.before), middle(&self.during));
        println!(
            "a round took {before:?} before; of {} beside, half took up to {during:?} and most up to {most:?}",
            self.during.len()
        );
        assert!(most < before * SLOWER, "{most:?} after {before:?}");
    }
}
