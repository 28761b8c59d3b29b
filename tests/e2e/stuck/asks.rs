//! What can be asked of an instance, and how that ends while its emulator is stopped.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use computedriver::v1::{
    self, block_device::Source, detach_volume_request::Disk, open_serial_console_request,
    open_vnc_console_request, snapshot_request::Destination, volume_connection::Target,
};
use futures::{
    StreamExt,
    future::LocalBoxFuture,
    stream::{self, Stream},
};
use tonic::{Code, Request, Response, Status, Streaming};
use uuid::Uuid;

use super::DEADLINE;
use crate::{
    power::seconds,
    support::{Sandbox, command, guest, image},
};

const MIB: u64 = 1 << 20;

/// How a call ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It needs no emulator, or one that it may end.
    Answers,
    /// The caller's deadline ends it; of a stream, nothing is told until the caller goes.
    Waits,
    /// It is refused before that.
    Fails(Code, String),
}

/// What the caller saw.
#[derive(Debug)]
pub(super) enum Ended {
    Answered,
    Open,
}

type Call = for<'a> fn(&'a Sandbox, &'a Guest) -> LocalBoxFuture<'a, Result<Ended, Status>>;

/// One call.
pub(super) struct Ask {
    pub(super) name: &'static str,
    pub(super) end: End,
    pub(super) call: Call,
}

/// A guest with volumes: a qcow2 file with a snapshot, and two raw ones.
pub(super) struct Guest {
    pub(super) id: String,
    pub(super) agent: bool,
    request: v1::SpawnRequest,
    folder: PathBuf,
    chain: String,
    snapshot: String,
}

impl Guest {
    pub(super) async fn spawn(sandbox: &Sandbox, request: v1::SpawnRequest, agent: bool) -> Self {
        let root = sandbox.path().join("volumes");
        let folder = root.join(&request.instance_id);
        fs::create_dir_all(&folder).unwrap();
        for folder in [&root, &folder] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).unwrap();
        }
        let mut guest = Self {
            id: request.instance_id.clone(),
            agent,
            request,
            folder,
            chain: String::new(),
            snapshot: Uuid::new_v4().to_string(),
        };
        guest.run("create -q -f qcow2 v0 16M");
        let mut chain = guest.volume("v0");
        chain.format = Some(v1::DiskFormat::Qcow2.into());
        guest.chain.clone_from(&chain.volume_id);
        let volumes = [
            ("chain", chain),
            ("plain", guest.raw("plain")),
            ("moved", guest.raw("moved")),
            ("gone", guest.raw("gone")),
        ];
        let disks = volumes.map(|(name, volume)| device(name, volume));
        guest.request.block_devices = disks.to_vec();
        guest.request.vifs = vec![user("early", 1)];
        sandbox.spawn(guest.request.clone()).await.unwrap();
        guest.over("v1", "v0");
        let first = guest.create("v1", guest.snapshot.clone(), false);
        let mut devices = sandbox.devices().await;
        devices.create_volume_snapshot(first).await.unwrap();
        guest.over("v2", "v1");
        // From here on it can be seen to be stopped.
        let seen = v1::GetDiagnosticsRequest {
            instance_id: guest.id.clone(),
        };
        let mut instances = sandbox.instances().await;
        instances.get_diagnostics(seen).await.unwrap();
        guest
    }

    fn run(&self, line: &str) {
        let mut program = command("qemu-img");
        let done = program.args(line.split(' ')).current_dir(&self.folder);
        assert!(done.status().unwrap().success(), "{line}");
    }

    fn over(&self, name: &str, base: &str) {
        self.run(&format!("create -q -f qcow2 -F qcow2 -b {base} {name}"));
    }

    fn volume(&self, name: &str) -> v1::VolumeConnection {
        let path = self.folder.join(name).display().to_string();
        v1::VolumeConnection {
            volume_id: Uuid::new_v4().to_string(),
            target: Some(Target::Local(v1::LocalTarget { path })),
            ..Default::default()
        }
    }

    /// A new raw file.
    fn raw(&self, name: &str) -> v1::VolumeConnection {
        sized(&self.folder.join(name), 16);
        self.volume(name)
    }

    fn create(
        &self,
        file: &str,
        snapshot: String,
        quiesce: bool,
    ) -> v1::CreateVolumeSnapshotRequest {
        v1::CreateVolumeSnapshotRequest {
            instance_id: self.id.clone(),
            volume_id: self.chain.clone(),
            snapshot_id: snapshot,
            new_file: file.to_owned(),
            quiesce,
            ..Default::default()
        }
    }

    /// A copy of its disk, somewhere new.
    fn export(&self, sandbox: &Sandbox) -> Option<Destination> {
        let folder = sandbox.path().join("export");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(Uuid::new_v4().to_string());
        Some(Destination::Path(path.display().to_string()))
    }

    fn image(&self) -> v1::Image {
        image(&guest().join("boot-sector.raw"), v1::DiskFormat::Raw)
    }
}

