//! Resize: another size on the same host. Under a running guest a root disk grows, and processors and memory come up to
//! the most that its flavor says; anything else takes a power cycle.

use async_trait::async_trait;

use super::{
    Action, devices,
    power_off::ends,
    power_on::boots,
    standing::{Standing, admitted, refused},
};
use crate::{
    domain::{Device, Domain, MemoryModule},
    error::{Details, Error, Kind, Result, Violation},
    host::{Claim, Host},
    hypervisor::StartMode,
    model::{
        Bytes, Flavor, InstanceId, InstanceRecord, Limits, MEMORY_MODULE, PowerState, Verb, Wanted,
    },
    plan::{DiskRole, Plan},
    step::{AttachDevice, ChangeClaim, GrowDisk, PlugVcpus, RedefineGuest, plan_of},
    task::Task,
};

/// Gives an instance another size.
#[derive(Clone, Debug)]
pub struct Resize {
    /// Whose.
    pub instance: InstanceId,
    /// The new size.
    pub flavor: Flavor,
    /// Whether its guest may be restarted.
    pub may_restart: bool,
    /// Upper bounds in place of the host's ratios.
    pub limits: Limits,
}

/// What a resize does, decided before anything is touched.
#[derive(Debug)]
struct Change {
    after: InstanceRecord,
    claims: (Claim, Claim),
    grow: Option<GrowDisk>,
    way: Way,
}

/// How a guest comes to have other processors and more memory.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// It is off, or has what it needs: the next start does it.
    Later,
    /// It is given them while it runs.
    Live(Box<Domain>),
    /// It is started anew.
    Restart,
}

impl Resize {
    /// Whether it could begin now; changes nothing.
    ///
    /// # Errors
    /// Whatever stands in its way.
    pub async fn check(&self, host: &Host) -> Result<()> {
        let standing = admitted(host, Verb::Resize, self.instance).await?;
        let change = self.change(host, &standing).await?;
        Ok(host
            .claims
            .check(self.instance, change.claims.1, &self.limits)?)
    }

    async fn change(&self, host: &Host, standing: &Standing) -> Result<Change> {
        let before = &standing.record;
        let old = &before.spec.flavor;
        let root = before.root.or(old.root).unwrap_or_default();
        let wanted = self.flavor.root.unwrap_or(root);
        let on_volume = before.spec.root_volume().is_some();
        if on_volume && self.flavor.root.is_some() {
            let why = "must be 0: the root disk is a volume, whose storage service makes it larger, and ExtendVolume tells the guest";
            return Err(devices::invalid("flavor.root_gib", why.to_owned()));
        }
        self.refuse(old, (root, wanted))?;
        let mut after = (**before).clone();
        after.spec.flavor = self.flavor.clone();
        after.spec.limits = self.limits.clone();
        after.root = Some(wanted).filter(|_| !on_volume);
        let plan = plan_of(host, &after).await?;
        let way = self.way(host, standing, (&after, &plan)).await?;
        let live = devices::is_on(standing.power) && way != Way::Restart;
        let grow = (wanted > root).then(|| plan.disks.iter().find(|d| d.role == DiskRole::Root));
        let grow = grow.flatten().map(|disk| GrowDisk {
            instance: self.instance,
            file_name: disk.file_name.clone(),
            format: disk.format,
            target: live.then(|| disk.target.clone()),
            from: root,
            to: wanted,
        });
        let claims = (
            Claim::of(&before.spec, root),
            Claim::of(&after.spec, wanted),
        );
        Ok(Change {
            after,
            claims,
            grow,
            way,
        })
    }

    async fn way(
        &self,
        host: &Host,
        standing: &Standing,
        (after, plan): (&InstanceRecord, &Plan),
    ) -> Result<Way> {
        let (old, new) = (&standing.record.spec.flavor, &self.flavor);
        let machine = |flavor: &Flavor| {
            let most = (flavor.most_vcpus(), flavor.most_memory());
            (flavor.vcpus, flavor.memory, most)
        };
        let same = machine(old) == machine(new) && old.extra_specs == new.extra_specs;
        if !devices::is_on(standing.power) || same {
            return Ok(Way::Later);
        }
        let Some(why) = not_live(old, new) else {
            let domain = devices::domain(host, after, plan).await?;
            return Ok(Way::Live(Box::new(domain)));
        };
        if !self.may_restart {
            let message = format!("{why} needs a restart, which the request does not allow");
            return Err(Error::new(Kind::Precondition, "NOT_SUPPORTED", message)
                .with("instance_id", self.instance));
        }
        if standing.power == PowerState::Paused {
            let next = "unpause it first";
            return Err(refused(
                Verb::Resize,
                &standing.record,
                standing.power,
                next,
            ));
        }
        Ok(Way::Restart)
    }

