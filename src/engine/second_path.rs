//! What a vip makes of a peer's word on the second path.
//!
//! | the peer says there | and this node is | verdict |
//! |---|---|---|
//! | that it has given up, and its lease has ended | Backup, and followed it | *claim* at once; where a better backup is known, in its turn |
//! | that it is the owner | Backup, and hears no advert for its patience | *wait*, as long as it says so; alarm: its adverts are blocked |
//! | that it is the owner, with the higher rank | an owner | *yield* |
//! | that it is the owner, with the lower rank | an owner | *assert*: advertise, announce again, now and when it has given up |
//! | that it is Backup, and does not hear this node | an owner | alarm: this node's adverts are blocked |
//!
//! A word is believed until its sender has been silent for too long, and never after a later one; nothing is claimed on one that is not
//! fresh ([`super::heartbeat`]). All of it comes from whoever has the key: no stranger moves an owner here.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::backup::Backup;
use super::election::{self, Comparison, Rank};
use super::heartbeat::Hearing;
use super::input::RequestId;
use super::output::{Cause, EventKind};
use super::rival::SHORTEST_GRACE;
use super::router::{Heard, Router};
use super::stats::REPORT_SPACING;
use super::time::Instant;
use super::vip::{State, Step, Vip};
use crate::types::{Family, Priority};
use crate::wire::heartbeat::{Addresses, Report, Standing};

/// How long a host may take to answer a question, where a claim was put off and what was asked before it is void.
const TIME_TO_ANSWER: Duration = Duration::from_millis(2);
/// How many peers' words a vip keeps: those of all that the node knows.
const MOST_STATEMENTS: usize = 16;

/// Between which nodes adverts are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// This node does not hear the peer.
    FromPeer,
    /// The peer does not hear this node.
    ToPeer,
}

impl Direction {
    /// From which node to which, this node being `here`.
    pub const fn between<'a>(self, peer: &'a str, here: &'a str) -> (&'a str, &'a str) {
        match self {
            Self::FromPeer => (peer, here),
            Self::ToPeer => (here, peer),
        }
    }
}

/// Adverts that do not get through, though both nodes live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The other node.
    pub peer: String,
    /// Which way.
    pub direction: Direction,
    /// Since when it is known.
    pub since: Instant,
    reported_at: Instant,
}

/// What a vip knows by the second path, and what it says there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SecondPath {
    statements: Vec<Statement>,
    blocked: Vec<Blocked>,
    /// The addresses that adverts come from, or came from last.
    sources: Addresses,
    /// The addresses are being taken off, at whose end they have been given up.
    removing: Option<RequestId>,
    given_up: bool,
    told: Option<Told>,
}

/// What is worth a heartbeat out of turn.
type Told = (Standing, bool, bool, Priority);

/// A peer's last word.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    peer: String,
    epoch: u64,
    sequence: u64,
    until: Instant,
    report: Report,
    /// It was the owner, and has not listened since.
    was_owner: bool,
    /// It was an owner beside this one.
    was_rival: bool,
    /// Since when it does not hear this owner.
    deaf_since: Option<Instant>,
}

/// What is said.
impl Vip {
    /// What this node says of the vip.
    pub(super) fn report_of(&self, now: Instant) -> Report {
        let mut addresses = Addresses::default();
        for family in Family::ALL {
            let tells = |ip: &IpAddr| match ip {
                IpAddr::V4(_) => true,
                IpAddr::V6(ip) => !ip.is_unicast_link_local(),
            };
            let of_family = || self.addresses().iter().map(|address| address.ip).filter(|ip| Family::of(*ip) == family);
            let lowest = of_family().filter(tells).min().or_else(|| of_family().min());
            lowest.into_iter().for_each(|ip| addresses.set(ip));
        }
        let hears = match &self.state {
            State::Backup(backup) => {
                let heard = |owner: &&Heard| now.since(owner.at) < self.active_down_interval(owner.interval);
                backup.owner().filter(heard).map(|owner| owner.source)
            }
            State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => None,
        };
        Report {
            vrid: self.settings.vrid,
            addresses,
            standing: self.standing(now),
            link_up: self.has_link(),
            given_up: self.second_path.given_up,
            priority: self.priority(),
            interval: self.settings.interval,
            generation: self.transitions(),
            sources: self.second_path.sources,
            hears,
        }
    }

