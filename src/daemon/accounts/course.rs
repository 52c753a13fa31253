//! What one node knew of each vip, when: made of the records of its journal.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::Value;

use super::{Drill, Nanos, nanos};
use crate::daemon::record::{Record, Trace};

/// The cause of a claim that takes over from nobody.
pub(super) const NO_OWNER_HEARD: &str = "no-owner-heard";
/// A step of the wall clock that is worth a note.
const STEP: Nanos = 1_000_000_000;

/// What a node knows of a vip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// That it is the owner itself.
    Owns,
    /// That another is, whose adverts it hears.
    Hears,
    /// That none is heard, and that it will be the owner next.
    Missing,
    /// That it is not the owner itself, and no more.
    Away,
    /// Nothing is recorded.
    Unknown,
}

/// What is known of a vip, from each point on until the next.
#[derive(Clone, Debug)]
pub(super) struct Course {
    changes: Vec<(Nanos, Knowledge)>,
    /// An agent that owned the vip has gone without giving it up: how many changes there were by then. Should the next
    /// one adopt it, it was owned all the time.
    orphaned: Option<usize>,
    claims_because: String,
}

/// A claim that succeeded.
#[derive(Clone, Debug)]
pub(super) struct Takeover {
    pub at: Nanos,
    pub vip: String,
    pub cause: String,
}

/// An ownership that ended.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub at: Nanos,
    pub vip: String,
    pub cause: String,
}

/// What a journal says.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub name: String,
    pub first: Nanos,
    pub last: Nanos,
    pub vips: BTreeMap<String, Course>,
    pub takeovers: Vec<Takeover>,
    pub endings: Vec<Ending>,
    /// Each sign of a second owner, by vip.
    pub rivals: Vec<(Nanos, String)>,
    pub drills: Vec<(Nanos, Drill)>,
    /// Since when the agent runs, as far as all is known that it did.
    runs_since: Option<Nanos>,
    /// Whether the last that is heard of the agent is that it stopped.
    stopped: bool,
}

/// The nodes that records are of, by name, and what is to be said about the records.
pub(super) fn nodes(records: Vec<Record>) -> (Vec<Node>, Vec<String>) {
    let mut seen = HashSet::new();
    let mut by_node: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for record in records {
        let key =
            (record.node.clone(), record.boot.clone(), record.monotonic_ns, record.kind.clone(), record.vip.clone());
        if seen.insert((key, record.text.clone())) {
            by_node.entry(record.node.clone()).or_default().push(record);
        }
    }
    let mut notes = Vec::new();
    let nodes = by_node.into_iter().filter_map(|(name, records)| Node::of(name, records, &mut notes)).collect();
    (nodes, notes)
}

/// Where each boot's clock stands against the wall clock.
struct Clocks(BTreeMap<String, Nanos>);

impl Clocks {
    /// By the last record of each boot: a host that has just been started may not know the time.
    fn of(node: &str, records: &[Record], notes: &mut Vec<String>) -> Self {
        let mut clocks: BTreeMap<String, Nanos> = BTreeMap::new();
        for record in records {
            let Some(offset) = offset(&record.at, record.monotonic_ns) else { continue };
            let before = clocks.insert(record.boot.clone(), offset);
            if let Some(step) = before.map(|before| offset - before).filter(|step| step.abs() >= STEP) {
                let seconds = step / STEP;
                notes.push(format!("{node}: the wall clock was stepped by {seconds} s before {}", record.at));
            }
        }
        Self(clocks)
    }

    fn time(&self, boot: &str, monotonic_ns: u64) -> Option<Nanos> {
        Some(self.0.get(boot)? + Nanos::try_from(monotonic_ns).ok()?)
    }

    /// Of a sign of life, whose boot may have left no other.
    fn of_trace(&self, trace: &Trace) -> Option<Nanos> {
        self.time(&trace.boot, trace.monotonic_ns).or_else(|| Some(nanos(humantime::parse_rfc3339(&trace.at).ok()?)))
    }
}

fn offset(at: &str, monotonic_ns: u64) -> Option<Nanos> {
    Some(nanos(humantime::parse_rfc3339(at).ok()?) - Nanos::try_from(monotonic_ns).ok()?)
}

impl Node {
    fn of(name: String, mut records: Vec<Record>, notes: &mut Vec<String>) -> Option<Self> {
        // Files may be named in any order.
        records.sort_by(|one, other| (&one.boot, one.monotonic_ns).cmp(&(&other.boot, other.monotonic_ns)));
        let clocks = Clocks::of(&name, &records, notes);
        records.sort_by_key(|record| clocks.time(&record.boot, record.monotonic_ns));
        let timed = |record: &Record| clocks.time(&record.boot, record.monotonic_ns);
        let first = records.iter().find_map(timed)?;
        let mut node = Self {
            name,
            first,
            last: first,
            vips: BTreeMap::new(),
            takeovers: Vec::new(),
            endings: Vec::new(),
            rivals: Vec::new(),
            drills: Vec::new(),
            runs_since: None,
            stopped: false,
        };
        for record in &records {
            let Some(at) = timed(record) else { continue };
            // Two boots whose clocks disagree.
            let at = at.max(node.last);
            node.take(at, record, &clocks);
            node.last = at;
        }
        if !node.stopped {
            let last = node.last;
            node.vips.values_mut().for_each(|course| course.set(last, Knowledge::Unknown));
        }
        Some(node)
    }

