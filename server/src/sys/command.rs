//! Starting other programs: the only place that does.
//!
//! Every command has a time limit, the C locale, bounded captured output, a process group of its own (a Ctrl-C meant
//! for us does not end it) and dies when the future that runs it is dropped. Resource limits are set by util-linux's
//! `prlimit` before the program itself is executed, so that no byte of a hostile file is read without them.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    io,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Child,
};

use crate::{
    error::{Classify, Kind},
    model::Secret,
};

/// Long enough for any command that only changes settings, short enough that a stuck one is noticed.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// More than any tool of ours prints; a program that prints without end must not take our memory.
const STDOUT_LIMIT: usize = 16 << 20;
/// Enough for what went wrong; the rest is read and dropped so that the program does not block.
const STDERR_LIMIT: usize = 16 << 10;
/// Administration tools live in the sbin folders, which a service's PATH may lack.
const SBIN: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Bounds on what a program may take; `None` is unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Processor time, rounded up to seconds.
    pub cpu: Option<Duration>,
    /// Address space in bytes.
    pub address_space: Option<u64>,
    /// Largest file that it may write, in bytes.
    pub file_size: Option<u64>,
}

/// A program to run.
#[derive(Clone, Debug)]
pub struct Command {
    program: Cow<'static, str>,
    args: Vec<OsString>,
    limits: ResourceLimits,
    time_limit: Duration,
    /// Often a secret, which is told to a program like this because its arguments are seen by everybody.
    stdin: Option<Secret<Vec<u8>>>,
}

/// What a program that succeeded has printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its standard output, whole.
    pub stdout: Vec<u8>,
    /// The beginning of its standard error.
    pub stderr: String,
}

/// Why a command did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not installed, or the host has no process left.
    #[error("{program} cannot be started")]
    Start {
        /// The program.
        program: Cow<'static, str>,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// It ended with a failure.
    #[error("{program} failed with {status}: {stderr}")]
    Failed {
        /// The program.
        program: Cow<'static, str>,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// It took too long and was killed.
    #[error("{program} did not end within {limit:?}")]
    TimedOut {
        /// The program.
        program: Cow<'static, str>,
        /// How long it was given.
        limit: Duration,
    },
    /// It printed more than we keep and was killed.
    #[error("{program} printed more than {STDOUT_LIMIT} bytes")]
    TooMuchOutput {
        /// The program.
        program: Cow<'static, str>,
    },
}

impl Classify for CommandError {
    fn kind(&self) -> Kind {
        Kind::Internal
    }

    fn reason(&self) -> &'static str {
        "HOST_COMMAND_FAILED"
    }
}

impl Command {
    /// Runs `program`, found in the PATH or a folder for administration tools.
    pub fn new(program: impl Into<Cow<'static, str>>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            limits: ResourceLimits::default(),
            time_limit: TIME_LIMIT,
            stdin: None,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.args.extend(args);
        self
    }