    /// An owner whose lease has lapsed is none, even before it has noticed.
    fn standing(&self, now: Instant) -> Standing {
        match &self.state {
            State::Initialize | State::Held { .. } => Standing::Out,
            State::Backup(_) => Standing::Backup,
            State::Claiming { ownership, .. } | State::Active(ownership) => {
                if now < ownership.lease().until() {
                    Standing::Owner
                } else {
                    Standing::Out
                }
            }
        }
    }

    /// Whether the peers should hear at once how it is now.
    pub(super) fn has_news(&mut self, now: Instant) -> bool {
        for source in self.routers.iter().filter_map(Router::source) {
            self.second_path.sources.set(source);
        }
        let is = (self.standing(now), self.has_link(), self.second_path.given_up, self.priority());
        self.second_path.told.replace(is) != Some(is)
    }

    /// The addresses are being taken off. When that has ended, and the vip has not gone on by then, it has been given up.
    pub(super) const fn note_removal(&mut self, request: RequestId) {
        self.second_path.removing = Some(request);
        self.second_path.given_up = false;
    }

    /// What was prepared is taken off as well, after what is being taken off already.
    pub(super) fn note_later_removal(&mut self, request: RequestId) {
        self.second_path.removing = self.second_path.removing.and(Some(request));
    }

    /// It has another state.
    pub(super) const fn note_transition(&mut self) {
        self.second_path.given_up = false;
    }

    /// Addresses were taken off, all of them.
    pub(super) fn on_removed(&mut self, step: &mut Step<'_>, request: RequestId) {
        self.handover_on_removed(step, request);
        if self.second_path.removing == Some(request) {
            self.second_path.removing = None;
            let is_out = match &self.state {
                State::Initialize | State::Held { .. } => true,
                State::Backup(_) | State::Claiming { .. } | State::Active(_) => false,
            };
            // The address owner's are the interface's own, and stay.
            let its_own = self.settings.priority == Priority::OWNER;
            self.second_path.given_up = is_out && !its_own && leaves_nobody(self.cause());
        }
    }

    /// The directions in which adverts are known to be blocked.
    pub fn blocked(&self) -> &[Blocked] {
        &self.second_path.blocked
    }
}

/// Whether an owner that stops being it for this reason knows of no successor.
const fn leaves_nobody(cause: &Cause) -> bool {
    match cause {
        Cause::LinkMissing
        | Cause::LinkDown
        | Cause::NoSourceAddress(_)
        | Cause::InstallRefused(_)
        | Cause::AddressesKeepVanishing
        | Cause::AddressInUse { .. }
        | Cause::Isolated
        | Cause::MajorityLost { .. }
        | Cause::CheckFails { .. }
        | Cause::GroupFault { .. }
        | Cause::Drained
        | Cause::Shutdown => true,
        // Its word is of a vip that it does not have any more.
        Cause::Removed
        | Cause::LinkReady
        | Cause::CheckPending { .. }
        | Cause::ChecksPass
        | Cause::GroupReady
        | Cause::GroupYields { .. }
        | Cause::AddressOwner
        | Cause::ActiveDown { .. }
        | Cause::PeerResigned { .. }
        | Cause::PeerWins { .. }
        | Cause::PeerOwns { .. }
        | Cause::GivenUp { .. }
        | Cause::TakesOver { .. }
        | Cause::HandedOver { .. }
        | Cause::Preempts { .. }
        | Cause::Challenged { .. }
        | Cause::Installed
        | Cause::Adopted
        | Cause::Late { .. }
        | Cause::LeaseEnded
        | Cause::HoldOver
        | Cause::AddressAnswers { .. }
        | Cause::HostDied
        | Cause::Undrained
        | Cause::HandedOn => false,
    }
}

/// What is heard.
impl Vip {
    pub(super) fn on_report(&mut self, step: &mut Step<'_>, hearing: Hearing<'_>, report: &Report) {
        self.depose_if_late(step);
        let Some(before) = self.second_path.note(hearing, report) else { return };
        self.handover_on_report(step, hearing.peer, report.standing);
        match &self.state {
            State::Initialize | State::Held { .. } => {}
            State::Backup(_) => self.backup_on_report(step, hearing, report, &before),
            State::Claiming { .. } | State::Active(_) => self.owner_on_report(step, hearing, report, &before),
        }
    }