fn sized(path: &Path, mib: u64) {
    let mut open = fs::OpenOptions::new();
    let file = open.create(true).truncate(false).write(true).open(path);
    file.unwrap().set_len(mib * MIB).unwrap();
}

fn device(name: &str, volume: v1::VolumeConnection) -> v1::BlockDevice {
    v1::BlockDevice {
        disk_id: name.to_owned(),
        source: Some(Source::Volume(volume)),
        ..Default::default()
    }
}

fn user(name: &str, number: u8) -> v1::Vif {
    v1::Vif {
        interface_id: name.to_owned(),
        mac_address: format!("52:54:00:00:00:{number:02x}"),
        r#type: Some(v1::vif::Type::User(v1::UserVif {})),
        ..Default::default()
    }
}

/// With the caller's deadline.
fn timed<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.set_timeout(DEADLINE);
    request
}

type Answer<T> = Result<Response<T>, Status>;

/// A call with one answer.
async fn one<T>(call: impl Future<Output = Answer<T>>) -> Result<Ended, Status> {
    call.await.map(|_| Ended::Answered)
}

/// A stream that is read to its end; its caller keeps the time.
async fn all<T>(call: impl Future<Output = Answer<Streaming<T>>>) -> Result<Ended, Status> {
    read(call, false).await
}

/// A stream whose first word is enough.
async fn first<T>(call: impl Future<Output = Answer<Streaming<T>>>) -> Result<Ended, Status> {
    read(call, true).await
}

async fn read<T>(
    call: impl Future<Output = Answer<Streaming<T>>>,
    first: bool,
) -> Result<Ended, Status> {
    let reading = async {
        let mut stream = call.await?.into_inner();
        while stream.message().await?.is_some() && !first {}
        Ok(Ended::Answered)
    };
    let read = tokio::time::timeout(DEADLINE, reading).await;
    read.unwrap_or(Ok(Ended::Open))
}

/// The first thing that somebody says who opens a console, and nothing more.
fn said<T>(open: T) -> impl Stream<Item = T> {
    stream::iter([open]).chain(stream::pending())
}

/// Calls: how each ends, how it is read, its client, its name, and the fields of its request beside the instance's id.
macro_rules! asks {
    (|$s:ident, $g:ident| $($end:expr, $how:ident $client:ident.$call:ident($request:ident { $($field:ident: $value:expr),* });)*) => {
        vec![$(Ask {
            name: stringify!($call),
            end: $end,
            call: |$s, $g| Box::pin(async move {
                let request = timed(v1::$request {
                    instance_id: $g.id.clone(),
                    $($field: $value,)*
                    ..Default::default()
                });
                $how($s.$client().await.$call(request)).await
            }),
        }),*]
    };
}

/// The same of calls that name no one instance.
macro_rules! others {
    (|$s:ident, $g:ident| $($end:expr, $how:ident $client:ident.$call:ident($request:expr);)*) => {
        vec![$(Ask {
            name: stringify!($call),
            end: $end,
            call: |$s, $g| Box::pin(async move {
                let _ = &$g.id;
                $how($s.$client().await.$call(timed($request))).await
            }),
        }),*]
    };
}

use End::{Answers, Waits};

fn fails(code: Code, reason: &str) -> End {
    End::Fails(code, reason.to_owned())
}

