//! The guest agent through libvirt: its own calls where it has them, and the agent's commands for the rest.
//!
//! Each question runs on a worker of the agent's pool, in the guest's turn, within limits that libvirt itself keeps: 5 s
//! for a sign of life, then a time for the command. The agent's plain commands (files, programs, which agent it is) mark
//! the domain as tainted in libvirt's own log (`custom-ga-command`); nothing else follows from that.

mod facts;

use std::time::{Duration, Instant, UNIX_EPOCH};

use async_trait::async_trait;
use serde_json::Value;
use virt::{
    connect::Connect,
    domain::Domain as Handle,
    error::{Error as VirtError, ErrorNumber},
    sys,
};

use super::{Call, Kind, Libvirt, fault::Fault, ffi, guest};
use crate::{
    hypervisor::{
        HypervisorError, Result,
        agent::{
            Agent, AgentFacts, Ended, FileHandle, GuestFacts, GuestInterface, GuestPid, Program,
            wire::{self, Command, Garbled},
        },
    },
    model::{InstanceId, Secret},
};

/// libvirt waits so long for a sign of life before each command.
const SYNC: Duration = Duration::from_secs(5);
/// An agent that is not there is told at once; one that said nothing, after seconds.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Freezing waits for all that is in the guest's caches to be written: it may take so many times as long as the rest.
const FREEZE: u32 = 4;
/// Of a guest's words, no more is told.
const WORDS: usize = 500;

impl Libvirt {
    /// Longer than whatever libvirt bounds itself.
    pub(super) fn agent_limit(&self) -> Duration {
        SYNC + self.agent_timeout * FREEZE + self.call_timeout
    }

    /// Asks a guest's agent on a worker, in the guest's turn.
    async fn ask_agent<T: Send + 'static>(
        &self,
        id: InstanceId,
        name: &'static str,
        f: impl FnOnce(&Asked) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let limit = self.agent_timeout;
        let turn = tokio::time::timeout(limit, self.turns.wait(id)).await;
        let turn = turn.map_err(|_| HypervisorError::Busy)?;
        let ask = move |conn: &Connect| {
            let _turn = turn;
            let domain = guest::awake(conn, id)?;
            f(&Asked { domain, id, limit })
        };
        self.call(Call::reading(Kind::Agent, name, id), ask).await
    }

    /// Has one of the agent's own commands run.
    async fn command<T: Send + 'static>(
        &self,
        id: InstanceId,
        command: Command,
        read: impl FnOnce(&Value) -> Result<T, Garbled> + Send + 'static,
    ) -> Result<T> {
        let run = move |asked: &Asked| {
            let returned = asked.command(&command)?;
            read(&returned).map_err(|e| asked.garbled(&e))
        };
        self.ask_agent(id, "virDomainQemuAgentCommand", run).await
    }
}

/// A guest whose turn it is.
struct Asked {
    domain: Handle,
    id: InstanceId,
    limit: Duration,
}

impl Asked {
    /// One of libvirt's own questions, which the agent knows as `command`.
    fn typed<T>(
        &self,
        command: &'static str,
        times: u32,
        f: impl FnOnce(&Handle) -> Result<T, VirtError>,
    ) -> Result<T, Fault> {
        ffi::agent_timeout(&self.domain, self.limit * times)?;
        let since = Instant::now();
        f(&self.domain).map_err(|e| self.judge(e, since, command))
    }

    /// One of the agent's own commands.
    fn command(&self, command: &Command) -> Result<Value, Fault> {
        let since = Instant::now();
        let answer = self.plain(command);
        let answer = answer.map_err(|e| self.judge(e, since, command.name))?;
        command.returned(&answer).map_err(|e| self.garbled(&e))
    }

    fn plain(&self, command: &Command) -> Result<String, VirtError> {
        let seconds = i32::try_from(self.limit.as_secs().max(1)).unwrap_or(i32::MAX);
        self.domain
            .qemu_agent_command(&command.to_json(), seconds, 0)
    }

    fn garbled(&self, e: &Garbled) -> Fault {
        self.failed(&e.to_string())
    }

    fn failed(&self, words: &str) -> Fault {
        let told = words.chars().filter(|c| !c.is_control()).take(WORDS);
        HypervisorError::AgentFailed {
            guest: self.id,
            message: told.collect(),
        }
        .into()
    }

