//! A program that runs on a host: its end, its signals, and what it says on stdout and stderr.

use std::io::{BufRead as _, BufReader, PipeReader, pipe};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// More lines than this are counted, not kept: an agent that loops must not fill the memory.
const MOST_LINES: usize = 100_000;

/// A running program and all it started, as one process group. Killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Mutex<Child>,
    group: Pid,
    log: Arc<Log>,
}

/// A line that a program wrote to stdout or stderr.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was read, which is some 0.1 ms after it was written.
    pub at: Instant,
    /// Without its end.
    pub text: String,
}

#[derive(Debug, Default)]
struct Log {
    state: Mutex<LogState>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct LogState {
    lines: Vec<Line>,
    ended: bool,
}

impl Process {
    /// Starts a program that [`Namespace::command`](super::Namespace::command) made. Its stdin is null, and what it
    /// writes to stdout and stderr is collected together.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let (reader, writer) = pipe().context("pipe")?;
        command.stdin(Stdio::null()).stdout(writer.try_clone().context("pipe")?).stderr(writer);
        let spawned = command.spawn();
        // The command holds the pipe's other end, which has to be closed for the reader to see the program's end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = spawned.with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let group = Pid::from_raw(child.id().cast_signed());
        let log = Arc::new(Log::default());
        let reading = Arc::clone(&log);
        thread::spawn(move || reading.read(reader));
        Ok(Self { child: Mutex::new(child), group, log })
    }

    /// The process id, which is the process group's too.
    pub fn pid(&self) -> u32 {
        self.group.as_raw().cast_unsigned()
    }

    /// Sends a signal to the program and all it started. One that has ended already is no error.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The child is reaped under this lock only, so the id cannot have passed to another process.
        let mut child = self.child();
        if child.try_wait().context("wait")?.is_some() {
            return Ok(());
        }
        killpg(self.group, signal).with_context(|| format!("{signal} to process group {}", self.group))
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        self.child().try_wait().context("wait")
    }

    /// Waits for its end; `None`: it still runs after so long.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn wait(&self, patience: Duration) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + patience;
        loop {
            match self.ended()? {
                None if Instant::now() < until => thread::sleep(Duration::from_millis(2)),
                ended => return Ok(ended),
            }
        }
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn kill(&self) -> Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.child().wait().context("wait")
    }

    /// What it has written so far, from the line of an index on.
    pub fn lines_from(&self, index: usize) -> Vec<Line> {
        self.log.state().lines.get(index..).unwrap_or_default().to_vec()
    }

    /// Waits for a line that satisfies; `None`: it has ended, or there is none after so long.
    pub fn wait_for_line(&self, patience: Duration, satisfies: impl Fn(&str) -> bool) -> Option<Line> {
        let until = Instant::now() + patience;
        let mut seen = 0;
        let mut state = self.log.state();
        loop {
            if let Some(line) = state.lines.iter().skip(seen).find(|line| satisfies(&line.text)) {
                return Some(line.clone());
            }
            seen = state.lines.len();
            let left = until.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            (state, _) = self.log.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to be told of a failure here; PDEATHSIG is the second line.
        self.kill().ok();
    }
}

impl Log {
    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, output: PipeReader) {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { break };
            let line = Line { at: Instant::now(), text: String::from_utf8_lossy(&line).into_owned() };
            let mut state = self.state();
            if state.lines.len() < MOST_LINES {
                state.lines.push(line);
            }
            self.grown.notify_all();
        }
        self.state().ended = true;
        self.grown.notify_all();
    }
}
