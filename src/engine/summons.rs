//! A preemption that is no handover: the owner is told to yield before its addresses are claimed.
//!
//! By RFC 9568 §6.4.2 the better node is Active with its first advert, and the owner gives up when it hears of it. For so
//! long there are two, and where the owner's agent is frozen or late just then, until its lease lapses.
//!
//! DEVIATION: the first advert is sent alone, by a node that is in Backup still. To every other node it is what the
//! standard's is; only the addresses come later:
//!
//! | when | what |
//! |---|---|
//! | at once | the advert. An owner of this kind gives up, and says so by priority 0: the moment of the claim |
//! | [`FIRST_ROUND`] after it | others yield without a word, so the addresses are asked for, and the owner's own address after them |
//! | each [`ROUND`] from then on | answered: asked again, and advertised again once an interval. [`SILENT_ROUNDS`] in a row in which the owner's own address answered and they did not: it claims |
//! | an active-down interval after the first advert | it claims, as by the standard: an owner that advertises on does not hear |
//!
//! The addresses of a frozen agent answer until its lease lapses. Where the whole host stands still nothing of it answers, and all does when
//! it goes on; so only the silence of a host that lives says that it has yielded. One that does not is succeeded as any that
//! falls silent, an active-down interval after its last advert. An owner that fell silent meanwhile but answers is one as
//! [`super::silence`] treats it. Owners beside it ([`super::others`]) are told by the same adverts, and waited for where they fall
//! silent. Whoever slept meanwhile begins anew. Where voters grant the addresses, their word is enough.

use alloc::boxed::Box;
use core::net::IpAddr;
use core::time::Duration;

use super::election::PATIENCE;
use super::output::{Cause, Output};
use super::silence::Answer;
use super::time::Instant;
use super::vip::{Step, Vip};
use crate::types::MacAddr;

/// An owner of this kind needs no longer to yield, unless it is busy.
pub const FIRST_ROUND: Duration = Duration::from_millis(3);
/// How often the addresses are asked for. An answer is the kernel's, whatever the agent does.
pub const ROUND: Duration = Duration::from_millis(10);
/// So many rounds without an answer show that a host that lives has yielded: one may be lost.
pub const SILENT_ROUNDS: u8 = 2;

/// What an owner that is to be preempted was told, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summons {
    owner: IpAddr,
    since: Instant,
    advertised_at: Instant,
    /// The end of the round.
    until: Instant,
    /// Since the last answer; `None` before the first question.
    silent_rounds: Option<u8>,
    answer: Option<Answer>,
    /// Whether its host answered the last question.
    lives: bool,
    has_yielded: bool,
}

