//! The grants that a node holds for one virtual router: from whom, until when, and whether they are a majority.
//!
//! A grant counts from before its question was sent, less a margin for the rate of two clocks; the voter counts from the receipt. So
//! a grant has ended for its holder before the voter gives it to anybody else. Two majorities have a voter in common, which is why
//! there are never two holders of one.
//!
//! Ignores answers to what was asked before a release, or before this agent started: their grants may be another's by now.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;
use core::time::Duration;

use super::time::Instant;
use crate::types::Priority;
use crate::wire::grant::{Ask, Challenger, Release, Reply, RouterId, Stamp, Verdict};

/// The part of a grant that its holder does not use: two clocks may run apart by 1/1000, five times what crystals do.
pub const CLOCK_MARGIN: u32 = 1_000;

/// After so many questions without an answer a voter is asked for nothing, but only whether it is there: a node that does not hear
/// its answers must not keep its vote from others.
pub const UNANSWERED: u32 = 3;

/// The voters, as a node's settings have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumSettings {
    /// This node's name. One that is not among the voters is their client.
    pub own: Arc<str>,
    /// Common to the nodes that share virtual routers, and no others that ask the same voters.
    pub cluster: Arc<str>,
    /// The names of all voters, an odd number, three or more.
    pub voters: Vec<Arc<str>>,
    /// The longest grant that a voter gives. The same on all nodes.
    pub longest_grant: Duration,
}

impl QuorumSettings {
    /// Whether this node votes.
    pub fn is_voter(&self) -> bool {
        self.voters.contains(&self.own)
    }
}

/// More than half.
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The grants of one virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    router: RouterId,
    seats: Vec<Seat>,
    /// Answers to earlier questions are void.
    valid_from: Stamp,
    /// The latest question.
    asked: Option<Stamp>,
}

/// What is known of one voter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    /// Its name.
    pub voter: Arc<str>,
    /// Until when its grant can be used.
    pub granted_until: Option<Instant>,
    /// What it said last, to which question, and when that arrived.
    pub answer: Option<(Stamp, Instant, Verdict)>,
    /// Questions since then.
    pub unanswered: u32,
}

/// Why a voter does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which.
    pub voter: Arc<str>,
    /// Why.
    pub why: Absence,
}

/// Why a voter does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It does not answer.
    Silent,
    /// It has promised this to another node.
    GrantedTo(Arc<str>),
    /// It has just started.
    Starting(Duration),
    /// The grant would be longer than its longest.
    GrantTooLong(Duration),
    /// It has no room for one more virtual router.
    Full,
}

impl Quorum {
    /// No grants yet. Nothing that was asked for before now is believed.
    pub fn new(now: Instant, router: RouterId, voters: &[Arc<str>]) -> Self {
        let seat =
            |voter: &Arc<str>| Seat { voter: Arc::clone(voter), granted_until: None, answer: None, unanswered: 0 };
        Self { router, seats: voters.iter().map(seat).collect(), valid_from: stamp(now), asked: None }
    }

    /// Of which virtual router.
    pub const fn router(&self) -> &RouterId {
        &self.router
    }

    /// What is known of the voters, in the order of the settings.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// The question that is to be sent now to those who are to be asked.
    pub fn ask(&mut self, now: Instant, length: Duration, challenge: Option<Priority>) -> Ask {
        let stamp = stamp(now).max(self.valid_from);
        self.asked = Some(stamp);
        Ask { router: self.router.clone(), stamp, length, challenge }
    }

    /// The question, or another, was sent to a voter.
    pub fn note_asked(&mut self, voter: &str) {
        if let Some(seat) = self.seat(voter) {
            seat.unanswered = seat.unanswered.saturating_add(1);
        }
    }

    /// A voter is there; whether it had not been.
    pub fn note_present(&mut self, voter: &str) -> bool {
        let Some(seat) = self.seat(voter) else { return false };
        core::mem::take(&mut seat.unanswered) >= UNANSWERED
    }

    /// Whether anything that was asked for has not been given back.
    pub const fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// A voter answers.
    pub fn on_reply(&mut self, now: Instant, from: &str, reply: &Reply) {
        if reply.router != self.router {
            return;
        }
        let is_void = reply.stamp < self.valid_from;
        let Some(seat) = self.seat(from) else { return };
        seat.unanswered = 0;
        if let Verdict::Granted { length, .. } = &reply.verdict {
            if is_void {
                return;
            }
            let until = Instant::from_nanos(reply.stamp.0) + usable(*length);
            // An earlier grant that lasts longer is as good as ever.
            seat.granted_until = seat.granted_until.max(Some(until));
        }
        if seat.answer.as_ref().is_none_or(|(stamp, _, _)| *stamp <= reply.stamp) {
            seat.answer = Some((reply.stamp, now, reply.verdict.clone()));
        }
    }

