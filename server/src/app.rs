//! The composition root: configuration → parts → a running server, and its orderly end.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{FutureExt, Stream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use tracing::{error, info};

use crate::{
    api::{
        About, Api,
        capability::{self, CapabilityLayer},
    },
    config::{self, Config},
    console::Watcher,
    domain,
    error::{Error, Result, chain},
    export::Exports,
    host::{Claims, Host, Paths, Policy, Totals},
    hypervisor::{
        Hypervisor,
        libvirt::{ConnectTo, Libvirt, LibvirtSettings, VirtChoice},
    },
    image::{FetchLimits, ImageSettings, Images},
    journal::{Journal, Scribe},
    metrics::Scrape,
    model::{Bytes, MachineType},
    observe::Observer,
    operation::Operations,
    plan::{CpuChoice, PlanSettings},
    recover,
    sampler::Sampler,
    serve::{self, ConsoleProxy, Door, Drain, Health, Page, ServeError},
    session::{Proxy, Sessions},
    store::Store,
    upkeep::{self, Bounds},
    vif::Vifs,
    volume::Volumes,
};

/// Between two tries to look after what an earlier life left.
const RECOVER_PAUSE: Duration = Duration::from_secs(1);

/// The parts of a server, built and not yet serving.
#[derive(Debug)]
pub struct App {
    host: Arc<Host>,
    operations: Operations,
    drain: CancellationToken,
    api: Api,
    sampler: Sampler,
    sessions: Sessions,
    bounds: Bounds,
    observer: Observer,
    scribe: Option<Scribe>,
    drain_timeout: Duration,
    resume: bool,
    // The state directory is ours until this is dropped.
    _lock: File,
}

fn wrong(what: &str, e: &(dyn std::error::Error + 'static)) -> Error {
    Error::internal(format!("{what}: {}", chain(e)))
}

impl App {
    /// Builds all parts. Nothing is served yet, no guest is touched.
    ///
    /// # Errors
    /// When the state directory cannot be used, or another server uses it.
    pub async fn build(config: &Config) -> Result<Self> {
        let lock = prepare(config)?;
        let hypervisor = hypervisor(config)?;
        let store = Store::open(&config.state_dir).await?;
        let images = images(config).await?;
        let (journal, inkwell) = Journal::new(store.clone());
        let scribe = Scribe::new(inkwell, store.clone(), hypervisor.clone());
        let host = Arc::new(Host {
            hypervisor,
            images,
            exports: exports(&config.images),
            vifs: Vifs::linux(),
            volumes: Volumes::new(config.volumes.dirs.clone()),
            plan: plan(config),
            watcher: Watcher::start().map_err(|e| wrong("console logs cannot be watched", &e))?,
            store,
            journal,
            claims: Claims::new(policy(&config.resources)),
            paths: Paths {
                state: config.state_dir.clone(),
            },
        });
        recover::books(&host);
        let operations = Operations::new(host.clone());
        let drain = CancellationToken::new();
        let started = SystemTime::now();
        let sampler = Sampler::new(config.stats.min_interval, drain.clone());
        let observer = Observer::new(host.clone(), sampler.clone(), started);
        let about = about(config, started);
        let sessions = Sessions::new(host.clone(), config.consoles.token_lifetime);
        let api = Api::new(
            host.clone(),
            operations.clone(),
            (sampler.clone(), sessions.clone()),
            drain.clone(),
            about,
        );
        Ok(Self {
            host,
            operations,
            drain,
            api,
            sampler,
            sessions,
            bounds: bounds(config),
            observer,
            scribe: Some(scribe),
            _lock: lock,
            drain_timeout: config.drain_timeout,
            resume: config.guests.resume_state_on_host_boot,
        })
    }

    /// Makes all metrics of this server, without those of each guest.
    pub fn scrape(&self) -> Scrape {
        let observer = self.observer.clone();
        Arc::new(move || {
            let observer = observer.clone();
            async move { observer.snapshot().await }.boxed()
        })
    }

    /// Serves calls until `stop` says a first word, then ends in order; a second word ends at once.
    ///
    /// # Errors
    /// When an address cannot be listened at, or connections can no longer be served.
    pub async fn run(
        mut self,
        config: &Config,
        stop: impl Stream<Item = ()> + Unpin,
    ) -> Result<(), ServeError> {
        let door = Door::bind(&config.listen).await?;
        let page = match &config.metrics.listen {
            Some(address) => Some(Page::bind(address).await?),
            None => None,
        };
        let proxy = proxy(config, &self.sessions).await?;
        let (routes, health) = serve::standard(self.api.routes(), capability::services()).await?;
        let service = CapabilityLayer.layer(routes.prepare());
        let close = CancellationToken::new();
        let drain = Drain {
            health: health.clone(),
            begun: self.drain.clone(),
            close: close.clone(),
        };
        let work = self.work(health);
        let serving = async {
            let served = door.serve(&config.limits, service, close.clone()).await;
            // A door that fell shut by itself ends the server too.
            close.cancel();
            served
        };
        let page = serve_page(page, self.observer.clone(), close.clone());
        let proxy = serve_proxy(proxy, self.sessions.clone(), close.clone());
        let drained = drain.when(stop, self.end(work));
        let (served, (), (), ()) = tokio::join!(serving, drained, page, proxy);
        served
    }

    /// Starts what works beside the calls: what writes down what happens first, then recovery and upkeep.
    fn work(&mut self, health: Health) -> JoinSet<()> {
        let mut work = JoinSet::new();
        if let Some(scribe) = self.scribe.take() {
            work.spawn(scribe.run());
        }
        work.spawn(recover(
            self.host.clone(),
            (self.operations.clone(), self.resume),
            health,
            self.drain.clone(),
        ));
        work.spawn(self.sampler.clone().run(self.host.clone()));
        work.spawn(upkeep::run(
            self.host.clone(),
            self.bounds,
            self.drain.clone(),
        ));
        work.spawn(upkeep::end_rescues(
            self.host.clone(),
            self.operations.clone(),
            self.drain.clone(),
        ));
        work
    }

    /// Ends: nothing new is begun, running operations are waited for, within bounds.
    async fn end(self, mut work: JoinSet<()>) {
        self.operations.drain(self.drain_timeout).await;
        self.host.images.close().await;
        self.host.journal.flush().await;
        work.shutdown().await;
    }
}

/// What the server says of itself.
fn about(config: &Config, started: SystemTime) -> About {
    About {
        my_ip: config.my_ip.unwrap_or_else(my_ip),
        started,
        embedded: config.connect == config::Connect::Embedded,
        config_drive: true,
        reboot: config.host.reboot.clone(),
        shutdown: config.host.shutdown.clone(),
        max_message: usize::try_from(config.limits.message.0).unwrap_or(usize::MAX),
    }
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        console_log: config.guests.console_log_max,
        images: config.images.prune,
        operations: config.limits.operation_retention,
        events: config.events.retention_count,
        events_age: config.events.retention_age,
    }
}

