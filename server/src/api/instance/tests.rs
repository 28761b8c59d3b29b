//! Whatever is asked of an instance, and whatever happens to it, in any order: what holds of every answer, of every event,
//! and of what is left.
//!
//! Which verb may begin in which state stands in one table. It is not told again here: these laws would hold of another.

mod ask;
mod world;

use std::collections::HashMap;

use proptest::prelude::*;
use tonic::{Code, Status};
use tonic_types::StatusExt;

pub(super) use self::world::api;
use self::{
    ask::Ask,
    world::{World, is_on},
};
use crate::{
    hypervisor::{
        Hypervisor, HypervisorError,
        fake::{Happening, Times},
    },
    model::{EventKind, PowerState},
};

/// What a caller, the host, or the guest does next.
#[derive(Clone, Debug)]
enum Move {
    /// Somebody asks.
    Asks(Ask),
    /// Somebody asks, and a call of the hypervisor fails: before it has any effect, or after.
    Fails(Ask, &'static str, bool),
    /// Somebody asks while the hypervisor cannot be asked.
    Unheard(Ask),
    /// Somebody asks, the server dies after so many steps, and the next one finds what it left.
    Dies(Ask, usize),
    /// The guest does something by itself.
    Happens(Happening),
    /// The guest's kernel panics, and its emulator waits.
    Panics,
}

/// Calls that may fail. What is discarded cannot be brought back: that call is the last of its verb.
const FAILING: [&str; 8] = [
    "define", "start", "destroy", "pause", "resume", "save", "restore", "attach",
];

fn moves() -> impl Strategy<Value = Move> {
    let ask = || prop::sample::select(Ask::ALL);
    let power = || prop::sample::select(Ask::POWER);
    let happening = prop::sample::select(&[
        Happening::Crash,
        Happening::PowerOff,
        Happening::Reboot,
        Happening::AgentUp,
        Happening::AgentDown,
    ]);
    prop_oneof![
        12 => ask().prop_map(Move::Asks),
        6 => power().prop_map(Move::Asks),
        4 => (ask(), prop::sample::select(&FAILING), any::<bool>())
            .prop_map(|(ask, call, after)| Move::Fails(ask, call, after)),
        1 => ask().prop_map(Move::Unheard),
        2 => (power(), 0..7_usize).prop_map(|(ask, nth)| Move::Dies(ask, nth)),
        3 => happening.prop_map(Move::Happens),
        1 => Just(Move::Panics),
    ]
}

/// What an error says of itself.
fn said(status: &Status) -> (Code, String, HashMap<String, String>) {
    let info = status.get_details_error_info().expect("always there");
    (status.code(), info.reason, info.metadata)
}

impl World {
    async fn makes(&mut self, next: &Move) {
        let was = self.power();
        match next {
            Move::Asks(ask) => {
                self.asks(*ask).await;
            }
            Move::Fails(ask, call, after) => self.fails(*ask, call, *after).await,
            Move::Unheard(ask) => self.unheard(*ask).await,
            Move::Dies(ask, nth) => {
                let before = self.t.snapshot().await;
                match self.dies(*ask, *nth).await {
                    true => self.assert_stands(*ask).await,
                    false => self.assert_as(before, was).await,
                }
            }
            Move::Happens(happening) if is_on(was) => self.t.fake.emit(self.id, *happening),
            Move::Panics if was == PowerState::Running => {
                self.t.fake.set_unheard(self.id, PowerState::Crashed);
                self.t.fake.reread();
            }
            Move::Happens(_) | Move::Panics => {}
        }
        self.assert_sound().await;
    }

    /// Asks; a refusal and a success are as they must be. Answers what a refused caller is told to do first.
    async fn asks(&mut self, ask: Ask) -> Option<Ask> {
        let (was, before) = (self.power(), self.t.snapshot().await);
        self.news().await;
        self.t.fake.forget_calls();
        match self.ask_watched(ask).await {
            Ok(()) => {
                self.assert_told(ask).await;
                self.assert_stands(ask).await;
                None
            }
            Err(status) => {
                let (code, reason, fields) = said(&status);
                let told = (code, reason.as_str());
                let refused = (Code::FailedPrecondition, "INSTANCE_STATE");
                assert_eq!(told, refused, "{ask:?} of one that is {was:?}: {status:?}");
                assert_eq!(fields["instance_id"], self.id.to_string());
                assert_eq!(fields["power_state"], was.as_str(), "{ask:?}");
                let rescued = self.instance().await.rescued;
                assert_eq!(fields["rescued"], rescued.to_string(), "{ask:?}");
                assert_eq!(fields["verb"], ask.verb().as_str(), "{ask:?}");
                assert_eq!(self.t.snapshot().await, before, "{ask:?}");
                assert_eq!(self.changed(), [""; 0], "{ask:?} of {was:?}");
                Some(Ask::of_words(status.message()))
            }
        }
    }

