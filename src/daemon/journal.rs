//! The journal of events on disk, written by a thread of its own: a slow, full or read-only disk delays and stops nothing.
//!
//! What cannot be written is an alarm, in the log and in the status, and is tried again with each event.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tracing::{debug, error, info};

use super::clock;
use super::journal_file::{LIMIT, Writer, last_seen, write_last_seen};
use super::log::Names;
use super::message::Message;
use super::record::{Record, Trace};
use crate::driver::state_dir::StateDir;
use crate::engine::{Cause, Event, EventKind, Instant, StateName};

/// How many events may wait for a disk that is slow.
const QUEUE: usize = 4096;
/// How long a stopping agent waits for a disk that is slow: its addresses are gone by then, but who stops it waits.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// How often the loop says that it runs: so much of a crash's time is unknown.
pub const BEAT: Duration = Duration::from_secs(10);
/// How often the journal says so: 200 kB in a month.
const SAY_AGAIN: Duration = Duration::from_secs(3600);
/// How many vips a line tells of; with names of 200 bytes it is still one that readers take.
const STATES_IN_A_LINE: usize = 200;
/// The state of a Backup that hears no owner, and does not claim.
const WAITING: &str = "Waiting";
/// An alarm that goes on is repeated in the log once in so long.
const ALARM_SPACING: Duration = Duration::from_secs(60);

/// How the journal does, for the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStatus {
    /// The state directory.
    pub dir: PathBuf,
    /// Why events cannot be written now: an alarm.
    pub trouble: Option<String>,
    /// How many events are in no file.
    pub lost: u64,
}

/// What the thread is told.
#[derive(Debug)]
enum Entry {
    Event(Event),
    Names(Names),
    /// The loop runs; for how long it did not, where that is worth a line.
    Beat(Option<Duration>),
}

/// The loop's end: never blocks.
#[derive(Debug)]
pub(super) struct Journal {
    entries: Sender<Entry>,
    overflown: Arc<AtomicU64>,
    next_beat: Instant,
}

/// Waits for a thread that writes to a disk.
#[derive(Debug)]
pub(super) struct Ended {
    thread: &'static str,
    end: std::sync::mpsc::Receiver<()>,
}

impl Journal {
    /// Starts the thread.
    pub(super) fn start(dir: &Path, names: Names, to_loop: Sender<Message>) -> io::Result<(Self, Ended)> {
        let overflown = Arc::new(AtomicU64::new(0));
        let (entries, waiting) = mpsc::channel(QUEUE);
        let (at_end, ended) = Ended::pair("journal");
        let mut thread = Thread {
            dir: dir.to_owned(),
            writer: None,
            states: BTreeMap::new(),
            unwritten: 0,
            said_at: clock::now(),
            boot: clock::boot_id(),
            names,
            overflown: Arc::clone(&overflown),
            told: JournalStatus::default(),
            status: JournalStatus { dir: dir.to_owned(), ..JournalStatus::default() },
            alarmed_at: None,
            to_loop,
        };
        thread::Builder::new().name("journal".into()).spawn(move || {
            thread.run(waiting);
            drop(at_end);
        })?;
        Ok((Self { entries, overflown, next_beat: clock::now() + BEAT }, ended))
    }

    /// Records an event, or counts it as lost where the disk is too slow.
    pub(super) fn record(&self, event: Event) {
        self.send(Entry::Event(event));
    }

    /// How vips, links and the node are called from now on.
    pub(super) fn rename(&self, names: Names) {
        self.send(Entry::Names(names));
    }

    /// When the loop is to say that it runs.
    pub(super) const fn next_beat(&self) -> Instant {
        self.next_beat
    }

    /// Says it, where it is time.
    pub(super) fn beat(&mut self, now: Instant) {
        if now >= self.next_beat {
            let late = now.since(self.next_beat);
            self.next_beat = now + BEAT;
            self.send(Entry::Beat((late >= BEAT).then_some(late + BEAT)));
        }
    }