/// What changes nothing, all of it at once.
#[allow(
    clippy::needless_update,
    reason = "some requests name an instance and nothing else"
)]
pub(super) fn looks() -> Vec<Ask> {
    let mut looks = asks! { |s, g|
        Answers, one instances.get_info(GetInfoRequest {});
        Answers, one instances.get_instance(GetInstanceRequest {});
        Answers, first instances.watch_boot(WatchBootRequest {});
        fails(Code::ResourceExhausted, "OVERLOADED"), one instances.get_diagnostics(GetDiagnosticsRequest {});
        Answers, one devices.list_disks(ListDisksRequest {});
        Answers, one devices.list_interfaces(ListInterfacesRequest {});
        Answers, one console.get_console_output(GetConsoleOutputRequest {});
        Answers, all console.stream_console_output(StreamConsoleOutputRequest {});
        Answers, one console.get_console_access(GetConsoleAccessRequest { kind: v1::ConsoleKind::Serial.into() });
        fails(Code::ResourceExhausted, "OVERLOADED"), one stats.get_block_stats(GetBlockStatsRequest { disk_id: "root".to_owned() });
        Answers, one stats.get_interface_stats(GetInterfaceStatsRequest { interface_id: "early".to_owned() });
    };
    looks.extend(others! { |s, g|
        Answers, all instances.spawn(g.request.clone());
        Answers, one instances.list_instances(v1::ListInstancesRequest::default());
        Answers, one instances.list_instances_detail(v1::ListInstancesDetailRequest::default());
        Answers, all instances.stream_instances(v1::StreamInstancesRequest::default());
        Answers, first instances.watch_events(v1::WatchEventsRequest::default());
        Answers, one console.get_console_pool_info(v1::GetConsolePoolInfoRequest { kind: v1::ConsoleKind::Serial.into() });
        Waits, first console.open_serial_console(said(serial(g)));
        Answers, first stats.stream_block_stats(v1::StreamBlockStatsRequest { instance_ids: vec![g.id.clone()], ..Default::default() });
        Answers, first stats.stream_interface_stats(v1::StreamInterfaceStatsRequest { instance_ids: vec![g.id.clone()], ..Default::default() });
        Answers, first stats.stream_instance_stats(v1::StreamInstanceStatsRequest { instance_ids: vec![g.id.clone()], ..Default::default() });
    });
    looks
}

/// Those that read what libvirt gives nobody while somebody waits for the emulator, as whoever opens a screen.
#[allow(
    clippy::needless_update,
    reason = "some requests name an instance and nothing else"
)]
pub(super) fn looks_beside_a_screen() -> Vec<Ask> {
    let mut looks = others! { |s, g|
        Waits, first console.open_vnc_console(said(screen(g)));
    };
    // More of them than there are threads for calls that never wait.
    for _ in 0..3 {
        looks.extend(asks! { |s, g|
            Answers, one instances.get_instance(GetInstanceRequest {});
            Answers, one devices.list_interfaces(ListInterfacesRequest {});
            Answers, one instances.get_info(GetInfoRequest {});
        });
    }
    looks
}

fn serial(guest: &Guest) -> v1::OpenSerialConsoleRequest {
    let open = v1::SerialConsoleOpen {
        instance_id: guest.id.clone(),
        ..Default::default()
    };
    let event = Some(open_serial_console_request::Event::Open(open));
    v1::OpenSerialConsoleRequest { event }
}

fn screen(guest: &Guest) -> v1::OpenVncConsoleRequest {
    let open = v1::VncConsoleOpen {
        instance_id: guest.id.clone(),
    };
    let event = Some(open_vnc_console_request::Event::Open(open));
    v1::OpenVncConsoleRequest { event }
}

/// What its agent is asked, and changes nothing.
#[allow(
    clippy::needless_update,
    reason = "some requests name an instance and nothing else"
)]
pub(super) fn looks_inside() -> Vec<Ask> {
    asks! { |s, g|
        Waits, one guests.get_guest_info(GetGuestInfoRequest {});
        Answers, one instances.get_info(GetInfoRequest {});
    }
}