    /// Gives a running guest what it is to have more: the definition first, and last what it may not let go of again.
    async fn plug(&self, task: &mut Task, old: &Flavor, domain: Domain) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        task.run(RedefineGuest::new(&host, domain)).await?;
        let (from, to) = (old.vcpus, self.flavor.vcpus);
        if to > from {
            task.run(PlugVcpus { instance, from, to }).await?;
        }
        let (from, to) = (old.memory, self.flavor.memory);
        if to > from {
            let device = Device::Memory(MemoryModule { from, to });
            let attach = AttachDevice {
                instance,
                device,
                record: None,
            };
            task.run(attach).await?;
        }
        Ok(())
    }

    /// What no resize on the same host can do.
    fn refuse(&self, old: &Flavor, (root, wanted): (Bytes, Bytes)) -> Result<()> {
        if wanted < root {
            let message = format!("a root disk of {root} cannot shrink to {wanted}");
            let e = Error::new(Kind::Precondition, "FLAVOR_DISK_TOO_SMALL", message);
            return Err(e.with("root", root).with("wanted", wanted));
        }
        let fixed = [
            ("flavor.ephemeral_gib", old.ephemeral, self.flavor.ephemeral),
            ("flavor.swap_mib", old.swap, self.flavor.swap),
        ];
        let changed = fixed.into_iter().filter(|(_, old, new)| old != new);
        let violations: Vec<_> = changed
            .map(|(field, ..)| Violation {
                field: field.to_owned(),
                description: "cannot change on this host; it must be as it is".to_owned(),
            })
            .collect();
        if violations.is_empty() {
            return Ok(());
        }
        let message = "ephemeral and swap disks keep their size";
        let e = Error::new(Kind::Precondition, "NOT_SUPPORTED", message);
        Err(e.detailed(Details {
            violations,
            ..Details::default()
        }))
    }
}

#[async_trait]
impl Action for Resize {
    const VERB: Verb = Verb::Resize;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, instance) = (task.host().clone(), self.instance);
        let standing = admitted(&host, Self::VERB, instance).await?;
        if standing.record.spec.flavor == self.flavor {
            return Ok(());
        }
        let change = self.change(&host, &standing).await?;
        let (before, after) = change.claims;
        task.run(ChangeClaim {
            instance,
            before,
            after,
            limits: self.limits.clone(),
        })
        .await?;
        if change.way == Way::Restart {
            ends(task, instance, standing.power).await?;
        }
        if let Some(grow) = change.grow {
            task.run(grow).await?;
        }
        match change.way {
            Way::Later => task.keep(change.after),
            Way::Live(domain) => {
                let old = &standing.record.spec.flavor;
                self.plug(task, old, *domain).await?;
                task.keep(change.after);
            }
            Way::Restart => {
                let after = boots(task, &change.after, StartMode::Running).await?;
                task.keep(after.started(Wanted::Running));
            }
        }
        Ok(())
    }
}

/// What of a change a running guest cannot be given; none when all of it can.
fn not_live(old: &Flavor, new: &Flavor) -> Option<&'static str> {
    let more = new.memory.0.checked_sub(old.memory.0);
    if old.extra_specs != new.extra_specs {
        return Some("other extra specs");
    }
    if new.vcpus < old.vcpus || more.is_none() {
        return Some("taking away processors or memory");
    }
    if new.vcpus > old.most_vcpus() || new.memory > old.most_memory() {
        return Some("having more than its present max_vcpus or max_memory_mib");
    }
    if (new.most_vcpus(), new.most_memory()) != (old.most_vcpus(), old.most_memory()) {
        return Some("another max_vcpus or max_memory_mib");
    }
    let whole = more.is_some_and(|more| more % MEMORY_MODULE.0 == 0);
    (!whole).then_some("memory in other steps than 128 MiB")
}
