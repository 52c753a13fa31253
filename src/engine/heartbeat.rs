//! Heartbeats: when this node says on the second path how its vips are, to whom, and how fresh what it hears there is.
//!
//! What a vip makes of a peer's word is decided in [`super::second_path`]. Here nothing is decided but when to speak:
//!
//! - all that is true, each [`Heartbeats::interval`]: often enough that a dead peer's last word is no longer believed when
//!   the silence of its adverts has lasted ([`BELIEVED_FOR`]);
//! - what has changed, at once, and again until every peer has heard of it ([`REPEAT_SPACING`], [`REPEATS`]).
//!
//! A heartbeat echoes the last one of its receiver. So the receiver knows that it was sent after that, without a clock that both
//! share: one that was held back on the way is not *fresh*, and hands nothing over.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::settings::HeartbeatSettings;
use super::time::Instant;
use super::vip::Vip;
use super::{Engine, Event, EventKind, Output, VipId};
use crate::wire::heartbeat::{Echo, Heartbeat, Report, parts};

/// What was heard is believed for so many half intervals of its sender: 3.5 intervals, so that three heartbeats in a row may be lost.
///
/// An owner speaks at least twice an advert interval, and the silence of its adverts lasts more than two of those after its death. So no
/// dead owner's word holds up its successor.
const BELIEVED_FOR: u32 = 7;
/// No shorter interval of heartbeats: half the shortest interval of adverts.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(5);
/// What has changed is said again after so long,
const REPEAT_SPACING: Duration = Duration::from_millis(10);
/// so often at most: the next regular heartbeat says it all the same.
const REPEATS: u8 = 5;
/// How many peers are known at a time. More hosts than share a virtual router; whoever has the key can feign any number.
const MOST_PEERS: usize = 16;
/// For how many instants it is known which heartbeat was sent then: for longer than an echo is fresh.
const MARKS: usize = 64;

/// The second path of a node.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    settings: Option<HeartbeatSettings>,
    /// In force: the settings', or what the shortest interval of adverts asks for.
    interval: Duration,
    epoch: u64,
    sequence: u64,
    next_at: Instant,
    /// Heartbeats sent, each with its instant.
    marks: VecDeque<(u64, Instant)>,
    peers: BTreeMap<String, Peer>,
    /// What has changed, and not every peer is known to have heard.
    news: BTreeSet<VipId>,
    repeat: Option<Repeat>,
    /// Another agent of this node goes on: what was said last holds.
    silent: bool,
}

#[derive(Clone, Copy, Debug)]
struct Repeat {
    at: Instant,
    left: u8,
    /// Under which number the news was told last.
    sequence: u64,
}

/// Another node, on the second path.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    epoch: u64,
    sequence: u64,
    heard: Option<(Instant, Duration)>,
    /// The latest of our heartbeats that it has echoed.
    echoed: u64,
    received: u64,
    told_silent: bool,
}

/// One heartbeat as a vip needs it beside the report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hearing<'a> {
    pub(super) peer: &'a str,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    /// It was sent after a heartbeat of ours that is not old.
    pub(super) fresh: bool,
    /// Until when it is believed.
    pub(super) until: Instant,
}

/// What a status shows.
impl Peer {
    /// When it was heard last.
    pub fn heard_at(&self) -> Option<Instant> {
        self.heard.map(|(at, _)| at)
    }

    /// How often it speaks.
    pub fn interval(&self) -> Option<Duration> {
        self.heard.map(|(_, interval)| interval)
    }

    /// Heartbeats heard.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Whether what it said last is still believed.
    pub fn is_heard(&self, now: Instant) -> bool {
        self.heard.is_some_and(|(at, interval)| now < at + believed_for(interval))
    }
}

