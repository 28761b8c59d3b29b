//! ReportAvailableResource: what the host has left, told again on each change.
//!
//! Nothing tells of every change by itself, what is measured least of all, so each stream looks once a second; all
//! streams share one look.

use std::time::{Duration, SystemTime};

use computedriver::v1::{self, report_available_resource_response::Event};
use futures::stream;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Status;

use crate::{
    api::{
        Api, convert,
        operation::heartbeat,
        status::status,
        stream::{Answers, HEARTBEAT},
    },
    error::{Error, Kind, Result},
    operation::OperationError,
};

/// Between two looks; the contract promises no more than one answer in it.
const EVERY: Duration = Duration::from_secs(1);
/// A look that is younger is as good as one's own; a little less than the pause, so that each finds a new one.
const SHARED: Duration = Duration::from_millis(900);

struct Report {
    api: Api,
    looks: tokio::time::Interval,
    told: v1::AvailableResource,
    told_at: Instant,
    sequence: u64,
    ended: bool,
}

impl Api {
    /// Begins to report.
    pub(super) async fn report(
        &self,
    ) -> Result<Answers<v1::ReportAvailableResourceResponse>, Error> {
        let first = self.available().await?;
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first comes at once, and was had.
        looks.tick().await;
        let report = Report {
            api: self.clone(),
            looks,
            told: first,
            told_at: Instant::now(),
            sequence: 0,
            ended: false,
        };
        Ok(Box::pin(stream::unfold(report, |mut report| async move {
            let next = report.next().await?;
            Some((next, report))
        })))
    }
}

impl Report {
    async fn next(&mut self) -> Option<Result<v1::ReportAvailableResourceResponse, Status>> {
        if self.ended {
            return None;
        }
        if self.sequence == 0 {
            return Some(Ok(self.tell(Event::Resource(self.told.clone()))));
        }
        loop {
            // Biased: the server's end is told at once.
            tokio::select! {
                biased;
                () = self.api.drain.cancelled() => {
                    return Some(self.end(&OperationError::Draining.into()));
                }
                _ = self.looks.tick() => {}
            }
            let now = match self.look().await {
                Ok(now) => now,
                Err(e) => return Some(self.end(&e)),
            };
            if has_moved(&self.told, &now) {
                self.told = now.clone();
                return Some(Ok(self.tell(Event::Resource(now))));
            }
            if self.told_at.elapsed() >= HEARTBEAT {
                return Some(Ok(self.tell(Event::Heartbeat(heartbeat()))));
            }
        }
    }

    /// What the host has left; while the hypervisor cannot be asked, what was told last and that it cannot.
    async fn look(&self) -> Result<v1::AvailableResource> {
        let told = self.told.clone();
        let recent = &self.api.recent.resource;
        let e = match recent.get(SHARED, self.api.available()).await {
            Ok(resource) => return Ok(resource),
            Err(e) => e,
        };
        match e.kind() {
            Kind::Unavailable => Ok(v1::AvailableResource {
                hypervisor: Some(v1::Hypervisor {
                    reachable: false,
                    ..told.hypervisor.unwrap_or_default()
                }),
                ..told
            }),
            // It is only late.
            Kind::Deadline | Kind::Exhausted => Ok(told),
            _ => Err(e),
        }
    }

    fn end(&mut self, e: &Error) -> Result<v1::ReportAvailableResourceResponse, Status> {
        self.ended = true;
        Err(status(e))
    }

    fn tell(&mut self, event: Event) -> v1::ReportAvailableResourceResponse {
        self.sequence += 1;
        self.told_at = Instant::now();
        v1::ReportAvailableResourceResponse {
            sequence: self.sequence,
            time: Some(convert::timestamp(SystemTime::now())),
            event: Some(event),
        }
    }
}