    /// Until when a claim must wait, because a peer says that it is the owner; its adverts are missing, which is told.
    ///
    /// A peer that the claim is about does not count: what was heard from it on the link is newer, or it is to be preempted.
    pub(super) fn owner_elsewhere(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Instant> {
        if self.settings.priority == Priority::OWNER {
            return None;
        }
        let about = if let Cause::PeerResigned { source } | Cause::Preempts { source, .. } = cause {
            Some(*source)
        } else {
            None
        };
        let hands_over = if let Cause::TakesOver { peer, .. } = cause { Some(peer.as_str()) } else { None };
        let is_about = |said: &Statement| {
            about.is_some_and(|source| said.report.sources.contains(source)) || hands_over == Some(said.peer.as_str())
        };
        let owner = self.second_path.owners(step.now).find(|said| !is_about(said));
        if let Some((peer, until)) = owner.map(|said| (said.peer.clone(), said.until)) {
            self.raise(step, &peer, Direction::FromPeer);
            return Some(until);
        }
        let waited = self.second_path.blocked.iter().any(|blocked| blocked.direction == Direction::FromPeer);
        self.second_path.blocked.retain(|blocked| blocked.direction != Direction::FromPeer);
        // What was asked before the wait was too long ago.
        waited.then(|| {
            self.prepare(step, cause);
            step.now + TIME_TO_ANSWER
        })
    }

    /// An advert was accepted: what was said to be blocked is not.
    pub(super) fn on_advert_through(&mut self, step: &mut Step<'_>, source: IpAddr) {
        if self.second_path.blocked.is_empty() {
            return;
        }
        let from = self.second_path.statements.iter().find(|said| said.report.sources.contains(source));
        if let Some(peer) = from.map(|said| said.peer.clone()) {
            self.lower(step, &peer, Direction::FromPeer);
        }
    }
}

/// In Backup.
impl Vip {
    fn backup_on_report(&mut self, step: &mut Step<'_>, hearing: Hearing<'_>, report: &Report, before: &Before) {
        match report.standing {
            Standing::Owner => {}
            Standing::Out | Standing::Backup if report.given_up && hearing.fresh => {
                self.backup_on_given_up(step, hearing.peer, report, before.was_owner);
            }
            Standing::Out | Standing::Backup => {
                let waited = self.second_path.forget_blocked(hearing.peer, Direction::FromPeer);
                if waited {
                    // Who is next is found as after a resignation.
                    let turn = step.now + self.skew_time(self.interval());
                    if let State::Backup(backup) = &mut self.state {
                        backup.hurry(None, turn);
                    }
                }
            }
        }
    }

    /// The owner has none of the addresses and no right to them, and says so itself: nothing is left to be waited for but one's turn.
    fn backup_on_given_up(&mut self, step: &mut Step<'_>, peer: &str, report: &Report, was_owner: bool) {
        let State::Backup(backup) = &self.state else { return };
        // One that has just begun to listen may have heard an owner while it was held back.
        let heard = self.last_heard().filter(|heard| step.now < heard.at + self.active_down_interval(heard.interval));
        let followed = backup.owner().copied().or(heard).map(|owner| owner.source);
        let was_ours = followed.map_or(was_owner, |source| report.sources.contains(source));
        if !was_ours || self.second_path.owners(step.now).next().is_some() {
            return;
        }
        self.second_path.forget_blocked(peer, Direction::FromPeer);
        if self.better_backup(step.now) {
            let turn = step.now + self.skew_time(self.interval());
            let source = followed.or_else(|| report.sources.iter().next());
            if let State::Backup(backup) = &mut self.state {
                backup.hurry(source, turn);
            }
        } else {
            self.seek(step, Cause::GivenUp { peer: peer.into(), link_down: !report.link_up });
        }
    }

