//! The journal of events on disk, written by a thread of its own: a slow, full or read-only disk delays and stops nothing.
//!
//! What cannot be written is an alarm, in the log and in the status, and is tried again with each event.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tracing::{error, info};

use super::clock;
use super::journal_file::{LIMIT, Writer};
use super::log::Names;
use super::message::Message;
use super::record::Record;
use crate::driver::state_dir::StateDir;
use crate::engine::{Event, Instant};

/// How many events may wait for a disk that is slow.
const QUEUE: usize = 4096;
/// How long a stopping agent waits for a disk that is slow: its addresses are gone by then, but who stops it waits.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
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
}

/// The loop's end: never blocks.
#[derive(Debug)]
pub(super) struct Journal {
    entries: Sender<Entry>,
    overflown: Arc<AtomicU64>,
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
        Ok((Self { entries, overflown }, ended))
    }

    /// Records an event, or counts it as lost where the disk is too slow.
    pub(super) fn record(&self, event: Event) {
        self.send(Entry::Event(event));
    }

    /// How vips, links and the node are called from now on.
    pub(super) fn rename(&self, names: Names) {
        self.send(Entry::Names(names));
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
        self.write_of_agent("started", format!("vipd {} starts", env!("CARGO_PKG_VERSION")));
        self.settle();
        while let Some(entry) = waiting.blocking_recv() {
            self.take(entry);
            while let Ok(entry) = waiting.try_recv() {
                self.take(entry);
            }
            self.settle();
        }
        self.write_of_agent("stopped", "vipd stops".to_owned());
        self.settle();
    }

    fn take(&mut self, entry: Entry) {
        let overflown = self.overflown.swap(0, Ordering::Relaxed);
        if overflown > 0 {
            self.status.lost += overflown;
            self.write_of_agent("events-lost", format!("the disk was too slow: {overflown} events are missing here"));
        }
        match entry {
            Entry::Event(event) => {
                let record = Record::of_event(&event, &self.boot, &self.names);
                self.write(&record);
            }
            Entry::Names(names) => self.names.extend(names),
        }
    }

    fn write_of_agent(&mut self, kind: &str, text: String) {
        let record = Record::of_agent(kind, text, &self.boot, &self.names);
        self.write(&record);
    }

    fn write(&mut self, record: &Record) {
        if let Err(error) = self.try_write(record) {
            self.status.lost += 1;
            self.alarm(&error);
        } else if self.status.trouble.take().is_some() {
            self.alarmed_at = None;
            info!("events are written to {} again", self.dir.display());
        }
    }

    fn try_write(&mut self, record: &Record) -> io::Result<()> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(Writer::open(StateDir::open(&self.dir)?, LIMIT)?),
        };
        writer.append(record)
    }

    /// Nothing waits: the disk has time to hold what it was given, and the loop hears how it went.
    fn settle(&mut self) {
        if let Some(Err(error)) = self.writer.as_ref().map(Writer::sync) {
            self.alarm(&error);
        }
        if self.status != self.told && self.to_loop.try_send(Message::Journal(self.status.clone())).is_ok() {
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
