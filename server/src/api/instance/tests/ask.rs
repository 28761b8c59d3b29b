//! What may be asked of an instance, as one word each.

use crate::model::{PowerState, Verb};

/// What somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray)]
pub(super) enum Ask {
    Pause,
    Unpause,
    PowerOn,
    CutPower,
    ShutDown,
    Suspend,
    Resume,
    RestartHard,
    RestartSoft,
    Rescue,
    Unrescue,
    CrashDump,
    Attach,
    Detach,
    Plug,
    Unplug,
    Resize,
    Rebuild,
}

impl Ask {
    /// What changes the guest's power.
    pub(super) const POWER: &[Self] = &[
        Self::Pause,
        Self::Unpause,
        Self::PowerOn,
        Self::CutPower,
        Self::ShutDown,
        Self::Suspend,
        Self::Resume,
        Self::RestartHard,
        Self::RestartSoft,
        Self::Rescue,
        Self::Unrescue,
    ];
    pub(super) const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    pub(super) fn verb(self) -> Verb {
        match self {
            Self::Pause => Verb::Pause,
            Self::Unpause => Verb::Unpause,
            Self::PowerOn => Verb::PowerOn,
            Self::CutPower | Self::ShutDown => Verb::PowerOff,
            Self::Suspend => Verb::Suspend,
            Self::Resume => Verb::Resume,
            Self::RestartHard | Self::RestartSoft => Verb::Reboot,
            Self::Rescue => Verb::Rescue,
            Self::Unrescue => Verb::Unrescue,
            Self::CrashDump => Verb::TriggerCrashDump,
            Self::Attach => Verb::AttachVolume,
            Self::Detach => Verb::DetachVolume,
            Self::Plug => Verb::AttachInterface,
            Self::Unplug => Verb::DetachInterface,
            Self::Resize => Verb::Resize,
            Self::Rebuild => Verb::Rebuild,
        }
    }

    /// The state that it is there to reach.
    pub(super) fn aim(self) -> Option<PowerState> {
        match self {
            Self::Pause => Some(PowerState::Paused),
            Self::CutPower | Self::ShutDown => Some(PowerState::Shutdown),
            Self::Suspend => Some(PowerState::Suspended),
            Self::Unpause
            | Self::PowerOn
            | Self::Resume
            | Self::RestartHard
            | Self::RestartSoft
            | Self::Rebuild => Some(PowerState::Running),
            _ => None,
        }
    }

    /// Whether what it has done stays so, and is found so by who asks again.
    pub(super) fn lasts(self) -> bool {
        let anew = matches!(self, Self::RestartHard | Self::RestartSoft | Self::Rebuild);
        !anew && self != Self::CrashDump
    }

    /// What a refusal says is to be done first.
    pub(super) fn of_words(message: &str) -> Self {
        let all = [
            ("power it on first", Self::PowerOn),
            ("unpause it first", Self::Unpause),
            ("resume it first", Self::Resume),
            ("reboot it hard, or power it off", Self::RestartHard),
            ("unrescue it first", Self::Unrescue),
        ];
        let told = all.iter().find(|(words, _)| message.ends_with(words));
        told.unwrap_or_else(|| panic!("a next move in: {message}"))
            .1
    }
}
