//! What a vip does about its quorum: asks the voters, claims only with a majority, gives up without one.
//!
//! A Backup begins to ask when half of its skew time is left: the owner's grants end with its patience, and the better node still
//! asks first. So a claim waits for one round trip at most, and mostly for none. It gives back what it got as soon as it hears an owner.
//! An owner asks with each advert, and holds its lease no longer than a majority grants it.
//!
//! One that means to replace a living owner cannot have what that one holds. It says so with its questions; the owner hears
//! of it from a majority of the voters, and yields to the higher priority.

use alloc::sync::Arc;
use core::time::Duration;

use super::backup::Backup;
use super::election::PATIENCE;
use super::output::{Cause, EventKind, Output};
use super::quorum::{Missing, Quorum, UNANSWERED, stamp};
use super::time::Instant;
use super::vip::{State, Step, Vip};
use crate::types::Priority;
use crate::wire::grant::{GrantMessage, Reply};

/// A node that waits for a majority asks again after a quarter of the interval, but not more often than this, so that a thousand
/// vips without a majority are no flood; and not less often than [`SLOWEST`], so that none waits for long after a heal.
const FASTEST: Duration = Duration::from_millis(5);
/// See [`FASTEST`].
const SLOWEST: Duration = Duration::from_millis(250);

/// A claim that is being prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Canvass {
    next_ask_at: Instant,
    /// Since when nothing but the majority is missing.
    wants_since: Option<Instant>,
    /// Whether it was told that it is missing.
    told: bool,
    /// Questions asked.
    rounds: u32,
    /// Nothing has been asked since something else spoke against the claim.
    put_off: bool,
}

/// What a status shows.
impl Vip {
    /// The grants, where voters are configured.
    pub fn quorum(&self) -> Option<&Quorum> {
        self.quorum.as_deref()
    }

    /// Since when it would claim had it a majority.
    pub fn lacks_majority_since(&self) -> Option<Instant> {
        self.canvass.as_ref().and_then(|canvass| canvass.wants_since)
    }
}

/// Before a claim.
impl Vip {
    /// When the voters are to be asked, by a node that does not own.
    pub(super) fn canvass_at(&self) -> Option<Instant> {
        let (State::Backup(backup), Some(_), false) = (&self.state, &self.quorum, self.waits_for_lead()) else {
            return None;
        };
        Some(match &self.canvass {
            Some(canvass) => canvass.next_ask_at,
            None => backup.active_down_at() - self.skew_time(self.interval()) / 2,
        })
    }

    pub(super) fn canvass_on_deadline(&mut self, step: &mut Step<'_>) {
        if self.canvass_at().is_some_and(|at| step.now >= at) {
            self.canvass(step);
        }
    }

    /// When to ask again, where no majority grants a claim now.
    pub(super) fn quorum_objection(&mut self, step: &mut Step<'_>) -> Option<Instant> {
        self.quorum.as_ref()?;
        if self.waits_for_lead() {
            return Some(step.now + FASTEST);
        }
        // What spoke against the claim may have ended sooner than was foreseen.
        if self.canvass.as_ref().is_none_or(|canvass| canvass.put_off) {
            self.canvass(step);
        }
        if self.quorum.as_ref().is_none_or(|quorum| quorum.is_held(step.now)) {
            if let Some(canvass) = &mut self.canvass {
                canvass.wants_since = None;
            }
            return None;
        }
        self.void_answers(step);
        let patience = self.settings.interval.duration() * PATIENCE;
        let canvass = self.canvass.as_mut()?;
        let since = *canvass.wants_since.get_or_insert(step.now);
        let ask_again_at = canvass.next_ask_at;
        if step.now.since(since) >= patience && !core::mem::replace(&mut canvass.told, true) {
            let missing = self.missing_voters(step.now);
            self.event(step, EventKind::NoMajority { missing });
        }
        Some(ask_again_at)
    }

    /// A claim is due no more: what was granted for it is given back, so that the owner can have it.
    pub(super) fn stand_down(&mut self, step: &mut Step<'_>) {
        if self.canvass.take().is_some() {
            self.release_grants(step);
        }
    }