    fn take(&mut self, at: Nanos, record: &Record, clocks: &Clocks) {
        match record.kind.as_str() {
            "started" => self.on_started(at, record, clocks),
            "stopped" => {
                self.vips.values_mut().for_each(|course| course.on_stopped(at));
                self.runs_since = None;
                self.stopped = true;
            }
            "stalled" => {
                let since = at - nanos_of(record, "ms").unwrap_or(0);
                self.vips.values_mut().for_each(|course| course.forget(since, at));
            }
            "events-lost" => {
                let last = self.last;
                self.vips.values_mut().for_each(|course| course.set(last, Knowledge::Unknown));
                self.runs_since = None;
            }
            "running" => {
                let states = record.evidence.get("states").and_then(Value::as_object).into_iter().flatten();
                for (vip, state) in states {
                    self.course(vip).learn(at, knowledge(state.as_str().unwrap_or_default()));
                }
            }
            kind => {
                let reason = record.evidence.get("reason").and_then(Value::as_str);
                if matches!((kind, reason), ("handover" | "handover-failed", Some("drill"))) {
                    self.drills.push((at, drill(record)));
                }
                if let Some(vip) = &record.vip {
                    self.on_event(at, vip, record);
                }
            }
        }
    }

    /// An agent that did not stop was last seen at some time before.
    fn on_started(&mut self, at: Nanos, record: &Record, clocks: &Clocks) {
        let before = record.evidence.get("before").and_then(|before| serde_json::from_value(before.clone()).ok());
        let seen = before.and_then(|trace: Trace| clocks.of_trace(&trace)).unwrap_or(self.last);
        let seen = seen.clamp(self.last, at);
        let stopped = std::mem::take(&mut self.stopped);
        for course in self.vips.values_mut() {
            if !stopped {
                course.on_agent_gone(seen);
            }
            // What it does not adopt it does not own.
            course.learn(at, Knowledge::Away);
        }
        self.runs_since = Some(at);
    }

    fn on_event(&mut self, at: Nanos, vip: &str, record: &Record) {
        let fact = |name: &str| record.evidence.get(name).and_then(Value::as_str).unwrap_or_default();
        match record.kind.as_str() {
            "transition" => {
                let (from, to, cause) = (fact("from"), fact("to"), fact("why"));
                let late = nanos_of(record, "late_ms");
                let claimed_because = self.course(vip).on_transition(at, to, cause, late);
                if let Some(cause) = claimed_because {
                    self.takeovers.push(Takeover { at, vip: vip.to_owned(), cause });
                }
                if from == "Active" && cause != "handed-on" {
                    self.endings.push(Ending { at, vip: vip.to_owned(), cause: cause.to_owned() });
                }
            }
            "took-over" => {
                if let Some(away) = nanos_of(record, "away_ms") {
                    self.course(vip).on_took_over(at, away);
                }
            }
            "claim-waits" => self.course(vip).on_claim_waits(at, nanos_of(record, "silence_ms")),
            "owner-back" => self.course(vip).set(at, Knowledge::Hears),
            "rival" | "conflict" | "second-owner" => self.rivals.push((at, vip.to_owned())),
            _ => {}
        }
    }

    fn course(&mut self, vip: &str) -> &mut Course {
        let (first, runs_since) = (self.first, self.runs_since);
        self.vips.entry(vip.to_owned()).or_insert_with(|| {
            let mut course =
                Course { changes: vec![(first, Knowledge::Unknown)], orphaned: None, claims_because: String::new() };
            if let Some(since) = runs_since {
                course.set(since, Knowledge::Away);
            }
            course
        })
    }
}

impl Course {
    /// What is known at a time.
    pub(super) fn at(&self, time: Nanos) -> Knowledge {
        let count = self.changes.partition_point(|(at, _)| *at <= time);
        count.checked_sub(1).map_or(Knowledge::Unknown, |last| self.changes[last].1)
    }

    /// When it changes.
    pub(super) fn times(&self) -> impl Iterator<Item = Nanos> {
        self.changes.iter().map(|(at, _)| *at)
    }

    fn now(&self) -> Knowledge {
        self.changes.last().map_or(Knowledge::Unknown, |(_, knowledge)| *knowledge)
    }