    /// Until when a majority has granted this.
    pub fn held_until(&self) -> Option<Instant> {
        let mut ends: Vec<Instant> = self.seats.iter().filter_map(|seat| seat.granted_until).collect();
        ends.sort_by_key(|end| Reverse(*end));
        ends.get(majority(self.seats.len()) - 1).copied()
    }

    /// Whether a majority grants this now.
    pub fn is_held(&self, now: Instant) -> bool {
        self.held_until().is_some_and(|until| now < until)
    }

    /// Whether so many voters have said no to the latest question, or say nothing any more, that the others are no majority.
    pub fn is_hopeless(&self, now: Instant) -> bool {
        let says_no = |seat: &&Seat| {
            let answered = seat.answer.as_ref().is_some_and(|(stamp, _, _)| Some(*stamp) == self.asked);
            (answered || seat.unanswered >= UNANSWERED) && !seat.grants(now)
        };
        let against = self.seats.iter().filter(says_no).count();
        self.seats.len() - against < majority(self.seats.len())
    }

    /// In how long the first of those that refuse may grant.
    pub fn refused_for(&self, now: Instant) -> Option<Duration> {
        let left = |seat: &Seat| {
            let (_, at, verdict) = seat.answer.as_ref()?;
            Some((*at + verdict.wait()?).since(now))
        };
        self.seats.iter().filter(|seat| !seat.grants(now)).filter_map(left).min()
    }

    /// Who means to replace this node, where a majority of the voters has told so: that one can have the grants too.
    pub fn challenger(&self, now: Instant) -> Option<&Challenger> {
        let challengers = || {
            let granting = self.seats.iter().filter(|seat| seat.grants(now));
            granting.filter_map(|seat| seat.answer.as_ref()?.2.challenger())
        };
        challengers()
            .find(|one| challengers().filter(|other| other.name == one.name).count() >= majority(self.seats.len()))
    }

    /// Gives back all that was asked for. `None`: that was nothing. Only once the lease has ended.
    pub fn release(&mut self, now: Instant) -> Option<Release> {
        let asked = self.asked.take()?;
        let last = asked.max(stamp(now));
        self.valid_from = Stamp(last.0.saturating_add(1));
        for seat in &mut self.seats {
            seat.granted_until = None;
        }
        Some(Release { router: self.router.clone(), stamp: last })
    }

    /// How many voters grant this now.
    pub fn granted(&self, now: Instant) -> usize {
        self.seats.iter().filter(|seat| seat.grants(now)).count()
    }

    /// The voters that do not, and why.
    pub fn missing(&self, now: Instant) -> Vec<Missing> {
        let absent = self.seats.iter().filter(|seat| !seat.grants(now));
        absent.map(|seat| Missing { voter: Arc::clone(&seat.voter), why: seat.absence() }).collect()
    }

    fn seat(&mut self, voter: &str) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| &*seat.voter == voter)
    }
}

impl Seat {
    /// Whether its grant can be used now.
    pub fn grants(&self, now: Instant) -> bool {
        self.granted_until.is_some_and(|until| now < until)
    }

    fn absence(&self) -> Absence {
        let answer = self.answer.as_ref().filter(|_| self.unanswered < UNANSWERED);
        let Some((_, _, verdict)) = answer else { return Absence::Silent };
        match verdict {
            Verdict::Refused { holder, .. } => Absence::GrantedTo(Arc::clone(holder)),
            Verdict::Starting { remaining } => Absence::Starting(*remaining),
            Verdict::TooLong { longest } => Absence::GrantTooLong(*longest),
            Verdict::Full => Absence::Full,
            // Its grant has ended, and it has said nothing since.
            Verdict::Granted { .. } => Absence::Silent,
        }
    }
}

/// How long a grant can be used, counted from its question.
pub fn usable(length: Duration) -> Duration {
    length - length / CLOCK_MARGIN
}

