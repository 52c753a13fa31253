//! Of a group: its members are asked for one by one, and handed over in one step, once the successor is ready for all of them.
//!
//! | a member | the group |
//! |---|---|
//! | is to leave: by an operator, a drain, a stop, a better node | the same node is asked for all, if it listens for all |
//! | is refused, or not answered | nothing moves: the next node is asked for all, or the owner stays |
//! | has no successor, and stops or is drained | all go by the standard, in one step, once the hooks before a release of all have ended |
//! | is ready at the successor | nothing, until all are: then the owner closes all gates |
//! | is asked for, at the successor | the answer waits until all are asked for and prepared |
//! | is given, at the successor | nothing, until all are: then all are claimed |
//!
//! On the way there are the messages of single vips: a node needs to know of no other node's groups.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{HandoverDone, HandoverFailure, Offer, Order, Phase, Then};
use crate::engine::input::RequestId;
use crate::engine::time::Instant;
use crate::engine::vip::{State, Step, Vip};
use crate::engine::{Engine, VipId};
use crate::wire::handover::{HandoverStep, Refusal};

/// For so long the questions for the other members may be on their way; then its owner has no such group.
const REST_IS_ASKED_WITHIN: Duration = Duration::from_millis(100);

/// What a member is to do with the rest of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    order: Order,
    /// The node that wants it, and the number of its question.
    asker: Option<(String, u64)>,
}

/// Orders for several vips, of which whoever waits has one answer.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Joints(BTreeMap<RequestId, Joint>);

#[derive(Clone, Debug)]
struct Joint {
    /// Of so many the end is not known.
    left: usize,
    outcome: Option<Outcome>,
}

type Outcome = Result<HandoverDone, HandoverFailure>;

impl Joints {
    /// An order is one for so many vips.
    pub(super) fn begin(&mut self, request: RequestId, vips: usize) {
        if vips > 1 {
            self.0.insert(request, Joint { left: vips, outcome: None });
        }
    }

    /// The end for one of them. What is to be told, where it was the last.
    pub(super) fn ended(&mut self, request: RequestId, outcome: Outcome) -> Option<Outcome> {
        let Some(joint) = self.0.get_mut(&request) else { return Some(outcome) };
        let known = joint.outcome.take();
        joint.outcome = Some(known.map_or_else(|| outcome.clone(), |known| worse(known, outcome.clone())));
        joint.left = joint.left.saturating_sub(1);
        if joint.left > 0 {
            return None;
        }
        self.0.remove(&request)?.outcome
    }
}

/// The first failure, or the longer gap.
fn worse(one: Outcome, other: Outcome) -> Outcome {
    let (one, other) = (one?, other?);
    Ok(if other.gap > one.gap { other } else { one })
}

impl Then {
    /// Of several things that are to become of an owner at once, which one it is.
    const fn rank(&self) -> u8 {
        match self {
            Self::Stay => 0,
            Self::Follow => 1,
            Self::KeepOut(_) => 2,
            Self::Leave(_) => 3,
        }
    }

    pub(super) const fn is_with_successor(&self) -> bool {
        match self {
            Self::Stay | Self::Follow => true,
            Self::KeepOut(_) | Self::Leave(_) => false,
        }
    }
}

impl Engine {
    /// What follows for the others of a group from what was asked of, or heard for, one.
    pub(in crate::engine) fn hand_over_whole(&mut self, now: Instant, members: &[VipId]) {
        self.begin_whole(now, members);
        self.keep_asking_whole(now, members);
        self.fail_whole(now, members);
        self.release_whole(now, members);
        self.let_go_whole(now, members);
        self.answer_whole(now, members);
        self.take_whole(now, members);
    }

    /// Whether another member of its group is on its way out, and so takes it along.
    pub(in crate::engine) fn rest_leaves(&self, vip: VipId) -> bool {
        let group = self.moves_with(vip);
        self.members(&group).any(|member| member.id() != vip && member.leaves_all_the_same())
    }

