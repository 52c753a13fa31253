//! As the owner: whom it asks, when it lets go, and when it hears that the other one has it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::{
    ASK_SPACING, ASKING, HandoverDone, HandoverFailure, HandoverOrder, Leaving, MOST_READIES, Order, PATIENT_SPACING,
    Phase, Then, is_question_only, window,
};
use crate::engine::backup::Backup;
use crate::engine::hold::Hold;
use crate::engine::hook::LONGEST_AT_STOP;
use crate::engine::input::RequestId;
use crate::engine::output::{Cause, EventKind, Output};
use crate::engine::time::Instant;
use crate::engine::vip::{State, Step, Vip};
use crate::types::Priority;
use crate::wire::handover::{HandoverReason, HandoverStep, QUESTION_ONLY, Refusal};
use crate::wire::heartbeat::Standing;

/// That it is the other's is said again after so long: nobody owns meanwhile.
const TELL_SPACING: Duration = Duration::from_millis(3);
/// A stop waits for the hook before a release for so long even where it has waited for another hook before.
const SHORTEST_AT_STOP: Duration = Duration::from_secs(1);

impl Vip {
    pub(super) fn on_order(&mut self, step: &mut Step<'_>, request: RequestId, order: HandoverOrder, is_here: bool) {
        self.depose_if_late(step);
        let HandoverOrder { to, reason, dry_run } = order;
        let outcome = if is_here {
            self.want_for(step, reason, request)
        } else {
            let then = if dry_run { Then::Stay } else { Then::Follow };
            let order = Order { request: Some(request), ..Order::new(step.now, reason, to, then) };
            self.begin_handover(step, order)
        };
        if let Err(failure) = outcome {
            self.tell_outcome(step, Some(request), Err(failure));
        }
    }

    /// A stop. Whether it is to be waited for.
    pub(in crate::engine) fn hand_over_to_leave(&mut self, step: &mut Step<'_>, cause: Cause) -> bool {
        self.depose_if_late(step);
        let order = Order::new(step.now, HandoverReason::Stop, None, Then::Leave(cause));
        self.begin_handover(step, order.clone()).is_ok() || self.leave_after_hook(step, order)
    }

    /// A drain. Whether it is under way.
    pub(in crate::engine) fn hand_over_to_keep_out(&mut self, step: &mut Step<'_>, hold: Hold) -> bool {
        let order = Order::new(step.now, HandoverReason::Drain, None, Then::KeepOut(hold));
        self.begin_handover(step, order.clone()).is_ok() || self.leave_after_hook(step, order)
    }

    /// Nobody is asked, or nobody takes it: a stop or a drain goes on by the standard, when the hook before a release has ended. Whether that is to
    /// be waited for.
    fn leave_after_hook(&mut self, step: &mut Step<'_>, order: Order) -> bool {
        !order.then.is_with_successor() && self.begin_releasing(step, order)
    }

    /// A member of a group waits for the hooks of the others as well.
    pub(super) fn begin_releasing(&mut self, step: &mut Step<'_>, order: Order) -> bool {
        if !matches!(self.state, State::Active(_)) || self.handover.leaving.is_some() {
            return false;
        }
        let (peer, asked, tried) = (String::new(), Vec::new(), Vec::new());
        let (phase, repeat_at) = (Phase::Releasing, step.now);
        self.handover.leaving =
            Some(Box::new(Leaving { peer, order, phase, asked, repeat_at, tried, ready: None, failed: None }));
        let waits = !self.may_let_go(step) || self.is_claimed_by_group();
        if !waits {
            self.handover.leaving = None;
        }
        waits
    }

    /// Whether the hook before the release has ended, for which the owner waits. A question moves nothing.
    fn may_let_go(&mut self, step: &mut Step<'_>) -> bool {
        let Some(order) = self.handover.leaving.as_ref().map(|leaving| &leaving.order) else { return true };
        let (reason, until) = match order.then {
            Then::Stay => return true,
            Then::Follow | Then::KeepOut(_) => (order.reason, None),
            // It may have waited for a hook of the successor.
            Then::Leave(_) => {
                let left = order.until.max(step.now + SHORTEST_AT_STOP);
                (order.reason, Some(left.min(step.now + LONGEST_AT_STOP)))
            }
        };
        self.was_told_of_release(step, reason, until)
    }

