//! A host with one instance, what may be asked of it, and what is seen of it from outside.

use std::{net::Ipv4Addr, pin::pin, time::SystemTime};

use computedriver::v1::{
    self, device_service_server::DeviceService, instance_service_server::InstanceService,
};
use futures::StreamExt;
use pretty_assertions::assert_eq;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::ask::Ask;
use crate::{
    action::{
        Action, Pause, PowerOff, PowerOn, Reboot, Rescue, Resume, Suspend, Unpause, Unrescue,
    },
    api::{About, Api, stream::Answers},
    model::{EventKind, InstanceId, InstanceState, OperationState, PowerState, Standing},
    recover,
    sampler::Sampler,
    session::Sessions,
    testing::{Snapshot, TestHost},
};

/// All services over a test's host.
pub(in crate::api) fn api(test: &TestHost) -> Api {
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
    let sampler = Sampler::new(std::time::Duration::from_secs(1), end.clone());
    let sessions = Sessions::new(test.host.clone(), std::time::Duration::from_secs(600));
    Api::new(
        test.host.clone(),
        test.operations(),
        (sampler, sessions),
        end,
        about,
    )
}

/// Reads a stream to its end.
async fn read<T>(answers: Response<Answers<T>>) -> Result<(), Status> {
    let mut answers = answers.into_inner();
    while let Some(message) = answers.next().await {
        message?;
    }
    Ok(())
}

pub(super) fn is_on(power: PowerState) -> bool {
    matches!(power, PowerState::Running | PowerState::Paused)
}

/// Calls of the hypervisor that change something.
const CHANGES: [&str; 18] = [
    "define",
    "define_again",
    "start",
    "destroy",
    "undefine",
    "pause",
    "resume",
    "shutdown",
    "interrupt",
    "save",
    "stop_saving",
    "restore",
    "discard",
    "attach",
    "detach",
    "set_vcpus",
    "resize_disk",
    "forget_secret",
];

/// A call about the world's instance.
macro_rules! asked {
    ($world:ident, $call:ident, $request:ident { $($field:ident: $value:expr),* $(,)? }) => {
        $world.api.$call(Request::new(v1::$request {
            instance_id: $world.id.to_string(),
            $($field: $value,)*
            ..Default::default()
        }))
        .await?
    };
}

/// A host with one instance, and who follows its events.
pub(super) struct World {
    pub(super) t: TestHost,
    pub(super) api: Api,
    pub(super) id: InstanceId,
    /// How many events were read, and what is known by them.
    read: usize,
    known: Standing,
    /// The host before there was anything.
    empty: Snapshot,
    volume: String,
}

impl World {
    pub(super) async fn new() -> Self {
        let t = TestHost::new().await;
        let volume = t.file("volume", &[0; 1 << 20]).location;
        let empty = t.snapshot().await;
        let id = t.spawned(t.spec()).await;
        let api = api(&t);
        let mut world = Self {
            t,
            api,
            id,
            read: 0,
            known: Standing::default(),
            empty,
            volume: volume.trim_start_matches("file://").to_owned(),
        };
        world.news().await;
        world
    }

    /// How the guest stands.
    pub(super) fn power(&self) -> PowerState {
        self.t.fake.snapshot()[&self.id].state
    }

    /// The instance as callers see it.
    pub(super) async fn instance(&self) -> v1::Instance {
        let asked = v1::GetInstanceRequest {
            instance_id: self.id.to_string(),
        };
        let told = self.api.get_instance(Request::new(asked)).await;
        told.unwrap().into_inner().instance.unwrap()
    }