    fn begin_whole(&mut self, now: Instant, members: &[VipId]) {
        let proposals = || self.members(members).filter_map(|vip| vip.handover.proposed.as_ref());
        let Some(order) = proposals().map(|it| &it.order).max_by_key(|order| order.then.rank()).cloned() else {
            return;
        };
        let is_asking = self.members(members).all(Vip::asks_successor);
        let is_free = self.members(members).all(|vip| vip.handover.leaving.is_none());
        let peer = match (is_asking, is_free) {
            // A stop or a drain does not wait for less.
            (true, _) if !order.then.is_with_successor() => Ok(None),
            (false, true) => self.successor_of_whole(now, members, order.to.as_deref(), &[]).map(Some),
            (_, _) => Err(HandoverFailure::Busy),
        };
        match peer {
            Ok(peer) => {
                if let Some(request) = order.request {
                    self.joints.begin(request, members.len());
                }
                for id in members {
                    self.step(now, *id, |vip, step| vip.begin_with_group(step, &order, peer.clone()));
                }
            }
            Err(failure) => {
                for id in members {
                    self.step_if(
                        now,
                        *id,
                        |vip| vip.handover.proposed.is_some(),
                        |vip, step| {
                            vip.is_not_begun(step, &failure);
                        },
                    );
                }
            }
        }
    }

    /// The best node that listens for all.
    fn successor_of_whole(
        &self,
        now: Instant,
        members: &[VipId],
        to: Option<&str>,
        tried: &[String],
    ) -> Result<String, HandoverFailure> {
        if let Some(vip) = self.members(members).find(|vip| !matches!(vip.state, State::Active(_))) {
            return Err(HandoverFailure::NotOwner { owner: vip.owner_by_name(now) });
        }
        let Some(lead) = self.members(members).next() else { return Err(HandoverFailure::NoSuccessor) };
        let listens = |peer: &&str| self.members(members).all(|vip| vip.is_listened_for(now, peer));
        let deaf = || lead.peers(now).filter(|peer| !listens(peer));
        if let Some(peer) = to.filter(|to| deaf().any(|peer| peer == *to)) {
            return Err(HandoverFailure::Refused { peer: peer.into(), refusal: Refusal::NotListening });
        }
        let unfit: Vec<String> = deaf().map(String::from).chain(tried.iter().cloned()).collect();
        lead.choose_successor(now, to, &unfit)
    }

    /// What one of them is not asked for any more, the others are not.
    fn keep_asking_whole(&mut self, now: Instant, members: &[VipId]) {
        if self.members(members).all(Vip::asks_successor) {
            return;
        }
        for id in members {
            self.step_if(now, *id, Vip::asks_successor, Vip::leave_alone);
        }
    }

    /// One that is not taken keeps all here, or has the next node asked for all.
    fn fail_whole(&mut self, now: Instant, members: &[VipId]) {
        let failed = |vip: &Vip| vip.handover.leaving.as_ref().and_then(|leaving| leaving.failed.clone());
        let Some(failure) = self.members(members).find_map(failed) else { return };
        let Some(leaving) = self.members(members).find_map(|vip| vip.handover.leaving.as_ref()) else { return };
        let mut tried = leaving.tried.clone();
        tried.push(leaving.peer.clone());
        let next = self.successor_of_whole(now, members, leaving.order.to.as_deref(), &tried).ok();
        let next = next.filter(|_| now < leaving.order.until);
        let leaves = self.members(members).any(Vip::leaves_all_the_same);
        for id in members {
            self.step(now, *id, |vip, step| vip.ask_next_with_group(step, next.clone(), leaves, &failure));
        }
    }

    /// One that goes without a successor takes the others along: all wait for the hooks of all.
    fn release_whole(&mut self, now: Instant, members: &[VipId]) {
        if !self.members(members).any(Vip::is_releasing) {
            return;
        }
        let goes = |vip: &&Vip| vip.is_releasing() && vip.leaves_all_the_same();
        let Some(first) = self.members(members).find(goes) else {
            // An operator wants it to stay. What has been lost meanwhile has the others step back.
            if self.members(members).all(|vip| vip.state().is_owner()) {
                for id in members {
                    self.step_if(now, *id, Vip::is_releasing, |vip, _| vip.handover.leaving = None);
                }
            }
            return;
        };
        let lost = first.settings().name.clone();
        let Some(order) = first.handover.leaving.as_ref().map(|leaving| leaving.order.clone()) else { return };
        let follows = Order { then: Then::Follow, request: None, ..order };
        for id in members {
            self.step_if(
                now,
                *id,
                |vip| vip.handover.leaving.is_none(),
                |vip, step| {
                    vip.begin_releasing(step, follows.clone());
                },
            );
        }
        if self.members(members).filter(|vip| vip.is_releasing()).all(Vip::has_been_told_of_release) {
            for id in members {
                self.step_if(now, *id, Vip::is_releasing, |vip, step| vip.release_with_group(step, &lost));
            }
        }
    }