    /// The hook before the release has ended, well or not.
    pub(in crate::engine) fn on_release_told(&mut self, step: &mut Step<'_>) {
        match self.handover.leaving.as_ref().map(|leaving| leaving.phase) {
            Some(Phase::Asking { .. }) => self.repeat_leaving(step),
            Some(Phase::Releasing) if !self.is_claimed_by_group() => {
                if let Some(leaving) = self.handover.leaving.take() {
                    self.leave_all_the_same(step, leaving.order.then);
                }
            }
            Some(Phase::Releasing | Phase::Closing { .. } | Phase::Removing { .. } | Phase::Telling { .. }) | None => {}
        }
    }

    pub(super) fn begin_handover(&mut self, step: &mut Step<'_>, order: Order) -> Result<(), HandoverFailure> {
        let State::Active(_) = &self.state else {
            return Err(HandoverFailure::NotOwner { owner: self.owner_by_name(step.now) });
        };
        if self.settings.priority == Priority::OWNER {
            return Err(HandoverFailure::AddressOwner);
        }
        if self.is_claimed_by_group() && !self.is_releasing() {
            return self.propose(order);
        }
        if let Some(leaving) = &mut self.handover.leaving {
            // A stop or a drain does not wait for less.
            return match (&order.then, leaving.phase) {
                (Then::Leave(_) | Then::KeepOut(_), Phase::Asking { .. } | Phase::Releasing) => {
                    let request = leaving.order.request.take();
                    leaving.order = order;
                    self.tell_outcome(step, request, Err(HandoverFailure::Overtaken));
                    // It leaves, whoever is ready; and a stop waits for the hook no longer than it may.
                    self.may_let_go(step);
                    Ok(())
                }
                (_, _) => Err(HandoverFailure::Busy),
            };
        }
        self.ask_successor(step, order, Vec::new())
    }

    /// Asks the best that was not asked yet.
    fn ask_successor(&mut self, step: &mut Step<'_>, order: Order, tried: Vec<String>) -> Result<(), HandoverFailure> {
        let peer = self.choose_successor(step.now, order.to.as_deref(), &tried)?;
        self.ask_peer(step, peer, order, tried);
        Ok(())
    }

    pub(super) fn ask_peer(&mut self, step: &mut Step<'_>, peer: String, order: Order, tried: Vec<String>) {
        let (until, repeat_at) = (order.until.min(step.now + ASKING), step.now);
        let (phase, asked) = (Phase::Asking { until }, Vec::new());
        self.handover.leaving =
            Some(Box::new(Leaving { peer, order, phase, asked, repeat_at, tried, ready: None, failed: None }));
        self.repeat_leaving(step);
    }

    /// Whether a peer's word is that it listens for this vip.
    pub(super) fn is_listened_for(&self, now: Instant, peer: &str) -> bool {
        let mut reports = self.second_path.reports(now);
        reports.any(|(name, report)| name == peer && report.standing == Standing::Backup && report.link_up)
    }

    /// Those that are heard of it.
    pub(super) fn peers(&self, now: Instant) -> impl Iterator<Item = &str> {
        self.second_path.reports(now).map(|(peer, _)| peer)
    }

    pub(super) fn choose_successor(
        &self,
        now: Instant,
        to: Option<&str>,
        tried: &[String],
    ) -> Result<String, HandoverFailure> {
        let mut best = None;
        for (peer, report) in self.second_path.reports(now) {
            let listens = report.standing == Standing::Backup && report.link_up;
            match to {
                Some(to) if to == peer && !listens => {
                    return Err(HandoverFailure::Refused { peer: peer.into(), refusal: Refusal::NotListening });
                }
                Some(to) if to != peer => continue,
                Some(_) | None => {}
            }
            let rank = (report.priority, self.source_of(report));
            if listens && !tried.iter().any(|tried| tried == peer) && best.is_none_or(|(_, known)| rank > known) {
                best = Some((peer, rank));
            }
        }
        match (best, to) {
            (Some((peer, _)), _) => Ok(peer.into()),
            (None, Some(to)) => Err(HandoverFailure::Unknown { peer: to.into() }),
            (None, None) => Err(HandoverFailure::NoSuccessor),
        }
    }

