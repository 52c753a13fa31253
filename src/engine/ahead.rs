//! Addresses that are installed ahead of a claim, behind the closed gate: the claim takes no longer than its lease then.
//!
//! For an owner that hands over ([`super::handover`]); after one that has resigned, while this node waits for its turn; and
//! where the kernel takes long for them, in the last of an owner's silence.

use alloc::sync::Arc;
use core::time::Duration;

use super::handover::Prepared;
use super::hook::Moment;
use super::input::{EffectError, RequestId};
use super::output::{Cause, Output};
use super::silence::ANSWER_MARGIN;
use super::time::Instant;
use super::vip::{Step, Vip};
use crate::types::Priority;

/// What the kernel takes for an address where there are many: for each it walks through those that are there already.
const INSTALLING: Duration = Duration::from_micros(25);
/// Fewer are installed within a millisecond, and wait for the claim.
const MANY: usize = 40;

/// What was ordered of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Until it has ended.
    ordered: Option<RequestId>,
    /// The addresses, or some of them, are there.
    pub(super) is_there: bool,
    /// Another program removed some since.
    some_went: bool,
}

impl Ahead {
    pub(super) const fn is_ordered(&self) -> bool {
        self.ordered.is_some()
    }

    /// Whether all addresses are there, as far as the kernel has told.
    pub(super) const fn is_whole(&self) -> bool {
        self.is_there && !self.some_went
    }

    /// Whether this was what has ended.
    pub(super) fn ended(&mut self, request: RequestId, result: &Result<Prepared, EffectError>) -> bool {
        let is_it = self.ordered == Some(request);
        if is_it {
            self.ordered = None;
            self.is_there = !matches!(result, Ok(Prepared::Later));
        }
        is_it
    }
}

impl Vip {
    /// Orders them. Those that were ordered for this node's turn do for a handover as well.
    pub(super) fn order_ahead(&mut self, step: &mut Step<'_>) -> Ahead {
        self.ahead.take().unwrap_or_else(|| {
            // Routes and rules would be heeded at once: they wait for the claim.
            let set = self.set_of(step, Arc::clone(&self.addresses), Arc::new([]));
            let ordered = Some(set.request);
            step.outputs.push_back(Output::Prepare(set));
            Ahead { ordered, is_there: false, some_went: false }
        })
    }

    /// The owner has resigned. A claim that others have a say in may come later than this node's turn, or not at all.
    pub(super) fn order_for_turn(&mut self, step: &mut Step<'_>) {
        if self.decides_itself(step.now) {
            self.ahead = Some(self.order_ahead(step));
        }
    }

    /// When those of a silent owner are ordered, where there are many: as late as they are there in time, for a connection of
    /// this host to them breaks by it, and not before its lease has lapsed and it is known whether they still answer.
    pub(super) fn ahead_at(&self) -> Option<Instant> {
        let backup = self.backup().filter(|backup| !backup.looked_ahead() && self.addresses.len() >= MANY)?;
        let claim_at = backup.active_down_at();
        let lease_end = claim_at - self.skew_time(self.interval());
        let takes = INSTALLING * u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        Some((claim_at - takes).max(lease_end + ANSWER_MARGIN)).filter(|at| *at < claim_at)
    }

    /// Orders them once they are due, unless the claim is known not to be made then, or something may speak against it.
    pub(super) fn order_in_silence_if_due(&mut self, step: &mut Step<'_>, cause: &Cause) {
        if self.ahead_at().is_none_or(|at| step.now < at) {
            return;
        }
        let is_late = self.backup().is_none_or(|backup| step.now >= backup.active_down_at());
        self.look_ahead();
        let Cause::ActiveDown { .. } = cause else { return };
        if !is_late && self.is_unopposed(step) && self.decides_itself(step.now) {
            self.ahead = Some(self.order_ahead(step));
        }
    }

    /// Whether nobody else decides when this node claims, or whether it does.
    fn decides_itself(&self, now: Instant) -> bool {
        let its_own = self.settings.priority == Priority::OWNER;
        let others_decide = self.is_claimed_by_group()
            || self.has_hook(Moment::BeforeClaim)
            || self.others_own_until(now, |_| true).is_some();
        !its_own && !others_decide && !self.has_offer()
    }

    /// The addresses are there, or will be when they are claimed.
    pub(super) fn on_prepared(
        &mut self,
        step: &mut Step<'_>,
        request: RequestId,
        result: &Result<Prepared, EffectError>,
    ) {
        if self.ahead.as_mut().is_some_and(|ahead| ahead.ended(request, result)) {
            if result.is_err() {
                self.drop_ahead(step);
            }
        } else {
            self.offer_on_prepared(step, request, result);
        }
    }

    /// An address went that this node does not own.
    pub(super) fn note_gone_ahead(&mut self) {
        if let Some(ahead) = self.offered_ahead() {
            ahead.some_went = true;
        }
        if let Some(ahead) = &mut self.ahead {
            ahead.some_went = true;
        }
    }

    /// The addresses that are there already. One that preempts an owner which is still there has to begin anew: they would
    /// answer before that owner has heard of it.
    pub(super) fn take_ahead(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Ahead> {
        if let Cause::Preempts { .. } = cause {
            self.drop_offer(step);
            self.drop_ahead(step);
        }
        let offered = self.take_offer(step);
        // What is under way yet ends before what the claim orders.
        offered.or_else(|| self.ahead.take()).filter(|ahead| ahead.is_there)
    }

    /// This node's turn does not come.
    pub(super) fn drop_ahead(&mut self, step: &mut Step<'_>) {
        if let Some(ahead) = self.ahead.take() {
            self.put_back(step, ahead);
        }
    }

    pub(super) fn put_back(&mut self, step: &mut Step<'_>, ahead: Ahead) {
        if ahead.is_there || ahead.is_ordered() {
            let set = self.address_set(step);
            self.note_later_removal(set.request);
            step.outputs.push_back(Output::Remove(set));
        }
    }
}
