//! Resize: another size on the same host. A root disk grows under a running guest; anything else takes a power cycle.

use async_trait::async_trait;

use super::{
    Action, devices,
    power_off::ends,
    power_on::boots,
    standing::{Standing, admitted, refused},
};
use crate::{
    error::{Details, Error, Kind, Result, Violation},
    host::{Claim, Host},
    hypervisor::StartMode,
    model::{Bytes, Flavor, InstanceId, InstanceRecord, Limits, PowerState, Verb, Wanted},
    plan::DiskRole,
    step::{ChangeClaim, GrowDisk, plan_of},
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
    restart: bool,
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
        let on = matches!(standing.power, PowerState::Running | PowerState::Paused);
        let same = (old.vcpus, old.memory, &old.extra_specs)
            == (
                self.flavor.vcpus,
                self.flavor.memory,
                &self.flavor.extra_specs,
            );
        let restart = on && !same;
        if restart && !self.may_restart {
            let message = "only a root disk can grow while the guest runs; processors, memory and extra specs need a restart, which the request does not allow";
            return Err(Error::new(Kind::Precondition, "NOT_SUPPORTED", message)
                .with("instance_id", self.instance));
        }
        if restart && standing.power == PowerState::Paused {
            let next = "unpause it first";
            return Err(refused(Verb::Resize, self.instance, standing.power, next));
        }
        let grow = (wanted > root).then(|| plan.disks.iter().find(|d| d.role == DiskRole::Root));
        let grow = grow.flatten().map(|disk| GrowDisk {
            instance: self.instance,
            file_name: disk.file_name.clone(),
            format: disk.format,
            target: (on && !restart).then(|| disk.target.clone()),
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
            restart,
        })
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
        if change.restart {
            ends(task, instance, standing.power).await?;
        }
        if let Some(grow) = change.grow {
            task.run(grow).await?;
        }
        if change.restart {
            boots(task, &change.after, StartMode::Running).await?;
            task.keep(change.after.started(Wanted::Running));
        } else {
            task.keep(change.after);
        }
        Ok(())
    }
}
