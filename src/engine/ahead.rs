//! Addresses that are installed ahead of a claim, behind the closed gate: the claim takes no longer than its lease then.
//!
//! For an owner that hands over ([`super::handover`]), and after one that has resigned, while this node waits for its turn.

use alloc::sync::Arc;

use super::handover::Prepared;
use super::hook::Moment;
use super::input::{EffectError, RequestId};
use super::output::{Cause, Output};
use super::vip::{Step, Vip};
use crate::types::Priority;

/// What was ordered of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Until it has ended.
    ordered: Option<RequestId>,
    /// The addresses, or some of them, are there.
    pub(super) is_there: bool,
}

impl Ahead {
    pub(super) const fn is_ordered(&self) -> bool {
        self.ordered.is_some()
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
            Ahead { ordered, is_there: false }
        })
    }

    /// The owner has resigned. A claim that others have a say in may come later than this node's turn, or not at all.
    pub(super) fn order_for_turn(&mut self, step: &mut Step<'_>) {
        let its_own = self.settings.priority == Priority::OWNER;
        let others_decide = self.is_claimed_by_group()
            || self.has_hook(Moment::BeforeClaim)
            || self.others_own_until(step.now, |_| true).is_some();
        if !its_own && !others_decide && !self.has_offer() {
            self.ahead = Some(self.order_ahead(step));
        }
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

    /// Whether the addresses are there already. One that preempts an owner which is still there has to begin anew: they would
    /// answer before that owner has heard of it.
    pub(super) fn take_ahead(&mut self, step: &mut Step<'_>, cause: &Cause) -> bool {
        if let Cause::Preempts { .. } = cause {
            self.drop_offer(step);
            self.drop_ahead(step);
        }
        let was_offered = self.take_offer(step);
        // What is under way yet ends before what the claim orders.
        was_offered || self.ahead.take().is_some_and(|ahead| ahead.is_there)
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
