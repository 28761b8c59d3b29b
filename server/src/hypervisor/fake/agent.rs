//! The inside of the fake's guests, as their agents see it: files, passwords, programs.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Fake, is_on, wrong_state};
use crate::{
    hypervisor::{
        HypervisorError, Result,
        agent::{
            Agent, AgentFacts, Ended, FileHandle, GuestFacts, GuestInterface, GuestPid, Program,
        },
    },
    model::{InstanceId, PowerState, Secret},
};

/// What is inside a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// What it tells of itself.
    pub facts: GuestFacts,
    /// Passwords by account.
    pub passwords: BTreeMap<String, Secret<String>>,
    /// Files that its agent wrote, by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Whether its file systems are frozen.
    pub frozen: bool,
    /// Programs that its agent started, in order.
    pub programs: Vec<Program>,
    /// How the next programs end, in order; the rest end well.
    pub endings: Vec<Ended>,
    open: BTreeMap<i64, String>,
    running: BTreeMap<i64, Ended>,
    next: i64,
}

/// As many as the tiny guest has.
const FILESYSTEMS: u32 = 1;

impl Fake {
    /// Looks into a guest, or changes what is there.
    pub fn inside<T>(&self, id: InstanceId, look: impl FnOnce(&mut Inside) -> T) -> T {
        look(self.inside.lock().entry(id).or_default())
    }

    /// One question to the guest's agent.
    async fn question<T>(
        &self,
        call: &'static str,
        id: InstanceId,
        answer: impl FnOnce(&mut Inside) -> Result<T> + Send,
    ) -> Result<T> {
        self.enter(call).await?;
        let state = self.ours(id, |held, _| *held)?;
        if state != PowerState::Running {
            debug_assert!(!is_on(state) || state == PowerState::Paused);
            return Err(wrong_state(id, "domain is not running"));
        }
        if !self.signals.watch(id).borrow().agent {
            return Err(HypervisorError::Agent(id));
        }
        let answer = self.inside(id, answer)?;
        self.faults.leave(call).map(|()| answer)
    }
}

fn failed<T>(guest: InstanceId, message: &str) -> Result<T> {
    Err(HypervisorError::AgentFailed {
        guest,
        message: message.to_owned(),
    })
}

#[async_trait]
impl Agent for Fake {
    async fn ping_agent(&self, id: InstanceId) -> Result<()> {
        self.question("ping_agent", id, |_| Ok(())).await
    }

    async fn guest_facts(&self, id: InstanceId) -> Result<GuestFacts> {
        self.question("guest_facts", id, |inside| Ok(inside.facts.clone()))
            .await
    }

    async fn agent_facts(&self, id: InstanceId) -> Result<AgentFacts> {
        self.question("agent_facts", id, |inside| Ok(inside.facts.agent.clone()))
            .await
    }

    async fn guest_interfaces(&self, id: InstanceId) -> Result<Vec<GuestInterface>> {
        self.question("guest_interfaces", id, |inside| {
            Ok(inside.facts.interfaces.clone())
        })
        .await
    }

    async fn set_password(
        &self,
        id: InstanceId,
        account: &str,
        password: &Secret<String>,
    ) -> Result<()> {
        self.question("set_password", id, |inside| {
            let set = &mut inside.passwords;
            set.insert(account.to_owned(), password.clone());
            Ok(())
        })
        .await
    }

    async fn freeze(&self, id: InstanceId) -> Result<u32> {
        self.question("freeze", id, |inside| {
            if inside.frozen {
                return failed(id, "the command is not allowed");
            }
            inside.frozen = true;
            Ok(FILESYSTEMS)
        })
        .await
    }

    async fn thaw(&self, id: InstanceId) -> Result<u32> {
        self.question("thaw", id, |inside| {
            let was = std::mem::take(&mut inside.frozen);
            Ok(if was { FILESYSTEMS } else { 0 })
        })
        .await
    }

    async fn is_frozen(&self, id: InstanceId) -> Result<bool> {
        self.question("is_frozen", id, |inside| Ok(inside.frozen))
            .await
    }

    async fn open_file(&self, id: InstanceId, path: &str) -> Result<FileHandle> {
        self.question("open_file", id, |inside| {
            inside.next += 1;
            inside.files.insert(path.to_owned(), Vec::new());
            inside.open.insert(inside.next, path.to_owned());
            Ok(FileHandle(inside.next))
        })
        .await
    }

    async fn write_file(&self, id: InstanceId, file: FileHandle, bytes: &[u8]) -> Result<()> {
        self.question("write_file", id, |inside| {
            let path = inside.open.get(&file.0);
            let Some(all) = path.and_then(|path| inside.files.get_mut(path)) else {
                return failed(id, "no such handle");
            };
            all.extend_from_slice(bytes);
            Ok(())
        })
        .await
    }

    async fn close_file(&self, id: InstanceId, file: FileHandle) -> Result<()> {
        self.question("close_file", id, |inside| {
            match inside.open.remove(&file.0) {
                Some(_) => Ok(()),
                None => failed(id, "no such handle"),
            }
        })
        .await
    }

    async fn run(&self, id: InstanceId, program: &Program) -> Result<GuestPid> {
        self.question("run", id, |inside| {
            inside.next += 1;
            inside.programs.push(program.clone());
            let well = Ended {
                code: Some(0),
                ..Ended::default()
            };
            let ending = match inside.endings.is_empty() {
                true => well,
                false => inside.endings.remove(0),
            };
            inside.running.insert(inside.next, ending);
            Ok(GuestPid(inside.next))
        })
        .await
    }

    async fn ended(&self, id: InstanceId, pid: GuestPid) -> Result<Option<Ended>> {
        self.question("ended", id, |inside| match inside.running.remove(&pid.0) {
            Some(ended) => Ok(Some(ended)),
            None => failed(id, "no such process"),
        })
        .await
    }
}