    /// A node is ready: nothing is left to be waited for, unless its answer took so long that the owner's word may come too late as well.
    /// An answer to a later question is quicker, for by then the addresses are there.
    pub(super) fn on_ready(&mut self, step: &mut Step<'_>, peer: &str, number: u64) {
        let in_time = self.time_to_answer();
        let is_whole = !self.is_claimed_by_group();
        let Some(leaving) = self.handover.leaving.as_mut().filter(|leaving| leaving.peer == peer) else { return };
        let Phase::Asking { .. } = leaving.phase else { return };
        // Who was ready for a question has not run his hook for what has become of it.
        if is_question_only(number) && leaving.order.then != Then::Stay {
            return;
        }
        let asked_at = leaving.asked.iter().find(|(known, _)| *known == number).map(|(_, at)| *at);
        let Some(asked_at) = asked_at.filter(|at| step.now.since(*at) <= in_time) else {
            leaving.repeat_at = step.now;
            return;
        };
        let may_let_go = self.may_let_go(step);
        if is_whole && may_let_go {
            self.close(step, number);
        } else if let Some(leaving) = &mut self.handover.leaving {
            // The hook has not ended, or the others may not be ready yet: it is asked on.
            leaving.phase = Phase::Asking { until: step.now + ASKING };
            leaving.ready = may_let_go.then_some((number, asked_at));
        }
    }

    /// A node is not ready, and will say more: it is waited for, and meanwhile this one owns as ever.
    pub(super) fn on_preparing(&mut self, now: Instant, peer: &str) {
        let Some(leaving) = self.handover.leaving.as_mut().filter(|leaving| leaving.peer == peer) else { return };
        if let Phase::Asking { until } = &mut leaving.phase {
            *until = leaving.order.until.min(now + ASKING);
            leaving.repeat_at = leaving.repeat_at.max(now + PATIENT_SPACING);
        }
    }

    /// How old the question to an answer may be.
    pub(super) fn time_to_answer(&self) -> Duration {
        window(self.pace()) / 2
    }

    /// The successor is ready.
    pub(super) fn close(&mut self, step: &mut Step<'_>, number: u64) {
        let pace = self.pace();
        let Some(leaving) = &mut self.handover.leaving else { return };
        if leaving.order.then == Then::Stay {
            let (peer, request) = (leaving.peer.clone(), leaving.order.request);
            self.handover.leaving = None;
            self.say(step, &peer, number, HandoverStep::Cancel);
            self.tell_outcome(step, request, Ok(HandoverDone { peer, gap: None }));
            return;
        }
        leaving.phase = Phase::Closing { number };
        // The others count from the last advert, and must count for longer than the successor's word holds.
        if self.last_advert_at().is_some_and(|at| step.now.since(at) > pace.duration() * 5 / 4) {
            self.advertise(step);
        }
        step.outputs.push_back(Output::LetGo { vip: self.id });
    }