impl Vip {
    /// When to ask again whether to claim, where an owner that is to be preempted may still own.
    pub(super) fn object_until_owner_yields(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Instant> {
        if let Cause::Preempts { source, .. } = *cause {
            return if self.quorum.is_none() { self.object_for_summoned(step, source) } else { None };
        }
        if let Cause::ActiveDown { .. } = cause { self.object_for_fallen_silent(step) } else { None }
    }

    fn object_for_summoned(&mut self, step: &mut Step<'_>, owner: IpAddr) -> Option<Instant> {
        let patience = self.active_down_interval(self.interval());
        let Some(summons) = self.summons.as_ref().filter(|summons| summons.owner == owner) else {
            return Some(self.summon(step, owner));
        };
        if summons.has_yielded {
            return self.others_may_own_until(step.now);
        }
        // Whoever stood still heard nothing, and was not heard: the time since says nothing.
        if step.now >= summons.until + self.settings.interval.duration().max(ROUND) {
            return Some(self.summon(step, owner));
        }
        if step.now >= summons.since + patience {
            return self.others_may_own_until(step.now);
        }
        if step.now < summons.until {
            return Some(summons.until);
        }
        let is_late = step.now >= summons.until + ROUND;
        let silent_rounds = match (summons.silent_rounds, &summons.answer) {
            (None, _) | (Some(_), Some(_)) => 0,
            // Whoever woke late may not have read the answer yet, and a host that stands still gives none.
            (Some(rounds), None) if is_late || !(summons.lives || self.goes_with_vip(owner)) => rounds,
            (Some(rounds), None) if rounds + 1 < SILENT_ROUNDS => rounds + 1,
            (Some(_), None) => return self.others_may_own_until(step.now),
        };
        Some(self.summon_again(step, silent_rounds))
    }

    /// Other owners hear the advert as well. One that has sent none since may be gone, or stand still, within its lease; one that
    /// advertises on does not hear, and is preempted by the standard.
    fn others_may_own_until(&self, now: Instant) -> Option<Instant> {
        let told = self.summoned_since()?;
        self.others_own_until(now, |heard| heard.at <= told + heard.interval.duration())
    }

    /// It advertises no more. What it answered within its lease says nothing of what it does afterwards.
    fn object_for_fallen_silent(&mut self, step: &mut Step<'_>) -> Option<Instant> {
        let lease = self.interval().duration() * PATIENCE;
        let lease_end = self.last_heard().map(|heard| heard.at + lease);
        let summons = self.summons.as_ref().filter(|_| self.asks_silent_owner())?;
        if step.now < summons.until {
            return Some(summons.until);
        }
        if summons.answer.is_some() && lease_end.is_some_and(|end| summons.until < end + ROUND) {
            return Some(self.summon_again(step, 0));
        }
        let answer = self.summons.take()?.answer?;
        Some(self.wait_for_answering(step, answer))
    }

    fn summon(&mut self, step: &mut Step<'_>, owner: IpAddr) -> Instant {
        let (since, advertised_at, until) = (step.now, step.now, step.now + FIRST_ROUND);
        let (silent_rounds, answer, lives, has_yielded) = (None, None, false, false);
        self.summons =
            Some(Box::new(Summons { owner, since, advertised_at, until, silent_rounds, answer, lives, has_yielded }));
        self.transmit(step, self.priority());
        until
    }

    fn summon_again(&mut self, step: &mut Step<'_>, silent_rounds: u8) -> Instant {
        let (now, until, interval) = (step.now, step.now + ROUND, self.settings.interval.duration());
        let mut question = self.question();
        let mut is_due = false;
        if let Some(summons) = &mut self.summons {
            is_due = now.since(summons.advertised_at) >= interval;
            summons.advertised_at = if is_due { now } else { summons.advertised_at };
            (summons.until, summons.silent_rounds, summons.answer) = (until, Some(silent_rounds), None);
            summons.lives = false;
            // After the vip's: a kernel answers one question after the other.
            question.addresses.push(summons.owner);
        }
        if is_due {
            self.transmit(step, self.priority());
        }
        step.outputs.push_back(Output::Ask(question));
        until
    }

    /// An owner resigned: it has closed its gate before it said so. What it said long ago says nothing of now. The claim may have waited for
    /// another one than the owner that is to be preempted.
    pub(super) fn on_yield(&mut self, step: &mut Step<'_>, cause: Cause, is_the_one: bool) {
        let Some(summons) = self.summons.as_mut().filter(|summons| step.now < summons.until + ROUND) else { return };
        if let Cause::Preempts { .. } = cause {
            summons.has_yielded |= is_the_one;
            self.seek(step, cause);
        }
    }

    /// An owner that is to be preempted is heard: it did not yield, or took it again.
    pub(super) fn hear_summoned(&mut self, source: IpAddr) {
        if let Some(summons) = self.summons.as_mut().filter(|summons| summons.owner == source) {
            summons.has_yielded = false;
        }
    }

    /// Somebody has an address that was asked for.
    pub(super) fn note_answer_of_summoned(&mut self, address: IpAddr, mac: MacAddr) {
        if let Some(summons) = &mut self.summons {
            summons.answer = Some(Answer { address, mac });
        }
    }

    /// A host answered by its own address.
    pub(super) fn note_life_of_summoned(&mut self, address: IpAddr) {
        if let Some(summons) = self.summons.as_mut().filter(|summons| summons.owner == address) {
            summons.lives = true;
        }
    }

    /// Whether an owner advertises from an address that it has only while it owns: that of the virtual MAC address, as FRR does. An
    /// owner of this kind advertises from its interface's.
    fn goes_with_vip(&self, owner: IpAddr) -> bool {
        owner == self.settings.vrid.derived_link_local()
    }

    /// Since when the owner may have been gone, where this node told it to yield.
    pub(super) fn summoned_since(&self) -> Option<Instant> {
        self.summons.as_ref().map(|summons| summons.since)
    }
}