    /// This node is not fit to claim until then: what was granted is given back, and asked for anew in time.
    pub(super) fn put_off_canvass(&mut self, step: &mut Step<'_>, until: Instant) -> Instant {
        if self.quorum.is_some() {
            self.release_grants(step);
            let in_time = until - self.skew_time(self.interval()) / 2;
            let next_ask_at = in_time.max(step.now + FASTEST);
            self.canvass = Some(Canvass { next_ask_at, wants_since: None, told: false, rounds: 0, put_off: true });
        }
        until
    }

    /// The claim begins.
    pub(super) fn end_canvass(&mut self) {
        self.canvass = None;
    }

    /// The owner resigned: its grants are free.
    pub(super) fn hurry_canvass(&mut self, now: Instant) {
        if let Some(canvass) = self.canvass.as_mut().filter(|canvass| canvass.wants_since.is_some()) {
            canvass.next_ask_at = now;
        }
    }

    fn canvass(&mut self, step: &mut Step<'_>) {
        let rounds = self.canvass.as_ref().map_or(0, |canvass| canvass.rounds);
        let pause = (self.interval().duration() / 4).clamp(FASTEST, SLOWEST);
        let first = Canvass { next_ask_at: step.now, wants_since: None, told: false, rounds, put_off: false };
        let canvass = self.canvass.get_or_insert(first);
        canvass.put_off = false;
        canvass.rounds = rounds.saturating_add(1);
        canvass.next_ask_at = step.now + pause;
        let preempts = matches!(&self.state, State::Backup(backup) if backup.preempts());
        let challenge = (preempts || self.settings.priority == Priority::OWNER).then_some(self.priority());
        self.ask_voters(step, challenge, false);
    }

    fn candidate_on_reply(&mut self, step: &mut Step<'_>) {
        // What comes after a release answers nothing any more.
        let Some(quorum) = self.quorum.as_ref().filter(|quorum| quorum.is_asking()) else { return };
        let (is_held, is_hopeless, refused_for) =
            (quorum.is_held(step.now), quorum.is_hopeless(step.now), quorum.refused_for(step.now));
        let turn = self.turn();
        let Some(canvass) = &mut self.canvass else { return };
        if is_held {
            if canvass.wants_since.is_some() {
                if let State::Backup(backup) = &mut self.state {
                    backup.put_off(step.now);
                }
                self.backup_on_deadline(step);
            }
            return;
        }
        if let Some(left) = refused_for {
            canvass.next_ask_at = canvass.next_ask_at.min(step.now + left.max(FASTEST));
        }
        if is_hopeless {
            // Another candidate may need what this one got. Who is better asks again sooner.
            let left = refused_for.unwrap_or_default().min(SLOWEST);
            canvass.next_ask_at = canvass.next_ask_at.max(step.now + left + turn);
            self.release_grants(step);
        }
    }

    /// How long a candidate keeps out of the way of another one: less the better it is, and a little by chance, which is its name's
    /// and the round's.
    fn turn(&self) -> Duration {
        let interval = self.interval().duration().min(SLOWEST);
        let rounds = self.canvass.as_ref().map_or(0, |canvass| canvass.rounds);
        let name = self.own_name.as_deref().unwrap_or_default();
        let hash = name.bytes().fold(rounds, |hash, byte| hash.wrapping_mul(16_777_619) ^ u32::from(byte));
        let rank = u32::from(u8::MAX - self.priority().0);
        interval * rank / 1_024 + interval * (hash % 64) / 1_024
    }
}

/// As an owner.
impl Vip {
    /// Asks for what the next lease needs.
    pub(super) fn ask_to_stay(&mut self, step: &mut Step<'_>) {
        self.ask_voters(step, None, true);
    }

    /// The end of a lease that lasts so long for the peers' sake: not later than a majority grants it.
    pub(super) fn limited_by_grants(&self, until: Instant) -> Instant {
        match &self.quorum {
            Some(quorum) => quorum.held_until().map_or(Instant::ZERO, |held| held.min(until)),
            None => until,
        }
    }

    fn owner_on_reply(&mut self, step: &mut Step<'_>) {
        let Some(quorum) = &self.quorum else { return };
        if let Some(challenger) = quorum.challenger(step.now).filter(|it| it.priority > self.priority()) {
            let cause = Cause::Challenged { by: Arc::clone(&challenger.name), priority: challenger.priority };
            self.give_up(step);
            let backup = Backup::listening(step.now + self.active_down_interval(self.settings.interval));
            self.enter(step, State::Backup(backup), cause);
            return;
        }
        self.lengthen_lease(step);
    }

