//! As the successor: what it has ready, what it refuses, and for how long its word holds.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::{ASKING, HandoverFailure, MOST_READIES, Offer, OfferedHook, Prepared, is_question_only, window};
use crate::engine::ahead::Ahead;
use crate::engine::hook::{Asked, Moment, RETRY_AFTER_VETO, Reason};
use crate::engine::input::{EffectError, RequestId};
use crate::engine::output::Cause;
use crate::engine::time::Instant;
use crate::engine::vip::{State, Step, Vip};
use crate::types::{AdvertInterval, Priority};
use crate::wire::handover::{HandoverReason, HandoverStep, Refusal};

/// How long a successor stays ready for a question that is not repeated.
const READY_FOR: Duration = Duration::from_secs(1);

impl Offer {
    pub(super) const fn is_ready(&self) -> bool {
        !self.ahead.is_ordered() && !self.asks_hook()
    }

    pub(super) const fn asks_hook(&self) -> bool {
        match self.hook {
            OfferedHook::Running(_) => true,
            OfferedHook::Unasked | OfferedHook::Permitted => false,
        }
    }

    /// Whether the owner has let go, and this node's word for which it did holds.
    pub(super) fn is_to_be_taken(&self, now: Instant) -> bool {
        !self.is_given && self.told.is_some_and(|(_, at)| now.since(at) < window(self.interval))
    }
}

impl Vip {
    pub(super) fn on_ask(
        &mut self,
        step: &mut Step<'_>,
        peer: &str,
        number: u64,
        reason: HandoverReason,
        interval: AdvertInterval,
    ) {
        let stale = self.object_for_stale_data(step).map(|_| Refusal::StaleData);
        let vetoed = self.handover.vetoed.as_ref().filter(|(vetoed, until)| vetoed == peer && step.now < *until);
        let vetoed = vetoed.map(|_| Refusal::Vetoed);
        if let Some(refusal) = self.refusal(step.now, peer).or(stale).or(vetoed) {
            self.drop_offer(step);
            self.say(step, peer, number, HandoverStep::Refuse(refusal));
            if refusal == Refusal::Vetoed {
                self.want_no_more(step, peer);
            }
            return;
        }
        // It is asked again, and by then what speaks against it may have changed.
        if self.object_for_isolation(step, &Cause::TakesOver { peer: peer.into(), reason }).is_some() {
            self.prepare_for_isolation(step);
            return;
        }
        // What this node wants is under way, and takes as long as the hooks of both do.
        if let Some(wanting) = self.handover.wanting.as_mut().filter(|it| it.peer == peer && !it.is_over) {
            wanting.until = step.now + ASKING;
            wanting.repeat_at = wanting.until;
        }
        let until = step.now + READY_FOR;
        if let Some(offer) = &mut self.handover.offer {
            (offer.asked, offer.until, offer.reason, offer.interval) = (number, until, reason, interval);
            (offer.owes_answer, offer.owes_sign) = (true, true);
            self.ask_hook_for_offer(step);
            self.answer_alone(step);
            return;
        }
        let ahead = self.order_ahead(step);
        let (peer, readies) = (peer.into(), Vec::new());
        let offer = Offer {
            peer,
            reason,
            interval,
            ahead,
            since: step.now,
            asked: number,
            owes_answer: true,
            owes_sign: true,
            hook: OfferedHook::Unasked,
            readies,
            told: None,
            is_given: false,
            until,
        };
        self.handover.offer = Some(Box::new(offer));
        self.ask_hook_for_offer(step);
        self.answer_alone(step);
    }

    /// The hook before a claim is run while the owner goes on: however long it takes, nobody waits for an answer of the addresses.
    fn ask_hook_for_offer(&mut self, step: &mut Step<'_>) {
        let Some(offer) = &self.handover.offer else { return };
        if offer.hook != OfferedHook::Unasked || is_question_only(offer.asked) || !self.has_hook(Moment::BeforeClaim) {
            return;
        }
        let cause = Cause::TakesOver { peer: offer.peer.clone(), reason: offer.reason };
        let request = self.run_hook(step, Moment::BeforeClaim, Reason::Claim(cause));
        if let Some(offer) = &mut self.handover.offer {
            offer.hook = OfferedHook::Running(request);
        }
    }