    /// What it may take of the host.
    #[must_use]
    pub fn limits(mut self, limits: ResourceLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How long it may run; a minute unless said.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// What it reads; nothing unless said. It shows in no log and no error.
    #[must_use]
    pub fn stdin(mut self, bytes: Secret<Vec<u8>>) -> Self {
        self.stdin = Some(bytes);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Whatever keeps it from ending with success.
    ///
    /// # Cancel safety
    /// Dropped, the program is killed.
    pub async fn run(self) -> Result<Output, CommandError> {
        let mut stdout = Vec::new();
        let stderr = self
            .watched(|piece| {
                stdout.extend_from_slice(piece);
                stdout.len() <= STDOUT_LIMIT
            })
            .await?;
        Ok(Output { stdout, stderr })
    }

    /// Runs it to its end and shows each piece of its output as it comes, kept nowhere.
    ///
    /// # Errors
    /// Whatever keeps it from ending with success.
    pub async fn run_streaming(self, mut show: impl FnMut(&[u8])) -> Result<(), CommandError> {
        let all = |piece: &[u8]| {
            show(piece);
            true
        };
        self.watched(all).await.map(drop)
    }

    async fn watched(self, keep: impl FnMut(&[u8]) -> bool) -> Result<String, CommandError> {
        let (program, limit) = (self.program.clone(), self.time_limit);
        let mut child = self.spawn()?;
        // `kill_on_drop` ends the program when the limit drops this future.
        match tokio::time::timeout(limit, self.attend(&mut child, keep)).await {
            Ok(result) => result,
            Err(_) => Err(CommandError::TimedOut { program, limit }),
        }
    }

    #[allow(clippy::disallowed_methods)] // the one place that may
    fn spawn(&self) -> Result<Child, CommandError> {
        let mut words = self.limits.prefix();
        words.push(self.program.as_ref().into());
        let path = match std::env::var("PATH") {
            Ok(path) if !path.is_empty() => format!("{path}:{SBIN}"),
            _ => SBIN.to_owned(),
        };
        tokio::process::Command::new(&words[0])
            .args(&words[1..])
            .args(&self.args)
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C")
            .stdin(if self.stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| self.cannot_start(e))
    }

    async fn attend(
        &self,
        child: &mut Child,
        keep: impl FnMut(&[u8]) -> bool,
    ) -> Result<String, CommandError> {
        let (input, output, errors) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let (Some(mut pipe), Some(bytes)) = (input, &self.stdin) {
                // A program that ends without reading it all tells why by its status.
                let _ = pipe.write_all(bytes.expose()).await;
            }
        };
        let mut stderr = Vec::new();
        let gather = |piece: &[u8]| {
            let room = STDERR_LIMIT - stderr.len();
            stderr.extend_from_slice(&piece[..piece.len().min(room)]);
            true
        };
        let ((), whole, _) = tokio::join!(feed, drain(output, keep), drain(errors, gather));
        if !whole.map_err(|e| self.cannot_start(e))? {
            return Err(CommandError::TooMuchOutput {
                program: self.program.clone(),
            });
        }
        let status = child.wait().await.map_err(|e| self.cannot_start(e))?;
        let stderr = String::from_utf8_lossy(stderr.trim_ascii()).into_owned();
        match status.code() {
            Some(0) => Ok(stderr),
            // What `prlimit`, like a shell, says when there is no such program.
            Some(127) if self.limits != ResourceLimits::default() => {
                Err(self.cannot_start(io::Error::new(io::ErrorKind::NotFound, stderr)))
            }
            _ => Err(CommandError::Failed {
                program: self.program.clone(),
                status,
                stderr,
            }),
        }
    }

    fn cannot_start(&self, e: io::Error) -> CommandError {
        CommandError::Start {
            program: self.program.clone(),
            source: Arc::new(e),
        }
    }
}

impl ResourceLimits {
    fn prefix(self) -> Vec<OsString> {
        let seconds = |t: Duration| t.as_secs() + u64::from(t.subsec_nanos() > 0);
        let set = [
            ("--cpu", self.cpu.map(seconds)),
            ("--as", self.address_space),
            ("--fsize", self.file_size),
        ];
        let mut words: Vec<OsString> = set
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value?).into()))
            .collect();
        if !words.is_empty() {
            words.insert(0, "prlimit".into());
            // No core file of a program that met its limits.
            words.extend(["--core=0".into(), "--".into()]);
        }
        words
    }
}

/// Reads `pipe` to its end; false when `keep` wants no more.
async fn drain(
    pipe: Option<impl AsyncRead + Unpin>,
    mut keep: impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let Some(mut pipe) = pipe else {
        return Ok(true);
    };
    let mut buffer = vec![0; 16 << 10];
    loop {
        match pipe.read(&mut buffer).await? {
            0 => return Ok(true),
            n if keep(&buffer[..n]) => {}
            _ => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests;
