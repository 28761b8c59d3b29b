//! libvirt's lifecycle events in the contract's words.

use virt::sys;

use crate::{
    hypervisor::signals::Change,
    model::{
        EventKind,
        PowerState::{self, Crashed, Paused, Running, Shutdown, Suspended},
    },
};

/// The emulator was told to end, by somebody on the host.
const TERMINATED: &str = "terminated";

/// What a lifecycle event says of the guest, and why; none when nothing of its power.
pub(super) fn meaning(event: u32, detail: u32) -> Option<Change> {
    let (kind, power, word) = match event {
        sys::VIR_DOMAIN_EVENT_STARTED => started(detail),
        sys::VIR_DOMAIN_EVENT_RESUMED => resumed(detail),
        sys::VIR_DOMAIN_EVENT_SUSPENDED => suspended(detail),
        sys::VIR_DOMAIN_EVENT_STOPPED => stopped(detail),
        // A Running guest on its way down: see the contract's table.
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => match detail {
            sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST => (EventKind::ShuttingDown, Running, TERMINATED),
            _ => (EventKind::ShuttingDown, Running, "shutting down"),
        },
        sys::VIR_DOMAIN_EVENT_PMSUSPENDED => (EventKind::Suspended, Suspended, "suspended"),
        sys::VIR_DOMAIN_EVENT_CRASHED => match detail {
            // It has loaded its crash kernel, and goes on with that.
            sys::VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED => {
                (EventKind::GuestPanicked, Running, "crash loaded")
            }
            _ => (EventKind::GuestPanicked, Crashed, "panicked"),
        },
        _ => return None,
    };
    Some(Change::new(kind, power, word))
}

/// The same, of a guest of which that word was told last: libvirt says of one whose emulator was told to end, as when the
/// host goes down, that it switched itself off.
pub(super) fn following(last: Option<&'static str>, change: Change) -> Change {
    match change.word {
        "shutdown" if last == Some(TERMINATED) => Change {
            word: TERMINATED,
            ..change
        },
        _ => change,
    }
}

type Words = (EventKind, PowerState, &'static str);

fn started(detail: u32) -> Words {
    match detail {
        sys::VIR_DOMAIN_EVENT_STARTED_BOOTED => (EventKind::Started, Running, "booted"),
        // It comes from another host, and runs here once it has come.
        sys::VIR_DOMAIN_EVENT_STARTED_MIGRATED => {
            (EventKind::MigrationStarted, Running, "migrated")
        }
        sys::VIR_DOMAIN_EVENT_STARTED_RESTORED => (EventKind::Started, Running, "restored"),
        sys::VIR_DOMAIN_EVENT_STARTED_WAKEUP => (EventKind::Resumed, Running, "woken"),
        _ => (EventKind::Started, Running, "started"),
    }
}

fn resumed(detail: u32) -> Words {
    match detail {
        sys::VIR_DOMAIN_EVENT_RESUMED_MIGRATED => (EventKind::Migrated, Running, "migrated"),
        sys::VIR_DOMAIN_EVENT_RESUMED_POSTCOPY => {
            (EventKind::MigrationPostcopy, Running, "postcopy")
        }
        sys::VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED => {
            (EventKind::MigrationFailed, Running, "postcopy failed")
        }
        _ => (EventKind::Resumed, Running, "unpaused"),
    }
}

fn suspended(detail: u32) -> Words {
    match detail {
        sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => (EventKind::Paused, Paused, "io error"),
        sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => (EventKind::Paused, Paused, "watchdog"),
        sys::VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED => (EventKind::Paused, Paused, "migrated"),
        sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY => {
            (EventKind::MigrationPostcopy, Paused, "postcopy")
        }
        sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED => {
            (EventKind::MigrationFailed, Paused, "postcopy failed")
        }
        _ => (EventKind::Paused, Paused, "paused"),
    }
}

fn stopped(detail: u32) -> Words {
    match detail {
        sys::VIR_DOMAIN_EVENT_STOPPED_SAVED => (EventKind::Suspended, Suspended, "saved"),
        sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => (EventKind::Stopped, Shutdown, "shutdown"),
        sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => (EventKind::Stopped, Shutdown, "destroyed"),
        sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => (EventKind::Crashed, Shutdown, "crashed"),
        sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED => (EventKind::Migrated, Shutdown, "migrated"),
        sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => (EventKind::Crashed, Shutdown, "failed"),
        _ => (EventKind::Stopped, Shutdown, "stopped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_on_its_way_down_still_runs() {
        let meant = meaning(sys::VIR_DOMAIN_EVENT_SHUTDOWN, 0);
        let meant = meant.map(|change| (change.power, change.word));
        assert_eq!(meant, Some((Running, "shutting down")));
    }

    #[test]
    fn a_guest_whose_emulator_was_told_to_end_did_not_switch_itself_off() {
        let stopped = sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN;
        let stopped = meaning(sys::VIR_DOMAIN_EVENT_STOPPED, stopped).unwrap();
        for (by, word) in [
            (sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST, "terminated"),
            (sys::VIR_DOMAIN_EVENT_SHUTDOWN_GUEST, "shutdown"),
            (sys::VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED, "shutdown"),
        ] {
            let down = meaning(sys::VIR_DOMAIN_EVENT_SHUTDOWN, by).unwrap();
            assert_eq!(following(Some(down.word), stopped).word, word);
        }
        assert_eq!(following(None, stopped).word, "shutdown");
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
