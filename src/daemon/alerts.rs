//! Alerts: whoever is to be told of what needs somebody. Each has a thread and a queue of its own, so that none waits
//! for another.
//!
//! What cannot be told is told later: after a second, and after longer each time. What is too old then is of no use any
//! more, and what has no room is lost; both are counted, and the next that gets through says how many.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::alert_accounts::{Account, Accounts};
use super::clock;
use super::journald::message_id;
use super::log::Names;
use super::record::Record;
use super::severity::severity;
use crate::config::{Alert, Severity, Way};
use crate::driver::checks::webhook::Left;
use crate::driver::journald::{Entry, Journald};
use crate::driver::program::{Runner, Told};
use crate::engine::{Event, Instant};

/// How many events may wait to be written down, and then for each alert: for its next attempt, and as many that come
/// during one. Whoever was told of so many does not read more.
const WAITING: usize = 256;
/// How long after a failure it is tried again; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What is older is history: it stands in the journal.
const TOO_OLD: Duration = Duration::from_secs(3600);
/// A failure that goes on is repeated in the log once in so long.
const TROUBLE_SPACING: Duration = Duration::from_secs(60);
/// How long an agent that ends tries to tell what is left.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// The version of the document. Fields are added; one that goes or changes its meaning makes a new one.
const SCHEMA: u32 = 1;

/// What the thread that writes down is told.
#[derive(Debug)]
enum Order {
    Event(Box<Event>),
    Names(Box<Names>),
    Keep(Vec<Alert>),
}

/// The loop's end: never blocks.
#[derive(Debug)]
pub(super) struct Alerts {
    orders: SyncSender<Order>,
    kept: Vec<Alert>,
    lost: Arc<AtomicU64>,
}

impl Alerts {
    /// Starts the threads.
    pub(super) fn start(
        names: Names,
        alerts: Vec<Alert>,
        accounts: Accounts,
    ) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (orders, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let (tellers, writers) = (Vec::new(), Arc::clone(&lost));
        let mut writer = Writer { boot: clock::boot_id(), names, tellers, lost: writers, accounts };
        let first = alerts.clone();
        let thread = thread::Builder::new().name("alerts".into()).spawn(move || {
            writer.keep(first);
            writer.run(&waiting);
        })?;
        Ok((Self { orders, kept: alerts, lost }, thread))
    }

    /// Tells those who want to know of such events.
    pub(super) fn tell(&self, event: &Event) {
        let matters = severity(&event.kind);
        if self.kept.iter().any(|alert| alert.severity <= matters)
            && self.orders.try_send(Order::Event(Box::new(event.clone()))).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How vips, links and the node are called from now on.
    pub(super) fn rename(&self, names: &Names) {
        // One that has no room has names that are good enough.
        self.orders.try_send(Order::Names(Box::new(names.clone()))).ok();
    }

    /// From now on these are told: the names of those that are not as before. None where there is no room now.
    pub(super) fn keep(&mut self, alerts: Vec<Alert>) -> Option<Vec<String>> {
        if self.kept == alerts {
            return Some(Vec::new());
        }
        self.orders.try_send(Order::Keep(alerts.clone())).ok()?;
        let gone = self.kept.iter().filter(|alert| !alerts.contains(alert));
        let new = alerts.iter().filter(|alert| !self.kept.contains(alert));
        let mut changed: Vec<String> = gone.chain(new).map(|alert| alert.name.clone()).collect();
        changed.sort_unstable();
        changed.dedup();
        self.kept = alerts;
        Some(changed)
    }
}

/// Writes events down, once for all.
struct Writer {
    boot: String,
    names: Names,
    tellers: Vec<Teller>,
    lost: Arc<AtomicU64>,
    accounts: Accounts,
}

/// An event, written down.
#[derive(Debug)]
struct Written {
    severity: Severity,
    at: Instant,
    record: Record,
}

impl Writer {
    fn run(&mut self, waiting: &Receiver<Order>) {
        while let Ok(order) = waiting.recv() {
            match order {
                Order::Event(event) => self.pass_on(&event),
                Order::Names(names) => self.names.extend(*names),
                Order::Keep(alerts) => self.keep(alerts),
            }
        }
        let mut left = LAST_PATIENCE;
        for teller in &mut self.tellers {
            teller.waiting = None;
        }
        for teller in &mut self.tellers {
            let began = clock::now();
            teller.done.recv_timeout(left).ok();
            left = left.saturating_sub(clock::now().since(began));
        }
        self.tellers.clear();
    }

