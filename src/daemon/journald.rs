//! The log in the journal of systemd: each line with its fields, and those of events with the `MESSAGE_ID` of their kind.

use std::cell::Cell;
use std::fmt;
use std::io;

use sha2::{Digest, Sha256};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::driver::journald::{Entry, Journald};

thread_local! {
    /// The kind of the event that this thread's lines are about.
    static ABOUT: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// What is logged meanwhile is about an event of this kind.
pub(super) fn about(kind: &'static str, log: impl FnOnce()) {
    ABOUT.set(Some(kind));
    log();
    ABOUT.set(None);
}

/// The `MESSAGE_ID` of a kind of event: the first 128 bits of SHA-256 of `vipd:` and its name.
pub fn message_id(kind: &str) -> String {
    let digest = Sha256::new_with_prefix("vipd:").chain_update(kind).finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Writes all log lines to journald.
#[derive(Debug)]
pub struct JournalLayer(Journald);

impl JournalLayer {
    /// Where journald listens on this machine.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn open() -> io::Result<Self> {
        Journald::open().map(Self)
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        entry.put("priority", priority(*event.metadata().level()));
        entry.put("syslog_identifier", "vipd");
        if let Some(kind) = ABOUT.get() {
            entry.put("message_id", &message_id(kind));
            entry.put("event", kind);
        }
        event.record(&mut Fields(&mut entry));
        // There is nobody to be told that nobody can be told.
        self.0.send(&entry).ok();
    }
}

/// The priorities of syslog.
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

struct Fields<'e>(&'e mut Entry);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.put(field.name(), &format!("{value:?}"));
    }
}