    /// The hook has ended. After a veto it is asked again as after one before any claim.
    pub(in crate::engine) fn handover_on_hook(&mut self, step: &mut Step<'_>, request: RequestId, permits: bool) {
        let running = |offer: &&mut Offer| offer.hook == OfferedHook::Running(request);
        let Some(offer) = self.handover.offer.as_deref_mut().filter(running) else { return };
        if permits {
            offer.hook = OfferedHook::Permitted;
            self.answer_alone(step);
            return;
        }
        let peer = offer.peer.clone();
        self.handover.vetoed = Some((peer.clone(), step.now + READY_FOR));
        self.refuse_offer(step, Refusal::Vetoed);
        let retry_at = step.now + RETRY_AFTER_VETO;
        if let State::Backup(backup) = &mut self.state {
            backup.asked_hook = Some(Asked::Vetoed { retry_at });
        }
        self.want_no_more(step, &peer);
    }

    /// This node's own hook forbids what it asked a peer for, until it is asked again.
    fn want_no_more(&mut self, step: &mut Step<'_>, peer: &str) {
        let retry_at = match &self.state {
            State::Backup(backup) => match backup.asked_hook {
                Some(Asked::Vetoed { retry_at }) => retry_at,
                Some(Asked::Running(_) | Asked::Permitted) | None => step.now,
            },
            State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => step.now,
        };
        if self.handover.wanting.as_ref().is_some_and(|wanting| wanting.peer == peer) {
            let failure = HandoverFailure::Refused { peer: "this node".into(), refusal: Refusal::Vetoed };
            self.end_wanting_until(step, failure, retry_at);
        }
    }

    /// What the hook before a claim has said, or is about to say, to what is offered.
    pub(in crate::engine) fn hook_for_offer(&self) -> Option<Asked> {
        match self.handover.offer.as_ref()?.hook {
            OfferedHook::Unasked => None,
            OfferedHook::Running(request) => Some(Asked::Running(request)),
            OfferedHook::Permitted => Some(Asked::Permitted),
        }
    }

    /// Why this node would not have it.
    fn refusal(&self, now: Instant, peer: &str) -> Option<Refusal> {
        let State::Backup(backup) = &self.state else { return Some(Refusal::NotListening) };
        if self.settings.priority == Priority::OWNER {
            return Some(Refusal::Busy);
        }
        let other = self.handover.offer.as_ref().is_some_and(|offer| offer.peer != peer);
        if other || self.is_leaving() {
            return Some(Refusal::Busy);
        }
        let followed = backup.owner().filter(|owner| now.since(owner.at) < self.active_down_interval(owner.interval));
        let is_his = followed.is_none_or(|owner| self.second_path.speaks_from(peer, owner.source));
        (!is_his).then_some(Refusal::OtherOwner)
    }

    /// The addresses are there, behind the closed gate, or will be when they are claimed.
    pub(in crate::engine) fn offer_on_prepared(
        &mut self,
        step: &mut Step<'_>,
        request: RequestId,
        result: &Result<Prepared, EffectError>,
    ) {
        let Some(offer) = &mut self.handover.offer else { return };
        if !offer.ahead.ended(request, result) {
            return;
        }
        match result {
            Ok(_) => self.answer_alone(step),
            Err(_) => self.refuse_offer(step, Refusal::NotInstalled),
        }
    }

    /// It is not to come.
    pub(super) fn refuse_offer(&mut self, step: &mut Step<'_>, refusal: Refusal) {
        let Some(offer) = &self.handover.offer else { return };
        let (peer, asked) = (offer.peer.clone(), offer.asked);
        self.drop_offer(step);
        self.say(step, &peer, asked, HandoverStep::Refuse(refusal));
    }

    /// A member of a group answers with the others.
    fn answer_alone(&mut self, step: &mut Step<'_>) {
        let Some(offer) = self.handover.offer.as_ref().filter(|offer| offer.owes_answer) else { return };
        let (is_ready, asks_hook) = (offer.is_ready(), offer.asks_hook());
        if self.is_claimed_by_group() {
            return;
        }
        if is_ready {
            self.say_ready(step);
        } else if asks_hook {
            self.say_preparing(step);
        }
    }

    pub(super) fn say_preparing(&mut self, step: &mut Step<'_>) {
        let Some(offer) = self.handover.offer.as_mut().filter(|offer| offer.owes_sign) else { return };
        offer.owes_sign = false;
        let (peer, number) = (offer.peer.clone(), offer.asked);
        self.say(step, &peer, number, HandoverStep::Preparing);
    }

    pub(super) fn say_ready(&mut self, step: &mut Step<'_>) {
        let Some(offer) = &mut self.handover.offer else { return };
        let (peer, number) = (offer.peer.clone(), offer.asked);
        offer.owes_answer = false;
        // A question that comes twice is answered twice, and counts from the first time.
        if !offer.readies.iter().any(|(known, _)| *known == number) {
            if offer.readies.len() >= MOST_READIES {
                offer.readies.remove(0);
            }
            offer.readies.push((number, step.now));
        }
        self.say(step, &peer, number, HandoverStep::Ready);
    }