    /// What libvirt's error says of the agent.
    fn judge(&self, e: VirtError, since: Instant, command: &'static str) -> Fault {
        let Some(number) = e.code().known() else {
            return e.into();
        };
        match number {
            ErrorNumber::AgentUnresponsive if since.elapsed() < AT_ONCE => {
                HypervisorError::Agent(self.id).into()
            }
            ErrorNumber::AgentUnresponsive
            | ErrorNumber::AgentUnsynced
            | ErrorNumber::AgentCommandTimeout => HypervisorError::AgentTimeout(self.id).into(),
            // No channel at all.
            ErrorNumber::ArgumentUnsupported => HypervisorError::Agent(self.id).into(),
            ErrorNumber::AgentCommandFailed if self.lacks(command) => {
                let guest = self.id;
                HypervisorError::AgentLacks { guest, command }.into()
            }
            ErrorNumber::AgentCommandFailed => self.failed(e.message()),
            // libvirt's words would hold the guest's bytes.
            ErrorNumber::InternalError => self.failed(
                "it went away meanwhile, or answered with what is not the agent's protocol",
            ),
            _ => e.into(),
        }
    }

    /// Whether an agent that failed does so because it does not know the command.
    fn lacks(&self, command: &'static str) -> bool {
        let info = Command::info();
        let facts = self
            .plain(&info)
            .ok()
            .and_then(|answer| info.returned(&answer).ok())
            .and_then(|returned| wire::info(&returned).ok());
        facts.is_some_and(|facts| !facts.commands.iter().any(|known| known == command))
    }

    /// A part of what a guest tells: none when its agent answers with an error.
    fn part<T>(&self, f: impl FnOnce(&Handle) -> Result<T, VirtError>) -> Result<Option<T>, Fault> {
        let since = Instant::now();
        match f(&self.domain).map_err(Fault::from) {
            Ok(told) => Ok(Some(told)),
            Err(fault) if UNTOLD.iter().any(|number| fault.is(*number)) => Ok(None),
            Err(Fault::Libvirt(e)) => Err(self.judge(e, since, "guest-info")),
            Err(fault) => Err(fault),
        }
    }

    fn facts(&self) -> Result<GuestFacts, Fault> {
        ffi::agent_timeout(&self.domain, self.limit)?;
        let agent = wire::info(&self.command(&Command::info())?).map_err(|e| self.garbled(&e))?;
        let told = |kind| self.part(|domain| ffi::guest_info(domain, kind));
        let some = |kind| told(kind).map(Option::unwrap_or_default);
        let time = self.part(|domain| domain.time(0))?;
        let time = time.and_then(|(seconds, nanos)| {
            let seconds = Duration::from_secs(u64::try_from(seconds).ok()?);
            UNIX_EPOCH.checked_add(seconds + Duration::from_nanos(u64::try_from(nanos).ok()?))
        });
        Ok(GuestFacts {
            agent,
            hostname: facts::hostname(&some(sys::VIR_DOMAIN_GUEST_INFO_HOSTNAME)?),
            os: told(sys::VIR_DOMAIN_GUEST_INFO_OS)?.map(|told| facts::os(&told)),
            interfaces: facts::interfaces(&some(sys::VIR_DOMAIN_GUEST_INFO_INTERFACES)?),
            filesystems: facts::filesystems(&some(sys::VIR_DOMAIN_GUEST_INFO_FILESYSTEM)?),
            users: facts::users(&some(sys::VIR_DOMAIN_GUEST_INFO_USERS)?),
            time,
            timezone: facts::timezone(&some(sys::VIR_DOMAIN_GUEST_INFO_TIMEZONE)?),
        })
    }
}

/// What libvirt says where an agent answers a question with an error, or where one of the two does not know it.
const UNTOLD: [ErrorNumber; 5] = [
    ErrorNumber::AgentCommandFailed,
    ErrorNumber::InvalidArg,
    ErrorNumber::NoSupport,
    ErrorNumber::OperationUnsupported,
    ErrorNumber::OperationFailed,
];

/// The words of `fault` without a secret that a guest may have put into them.
fn hush(fault: Fault, secret: &str) -> Fault {
    match fault {
        Fault::Ours(HypervisorError::AgentFailed { guest, message })
            if message.contains(secret) =>
        {
            let message = message.replace(secret, "…");
            HypervisorError::AgentFailed { guest, message }.into()
        }
        fault => fault,
    }
}

