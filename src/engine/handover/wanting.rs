//! As one that would have it: whom it asks, and how long it waits for the answer.

use alloc::boxed::Box;
use alloc::string::String;
use core::time::Duration;

use super::{ASK_SPACING, ASKING, HandoverFailure, Leaving, Phase, Wanting};
use crate::engine::input::RequestId;
use crate::engine::output::{Cause, EventKind};
use crate::engine::time::Instant;
use crate::engine::vip::{State, Step, Vip};
use crate::wire::handover::{HandoverReason, HandoverStep, Refusal};

/// A node that was refused, or not answered, asks no more for so long.
const ASK_AGAIN: Duration = Duration::from_secs(60);

impl Vip {
    /// An operator wants it here.
    pub(super) fn want_for(
        &mut self,
        step: &mut Step<'_>,
        reason: HandoverReason,
        request: RequestId,
    ) -> Result<(), HandoverFailure> {
        match &self.state {
            State::Backup(_) => {}
            State::Initialize | State::Held { .. } => {
                let refusal = Refusal::NotListening;
                return Err(HandoverFailure::Refused { peer: "this node".into(), refusal });
            }
            State::Claiming { .. } | State::Active(_) => return Err(HandoverFailure::OwnerAlready),
        }
        let owner = self.owner_by_name(step.now).ok_or(HandoverFailure::NotOwner { owner: None })?;
        self.want(step, owner, reason, Some(request));
        Ok(())
    }

    /// Until when a preemption waits for the owner to hand over.
    pub(in crate::engine) fn object_for_handover(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Instant> {
        // Nobody claims what he has just given away, before it is known whether it was taken.
        if let Some(Leaving { phase: Phase::Telling { until, .. } | Phase::Removing { until, .. }, .. }) =
            self.handover.leaving.as_deref()
            && step.now < *until
        {
            return Some(*until);
        }
        let Cause::Preempts { source, .. } = cause else { return None };
        let owner = self.second_path.owner_at(step.now, *source)?;
        match self.handover.wanting.as_ref().filter(|wanting| wanting.peer == owner) {
            Some(wanting) => (!wanting.is_over && step.now < wanting.until).then_some(wanting.until),
            None => Some(self.want(step, owner, HandoverReason::Preempt, None)),
        }
    }

    fn want(
        &mut self,
        step: &mut Step<'_>,
        peer: String,
        reason: HandoverReason,
        request: Option<RequestId>,
    ) -> Instant {
        let (until, number) = (step.now + ASKING, step.request().0);
        self.say(step, &peer, number, HandoverStep::Want(reason));
        let repeat_at = step.now + ASK_SPACING;
        let wanting = Wanting { peer, reason, number, until, repeat_at, request, is_over: false };
        self.handover.wanting = Some(Box::new(wanting));
        until
    }

    /// The owner does not hand over: what is to be had is to be had by the standard.
    pub(super) fn end_wanting(&mut self, step: &mut Step<'_>, failure: HandoverFailure) {
        self.end_wanting_until(step, failure, step.now + ASK_AGAIN);
    }

    /// The same, where it may be wanted again from then on.
    pub(super) fn end_wanting_until(&mut self, step: &mut Step<'_>, failure: HandoverFailure, until: Instant) {
        let Some(wanting) = self.handover.wanting.as_mut().filter(|wanting| !wanting.is_over) else { return };
        wanting.is_over = true;
        wanting.until = until;
        let (request, reason) = (wanting.request.take(), wanting.reason);
        self.event(step, EventKind::HandoverFailed { reason, failure: failure.clone() });
        self.tell_outcome(step, request, Err(failure));
        if let (HandoverReason::Preempt, State::Backup(backup)) = (reason, &mut self.state) {
            backup.hurry(None, step.now);
        }
    }
}