/// An instant of this node as a voter gives it back.
pub const fn stamp(now: Instant) -> Stamp {
    Stamp(now.as_nanos())
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let voter = &self.voter;
        match &self.why {
            Absence::Silent => write!(f, "{voter} (no answer)"),
            Absence::GrantedTo(holder) => write!(f, "{voter} (granted to {holder})"),
            Absence::Starting(left) => write!(f, "{voter} (has just started, votes in {} ms)", left.as_millis()),
            Absence::GrantTooLong(longest) => {
                write!(f, "{voter} (grants nothing for longer than {} ms)", longest.as_millis())
            }
            Absence::Full => write!(f, "{voter} (has no room for one more virtual router)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Vrid;

    const LENGTH: Duration = Duration::from_millis(300);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn quorum() -> Quorum {
        let router = RouterId { cluster: "db".into(), vrid: Vrid::new(51).unwrap() };
        Quorum::new(at(0), router, &["a".into(), "b".into(), "w".into()])
    }

    fn reply(quorum: &Quorum, asked_at: Instant, verdict: Verdict) -> Reply {
        Reply { router: quorum.router.clone(), stamp: stamp(asked_at), verdict }
    }

    fn grant(quorum: &mut Quorum, asked_at: Instant, received_at: Instant, from: &str) {
        let reply = reply(quorum, asked_at, Verdict::Granted { length: LENGTH, challenger: None });
        quorum.on_reply(received_at, from, &reply);
    }

    #[test]
    fn a_majority_counts_from_the_question_and_less_the_margin() {
        let mut quorum = quorum();
        quorum.ask(at(10), LENGTH, None);
        grant(&mut quorum, at(10), at(10), "a");
        assert_eq!(quorum.held_until(), None);
        grant(&mut quorum, at(10), at(200), "w");
        let until = Instant::from_nanos(at(310).as_nanos() - 300_000);
        assert_eq!(quorum.held_until(), Some(until));
        assert!(!quorum.is_held(until));
    }

    #[test]
    fn what_a_majority_grants_ends_with_the_first_of_it() {
        let mut quorum = quorum();
        for (asked, voter) in [(10, "a"), (20, "b")] {
            quorum.ask(at(asked), LENGTH, None);
            grant(&mut quorum, at(asked), at(asked), voter);
        }
        assert_eq!(quorum.held_until(), Some(at(10) + usable(LENGTH)));
        quorum.ask(at(30), LENGTH, None);
        grant(&mut quorum, at(30), at(30), "w");
        assert_eq!(quorum.held_until(), Some(at(20) + usable(LENGTH)), "the third stands in for the first");
    }

    #[test]
    fn answers_from_before_a_release_are_void() {
        let mut quorum = quorum();
        quorum.ask(at(10), LENGTH, None);
        let release = quorum.release(at(20)).unwrap();
        assert_eq!(release.stamp, stamp(at(20)));
        assert_eq!(quorum.release(at(21)), None, "nothing is given back twice");
        for voter in ["a", "b", "w"] {
            grant(&mut quorum, at(10), at(30), voter);
        }
        assert_eq!(quorum.held_until(), None);
        let ask = quorum.ask(at(20), LENGTH, None);
        assert!(ask.stamp > release.stamp, "what is asked at once is not given back by it");
    }

    #[test]
    fn answers_to_an_earlier_agent_are_void() {
        let router = quorum().router;
        let mut quorum = Quorum::new(at(50), router, &["a".into(), "b".into(), "w".into()]);
        for voter in ["a", "b", "w"] {
            grant(&mut quorum, at(49), at(60), voter);
        }
        assert_eq!(quorum.held_until(), None);
    }

    #[test]
    fn a_stranger_and_another_router_count_for_nothing() {
        let mut quorum = quorum();
        quorum.ask(at(10), LENGTH, None);
        grant(&mut quorum, at(10), at(10), "a");
        grant(&mut quorum, at(10), at(10), "mallory");
        let mut other = reply(&quorum, at(10), Verdict::Granted { length: LENGTH, challenger: None });
        other.router.cluster = "web".into();
        quorum.on_reply(at(10), "w", &other);
        assert_eq!(quorum.held_until(), None);
    }

    #[test]
    fn two_refusals_of_three_are_hopeless_and_say_when_to_ask_again() {
        let mut quorum = quorum();
        quorum.ask(at(10), LENGTH, None);
        grant(&mut quorum, at(10), at(10), "a");
        let refused = |ms| Verdict::Refused { holder: "b".into(), remaining: Duration::from_millis(ms) };
        let first = reply(&quorum, at(10), refused(100));
        quorum.on_reply(at(11), "b", &first);
        assert!(!quorum.is_hopeless(at(11)));
        let second = reply(&quorum, at(10), refused(50));
        quorum.on_reply(at(12), "w", &second);
        assert!(quorum.is_hopeless(at(12)));
        assert_eq!(quorum.refused_for(at(12)), Some(Duration::from_millis(50)));
        let names: Vec<_> = quorum.missing(at(12)).iter().map(alloc::string::ToString::to_string).collect();
        assert_eq!(names, ["b (granted to b)", "w (granted to b)"]);
    }

    #[test]
    fn a_challenger_counts_once_a_majority_has_told_of_it() {
        let mut quorum = quorum();
        quorum.ask(at(10), LENGTH, None);
        let challenger = Challenger { name: "b".into(), priority: Priority(200) };
        let told = reply(&quorum, at(10), Verdict::Granted { length: LENGTH, challenger: Some(challenger.clone()) });
        quorum.on_reply(at(11), "a", &told);
        assert_eq!(quorum.challenger(at(11)), None);
        quorum.on_reply(at(11), "w", &told);
        assert_eq!(quorum.challenger(at(11)), Some(&challenger));
    }

    #[test]
    fn a_voter_that_is_deaf_or_mute_is_known_after_three_questions() {
        let mut quorum = quorum();
        for _ in 0..UNANSWERED {
            assert!(quorum.seats().iter().all(|seat| seat.unanswered < UNANSWERED));
            quorum.note_asked("w");
        }
        assert!(quorum.note_present("w"));
        assert!(!quorum.note_present("w"), "it was there already");
    }
}
