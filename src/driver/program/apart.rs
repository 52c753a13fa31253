//! The process that starts the agent's programs: it hears no packet, and is made before the agent restricts itself,
//! which would hold for programs as well ([`crate::driver::sandbox`]).
//!
//! | file | is |
//! |---|---|
//! | `protocol` | what is asked of it, and answered |
//! | `server` | the process |
//!
//! The agent is not believed: what is not in the configuration is not started, and nothing is put into an environment
//! but vipd's own variables. Each [`Connection`] has its programs run one after the other; closing it kills the one
//! that runs. The process ends with the agent, however that ends.

#![allow(unsafe_code, reason = "fork is safe as long as there is one thread, which only the caller knows")]

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, exit};
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use super::run::Ended;
use super::{Program, Told};
use crate::driver::attempt::Failure;
use crate::driver::error::context;
use crate::driver::patience::{Patience, readable};

mod protocol;
mod server;

use protocol::{Answer, Request, read_answer, write_request};

/// How much longer than the program the answer may take: a killed program has a second to die.
const GRACE: Duration = Duration::from_secs(3);

/// Above what an agent with a few hundred interfaces has open, and within what any process may.
const HIGH: RawFd = 1000;

/// The way to it, for all threads; none where this process starts its programs itself.
static WAY: OnceLock<UnixStream> = OnceLock::new();

/// The process. It ends when this is dropped.
#[derive(Debug)]
pub struct Apart(Pid);

/// Starts it. `known` may be started, and what `configured` says there that the configuration names by now: it is asked
/// at [`learn`], and when something else is to be started. Call it on the main thread, before there are others, and
/// once.
///
/// # Errors
///
/// What the system refuses.
pub fn start(
    known: Vec<Program>,
    configured: impl FnMut() -> Result<Vec<Program>, String> + Send + 'static,
) -> io::Result<Apart> {
    let tried = "start the process that starts programs";
    let (low, theirs) = UnixStream::pair().map_err(context(tried))?;
    let ours = high(&low)?;
    drop(low);
    // It is never full: a byte for each runner that there ever was, which are read at once.
    ours.set_nonblocking(true)?;
    // SAFETY: there is no other thread, which could hold a lock that the child then waits for.
    match unsafe { fork() }.map_err(|error| context(tried)(error.into()))? {
        ForkResult::Child => {
            drop(ours);
            server::become_it();
            server::serve(&theirs, known, configured);
            exit(0);
        }
        ForkResult::Parent { child } => {
            WAY.set(ours).map_err(|_| io::Error::other("it was started already"))?;
            Ok(Apart(child))
        }
    }
}

/// Has it look now at what is configured, while that is what the agent has read. Blocks.
///
/// # Errors
///
/// What it finds there instead, or that it does not answer.
pub fn learn() -> Result<(), String> {
    if !is_there() {
        return Ok(());
    }
    Connection::open().map_err(|error| no_answer(&error))?.have_it_learn()
}

fn no_answer(error: &io::Error) -> String {
    format!("the process that starts programs does not answer: {error}")
}

/// Another descriptor of it, with a high number. The kernel closes a dead process's files from the highest down, and
/// takes tens of milliseconds for sockets of packets. So this process is gone before systemd hears of the agent's end,
/// and need not be waited for: the next agent has but a lease's length to begin.
fn high(way: &UnixStream) -> io::Result<UnixStream> {
    match fcntl(way, FcntlArg::F_DUPFD_CLOEXEC(HIGH)) {
        // SAFETY: the kernel has just opened it for us, and nobody else knows it.
        Ok(file) => Ok(unsafe { OwnedFd::from_raw_fd(file) }.into()),
        // There may be no such numbers.
        Err(_) => way.try_clone(),
    }
}

/// Whether programs are started there.
pub(super) fn is_there() -> bool {
    WAY.get().is_some()
}

impl Apart {
    /// Another end of the way to it, which reads nothing before the process ends.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn watch(&self) -> io::Result<UnixStream> {
        high(WAY.get().ok_or(io::ErrorKind::NotFound)?)
    }

    /// Waits for its end, which is near: nothing runs there any more.
    fn await_end(&self) -> io::Result<()> {
        let Some(way) = WAY.get() else { return Ok(()) };
        way.shutdown(Shutdown::Write)?;
        let (_open, stop) = UnixStream::pair()?;
        let patience = Patience::new(GRACE, stop.as_fd()).map_err(|_| io::ErrorKind::Other)?;
        if patience.wait([readable(way.as_fd())]).is_ok() {
            waitpid(self.0, None)?;
        }
        Ok(())
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // One that does not end in time has lost its agent, and ends later.
        self.await_end().ok();
    }
}

