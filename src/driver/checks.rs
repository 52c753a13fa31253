//! Looks whether a service is well: one kind of check a file.
//!
//! | file | looks at |
//! |---|---|
//! | `tcp`, `http` | a port, and what answers there; `place` connects, `tls` is for https |
//! | `ping`, `arp` | a host, a neighbour |
//! | `postgres` | a server's role, timeline and age |
//! | `systemd` | a unit's state, by D-Bus |
//! | `file` | a number in a file |
//! | `process`, `interface`, `route` | what the kernel has |
//! | `webhook` | nothing: it tells a page what somebody should know, by the same means |
//!
//! Programs are run as all are that the agent runs ([`super::program`]). A check runs on a thread of its own, so it
//! never overlaps with itself, and none waits for another. It blocks until its deadline at most. What it cannot look at
//! is [`Unable`], which is not the same as ill; [`Probe::inspect`] finds that out before it is needed.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::attempt::{Failure, Unable, one_line};
use super::patience::{Patience, Period};
use super::program::{Program, Runner, Told};
use crate::engine::{CheckOutcome, CheckResult};

pub mod arp;
mod file;
pub mod http;
mod interface;
pub mod ping;
pub mod place;
pub mod postgres;
mod process;
pub mod route;
pub mod systemd;
mod tcp;
mod tls;
pub mod webhook;

/// A check needs little: what it reads is bounded.
const STACK_BYTES: usize = 256 * 1024;
/// The first runs of all checks are spread over this time, or over the interval where that is shorter.
const SPREAD: Duration = Duration::from_secs(1);

/// A check to be run again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Unique on the node.
    pub name: String,
    /// From start to start; a run that takes longer makes the next one late.
    pub interval: Duration,
    /// How long one run may take.
    pub timeout: Duration,
    /// What is looked at.
    pub probe: Probe,
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A program, by its exit code.
    Exec(Program),
    /// A program, by the number on its last line: how far the data is behind.
    Lag(Program),
    /// Whether somebody accepts connections.
    Tcp(place::Place),
    /// What a web server answers.
    Http(http::Request),
    /// Whether a host answers to an echo.
    Ping(ping::Host),
    /// Whether a neighbour answers to the question who has its address.
    Arp(arp::Neighbour),
    /// What a PostgreSQL server is, and the age of its data in milliseconds if that is asked for.
    Postgres(postgres::Database),
    /// Whether a unit of systemd's is active.
    Systemd(systemd::Unit),
    /// The number in a file.
    File(PathBuf),
    /// Whether a process of this name runs.
    Process(String),
    /// Whether an interface has a carrier, and at least this speed in Mbit/s.
    Interface {
        /// Its name.
        name: String,
        /// At least.
        speed: Option<u32>,
    },
    /// Whether the main routing table has a route.
    Route(route::Destination),
}

/// What a run found: a number, if it is of the sort that gives one, and a line about it.
type Found = Result<(Option<i64>, String), Failure>;

impl Probe {
    /// Whether it can be run, as far as that can be known without running it.
    ///
    /// # Errors
    ///
    /// What is in the way, and the remedy.
    pub fn inspect(&self) -> Result<(), Unable> {
        match self {
            Self::Exec(program) | Self::Lag(program) => program.inspect(),
            Self::File(path) => file::inspect(path),
            Self::Process(_) => process::inspect(),
            Self::Http(request) => request.trust.as_ref().map_or(Ok(()), |trust| trust.inspect()),
            Self::Postgres(database) => database.inspect(),
            Self::Systemd(unit) => unit.inspect(),
            Self::Tcp(_) | Self::Ping(_) | Self::Arp(_) | Self::Interface { .. } | Self::Route(_) => Ok(()),
        }
    }

