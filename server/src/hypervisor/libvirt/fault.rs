//! libvirt's error numbers in our words.

use std::time::Duration;

use virt::error::{Error as VirtError, ErrorDomain, ErrorNumber};

use crate::{hypervisor::HypervisorError, model::InstanceId};

/// libvirt's own wait for a guest's job lock.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// What libvirt says to a thread that wants a secret and has no identity.
const NOBODY: &str = "No current identity";

/// QEMU's words about a disk of a guest that was restored paused and has not run since.
const INACTIVE: &str = "Could not create node: Inactive '";

/// Why a closure on a worker did not do it.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// libvirt said so.
    Libvirt(VirtError),
    /// We did.
    Ours(HypervisorError),
}

impl From<VirtError> for Fault {
    fn from(e: VirtError) -> Self {
        Self::Libvirt(e)
    }
}

impl From<HypervisorError> for Fault {
    fn from(e: HypervisorError) -> Self {
        Self::Ours(e)
    }
}

impl Fault {
    /// No connection could be opened: that is never the guest's fault, whatever the number.
    pub(super) fn unreachable(e: &VirtError) -> Self {
        Self::Ours(HypervisorError::Unavailable {
            reason: e.message().to_owned(),
        })
    }

    /// Whether libvirt gave this number.
    pub(super) fn is(&self, number: ErrorNumber) -> bool {
        match self {
            Self::Libvirt(e) => e.code().is_known_and(|known| known == number),
            Self::Ours(_) => false,
        }
    }

    /// Whether libvirt's words hold these.
    pub(super) fn says(&self, words: &str) -> bool {
        match self {
            Self::Libvirt(e) => e.message().contains(words),
            Self::Ours(_) => false,
        }
    }

    /// Whether it was the connection that failed, not the call.
    pub(super) fn is_loss(&self) -> bool {
        match self {
            Self::Libvirt(e) => is_loss(e),
            Self::Ours(e) => matches!(e, HypervisorError::Unavailable { .. }),
        }
    }

    /// The error of `call`, which was about `guest`, in libvirt's full words: they name paths of the host.
    pub(super) fn into_error(
        self,
        call: &'static str,
        guest: Option<InstanceId>,
    ) -> HypervisorError {
        match self {
            Self::Ours(e) => e,
            Self::Libvirt(e) => translate(&e, call, guest),
        }
    }
}

fn is_loss(e: &VirtError) -> bool {
    let number = e.code();
    let origin = e.domain();
    // These two speak of the client's own end: what the other side says keeps that side's domain.
    let transport = origin.is_known_and(|d| matches!(d, ErrorDomain::Rpc | ErrorDomain::Remote));
    let broken = number.is_known_and(|n| {
        matches!(
            n,
            ErrorNumber::InternalError
                | ErrorNumber::SystemError
                | ErrorNumber::Rpc
                | ErrorNumber::NoServer
        )
    });
    let without =
        number.is_known_and(|n| matches!(n, ErrorNumber::NoConnect | ErrorNumber::InvalidConn));
    without || (transport && broken)
}

fn translate(e: &VirtError, call: &'static str, guest: Option<InstanceId>) -> HypervisorError {
    let message = e.message().to_owned();
    if is_loss(e) {
        return HypervisorError::Unavailable { reason: message };
    }
    if message.contains(NOBODY) {
        let message = "libvirt gives this process no secret of a volume".to_owned();
        return HypervisorError::Unsupported { message };
    }
    if let Some(guest) = guest.filter(|_| message.contains(INACTIVE)) {
        let message = "the guest was restored paused, and its disks are not in use before it has run: unpause it first";
        let message = message.to_owned();
        return HypervisorError::State { guest, message };
    }
    // Numbers that are newer than this program's list are failures like any other.
    let number = e.code().unwrap_or(ErrorNumber::InternalError);
    match (number, guest) {
        (ErrorNumber::NoDomain, Some(id)) => HypervisorError::NotFound(id),
        (ErrorNumber::DomExist, Some(id)) => HypervisorError::Foreign(id),
        (ErrorNumber::OperationInvalid, Some(guest)) => HypervisorError::State { guest, message },
        (
            ErrorNumber::AgentUnresponsive
            | ErrorNumber::AgentUnsynced
            | ErrorNumber::AgentCommandTimeout,
            Some(id),
        ) => HypervisorError::Agent(id),
        (ErrorNumber::OperationTimeout, _) => HypervisorError::Timeout {
            call,
            limit: LOCK_WAIT,
        },
        (
            ErrorNumber::NoSupport
            | ErrorNumber::OperationUnsupported
            | ErrorNumber::ConfigUnsupported
            | ErrorNumber::ArgumentUnsupported,
            _,
        ) => HypervisorError::Unsupported { message },
        _ => HypervisorError::Failed {
            call,
            message,
            code: i32::try_from(e.code().to_raw()).unwrap_or(i32::MAX),
            domain: i32::try_from(e.domain().to_raw()).unwrap_or(i32::MAX),
        },
    }
}
