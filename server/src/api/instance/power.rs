//! Calls that start and stop guests.

use std::time::Duration;

use computedriver::v1;
use tonic::Request;

use super::super::{
    Api,
    convert::Faults,
    status::status,
    work::{Reply, Streamed},
};
use crate::{
    action::{
        Patience, Pause, PowerOff, PowerOn, PoweredOff, Reboot, Resume, Suspend, TriggerCrashDump,
        Unpause,
    },
    error::{Error, Result},
    model::{InstanceId, OperationRecord},
};

/// How long a guest may be asked.
const TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);
/// How often it is asked again unless said otherwise.
const RETRY: Duration = Duration::from_secs(10);
/// How long a soft restart asks unless said otherwise.
const SOFT: Duration = Duration::from_secs(120);

/// How a guest is asked to switch itself off; none is not asked.
fn patience(faults: &mut Faults, request: &mut v1::PowerOffRequest) -> Option<Option<Patience>> {
    let timeout = faults.time("timeout", request.timeout, TIMEOUT);
    let often = Duration::from_secs(1)..=*TIMEOUT.end();
    let retry = faults.time("retry_interval", request.retry_interval, often);
    if request.timeout.is_none() && request.retry_interval.is_some() {
        faults.wrong("retry_interval", "goes with timeout only");
    }
    Some(timeout?.map(|timeout| Patience {
        timeout,
        retry_interval: retry.flatten().unwrap_or(RETRY),
    }))
}

/// How a guest is asked to go for a restart; none is not asked.
fn restart(faults: &mut Faults, request: &mut v1::RebootRequest) -> Option<Option<Patience>> {
    let timeout = faults.time("timeout", request.timeout, TIMEOUT);
    match request.kind() {
        v1::RebootKind::Unspecified => {
            faults.wrong("kind", "must be one of the kinds by name");
            None
        }
        v1::RebootKind::Hard => {
            if request.timeout.is_some() {
                faults.wrong("timeout", "goes with SOFT only");
            }
            Some(None)
        }
        v1::RebootKind::Soft => Some(Some(Patience {
            timeout: timeout?.unwrap_or(SOFT),
            retry_interval: RETRY,
        })),
    }
}

impl Api {
    pub(super) async fn do_reboot(
        &self,
        request: Request<v1::RebootRequest>,
    ) -> Streamed<v1::RebootResponse> {
        let read = self.asked(request, restart);
        let (asked, patience) = read.map_err(|e| status(&e))?;
        let instance = asked.id;
        let action = Reboot { instance, patience };
        self.told(asked, action, Self::changed).await
    }

    pub(super) async fn do_suspend(
        &self,
        request: Request<v1::SuspendRequest>,
    ) -> Streamed<v1::SuspendResponse> {
        let (asked, ()) = self.asked(request, nothing_more).map_err(|e| status(&e))?;
        let instance = asked.id;
        self.told(asked, Suspend { instance }, Self::changed).await
    }

    pub(super) async fn do_resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Streamed<v1::ResumeResponse> {
        let (asked, ()) = self.asked(request, nothing_more).map_err(|e| status(&e))?;
        let instance = asked.id;
        self.told(asked, Resume { instance }, Self::changed).await
    }

    pub(super) async fn do_trigger_crash_dump(
        &self,
        request: Request<v1::TriggerCrashDumpRequest>,
    ) -> Reply<v1::TriggerCrashDumpResponse> {
        let (asked, ()) = self.asked(request, nothing_more).map_err(|e| status(&e))?;
        let instance = asked.id;
        self.done(asked, TriggerCrashDump { instance }).await?;
        Ok(v1::TriggerCrashDumpResponse {}.into())
    }

    /// The instance as a change has left it.
    pub(super) async fn changed(self, ended: OperationRecord) -> Result<v1::Instance> {
        self.instance(ended.about()?).await
    }

    pub(super) async fn do_power_off(
        &self,
        request: Request<v1::PowerOffRequest>,
    ) -> Streamed<v1::PowerOffResponse> {
        let read = self.asked(request, patience);
        let (asked, patience) = read.map_err(|e| status(&e))?;
        let instance = asked.id;
        let action = PowerOff { instance, patience };
        self.told(asked, action, Self::powered_off).await
    }

    async fn powered_off(self, ended: OperationRecord) -> Result<v1::PoweredOff> {
        let PoweredOff { forced } = ended.answer()?;
        let info = Some(self.short(ended.about()?).await?);
        Ok(v1::PoweredOff { info, forced })
    }

    pub(super) async fn do_power_on(
        &self,
        request: Request<v1::PowerOnRequest>,
    ) -> Reply<v1::PowerOnResponse> {
        let (asked, ()) = self.asked(request, nothing_more).map_err(|e| status(&e))?;
        let instance = asked.id;
        self.done(asked, PowerOn { instance }).await?;
        let info = Some(self.short(instance).await.map_err(|e| status(&e))?);
        Ok(v1::PowerOnResponse { info }.into())
    }

    pub(super) async fn do_pause(
        &self,
        request: Request<v1::PauseRequest>,
    ) -> Reply<v1::PauseResponse> {
        let (asked, ()) = self.asked(request, nothing_more).map_err(|e| status(&e))?;
        let instance = asked.id;
        self.done(asked, Pause { instance }).await?;
        let info = Some(self.short(instance).await.map_err(|e| status(&e))?);
        Ok(v1::PauseResponse { info }.into())
    }

    pub(super) async fn do_unpause(
        &self,
        request: Request<v1::UnpauseRequest>,
    ) -> Reply<v1::UnpauseResponse> {
        let (asked, ()) = self.asked(request, nothing_more).map_err(|e| status(&e))?;
        let instance = asked.id;
        self.done(asked, Unpause { instance }).await?;
        let info = Some(self.short(instance).await.map_err(|e| status(&e))?);
        Ok(v1::UnpauseResponse { info }.into())
    }

    /// The short view of an instance.
    async fn short(&self, id: InstanceId) -> Result<v1::InstanceInfo, Error> {
        let record = self
            .host
            .store
            .instance(id)
            .ok_or_else(|| super::not_found(id))?;
        let guest = self.guest(&record).await?;
        Ok(self.info(&record, guest))
    }
}

/// A request that says nothing but which instance.
#[allow(clippy::unnecessary_wraps, reason = "as every other reader of fields")]
pub(super) fn nothing_more<R>(_: &mut Faults, _: &mut R) -> Option<()> {
    Some(())
}
