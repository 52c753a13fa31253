//! A voter: promises a virtual router to one node at a time, and to nobody else until that promise has ended.
//!
//! It keeps nothing on disk. One that starts may have promised anything before, so it waits for as long as its longest grant
//! before it votes. It counts a grant from the receipt of the question, by its own clock: later than the node that asked, which counts
//! from before it asked, and less a margin for the rates of the two clocks (see [`quorum`](super::quorum)).
//!
//! It refuses what another node holds, what is longer than its longest grant, and more virtual routers than it has room for. It owns
//! nothing and knows no priority; it only passes on who means to replace the holder, which then decides.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::time::Duration;

use super::time::Instant;
use crate::wire::grant::{Ask, Challenger, GrantMessage, Release, Reply, RouterId, Stamp, Verdict};

/// How many virtual routers a voter keeps: 65,536, six times what a witness is meant for. About 200 bytes each.
pub const MOST_ROUTERS: usize = 1 << 16;

/// The votes of one node or witness.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voter {
    votes_from: Instant,
    longest: Duration,
    grants: BTreeMap<RouterId, Grant>,
    /// How many of them there are before those that have ended are looked for.
    sweep_at: usize,
}

/// A promise, kept or over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Grant {
    holder: Arc<str>,
    /// The holder's latest question: what it gives back it must have asked for before.
    stamp: Stamp,
    until: Instant,
    challenger: Option<(Challenger, Instant)>,
    /// Until what the holder gave it back, and how long that is remembered: a question that was overtaken on its way must not bring
    /// back what nobody wants. Not for ever, since a holder that boots anew counts anew.
    released: Option<(Stamp, Instant)>,
}

impl Voter {
    /// A voter that starts now, and never grants anything for longer than that, in this life or an earlier one.
    pub fn new(now: Instant, longest: Duration) -> Self {
        Self { votes_from: now + longest, longest, grants: BTreeMap::new(), sweep_at: 64 }
    }

    /// A node says something; what it is to be told.
    pub fn answer(&mut self, now: Instant, from: &str, message: &GrantMessage) -> Option<GrantMessage> {
        match message {
            GrantMessage::Ask(ask) => Some(GrantMessage::Reply(self.on_ask(now, from, ask))),
            GrantMessage::RollCall { stamp } => Some(GrantMessage::Present { stamp: *stamp, wait: self.wait(now) }),
            GrantMessage::Release(release) => {
                self.on_release(now, from, release);
                None
            }
            // For one who asks.
            GrantMessage::Reply(_) | GrantMessage::Present { .. } => None,
        }
    }

    /// A node wants a grant.
    pub fn on_ask(&mut self, now: Instant, from: &str, ask: &Ask) -> Reply {
        Reply { router: ask.router.clone(), stamp: ask.stamp, verdict: self.verdict(now, from, ask) }
    }

    /// A node gives back what it had until then.
    pub fn on_release(&mut self, now: Instant, from: &str, release: &Release) {
        // One that has asked again since then still wants what it has.
        let is_over = |grant: &Grant| &*grant.holder == from && grant.stamp <= release.stamp;
        if let Some(grant) = self.grants.get_mut(&release.router).filter(|grant| is_over(grant)) {
            grant.until = grant.until.min(now);
            grant.released = Some((release.stamp, now + self.longest));
        }
    }

    /// For how long it does not vote yet.
    pub const fn wait(&self, now: Instant) -> Duration {
        self.votes_from.since(now)
    }

    /// Its longest grant.
    pub const fn longest(&self) -> Duration {
        self.longest
    }

    /// How many virtual routers it has granted.
    pub fn grants(&self, now: Instant) -> usize {
        self.grants.values().filter(|grant| now < grant.until).count()
    }

    /// Forgets what has ended: it has no consequence any more.
    pub fn forget_ended(&mut self, now: Instant) {
        self.grants.retain(|_, grant| now < grant.until || grant.released.is_some_and(|(_, until)| now < until));
    }

    /// Who has a virtual router, and until when.
    pub fn holder(&self, now: Instant, router: &RouterId) -> Option<(&str, Instant)> {
        let grant = self.grants.get(router).filter(|grant| now < grant.until)?;
        Some((&grant.holder, grant.until))
    }

    fn verdict(&mut self, now: Instant, from: &str, ask: &Ask) -> Verdict {
        if now < self.votes_from {
            return Verdict::Starting { remaining: self.wait(now) };
        }
        if ask.length > self.longest {
            return Verdict::TooLong { longest: self.longest };
        }
        let until = now + ask.length;
        match self.grants.get_mut(&ask.router) {
            Some(grant) if &*grant.holder == from && grant.gave_back(now, ask.stamp) => {
                Verdict::Refused { holder: Arc::clone(&grant.holder), remaining: Duration::ZERO }
            }
            Some(grant) if &*grant.holder == from => {
                grant.released = None;
                grant.stamp = grant.stamp.max(ask.stamp);
                // An old question that comes late takes nothing back.
                grant.until = grant.until.max(until);
                grant.challenger.take_if(|(_, until)| now >= *until);
                let challenger = grant.challenger.as_ref().map(|(challenger, _)| challenger.clone());
                Verdict::Granted { length: ask.length, challenger }
            }
            Some(grant) if now < grant.until => {
                if let Some(priority) = ask.challenge {
                    grant.challenger = Some((Challenger { name: Arc::from(from), priority }, until));
                }
                Verdict::Refused { holder: Arc::clone(&grant.holder), remaining: grant.until.since(now) }
            }
            Some(_) | None => self.grant_anew(now, from, ask, until),
        }
    }

