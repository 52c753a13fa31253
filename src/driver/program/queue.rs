//! Runs programs one after the other, each with a deadline: hooks on a thread of their own, alerts and fence agents on that of
//! whoever wants them.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::run::{self, Ended, Leftover};
use super::{Program, Told};
use crate::driver::attempt::{Failure, one_line};
use crate::driver::patience::Patience;

/// How many wait for their turn: a vip that changes its state so often while one hook runs has other troubles.
const WAITING: usize = 32;
/// They need little: what is read of a program is bounded.
const STACK_BYTES: usize = 256 * 1024;

/// A program to be run once, and who is told what became of it: the last line that it said, or what was wrong.
pub struct Job {
    /// What is run.
    pub program: Arc<Program>,
    /// How long it may take.
    pub timeout: Duration,
    /// What it is told.
    pub told: Told,
    /// Called on the queue's thread.
    pub report: Box<dyn FnOnce(Result<String, String>) + Send>,
}

/// Programs that wait for each other. Dropping it kills the one that runs, and forgets the others.
#[derive(Debug)]
pub struct Queue {
    jobs: Option<SyncSender<Job>>,
    stop: Option<PipeWriter>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Queue {
    /// Starts its thread.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn start(name: &str) -> io::Result<Self> {
        let (stop, stopper) = io::pipe()?;
        let (jobs, waiting) = sync_channel(WAITING);
        let name: String = name.chars().take(15).collect();
        let thread =
            thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || run_all(&waiting, &stop))?;
        Ok(Self { jobs: Some(jobs), stop: Some(stopper), thread: Some(thread) })
    }

    /// Never blocks.
    ///
    /// # Errors
    ///
    /// Why it will not be run; nothing is reported then.
    pub fn push(&self, job: Job) -> Result<(), String> {
        let Some(jobs) = &self.jobs else { return Err("the queue has ended".to_owned()) };
        jobs.try_send(job).map_err(|_| format!("{WAITING} programs wait for one that runs"))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.jobs = None;
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has nothing left to be killed.
            thread.join().ok();
        }
    }
}

fn run_all(waiting: &Receiver<Job>, stop: &PipeReader) {
    let mut runner = Runner::on_this_thread();
    while let Ok(Job { program, timeout, told, report }) = waiting.recv() {
        match runner.run(&program, &told, timeout, stop.as_fd()) {
            Ok(said) => report(Ok(said)),
            Err(Some(why)) => report(Err(why)),
            Err(None) => return,
        }
    }
}

/// Runs one program after the other on the thread that it was made on.
#[derive(Debug)]
pub struct Runner {
    leftover: Option<Leftover>,
    dropped: io::Result<()>,
}

impl Runner {
    /// From now on programs get none of the agent's capabilities.
    pub fn on_this_thread() -> Self {
        Self { leftover: None, dropped: run::drop_ambient_capabilities() }
    }

    /// The last line that it said, if it ended with 0.
    ///
    /// # Errors
    ///
    /// What was wrong, in one line; `None`: nobody wanted to wait for it any longer, and it was killed.
    pub fn run(
        &mut self,
        program: &Program,
        told: &Told,
        timeout: Duration,
        stop: BorrowedFd<'_>,
    ) -> Result<String, Option<String>> {
        match self.try_run(program, told, timeout, stop).and_then(Ended::passed) {
            Ok(said) => Ok(one_line(&said)),
            Err(Failure::Ill(why) | Failure::Unable(why)) => Err(Some(one_line(&why))),
            Err(Failure::Stopped) => Err(None),
        }
    }

    /// As [`Self::run`], for whom other exit codes than 0 mean something.
    pub(in crate::driver) fn try_run(
        &mut self,
        program: &Program,
        told: &Told,
        timeout: Duration,
        stop: BorrowedFd<'_>,
    ) -> Result<Ended, Failure> {
        let Self { leftover, dropped } = self;
        match dropped {
            Ok(()) => Patience::new(timeout, stop)
                .map_err(|error| Failure::Unable(error.to_string()))
                .and_then(|patience| run::run(program, told, &patience, leftover)),
            Err(error) => Err(Failure::Unable(format!("the agent's capabilities cannot be dropped: {error}"))),
        }
    }
}
