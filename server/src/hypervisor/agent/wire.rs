//! The QEMU guest agent's own commands as JSON, for what no hypervisor call covers, and how its answers are read.
//!
//! Pure. An answer that does not read as it must is [`Garbled`]; none of its bytes are shown, as it may hold anything.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{AgentFacts, Ended, FileHandle, GuestPid, Program};

/// Bytes of a file in one command. A command must fit into what the agent's socket takes at once, some 200 KB: libvirt
/// (11.3) sends one that does not from its beginning again, in the middle of itself, and the agent answers nothing more.
pub const CHUNK: usize = 48 << 10;

/// Of what a program writes, no more is taken to heart: the agent itself keeps up to 16 MiB.
const OUTPUT: usize = 64 << 10;

/// The answer is not what the agent's protocol has for the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer to {0} is not of the agent's protocol")]
pub struct Garbled(pub &'static str);

/// A command that an agent knows by its name. Its `Debug` shows no more: what is written into a guest may be a secret.
#[derive(Clone, PartialEq)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    arguments: Value,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Command {
    fn new(name: &'static str, arguments: Value) -> Self {
        Self { name, arguments }
    }

    /// Which agent it is and what it knows.
    pub fn info() -> Self {
        Self::new("guest-info", json!({}))
    }

    /// Whether file systems are frozen.
    pub fn freeze_status() -> Self {
        Self::new("guest-fsfreeze-status", json!({}))
    }

    /// Opens a file for writing from its beginning.
    pub fn open(path: &str) -> Self {
        Self::new("guest-file-open", json!({ "path": path, "mode": "w" }))
    }

    /// Writes bytes.
    pub fn write(file: FileHandle, bytes: &[u8]) -> Self {
        let arguments = json!({ "handle": file.0, "buf-b64": STANDARD.encode(bytes) });
        Self::new("guest-file-write", arguments)
    }

    /// Closes a file.
    pub fn close(file: FileHandle) -> Self {
        Self::new("guest-file-close", json!({ "handle": file.0 }))
    }

    /// Starts a program and keeps what it writes.
    pub fn exec(program: &Program) -> Self {
        let arguments =
            json!({ "path": program.path, "arg": program.args, "capture-output": true });
        Self::new("guest-exec", arguments)
    }

    /// Asks how a program ended.
    pub fn exec_status(pid: GuestPid) -> Self {
        Self::new("guest-exec-status", json!({ "pid": pid.0 }))
    }

    /// The command as it is sent.
    pub fn to_json(&self) -> String {
        json!({ "execute": self.name, "arguments": self.arguments }).to_string()
    }

    /// What an answer returns.
    ///
    /// # Errors
    /// When it is no answer.
    pub fn returned(&self, answer: &str) -> Result<Value, Garbled> {
        let mut answer: Value = serde_json::from_str(answer).map_err(|_| Garbled(self.name))?;
        match answer.get_mut("return") {
            Some(returned) => Ok(returned.take()),
            None => Err(Garbled(self.name)),
        }
    }
}

/// Reads what `guest-info` returns.
///
/// # Errors
/// When it is something else.
pub fn info(returned: &Value) -> Result<AgentFacts, Garbled> {
    let garbled = Garbled("guest-info");
    let version = returned["version"].as_str().ok_or(garbled)?;
    let known = returned["supported_commands"].as_array().ok_or(garbled)?;
    let enabled = known
        .iter()
        .filter(|command| command["enabled"].as_bool() != Some(false));
    let mut commands: Vec<String> = enabled
        .filter_map(|command| command["name"].as_str().map(str::to_owned))
        .collect();
    commands.sort_unstable();
    Ok(AgentFacts {
        version: version.to_owned(),
        commands,
    })
}

/// Reads what `guest-fsfreeze-status` returns.
///
/// # Errors
/// When it is something else.
pub fn frozen(returned: &Value) -> Result<bool, Garbled> {
    match returned.as_str() {
        Some("frozen") => Ok(true),
        Some("thawed") => Ok(false),
        _ => Err(Garbled("guest-fsfreeze-status")),
    }
}

/// Reads what `guest-file-open` returns.
///
/// # Errors
/// When it is something else.
pub fn handle(returned: &Value) -> Result<FileHandle, Garbled> {
    let handle = returned.as_i64().map(FileHandle);
    handle.ok_or(Garbled("guest-file-open"))
}

/// Reads how many bytes `guest-file-write` says it wrote.
///
/// # Errors
/// When it says something else, or more than it was given.
pub fn written(returned: &Value, given: usize) -> Result<usize, Garbled> {
    let count = returned["count"].as_u64();
    let count = count.and_then(|count| usize::try_from(count).ok());
    count
        .filter(|count| *count <= given)
        .ok_or(Garbled("guest-file-write"))
}

