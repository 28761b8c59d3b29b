//! Which verb may begin in which state: one table for all.

use crate::model::{
    PowerState::{self, Crashed, NoState, Paused, Running, Shutdown, Suspended, Unknown},
    Verb,
};

/// What the table says of a verb and a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may begin.
    Go,
    /// What it would do is so already: a success that changes nothing.
    Already,
    /// It may not; what the caller does first.
    Refused(&'static str),
}

use Admission::{Already, Go, Refused};

const POWER_ON: &str = "power it on first";
const UNPAUSE: &str = "unpause it first";
const RESUME: &str = "resume it first";
const REBOOT: &str = "reboot it hard, or power it off";
const UNRESCUE: &str = "unrescue it first";
const WAIT: &str = "try again when the hypervisor answers";

/// What may be done with a guest that should run and does not.
fn must_run(power: PowerState) -> Admission {
    match power {
        Running => Go,
        Paused => Refused(UNPAUSE),
        Suspended => Refused(RESUME),
        Crashed => Refused(REBOOT),
        Shutdown | NoState => Refused(POWER_ON),
        Unknown => Refused(WAIT),
    }
}

/// Changes that need QEMU, or nothing but the definition.
fn on_or_off(power: PowerState) -> Admission {
    match power {
        Running | Paused | Shutdown | NoState => Go,
        other => must_run(other),
    }
}

/// Whether `verb` may begin on an instance whose guest is in that power state.
///
/// `Unknown` is refused for whatever needs the hypervisor: unreachable is never read as off.
pub fn admit(verb: Verb, power: PowerState, rescued: bool) -> Admission {
    if rescued && !goes_with_rescue(verb) {
        return Refused(UNRESCUE);
    }
    match (verb, power) {
        (Verb::Spawn | Verb::Destroy, _) => Go,
        (Verb::PullImage | Verb::RemoveImage | Verb::PruneImages, _) => Go,
        (_, Unknown) => Refused(WAIT),
        (Verb::Unrescue, _) if !rescued => Already,
        (Verb::Rescue, _) if rescued => Already,
        (Verb::Rescue | Verb::Rebuild, Suspended) => Refused(RESUME),
        (Verb::Unrescue | Verb::Rescue | Verb::Rebuild | Verb::Snapshot, _) => Go,
        (Verb::Pause, Paused)
        | (Verb::Unpause | Verb::PowerOn | Verb::Resume, Running)
        | (Verb::PowerOff, Shutdown | NoState)
        | (Verb::Suspend, Suspended) => Already,
        (Verb::Unquiesce, power) if power != Running => Already,
        (Verb::PowerOff, _)
        | (Verb::PowerOn, Shutdown | NoState)
        | (Verb::Unpause, Paused)
        | (Verb::Resume, Suspended)
        | (Verb::Suspend | Verb::TriggerCrashDump | Verb::SwapVolume, Running | Paused) => Go,
        (Verb::Resume, Paused) => Refused(UNPAUSE),
        (Verb::Reboot, Suspended) => Refused(RESUME),
        (Verb::Reboot, _) => Go,
        (
            Verb::Resize
            | Verb::AttachVolume
            | Verb::DetachVolume
            | Verb::ExtendVolume
            | Verb::AttachInterface
            | Verb::DetachInterface
            | Verb::CreateVolumeSnapshot
            | Verb::DeleteVolumeSnapshot,
            power,
        ) => on_or_off(power),
        (_, power) => must_run(power),
    }
}

/// A rescued instance has another disk first than its own: what would change its devices waits until it has them back.
fn goes_with_rescue(verb: Verb) -> bool {
    !matches!(
        verb,
        Verb::Snapshot
            | Verb::Resize
            | Verb::Rebuild
            | Verb::Suspend
            | Verb::AttachVolume
            | Verb::DetachVolume
            | Verb::SwapVolume
            | Verb::ExtendVolume
            | Verb::AttachInterface
            | Verb::DetachInterface
            | Verb::CreateVolumeSnapshot
            | Verb::DeleteVolumeSnapshot
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const POWERS: [PowerState; 7] = [
        NoState, Running, Paused, Shutdown, Crashed, Suspended, Unknown,
    ];

    /// The state that a verb is there to reach, when it has one.
    fn aim(verb: Verb) -> Option<PowerState> {
        match verb {
            Verb::Pause => Some(Paused),
            Verb::Unpause | Verb::PowerOn | Verb::Resume => Some(Running),
            Verb::PowerOff => Some(Shutdown),
            Verb::Suspend => Some(Suspended),
            _ => None,
        }
    }

    #[test]
    fn what_is_already_so_succeeds() {
        for verb in Verb::ALL {
            if let Some(aim) = aim(*verb) {
                assert_eq!(admit(*verb, aim, false), Already, "{verb:?}");
            }
        }
        assert_eq!(admit(Verb::Rescue, Running, true), Already);
        assert_eq!(admit(Verb::Unrescue, Running, false), Already);
    }

    #[test]
    fn every_verb_may_begin_in_some_state_and_from_there_only() {
        for verb in Verb::ALL {
            let states = POWERS.iter().flat_map(|p| [(*p, false), (*p, true)]);
            let going = states.filter(|(p, rescued)| admit(*verb, *p, *rescued) == Go);
            assert!(going.count() > 0, "{verb:?} can never begin");
        }
    }

    #[test]
    fn nothing_is_said_to_be_so_of_a_guest_that_cannot_be_asked() {
        for verb in Verb::ALL {
            for rescued in [false, true] {
                let said = admit(*verb, Unknown, rescued);
                let free = matches!(
                    verb,
                    Verb::Spawn
                        | Verb::Destroy
                        | Verb::PullImage
                        | Verb::RemoveImage
                        | Verb::PruneImages
                );
                assert!(
                    if free {
                        said == Go
                    } else {
                        matches!(said, Refused(_))
                    },
                    "{verb:?}"
                );
            }
        }
    }

    #[test]
    fn whoever_is_refused_can_do_what_he_is_told() {
        let moves = [
            (POWER_ON, Verb::PowerOn),
            (UNPAUSE, Verb::Unpause),
            (RESUME, Verb::Resume),
            (REBOOT, Verb::Reboot),
            (UNRESCUE, Verb::Unrescue),
        ];
        for (verb, power) in Verb::ALL.iter().flat_map(|v| POWERS.map(|p| (*v, p))) {
            for rescued in [false, true] {
                let Refused(words) = admit(verb, power, rescued) else {
                    continue;
                };
                if words == WAIT {
                    assert_eq!(power, Unknown, "{verb:?}");
                } else if power != Unknown {
                    let next = moves.iter().find(|(known, _)| *known == words).unwrap().1;
                    assert_eq!(
                        admit(next, power, rescued),
                        Go,
                        "{verb:?} {power:?}: {words}"
                    );
                }
            }
        }
    }
}
