//! Runs a program: as a list of arguments without a shell, in an environment of what it is told and nothing else, in a
//! process group of its own that is killed at the deadline, and at the end with all that it left behind.

#![allow(unsafe_code, reason = "pidfd_open and prctl have no safe wrapper in the crates at hand")]

use std::fmt;
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};

use super::{Program, Told};
use crate::driver::attempt::Failure;
use crate::driver::patience::{Patience, readable};

/// How much of what a program says is kept, in bytes: the end.
const KEPT: usize = 64 * 1024;
/// What a pipe holds, in bytes.
const PIPE: usize = 64 * 1024;
/// How long a killed program may take to die. One that waits for a dead disk does not die at all.
const DEATH: Duration = Duration::from_secs(1);
/// Where a program finds others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that was killed and did not die.
#[derive(Debug)]
pub(super) struct Leftover(Child);

/// How a program ended that was not killed.
#[derive(Debug)]
pub(in crate::driver) struct Ended {
    status: ExitStatus,
    /// The end of what it said.
    heard: String,
}

impl Ended {
    /// Of a program that another process ran.
    pub(super) const fn of(status: ExitStatus, heard: String) -> Self {
        Self { status, heard }
    }

    /// As the system has it, and the end of what it said.
    pub(super) fn into_parts(self) -> (ExitStatus, String) {
        (self.status, self.heard)
    }

    /// What it said, if it ended with 0.
    pub(in crate::driver) fn passed(self) -> Result<String, Failure> {
        if self.code() == Some(0) { Ok(self.said().to_owned()) } else { Err(Failure::Ill(self.to_string())) }
    }

    /// The end of all that it said, if it ended with 0.
    pub(super) fn passed_with_all(self) -> Result<String, Failure> {
        if self.code() == Some(0) { Ok(self.heard) } else { Err(Failure::Ill(self.to_string())) }
    }

    /// The last line that it said.
    fn said(&self) -> &str {
        self.heard.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
    }

    /// Its exit code, if it has one.
    pub(in crate::driver) fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, Some(signal)) => write!(f, "killed by signal {signal}")?,
            (None, None) => write!(f, "{}", self.status)?,
        }
        if self.said().is_empty() { Ok(()) } else { write!(f, ": {}", self.said()) }
    }
}

/// What a thread runs from now on starts without the capabilities that the agent has as an ordinary user.
pub(super) fn drop_ambient_capabilities() -> io::Result<()> {
    // SAFETY: takes numbers only, and changes this thread alone.
    let done = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(done).map(drop).map_err(io::Error::from)
}

/// Runs it to its end.
pub(super) fn run(
    program: &Program,
    told: &Told,
    patience: &Patience<'_>,
    leftover: &mut Option<Leftover>,
) -> Result<Ended, Failure> {
    if let Some(mut before) = leftover.take()
        && !matches!(before.0.try_wait(), Ok(Some(_)))
    {
        *leftover = Some(before);
        return Err(Failure::Ill("the run before was killed and does not end".to_owned()));
    }
    program.inspect()?;
    let (child, said) = spawn(program, told)
        .map_err(|error| Failure::Unable(format!("`{}` cannot be started: {error}", program.path().display())))?;
    let mut run = Run { child: Some(child), said, heard: Vec::new() };
    let outcome = run.await_end(patience);
    run.end(outcome, leftover)
}

fn spawn(program: &Program, told: &Told) -> io::Result<(Child, PipeReader)> {
    let (said, says) = io::pipe()?;
    nix::fcntl::fcntl(&said, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    let mut command = Command::new(program.path());
    command
        .args(program.command.iter().skip(1))
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C")
        .envs(told.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(input(&told.input)?)
        .stdout(says.try_clone()?)
        .stderr(says)
        .process_group(0);
    if let Some(user) = program.user.as_ref().filter(|user| user.uid != geteuid().as_raw()) {
        command.uid(user.uid).gid(user.gid);
    }
    Ok((command.spawn()?, said))
}

/// A file in memory: nobody waits for a program that does not read.
fn input(bytes: &[u8]) -> io::Result<Stdio> {
    if bytes.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = File::from(memfd_create("input", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

struct Run {
    child: Option<Child>,
    said: PipeReader,
    heard: Vec<u8>,
}

impl Run {
    fn await_end(&mut self, patience: &Patience<'_>) -> Result<(), Failure> {
        let pid = self.pid();
        let end = pidfd(pid).map_err(|error| Failure::Unable(format!("pidfd_open: {error}")))?;
        let mut speaks = true;
        loop {
            let said = speaks.then(|| readable(self.said.as_fd()));
            let ready = patience.wait([readable(end.as_fd())].into_iter().chain(said))?;
            if ready.get(1) == Some(&true) {
                speaks = self.hear()?;
            }
            if ready.first() == Some(&true) {
                self.hear()?;
                return Ok(());
            }
        }
    }

    /// Reads what is there, and no more than a pipe holds: one that floods is not listened to beyond its deadline.
    /// Whether there may be more.
    fn hear(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0; 4096];
        for _ in 0..PIPE / buffer.len() {
            match self.said.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => self.heard.extend(buffer.iter().take(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Unable(error.to_string())),
            }
        }
        let surplus = self.heard.len().saturating_sub(KEPT);
        self.heard.drain(..surplus);
        Ok(true)
    }

    /// Kills what is left of the group, which its leader holds open until it is waited for; so no other group can be meant.
    fn end(mut self, outcome: Result<(), Failure>, leftover: &mut Option<Leftover>) -> Result<Ended, Failure> {
        let killed = killpg(self.pid(), Signal::SIGKILL);
        let Some(mut child) = self.child.take() else { return Err(Failure::Stopped) };
        let dies = pidfd(pid_of(&child)).is_ok_and(|end| {
            let patience = PollTimeout::try_from(DEATH).unwrap_or(PollTimeout::NONE);
            poll(&mut [PollFd::new(end.as_fd(), PollFlags::POLLIN)], patience) == Ok(1)
        });
        if !dies {
            *leftover = Some(Leftover(child));
            outcome?;
            return Err(Failure::Ill("does not end".to_owned()));
        }
        let status = child.wait().map_err(|error| Failure::Unable(format!("wait: {error}")))?;
        outcome?;
        if let Err(error) = killed
            && !matches!(error, Errno::ESRCH | Errno::EPERM)
        {
            return Err(Failure::Unable(format!("kill: {error}")));
        }
        Ok(Ended { status, heard: String::from_utf8_lossy(&self.heard).into_owned() })
    }

    fn pid(&self) -> Pid {
        self.child.as_ref().map_or(Pid::from_raw(i32::MAX), pid_of)
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