    /// Whether a peer is known that would be the better successor.
    fn better_backup(&self, now: Instant) -> bool {
        self.second_path.believed(now).any(|said| {
            said.report.standing == Standing::Backup && said.report.link_up && self.ranks_above(&said.report)
        })
    }
}

/// As an owner.
impl Vip {
    fn owner_on_report(&mut self, step: &mut Step<'_>, hearing: Hearing<'_>, report: &Report, before: &Before) {
        let Hearing { peer, .. } = hearing;
        match report.standing {
            Standing::Owner if self.is_of_before(step.now, |former| former == peer) => {}
            Standing::Owner => self.owner_on_second_owner(step, peer, report),
            Standing::Out | Standing::Backup => {
                if before.was_rival {
                    // It may have had the last word at the neighbours.
                    self.second_path.set_rival(peer, false);
                    self.announce_against_advert(step);
                }
                let listens = report.standing == Standing::Backup && report.link_up;
                let hears =
                    report.hears.is_some_and(|source| self.routers.iter().any(|it| it.source() == Some(source)));
                self.on_hears(step, peer, hears || !listens);
            }
        }
    }

    fn owner_on_second_owner(&mut self, step: &mut Step<'_>, peer: &str, report: &Report) {
        let its_own = self.settings.priority == Priority::OWNER;
        if !its_own && self.ranks_above(report) {
            let Some(source) = self.source_of(report) else { return };
            let (priority, interval) = (report.priority, report.interval);
            self.event_of_packet(step, EventKind::SecondOwner { peer: peer.into(), priority, yields: true });
            self.give_up(step);
            let heard = Heard { at: step.now, source, priority, interval };
            let backup = Backup::following(heard, step.now + self.active_down_interval(interval));
            self.enter(step, State::Backup(backup), Cause::PeerOwns { peer: peer.into(), priority });
            return;
        }
        // What it said before it heard of this owner is not against it; and two that cannot yield do not fight for ever.
        let grace = self.settings.interval.duration().max(SHORTEST_GRACE);
        if step.now.since(self.since()) < grace || (its_own && report.priority == Priority::OWNER) {
            return;
        }
        if self.second_path.set_rival(peer, true) {
            let priority = report.priority;
            self.event_of_packet(step, EventKind::SecondOwner { peer: peer.into(), priority, yields: false });
        }
        self.answer(step);
        self.announce_against_advert(step);
    }

    /// A peer hears this owner, or has not done so for longer than it takes to find out.
    fn on_hears(&mut self, step: &mut Step<'_>, peer: &str, hears: bool) {
        if hears {
            self.second_path.set_deaf(peer, None);
            self.lower(step, peer, Direction::ToPeer);
            return;
        }
        let interval = self.settings.interval;
        let patience: Duration = self.active_down_interval(interval) + interval.duration();
        let Some(since) = self.second_path.set_deaf(peer, Some(step.now)) else { return };
        if step.now.since(since.max(self.since())) >= patience {
            self.raise(step, peer, Direction::ToPeer);
        }
    }
}

/// Ranks, and alarms.
impl Vip {
    /// As between adverts: by priority, then by the source address in the family that leads. One without such an address wins no tie.
    fn ranks_above(&self, report: &Report) -> bool {
        let own = self.lead().and_then(|lead| Some((lead.family(), lead.rank(self.priority())?)));
        let Some((family, own)) = own else { return true };
        let Some(source) = report.sources.of(family) else { return report.priority > own.priority };
        match election::compare(Rank { priority: report.priority, source }, own) {
            Comparison::Higher => true,
            Comparison::WinsTie => !self.ties_are_broken_by_lead(),
            Comparison::Resigns | Comparison::LosesTie | Comparison::Lower => false,
        }
    }

    pub(super) fn source_of(&self, report: &Report) -> Option<IpAddr> {
        let lead = self.lead().and_then(|lead| report.sources.of(lead.family()));
        lead.or_else(|| report.sources.iter().next())
    }

    /// Tells that adverts are blocked: the first time, and once a minute.
    fn raise(&mut self, step: &mut Step<'_>, peer: &str, direction: Direction) {
        let now = step.now;
        let known = self.second_path.blocked.iter_mut().find(|it| it.peer == peer && it.direction == direction);
        let since = match known {
            Some(known) if now.since(known.reported_at) < REPORT_SPACING => return,
            Some(known) => {
                known.reported_at = now;
                known.since
            }
            None => {
                self.second_path.blocked.push(Blocked { peer: peer.into(), direction, since: now, reported_at: now });
                now
            }
        };
        let lasts = now.since(since);
        self.event(step, EventKind::AdvertsBlocked { peer: peer.into(), link: self.link, direction, lasts });
    }

