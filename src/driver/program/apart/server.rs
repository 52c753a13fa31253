//! The process itself: a thread for each connection, which ends with it, as the process does with the agent.

use std::ffi::CStr;
use std::io::IoSliceMut;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::protocol::{Answer, Request, read_request, write_answer};
use crate::driver::attempt::Failure;
use crate::driver::program::{Program, Runner, Told};

/// As tools show it.
const NAME: &CStr = c"vipd-programs";
/// What the variables of a program begin with.
const VARIABLES: &str = "VIPD_";

/// Makes a fork of the agent the process that starts programs.
pub(super) fn become_it() {
    outlive_signals();
    // SAFETY: the name outlives the call. One that is not set is only not shown.
    unsafe { libc::prctl(libc::PR_SET_NAME, NAME.as_ptr()) };
}

/// Serves until the agent has ended, or closed its end.
pub(super) fn serve(
    way: &UnixStream,
    known: Vec<Program>,
    configured: impl FnMut() -> Result<Vec<Program>, String> + Send + 'static,
) {
    let known = Arc::new(Mutex::new(Known { programs: known, configured: Box::new(configured) }));
    let mut threads: Vec<(UnixStream, thread::JoinHandle<()>)> = Vec::new();
    while let Some(connection) = next_connection(way) {
        threads.retain(|(_, thread)| !thread.is_finished());
        let known = Arc::clone(&known);
        // Where there is no thread for it, the connection is closed, which is an answer.
        let Ok(end) = connection.try_clone() else { continue };
        let thread = thread::Builder::new().name("programs".into()).spawn(move || {
            answer_all(&connection, &known);
            // The other end of it is kept above.
            connection.shutdown(Shutdown::Both).ok();
        });
        threads.extend(thread.map(|thread| (end, thread)));
    }
    for (connection, _) in &threads {
        // One that is closed already has ended.
        connection.shutdown(Shutdown::Both).ok();
    }
    for (_, thread) in threads {
        // One that panicked has nothing left to be killed.
        thread.join().ok();
    }
}

/// Signals are for the agent, which may want to have hooks run then. Handled and not ignored: that would hold for the
/// programs as well.
fn outlive_signals() {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        // SAFETY: the handler does nothing. One that cannot be set leaves the process to the signal.
        unsafe { sigaction(signal, &action) }.ok();
    }
}

/// `None`: nobody is left to open one.
fn next_connection(way: &UnixStream) -> Option<UnixStream> {
    loop {
        let mut byte = [0];
        let mut into = [IoSliceMut::new(&mut byte)];
        let mut space = nix::cmsg_space!(libc::c_int);
        let received = recvmsg::<()>(way.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
        let received = match received {
            Err(Errno::EINTR) => continue,
            received => received.ok().filter(|received| received.bytes > 0)?,
        };
        let passed = received.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::ScmRights(files) => files.first().copied(),
            _ => None,
        });
        if let Some(file) = passed {
            // SAFETY: the kernel has just opened it for us, and nobody else knows it.
            return Some(unsafe { OwnedFd::from_raw_fd(file) }.into());
        }
    }
}

/// What may be started.
struct Known {
    programs: Vec<Program>,
    configured: Box<dyn FnMut() -> Result<Vec<Program>, String> + Send>,
}

impl Known {
    /// What was configured once may be started still: what is no longer configured is released with its own hooks.
    fn learn(&mut self) -> Result<(), String> {
        let named = (self.configured)().map_err(|error| format!("the configuration cannot be read: {error}"))?;
        for program in named {
            if !self.programs.contains(&program) {
                self.programs.push(program);
            }
        }
        Ok(())
    }

    fn permits(&mut self, program: &Program) -> Result<(), String> {
        if !self.programs.contains(program) {
            self.learn()?;
        }
        if self.programs.contains(program) {
            return Ok(());
        }
        Err(format!("`{}` is not started: the configuration does not name it so", program.command.join(" ")))
    }
}

fn answer_all(mut connection: &UnixStream, known: &Mutex<Known>) {
    let mut runner = Runner::of_this_process();
    // What is no question ends the connection, which is an answer.
    while let Ok(Some((request, input))) = read_request(&mut connection) {
        let answer = match request {
            Request::Learn => match lock(known).learn() {
                Ok(()) => Answer::Learnt,
                Err(why) => Answer::Unable(why),
            },
            Request::Run { program, environment, timeout } => match permits(known, &program, &environment) {
                Ok(()) => run(&mut runner, &program, &Told { environment, input }, timeout, connection),
                Err(why) => Answer::Unable(why),
            },
        };
        if write_answer(&mut connection, &answer).is_err() {
            return;
        }
    }
}

fn permits(known: &Mutex<Known>, program: &Program, environment: &[(String, String)]) -> Result<(), String> {
    if let Some((name, _)) = environment.iter().find(|(name, _)| !name.starts_with(VARIABLES)) {
        return Err(format!("nothing is told in {name}"));
    }
    lock(known).permits(program)
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nothing is said on the connection while it runs: what can be read of it then is its end.
fn run(runner: &mut Runner, program: &Program, told: &Told, timeout: Duration, connection: &UnixStream) -> Answer {
    match runner.try_run(program, told, timeout, connection.as_fd()) {
        Ok(ended) => {
            let (status, heard) = ended.into_parts();
            Answer::Ended { status: status.into_raw(), heard }
        }
        Err(Failure::Ill(why)) => Answer::Ill(why),
        Err(Failure::Unable(why)) => Answer::Unable(why),
        Err(Failure::Stopped) => Answer::Stopped,
    }
}
