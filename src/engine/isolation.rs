//! References: addresses that answer as long as this node is connected, such as the gateway; and what a node does without them.
//!
//! In VRRP a backup is silent, so an owner cannot tell a network without peers from one that it is cut off from. With
//! `prefer = "safe"` it holds its addresses only while one of its references answers, as another lease. None of them answers:
//! the owner gives up, and a backup does not claim, until one answers again. With `prefer = "available"` they are
//! watched and shown, and decide nothing.
//!
//! # No second owner, wherever the references are
//!
//! Let the network part at P. The last advert that a backup received left at most an interval before, and so it claims
//! after P + [`CLAIM_AFTER`] at the earliest, whichever is later: that, or its timer. An owner gives up [`GIVE_UP_AFTER`] after
//! the last answer, which came at most a way there and back after P. Both are two intervals where intervals are long; the rest
//! is for that way, and for the hosts to wake. At intervals below 100 ms a safe backup is slower than its timer for this.
//! An advert that was lost before the network parted, or a host late by more than the margin, can still make two for as long as they took.
//!
//! [`CLAIM_AFTER`]: claim_after
//! [`GIVE_UP_AFTER`]: give_up_after

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::backup::Backup;
use super::output::{Cause, EventKind, Output, Question};
use super::rare::{Blank, Rare};
use super::settings::{Prefer, Reference};
use super::time::Instant;
use super::vip::{State, Step, Vip};
use crate::types::{AdvertInterval, Family};

/// How often a reference is asked where nothing depends on it.
pub const CALM_PERIOD: Duration = Duration::from_secs(1);
/// So many questions without an answer, and a reference is lost.
pub const LOST_QUESTIONS: u32 = 4;
/// No reference has to answer faster: a router may be busy.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(150);
/// Between an owner that gives up and a backup that claims, at least.
const SHORTEST_MARGIN: Duration = Duration::from_millis(50);

/// How long after the last answer a safe owner gives up.
pub fn give_up_after(interval: AdvertInterval) -> Duration {
    (interval.duration() * 7 / 4).max(SHORTEST_PATIENCE)
}

/// How long after an owner's last advert, but an interval and its skew time, a safe backup claims at the earliest.
pub fn claim_after(interval: AdvertInterval) -> Duration {
    (interval.duration() * 2).max(SHORTEST_PATIENCE + SHORTEST_MARGIN)
}

/// How to reach a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// It is on the link, and asked by ARP or neighbour solicitation.
    Neighbour(IpAddr),
    /// Behind a router, and asked by ICMP echo.
    Routed(IpAddr),
}

impl Path {
    /// The address.
    pub const fn address(self) -> IpAddr {
        match self {
            Self::Neighbour(address) | Self::Routed(address) => address,
        }
    }
}

/// What is known of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceState {
    /// As configured.
    pub reference: Reference,
    /// `None`: no way is known.
    pub path: Option<Path>,
    /// When it answered last.
    pub answered_at: Option<Instant>,
    /// Whether it is taken for lost, and was reported so.
    pub lost: bool,
}

/// Those of a vip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct References {
    states: Vec<ReferenceState>,
    /// When they are asked next; `None`: there are none, or the interface is not ready.
    ask_at: Option<Instant>,
    /// From when on an owner counts the silence, at the earliest.
    counts_from: Option<Instant>,
    /// Since when a claim waits for one of them to answer.
    waits_since: Option<Instant>,
    /// It has waited for so long that it was told.
    isolated: bool,
}

impl Blank for References {
    const BLANK: &'static Self =
        &Self { states: Vec::new(), ask_at: None, counts_from: None, waits_since: None, isolated: false };
}

/// What a status shows.
impl Vip {
    /// The references, as configured.
    pub fn references(&self) -> &[ReferenceState] {
        &self.references.states
    }

    /// Whether a claim waits for a reference to answer.
    pub fn is_isolated(&self) -> bool {
        self.references.isolated
    }
}