    /// It is this node's, if its word holds still.
    pub(super) fn on_yours(&mut self, step: &mut Step<'_>, peer: &str, number: u64) {
        match &self.state {
            // The answer was lost.
            State::Claiming { .. } | State::Active(_) => {
                let is_his = matches!(self.cause(), Cause::TakesOver { peer: from, .. } if from == peer);
                if is_his {
                    self.say(step, peer, number, HandoverStep::Taken);
                }
                return;
            }
            State::Backup(_) => {}
            State::Initialize | State::Held { .. } => return,
        }
        let Some(offer) = self.handover.offer.as_mut().filter(|offer| offer.peer == peer) else { return };
        let answer = offer.readies.iter().find(|(known, _)| *known == number);
        let Some(answer) = answer.filter(|(_, at)| step.now.since(*at) < window(offer.interval)) else { return };
        if !offer.is_ready() || offer.is_given {
            return;
        }
        offer.told = Some(*answer);
        if !self.is_claimed_by_group() {
            self.take(step);
        }
    }

    /// All that the owner let go of is this node's.
    pub(super) fn take(&mut self, step: &mut Step<'_>) {
        let Some(offer) = &mut self.handover.offer else { return };
        offer.is_given = true;
        let accepted = offer.told;
        let cause = Cause::TakesOver { peer: offer.peer.clone(), reason: offer.reason };
        self.handover.accepted = accepted;
        self.seek(step, cause);
    }

    /// Since when nobody may have answered, where this node took over by a handover: the owner let go after that.
    pub(in crate::engine) fn gap_since(&self) -> Option<Instant> {
        self.handover.accepted.map(|(_, at)| at)
    }

    /// Whether this is the word of a former owner from before it let go, which the news of that has overtaken: it came by another way. One that claims
    /// anew says so again.
    pub(in crate::engine) fn is_of_before(&self, now: Instant, is_it: impl Fn(&str) -> bool) -> bool {
        let is_owner = self.state().is_owner();
        is_owner && self.handover.taken.as_ref().is_some_and(|(peer, until)| now < *until && is_it(peer))
    }

    /// An advert, of whichever priority.
    pub(in crate::engine) fn is_advert_of_before(&self, now: Instant, source: IpAddr) -> bool {
        self.is_of_before(now, |peer| self.second_path.speaks_from(peer, source))
    }

    /// Why it would claim, where the owner let go, and something spoke against the claim then: voters are asked first.
    pub(in crate::engine) fn cause_to_take(&self) -> Option<Cause> {
        let offer = self.handover.offer.as_ref().filter(|offer| offer.is_given)?;
        Some(Cause::TakesOver { peer: offer.peer.clone(), reason: offer.reason })
    }

    /// Another than the giver is heard as the owner: what was given is that one's by now.
    pub(in crate::engine) fn forget_gift(&mut self, step: &mut Step<'_>, owner: IpAddr) {
        let given = self.handover.offer.as_ref().filter(|offer| offer.is_given);
        if given.is_some_and(|offer| !self.second_path.speaks_from(&offer.peer, owner)) {
            self.drop_offer(step);
        }
    }

    pub(in crate::engine) fn has_offer(&self) -> bool {
        self.handover.offer.is_some()
    }

    /// What was installed for it.
    pub(in crate::engine) fn offered_ahead(&mut self) -> Option<&mut Ahead> {
        self.handover.offer.as_mut().map(|offer| &mut offer.ahead)
    }

    /// It is claimed. The addresses, where they are there already.
    pub(in crate::engine) fn take_offer(&mut self, step: &mut Step<'_>) -> Option<Ahead> {
        let there = self.offered_ahead().map(|ahead| *ahead).filter(|ahead| ahead.is_there);
        if there.is_some() {
            self.handover.offer = None;
        } else {
            self.drop_offer(step);
        }
        there
    }

    /// It is not to come after all.
    pub(in crate::engine) fn drop_offer(&mut self, step: &mut Step<'_>) {
        let known = self.hook_for_offer();
        let Some(offer) = self.handover.offer.take() else { return };
        // An owner that cannot wait for it may resign now: the hook is run once for both, unless that owner is heard again.
        if let State::Backup(backup) = &mut self.state {
            backup.asked_hook = known.or(backup.asked_hook);
        }
        self.put_back(step, offer.ahead);
    }
}
