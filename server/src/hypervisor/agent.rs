//! What is asked of a guest through its agent.
//!
//! A guest is asked one question at a time, and whoever comes meanwhile waits for its turn; other guests, and calls that
//! need no agent, do not. What an agent answers is the guest's word: it is read with care, and nothing is made up for what
//! it leaves out. Every call ends in bounded time, with one of four faults: no agent there, one that does not know the
//! command, one that says nothing, one that answers with an error or with what nobody can read.

pub mod wire;

use std::{net::IpAddr, time::SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Result;
use crate::model::{InstanceId, Secret};

/// The agent itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFacts {
    /// Its version.
    pub version: String,
    /// The commands that it knows and is allowed to run.
    pub commands: Vec<String>,
}

/// A guest's operating system, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestOs {
    /// `debian`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Release of its kernel.
    pub kernel: String,
    /// As in `uname -m`.
    pub machine: String,
}

/// An interface inside a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestInterface {
    /// Its name there.
    pub name: String,
    /// Its address on the wire, as the guest writes it.
    pub mac: Option<String>,
    /// Its addresses with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// A mounted file system inside a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestFilesystem {
    /// Where.
    pub mountpoint: String,
    /// Its device.
    pub device: String,
    /// `ext4`.
    pub kind: String,
    /// Its size in bytes.
    pub total: Option<u64>,
    /// Of which in use.
    pub used: Option<u64>,
}

/// Somebody who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestUser {
    /// Who.
    pub name: String,
    /// Since when.
    pub since: Option<SystemTime>,
}

/// What a guest tells of itself. A part that its agent cannot answer is absent, or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestFacts {
    /// The agent.
    pub agent: AgentFacts,
    /// Host name.
    pub hostname: Option<String>,
    /// Operating system.
    pub os: Option<GuestOs>,
    /// Interfaces.
    pub interfaces: Vec<GuestInterface>,
    /// Mounted file systems.
    pub filesystems: Vec<GuestFilesystem>,
    /// Who is logged in.
    pub users: Vec<GuestUser>,
    /// Its clock.
    pub time: Option<SystemTime>,
    /// Its time zone.
    pub timezone: Option<String>,
}

/// A file that an agent holds open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHandle(pub i64);

/// A program that an agent has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPid(pub i64);

/// A program to run inside a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its path.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// How a program inside a guest ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; none when a signal ended it.
    pub code: Option<i64>,
    /// What it wrote.
    pub out: Vec<u8>,
    /// What it complained of.
    pub err: Vec<u8>,
}

/// The questions. `State` when the guest does not run, `Agent` and `AgentLacks` without an agent that can answer,
/// `AgentTimeout` when it says nothing, `AgentFailed` when it answers with an error or with what is not its protocol,
/// `Busy` when others had it all the time.
#[async_trait]
pub trait Agent: Send + Sync {
    /// Asks for a sign of life. `Busy` at once while somebody else asks.
    ///
    /// An agent that does not answer costs five seconds: ask only one whose channel is open, see [`super::Signal::agent`].
    async fn ping_agent(&self, id: InstanceId) -> Result<()>;

    /// What the guest tells of itself. Parts that its agent answers with an error are left out.
    async fn guest_facts(&self, id: InstanceId) -> Result<GuestFacts>;

    /// Which agent it is.
    async fn agent_facts(&self, id: InstanceId) -> Result<AgentFacts>;

    /// The guest's interfaces and their addresses.
    async fn guest_interfaces(&self, id: InstanceId) -> Result<Vec<GuestInterface>>;

    /// Sets an account's password. It is in no error of this call.
    async fn set_password(
        &self,
        id: InstanceId,
        account: &str,
        password: &Secret<String>,
    ) -> Result<()>;

    /// Freezes the guest's file systems; answers how many. An error when they are frozen already.
    async fn freeze(&self, id: InstanceId) -> Result<u32>;

    /// Thaws the guest's file systems; answers how many, 0 when none was frozen.
    async fn thaw(&self, id: InstanceId) -> Result<u32>;

    /// Whether the guest's file systems are frozen.
    async fn is_frozen(&self, id: InstanceId) -> Result<bool>;

    /// Opens a file for writing from its beginning; one that is there keeps its mode and owner.
    async fn open_file(&self, id: InstanceId, path: &str) -> Result<FileHandle>;

    /// Writes at the place where the last write ended: all of `bytes`, at most [`wire::CHUNK`].
    async fn write_file(&self, id: InstanceId, file: FileHandle, bytes: &[u8]) -> Result<()>;

    /// Closes a file; what was written is in it then.
    async fn close_file(&self, id: InstanceId, file: FileHandle) -> Result<()>;

    /// Starts a program, as the agent's own user.
    async fn run(&self, id: InstanceId, program: &Program) -> Result<GuestPid>;

    /// How a program ended; none while it runs. Told once.
    async fn ended(&self, id: InstanceId, pid: GuestPid) -> Result<Option<Ended>>;
}
