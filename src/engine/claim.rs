//! The claim: the steps from "I should own it" to "the neighbours know".

use core::time::Duration;

use super::ahead::Ahead;
use super::input::{EffectError, RequestId};
use super::output::{Cause, EventKind, Output};
use super::owner::Ownership;
use super::restore::Restorations;
use super::time::Instant;
use super::vip::{State, Step, Vip};

/// Whether to claim.
impl Vip {
    /// Claims, unless something speaks against it: then it stays in Backup, and asks again when that may have changed.
    ///
    /// Every claim that an election leads to comes through here; an adoption does not, for it takes nothing from anybody.
    pub(super) fn seek(&mut self, step: &mut Step<'_>, cause: Cause) {
        match self.objection(step, &cause) {
            None if self.is_claimed_by_group() => {
                self.wait_to_claim(step, step.now + self.interval().duration(), cause)
            }
            None => self.claim(step, cause),
            Some(ask_again_at) => {
                self.drop_ahead(step);
                self.wait_to_claim(step, ask_again_at, cause);
            }
        }
    }

    /// When to ask again, if something speaks against a claim now.
    ///
    /// The voters come before a silent owner: while a majority is that one's it answers by right, and must not be fenced. What a
    /// majority grants to this node is kept while it waits for one that answers without any, or has it fenced.
    pub(super) fn objection(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Instant> {
        let unfit = self
            .object_for_isolation(step, cause)
            .or_else(|| self.object_for_stale_data(step))
            .or_else(|| self.owner_elsewhere(step, cause))
            .or_else(|| self.object_for_others(step.now, cause));
        if let Some(until) = unfit {
            self.is_not_due();
            return Some(self.put_off_canvass(step, until));
        }
        if let Some(until) = self.object_until_group_is_due(step, cause) {
            return Some(until);
        }
        self.quorum_objection(step)
            .or_else(|| self.object_for_silent_owner(step, cause))
            .or_else(|| self.object_until_fenced(step, cause))
            .or_else(|| self.object_for_handover(step, cause))
            .or_else(|| self.object_until_hook_permits(step, cause))
            .or_else(|| self.object_until_owner_yields(step, cause))
    }

    /// Whether nothing is seen that [`Self::objection`] might heed, when the owner's silence ends. Unlike that it asks nobody, and tells nothing.
    pub(super) fn is_unopposed(&self, step: &Step<'_>) -> bool {
        !self.asks_references()
            && !self.is_too_stale_to_claim()
            && !self.second_path.has_owner(step.now)
            && self.quorum.as_ref().is_none_or(|quorum| quorum.is_held(step.now))
            && !self.silent_owner_has_answered()
            && !step.fences.settings.require
    }

    /// When [`Self::prepare`] is due, where anybody is to be asked: an interval before the claim, which is after two missed ones.
    pub(super) fn prepare_at(&self) -> Option<Instant> {
        let (State::Backup(backup), true) = (&self.state, self.has_to_ask()) else { return None };
        (!backup.is_prepared()).then(|| backup.active_down_at() - self.interval().duration())
    }

    /// Whether somebody is to be asked before a claim.
    fn has_to_ask(&self) -> bool {
        self.asks_silent_owner() || self.asks_references()
    }

    /// Asks what can be asked in advance, so that a claim loses no time by it. Called once before a claim that comes by a
    /// Backup's timer, for the cause that it would have by now; at once where the claim is nearer than an interval. An owner that is
    /// heard meanwhile makes it void: the state that it leaves belongs into [`Backup`](super::backup::Backup).
    pub(super) fn prepare(&mut self, step: &mut Step<'_>, cause: &Cause) {
        self.prepare_for_isolation(step);
        self.prepare_for_silence(step, cause);
    }
}

/// Becoming an owner.
impl Vip {
    /// Advertises, and asks the kernel for the addresses.
    pub(super) fn claim(&mut self, step: &mut Step<'_>, cause: Cause) {
        let interval = self.settings.interval;
        let ahead = self.take_ahead(step, &cause);
        self.end_canvass();
        self.transmit(step, self.priority());
        self.ask_to_stay(step);
        if let Some(ahead) = ahead {
            self.claim_what_is_there(step, cause, ahead);
            return;
        }
        // Installed while the kernel is told of the lease; without it they answer nobody.
        let set = self.address_set(step);
        let request = set.request;
        step.outputs.push_back(Output::Install(set));
        let lease = self.renew_lease(step);
        let mut restorations = Restorations::default();
        // An address that another program removes before the kernel has answered is put back afterwards.
        restorations.began(request);
        let ownership = Ownership::begun(step.now, lease, interval, restorations, None);
        self.enter(step, State::Claiming { ownership, request }, cause);
    }

    /// The addresses are there already, and answer as soon as there is a lease. Those of them that went, and what is heeded at
    /// once, follow.
    fn claim_what_is_there(&mut self, step: &mut Step<'_>, cause: Cause, ahead: Ahead) {
        let lease = self.renew_lease(step);
        let set = self.address_set(step);
        let request = set.request;
        let is_all = ahead.is_whole() && set.routing.is_empty();
        let mut restorations = Restorations::default();
        if !is_all {
            restorations.began(request);
        }
        let ownership = Ownership::begun(step.now, lease, self.settings.interval, restorations, None);
        self.enter(step, State::Claiming { ownership: ownership.clone(), request }, cause);
        let away = self.away(step.now);
        self.enter(step, State::Active(ownership), Cause::Installed);
        self.event(step, EventKind::TookOver { away });
        self.announce_anew(step);
        if !is_all {
            step.outputs.push_back(Output::Install(set));
        }
    }

    pub(super) fn on_installed(&mut self, step: &mut Step<'_>, request: RequestId, result: Result<(), EffectError>) {
        self.depose_if_late(step);
        match &mut self.state {
            State::Claiming { ownership, request: awaited } if *awaited == request => match result {
                Ok(()) => {
                    let mut ownership = ownership.clone();
                    self.refusals = 0;
                    let went = ownership.restored(request) == Some(true);
                    let away = self.away(step.now);
                    self.enter(step, State::Active(ownership), Cause::Installed);
                    self.event(step, EventKind::TookOver { away });
                    self.announce_anew(step);
                    if went {
                        self.restore(step);
                    }
                }
                Err(error) => self.hold_after_refusal(step, error),
            },
            State::Active(ownership) => match (ownership.restored(request), result) {
                (Some(_), Err(error)) => self.hold_after_refusal(step, error),
                (Some(true), Ok(())) => self.restore(step),
                (Some(false), Ok(())) => self.announce_anew(step),
                // The end of a claim that is over.
                (None, _) => {}
            },
            State::Initialize | State::Backup(_) | State::Claiming { .. } | State::Held { .. } => {}
        }
    }

    /// How long the addresses of a claim that ends now have been away, at most. An owner dies at some time after its last
    /// advert; one that is replaced goes on until it hears of it, and one that hands over until this node is ready.
    fn away(&self, now: Instant) -> Option<Duration> {
        let told = if let Cause::TakesOver { .. } = self.cause() { self.gap_since() } else { self.summoned_since() };
        Some(now.since(told.or_else(|| Some(self.last_heard()?.at))?))
    }
}