    fn send(&self, entry: Entry) {
        if self.entries.try_send(entry).is_err() {
            self.overflown.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Ended {
    /// What the thread drops at its end, and who waits for that.
    pub(super) fn pair(thread: &'static str) -> (std::sync::mpsc::Sender<()>, Self) {
        let (at_end, end) = std::sync::mpsc::channel();
        (at_end, Self { thread, end })
    }

    /// Waits until all is written, but not for ever. Call it when the loop's end is gone.
    pub(super) fn wait(self) {
        if matches!(self.end.recv_timeout(LAST_PATIENCE), Err(std::sync::mpsc::RecvTimeoutError::Timeout)) {
            error!("the disk is too slow: what the thread {:?} was to write last may not be there", self.thread);
        }
    }
}

struct Thread {
    dir: PathBuf,
    writer: Option<Writer>,
    /// What each vip does, by the events of this agent. One that is not here may do anything.
    states: BTreeMap<Arc<str>, &'static str>,
    /// Events that the disk refused, and of which the journal says nothing yet.
    unwritten: u64,
    /// When the journal said last that the agent runs.
    said_at: Instant,
    boot: String,
    names: Names,
    overflown: Arc<AtomicU64>,
    status: JournalStatus,
    /// What the loop knows of it.
    told: JournalStatus,
    alarmed_at: Option<Instant>,
    to_loop: Sender<Message>,
}

impl Thread {
    fn run(&mut self, mut waiting: Receiver<Entry>) {
        let mut started = self.of_agent("started", format!("vipd {} starts", env!("CARGO_PKG_VERSION")));
        if let Some(before) = StateDir::open(&self.dir).ok().and_then(|dir| last_seen(&dir)) {
            started.evidence.insert("before".to_owned(), json!(Trace::of(&before)));
        }
        self.write(&started);
        self.leave_trace();
        self.settle();
        while let Some(entry) = waiting.blocking_recv() {
            self.take(entry);
            while let Ok(entry) = waiting.try_recv() {
                self.take(entry);
            }
            self.settle();
        }
        let stopped = self.of_agent("stopped", "vipd stops");
        self.write(&stopped);
        self.leave_trace();
        self.settle();
    }

    fn take(&mut self, entry: Entry) {
        let overflown = self.overflown.swap(0, Ordering::Relaxed);
        if overflown > 0 {
            self.status.lost += overflown;
            // One of them may have been a transition.
            self.states.clear();
            let text = format!("the disk was too slow: {overflown} events are missing here");
            let lost = self.of_agent("events-lost", text);
            self.write(&lost);
        }
        match entry {
            Entry::Event(event) => {
                let record = Record::of_event(&event, &self.boot, &self.names);
                self.note(&event);
                self.write(&record);
            }
            Entry::Names(names) => self.names.extend(names),
            Entry::Beat(did_not_run) => {
                if let Some(time) = did_not_run {
                    let text = format!("the agent could not run for {} s", time.as_secs());
                    let mut stalled = self.of_agent("stalled", text);
                    stalled.evidence.insert("ms".to_owned(), json!(time.as_millis()));
                    self.write(&stalled);
                }
                let now = clock::now();
                if now.since(self.said_at) >= SAY_AGAIN {
                    self.said_at = now;
                    let running = self.of_agent("running", "vipd runs");
                    self.write(&running);
                }
                self.leave_trace();
            }
        }
    }

    /// Keeps count of what each vip does.
    fn note(&mut self, event: &Event) {
        let Some(vip) = event.vip.and_then(|vip| self.names.shared(vip)) else { return };
        let state = match &event.kind {
            EventKind::Transition { cause: Cause::Removed, .. } => {
                self.states.remove(&vip);
                return;
            }
            EventKind::Transition { to, .. } => to.name(),
            EventKind::ClaimWaits { .. } => WAITING,
            EventKind::OwnerBack { .. } => StateName::Backup.name(),
            _ => return,
        };
        self.states.insert(vip, state);
    }

    fn of_agent(&self, kind: &str, text: impl Into<String>) -> Record {
        Record::of_agent(kind, text, &self.boot, &self.names)
    }

    /// Where the agent is last known to have run, should it not get to say that it stops. Not of the journal, which
    /// would be full of it; nor is it waited for, so that a disk may sleep.
    fn leave_trace(&self) {
        let trace = self.of_agent("running", "vipd runs");
        let written = StateDir::open(&self.dir).and_then(|dir| write_last_seen(&dir, &trace));
        // Where the journal cannot be written either, that is an alarm.
        if let Err(error) = written {
            debug!("{error}");
        }
    }

    fn write(&mut self, record: &Record) {
        if let Err(error) = self.try_write(record) {
            self.status.lost += 1;
            self.unwritten += 1;
            self.alarm(&error);
        } else if self.status.trouble.take().is_some() {
            self.alarmed_at = None;
            info!("events are written to {} again", self.dir.display());
        }
    }

    fn try_write(&mut self, record: &Record) -> io::Result<()> {
        if self.unwritten > 0 {
            let text = format!("the disk refused {} events, which are missing here", self.unwritten);
            let lost = self.of_agent("events-lost", text);
            self.append(&lost)?;
            self.unwritten = 0;
            self.append_states()?;
        }
        if self.append(record)? {
            self.append_states()?;
        }
        Ok(())
    }

    /// Whether it has begun another file.
    fn append(&mut self, record: &Record) -> io::Result<bool> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(Writer::open(StateDir::open(&self.dir)?, LIMIT)?),
        };
        writer.append(record)
    }

    /// What each vip does, for a reader who does not know what was before.
    fn append_states(&mut self) -> io::Result<()> {
        let states: Vec<_> = self.states.iter().map(|(vip, state)| (vip.to_string(), json!(state))).collect();
        for some in states.chunks(STATES_IN_A_LINE) {
            let mut running = self.of_agent("running", "vipd runs");
            // Not collected: that sorts them, by code that is let go when the agent runs.
            let mut line = Map::new();
            line.extend(some.iter().cloned());
            running.evidence.insert("states".to_owned(), Value::Object(line));
            self.append(&running)?;
        }
        Ok(())
    }

    /// Nothing waits: the disk has time to hold what it was given, and the loop hears how it went.
    fn settle(&mut self) {
        if let Some(Err(error)) = self.writer.as_ref().map(Writer::sync) {
            self.alarm(&error);
        }
        if self.status != self.told && self.to_loop.try_send(Message::Journal(Box::new(self.status.clone()))).is_ok() {
            self.told = self.status.clone();
        }
    }

    fn alarm(&mut self, error: &io::Error) {
        let now = clock::now();
        if self.alarmed_at.is_none_or(|at| now.since(at) >= ALARM_SPACING) {
            error!("events are NOT recorded: {error}; all else goes on; free or repair {}", self.dir.display());
            self.alarmed_at = Some(now);
        }
        self.status.trouble = Some(error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::journal_file::Reader;

    fn thread(dir: &Path, boot: &str) -> Thread {
        let (to_loop, _) = mpsc::channel(1);
        Thread {
            dir: dir.to_owned(),
            writer: None,
            states: [("db".into(), "Active")].into(),
            unwritten: 0,
            said_at: clock::now(),
            boot: boot.to_owned(),
            names: Names::of(&crate::engine::Engine::new(crate::engine::Settings::of("a", Vec::new()), clock::now())),
            overflown: Arc::default(),
            status: JournalStatus::default(),
            told: JournalStatus::default(),
            alarmed_at: None,
            to_loop,
        }
    }

    fn kinds(dir: &Path) -> Vec<String> {
        let mut reader = Reader::open(dir).expect("there is a journal");
        std::iter::from_fn(|| reader.next_record().expect("it can be read"))
            .map(|record| match record.evidence.get("states") {
                Some(states) => format!("{} {states}", record.kind),
                None => record.kind,
            })
            .collect()
    }

    #[test]
    fn a_new_file_and_one_after_a_loss_begin_with_what_each_vip_does() {
        let dir = std::env::temp_dir().join(format!("vipd-journal-states-{}", std::process::id()));
        let mut thread = thread(&dir, "b");
        thread.writer =
            Some(Writer::open(StateDir::open(&dir).expect("it can be made"), 1).expect("it can be written"));
        for _ in 0..2 {
            let record = thread.of_agent("one", "");
            thread.write(&record);
        }
        // Each line begins another file here, and there are two.
        assert_eq!(kinds(&dir), ["one", "running {\"db\":\"Active\"}"]);
        std::fs::remove_dir_all(&dir).expect("it is ours");

        thread.writer = None;
        thread.unwritten = 2;
        let record = thread.of_agent("one", "");
        thread.write(&record);
        assert_eq!(kinds(&dir), ["events-lost", "running {\"db\":\"Active\"}", "one"]);
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }

    #[test]
    fn an_agent_without_a_stop_leaves_its_last_trace_to_the_next() {
        let dir = std::env::temp_dir().join(format!("vipd-journal-trace-{}", std::process::id()));
        let killed = thread(&dir, "the boot before");
        killed.leave_trace();
        let (entries, waiting) = mpsc::channel(1);
        drop(entries);
        thread(&dir, "b").run(waiting);
        let mut reader = Reader::open(&dir).expect("there is a journal");
        let started = reader.next_record().expect("it can be read").expect("there is one");
        let before: Trace = serde_json::from_value(started.evidence["before"].clone()).expect("a trace");
        assert_eq!((started.kind.as_str(), before.boot.as_str()), ("started", "the boot before"));
        assert!(before.monotonic_ns > 0 && before.monotonic_ns <= started.monotonic_ns);
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}