/// What its agent is to do.
pub(super) fn changes_inside() -> Vec<Ask> {
    asks! { |s, g|
        Waits, one guests.set_admin_password(SetAdminPasswordRequest { admin_password: "a word".to_owned() });
        Waits, one guests.inject_file(InjectFileRequest { path: "/tmp/late".to_owned(), contents: vec![7; 64] });
        Waits, one guests.inject_network_info(InjectNetworkInfoRequest {});
        Waits, one guests.reset_network(ResetNetworkRequest {});
        Waits, one guests.update_agent(UpdateAgentRequest { url: "https://127.0.0.1/".to_owned(), sha256: "5a".repeat(32) });
        Waits, one instances.quiesce(QuiesceRequest {});
        Waits, one instances.unquiesce(UnquiesceRequest {});
        Waits, all instances.snapshot(SnapshotRequest {
            image_id: "late".to_owned(),
            format: v1::DiskFormat::Raw.into(),
            kind: v1::SnapshotKind::Live.into(),
            destination: g.export(s)
        });
        Waits, one devices.create_volume_snapshot(CreateVolumeSnapshotRequest {
            volume_id: g.chain.clone(),
            snapshot_id: Uuid::new_v4().to_string(),
            new_file: "v2".to_owned(),
            quiesce: true
        });
    }
}

/// What changes its power, and what it is made of.
pub(super) fn changes() -> Vec<Ask> {
    asks! { |s, g|
        Waits, one instances.pause(PauseRequest {});
        Answers, one instances.unpause(UnpauseRequest {});
        Answers, one instances.power_on(PowerOnRequest {});
        Answers, all instances.resume(ResumeRequest {});
        Answers, all instances.unrescue(UnrescueRequest {});
        Waits, all instances.suspend(SuspendRequest {});
        Waits, one instances.trigger_crash_dump(TriggerCrashDumpRequest {});
        Waits, all instances.snapshot(SnapshotRequest {
            image_id: "late".to_owned(),
            format: v1::DiskFormat::Raw.into(),
            kind: v1::SnapshotKind::Cold.into(),
            destination: g.export(s)
        });
        fails(Code::FailedPrecondition, "GUEST_AGENT_UNAVAILABLE"), one instances.quiesce(QuiesceRequest {});
        Waits, all instances.power_off(PowerOffRequest { timeout: seconds(60) });
        Waits, all instances.reboot(RebootRequest { kind: v1::RebootKind::Soft.into(), timeout: seconds(60) });
        Waits, all instances.reboot(RebootRequest { kind: v1::RebootKind::Hard.into() });
        Waits, all instances.power_off(PowerOffRequest {});
        Waits, all instances.rescue(RescueRequest {});
        Waits, all instances.resize(ResizeRequest {
            flavor: g.request.flavor.clone().map(|flavor| v1::Flavor { vcpus: 2, ..flavor }),
            mode: v1::ResizeMode::MayRestart.into()
        });
        Waits, all instances.rebuild(RebuildRequest { image: Some(g.image()) });
        Waits, all instances.destroy(DestroyRequest {});
    }
}

/// What changes its devices.
pub(super) fn changes_of_devices() -> Vec<Ask> {
    asks! { |s, g|
        Waits, one devices.attach_volume(AttachVolumeRequest { device: Some(device("late", g.raw("late"))) });
        Waits, one devices.detach_volume(DetachVolumeRequest { disk: Some(Disk::DiskId("gone".to_owned())) });
        Waits, one devices.extend_volume(ExtendVolumeRequest {
            disk_id: "plain".to_owned(),
            size_bytes: { sized(&g.folder.join("plain"), 32); 32 * MIB }
        });
        Waits, all devices.swap_volume(SwapVolumeRequest {
            disk_id: "moved".to_owned(),
            new_volume: Some(g.raw("new"))
        });
        Waits, one devices.attach_interface(AttachInterfaceRequest { vif: Some(user("late", 2)) });
        Waits, one devices.detach_interface(DetachInterfaceRequest { interface_id: "early".to_owned() });
        Waits, one devices.create_volume_snapshot(CreateVolumeSnapshotRequest {
            volume_id: g.chain.clone(),
            snapshot_id: Uuid::new_v4().to_string(),
            new_file: "v2".to_owned()
        });
        Waits, all devices.delete_volume_snapshot(DeleteVolumeSnapshotRequest {
            volume_id: g.chain.clone(),
            snapshot_id: g.snapshot.clone(),
            file_to_merge: "v1".to_owned(),
            merge_target_file: "v0".to_owned()
        });
    }
}