    fn let_go_whole(&mut self, now: Instant, members: &[VipId]) {
        if !self.members(members).all(Vip::is_awaited) {
            return;
        }
        // An answer that has waited for the others may be too old by now.
        if self.members(members).all(|vip| vip.awaited_since().is_some_and(|at| now.since(at) <= vip.time_to_answer()))
        {
            for id in members {
                self.step(now, *id, Vip::close_with_group);
            }
        } else {
            for id in members {
                self.step(now, *id, Vip::ask_anew);
            }
        }
    }

    fn answer_whole(&mut self, now: Instant, members: &[VipId]) {
        let owing = self.offers(members).find(|offer| offer.owes_answer);
        let Some(peer) = owing.map(|offer| offer.peer.clone()) else { return };
        let is_of = |vip: &Vip| vip.handover.offer.as_ref().is_some_and(|offer| offer.peer == peer);
        let is_whole = self.members(members).all(is_of);
        let owes = |vip: &Vip| is_of(vip) && vip.handover.offer.as_ref().is_some_and(|offer| offer.owes_answer);
        if is_whole {
            if self.offers(members).all(Offer::is_ready) {
                for id in members {
                    self.step_if(now, *id, owes, Vip::say_ready);
                }
            } else if self.offers(members).any(Offer::asks_hook) {
                let gives_sign =
                    |vip: &Vip| owes(vip) && vip.handover.offer.as_ref().is_some_and(|offer| offer.owes_sign);
                for id in members {
                    self.step_if(now, *id, gives_sign, Vip::say_preparing);
                }
            }
            return;
        }
        let is_alone = |vip: &Vip| {
            let waited = |offer: &Offer| now.since(offer.since) >= REST_IS_ASKED_WITHIN;
            owes(vip) && vip.handover.offer.as_deref().is_some_and(waited)
        };
        for id in members {
            self.step_if(now, *id, is_alone, |vip, step| vip.refuse_offer(step, Refusal::InGroup));
        }
    }

    fn take_whole(&mut self, now: Instant, members: &[VipId]) {
        let is_to_be_taken = |vip: &Vip| vip.handover.offer.as_ref().is_some_and(|offer| offer.is_to_be_taken(now));
        if self.members(members).all(is_to_be_taken) {
            for id in members {
                self.step(now, *id, Vip::take);
            }
        }
    }

    fn offers<'a>(&'a self, members: &'a [VipId]) -> impl Iterator<Item = &'a Offer> {
        self.members(members).filter_map(|vip| vip.handover.offer.as_deref())
    }

    /// A step is a change, after which the group is settled again: none is made for nothing.
    fn step_if(
        &mut self,
        now: Instant,
        id: VipId,
        concerns: impl Fn(&Vip) -> bool,
        change: impl FnOnce(&mut Vip, &mut Step<'_>),
    ) {
        if self.vip(id).is_some_and(concerns) {
            self.step(now, id, change);
        }
    }
}

/// As the owner of a member.
impl Vip {
    /// It is begun with the others, when the input that it is for has been heard by all.
    pub(super) fn propose(&mut self, order: Order) -> Result<(), HandoverFailure> {
        let asks_for_more = self.handover.leaving.is_none() || !order.then.is_with_successor();
        let can_be_begun = self.handover.leaving.is_none() || self.asks_successor();
        if !asks_for_more || !can_be_begun {
            return Err(HandoverFailure::Busy);
        }
        self.handover.proposed = Some(Box::new(Proposal { order, asker: None }));
        Ok(())
    }

    pub(super) fn note_asker(&mut self, peer: &str, number: u64) {
        if let Some(proposal) = &mut self.handover.proposed {
            proposal.asker = Some((peer.into(), number));
        }
    }

    /// It goes for the others only.
    pub(in crate::engine) fn follow_rest(&mut self) {
        if let Some(leaving) = &mut self.handover.leaving
            && matches!(
                (leaving.phase, &leaving.order.then),
                (Phase::Asking { .. } | Phase::Releasing, Then::KeepOut(_))
            )
        {
            leaving.order.then = Then::Follow;
        }
    }

    /// Whether its gate is being closed, which is answered before anything else happens.
    pub(in crate::engine) fn is_letting_go(&self) -> bool {
        self.handover.leaving.as_ref().is_some_and(|leaving| matches!(leaving.phase, Phase::Closing { .. }))
    }

    fn asks_successor(&self) -> bool {
        self.handover.leaving.as_ref().is_some_and(|leaving| matches!(leaving.phase, Phase::Asking { .. }))
    }