/// Settings and links.
impl Vip {
    /// The settings have these references.
    pub(super) fn follow_references(&mut self, now: Instant) {
        if self.settings.references.is_empty() {
            self.references = Rare::BLANK;
            return;
        }
        let before = core::mem::take(&mut self.references.states);
        let fresh = |reference: &Reference| ReferenceState {
            reference: *reference,
            // An address counts as a neighbour until the routes tell.
            path: match reference {
                Reference::Gateway => None,
                Reference::Address(address) => Some(Path::Neighbour(*address)),
            },
            answered_at: None,
            lost: false,
        };
        let states = self.settings.references.iter();
        let known = |reference: &Reference| before.iter().find(|state| state.reference == *reference).copied();
        self.references.states = states.map(|it| known(it).unwrap_or_else(|| fresh(it))).collect();
        self.references.counts_from = Some(now);
        self.references.ask_at = Some(now);
    }

    /// The way to a reference is another one now.
    pub(super) fn on_reference_path(&mut self, reference: Reference, path: Option<Path>) {
        if !self.has_references() {
            return;
        }
        if let Some(state) = self.references.states.iter_mut().find(|state| state.reference == reference) {
            state.path = path;
        }
    }

    fn has_references(&self) -> bool {
        !self.references.states.is_empty()
    }

    fn is_safe(&self) -> bool {
        self.settings.prefer == Prefer::Safe && self.has_references()
    }
}

/// Questions.
impl Vip {
    /// When something is due here.
    pub(super) fn isolation_due_at(&self) -> Option<Instant> {
        let (ask_at, give_up_at) = match &self.state {
            State::Initialize => (None, None),
            State::Backup(_) | State::Held { .. } => (self.references.ask_at, None),
            State::Claiming { .. } | State::Active(_) => (self.references.ask_at, self.give_up_at()),
        };
        [ask_at, give_up_at].into_iter().flatten().min()
    }

    /// Asks where that is due; an owner that has been alone for too long gives up.
    pub(super) fn isolation_on_deadline(&mut self, step: &mut Step<'_>) {
        if self.references.ask_at.is_some_and(|at| step.now >= at) {
            self.ask_references(step);
        }
        let (State::Claiming { .. } | State::Active(_)) = &self.state else { return };
        if self.give_up_at().is_some_and(|at| step.now >= at) {
            self.give_up(step);
            let backup = Backup::listening(step.now + self.active_down_interval(self.settings.interval));
            self.enter(step, State::Backup(backup), Cause::Isolated);
        }
    }

    /// Before a claim it matters whether they answer now.
    pub(super) fn prepare_for_isolation(&mut self, step: &mut Step<'_>) {
        if self.is_safe() {
            self.ask_references(step);
        }
    }

    pub(super) fn asks_references(&self) -> bool {
        self.is_safe()
    }

    /// Nothing is known of before: a start, or an adoption. A claim counts from the answer that it rests on.
    pub(super) fn count_references_from(&mut self, now: Instant) {
        if self.has_references() {
            self.references.counts_from = Some(now);
        }
    }

    /// An owner is heard: nobody claims.
    pub(super) fn end_wait_for_references(&mut self) {
        if self.has_references() {
            self.references.waits_since = None;
            self.references.isolated = false;
        }
    }

    fn ask_references(&mut self, step: &mut Step<'_>) {
        self.references.ask_at = Some(step.now + self.period());
        self.report_lost(step);
        let paths = |routed: bool| {
            let paths = self.references.states.iter().filter_map(|state| state.path);
            let of_kind = paths.filter(move |path| matches!(path, Path::Routed(_)) == routed);
            of_kind.map(Path::address).collect::<Vec<IpAddr>>()
        };
        let [neighbours, routed] = [paths(false), paths(true)];
        if !neighbours.is_empty() {
            let question = Question { vip: self.id, link: self.link, addresses: neighbours, sources: self.sources() };
            step.outputs.push_back(Output::Ask(question));
        }
        if !routed.is_empty() {
            let question = Question { vip: self.id, link: self.link, addresses: routed, sources: self.sources() };
            step.outputs.push_back(Output::Echo(question));
        }
    }

    /// The interface's own addresses, IPv4 and link-local.
    pub(super) fn sources(&self) -> [Option<IpAddr>; 2] {
        Family::ALL.map(|family| self.link_state.source(family))
    }