    fn set(&mut self, at: Nanos, knowledge: Knowledge) {
        if self.now() != knowledge {
            self.changes.push((at, knowledge));
        }
    }

    /// What was thought to be known since then was not so. What it owned it did own.
    fn rewrite(&mut self, since: Nanos, knowledge: Knowledge) {
        let owned = self.changes.iter().rposition(|(_, known)| *known == Knowledge::Owns);
        let floor = owned.map(|index| self.changes.get(index + 1).unwrap_or(&self.changes[index]).0);
        let since = since.max(floor.unwrap_or(Nanos::MIN));
        self.changes.retain(|(at, known)| *at < since || (*at == since && *known == Knowledge::Owns));
        self.set(since, knowledge);
    }

    fn learn(&mut self, at: Nanos, knowledge: Knowledge) {
        if self.now() == Knowledge::Unknown {
            self.set(at, knowledge);
        }
    }

    /// Why it claimed, where this is the end of a claim.
    fn on_transition(&mut self, at: Nanos, to: &str, cause: &str, late: Option<Nanos>) -> Option<String> {
        let orphaned = self.orphaned.take();
        match (to, cause) {
            ("Active", "adopted") => {
                if let Some(count) = orphaned {
                    self.changes.truncate(count);
                }
                self.set(at, Knowledge::Owns);
                return None;
            }
            ("Active", _) => {
                self.set(at, Knowledge::Owns);
                return Some(std::mem::take(&mut self.claims_because));
            }
            ("Claiming", _) => {
                if let Some((_, known @ Knowledge::Hears)) = self.changes.last_mut()
                    && cause == NO_OWNER_HEARD
                {
                    // It listened, and there was nobody.
                    *known = Knowledge::Missing;
                }
                self.claims_because = cause.to_owned();
            }
            ("Initialize", "handed-on") => self.orphaned = Some(self.changes.len()),
            (_, _) => {}
        }
        if let Some(late) = late {
            self.rewrite(at - late, Knowledge::Unknown);
        }
        let known = match cause {
            "handed-on" | "address-answers" => Knowledge::Unknown,
            _ => knowledge(to),
        };
        self.set(at, known);
        None
    }

    /// The addresses had been away for so long when it got them.
    fn on_took_over(&mut self, at: Nanos, away: Nanos) {
        if self.now() == Knowledge::Owns {
            let owns = self.changes.pop();
            self.rewrite(at - away, Knowledge::Missing);
            self.changes.extend(owns);
        }
    }

    fn on_claim_waits(&mut self, at: Nanos, silence: Option<Nanos>) {
        let entered = self.changes.last().map_or(at, |(at, _)| *at);
        if self.now() != Knowledge::Owns {
            self.rewrite(silence.map_or(entered, |silence| at - silence), Knowledge::Unknown);
        }
    }

    /// The agent did not run meanwhile. An owner's lease says by itself whether it is one still.
    fn forget(&mut self, since: Nanos, until: Nanos) {
        let known = self.now();
        if known != Knowledge::Owns {
            self.rewrite(since, Knowledge::Unknown);
            self.set(until, known);
        }
    }

    fn on_stopped(&mut self, at: Nanos) {
        match self.now() {
            Knowledge::Owns => self.on_agent_gone(at),
            Knowledge::Hears | Knowledge::Missing => self.set(at, Knowledge::Away),
            // Handed on, if anything.
            Knowledge::Away | Knowledge::Unknown => {}
        }
    }

    fn on_agent_gone(&mut self, at: Nanos) {
        match self.now() {
            Knowledge::Owns => {
                self.orphaned = Some(self.changes.len());
                self.set(at, Knowledge::Unknown);
            }
            // It may have claimed, and had no time to write it down.
            Knowledge::Hears | Knowledge::Missing | Knowledge::Away => self.set(at, Knowledge::Unknown),
            Knowledge::Unknown => {}
        }
    }
}

fn knowledge(state: &str) -> Knowledge {
    match state {
        "Active" => Knowledge::Owns,
        "Backup" => Knowledge::Hears,
        "Claiming" => Knowledge::Missing,
        "Held" | "Initialize" => Knowledge::Away,
        // `Waiting`, and what later versions may say.
        _ => Knowledge::Unknown,
    }
}

/// The node that let go, or should have, records it.
fn drill(record: &Record) -> Drill {
    Drill {
        at: record.at.clone(),
        node: record.node.clone(),
        vip: record.vip.clone(),
        done: record.kind == "handover",
        gap_ms: record.evidence.get("gap_us").and_then(Value::as_f64).map(|us| us / 1e3),
        text: record.text.clone(),
    }
}

fn nanos_of(record: &Record, milliseconds: &str) -> Option<Nanos> {
    let time = record.evidence.get(milliseconds)?.as_f64()?;
    let time = Duration::try_from_secs_f64(time / 1e3).ok()?;
    Nanos::try_from(time.as_nanos()).ok()
}