    fn keep(&mut self, alerts: Vec<Alert>) {
        self.tellers.retain(|teller| alerts.contains(&teller.alert));
        let mut accounts = Vec::new();
        for alert in alerts {
            let account = match self.tellers.iter().find(|teller| teller.alert == alert) {
                Some(teller) => teller.account.clone(),
                None => self.begin(alert.clone()),
            };
            accounts.push((alert, account));
        }
        self.accounts.keep(accounts);
    }

    fn begin(&mut self, alert: Alert) -> Account {
        let (name, account) = (alert.name.clone(), Account::default());
        match Teller::start(alert, account.clone()) {
            Ok(teller) => self.tellers.push(teller),
            Err(error) => {
                error!(alert = name, "alert {name} tells nobody: {error}");
                account.failed(&error.to_string(), None);
            }
        }
        account
    }

    fn pass_on(&self, event: &Event) {
        let record = Record::of_event(event, &self.boot, &self.names);
        let written = Arc::new(Written { severity: severity(&event.kind), at: event.at, record });
        let lost = self.lost.swap(0, Ordering::Relaxed);
        for teller in &self.tellers {
            teller.lost.fetch_add(lost, Ordering::Relaxed);
            teller.account.missed(lost);
            let Some(waiting) = teller.waiting.as_ref().filter(|_| teller.alert.severity <= written.severity) else {
                continue;
            };
            teller.account.queue();
            if waiting.try_send(Arc::clone(&written)).is_err() {
                teller.lost.fetch_add(1, Ordering::Relaxed);
                teller.account.dropped();
            }
        }
    }
}

/// Tells one.
struct Teller {
    alert: Alert,
    waiting: Option<SyncSender<Arc<Written>>>,
    lost: Arc<AtomicU64>,
    account: Account,
    stop: Option<PipeWriter>,
    done: Receiver<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Teller {
    fn start(alert: Alert, account: Account) -> io::Result<Self> {
        let (stop, stopper) = io::pipe()?;
        let (waiting, events) = sync_channel(WAITING);
        let (at_end, done) = channel();
        let lost = Arc::new(AtomicU64::new(0));
        let mut work = Work {
            alert: alert.clone(),
            events,
            late: VecDeque::new(),
            lost: Arc::clone(&lost),
            account: account.clone(),
            stop,
            runner: None,
            left: Left::default(),
            journald: None,
            troubled_at: None,
        };
        let name: String = format!("alert {}", alert.name).chars().take(15).collect();
        let thread = thread::Builder::new().name(name).spawn(move || {
            work.run();
            at_end.send(()).ok();
        })?;
        Ok(Self { alert, waiting: Some(waiting), lost, account, stop: Some(stopper), done, thread: Some(thread) })
    }
}

impl Drop for Teller {
    /// Ends what is under way.
    fn drop(&mut self) {
        self.waiting = None;
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has nothing left to be ended.
            thread.join().ok();
        }
    }
}

struct Work {
    alert: Alert,
    events: Receiver<Arc<Written>>,
    /// What could not be told yet, the oldest first.
    late: VecDeque<Arc<Written>>,
    lost: Arc<AtomicU64>,
    account: Account,
    stop: PipeReader,
    /// Of the thread that runs programs.
    runner: Option<Runner>,
    left: Left,
    journald: Option<Journald>,
    troubled_at: Option<Instant>,
}

/// Nobody sends events any more.
struct Ending;

impl Work {
    fn run(&mut self) {
        let mut pause = FIRST_PAUSE;
        let mut ends = false;
        loop {
            if self.late.is_empty() && !ends {
                match self.events.recv() {
                    Ok(event) => self.late.push_back(event),
                    Err(_) => return,
                }
            }
            self.forget();
            let Some(next) = self.late.front().map(Arc::clone) else {
                if ends {
                    return;
                }
                continue;
            };
            let lost = self.lost.load(Ordering::Relaxed);
            self.account.tries();
            match self.tell(&next, lost) {
                Ok(()) => {
                    self.lost.fetch_sub(lost, Ordering::Relaxed);
                    self.late.pop_front();
                    self.account.delivered();
                    pause = FIRST_PAUSE;
                    if self.troubled_at.take().is_some() {
                        info!(alert = self.alert.name, "alert {} gets through again", self.alert.name);
                    }
                }
                Err(None) => return,
                Err(Some(why)) => {
                    self.complain(&why);
                    self.account.failed(&why, Some(pause));
                    ends = ends || self.wait(pause).is_err();
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    if ends {
                        // The last chance was this one's; the others have theirs.
                        self.late.pop_front();
                        self.account.dropped();
                    }
                }
            }
        }
    }