impl Heartbeats {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            settings: None,
            interval: SHORTEST_INTERVAL,
            // Two runs of an agent do not begin in the same nanosecond.
            epoch: now.as_nanos(),
            sequence: 0,
            next_at: now,
            marks: VecDeque::new(),
            peers: BTreeMap::new(),
            news: BTreeSet::new(),
            repeat: None,
            silent: false,
        }
    }

    /// As configured.
    pub const fn settings(&self) -> Option<HeartbeatSettings> {
        self.settings
    }

    /// How often this node speaks; `None`: it has no second path.
    pub fn interval(&self) -> Option<Duration> {
        self.settings.map(|_| self.interval)
    }

    /// The other nodes, by name.
    pub fn peers(&self) -> impl Iterator<Item = (&str, &Peer)> {
        self.peers.iter().map(|(name, peer)| (name.as_str(), peer))
    }

    pub(super) fn follow_settings(&mut self, settings: Option<HeartbeatSettings>, vips: &[Vip]) {
        self.settings = settings;
        let Some(settings) = settings else {
            self.peers.clear();
            self.news.clear();
            self.repeat = None;
            return;
        };
        let shortest = vips.iter().map(|vip| vip.settings().interval.duration() / 2).min();
        self.interval = shortest.map_or(settings.interval, |shortest| shortest.min(settings.interval));
        self.interval = self.interval.max(SHORTEST_INTERVAL);
    }

    pub(super) const fn fall_silent(&mut self) {
        self.silent = true;
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        let speaks = self.settings.is_some() && !self.silent && !self.peers.is_empty();
        let repeat_at = self.repeat.map_or(self.next_at, |repeat| repeat.at);
        speaks.then(|| self.next_at.min(repeat_at))
    }

    pub(super) fn note_news(&mut self, vip: VipId) {
        if !self.peers.is_empty() {
            self.news.insert(vip);
            self.repeat = None;
        }
    }

    /// A place in the table; another one's, where that was silent for longest.
    fn peer(&mut self, name: &str) -> &mut Peer {
        if !self.peers.contains_key(name) && self.peers.len() >= MOST_PEERS {
            let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.heard_at()).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| self.peers.remove(&oldest));
        }
        self.peers.entry(name.into()).or_default()
    }

    /// Whether a heartbeat that echoes this one of ours cannot be old.
    fn is_fresh(&self, now: Instant, echo: Option<Echo>) -> bool {
        let Some(echo) = echo.filter(|echo| echo.epoch == self.epoch) else { return false };
        let mark = self.marks.iter().rev().find(|(sequence, _)| *sequence <= echo.sequence);
        mark.is_some_and(|(_, at)| now.since(*at) < believed_for(self.interval))
    }

    /// The next number, which is sent now.
    fn number(&mut self, now: Instant) -> u64 {
        self.sequence = self.sequence.saturating_add(1);
        // Those of a burst are as old as its first.
        let spaced = self.marks.back().is_none_or(|(_, at)| now.since(*at) >= self.interval / 4);
        if spaced {
            if self.marks.len() >= MARKS {
                self.marks.pop_front();
            }
            self.marks.push_back((self.sequence, now));
        }
        self.sequence
    }

    /// Says this to these peers.
    fn send(&mut self, now: Instant, to: &[String], reports: Vec<Report>, outputs: &mut VecDeque<Output>) {
        for reports in parts(reports) {
            let (sequence, epoch, interval) = (self.number(now), self.epoch, self.interval);
            for name in to {
                let Some(peer) = self.peers.get(name) else { continue };
                let echo = (peer.sequence != 0).then_some(Echo { epoch: peer.epoch, sequence: peer.sequence });
                let heartbeat = Heartbeat { epoch, sequence, interval, echo, reports: reports.clone() };
                outputs.push_back(Output::SendHeartbeat { peer: name.clone(), heartbeat });
            }
        }
    }

    fn everybody(&self) -> Vec<String> {
        self.peers.keys().cloned().collect()
    }

    /// Nothing more is to be repeated, where all who are there have heard the news.
    fn on_echo(&mut self, now: Instant) {
        let Some(Repeat { sequence, .. }) = self.repeat else { return };
        if self.peers.values().filter(|peer| peer.is_heard(now)).all(|peer| peer.echoed >= sequence) {
            self.news.clear();
            self.repeat = None;
        }
    }
}

/// Inputs.
impl Engine {
    /// A peer can be spoken to from now on: it is told all there is.
    pub(super) fn on_peer_met(&mut self, now: Instant, name: String) {
        if self.heartbeats.settings.is_none() || name == self.node || self.heartbeats.silent {
            return;
        }
        self.heartbeats.peer(&name);
        let reports = self.reports(now);
        self.heartbeats.send(now, &[name], reports, &mut self.outputs);
    }

    pub(super) fn on_heartbeat(&mut self, now: Instant, name: &str, heartbeat: &Heartbeat) {
        if self.heartbeats.settings.is_none() || name == self.node {
            return;
        }
        let until = now + believed_for(heartbeat.interval);
        let fresh = self.heartbeats.is_fresh(now, heartbeat.echo);
        let own_epoch = self.heartbeats.epoch;
        let peer = self.heartbeats.peer(name);
        let was_heard = peer.is_heard(now);
        if peer.epoch != heartbeat.epoch {
            *peer = Peer { epoch: heartbeat.epoch, received: peer.received, ..Peer::default() };
        }
        peer.sequence = peer.sequence.max(heartbeat.sequence);
        peer.heard = Some((now, heartbeat.interval));
        peer.received = peer.received.saturating_add(1);
        if let Some(echo) = heartbeat.echo.filter(|echo| echo.epoch == own_epoch) {
            peer.echoed = peer.echoed.max(echo.sequence);
        }
        if !was_heard {
            peer.told_silent = false;
            self.tell(now, EventKind::PeerHeard { peer: name.into() });
        }
        self.heartbeats.on_echo(now);
        let hearing = Hearing { peer: name, epoch: heartbeat.epoch, sequence: heartbeat.sequence, fresh, until };
        for report in &heartbeat.reports {
            let known = report.addresses.iter().find_map(|address| self.by_address.get(&(report.vrid, address)));
            if let Some(vip) = known.copied() {
                self.step(now, vip, |vip, step| vip.on_report(step, hearing, report));
            }
        }
    }

