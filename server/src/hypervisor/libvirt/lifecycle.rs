//! libvirt's lifecycle events in the contract's words.

use virt::sys;

use crate::model::PowerState;

/// What a lifecycle event says of the guest's power, and why; none when nothing.
pub(super) fn meaning(event: u32, detail: u32) -> Option<(PowerState, &'static str)> {
    Some(match (event, detail) {
        (sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_BOOTED) => {
            (PowerState::Running, "booted")
        }
        (sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_MIGRATED) => {
            (PowerState::Running, "migrated")
        }
        (sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_RESTORED) => {
            (PowerState::Running, "restored")
        }
        (sys::VIR_DOMAIN_EVENT_STARTED, _) => (PowerState::Running, "started"),
        (sys::VIR_DOMAIN_EVENT_RESUMED, _) => (PowerState::Running, "unpaused"),
        // A Running guest on its way down: see the contract's table.
        (sys::VIR_DOMAIN_EVENT_SHUTDOWN, _) => (PowerState::Running, "shutting down"),
        (sys::VIR_DOMAIN_EVENT_SUSPENDED, sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR) => {
            (PowerState::Paused, "I/O error")
        }
        (sys::VIR_DOMAIN_EVENT_SUSPENDED, sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG) => {
            (PowerState::Paused, "watchdog")
        }
        (sys::VIR_DOMAIN_EVENT_SUSPENDED, _) => (PowerState::Paused, "paused"),
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_SAVED) => {
            (PowerState::Suspended, "saved")
        }
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN) => {
            (PowerState::Shutdown, "shutdown")
        }
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED) => {
            (PowerState::Shutdown, "destroyed")
        }
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED) => {
            (PowerState::Shutdown, "crashed")
        }
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED) => {
            (PowerState::Shutdown, "migrated")
        }
        (sys::VIR_DOMAIN_EVENT_STOPPED, sys::VIR_DOMAIN_EVENT_STOPPED_FAILED) => {
            (PowerState::Shutdown, "failed")
        }
        (sys::VIR_DOMAIN_EVENT_STOPPED, _) => (PowerState::Shutdown, "stopped"),
        (sys::VIR_DOMAIN_EVENT_PMSUSPENDED, _) => (PowerState::Suspended, "suspended"),
        (sys::VIR_DOMAIN_EVENT_CRASHED, _) => (PowerState::Crashed, "panicked"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_on_its_way_down_still_runs() {
        let meant = meaning(sys::VIR_DOMAIN_EVENT_SHUTDOWN, 0);
        assert_eq!(meant, Some((PowerState::Running, "shutting down")));
    }

    #[test]
    fn definitions_and_unknown_events_say_nothing_of_power() {
        for event in [
            sys::VIR_DOMAIN_EVENT_DEFINED,
            sys::VIR_DOMAIN_EVENT_UNDEFINED,
            99,
            u32::MAX,
        ] {
            assert_eq!(meaning(event, 0), None, "{event}");
        }
    }
}