    /// What a caller may rely on after a success; and what is so already succeeds again, and nothing is done for it.
    async fn assert_stands(&mut self, ask: Ask) {
        if let Some(aim) = ask.aim() {
            assert_eq!(self.power(), aim, "{ask:?} has succeeded");
            let told = self.instance().await;
            assert_eq!(told.should_run, is_on(aim), "{ask:?} has succeeded");
        }
        if !ask.lasts() {
            return;
        }
        let before = self.t.snapshot().await;
        self.t.fake.forget_calls();
        self.ask(ask).await.expect("it is so already");
        assert_eq!(self.t.snapshot().await, before, "{ask:?}, twice");
        assert_eq!(self.changed(), [""; 0], "{ask:?}, twice");
    }

    /// A restart is told as one, and not by what it is made of.
    async fn assert_told(&mut self, ask: Ask) {
        let told = self.news().await;
        if !ask.verb().starts_anew() {
            return;
        }
        use EventKind::{Paused, Rebooted, Rescued, Resumed, ShuttingDown, Started, Stopped};
        let parts = [Paused, Resumed, ShuttingDown, Started, Stopped];
        let seen: Vec<_> = told.iter().filter(|kind| parts.contains(kind)).collect();
        assert!(seen.is_empty(), "{ask:?} is told as {told:?}");
        let whole = [Rebooted, Rescued, EventKind::Unrescued];
        let seen = told.iter().filter(|kind| whole.contains(kind)).count();
        assert!(seen <= 1, "{ask:?} is told as {told:?}");
    }

    /// A call fails in the middle: the answer says so and nothing has changed, or it did no harm.
    async fn fails(&mut self, ask: Ask, call: &'static str, after: bool) {
        let (was, before) = (self.power(), self.t.snapshot().await);
        let fault = HypervisorError::Failed {
            call,
            message: "out of luck".to_owned(),
            code: 1,
            domain: 10,
        };
        match after {
            true => self.t.fake.fail_after(call, Times::Next(1), fault),
            false => self.t.fake.fail(call, Times::Next(1), fault),
        }
        let ended = self.ask(ask).await;
        self.t.fake.heal();
        if ended.is_err() {
            self.assert_as(before, was).await;
        }
    }

    /// While nobody knows how the guest stands, nothing is said to be so, and nothing is done.
    async fn unheard(&mut self, ask: Ask) {
        let before = self.t.snapshot().await;
        self.t.fake.go_down("it is away");
        let (code, reason, _) = said(&self.ask(ask).await.unwrap_err());
        assert_eq!(
            (code, reason.as_str()),
            (Code::Unavailable, "HYPERVISOR_UNAVAILABLE"),
            "{ask:?}"
        );
        self.t.fake.come_back();
        assert_eq!(self.t.snapshot().await, before, "{ask:?}");
    }

    /// Whoever is told what to do first can do that, and gets where he wanted: there is no state without a way out.
    async fn gets(&mut self, wanted: Ask) {
        const ENOUGH: usize = 4;
        let mut asked = Vec::new();
        for _ in 0..ENOUGH {
            let Some(mut first) = self.asks(wanted).await else {
                return;
            };
            asked.push(first);
            while let Some(before) = self.asks(first).await {
                first = before;
                asked.push(first);
                assert!(asked.len() < ENOUGH, "{wanted:?} by way of {asked:?}");
            }
        }
        panic!("{wanted:?} by way of {asked:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn in_any_order_each_verb_does_what_it_says_or_says_why_not(
        moves in prop::collection::vec(moves(), 1..16),
        wanted in prop::sample::select(Ask::ALL),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for next in &moves {
                world.makes(next).await;
            }
            world.gets(wanted).await;
            world.assert_sound().await;
            world.ends().await;
        });
    }
}