    /// What is to become of this one is its own proposal, or else that it follows. `None`: the same peer is asked as before.
    fn begin_with_group(&mut self, step: &mut Step<'_>, whole: &Order, peer: Option<String>) {
        let own = self.handover.proposed.take().map(|proposal| proposal.order);
        let before = self.handover.leaving.as_ref().map(|leaving| leaving.order.clone());
        let thens = [own.as_ref(), before.as_ref()].into_iter().flatten().map(|order| order.then.clone());
        let follows = if whole.then == Then::Stay { Then::Stay } else { Then::Follow };
        let then = thens.max_by_key(Then::rank).filter(|then| !then.is_with_successor()).unwrap_or(follows);
        let order = Order { then, ..whole.clone() };
        match (&mut self.handover.leaving, peer) {
            (Some(leaving), None) => leaving.order = order,
            (_, Some(peer)) => self.ask_peer(step, peer, order, Vec::new()),
            (None, None) => {}
        }
        for overtaken in [own, before].into_iter().flatten().filter_map(|order| order.request) {
            if whole.request != Some(overtaken) {
                self.tell_outcome(step, Some(overtaken), Err(HandoverFailure::Overtaken));
            }
        }
    }

    fn is_not_begun(&mut self, step: &mut Step<'_>, failure: &HandoverFailure) {
        let Some(Proposal { order, asker }) = self.handover.proposed.take().map(|proposal| *proposal) else { return };
        if let Some((peer, number)) = asker {
            let refusal = match failure {
                HandoverFailure::Refused { refusal, .. } => *refusal,
                HandoverFailure::NotOwner { .. } => Refusal::NotOwner,
                HandoverFailure::AddressOwner
                | HandoverFailure::NoSuccessor
                | HandoverFailure::Unknown { .. }
                | HandoverFailure::NoAnswer { .. }
                | HandoverFailure::NotInTime { .. }
                | HandoverFailure::NotTaken { .. }
                | HandoverFailure::OwnerAlready
                | HandoverFailure::Busy
                | HandoverFailure::Overtaken => Refusal::Busy,
            };
            self.say(step, &peer, number, HandoverStep::Refuse(refusal));
        }
        self.stay_after_all(step, order, failure.clone());
    }

    pub(super) fn fail_with_group(&mut self, failure: HandoverFailure) {
        if let Some(leaving) = &mut self.handover.leaving
            && matches!(leaving.phase, Phase::Asking { .. })
        {
            leaving.failed = Some(failure);
        }
    }

    fn ask_next_with_group(
        &mut self,
        step: &mut Step<'_>,
        next: Option<String>,
        leaves: bool,
        failure: &HandoverFailure,
    ) {
        let asked = self.handover.leaving.as_ref().filter(|leaving| leaving.failed.is_none());
        if let Some(peer) = asked.map(|leaving| leaving.peer.clone()) {
            self.say(step, &peer, 0, HandoverStep::Cancel);
        }
        let Some((order, tried)) = self.end_asking(step, failure) else { return };
        match next {
            Some(peer) => self.ask_peer(step, peer, order, tried),
            None if leaves && self.begin_releasing(step, order.clone()) => {}
            None => self.stay_after_all(step, order, failure.clone()),
        }
    }

    /// Whether it goes though nobody takes it, when the hooks before a release have ended.
    pub(super) fn is_releasing(&self) -> bool {
        self.handover.leaving.as_ref().is_some_and(|leaving| matches!(leaving.phase, Phase::Releasing))
    }

    fn leaves_all_the_same(&self) -> bool {
        self.handover.leaving.as_ref().is_some_and(|leaving| !leaving.order.then.is_with_successor())
    }

    fn release_with_group(&mut self, step: &mut Step<'_>, lost: &str) {
        let Some(leaving) = self.handover.leaving.take() else { return };
        if leaving.order.then.is_with_successor() {
            self.step_back(step, lost);
        } else {
            self.leave_all_the_same(step, leaving.order.then);
        }
    }

    /// Whether the successor has said that it is ready.
    fn is_awaited(&self) -> bool {
        self.asks_successor() && self.awaited_since().is_some()
    }

    fn awaited_since(&self) -> Option<Instant> {
        self.handover.leaving.as_ref().and_then(|leaving| leaving.ready).map(|(_, asked_at)| asked_at)
    }

    fn close_with_group(&mut self, step: &mut Step<'_>) {
        let ready = self.handover.leaving.as_ref().and_then(|leaving| leaving.ready);
        if let Some((number, _)) = ready {
            self.close(step, number);
        }
    }

    fn ask_anew(&mut self, step: &mut Step<'_>) {
        if let Some(leaving) = &mut self.handover.leaving {
            leaving.ready = None;
        }
        self.repeat_leaving(step);
    }
}