    /// The kernel lets nobody have an answer any more; or it has no means to, and the addresses have to go first.
    pub(in crate::engine) fn on_let_go(&mut self, step: &mut Step<'_>, closed: bool) {
        let pace = self.pace();
        let until = step.now + window(pace) + pace.duration().clamp(TELL_SPACING * 3, ASKING) / 2;
        let Some(leaving) = &self.handover.leaving else { return };
        let (peer, Phase::Closing { number }) = (leaving.peer.clone(), leaving.phase) else { return };
        let (reason, then) = (leaving.order.reason, leaving.order.then.clone());
        if closed {
            self.say(step, &peer, number, HandoverStep::LetGo);
        }
        let set = self.address_set(step);
        let request = set.request;
        step.outputs.push_back(Output::Remove(set));
        let patience = self.active_down_interval(pace);
        if let Some(leaving) = &mut self.handover.leaving {
            let since = step.now;
            leaving.repeat_at = since + TELL_SPACING;
            leaving.phase = if closed {
                Phase::Telling { number, since, until }
            } else {
                Phase::Removing { number, request, since, until }
            };
        }
        match then {
            Then::Follow | Then::Stay => {
                let priority = self.second_path.reports(step.now).find(|(name, _)| *name == peer);
                let priority = priority.map(|(_, report)| report.priority).filter(|theirs| *theirs < self.priority());
                self.handover.settled = match reason {
                    HandoverReason::Operator | HandoverReason::Drill | HandoverReason::Back => priority,
                    HandoverReason::Stop | HandoverReason::Drain | HandoverReason::Preempt => None,
                };
                let backup = Backup::listening(step.now + patience);
                self.enter(step, State::Backup(backup), Cause::HandedOver { peer, reason });
            }
            Then::KeepOut(hold) => self.keep_out(step, hold),
            Then::Leave(cause) => self.enter(step, State::Initialize, cause),
        }
    }

    /// Where there is no gate, this is what the successor waits for.
    pub(in crate::engine) fn handover_on_removed(&mut self, step: &mut Step<'_>, request: RequestId) {
        let Some(leaving) = &mut self.handover.leaving else { return };
        let Phase::Removing { number, request: awaited, since, until } = leaving.phase else { return };
        if awaited == request {
            leaving.phase = Phase::Telling { number, since, until };
            leaving.repeat_at = step.now;
            self.repeat_leaving(step);
        }
    }

    /// The successor owns: it says so itself, advertises, or says so on the second path.
    pub(super) fn on_taken(&mut self, step: &mut Step<'_>, peer: &str) {
        let told = |leaving: &mut Box<Leaving>| leaving.peer == peer && matches!(leaving.phase, Phase::Telling { .. });
        let Some(leaving) = self.handover.leaving.take_if(told) else { return };
        let Phase::Telling { since, .. } = leaving.phase else { return };
        let (gap, reason) = (step.now.since(since), leaving.order.reason);
        self.event(step, EventKind::HandedOver { peer: peer.into(), reason, gap });
        self.tell_outcome(step, leaving.order.request, Ok(HandoverDone { peer: peer.into(), gap: Some(gap) }));
    }

    /// An advert of an owner.
    pub(in crate::engine) fn handover_on_advert(&mut self, step: &mut Step<'_>, source: IpAddr, priority: Priority) {
        if priority == Priority::RESIGN {
            return;
        }
        let Some(peer) = self.handover.leaving.as_ref().map(|leaving| leaving.peer.clone()) else { return };
        if self.second_path.speaks_from(&peer, source) {
            self.on_taken(step, &peer);
        }
    }

    /// A peer's word on the second path.
    pub(in crate::engine) fn handover_on_report(&mut self, step: &mut Step<'_>, peer: &str, standing: Standing) {
        if standing == Standing::Owner {
            self.on_taken(step, peer);
        }
    }

    /// It stays here, or goes to the next.
    pub(super) fn on_not_ready(&mut self, step: &mut Step<'_>, failure: HandoverFailure) {
        if self.is_claimed_by_group() {
            self.fail_with_group(failure);
            return;
        }
        let Some((order, tried)) = self.end_asking(step, &failure) else { return };
        if step.now >= order.until || self.ask_successor(step, order.clone(), tried).is_err() {
            self.stay_after_all(step, order, failure);
        }
    }

    /// The peer does not take it: what was to be done, and who has been asked.
    pub(super) fn end_asking(
        &mut self,
        step: &mut Step<'_>,
        failure: &HandoverFailure,
    ) -> Option<(Order, Vec<String>)> {
        let asks = |leaving: &mut Box<Leaving>| matches!(leaving.phase, Phase::Asking { .. });
        let mut leaving = self.handover.leaving.take_if(asks)?;
        let reason = leaving.order.reason;
        self.event(step, EventKind::HandoverFailed { reason, failure: failure.clone() });
        leaving.tried.push(leaving.peer);
        Some((leaving.order, leaving.tried))
    }