    /// Takes what comes meanwhile.
    fn wait(&mut self, pause: Duration) -> Result<(), Ending> {
        let until = clock::now() + pause;
        loop {
            match self.events.recv_timeout(until.since(clock::now())) {
                Ok(event) => {
                    self.late.push_back(event);
                    self.forget();
                }
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Ending),
            }
        }
    }

    /// What is too old, or one too many.
    fn forget(&mut self) {
        let now = clock::now();
        while self.late.len() > WAITING || self.late.front().is_some_and(|event| now.since(event.at) >= TOO_OLD) {
            self.late.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.account.dropped();
        }
    }

    fn complain(&mut self, why: &str) {
        let now = clock::now();
        if self.troubled_at.is_none_or(|at| now.since(at) >= TROUBLE_SPACING) {
            self.troubled_at = Some(now);
            let (name, waiting) = (&self.alert.name, self.late.len());
            warn!(alert = name, waiting, "alert {name} does not get through, it is tried again: {why}");
        }
    }

    /// Why not; `None`: nobody wants to wait any longer.
    fn tell(&mut self, event: &Written, lost: u64) -> Result<(), Option<String>> {
        let Self { alert, stop, runner, left, journald, .. } = self;
        match &alert.way {
            Way::Webhook(webhook) => webhook.tell(&document(alert, event, lost), alert.timeout, stop.as_fd(), left),
            Way::Exec(program) => {
                let environment = [
                    ("VIPD_ALERT", alert.name.clone()),
                    ("VIPD_SEVERITY", event.severity.name().to_owned()),
                    ("VIPD_NODE", event.record.node.clone()),
                    ("VIPD_VIP", event.record.vip.clone().unwrap_or_default()),
                    ("VIPD_EVENT", event.record.kind.clone()),
                    ("VIPD_TEXT", event.record.text.clone()),
                    ("VIPD_AT", event.record.at.clone()),
                ];
                let told = Told {
                    environment: environment.map(|(name, value)| (name.to_owned(), one_line(&value))).to_vec(),
                    input: document(alert, event, lost).into_bytes(),
                };
                let runner = runner.get_or_insert_with(Runner::on_this_thread);
                runner.run(program, &told, alert.timeout, stop.as_fd()).map(drop)
            }
            Way::Journal => {
                let journald = match journald {
                    Some(journald) => journald,
                    None => journald.insert(Journald::open().map_err(|error| Some(error.to_string()))?),
                };
                journald.send(&entry(event)).map_err(|error| Some(error.to_string()))
            }
        }
    }
}

fn document(alert: &Alert, event: &Written, lost: u64) -> String {
    let mut document = serde_json::to_value(&event.record).unwrap_or_else(|_| json!({}));
    if let Value::Object(fields) = &mut document {
        let more = [
            ("schema", json!(SCHEMA)),
            ("alert", json!(alert.name)),
            ("severity", json!(event.severity.name())),
            ("lost", json!(lost)),
        ];
        fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    format!("{document}\n")
}

fn entry(event: &Written) -> Entry {
    let Record { at, node, vip, kind, cause, text, .. } = &event.record;
    let priority = match event.severity {
        Severity::Info => "6",
        Severity::Warning => "4",
        Severity::Error => "3",
    };
    let mut entry = Entry::default();
    let of = vip.as_ref().map(|vip| format!("{vip}: ")).unwrap_or_default();
    entry.put("message", &format!("{of}{text}"));
    entry.put("message_id", &message_id(kind));
    entry.put("priority", priority);
    entry.put("syslog_identifier", "vipd");
    entry.put("event", kind);
    entry.put("node", node);
    entry.put("at", at);
    for (name, value) in [("vip", vip), ("cause", cause)] {
        if let Some(value) = value {
            entry.put(name, value);
        }
    }
    entry
}

/// What a check said may be in it; a variable is one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