/// Whether it is worth telling: anything but what is measured, or that once it has moved by a hundredth of its total.
fn has_moved(told: &v1::AvailableResource, now: &v1::AvailableResource) -> bool {
    let near = |told: Option<v1::ResourceAmount>, now: Option<v1::ResourceAmount>| {
        let (Some(told), Some(now)) = (told, now) else {
            return told == now;
        };
        let same = v1::ResourceAmount {
            used: now.used,
            ..told
        };
        // Processors are few, and those of guests that run are counted, not measured.
        same == now && told.used.abs_diff(now.used) <= now.total / 100
    };
    let total = now.disk_gib.map_or(0, |disk| disk.total);
    let least = told
        .disk_available_least_gib
        .abs_diff(now.disk_available_least_gib);
    let same = v1::AvailableResource {
        vcpus: now.vcpus,
        memory_mib: now.memory_mib,
        disk_gib: now.disk_gib,
        disk_available_least_gib: now.disk_available_least_gib,
        ..told.clone()
    };
    !(near(told.vcpus, now.vcpus)
        && near(told.memory_mib, now.memory_mib)
        && near(told.disk_gib, now.disk_gib)
        && least <= total / 100
        && same == *now)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::StreamExt;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{api::About, sampler::Sampler, session::Sessions, testing::TestHost};

    fn api(test: &TestHost) -> Api {
        let end = CancellationToken::new();
        let about = About {
            my_ip: Ipv4Addr::LOCALHOST.into(),
            started: SystemTime::UNIX_EPOCH,
            embedded: true,
            reboot: Vec::new(),
            shutdown: Vec::new(),
            config_drive: true,
            max_message: 1 << 20,
        };
        let sampler = Sampler::new(EVERY, end.clone());
        let sessions = Sessions::new(test.host.clone(), EVERY);
        let watchers = (sampler, sessions);
        Api::new(test.host.clone(), test.operations(), watchers, end, about)
    }

    #[tokio::test]
    async fn a_hypervisor_that_goes_away_is_told_and_what_it_held_stands() {
        let t = TestHost::new().await;
        t.spawned(t.spec()).await;
        let mut report = api(&t).report().await.unwrap();
        let mut told = async |reachable| loop {
            let Some(Event::Resource(told)) = report.next().await.unwrap().unwrap().event else {
                continue;
            };
            if told.hypervisor.as_ref().unwrap().reachable == reachable {
                return told;
            }
        };
        let before = told(true).await;
        assert_eq!(before.running_instances, 1);
        t.fake.go_down("gone");
        let away = told(false).await;
        assert_eq!((away.running_instances, away.vcpus), (1, before.vcpus));
        t.fake.come_back();
        told(true).await;
    }

    fn amount(total: u64, claimed: u64, used: u64) -> Option<v1::ResourceAmount> {
        Some(v1::ResourceAmount {
            total,
            claimed,
            used,
            ..Default::default()
        })
    }

    #[test]
    fn what_is_measured_counts_from_a_hundredth_on_and_all_else_at_once() {
        let told = v1::AvailableResource {
            vcpus: amount(8, 1, 1),
            memory_mib: amount(10_000, 64, 1000),
            disk_gib: amount(1000, 1, 10),
            ..Default::default()
        };
        assert!(!has_moved(&told, &told));
        let cases = [
            (amount(10_000, 64, 1100), false),
            (amount(10_000, 64, 1101), true),
            (amount(10_000, 128, 1000), true),
            (None, true),
        ];
        for (memory_mib, moved) in cases {
            let now = v1::AvailableResource {
                memory_mib,
                ..told.clone()
            };
            assert_eq!(has_moved(&told, &now), moved, "{memory_mib:?}");
        }
        for (disk_available_least_gib, moved) in [(-10, false), (-11, true)] {
            let now = v1::AvailableResource {
                disk_available_least_gib,
                ..told.clone()
            };
            assert_eq!(has_moved(&told, &now), moved);
        }
        let now = v1::AvailableResource {
            enabled: true,
            ..told.clone()
        };
        assert!(has_moved(&told, &now));
        let now = v1::AvailableResource {
            vcpus: amount(8, 1, 2),
            ..told.clone()
        };
        assert!(has_moved(&told, &now), "one processor is news");
    }
}
