//! What the hypervisor's news mean to whoever has seen all events so far. Pure.

use crate::{
    model::{Event, EventKind, InstanceId, PowerState, Standing, Verb},
    store::Subject,
};

/// The reason of whatever was read, not heard.
const OBSERVED: &str = "observed";

/// One thing to be written down.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    /// It happened.
    Event(Event),
    /// A guest stands like this; none where that could not be read.
    Observed(InstanceId, PowerState, Option<bool>),
}

impl Subject for Heard {
    fn subject(&self) -> Option<InstanceId> {
        match self {
            Self::Event(event) => event.instance,
            Self::Observed(guest, ..) => Some(*guest),
        }
    }
}

/// The events to tell, to someone who knows how the instance stood, while that verb is at work on it.
pub(super) fn weigh(heard: &Heard, before: &Standing, at_work: Option<Verb>) -> Vec<Event> {
    let events = news(heard, before);
    match at_work {
        Some(verb) if verb.starts_anew() => events
            .into_iter()
            .filter_map(|event| in_restart(event, before))
            .collect(),
        _ => events,
    }
}

/// A restart is told as one, at its end: nobody is to take the instance for one that has stopped.
fn in_restart(event: Event, before: &Standing) -> Option<Event> {
    use EventKind::{Paused, Resumed, ShuttingDown, Started, Stopped};
    match (event.kind, event.instance) {
        // Its agent went with it, and comes back with an event of its own.
        (Stopped, Some(guest)) if before.agent => {
            Some(Event::of(guest, EventKind::AgentDisconnected))
        }
        (Started | Stopped | ShuttingDown | Paused | Resumed, _) => None,
        _ => Some(event),
    }
}

/// Whether it says that the guest switched itself off: its owner wants it off from now on, as in Nova.
pub(super) fn left(heard: &Heard) -> Option<InstanceId> {
    match heard {
        Heard::Event(event) if event.kind == EventKind::Stopped => {
            let by_itself = event.reason.as_deref() == Some("SHUTDOWN");
            event.instance.filter(|_| by_itself)
        }
        _ => None,
    }
}

fn news(heard: &Heard, before: &Standing) -> Vec<Event> {
    match heard {
        Heard::Event(event) if is_news(event, before) => vec![event.clone()],
        Heard::Event(_) => Vec::new(),
        Heard::Observed(guest, power, agent) => {
            // What is not known stays as it was told, and goes with the guest.
            let agent = agent.unwrap_or(before.agent && is_on(*power));
            let power = Some(*power);
            difference(*guest, before, (power, agent))
        }
    }
}

fn is_news(event: &Event, before: &Standing) -> bool {
    match event.kind {
        // A start lets the processors go, and that is told apart by some hypervisors, before or after the start.
        EventKind::Resumed => is_held(before),
        // Told with every start and stop of a guest, also of one whose agent was never there.
        EventKind::AgentDisconnected => before.agent,
        EventKind::AgentConnected => !before.agent,
        // Told again by whoever repeats or takes back what was cut: each time that it was plugged it is unplugged once.
        EventKind::VifPlugged => !is_plugged(event, before),
        EventKind::VifUnplugged => is_plugged(event, before),
        _ => true,
    }
}

fn is_plugged(event: &Event, before: &Standing) -> bool {
    let vif = event.device.as_ref();
    vif.is_some_and(|vif| before.plugged.contains(vif))
}

fn is_held(before: &Standing) -> bool {
    matches!(
        before.power,
        Some(PowerState::Paused | PowerState::Suspended | PowerState::Crashed)
    )
}

fn is_on(power: PowerState) -> bool {
    matches!(power, PowerState::Running | PowerState::Paused)
}

/// Whether something of its run was left: one that suspended itself or panicked may still be switched off.
fn was_there(power: PowerState) -> bool {
    use PowerState::{Crashed, Suspended};
    is_on(power) || matches!(power, Suspended | Crashed)
}

