//! Programs that wait for each other, on a thread of their own: hooks.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::{Program, Runner, Told};

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