/// Runs programs one after the other. Closing it kills the one that runs.
#[derive(Debug)]
pub(super) struct Connection(UnixStream);

impl Connection {
    fn open() -> io::Result<Self> {
        Self::open_by(WAY.get().ok_or(io::ErrorKind::NotFound)?)
    }

    fn open_by(way: &UnixStream) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(GRACE))?;
        ours.set_write_timeout(Some(GRACE))?;
        let passed = [theirs.as_raw_fd()];
        let byte = [io::IoSlice::new(b"c")];
        sendmsg::<()>(way.as_raw_fd(), &byte, &[ControlMessage::ScmRights(&passed)], MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(Self(ours))
    }

    /// Has one run on a connection, opened where there is none yet.
    pub(super) fn run(
        connection: &mut Option<Self>,
        program: &Program,
        told: &Told,
        patience: &Patience<'_>,
    ) -> Result<Ended, Failure> {
        let unable = |error: io::Error| Failure::Unable(no_answer(&error));
        let mut open = match connection.take() {
            Some(open) => open,
            None => Self::open().map_err(unable)?,
        };
        let answer = open.ask(program, told, patience, unable)?;
        *connection = Some(open);
        match answer {
            Answer::Ended { status, heard } => Ok(Ended::of(ExitStatus::from_raw(status), heard)),
            Answer::Ill(why) => Err(Failure::Ill(why)),
            Answer::Unable(why) => Err(Failure::Unable(why)),
            Answer::Stopped => Err(Failure::Stopped),
            Answer::Learnt => Err(unable(io::ErrorKind::InvalidData.into())),
        }
    }

    fn have_it_learn(&mut self) -> Result<(), String> {
        let answer = self.say(&Request::Learn, &[]).and_then(|()| read_answer(&mut self.0));
        match answer.map_err(|error| no_answer(&error))? {
            Answer::Learnt => Ok(()),
            Answer::Unable(why) | Answer::Ill(why) => Err(why),
            Answer::Ended { .. } | Answer::Stopped => Err(no_answer(&io::ErrorKind::InvalidData.into())),
        }
    }

    fn say(&mut self, request: &Request, input: &[u8]) -> io::Result<()> {
        write_request(&mut self.0, request, input)
    }

    fn ask(
        &mut self,
        program: &Program,
        told: &Told,
        patience: &Patience<'_>,
        unable: impl Fn(io::Error) -> Failure,
    ) -> Result<Answer, Failure> {
        let (program, environment) = (program.clone(), told.environment.clone());
        let request = Request::Run { program, environment, timeout: patience.timeout() };
        self.say(&request, &told.input).map_err(&unable)?;
        match patience.longer(GRACE)?.wait([readable(self.0.as_fd())]) {
            Ok(_) => read_answer(&mut self.0).map_err(unable),
            Err(Failure::Stopped) => {
                self.0.shutdown(Shutdown::Write).map_err(unable)?;
                // Whoever stops it relies on its being dead: the answer says so, or the end of all answers.
                self.0.read_to_end(&mut Vec::new()).ok();
                Err(Failure::Stopped)
            }
            Err(Failure::Ill(_) | Failure::Unable(_)) => Err(unable(io::ErrorKind::TimedOut.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::thread;

    use super::*;
    use crate::scratch::Scratch;

    /// The way to a server on a thread, which knows `known` and learns `configured`.
    fn serve(known: Vec<Program>, configured: Vec<Program>) -> (UnixStream, thread::JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        (ours, thread::spawn(move || server::serve(&theirs, known, move || Ok(configured.clone()))))
    }

    fn program(place: &Scratch, name: &str, lines: &str) -> Program {
        let path = place.file(name, &format!("#!/bin/sh\n{lines}\n"), 0o755);
        Program { command: vec![path.display().to_string()], user: None }
    }

    fn run(way: &UnixStream, program: &Program, told: &Told, timeout_ms: u64) -> Result<String, String> {
        let (_open, stop) = UnixStream::pair().expect("a pair of sockets");
        let patience = Patience::new(Duration::from_millis(timeout_ms), stop.as_fd()).expect("a timer");
        let mut connection = Some(Connection::open_by(way).expect("a connection"));
        match Connection::run(&mut connection, program, told, &patience).and_then(Ended::passed) {
            Ok(said) => Ok(said),
            Err(Failure::Ill(why) | Failure::Unable(why)) => Err(why),
            Err(Failure::Stopped) => Err("stopped".to_owned()),
        }
    }

    #[test]
    fn what_is_configured_is_run_with_what_it_is_told() {
        let place = Scratch::new("apart-runs");
        let told = Told { environment: vec![("VIPD_VIP".into(), "db".into())], input: b"a line\n".to_vec() };
        let tells = program(&place, "tells", "read line; echo noise; echo \"$VIPD_VIP $line\"; exit $1");
        let fails = Program { command: vec![tells.command[0].clone(), "3".into()], user: None };
        let (way, server) = serve(vec![tells.clone(), fails.clone()], Vec::new());
        assert_eq!(run(&way, &tells, &told, 5_000).as_deref(), Ok("db a line"));
        assert_eq!(run(&way, &fails, &told, 5_000), Err("exit code 3: db a line".to_owned()));
        drop(way);
        server.join().expect("it ends with the agent");
    }

    #[test]
    fn what_is_not_configured_is_not_run_and_nobody_puts_a_library_into_what_is() {
        let place = Scratch::new("apart-refuses");
        let marked = place.path().join("mark");
        let marks = program(&place, "marks", &format!("echo >> {}", marked.display()));
        let (way, server) = serve(Vec::new(), Vec::new());
        let refused = run(&way, &marks, &Told::default(), 5_000).expect_err("nobody configured it");
        assert!(refused.contains("the configuration does not name it"), "{refused}");
        drop(way);
        server.join().expect("it ends with the agent");
        let (way, server) = serve(vec![marks.clone()], Vec::new());
        let told = Told { environment: vec![("LD_PRELOAD".into(), "/tmp/evil.so".into())], input: Vec::new() };
        assert_eq!(run(&way, &marks, &told, 5_000), Err("nothing is told in LD_PRELOAD".to_owned()));
        let arguments = Program { command: [marks.command.clone(), vec!["more".into()]].concat(), user: None };
        assert!(run(&way, &arguments, &Told::default(), 5_000).is_err());
        assert!(!marked.exists());
        drop(way);
        server.join().expect("it ends with the agent");
    }

    #[test]
    fn what_is_configured_by_now_is_learnt() {
        let place = Scratch::new("apart-learns");
        let (old, new) = (program(&place, "old", "echo old"), program(&place, "new", "echo new"));
        let (way, server) = serve(vec![old.clone()], vec![new.clone()]);
        Connection::open_by(&way).expect("a connection").have_it_learn().expect("the configuration is well");
        assert_eq!(run(&way, &new, &Told::default(), 5_000).as_deref(), Ok("new"));
        assert_eq!(run(&way, &old, &Told::default(), 5_000).as_deref(), Ok("old"), "for a release");
        drop(way);
        server.join().expect("it ends with the agent");
    }

    #[test]
    fn what_takes_too_long_is_killed_and_so_is_all_at_the_end_of_the_agent() {
        let place = Scratch::new("apart-kills");
        let pids = place.path().join("pids");
        let hangs = program(&place, "hangs", &format!("echo $$ >> {}; exec sleep 1000", pids.display()));
        let (way, server) = serve(vec![hangs.clone()], Vec::new());
        assert_eq!(run(&way, &hangs, &Told::default(), 200), Err("no answer within 200ms".to_owned()));
        let mut open = Connection::open_by(&way).expect("a connection");
        let request = Request::Run { program: hangs, environment: Vec::new(), timeout: Duration::from_secs(1_000) };
        open.say(&request, &[]).expect("it is asked");
        let begun = || fs::read_to_string(&pids).is_ok_and(|text| text.lines().count() == 2);
        let (_open, never) = std::sync::mpsc::channel::<()>();
        let runs = (0..500).any(|_| {
            begun() || {
                never.recv_timeout(Duration::from_millis(10)).ok();
                false
            }
        });
        assert!(runs, "it was not started");
        drop(way);
        server.join().expect("it ends with the agent");
        let lives = |pid: &str| {
            let state = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        assert!(!fs::read_to_string(&pids).expect("they ran").lines().any(lives));
    }
}