    /// Nobody takes it. A stop and a drain go on by the standard.
    pub(super) fn stay_after_all(&mut self, step: &mut Step<'_>, order: Order, failure: HandoverFailure) {
        if self.leave_after_hook(step, order.clone()) {
            return;
        }
        self.leave_all_the_same(step, order.then);
        self.tell_outcome(step, order.request, Err(failure));
    }

    /// This node let go, and nobody says that he owns. The others are told, as by an owner that resigns.
    pub(super) fn on_not_taken(&mut self, step: &mut Step<'_>) {
        let Some(leaving) = self.handover.leaving.take() else { return };
        let failure = HandoverFailure::NotTaken { peer: leaving.peer };
        self.event(step, EventKind::HandoverFailed { reason: leaving.order.reason, failure: failure.clone() });
        self.handover.settled = None;
        self.transmit(step, Priority::RESIGN);
        self.tell_outcome(step, leaving.order.request, Err(failure));
    }

    pub(super) fn repeat_leaving(&mut self, step: &mut Step<'_>) {
        let Some(leaving) = &mut self.handover.leaving else { return };
        let peer = leaving.peer.clone();
        match leaving.phase {
            Phase::Asking { .. } => {
                leaving.repeat_at = step.now + ASK_SPACING;
                let reason = leaving.order.reason;
                let number = step.request().0 | if leaving.order.then == Then::Stay { QUESTION_ONLY } else { 0 };
                if leaving.asked.len() >= MOST_READIES {
                    leaving.asked.remove(0);
                }
                leaving.asked.push((number, step.now));
                let interval = self.pace();
                self.say(step, &peer, number, HandoverStep::Ask { reason, interval });
            }
            Phase::Telling { number, .. } => {
                leaving.repeat_at = step.now + TELL_SPACING;
                self.say(step, &peer, number, HandoverStep::LetGo);
            }
            Phase::Closing { .. } | Phase::Removing { .. } | Phase::Releasing => {}
        }
    }

    pub(super) fn on_want(&mut self, step: &mut Step<'_>, peer: &str, number: u64, reason: HandoverReason) {
        let report = self.second_path.reports(step.now).find(|(name, _)| *name == peer).map(|(_, report)| *report);
        let outranks = report.is_some_and(|report| report.priority > self.priority());
        let refusal = match (&self.state, reason) {
            (State::Active(_), HandoverReason::Preempt) if !outranks => Refusal::NoReason,
            (State::Active(_), _) => {
                let order = Order::new(step.now, reason, Some(peer.into()), Then::Follow);
                match self.begin_handover(step, order) {
                    // It asks again; the answer is under way.
                    Ok(()) => {
                        self.note_asker(peer, number);
                        return;
                    }
                    Err(HandoverFailure::Busy) if self.handover.leaving.as_ref().is_some_and(|it| it.peer == peer) => {
                        return;
                    }
                    Err(HandoverFailure::Refused { refusal, .. }) => refusal,
                    Err(_) => Refusal::Busy,
                }
            }
            (State::Initialize | State::Backup(_) | State::Claiming { .. } | State::Held { .. }, _) => {
                Refusal::NotOwner
            }
        };
        self.say(step, peer, number, HandoverStep::Refuse(refusal));
    }

    /// An operator wants it to stay after all. A stop is no matter of his.
    pub(in crate::engine) fn cancel_handover(&mut self, step: &mut Step<'_>) {
        let is_undecided = |leaving: &mut Box<Leaving>| {
            matches!(
                (leaving.phase, &leaving.order.then),
                (Phase::Asking { .. } | Phase::Releasing, Then::Follow | Then::Stay | Then::KeepOut(_))
            )
        };
        if let Some(leaving) = self.handover.leaving.take_if(is_undecided) {
            if let Phase::Asking { .. } = leaving.phase {
                self.say(step, &leaving.peer, 0, HandoverStep::Cancel);
            }
            self.tell_outcome(step, leaving.order.request, Err(HandoverFailure::Overtaken));
        }
    }
}