    /// The voters that are missing, where it is their grants that have ended, and not this node that was late.
    pub(super) fn lost_majority(&self, now: Instant) -> Option<alloc::vec::Vec<Missing>> {
        let quorum = self.quorum.as_ref()?;
        (!quorum.is_held(now)).then(|| quorum.missing(now))
    }
}

/// What both share.
impl Vip {
    pub(super) fn on_reply(&mut self, step: &mut Step<'_>, from: &str, reply: &Reply) {
        self.depose_if_late(step);
        let Some(quorum) = &mut self.quorum else { return };
        quorum.on_reply(step.now, from, reply);
        match &self.state {
            State::Claiming { .. } | State::Active(_) => self.owner_on_reply(step),
            State::Backup(_) => self.candidate_on_reply(step),
            State::Initialize | State::Held { .. } => {}
        }
    }

    /// A voter is there. A candidate that had stopped to ask it does so now.
    pub(super) fn on_present(&mut self, step: &Step<'_>, from: &str) {
        let returned = self.quorum.as_mut().is_some_and(|quorum| quorum.note_present(from));
        if returned && let Some(canvass) = &mut self.canvass {
            canvass.next_ask_at = step.now;
        }
    }

    /// Gives everything back. Whoever calls it has ended the lease before.
    pub(super) fn release_grants(&mut self, step: &mut Step<'_>) {
        let Some(quorum) = &mut self.quorum else { return };
        let Some(release) = quorum.release(step.now) else { return };
        for seat in quorum.seats() {
            if self.own_name.as_ref() == Some(&seat.voter) {
                if let Some(voter) = step.voter.as_deref_mut() {
                    voter.on_release(step.now, &seat.voter, &release);
                }
            } else {
                let message = GrantMessage::Release(release.clone());
                step.outputs.push_back(Output::Vote { to: Arc::clone(&seat.voter), message });
            }
        }
    }

    fn missing_voters(&self, now: Instant) -> alloc::vec::Vec<Missing> {
        self.quorum.as_ref().map(|quorum| quorum.missing(now)).unwrap_or_default()
    }

    /// An owner asks everybody, since what it holds is its own; a candidate asks those only that it hears.
    fn ask_voters(&mut self, step: &mut Step<'_>, challenge: Option<Priority>, owns: bool) {
        let length = self.pace().duration() * PATIENCE;
        let Some(quorum) = &mut self.quorum else { return };
        let ask = quorum.ask(step.now, length, challenge);
        let voters: alloc::vec::Vec<(Arc<str>, bool)> =
            quorum.seats().iter().map(|seat| (Arc::clone(&seat.voter), seat.unanswered >= UNANSWERED)).collect();
        for (voter, is_mute) in voters {
            if self.own_name.as_ref() == Some(&voter) {
                if let Some(local) = step.voter.as_deref_mut() {
                    let reply = local.on_ask(step.now, &voter, &ask);
                    quorum.on_reply(step.now, &voter, &reply);
                }
                continue;
            }
            quorum.note_asked(&voter);
            let message = if is_mute && !owns {
                GrantMessage::RollCall { stamp: stamp(step.now) }
            } else {
                GrantMessage::Ask(ask.clone())
            };
            step.outputs.push_back(Output::Vote { to: voter, message });
        }
    }
}

/// Other states.
impl Vip {
    /// A vip enters another state: grants of an owner that has ended its lease, or of a candidate that is none any more, are given
    /// back; but not those that the next agent of this node will need.
    pub(super) fn follow_grants(&mut self, step: &mut Step<'_>, next: &State, cause: &Cause) {
        let owned = matches!(self.state, State::Claiming { .. } | State::Active(_));
        let ends = match next {
            State::Claiming { .. } | State::Active(_) => false,
            State::Backup(_) => owned,
            State::Initialize | State::Held { .. } => *cause != Cause::HandedOn,
        };
        if ends {
            self.canvass = None;
            self.release_grants(step);
        }
    }
}