fn difference(
    guest: InstanceId,
    before: &Standing,
    (now, agent): (Option<PowerState>, bool),
) -> Vec<Event> {
    let mut events = Vec::new();
    if let Some(power) = now
        && let Some(kind) = turned(before.power, power)
    {
        events.push(Event::of(guest, kind).power(power));
    }
    let agent = match (before.agent, agent) {
        (false, true) => Some(EventKind::AgentConnected),
        // It went with the guest: the guest's own event tells.
        (true, false) if now.is_some_and(is_on) => Some(EventKind::AgentDisconnected),
        _ => None,
    };
    events.extend(agent.map(|kind| Event::of(guest, kind)));
    events
        .into_iter()
        .map(|event| event.because(OBSERVED))
        .collect()
}

/// What must have happened for the power to be another one.
fn turned(before: Option<PowerState>, now: PowerState) -> Option<EventKind> {
    if before == Some(now) {
        return None;
    }
    match now {
        PowerState::Running if before == Some(PowerState::Paused) => Some(EventKind::Resumed),
        PowerState::Running => Some(EventKind::Started),
        PowerState::Paused => Some(EventKind::Paused),
        PowerState::Crashed => Some(EventKind::Crashed),
        PowerState::Suspended => Some(EventKind::Suspended),
        // One that was never told to be on does not stop.
        PowerState::Shutdown | PowerState::NoState => {
            before.is_some_and(was_there).then_some(EventKind::Stopped)
        }
        PowerState::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(power: PowerState) -> Standing {
        Standing {
            power: Some(power),
            ..Standing::default()
        }
    }

    fn observed(guest: InstanceId, now: &Standing) -> Heard {
        Heard::Observed(guest, now.power.unwrap(), Some(now.agent))
    }

    fn kinds(heard: &Heard, before: &Standing) -> Vec<EventKind> {
        let events = weigh(heard, before, None);
        events.iter().map(|event| event.kind).collect()
    }

    #[test]
    fn a_guest_that_stands_as_told_is_no_news() {
        use PowerState::{Crashed, Paused, Running, Shutdown};
        for power in [Running, Paused, Shutdown, Crashed] {
            let heard = observed(InstanceId::random(), &standing(power));
            assert_eq!(kinds(&heard, &standing(power)), [], "{power:?}");
        }
    }

    #[test]
    fn what_was_missed_is_told_as_what_must_have_happened() {
        use PowerState::{Crashed, NoState, Paused, Running, Shutdown, Suspended};
        let guest = InstanceId::random();
        for (before, now, kind) in [
            (None, Running, Some(EventKind::Started)),
            (None, Shutdown, None),
            (Some(Running), Shutdown, Some(EventKind::Stopped)),
            (Some(Running), NoState, Some(EventKind::Stopped)),
            (Some(Shutdown), NoState, None),
            (Some(Suspended), Shutdown, Some(EventKind::Stopped)),
            (Some(Suspended), NoState, Some(EventKind::Stopped)),
            (Some(Crashed), Shutdown, Some(EventKind::Stopped)),
            (Some(Crashed), NoState, Some(EventKind::Stopped)),
            (Some(PowerState::Unknown), NoState, None),
            (Some(Paused), Running, Some(EventKind::Resumed)),
            (Some(Shutdown), Running, Some(EventKind::Started)),
            (Some(Running), Paused, Some(EventKind::Paused)),
        ] {
            let before = Standing {
                power: before,
                ..Standing::default()
            };
            let told = weigh(&observed(guest, &standing(now)), &before, None);
            let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
            assert_eq!(kinds, Vec::from_iter(kind), "{before:?} {now:?}");
            let read = |event: &Event| event.reason.as_deref() == Some("OBSERVED");
            assert!(told.iter().all(read));
        }
    }

    #[test]
    fn an_agent_comes_and_goes_once() {
        let guest = InstanceId::random();
        let there = Standing {
            agent: true,
            ..standing(PowerState::Running)
        };
        let gone = Heard::Event(Event::of(guest, EventKind::AgentDisconnected));
        assert_eq!(kinds(&gone, &there), [EventKind::AgentDisconnected]);
        assert_eq!(kinds(&gone, &standing(PowerState::Running)), []);
        let seen = observed(guest, &there);
        assert_eq!(
            kinds(&seen, &standing(PowerState::Running)),
            [EventKind::AgentConnected]
        );
    }

    #[test]
    fn an_agent_that_cannot_be_asked_after_has_not_gone() {
        let there = Standing {
            agent: true,
            ..standing(PowerState::Running)
        };
        let unknown = |power| Heard::Observed(InstanceId::random(), power, None);
        assert_eq!(kinds(&unknown(PowerState::Running), &there), []);
        let off = kinds(&unknown(PowerState::Shutdown), &there);
        assert_eq!(off, [EventKind::Stopped], "it went with its guest");
        let never = standing(PowerState::Running);
        assert_eq!(kinds(&unknown(PowerState::Running), &never), []);
    }

    #[test]
    fn what_a_reboot_is_made_of_is_nobodys_news() {
        let guest = InstanceId::random();
        let told = |kind, power, before: &Standing| {
            let heard = Heard::Event(Event::of(guest, kind).power(power));
            let events = weigh(&heard, before, Some(Verb::Reboot));
            events.iter().map(|event| event.kind).collect::<Vec<_>>()
        };
        use EventKind::{AgentDisconnected, Crashed, Rebooted, ShuttingDown, Started, Stopped};
        use PowerState::{Running, Shutdown};
        let runs = standing(Running);
        assert_eq!(told(ShuttingDown, Running, &runs), []);
        assert_eq!(told(Stopped, Shutdown, &runs), []);
        assert_eq!(told(Started, Running, &runs), []);
        assert_eq!(told(Rebooted, Running, &runs), [Rebooted]);
        assert_eq!(told(Crashed, Shutdown, &runs), [Crashed]);
        let agent = Standing {
            agent: true,
            ..runs.clone()
        };
        assert_eq!(told(Stopped, Shutdown, &agent), [AgentDisconnected]);
        let read = weigh(
            &observed(guest, &standing(Shutdown)),
            &runs,
            Some(Verb::Reboot),
        );
        assert_eq!(read, []);
    }

    #[test]
    fn only_a_guest_that_switched_itself_off_has_left() {
        let guest = InstanceId::random();
        let stopped = |why: &str| {
            let event = Event::of(guest, EventKind::Stopped);
            left(&Heard::Event(
                event.power(PowerState::Shutdown).because(why),
            ))
        };
        assert_eq!(stopped("shutdown"), Some(guest));
        for other in ["destroyed", "terminated", "observed", "stopped"] {
            assert_eq!(stopped(other), None, "{other}");
        }
    }

    #[test]
    fn a_start_is_told_once() {
        let guest = InstanceId::random();
        let resumed = Event::of(guest, EventKind::Resumed).power(PowerState::Running);
        let resumed = Heard::Event(resumed);
        assert_eq!(kinds(&resumed, &Standing::default()), []);
        assert_eq!(kinds(&resumed, &standing(PowerState::Running)), []);
        use PowerState::{Crashed, Paused, Suspended};
        for held in [Paused, Suspended, Crashed] {
            assert_eq!(kinds(&resumed, &standing(held)), [EventKind::Resumed]);
        }
    }

    #[test]
    fn an_interface_is_told_to_come_and_go_once_each_however_often_that_is_said() {
        use EventKind::{VifPlugged, VifUnplugged};
        let guest = InstanceId::random();
        let mut standing = Standing::default();
        let mut told = Vec::new();
        for (kind, vif) in [
            (VifUnplugged, "a"),
            (VifPlugged, "a"),
            (VifPlugged, "a"),
            (VifPlugged, "b"),
            (VifUnplugged, "a"),
            (VifUnplugged, "a"),
            (VifUnplugged, "b"),
            (VifPlugged, "a"),
        ] {
            let heard = Heard::Event(Event::of(guest, kind).device(vif));
            for event in weigh(&heard, &standing, None) {
                standing = standing.after(&event);
                told.push((event.kind, event.device.unwrap()));
            }
        }
        let expected = [
            (VifPlugged, "a"),
            (VifPlugged, "b"),
            (VifUnplugged, "a"),
            (VifUnplugged, "b"),
            (VifPlugged, "a"),
        ];
        assert_eq!(told, expected.map(|(kind, vif)| (kind, vif.to_owned())));
    }
}
