//! Runs a program: as a list of arguments without a shell, in an environment of what it is told and nothing else, in a process group of
//! its own that is killed at the deadline, and at the end with all that it left behind.

#![allow(unsafe_code, reason = "pidfd_open and prctl have no safe wrapper in the crates at hand")]

use std::fs::{self, Metadata};
use std::io::{self, PipeReader, Read, Seek, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, geteuid};

use super::patience::{Patience, readable};
use super::{Failure, Unable};

/// A program that says more is not listened to any longer.
const MAX_SAID: usize = 64 * 1024;
/// How long a killed program may take to die. One that waits for a dead disk does not die at all.
const DEATH: Duration = Duration::from_secs(1);
/// Where a program finds others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How an owner is shown that has no number here: namespaces map users.
const OVERFLOW_ID: u32 = 65_534;

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program's absolute path, and its arguments.
    pub command: Vec<String>,
    /// As whom; `None`: as the agent, without its capabilities.
    pub user: Option<User>,
}

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

impl User {
    /// Who has this name here.
    pub fn named(name: &str) -> Option<Self> {
        let user = nix::unistd::User::from_name(name).ok()??;
        Some(Self { name: name.to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }
}

/// What a program is told beside its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Variables, with their values.
    pub environment: Vec<(String, String)>,
    /// Its standard input.
    pub input: Vec<u8>,
}

/// A program that was killed and did not die.
#[derive(Debug)]
pub(in crate::driver) struct Leftover(Child);

impl Program {
    fn path(&self) -> &Path {
        Path::new(self.command.first().map_or("", String::as_str))
    }

    /// Whether it can be run, and whether only those can change it who may.
    ///
    /// # Errors
    ///
    /// What is in the way, and the remedy.
    pub fn inspect(&self) -> Result<(), Unable> {
        let path = self.path();
        let shown = path.display();
        let missing = |error: io::Error| Unable {
            problem: format!("`{shown}` cannot be run: {error}"),
            remedy: "install it, or write its absolute path",
        };
        let real = path.canonicalize().map_err(missing)?;
        let metadata = fs::metadata(&real).map_err(missing)?;
        if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
            let problem = format!("`{shown}` is no program");
            return Err(Unable { problem, remedy: "write the path of an executable file" });
        }
        let remedy = "have it and its folders belong to root, and be writable by root only (chmod go-w)";
        if self.is_open(&metadata, false) {
            return Err(Unable { problem: format!("`{shown}` can be changed by others"), remedy });
        }
        for (place, folder) in [path, real.as_path()].into_iter().flat_map(|path| path.ancestors().skip(1).enumerate())
        {
            // In a sticky folder nobody can replace what is another's; but such a folder is nobody's place for programs.
            if fs::metadata(folder).is_ok_and(|metadata| self.is_open(&metadata, place > 0)) {
                let problem = format!("the folder `{}` of `{shown}` can be changed by others", folder.display());
                return Err(Unable { problem, remedy });
            }
        }
        if self.user.as_ref().is_some_and(|user| user.uid != geteuid().as_raw()) && !may_change_user() {
            let problem = format!("the agent may not run `{shown}` as another user");
            let remedy = "leave `user` out, or run the agent as root, or with CAP_SETUID, CAP_SETGID and CAP_KILL";
            return Err(Unable { problem, remedy });
        }
        Ok(())
    }

    /// Whether somebody else than root, the agent and the program's own user can write there.
    fn is_open(&self, metadata: &Metadata, sticky_is_closed: bool) -> bool {
        let mode = metadata.mode();
        let own = [0, OVERFLOW_ID, geteuid().as_raw(), self.user.as_ref().map_or(0, |user| user.uid)];
        let by_owner = !own.contains(&metadata.uid());
        let by_group = mode & 0o020 != 0 && ![0, OVERFLOW_ID].contains(&metadata.gid());
        let by_all = mode & 0o002 != 0;
        by_owner || (by_group || by_all) && !(sticky_is_closed && mode & 0o1000 != 0)
    }
}

/// What the kernel says this process may (CAP_SETGID is bit 6, CAP_SETUID bit 7).
fn may_change_user() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    effective & 0b1100_0000 == 0b1100_0000
}

/// What a thread runs from now on starts without the capabilities that the agent has as an ordinary user.
pub(in crate::driver) fn drop_ambient_capabilities() -> io::Result<()> {
    // SAFETY: takes numbers only, and changes this thread alone.
    let done = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(done).map(drop).map_err(io::Error::from)
}

/// The last line that it said, if it ended with 0.
pub(in crate::driver) fn run(
    program: &Program,
    told: &Told,
    patience: &Patience<'_>,
    leftover: &mut Option<Leftover>,
) -> Result<String, Failure> {
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
    let mut file = fs::File::from(memfd_create("input", MFdFlags::MFD_CLOEXEC)?);
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

    /// Reads what is there. Whether there may be more.
    fn hear(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0; 4096];
        loop {
            match self.said.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => self.heard.extend(buffer.iter().take(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Unable(error.to_string())),
            }
            if self.heard.len() > MAX_SAID {
                return Err(Failure::Ill(format!("said more than {MAX_SAID} bytes, and was killed")));
            }
        }
    }

    /// Kills what is left of the group, which its leader holds open until it is waited for; so no other group can be meant.
    fn end(mut self, outcome: Result<(), Failure>, leftover: &mut Option<Leftover>) -> Result<String, Failure> {
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
        let said = String::from_utf8_lossy(&self.heard);
        let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
        verdict(status, last)
    }

    fn pid(&self) -> Pid {
        self.child.as_ref().map_or(Pid::from_raw(i32::MAX), pid_of)
    }
}

fn verdict(status: ExitStatus, said: String) -> Result<String, Failure> {
    let how = match (status.code(), status.signal()) {
        (Some(0), _) => return Ok(said),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    };
    Err(Failure::Ill(if said.is_empty() { how } else { format!("{how}: {said}") }))
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
