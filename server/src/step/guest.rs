//! The guest is defined, and started.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    domain::Domain,
    error::{Error, Result},
    host::Host,
    hypervisor::{HypervisorError, StartMode},
    model::{InstanceId, Phase},
    step::definition,
    task::{Cx, Step},
};

/// Writes the definition into the instance's folder, and gives it to the hypervisor.
#[derive(Debug, Serialize, Deserialize)]
pub struct DefineGuest {
    /// Whose.
    pub instance: InstanceId,
    /// The definition; not needed for the way back.
    #[serde(skip)]
    pub domain: Option<Domain>,
}

#[async_trait]
impl Step for DefineGuest {
    type Output = ();
    const NAME: &'static str = "define guest";
    const PHASE: Phase = Phase::Define;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let Some(domain) = &self.domain else {
            return Err(Error::internal("nothing to define"));
        };
        definition::write(cx.host, self.instance, &domain.to_xml())?;
        Ok(cx.host.hypervisor.define(domain).await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        Ok(host.hypervisor.undefine(self.instance).await?)
    }
}

/// libvirt looks for a free port for the screen, and QEMU takes it a moment later: another process may be faster.
const PORT_TAKEN: &str = "Address already in use";
/// What libvirt says instead when it was just talking to that QEMU as it went.
const WENT: &str = "domain is no longer running";
/// The race is lost once in a while, hardly ever so many times in a row.
const START_TRIES: u32 = 5;

/// Starts the guest.
#[derive(Debug, Serialize, Deserialize)]
pub struct StartGuest {
    /// Which one.
    pub instance: InstanceId,
    /// How; not needed for the way back.
    #[serde(skip)]
    pub mode: StartMode,
}

#[async_trait]
impl Step for StartGuest {
    type Output = ();
    const NAME: &'static str = "start guest";
    const PHASE: Phase = Phase::Start;

    async fn apply(&self, cx: Cx<'_>) -> Result<()> {
        let start = || cx.host.hypervisor.start(self.instance, self.mode);
        for _ in 1..START_TRIES {
            match start().await {
                Err(HypervisorError::Failed { message, .. })
                    if message.contains(PORT_TAKEN) || message.contains(WENT) =>
                {
                    tracing::debug!(instance = %self.instance, message, "the emulator went as it began");
                }
                ended => return Ok(ended?),
            }
        }
        Ok(start().await?)
    }

    async fn revert(&self, host: &Host) -> Result<()> {
        Ok(host.hypervisor.destroy(self.instance).await?)
    }
}
