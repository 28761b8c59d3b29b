//! A whole host over fakes, for tests: real store, images and folders, guests and interfaces in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    action::{Action, Spawn},
    console::Watcher,
    export::Exports,
    host::{Claim, Claims, Host, Paths, Policy, Totals},
    hypervisor::fake::{Fake, FakeGuest, KeptSecrets},
    image::{FetchLimits, ImageKey, ImageSettings, Images},
    journal::{Journal, Scribe},
    model::{
        BlockDevice, BlockSource, Bytes, DirectKernel, DiskFormat, Flavor, ImageFile,
        ImageProperties, ImageSource, InjectedFile, InstanceId, InstanceRecord, InstanceSpec,
        Limits, NicModel, OperationId, OperationRecord, OperationState, Qos, RequestId, Vif,
        VifKind, Volume, VolumeId, VolumeTarget,
    },
    operation::{Operations, RequestKey},
    plan::PlanSettings,
    recover,
    store::Store,
    task::{Progress, Reporter, Task},
    vif,
    volume::Volumes,
};

/// How long a test waits for what must come.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A host of one test.
pub(crate) struct TestHost {
    pub(crate) host: Arc<Host>,
    pub(crate) fake: Arc<Fake>,
    pub(crate) vifs: vif::fake::Fake,
    dir: Arc<TempDir>,
}

/// All that an action may leave behind, for comparing before with after.
#[derive(Debug, PartialEq)]
pub(crate) struct Snapshot {
    guests: BTreeMap<InstanceId, FakeGuest>,
    files: BTreeSet<PathBuf>,
    instances: Vec<Arc<InstanceRecord>>,
    held: Claim,
    pins: Vec<(ImageKey, Vec<InstanceId>)>,
    plugged: BTreeSet<(InstanceId, crate::model::InterfaceId)>,
    secrets: KeptSecrets,
}