    /// Calls since the last look that were to change something.
    pub(super) fn changed(&self) -> Vec<&'static str> {
        let calls = self.t.fake.calls().into_iter();
        calls.filter(|call| CHANGES.contains(call)).collect()
    }

    /// What was told since it was read last.
    pub(super) async fn news(&mut self) -> Vec<EventKind> {
        self.t.host.journal.flush().await;
        let told = self.t.host.store.events(0, 100_000).await.unwrap();
        let news = &told[self.read..];
        self.read = told.len();
        let about = |event: &&crate::model::Event| event.instance == Some(self.id);
        let events = news.iter().map(|entry| &entry.event).filter(about);
        let mut kinds = Vec::new();
        for event in events {
            self.known = std::mem::take(&mut self.known).after(event);
            kinds.push(event.kind);
        }
        kinds
    }

    /// Asks, and follows to the end.
    pub(super) async fn ask(&self, ask: Ask) -> Result<(), Status> {
        match Ask::POWER.contains(&ask) {
            true => self.ask_power(ask).await,
            false => self.ask_other(ask).await,
        }
    }

    async fn ask_power(&self, ask: Ask) -> Result<(), Status> {
        match ask {
            Ask::Pause => drop(asked!(self, pause, PauseRequest {})),
            Ask::Unpause => drop(asked!(self, unpause, UnpauseRequest {})),
            Ask::PowerOn => drop(asked!(self, power_on, PowerOnRequest {})),
            Ask::CutPower => read(asked!(self, power_off, PowerOffRequest {})).await?,
            Ask::ShutDown => {
                let timeout = patient();
                read(asked!(
                    self,
                    power_off,
                    PowerOffRequest { timeout: timeout }
                ))
                .await?;
            }
            Ask::Suspend => read(asked!(self, suspend, SuspendRequest {})).await?,
            Ask::Resume => read(asked!(self, resume, ResumeRequest {})).await?,
            Ask::RestartHard => {
                let kind = v1::RebootKind::Hard.into();
                read(asked!(self, reboot, RebootRequest { kind: kind })).await?;
            }
            Ask::RestartSoft => {
                let (kind, timeout) = (v1::RebootKind::Soft.into(), patient());
                let request = asked!(
                    self,
                    reboot,
                    RebootRequest {
                        kind: kind,
                        timeout: timeout
                    }
                );
                read(request).await?;
            }
            Ask::Rescue => read(asked!(self, rescue, RescueRequest {})).await?,
            _ => read(asked!(self, unrescue, UnrescueRequest {})).await?,
        }
        Ok(())
    }

    async fn ask_other(&self, ask: Ask) -> Result<(), Status> {
        match ask {
            Ask::Attach => {
                let device = Some(self.device());
                drop(asked!(
                    self,
                    attach_volume,
                    AttachVolumeRequest { device: device }
                ));
            }
            Ask::Detach => {
                let disk = v1::detach_volume_request::Disk::DiskId("volume".to_owned());
                let disk = Some(disk);
                drop(asked!(
                    self,
                    detach_volume,
                    DetachVolumeRequest { disk: disk }
                ));
            }
            Ask::Plug => {
                let vif = Some(vif());
                drop(asked!(
                    self,
                    attach_interface,
                    AttachInterfaceRequest { vif: vif }
                ));
            }
            Ask::Unplug => {
                let id = vif().interface_id;
                let request = asked!(
                    self,
                    detach_interface,
                    DetachInterfaceRequest { interface_id: id }
                );
                drop(request);
            }
            Ask::Resize => {
                let mode = v1::ResizeMode::MayRestart.into();
                let flavor = Some(larger());
                let request = asked!(
                    self,
                    resize,
                    ResizeRequest {
                        mode: mode,
                        flavor: flavor
                    }
                );
                read(request).await?;
            }
            Ask::Rebuild => {
                let image = Some(self.image());
                read(asked!(self, rebuild, RebuildRequest { image: image })).await?;
            }
            _ => drop(asked!(self, trigger_crash_dump, TriggerCrashDumpRequest {})),
        }
        Ok(())
    }

    /// Asks. A guest that was on is never seen off, should it start anew meanwhile.
    pub(super) async fn ask_watched(&self, ask: Ask) -> Result<(), Status> {
        if !ask.verb().starts_anew() {
            return self.ask(ask).await;
        }
        let was = self.instance().await.power_state;
        let on = is_on(self.power());
        let mut start = self.t.fake.hold("start");
        let mut asked = pin!(self.ask(ask));
        tokio::select! {
            ended = &mut asked => return ended,
            () = start.reached() => {}
        }
        if on {
            let now = self.instance().await;
            assert_eq!(now.power_state, was, "in the middle of {ask:?}");
        }
        drop(start);
        asked.await
    }

    /// The server dies after so many steps of what is asked, or before its end is written down, and another begins. Whether
    /// that says that it was done.
    pub(super) async fn dies(&mut self, ask: Ask, steps: usize) -> bool {
        let instance = self.id;
        match ask {
            Ask::Pause => self.cut(Pause { instance }, steps).await,
            Ask::Unpause => self.cut(Unpause { instance }, steps).await,
            Ask::PowerOn => self.cut(PowerOn { instance }, steps).await,
            Ask::Suspend => self.cut(Suspend { instance }, steps).await,
            Ask::Resume => self.cut(Resume { instance }, steps).await,
            Ask::RestartHard | Ask::RestartSoft => {
                let patience = None;
                self.cut(Reboot { instance, patience }, steps).await
            }
            Ask::Rescue => {
                let rescue = Rescue {
                    instance,
                    image: None,
                    fingerprint: String::new(),
                };
                self.cut(rescue, steps).await
            }
            Ask::Unrescue => {
                let by_itself = false;
                let unrescue = Unrescue {
                    instance,
                    by_itself,
                };
                self.cut(unrescue, steps).await
            }
            _ => {
                let patience = None;
                self.cut(PowerOff { instance, patience }, steps).await
            }
        }
    }

    async fn cut<A: Action>(&mut self, action: A, steps: usize) -> bool {
        let mut task = self.t.task(&action).await.failing_at(steps);
        let _ = action.run(&mut task).await;
        let operation = task.report().record().id;
        self.t = self.t.next_life().await;
        recover::run(&self.t.host).await.unwrap();
        self.api = api(&self.t);
        let ended = self.t.host.store.operation(operation).await;
        ended.unwrap().unwrap().state == OperationState::Succeeded
    }

    /// All is as it was; what had crashed may be off, since nobody can crash it again.
    pub(super) async fn assert_as(&mut self, before: Snapshot, was: PowerState) {
        if was != PowerState::Crashed {
            assert_eq!(self.t.snapshot().await, before);
        }
    }

    /// What holds whenever nothing is at work.
    pub(super) async fn assert_sound(&mut self) {
        self.news().await;
        let power = self.power();
        assert!(
            !matches!(power, PowerState::NoState | PowerState::Unknown),
            "{power:?}"
        );
        assert_eq!(self.known.power, Some(power), "whoever heard all knows");
        let record = self.t.host.store.instance(self.id).unwrap();
        assert_eq!(record.state, InstanceState::Active);
        assert_eq!(self.t.host.store.unsettled().await.unwrap(), []);
        let told = self.instance().await;
        let same = crate::api::convert::power_state(power);
        assert_eq!(told.power_state(), same, "whoever asks knows");
        let guest = self.t.fake.snapshot()[&self.id].clone();
        let first = guest.domain.unwrap().disks[0].id.to_string();
        assert_eq!(told.rescued, first == "rescue");
        let disk = self.t.host.paths.instance(self.id).join("disk.rescue");
        assert_eq!(told.rescued, disk.is_file());
    }

    /// The instance goes, and nothing is left.
    pub(super) async fn ends(&self) {
        let asked = v1::DestroyRequest {
            instance_id: self.id.to_string(),
            ..Default::default()
        };
        let gone = self.api.destroy(Request::new(asked)).await.unwrap();
        read(gone).await.unwrap();
        assert_eq!(self.t.snapshot().await, self.empty);
    }

    fn device(&self) -> v1::BlockDevice {
        let target = v1::LocalTarget {
            path: self.volume.clone(),
        };
        let volume = v1::VolumeConnection {
            volume_id: uuid::Uuid::from_u128(7).to_string(),
            target: Some(v1::volume_connection::Target::Local(target)),
            ..Default::default()
        };
        v1::BlockDevice {
            disk_id: "volume".to_owned(),
            source: Some(v1::block_device::Source::Volume(volume)),
            ..Default::default()
        }
    }

    fn image(&self) -> v1::Image {
        let image = self.t.image();
        v1::Image {
            image_id: image.file.id,
            location: image.file.location,
            format: v1::DiskFormat::Raw.into(),
            ..Default::default()
        }
    }
}

/// Longer than any test waits.
fn patient() -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: 3600,
        nanos: 0,
    })
}

fn larger() -> v1::Flavor {
    v1::Flavor {
        vcpus: 2,
        memory_mib: 64,
        ..Default::default()
    }
}

fn vif() -> v1::Vif {
    v1::Vif {
        interface_id: "eth7".to_owned(),
        mac_address: "52:54:00:00:00:07".to_owned(),
        r#type: Some(v1::vif::Type::User(v1::UserVif {})),
        ..Default::default()
    }
}
