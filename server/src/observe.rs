//! What is not counted as it happens but looked up when somebody asks: the whole snapshot, for the page and for OTLP.
//!
//! Each look is within a limit of its own. What cannot be seen in time is absent from the snapshot, and the rest is told.

mod guests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::timeout;
use tracing::debug;

use crate::{
    host::Host,
    hypervisor::Link,
    metrics::{self, Family, Metric, Value},
    model::{EventKind, OperationState, PowerState, Verb},
    sampler::Sampler,
    sys::process,
};

/// Well below the 10 s that Prometheus gives a scrape: a hypervisor that hangs must not cost the rest of the page.
const LOOK: Duration = Duration::from_secs(2);

/// Power states by the contract's words. Each is told, also when no guest is in it.
const STATES: [(PowerState, &str); 7] = [
    (PowerState::NoState, "NOSTATE"),
    (PowerState::Running, "RUNNING"),
    (PowerState::Paused, "PAUSED"),
    (PowerState::Shutdown, "SHUTDOWN"),
    (PowerState::Crashed, "CRASHED"),
    (PowerState::Suspended, "SUSPENDED"),
    (PowerState::Unknown, "UNKNOWN"),
];

/// Looks after the whole server.
#[derive(Clone, Debug)]
pub struct Observer {
    host: Arc<Host>,
    sampler: Sampler,
    started: SystemTime,
}

impl Observer {
    /// An observer of this host, by a server that started then.
    pub fn new(host: Arc<Host>, sampler: Sampler, started: SystemTime) -> Self {
        begin();
        Self {
            host,
            sampler,
            started,
        }
    }

    /// The same, and the guests' own series.
    pub async fn page(&self) -> Vec<Metric> {
        let guests = guests::look(&self.host, &self.sampler);
        let (mut told, guests) = tokio::join!(self.snapshot(), guests);
        told.extend(guests);
        told
    }

    /// Everything there is to tell of the server, now.
    pub async fn snapshot(&self) -> Vec<Metric> {
        let mut told = metrics::snapshot();
        told.push(build());
        self.claims(&mut told);
        self.process(&mut told);
        self.sampler(&mut told);
        let looks = tokio::join!(self.hypervisor(), self.images());
        told.extend(looks.0);
        told.extend(looks.1);
        told
    }

    fn claims(&self, told: &mut Vec<Metric>) {
        let [vcpus, memory, disk] = self.host.claims.amounts();
        let rows: [(_, _, _, u32); 3] = [
            (vcpus, &metrics::CLAIMED_VCPUS, &metrics::CLAIMABLE_VCPUS, 0),
            (
                memory,
                &metrics::CLAIMED_MEMORY,
                &metrics::CLAIMABLE_MEMORY,
                20,
            ),
            (disk, &metrics::CLAIMED_DISK, &metrics::CLAIMABLE_DISK, 30),
        ];
        for (amount, claimed, claimable, shift) in rows {
            let all = amount.claimed.saturating_add(amount.left);
            told.push(int(claimed, amount.claimed << shift));
            told.push(int(claimable, all << shift));
        }
    }

    fn process(&self, told: &mut Vec<Metric>) {
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH);
        let started = started.unwrap_or_default().as_secs_f64();
        told.push(Metric::one(&metrics::PROCESS_START, Value::Float(started)));
        let usage = match process::usage() {
            Ok(usage) => usage,
            Err(e) => return debug!(error = %e, "the kernel does not tell what we use"),
        };
        let cpu = Value::Float(usage.cpu.as_secs_f64());
        told.push(Metric::one(&metrics::PROCESS_CPU, cpu));
        told.push(int(&metrics::PROCESS_MEMORY, usage.resident));
        told.push(int(&metrics::PROCESS_FILES, usage.open_files));
        told.push(int(&metrics::PROCESS_FILES_MAX, usage.open_files_limit));
        told.push(int(&metrics::PROCESS_THREADS, usage.threads));
    }

    fn sampler(&self, told: &mut Vec<Metric>) {
        let figures = self.sampler.figures();
        told.push(int(&metrics::SAMPLER_LISTENERS, figures.listeners as u64));
        let mut rounds = Metric::new(&metrics::SAMPLER_ROUNDS);
        let mut time = Metric::new(&metrics::SAMPLER_TIME);
        for (source, spent) in [("host", figures.host), ("monitor", figures.monitor)] {
            rounds.push(vec![source.into()], Value::Int(spent.count));
            let seconds = spent.total.as_secs_f64();
            time.push(vec![source.into()], Value::Float(seconds));
        }
        let mut guests = Metric::new(&metrics::SAMPLER_GUESTS);
        let healths = [
            ("measured", figures.measured),
            ("skipped", figures.skipped),
            ("stale", figures.stale),
        ];
        for (health, count) in healths {
            guests.push(vec![health.into()], Value::Int(count as u64));
        }
        told.extend([rounds, time, guests]);
    }

    async fn hypervisor(&self) -> Vec<Metric> {
        let hypervisor = &self.host.hypervisor;
        let up = *hypervisor.link().borrow() == Link::Up;
        let mut told = vec![int(&metrics::HYPERVISOR_UP, u64::from(up))];
        if let Ok(capabilities) = hypervisor.capabilities().await {
            let node = rustix::system::uname();
            let labels = [
                node.nodename().to_string_lossy().into_owned(),
                capabilities.hypervisor_version.clone(),
                capabilities.virt_type.as_str().to_owned(),
            ];
            let labels = labels.map(Into::into).into();
            told.push(Metric::new(&metrics::HOST).with(labels, Value::Int(1)));
        }
        match timeout(LOOK, hypervisor.list()).await {
            Ok(Ok(guests)) => {
                let mut instances = Metric::new(&metrics::INSTANCES);
                for (state, word) in STATES {
                    let count = guests.iter().filter(|(_, guest)| guest.state == state);
                    instances.push(vec![word.into()], Value::Int(count.count() as u64));
                }
                told.push(instances);
            }
            Ok(Err(e)) => debug!(error = %e, "guests cannot be counted"),
            Err(_) => debug!("guests cannot be counted in time"),
        }
        told
    }

    async fn images(&self) -> Vec<Metric> {
        let Ok(Ok(images)) = timeout(LOOK, self.host.images.list()).await else {
            debug!("images cannot be counted");
            return Vec::new();
        };
        let size = images.iter().map(|image| image.allocated.0).sum();
        vec![
            int(&metrics::IMAGE_CACHE_SIZE, size),
            int(&metrics::IMAGE_CACHE_ENTRIES, images.len() as u64),
        ]
    }
}