#[async_trait]
impl Agent for Libvirt {
    async fn ping_agent(&self, id: InstanceId) -> Result<()> {
        let turn = self.turns.take(id).ok_or(HypervisorError::Busy)?;
        let limit = self.agent_timeout;
        let ping = move |conn: &Connect| {
            let _turn = turn;
            let domain = guest::awake(conn, id)?;
            let asked = Asked { domain, id, limit };
            // By a typed call: a plain command would mark the guest as tampered with.
            ffi::agent_timeout(&asked.domain, limit)?;
            // An error is a sign of life too.
            asked.part(|domain| domain.time(0)).map(drop)
        };
        let call = Call::reading(Kind::Agent, "virDomainGetTime", id);
        self.call(call, ping).await
    }

    async fn guest_facts(&self, id: InstanceId) -> Result<GuestFacts> {
        self.ask_agent(id, "virDomainGetGuestInfo", Asked::facts)
            .await
    }

    async fn agent_facts(&self, id: InstanceId) -> Result<AgentFacts> {
        self.command(id, Command::info(), wire::info).await
    }

    async fn guest_interfaces(&self, id: InstanceId) -> Result<Vec<GuestInterface>> {
        let ask = |asked: &Asked| {
            let kind = sys::VIR_DOMAIN_GUEST_INFO_INTERFACES;
            let told = asked.typed("guest-network-get-interfaces", 1, |domain| {
                ffi::guest_info(domain, kind)
            });
            told.map(|told| facts::interfaces(&told))
        };
        self.ask_agent(id, "virDomainGetGuestInfo", ask).await
    }

    async fn set_password(
        &self,
        id: InstanceId,
        account: &str,
        password: &Secret<String>,
    ) -> Result<()> {
        let (account, password) = (account.to_owned(), password.clone());
        let set = move |asked: &Asked| {
            let set = asked.typed("guest-set-user-password", 1, |domain| {
                domain.set_user_password(&account, password.expose(), 0)
            });
            set.map_err(|fault| hush(fault, password.expose()))
        };
        self.ask_agent(id, "virDomainSetUserPassword", set).await
    }

    async fn freeze(&self, id: InstanceId) -> Result<u32> {
        let freeze = |asked: &Asked| asked.typed("guest-fsfreeze-freeze", FREEZE, ffi::freeze);
        self.ask_agent(id, "virDomainFSFreeze", freeze).await
    }

    async fn thaw(&self, id: InstanceId) -> Result<u32> {
        let thaw = |asked: &Asked| asked.typed("guest-fsfreeze-thaw", 1, ffi::thaw);
        self.ask_agent(id, "virDomainFSThaw", thaw).await
    }

    async fn is_frozen(&self, id: InstanceId) -> Result<bool> {
        self.command(id, Command::freeze_status(), wire::frozen)
            .await
    }

    async fn open_file(&self, id: InstanceId, path: &str) -> Result<FileHandle> {
        self.command(id, Command::open(path), wire::handle).await
    }

    async fn write_file(&self, id: InstanceId, file: FileHandle, bytes: &[u8]) -> Result<()> {
        let bytes = bytes.to_vec();
        let write = move |asked: &Asked| {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let returned = asked.command(&Command::write(file, rest))?;
                let count = wire::written(&returned, rest.len());
                match count.map_err(|e| asked.garbled(&e))? {
                    0 => return Err(asked.failed("it wrote nothing, and did not say why")),
                    count => rest = &rest[count..],
                }
            }
            Ok(())
        };
        self.ask_agent(id, "virDomainQemuAgentCommand", write).await
    }

    async fn close_file(&self, id: InstanceId, file: FileHandle) -> Result<()> {
        self.command(id, Command::close(file), |_| Ok(())).await
    }

    async fn run(&self, id: InstanceId, program: &Program) -> Result<GuestPid> {
        self.command(id, Command::exec(program), wire::pid).await
    }

    async fn ended(&self, id: InstanceId, pid: GuestPid) -> Result<Option<Ended>> {
        self.command(id, Command::exec_status(pid), wire::ended)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_tells_the_password_back_is_not_quoted() {
        let guest = InstanceId::random();
        let message = "chpasswd: hunter2 is too short".to_owned();
        let fault = HypervisorError::AgentFailed { guest, message }.into();
        let Fault::Ours(hushed) = hush(fault, "hunter2") else {
            panic!("it was ours");
        };
        let told = hushed.to_string();
        assert!(told.contains("chpasswd: … is too short"), "{told}");
    }
}
