//! HostPowerAction: the host's owner has set a command for it, which is run. There is no way back, and none is needed: the
//! command has either sent the host on its way or failed.

use async_trait::async_trait;
use tracing::error;

use crate::{
    action::Action,
    error::{Error, Kind, Result},
    hypervisor::GuestInfo,
    model::{InstanceId, PowerState, Verb},
    sys::command::{Command, CommandError},
    task::Task,
};

/// What becomes of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerVerb {
    /// It restarts.
    Reboot,
    /// It stops.
    Shutdown,
}

impl PowerVerb {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Restarts or stops the host.
#[derive(Clone, Debug)]
pub struct HostPower {
    /// Which of the two.
    pub verb: PowerVerb,
    /// The program that does it, and its arguments.
    pub command: Vec<String>,
    /// Whether it is done though instances run.
    pub force: bool,
}

fn is_on(guest: &GuestInfo) -> bool {
    matches!(guest.state, PowerState::Running | PowerState::Paused)
}

impl HostPower {
    fn failed(&self, e: &CommandError) -> Error {
        let verb = self.verb.as_str();
        // What a program says may name anything on this host: it is the operator's.
        error!(verb, error = %crate::error::chain(e), "the host's power command failed");
        let why = match e {
            CommandError::Start { .. } => "cannot be started".to_owned(),
            CommandError::Failed { status, .. } => format!("failed with {status}"),
            CommandError::TimedOut { limit, .. } => format!("did not end within {limit:?}"),
            CommandError::TooMuchOutput { .. } => "printed without end".to_owned(),
        };
        let message = format!("the command that is set for {verb} {why}");
        let e = Error::new(Kind::Internal, "HOST_COMMAND_FAILED", message);
        e.with("action", verb).with("why", why)
    }
}

#[async_trait]
impl Action for HostPower {
    const VERB: Verb = Verb::HostPowerAction;

    fn instance(&self) -> Option<InstanceId> {
        None
    }

    fn is_alone(&self) -> bool {
        true
    }

    async fn run(&self, task: &mut Task) -> Result<()> {
        if !self.force {
            let guests = task.host().hypervisor.list().await?;
            let running = guests.iter().filter(|(_, guest)| is_on(guest)).count();
            if running > 0 {
                let message =
                    format!("{running} instances run on this host; move or stop them, or force it");
                let e = Error::new(Kind::Precondition, "INSTANCE_STATE", message);
                return Err(e
                    .with("running_instances", running)
                    .with("verb", Self::VERB.as_str()));
            }
        }
        let Some((program, args)) = self.command.split_first() else {
            return Err(Error::internal("no command is set for the host's power"));
        };
        let command = Command::new(program.clone()).args(args);
        command.run().await.map_err(|e| self.failed(&e))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        action::Pause,
        hypervisor::HypervisorError,
        hypervisor::fake::{Happening, Times},
        model::{OperationState, RequestId},
        testing::{TestHost, ended, key, key_of},
    };

    fn run(words: &[&str]) -> HostPower {
        HostPower {
            verb: PowerVerb::Reboot,
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            force: false,
        }
    }

    #[tokio::test]
    async fn the_command_is_run_once_a_request() {
        let t = TestHost::new().await;
        let operations = t.operations();
        let made = t.host.paths.state.join("rebooted");
        let action = run(&["mkdir", made.to_str().unwrap()]);
        let key = key_of(RequestId::random(), "reboot");
        for _ in 0..2 {
            let progress = operations.begin(key.clone(), action.clone()).await;
            let record = ended(progress.unwrap()).await;
            assert_eq!(
                record.state,
                OperationState::Succeeded,
                "{:?}",
                record.error
            );
        }
        assert!(made.is_dir());
    }

    #[tokio::test]
    async fn a_command_that_fails_says_how_and_not_what_it_said() {
        let t = TestHost::new().await;
        let operations = t.operations();
        for (words, why) in [
            (
                vec!["sh", "-c", "echo /a/secret >&2; exit 3"],
                "exit status: 3",
            ),
            (vec!["no-such-program-here"], "cannot be started"),
        ] {
            let progress = operations.begin(key(why), run(&words)).await;
            let e = ended(progress.unwrap()).await.error.unwrap();
            assert_eq!(e.reason(), "HOST_COMMAND_FAILED");
            assert!(e.message().contains(why), "{e}");
            assert!(!format!("{e:?}").contains("secret"), "{e:?}");
        }
    }

    #[tokio::test]
    async fn instances_that_run_are_not_cut_off_unless_forced() {
        let t = TestHost::new().await;
        let operations = t.operations();
        let id = t.spawned(t.spec()).await;
        let begin = |body: &str, action| operations.begin(key(body), action);
        let refused = ended(begin("one", run(&["true"])).await.unwrap()).await;
        let e = refused.error.unwrap();
        assert_eq!(
            (e.kind(), e.reason()),
            (Kind::Precondition, "INSTANCE_STATE")
        );
        assert_eq!(e.fields()["running_instances"], "1");
        let force = HostPower {
            force: true,
            ..run(&["true"])
        };
        let forced = ended(begin("two", force).await.unwrap()).await;
        assert_eq!(forced.state, OperationState::Succeeded);
        t.fake.emit(id, Happening::PowerOff);
        let off = ended(begin("three", run(&["true"])).await.unwrap()).await;
        assert_eq!(off.state, OperationState::Succeeded);
        let reason = String::new();
        let away = HypervisorError::Unavailable { reason };
        t.fake.fail("list", Times::Always, away);
        let unknown = ended(begin("four", run(&["true"])).await.unwrap()).await;
        assert_eq!(unknown.error.unwrap().reason(), "HYPERVISOR_UNAVAILABLE");
    }

    #[tokio::test]
    async fn it_has_the_host_for_itself() {
        let t = TestHost::new().await;
        let operations = t.operations();
        let instance = t.spawned(t.spec()).await;
        let mut gate = t.fake.hold("pause");
        let pausing = operations.begin(key("pause"), Pause { instance }).await;
        gate.reached().await;
        let force = || HostPower {
            force: true,
            ..run(&["true"])
        };
        let e = operations.begin(key("power"), force()).await.unwrap_err();
        assert_eq!((e.kind(), e.reason()), (Kind::Pending, "OPERATION_PENDING"));
        assert_eq!(e.fields()["verb"], "PAUSE");
        drop(gate);
        ended(pausing.unwrap()).await;
        let mut gate = t.fake.hold("list");
        let power = operations.begin(key("power"), run(&["true"])).await;
        gate.reached().await;
        let other = Pause { instance };
        let e = operations.begin(key("other"), other).await.unwrap_err();
        assert_eq!(e.fields()["verb"], "HOST_POWER_ACTION");
        drop(gate);
        ended(power.unwrap()).await;
    }
}