    fn period(&self) -> Duration {
        let urgent = match &self.state {
            State::Initialize | State::Held { .. } => false,
            State::Backup(backup) => backup.is_prepared() || self.references.waits_since.is_some(),
            State::Claiming { .. } | State::Active(_) => true,
        };
        if urgent && self.is_safe() { give_up_after(self.settings.interval) / LOST_QUESTIONS } else { CALM_PERIOD }
    }

    fn report_lost(&mut self, step: &mut Step<'_>) {
        let patience = CALM_PERIOD * LOST_QUESTIONS;
        let from = self.references.counts_from.unwrap_or(step.now);
        let mut lost = Vec::new();
        for state in &mut self.references.states {
            let silent_since = state.answered_at.map_or(from, |at| at.max(from));
            if !state.lost && step.now.since(silent_since) >= patience {
                state.lost = true;
                lost.push((state.reference, state.path.map(Path::address)));
            }
        }
        for (reference, address) in lost {
            self.event(step, EventKind::ReferenceLost { reference, address });
        }
    }
}

/// Answers.
impl Vip {
    /// Whether an address is one by which a reference is asked.
    pub(super) fn refers_to(&self, address: IpAddr) -> bool {
        self.references.states.iter().any(|state| state.path.map(Path::address) == Some(address))
    }

    pub(super) fn on_reference_answered(&mut self, step: &mut Step<'_>, address: IpAddr) {
        if !self.has_references() {
            return;
        }
        let mut back = Vec::new();
        for state in &mut self.references.states {
            if state.path.map(Path::address) == Some(address) {
                state.answered_at = Some(step.now);
                if core::mem::take(&mut state.lost) {
                    back.push(state.reference);
                }
            }
        }
        for reference in back {
            self.event(step, EventKind::ReferenceBack { reference, address });
        }
        // A claim that has waited for it for long gives an owner's advert the chance to get through as well, and waits for its turn
        // again: others may have waited, too.
        let interval = self.interval();
        let skew = self.skew_time(interval);
        if let (State::Backup(backup), Some(since)) = (&mut self.state, self.references.waits_since.take()) {
            let waited = step.now.since(since);
            backup.put_off(if waited < skew { step.now } else { step.now + interval.duration() + skew });
        }
    }

    /// When to ask again whether to claim, where that is not safe now.
    pub(super) fn object_for_isolation(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Instant> {
        if !self.is_safe() {
            return None;
        }
        let interval = self.interval();
        // The owner may have lost its references when it was heard last, and must have had the time to find that out.
        let heard_at = match (cause, &self.state) {
            (Cause::ActiveDown { .. }, State::Backup(backup)) => backup.owner().map(|owner| owner.at),
            (_, _) => None,
        };
        // Each backup at its turn, as by the timer.
        let skew = self.skew_time(interval);
        let safe_at = heard_at.map(|at| at + interval.duration() + claim_after(interval) + skew);
        if let Some(at) = safe_at.filter(|at| step.now < *at) {
            return Some(at);
        }
        let patience = give_up_after(interval);
        if self.answered_at().is_some_and(|at| step.now.since(at) < patience) {
            self.references.waits_since = None;
            self.references.isolated = false;
            return None;
        }
        let since = *self.references.waits_since.get_or_insert(step.now);
        if step.now.since(since) >= patience && !self.references.isolated {
            self.references.isolated = true;
            self.event(step, EventKind::IsolatedFromReferences);
        }
        let again = step.now + self.period();
        if self.references.ask_at.is_none_or(|at| at > again) {
            self.ask_references(step);
        }
        Some(again)
    }

    /// When any of them answered last.
    fn answered_at(&self) -> Option<Instant> {
        self.references.states.iter().filter_map(|state| state.answered_at).max()
    }

    fn give_up_at(&self) -> Option<Instant> {
        let counts_from = self.references.counts_from.filter(|_| self.is_safe())?;
        let answered_at = self.answered_at();
        let alive_at = answered_at.map_or(counts_from, |at| at.max(counts_from));
        Some(alive_at + give_up_after(self.settings.interval))
    }
}