    /// Says what is due: all in its turn, news at once.
    pub(super) fn speak(&mut self, now: Instant) {
        if self.heartbeats.next_at().is_none() {
            return;
        }
        let in_turn = now >= self.heartbeats.next_at;
        let fresh_news = !self.heartbeats.news.is_empty() && self.heartbeats.repeat.is_none();
        let repeat = self.heartbeats.repeat.filter(|repeat| now >= repeat.at);
        if !in_turn && !fresh_news && repeat.is_none() {
            return;
        }
        let reports = if in_turn { self.reports(now) } else { self.news(now) };
        let everybody = self.heartbeats.everybody();
        self.heartbeats.send(now, &everybody, reports, &mut self.outputs);
        let it = &mut self.heartbeats;
        let left = if fresh_news { REPEATS } else { it.repeat.map_or(0, |repeat| repeat.left.saturating_sub(1)) };
        it.repeat = (left > 0).then_some(Repeat { at: now + REPEAT_SPACING, left, sequence: it.sequence });
        if it.repeat.is_none() {
            it.news.clear();
        }
        if in_turn {
            it.next_at = now + it.interval;
            self.tell_silent(now);
        }
    }

    fn tell_silent(&mut self, now: Instant) {
        let mut silent = Vec::new();
        for (name, peer) in &mut self.heartbeats.peers {
            if let Some((at, _)) = peer.heard.filter(|_| !peer.is_heard(now) && !peer.told_silent) {
                peer.told_silent = true;
                silent.push(EventKind::PeerSilent { peer: name.clone(), silence: now.since(at) });
            }
        }
        silent.into_iter().for_each(|kind| self.tell(now, kind));
    }

    fn reports(&self, now: Instant) -> Vec<Report> {
        self.vips.iter().map(|vip| vip.report_of(now)).collect()
    }

    fn news(&self, now: Instant) -> Vec<Report> {
        self.heartbeats.news.iter().filter_map(|id| self.vip(*id)).map(|vip| vip.report_of(now)).collect()
    }

    fn tell(&mut self, now: Instant, kind: EventKind) {
        self.outputs.push_back(Output::Event(Event { at: now, vip: None, kind }));
    }
}

fn believed_for(interval: Duration) -> Duration {
    interval * BELIEVED_FOR / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeats(interval_ms: u64) -> Heartbeats {
        let mut it = Heartbeats::new(Instant::from_nanos(7));
        it.settings = Some(HeartbeatSettings { interval: Duration::from_millis(interval_ms) });
        it.interval = Duration::from_millis(interval_ms);
        it
    }

    #[test]
    fn an_echo_is_fresh_for_as_long_as_a_word_is_believed() {
        let mut it = heartbeats(100);
        let at = |ms: u64| Instant::from_nanos(7) + Duration::from_millis(ms);
        assert_eq!((it.number(at(0)), it.number(at(1)), it.number(at(100))), (1, 2, 3));
        let fresh = |it: &Heartbeats, sequence, ms| it.is_fresh(at(ms), Some(Echo { epoch: 7, sequence }));
        assert!(fresh(&it, 1, 349) && !fresh(&it, 1, 350));
        assert!(!fresh(&it, 2, 350), "it was sent after the first, and who knows how long");
        assert!(fresh(&it, 3, 449) && !fresh(&it, 3, 450));
        assert!(!it.is_fresh(at(1), Some(Echo { epoch: 8, sequence: 1 })), "of another run");
        assert!(!it.is_fresh(at(1), None));
    }

    #[test]
    fn many_names_fill_no_memory_and_the_longest_silent_goes_first() {
        let mut it = heartbeats(100);
        for n in 0..100_u8 {
            let heard_at = Instant::ZERO + Duration::from_secs(n.into());
            it.peer(&alloc::format!("peer-{n:03}")).heard = Some((heard_at, Duration::from_millis(100)));
        }
        let names: Vec<&str> = it.peers().map(|(name, _)| name).collect();
        assert_eq!(names.len(), MOST_PEERS);
        assert_eq!(names.first(), Some(&"peer-084"));
    }

    #[test]
    fn bursts_and_time_fill_no_memory() {
        let mut it = heartbeats(100);
        for ms in 0..20_000 {
            it.number(Instant::ZERO + Duration::from_millis(ms));
        }
        assert!(it.marks.len() <= MARKS);
        let first = it.marks.front().map(|(_, at)| *at).expect("there are some");
        let last = it.marks.back().map(|(_, at)| *at).expect("there are some");
        assert!(last.since(first) >= believed_for(it.interval), "an echo that is fresh is found");
    }
}