/// What alerts count is 0 from the beginning: a series that appears with its first failure has not grown, for Prometheus.
fn begin() {
    for verb in Verb::ALL.iter().map(|verb| verb.as_str()) {
        metrics::UNDO_FAILURES.of([verb]);
        metrics::OPERATIONS.of([verb, OperationState::Failed.as_str()]);
    }
    for kind in EventKind::ALL {
        metrics::EVENTS.of([kind.as_str()]);
    }
}

fn state_word(state: PowerState) -> &'static str {
    let known = STATES.iter().find(|(known, _)| *known == state);
    known.map_or("UNKNOWN", |(_, word)| word)
}

fn build() -> Metric {
    let labels = vec![env!("CARGO_PKG_VERSION").into(), "computedriver.v1".into()];
    Metric::new(&metrics::BUILD).with(labels, Value::Int(1))
}

fn int(family: &'static Family, value: u64) -> Metric {
    Metric::one(family, Value::Int(value))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        time::{Duration, SystemTime},
    };

    use pretty_assertions::assert_eq;
    use tokio_util::sync::CancellationToken;

    use super::Observer;
    use crate::{
        metrics::{self, Value},
        model::Verb,
        sampler::Sampler,
        testing::TestHost,
    };

    #[tokio::test]
    async fn every_verb_has_its_failures_before_the_first() {
        let fake = TestHost::new().await;
        let sampler = Sampler::new(Duration::from_secs(1), CancellationToken::new());
        Observer::new(fake.host.clone(), sampler, SystemTime::now());
        let told = metrics::snapshot();
        let verbs = |name: &str| -> BTreeSet<_> {
            let metric = told.iter().find(|metric| metric.family.name == name);
            let points = metric.into_iter().flat_map(|metric| &metric.points);
            let failures =
                points.filter(|point| point.labels.iter().skip(1).all(|o| o == "FAILED"));
            failures.map(|point| point.labels[0].to_string()).collect()
        };
        let all = Verb::ALL
            .iter()
            .map(|verb| verb.as_str().to_owned())
            .collect();
        assert_eq!(verbs("computelet.operation.undo.failures"), all);
        assert_eq!(verbs("computelet.operation.duration"), all);
    }

    #[tokio::test]
    async fn a_snapshot_tells_every_metric_that_is_looked_up() {
        let fake = TestHost::new().await;
        let sampler = Sampler::new(Duration::from_secs(1), CancellationToken::new());
        let told = Observer::new(fake.host.clone(), sampler, SystemTime::now());
        let told: BTreeSet<_> = told
            .snapshot()
            .await
            .iter()
            .map(|m| m.family.name)
            .collect();
        let all = metrics::OBSERVED.iter().map(|family| family.name);
        let absent: Vec<_> = all.filter(|name| !told.contains(name)).collect();
        assert_eq!(absent, Vec::<&str>::new());
    }

    #[tokio::test]
    async fn guests_that_are_not_measured_in_time_show_as_not_fresh() {
        let fake = TestHost::new().await;
        let id = fake.spawned(fake.spec()).await.to_string();
        // It never runs, as one whose hypervisor hangs.
        let sampler = Sampler::new(Duration::from_secs(1), CancellationToken::new());
        tokio::time::pause();
        let told = super::guests::look(&fake.host, &sampler).await;
        let names: Vec<_> = told.iter().map(|metric| metric.family.name).collect();
        assert_eq!(
            names,
            [metrics::INSTANCE.name, metrics::GUEST_FRESH.name],
            "their counters are absent"
        );
        let fresh: Vec<_> = told[1].points.iter().collect();
        assert_eq!(fresh.len(), 2);
        for point in fresh {
            assert_eq!((&*point.labels[0], &point.value), (&*id, &Value::Int(0)));
        }
    }
}
