//! Destroy: nothing of the instance is left.
//!
//! It only goes forward: what is removed cannot be brought back, so a failure leaves the rest as it is, the instance
//! listed, and the call may be repeated; a crash is finished at the next start. The guest goes first: as long as it may
//! still run, nothing beneath it is touched.

use async_trait::async_trait;

use crate::{
    action::Action,
    error::Result,
    host::Host,
    hypervisor::HypervisorError,
    model::{EventKind, InstanceId, InstanceRecord, InstanceState, Phase, Verb},
    step::vifs,
    task::Task,
};

/// Removes an instance.
#[derive(Clone, Copy, Debug)]
pub struct Destroy {
    /// Which one.
    pub instance: InstanceId,
}

#[async_trait]
impl Action for Destroy {
    const VERB: Verb = Verb::Destroy;

    fn instance(&self) -> Option<InstanceId> {
        Some(self.instance)
    }

    fn admit(&self, _host: &Host) -> Result<()> {
        Ok(())
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        let (host, report, id) = (task.host().clone(), task.report().clone(), self.instance);
        let Some(record) = host.store.instance(id) else {
            let absent = stranger(&host, id).await?;
            return task.answer(&absent);
        };
        task.answer(&false)?;
        if record.state != InstanceState::Deleting {
            let deleting = InstanceRecord {
                state: InstanceState::Deleting,
                ..(*record).clone()
            };
            host.store.put_instance(deleting).await?;
        }
        report.begin(Phase::Stop, "stopping the guest");
        host.hypervisor
            .destroy(id)
            .await
            .map_err(|e| crate::error::Error::from(e).in_phase(Phase::Stop))?;
        report.end(Phase::Stop);
        report.begin(Phase::Undefine, "undefining the domain");
        host.hypervisor
            .undefine(id)
            .await
            .map_err(|e| crate::error::Error::from(e).in_phase(Phase::Undefine))?;
        report.end(Phase::Undefine);
        host.drop_all_secrets(&record).await;
        report.begin(Phase::UnplugVifs, "unplugging interfaces");
        for vif in &record.spec.vifs {
            host.vifs
                .unplug(id, vif)
                .await
                .map_err(|e| crate::error::Error::from(e).in_phase(Phase::UnplugVifs))?;
            vifs::tell(&host, EventKind::VifUnplugged, (id, vif)).await;
        }
        report.end(Phase::UnplugVifs);
        report.begin(Phase::DeleteDisks, "removing disks");
        host.remove_instance_folder(id)
            .await
            .map_err(|e| e.in_phase(Phase::DeleteDisks))?;
        report.end(Phase::DeleteDisks);
        host.store.strike_steps(id).await?;
        // Of an instance that is gone, nothing more is told.
        host.journal.flush().await;
        // The row goes first: what is written down is always claimed and pinned.
        host.store.remove_instance(id).await?;
        host.images.unpin(id);
        host.claims.release(id);
        host.hypervisor.forget(id);
        Ok(())
    }
}

/// Removes a guest of ours that the store does not know, as after the store was lost. Answers whether there was none.
async fn stranger(host: &Host, id: InstanceId) -> Result<bool> {
    match host.hypervisor.info(id).await {
        Err(HypervisorError::NotFound(_)) => return Ok(true),
        Err(e) => return Err(e.into()),
        Ok(_) => {}
    }
    host.hypervisor.destroy(id).await?;
    host.hypervisor.undefine(id).await?;
    host.forget_secrets(id).await?;
    host.remove_instance_folder(id).await?;
    Ok(false)
}