/// Listens for console proxies, when it is to be done, and has callers told where.
async fn proxy(config: &Config, sessions: &Sessions) -> Result<Option<ConsoleProxy>, ServeError> {
    let Some(listen) = &config.consoles.listen else {
        return Ok(None);
    };
    let proxy = ConsoleProxy::bind(listen).await?;
    let told = config.consoles.address.clone();
    let told = told.map(|(host, port)| Proxy { host, port });
    if let Some(told) = told.or_else(|| proxy.address().map(Proxy::from)) {
        sessions.proxied_at(told);
    }
    Ok(Some(proxy))
}

/// Serves console proxies, when there is anything to listen at.
async fn serve_proxy(proxy: Option<ConsoleProxy>, sessions: Sessions, close: CancellationToken) {
    if let Some(proxy) = proxy {
        proxy.serve(sessions, close).await;
    }
}

/// Serves the page for Prometheus, when there is to be one.
async fn serve_page(page: Option<Page>, observer: Observer, close: CancellationToken) {
    let Some(page) = page else { return };
    let scrape = move || {
        let observer = observer.clone();
        async move { observer.page().await }.boxed()
    };
    page.serve(Arc::new(scrape), close).await;
}

/// Looks after what an earlier life left, until it has succeeded once; then lets callers in, and brings back guests that
/// should run.
async fn recover(
    host: Arc<Host>,
    (operations, resume): (Operations, bool),
    health: Health,
    stop: CancellationToken,
) {
    let recovered = async {
        while let Err(e) = recover::run(&host).await {
            error!(error = %e, "what an earlier run left cannot be looked after yet");
            tokio::time::sleep(RECOVER_PAUSE).await;
        }
        operations.open();
        health.serving().await;
        info!("ready");
        if resume {
            recover::bring_back(&host, &operations).await;
        }
    };
    tokio::select! {
        () = recovered => {}
        () = stop.cancelled() => return,
    }
    // Not earlier: a guest of an earlier life is known again only now.
    upkeep::thaw::run(host, stop).await;
}