impl TestHost {
    /// An empty host in a folder of its own.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("source")).unwrap();
        std::fs::create_dir(dir.path().join("instances")).unwrap();
        std::fs::create_dir(dir.path().join("export")).unwrap();
        Self::over(Arc::new(dir), Fake::new(), vif::fake::Fake::default()).await
    }

    /// The host as a server finds it that starts after this one crashed. The books are written, nothing is looked after.
    pub(crate) async fn next_life(&self) -> Self {
        Self::over(self.dir.clone(), self.fake.clone(), self.vifs.clone()).await
    }

    async fn over(dir: Arc<TempDir>, fake: Arc<Fake>, vifs: vif::fake::Fake) -> Self {
        let state = dir.path().to_owned();
        let images = ImageSettings {
            folder: state.join("images"),
            force_raw: false,
            unused_for: Duration::ZERO,
            limits: FetchLimits {
                file_folders: vec![state.join("source")],
                ..FetchLimits::default()
            },
        };
        let store = Store::open(&state).await.unwrap();
        let (journal, inkwell) = Journal::new(store.clone());
        tokio::spawn(Scribe::new(inkwell, store.clone(), fake.clone()).run());
        let host = Host {
            hypervisor: fake.clone(),
            images: Images::open(images).unwrap(),
            exports: Exports::new(vec![state.join("export")], LIMIT, LIMIT),
            vifs: vifs.vifs(),
            volumes: Volumes::new(vec![state.join("source")])
                .with_tool(&tool(&state).display().to_string()),
            plan: PlanSettings::default(),
            watcher: Watcher::start().unwrap(),
            store,
            journal,
            claims: Claims::new(Policy {
                cpu_ratio: 16.0,
                memory_ratio: 1.0,
                disk_ratio: 1.0,
                reserved: Totals::default(),
            }),
            paths: Paths { state },
        };
        recover::books(&host);
        host.claims.set_totals(Totals {
            cpus: 8,
            memory_mib: 16 << 10,
            disk_gib: 1 << 10,
        });
        // What the hypervisor says at first is told before anything else happens.
        host.journal.flush().await;
        Self {
            host: Arc::new(host),
            fake,
            vifs,
            dir,
        }
    }

    /// Everything that an action may change, as it is now. What is cached of images is no trace of an instance.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let mut files = below(&self.host.paths.instances());
        let cache = below(&self.host.paths.state.join("images"));
        files.extend(
            cache
                .into_iter()
                .filter(|path| path.extension().is_some_and(|e| e == "part")),
        );
        files.extend(below(&self.host.paths.state.join("export")));
        let images = self.host.images.list().await.unwrap();
        let pinned = images
            .into_iter()
            .filter(|image| !image.instances.is_empty());
        Snapshot {
            guests: self.fake.snapshot(),
            files,
            instances: self.host.store.instances(),
            held: self.host.claims.held(),
            pins: pinned.map(|image| (image.key, image.instances)).collect(),
            plugged: self.vifs.all_plugged(),
            secrets: self.fake.secrets(),
        }
    }

    /// A file that images may come from.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> ImageFile {
        let path = self.dir.path().join("source").join(name);
        std::fs::write(&path, bytes).unwrap();
        ImageFile {
            id: name.to_owned(),
            location: format!("file://{}", path.display()),
            sha256: None,
        }
    }

    /// A small instance: a root disk, and nothing else.
    pub(crate) fn spec(&self) -> InstanceSpec {
        spec(self.image())
    }

    /// A small image.
    pub(crate) fn image(&self) -> ImageSource {
        ImageSource {
            file: self.file("image.raw", &[0; 1 << 20]),
            format: DiskFormat::Raw,
        }
    }

    /// An instance with one of everything.
    pub(crate) fn everything(&self) -> InstanceSpec {
        let small = self.spec();
        let kernel = DirectKernel {
            kernel: self.file("kernel", b"a kernel"),
            ramdisk: Some(self.file("ramdisk", b"a ramdisk")),
            command_line: "quiet".to_owned(),
        };
        let file = InjectedFile {
            path: "/etc/motd".to_owned(),
            contents: b"hello".to_vec(),
        };
        let blank = BlockDevice {
            id: "data".parse().unwrap(),
            device_name: None,
            bus: None,
            boot_index: None,
            source: BlockSource::Blank {
                size: Bytes(1 << 20),
            },
        };
        let bridge = VifKind::Bridge {
            bridge: "br0".to_owned(),
        };
        InstanceSpec {
            flavor: Flavor {
                ephemeral: Some(Bytes(8 << 20)),
                swap: Some(Bytes(1 << 20)),
                ..small.flavor.clone()
            },
            kernel: Some(kernel),
            injected_files: vec![file],
            user_data: b"#cloud-config".to_vec(),
            vifs: vec![
                vif(0, bridge),
                vif(1, VifKind::User),
                vif(2, VifKind::Unbound),
            ],
            block_devices: vec![blank],
            config_drive: true,
            ..small
        }
    }

    /// The action that spawns `spec`.
    pub(crate) async fn spawn(&self, spec: InstanceSpec) -> Spawn {
        let fingerprint = self.host.store.fingerprinter().spec(&spec).unwrap();
        Spawn::new(&self.host, spec, fingerprint).await.unwrap()
    }

    /// A run for `action`, written down as running.
    pub(crate) async fn task<A: Action>(&self, action: &A) -> Task {
        let record = OperationRecord {
            id: OperationId::random(),
            instance: action.instance(),
            image: action.image(),
            verb: A::VERB,
            request: None,
            fingerprint: String::new(),
            state: OperationState::Running,
            begun: SystemTime::now(),
            ended: None,
            caller: None,
            error: None,
            answer: None,
        };
        self.host.store.put_operation(record.clone()).await.unwrap();
        let (report, _) = Reporter::new(record);
        self.resumed(&report)
    }

    /// Another run of the same operation, that has begun nothing.
    pub(crate) fn resumed(&self, report: &Reporter) -> Task {
        let id = report.record().id;
        Task::new(
            self.host.clone(),
            id,
            report.clone(),
            CancellationToken::new(),
        )
    }

    /// The registry of this host's operations, open.
    pub(crate) fn operations(&self) -> Operations {
        let operations = Operations::new(self.host.clone());
        operations.open();
        operations
    }

    /// Spawns `spec` to its end.
    pub(crate) async fn spawned(&self, spec: InstanceSpec) -> InstanceId {
        let (id, action) = (spec.id, self.spawn(spec).await);
        let progress = Box::pin(self.operations().begin(key("spawned"), action)).await;
        let ended = ended(progress.unwrap()).await;
        assert_eq!(ended.state, OperationState::Succeeded, "{:?}", ended.error);
        id
    }
}