/// Reads what `guest-exec` returns.
///
/// # Errors
/// When it is something else.
pub fn pid(returned: &Value) -> Result<GuestPid, Garbled> {
    let pid = returned["pid"].as_i64().map(GuestPid);
    pid.ok_or(Garbled("guest-exec"))
}

/// Reads what `guest-exec-status` returns; none while the program runs.
///
/// # Errors
/// When it is something else.
pub fn ended(returned: &Value) -> Result<Option<Ended>, Garbled> {
    let garbled = Garbled("guest-exec-status");
    if !returned["exited"].as_bool().ok_or(garbled)? {
        return Ok(None);
    }
    let bytes = |name: &str| match &returned[name] {
        Value::Null => Ok(Vec::new()),
        Value::String(packed) => STANDARD.decode(packed).map_err(|_| garbled).map(|mut all| {
            all.truncate(OUTPUT);
            all
        }),
        _ => Err(garbled),
    };
    Ok(Some(Ended {
        code: returned["exitcode"].as_i64(),
        out: bytes("out-data")?,
        err: bytes("err-data")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_the_agent_reads_them() {
        let program = Program {
            path: "/bin/sh".to_owned(),
            args: vec!["-c".to_owned(), "echo \"a\"".to_owned()],
        };
        for (command, json) in [
            (
                Command::info(),
                r#"{"arguments":{},"execute":"guest-info"}"#,
            ),
            (
                Command::open("/etc/a b"),
                r#"{"arguments":{"mode":"w","path":"/etc/a b"},"execute":"guest-file-open"}"#,
            ),
            (
                Command::write(FileHandle(1000), b"\0\xff"),
                r#"{"arguments":{"buf-b64":"AP8=","handle":1000},"execute":"guest-file-write"}"#,
            ),
            (
                Command::exec(&program),
                r#"{"arguments":{"arg":["-c","echo \"a\""],"capture-output":true,"path":"/bin/sh"},"execute":"guest-exec"}"#,
            ),
        ] {
            assert_eq!(command.to_json(), json);
            assert_eq!(format!("{command:?}"), command.name, "and nothing else");
        }
    }

    #[test]
    fn a_chunk_is_a_command_that_libvirt_takes() {
        let all = Command::write(FileHandle(i64::MAX), &[0; CHUNK]);
        assert!(all.to_json().len() < 4 << 20);
    }

    #[test]
    fn answers_are_read() {
        let command = Command::info();
        let answer = r#"{"return":{"version":"9.2.1","supported_commands":[
            {"name":"guest-ping","enabled":true,"success-response":true},
            {"name":"guest-exec","enabled":false,"success-response":true}]}}"#;
        let facts = info(&command.returned(answer).unwrap()).unwrap();
        assert_eq!(facts.version, "9.2.1");
        assert_eq!(facts.commands, ["guest-ping"]);

        assert_eq!(ended(&json!({"exited": false})), Ok(None));
        let done = json!({"exited": true, "exitcode": 3, "err-data": "b2g="});
        let expected = Ended {
            code: Some(3),
            err: b"oh".to_vec(),
            ..Ended::default()
        };
        assert_eq!(ended(&done), Ok(Some(expected)));
        let killed = ended(&json!({"exited": true, "signal": 9})).unwrap();
        assert_eq!(killed.unwrap().code, None);
        assert_eq!(written(&json!({"count": 2, "eof": false}), 2), Ok(2));
        assert_eq!(frozen(&json!("frozen")), Ok(true));
    }

    #[test]
    fn garbage_is_told_as_such_and_shown_to_nobody() {
        for answer in ["", "hunter2", "[]", "{}", r#"{"error":{}}"#, "{\"return\""] {
            let garbled = Command::info().returned(answer).unwrap_err();
            let told = garbled.to_string();
            assert!(!told.contains("hunter2"), "{told}");
        }
        for wrong in [
            json!(null),
            json!([]),
            json!("x"),
            json!({"version": 1}),
            json!({"version": "1", "supported_commands": {}}),
        ] {
            assert_eq!(info(&wrong), Err(Garbled("guest-info")), "{wrong}");
        }
        for wrong in [json!({}), json!({"count": -1}), json!({"count": 3})] {
            assert!(written(&wrong, 2).is_err(), "{wrong}");
        }
        for wrong in [
            json!({}),
            json!({"exited": "yes"}),
            json!({"exited": true, "out-data": "!"}),
            json!({"exited": true, "err-data": 7}),
        ] {
            assert!(ended(&wrong).is_err(), "{wrong}");
        }
        assert!(frozen(&json!("cold")).is_err());
        assert!(handle(&json!("7")).is_err());
        assert!(pid(&json!(7)).is_err());
    }
}