    fn run(&self, patience: &Patience<'_>, memory: &mut Memory) -> Found {
        match self {
            Self::Exec(program) => {
                let ended = memory.runner().run_within(program, &Told::default(), patience)?;
                ended.passed().map(|line| (None, line))
            }
            Self::Lag(program) => {
                let ended = memory.runner().run_within(program, &Told::default(), patience)?;
                number(&ended.passed()?)
            }
            Self::Tcp(place) => tcp::run(place, patience, &mut memory.lookup).map(|line| (None, line)),
            Self::Http(request) => http::run(request, patience, &mut memory.lookup).map(|line| (None, line)),
            Self::Ping(host) => ping::run(host, patience).map(|line| (None, line)),
            Self::Arp(neighbour) => arp::run(neighbour, patience).map(|line| (None, line)),
            Self::Postgres(database) => postgres::run(database, patience, &mut memory.known),
            Self::Systemd(unit) => systemd::run(unit, patience).map(|line| (None, line)),
            Self::File(path) => file::run(path).and_then(|line| number(&line)),
            Self::Process(name) => process::run(name).map(|line| (None, line)),
            Self::Interface { name, speed } => interface::run(name, *speed).map(|line| (None, line)),
            Self::Route(destination) => route::run(*destination).map(|line| (None, line)),
        }
    }
}

/// What one run leaves for the next.
#[derive(Debug, Default)]
struct Memory {
    runner: Option<Runner>,
    lookup: Option<place::Lookup>,
    known: Option<postgres::Known>,
}

impl Memory {
    /// Of the check's own thread.
    fn runner(&mut self) -> &mut Runner {
        self.runner.get_or_insert_with(Runner::on_this_thread)
    }
}

/// A check that runs again and again on a thread of its own, until this is dropped.
#[derive(Debug)]
pub struct Running {
    check: Check,
    stop: Option<PipeWriter>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    /// Starts one. `turn` of `turns`: which it is of those that start together. `report` is told of each run, and says
    /// whether to go on.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn start(
        check: Check,
        (turn, turns): (u32, u32),
        report: impl Fn(&str, CheckResult) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopper) = io::pipe()?;
        let first = check.interval.min(SPREAD) * turn / turns.max(1);
        let period = Period::new(first, check.interval)?;
        let to_run = check.clone();
        let name: String = format!("check {}", check.name).chars().take(15).collect();
        let thread = thread::Builder::new()
            .name(name)
            .stack_size(STACK_BYTES)
            .spawn(move || repeat(&to_run, &period, &stop, &report))?;
        Ok(Self { check, stop: Some(stopper), thread: Some(thread) })
    }

    /// What is run.
    pub const fn check(&self) -> &Check {
        &self.check
    }
}

impl Drop for Running {
    /// Kills a program that is running. A check of another kind may go on until its deadline, and is not waited for.
    fn drop(&mut self) {
        self.stop = None;
        let is_program = matches!(self.check.probe, Probe::Exec(_) | Probe::Lag(_));
        if let Some(thread) = self.thread.take().filter(|_| is_program) {
            // One that panicked has nothing left to be killed.
            thread.join().ok();
        }
    }
}

fn repeat(check: &Check, period: &Period, stop: &PipeReader, report: &impl Fn(&str, CheckResult) -> bool) {
    let mut memory = Memory::default();
    while period.wait(stop.as_fd()) {
        let found =
            Patience::new(check.timeout, stop.as_fd()).and_then(|patience| check.probe.run(&patience, &mut memory));
        let (outcome, output) = match found {
            Ok((number, output)) => (CheckOutcome::Passed(number), output),
            Err(Failure::Ill(output)) => (CheckOutcome::Failed, output),
            Err(Failure::Unable(output)) => (CheckOutcome::Unable, output),
            Err(Failure::Stopped) => return,
        };
        if !report(&check.name, CheckResult { outcome, output: one_line(&output) }) {
            return;
        }
    }
}

fn number(line: &str) -> Found {
    match line.trim().parse::<i64>() {
        Ok(number) => Ok((Some(number), line.trim().to_owned())),
        Err(_) if line.trim().is_empty() => Err(Failure::Ill("no number, but nothing".to_owned())),
        Err(_) => Err(Failure::Ill(format!("no whole number: {line}"))),
    }
}