    /// Tells that they are not any more, where it was told that they are.
    fn lower(&mut self, step: &mut Step<'_>, peer: &str, direction: Direction) {
        if self.second_path.forget_blocked(peer, direction) {
            self.event(step, EventKind::AdvertsThrough { peer: peer.into(), link: self.link, direction });
        }
    }

    /// What was blocked was so for the role that it had.
    pub(super) fn forget_blocked(&mut self) {
        self.second_path.blocked.clear();
        self.second_path.statements.iter_mut().for_each(|said| {
            said.deaf_since = None;
            said.was_rival = false;
        });
    }
}

/// What a peer was, by the word before its last.
#[derive(Clone, Copy, Debug)]
struct Before {
    was_owner: bool,
    was_rival: bool,
}

impl SecondPath {
    /// Takes a word down, unless a later one was heard. What was before it.
    fn note(&mut self, hearing: Hearing<'_>, report: &Report) -> Option<Before> {
        let Hearing { peer, epoch, sequence, until, fresh: _ } = hearing;
        let Some(said) = self.statements.iter_mut().find(|said| said.peer == peer) else {
            if self.statements.len() >= MOST_STATEMENTS {
                let oldest = (0..).zip(&self.statements).min_by_key(|(_, said)| said.until).map(|(place, _)| place);
                oldest.map(|place| self.statements.swap_remove(place));
            }
            let was_owner = report.standing == Standing::Owner;
            let report = *report;
            self.statements.push(Statement {
                peer: peer.into(),
                epoch,
                sequence,
                until,
                report,
                was_owner,
                was_rival: false,
                deaf_since: None,
            });
            return Some(Before { was_owner: false, was_rival: false });
        };
        if said.epoch == epoch && sequence <= said.sequence {
            return None;
        }
        let before = Before { was_owner: said.was_owner, was_rival: said.was_rival };
        said.was_owner = match report.standing {
            Standing::Owner => true,
            Standing::Backup => false,
            Standing::Out => said.was_owner,
        };
        (said.epoch, said.sequence, said.until, said.report) = (epoch, sequence, until, *report);
        Some(before)
    }

    fn believed(&self, now: Instant) -> impl Iterator<Item = &Statement> {
        self.statements.iter().filter(move |said| now < said.until)
    }

    fn owners(&self, now: Instant) -> impl Iterator<Item = &Statement> {
        self.believed(now).filter(|said| said.report.standing == Standing::Owner)
    }

    /// Whether a peer says so there that it owns the addresses.
    pub(super) fn has_owner(&self, now: Instant) -> bool {
        self.owners(now).next().is_some()
    }

    /// What those say of the vip who are believed now.
    pub(super) fn reports(&self, now: Instant) -> impl Iterator<Item = (&str, &Report)> {
        self.believed(now).map(|said| (said.peer.as_str(), &said.report))
    }

    /// Whether an address is one that a peer's adverts come from.
    pub(super) fn speaks_from(&self, peer: &str, source: IpAddr) -> bool {
        self.statements.iter().any(|said| said.peer == peer && said.report.sources.contains(source))
    }

    /// The node that says that it is the owner, and whose adverts come from there.
    pub(super) fn owner_at(&self, now: Instant, source: IpAddr) -> Option<String> {
        self.owners(now).find(|said| said.report.sources.contains(source)).map(|said| said.peer.clone())
    }

    fn said_by(&mut self, peer: &str) -> Option<&mut Statement> {
        self.statements.iter_mut().find(|said| said.peer == peer)
    }

    /// Whether that is new.
    fn set_rival(&mut self, peer: &str, is_rival: bool) -> bool {
        self.said_by(peer).is_some_and(|said| core::mem::replace(&mut said.was_rival, is_rival) != is_rival)
    }

    /// Since when it is deaf, if it is.
    fn set_deaf(&mut self, peer: &str, deaf: Option<Instant>) -> Option<Instant> {
        let said = self.said_by(peer)?;
        said.deaf_since = deaf.map(|now| said.deaf_since.unwrap_or(now));
        said.deaf_since
    }

    /// Whether it was known.
    fn forget_blocked(&mut self, peer: &str, direction: Direction) -> bool {
        let before = self.blocked.len();
        self.blocked.retain(|it| it.peer != peer || it.direction != direction);
        self.blocked.len() != before
    }
}
