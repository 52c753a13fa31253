//! As the successor: what it has ready, what it refuses, and for how long its word holds.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::{ASKING, MOST_READIES, Offer, Prepared, window};
use crate::engine::hook::Moment;
use crate::engine::input::{EffectError, RequestId};
use crate::engine::output::{Cause, Output};
use crate::engine::time::Instant;
use crate::engine::vip::{State, Step, Vip};
use crate::types::{AdvertInterval, Priority};
use crate::wire::handover::{HandoverReason, HandoverStep, Refusal};

/// How long a successor stays ready for a question that is not repeated.
const READY_FOR: Duration = Duration::from_secs(1);

impl Offer {
    pub(super) const fn is_ready(&self) -> bool {
        self.preparing.is_none()
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
        if let Some(refusal) = self.refusal(step.now, peer).or(stale) {
            self.drop_offer(step);
            self.say(step, peer, number, HandoverStep::Refuse(refusal));
            return;
        }
        // It is asked again, and by then what speaks against it may have changed.
        if self.object_for_isolation(step, &Cause::TakesOver { peer: peer.into(), reason }).is_some() {
            self.prepare_for_isolation(step);
            return;
        }
        // What this node wants is under way, and takes as long as the owner's hook does.
        if let Some(wanting) = self.handover.wanting.as_mut().filter(|it| it.peer == peer && !it.is_over) {
            wanting.until = step.now + ASKING;
        }
        let until = step.now + READY_FOR;
        if let Some(offer) = &mut self.handover.offer {
            (offer.asked, offer.until, offer.reason, offer.interval) = (number, until, reason, interval);
            offer.owes_answer = true;
            self.answer_alone(step);
            return;
        }
        // Routes and rules would be heeded at once: they wait for the claim.
        let set = self.set_of(step, Arc::clone(&self.addresses), Arc::new([]));
        let preparing = Some(set.request);
        step.outputs.push_back(Output::Prepare(set));
        let (peer, readies) = (peer.into(), Vec::new());
        let offer = Offer {
            peer,
            reason,
            interval,
            preparing,
            is_there: false,
            since: step.now,
            asked: number,
            owes_answer: true,
            readies,
            told: None,
            is_given: false,
            until,
        };
        self.handover.offer = Some(Box::new(offer));
    }

    /// Why this node would not have it.
    fn refusal(&self, now: Instant, peer: &str) -> Option<Refusal> {
        let State::Backup(backup) = &self.state else { return Some(Refusal::NotListening) };
        if let Some(refusal) = self.unable() {
            return Some(refusal);
        }
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

    /// Why this node takes nothing over that is handed to it: its claims wait for others first.
    pub(super) fn unable(&self) -> Option<Refusal> {
        self.has_hook(Moment::BeforeClaim).then_some(Refusal::AsksHook)
    }

    /// The addresses are there, behind the closed gate, or will be when they are claimed.
    pub(in crate::engine) fn on_prepared(
        &mut self,
        step: &mut Step<'_>,
        request: RequestId,
        result: &Result<Prepared, EffectError>,
    ) {
        let Some(offer) = self.handover.offer.as_mut().filter(|offer| offer.preparing == Some(request)) else { return };
        offer.preparing = None;
        match result {
            Ok(prepared) => {
                offer.is_there = *prepared == Prepared::There;
                self.answer_alone(step);
            }
            Err(_) => {
                // Some of them may be there.
                offer.is_there = true;
                self.refuse_offer(step, Refusal::NotInstalled);
            }
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
        if !self.is_claimed_by_group() && self.handover.offer.as_deref().is_some_and(Offer::is_ready) {
            self.say_ready(step);
        }
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
        self.handover.accepted = offer.told;
        let cause = Cause::TakesOver { peer: offer.peer.clone(), reason: offer.reason };
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

    /// Whether the addresses are there already. One that preempts an owner which is still there has to begin anew: they would answer before that
    /// owner has heard of it.
    pub(in crate::engine) fn take_offer(&mut self, step: &mut Step<'_>, cause: &Cause) -> bool {
        if let Cause::Preempts { .. } = cause {
            self.drop_offer(step);
        }
        let is_there = self.handover.offer.as_ref().is_some_and(|offer| offer.is_there);
        if is_there {
            self.handover.offer = None;
        } else {
            self.drop_offer(step);
        }
        is_there
    }

    /// It is not to come after all.
    pub(in crate::engine) fn drop_offer(&mut self, step: &mut Step<'_>) {
        let Some(offer) = self.handover.offer.take() else { return };
        if offer.is_there || offer.preparing.is_some() {
            let set = self.address_set(step);
            step.outputs.push_back(Output::Remove(set));
        }
    }
}