/// Makes the state directory. Others may pass through it, to the disks that QEMU's own user opens; they may not list it.
/// One server has it at a time, whichever hypervisor it uses.
fn prepare(config: &Config) -> Result<File> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true).mode(0o711);
    folder
        .create(config.state_dir.join("instances"))
        .map_err(|e| wrong("the state directory cannot be made", &e))?;
    let mut open = File::options();
    let lock = open
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(config.state_dir.join("computelet.lock"))
        .map_err(|e| wrong("the state directory cannot be locked", &e))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(e) => Err(wrong("another computelet owns this state directory", &e)),
    }
}

fn hypervisor(config: &Config) -> Result<Arc<dyn Hypervisor>> {
    let connect = match &config.connect {
        config::Connect::Embedded => ConnectTo::Embedded {
            root: config.state_dir.join("qemu"),
        },
        config::Connect::Uri(uri) => ConnectTo::Uri(uri.0.clone()),
    };
    let virt_type = match config.virt_type {
        config::Virt::Auto => VirtChoice::Auto,
        config::Virt::Kvm => VirtChoice::Kvm,
        config::Virt::Qemu => VirtChoice::Qemu,
    };
    let settings = LibvirtSettings {
        virt_type,
        ..LibvirtSettings::new(connect)
    };
    let hypervisor =
        Libvirt::open(settings).map_err(|e| wrong("the hypervisor cannot be opened", &e))?;
    Ok(hypervisor)
}

async fn images(config: &Config) -> Result<Images> {
    let images = &config.images;
    let settings = ImageSettings {
        folder: config.state_dir.join("images"),
        force_raw: images.force_raw || images.disks == config::DiskKind::Raw,
        unused_for: images.unused_for,
        limits: FetchLimits {
            file_folders: images.file_dirs.clone(),
            max_size: images.max,
            connect: images.connect_timeout,
            idle: images.idle_timeout,
            ..FetchLimits::default()
        },
    };
    let open = tokio::task::spawn_blocking(move || Images::open(settings)).await;
    Ok(open.map_err(|e| wrong("the image cache cannot be opened", &e))??)
}

fn exports(images: &config::Images) -> Exports {
    let folders = images.export_dirs.clone();
    Exports::new(folders, images.connect_timeout, images.idle_timeout)
}

fn plan(config: &Config) -> PlanSettings {
    let guests = &config.guests;
    PlanSettings {
        machine: MachineType::Q35,
        cpu: match guests.cpu_mode {
            config::CpuMode::Auto => CpuChoice::Auto,
            config::CpuMode::HostModel => CpuChoice::HostModel,
            config::CpuMode::HostPassthrough => CpuChoice::HostPassthrough,
            config::CpuMode::Maximum => CpuChoice::Maximum,
            config::CpuMode::Custom => {
                CpuChoice::Custom(guests.cpu_model.clone().unwrap_or_default())
            }
        },
        disk_format: match config.images.disks {
            config::DiskKind::Qcow2 => domain::Format::Qcow2,
            config::DiskKind::Raw => domain::Format::Raw,
        },
        disk_cache: match guests.disk_cache {
            config::DiskCache::None => domain::Cache::None,
            config::DiskCache::Writeback => domain::Cache::Writeback,
            config::DiskCache::Writethrough => domain::Cache::Writethrough,
            config::DiskCache::Directsync => domain::Cache::Directsync,
            config::DiskCache::Unsafe => domain::Cache::Unsafe,
        },
        vnc: guests.vnc,
        spare_ports: u32::try_from(guests.spare_pcie_ports).unwrap_or(u32::MAX),
        tb_cache: guests.tcg_cache_mib.and_then(Bytes::from_mib),
        shutdown_timeout: guests.shutdown_timeout,
        rescue_timeout: guests.rescue_timeout,
        ..PlanSettings::default()
    }
}

fn policy(resources: &config::Resources) -> Policy {
    Policy {
        cpu_ratio: resources.cpu_allocation_ratio,
        memory_ratio: resources.ram_allocation_ratio,
        disk_ratio: resources.disk_allocation_ratio,
        reserved: Totals {
            cpus: resources.reserved_host_cpus,
            memory_mib: resources.reserved_host_memory_mib,
            disk_gib: resources.reserved_host_disk_gib,
        },
    }
}

/// The address from which this host would speak to others: what the kernel chooses for a destination on the default
/// route. Nothing is sent: connecting a datagram socket only looks up the route.
fn my_ip() -> IpAddr {
    let ask = || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address reserved for documentation: nobody is there.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    ask().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}