    fn grant_anew(&mut self, now: Instant, from: &str, ask: &Ask, until: Instant) -> Verdict {
        if !self.grants.contains_key(&ask.router) && !self.has_room(now) {
            return Verdict::Full;
        }
        let grant = Grant { holder: Arc::from(from), stamp: ask.stamp, until, challenger: None, released: None };
        self.grants.insert(ask.router.clone(), grant);
        Verdict::Granted { length: ask.length, challenger: None }
    }

    /// Makes room by what has ended, now and then.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.grants.len() >= self.sweep_at {
            self.forget_ended(now);
            self.sweep_at = (2 * self.grants.len()).clamp(64, MOST_ROUTERS);
        }
        self.grants.len() < MOST_ROUTERS
    }
}

impl Grant {
    fn gave_back(&self, now: Instant, stamp: Stamp) -> bool {
        self.released.is_some_and(|(released, until)| stamp <= released && now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Priority, Vrid};

    const LONGEST: Duration = Duration::from_secs(3);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn router(number: usize) -> RouterId {
        RouterId { cluster: alloc::format!("pair-{number}").into(), vrid: Vrid::new(51).unwrap() }
    }

    fn ask(stamp: u64, challenge: Option<Priority>) -> Ask {
        Ask { router: router(0), stamp: Stamp(stamp), length: Duration::from_millis(300), challenge }
    }

    fn granted(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Granted { challenger: None, .. })
    }

    fn voting() -> Voter {
        Voter::new(at(0), LONGEST)
    }

    #[test]
    fn a_voter_that_starts_waits_one_longest_grant() {
        let mut voter = voting();
        let last = Instant::from_nanos(at(3_000).as_nanos() - 1);
        let verdict = voter.on_ask(last, "a", &ask(1, None)).verdict;
        assert_eq!(verdict, Verdict::Starting { remaining: Duration::from_nanos(1) });
        assert!(granted(&voter.on_ask(at(3_000), "a", &ask(1, None)).verdict));
    }

    #[test]
    fn a_grant_is_kept_from_others_to_the_nanosecond() {
        let mut voter = voting();
        assert!(granted(&voter.on_ask(at(3_000), "a", &ask(1, None)).verdict));
        let last = Instant::from_nanos(at(3_300).as_nanos() - 1);
        let refusal = Verdict::Refused { holder: "a".into(), remaining: Duration::from_nanos(1) };
        assert_eq!(voter.on_ask(last, "b", &ask(1, None)).verdict, refusal);
        assert!(granted(&voter.on_ask(at(3_300), "b", &ask(1, None)).verdict));
        assert_eq!(voter.holder(at(3_300), &router(0)), Some(("b", at(3_600))));
    }

    #[test]
    fn an_old_question_takes_nothing_back() {
        let mut voter = voting();
        let long = Ask { length: LONGEST, ..ask(7, None) };
        voter.on_ask(at(3_000), "a", &long);
        assert!(granted(&voter.on_ask(at(3_010), "a", &ask(3, None)).verdict));
        assert_eq!(voter.holder(at(3_010), &router(0)), Some(("a", at(6_000))));
    }

    #[test]
    fn a_release_frees_what_was_asked_for_before_it_and_nothing_later() {
        let mut voter = voting();
        voter.on_ask(at(3_000), "a", &ask(5, None));
        let release = |stamp| Release { router: router(0), stamp: Stamp(stamp) };
        voter.on_release(at(3_001), "b", &release(9));
        voter.on_release(at(3_001), "a", &release(4));
        assert!(voter.holder(at(3_001), &router(0)).is_some());
        voter.on_release(at(3_001), "a", &release(5));
        let overtaken = voter.on_ask(at(3_001), "a", &ask(5, None)).verdict;
        assert!(!granted(&overtaken), "what was overtaken by its release brings nothing back");
        assert!(granted(&voter.on_ask(at(3_001), "b", &ask(1, None)).verdict));
    }

    #[test]
    fn a_holder_hears_who_challenges_it_for_as_long_as_that_one_asks() {
        let mut voter = voting();
        voter.on_ask(at(3_000), "a", &ask(1, None));
        voter.on_ask(at(3_100), "b", &ask(1, Some(Priority(200))));
        let challenger = Challenger { name: "b".into(), priority: Priority(200) };
        let told = Verdict::Granted { length: Duration::from_millis(300), challenger: Some(challenger) };
        assert_eq!(voter.on_ask(at(3_200), "a", &ask(2, None)).verdict, told);
        assert!(granted(&voter.on_ask(at(3_400), "a", &ask(3, None)).verdict));
    }

    #[test]
    fn more_than_the_longest_grant_is_refused() {
        let long = Ask { length: LONGEST + Duration::from_nanos(1), ..ask(1, None) };
        assert_eq!(voting().on_ask(at(3_000), "a", &long).verdict, Verdict::TooLong { longest: LONGEST });
    }

    #[test]
    fn a_voter_has_room_for_so_many_routers_and_makes_room_by_what_has_ended() {
        let mut voter = voting();
        for number in 0..MOST_ROUTERS {
            let verdict = voter.on_ask(at(3_000), "a", &Ask { router: router(number), ..ask(1, None) }).verdict;
            assert!(granted(&verdict));
        }
        let one_more = Ask { router: router(MOST_ROUTERS), ..ask(1, None) };
        assert_eq!(voter.on_ask(at(3_100), "a", &one_more).verdict, Verdict::Full);
        assert!(granted(&voter.on_ask(at(3_100), "a", &ask(2, None)).verdict), "what it has is renewed all the same");
        assert!(granted(&voter.on_ask(at(3_300), "a", &one_more).verdict));
        assert_eq!(voter.grants(at(3_300)), 2);
    }
}