/// The password that the storage of [`tool`] takes.
pub(crate) const PASSWORD: &str = "a long secret";

/// What stands in for `qemu-img`: a disk of 1 MiB, or as many as the file `grown` says, for whoever knows the password, or that
/// in the file `changed`.
fn tool(state: &Path) -> PathBuf {
    let path = state.join("look");
    let script = format!(
        "#!/bin/sh\n\
         case \"$*\" in *password-secret*) [ \"$(cat)\" = \"$(cat '{changed}' 2> /dev/null || echo '{PASSWORD}')\" ] || {{ echo 'Authentication failure(513)' >&2; exit 1; }} ;; esac\n\
         mib=$(cat '{grown}' 2> /dev/null || echo 1)\n\
         echo \"{{\\\"virtual-size\\\": $((mib << 20))}}\"\n",
        changed = state.join("changed").display(),
        grown = state.join("grown").display(),
    );
    if !path.try_exists().unwrap() {
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    path
}

fn spec(image: ImageSource) -> InstanceSpec {
    InstanceSpec {
        id: InstanceId::random(),
        hostname: "web-1".to_owned(),
        display_name: "web 1".to_owned(),
        metadata: BTreeMap::new(),
        flavor: Flavor {
            name: "tiny".to_owned(),
            vcpus: 1,
            memory: Bytes(64 << 20),
            root: None,
            ephemeral: None,
            swap: None,
            extra_specs: BTreeMap::new(),
            max_vcpus: None,
            max_memory: None,
        },
        image: Some(image),
        properties: ImageProperties::default(),
        kernel: None,
        injected_files: Vec::new(),
        user_data: Vec::new(),
        public_keys: Vec::new(),
        admin_password: None,
        vifs: Vec::new(),
        root_device_name: None,
        block_devices: Vec::new(),
        pins: BTreeMap::new(),
        limits: Limits::default(),
        config_drive: false,
        wait_for: None,
    }
}

/// An interface.
pub(crate) fn vif(number: u8, kind: VifKind) -> Vif {
    Vif {
        id: format!("eth{number}").parse().unwrap(),
        mac: format!("52:54:00:00:00:{number:02x}").parse().unwrap(),
        kind,
        model: NicModel::Virtio,
        mtu: None,
        subnets: Vec::new(),
        network_id: None,
        network_label: String::new(),
    }
}

/// A volume with nothing said of it but where it is.
pub(crate) fn volume(target: VolumeTarget) -> Volume {
    Volume {
        id: VolumeId::random(),
        target,
        read_only: false,
        shared: false,
        serial: None,
        format: DiskFormat::Raw,
        discard: false,
        qos: Qos::default(),
        seen: None,
    }
}

/// A request without an id of its own.
pub(crate) fn key(body: &str) -> RequestKey {
    RequestKey {
        request: None,
        fingerprint: body.to_owned(),
        caller: None,
    }
}

/// A request with an id of its own.
pub(crate) fn key_of(request: RequestId, body: &str) -> RequestKey {
    RequestKey {
        request: Some(request),
        ..key(body)
    }
}

/// Waits for an operation's end.
pub(crate) async fn ended(mut progress: watch::Receiver<Progress>) -> OperationRecord {
    let end = progress.wait_for(|progress| progress.record.state.is_final());
    let end = tokio::time::timeout(LIMIT, end).await;
    let end = end.expect("the operation ends").expect("its end is told");
    end.record.clone()
}

/// Every file and folder below `folder`.
fn below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}
