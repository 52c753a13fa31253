//! Handovers: a healthy owner lets go, and its successor, which was asked and is ready, owns at once. No skew time is waited for.
//!
//! ```text
//! owner                                       successor (Backup)
//!   (1)   <-------------- want --------------    it would preempt, or an operator wants it
//!   (2)   -------- are you ready? ---------->    installs the addresses, behind its closed gate
//!   (3)   <------------- ready --------------
//!   (4)  closes its gate, and is no owner
//!   (5)   ------------ it is yours --------->    opens its gate, advertises, announces
//!   (6)   <------------- taken --------------
//! ```
//!
//! Two never answer. The owner says (5) only when the kernel has closed its gate, or, where there is no gate, has taken the addresses off.
//! The successor believes it for [`window`] after its own word (3), and not longer; that is over before any other node can take
//! the owner's last advert for silence, and before the former owner, which hears nothing, tells the others that nobody owns. So (5) can be lost, or come
//! late, and either node can freeze or die between any two steps.
//!
//! What fails before (4) leaves the owner as it was; a stop then goes on as the standard says. What fails after (4) is a resignation.
//!
//! Nodes that can do it know each other by the second path ([`super::second_path`]). Everybody else sees adverts of a new owner.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::backup::Backup;
use super::hold::Hold;
use super::hook::Moment;
use super::input::{EffectError, RequestId};
use super::output::{Cause, EventKind, Output};
use super::time::Instant;
use super::vip::{State, Step, Vip};
use super::{Engine, VipId};
use crate::types::{AdvertInterval, Priority};
use crate::wire::handover::{HandoverMessage, HandoverReason, HandoverStep, Refusal};
use crate::wire::heartbeat::{Addresses, Standing};

/// How long an owner asks one node, and a node asks an owner. The addresses are installed meanwhile, a thousand in a tenth of that.
const ASKING: Duration = Duration::from_millis(300);
/// A question is asked again after so long.
const ASK_SPACING: Duration = Duration::from_millis(20);
/// That it is the other's is said again after so long: nobody owns meanwhile.
const TELL_SPACING: Duration = Duration::from_millis(3);
/// How long a successor stays ready for a question that is not repeated.
const READY_FOR: Duration = Duration::from_secs(1);
/// See [`window`]: a successor that needs longer is not well.
const LONGEST_WINDOW: Duration = Duration::from_secs(1);
/// How many of its answers a successor keeps: a question is repeated no more often within [`ASKING`].
const MOST_READIES: usize = 16;
/// A node that was refused, or not answered, asks no more for so long.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// How long a successor's word that it is ready holds. Together with the interval that has passed since the owner's last advert it is
/// shorter than the time that others wait for the next, [`PATIENCE`](super::election::PATIENCE) intervals.
fn window(interval: AdvertInterval) -> Duration {
    (interval.duration() * 3 / 2).min(LONGEST_WINDOW)
}

/// What a vip has to do with handovers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Handover {
    /// It goes to another node.
    leaving: Option<Leaving>,
    /// It is to come from another node.
    offer: Option<Offer>,
    /// This node would have it.
    wanting: Option<Wanting>,
    /// Whom it came from, and until when that one's word may be from before.
    taken: Option<(String, Instant)>,
    /// An operator gave it to another node: this one does not take it back for its priority alone.
    settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Leaving {
    peer: String,
    order: Order,
    phase: Phase,
    /// When each question was asked.
    asked: Vec<(u64, Instant)>,
    repeat_at: Instant,
    /// Who was asked before, in vain.
    tried: Vec<String>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    reason: HandoverReason,
    /// Only to this node.
    to: Option<String>,
    then: Then,
    /// Who waits for the outcome.
    request: Option<RequestId>,
}

/// What becomes of the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    /// It follows the new one.
    Follow,
    /// It was a question only.
    Stay,
    /// It keeps itself out.
    KeepOut(Hold),
    /// It ends.
    Leave(Cause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Is the successor ready?
    Asking { until: Instant },
    /// The kernel closes the gate.
    Closing { number: u64 },
    /// There is no gate: the kernel takes the addresses off.
    Removing { number: u64, request: RequestId, since: Instant, until: Instant },
    /// The successor was told.
    Telling { number: u64, since: Instant, until: Instant },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    peer: String,
    reason: HandoverReason,
    interval: AdvertInterval,
    /// What was ordered of the kernel, until that has ended.
    preparing: Option<RequestId>,
    /// The addresses are there.
    is_there: bool,
    /// The latest question.
    asked: u64,
    /// The questions that were answered, and when.
    readies: Vec<(u64, Instant)>,
    /// The owner let go.
    is_given: bool,
    until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanting {
    peer: String,
    reason: HandoverReason,
    number: u64,
    until: Instant,
    repeat_at: Instant,
    /// Who waits for the outcome.
    request: Option<RequestId>,
    /// It was refused, or not answered.
    is_over: bool,
}

/// What a successor has ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// The addresses, which answer nobody.
    There,
    /// Nothing: they would answer, or be known to switches, before they are claimed.
    Later,
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverOrder {
    /// To which node; `None`: the one that would succeed this one. This node itself: from the owner.
    pub to: Option<String>,
    /// Why.
    pub reason: HandoverReason,
    /// Only ask whether the successor is ready.
    pub dry_run: bool,
}

/// How a handover went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverDone {
    /// The other node.
    pub peer: String,
    /// From when this node answered no more until it heard that the other one does. `None`: nothing moved, or it is not this node that knows.
    pub gap: Option<Duration>,
}

/// Why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandoverFailure {
    /// This node is not the owner. Who is, if that is a node that is known.
    NotOwner {
        /// Its name.
        owner: Option<String>,
    },
    /// This is the address owner (priority 255), whose addresses stay.
    AddressOwner,
    /// No node of this vip is heard on the second path, or none that was not asked.
    NoSuccessor,
    /// The node is not heard on the second path.
    Unknown {
        /// Its name.
        peer: String,
    },
    /// It cannot own now.
    Refused {
        /// Its name.
        peer: String,
        /// Why.
        refusal: Refusal,
    },
    /// It did not say that it is ready. It still owns who did.
    NoAnswer {
        /// Its name.
        peer: String,
    },
    /// This node let go, and the successor did not say that it owns: the others were told.
    NotTaken {
        /// Its name.
        peer: String,
    },
    /// Another handover is under way.
    Busy,
    /// Something else happened to this node meanwhile.
    Overtaken,
}

impl core::fmt::Display for HandoverFailure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotOwner { owner: Some(owner) } => write!(f, "this node is not the owner, {owner} is"),
            Self::NotOwner { owner: None } => f.write_str("this node is not the owner"),
            Self::AddressOwner => f.write_str("this node is the address owner (priority 255)"),
            Self::NoSuccessor => {
                f.write_str("no other node of this vip that could take it is heard on the second path")
            }
            Self::Unknown { peer } => write!(f, "{peer} is not heard on the second path"),
            Self::Refused { peer, refusal } => write!(f, "{peer} refuses: {refusal}"),
            Self::NoAnswer { peer } => write!(f, "{peer} did not answer"),
            Self::NotTaken { peer } => write!(f, "{peer} was ready, but did not say that it took over"),
            Self::Busy => f.write_str("another handover is under way"),
            Self::Overtaken => f.write_str("something else happened meanwhile"),
        }
    }
}

impl Handover {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().and_then(|leaving| match leaving.phase {
            Phase::Asking { until } | Phase::Telling { until, .. } => Some(until.min(leaving.repeat_at)),
            Phase::Removing { until, .. } => Some(until),
            // Answered before anything else.
            Phase::Closing { .. } => None,
        });
        let offer = self.offer.as_ref().map(|offer| offer.until);
        let wanting = self.wanting.as_ref();
        let wanting = wanting.map(|it| if it.is_over { it.until } else { it.until.min(it.repeat_at) });
        [leaving, offer, wanting].into_iter().flatten().min()
    }

    /// Whether a better rank is no reason to claim.
    pub(super) const fn is_settled(&self) -> bool {
        self.settled
    }

    pub(super) const fn unsettle(&mut self) {
        self.settled = false;
    }
}

/// What a status shows.
impl Vip {
    /// Whether this node still has to do with a handover to another.
    pub const fn is_leaving(&self) -> bool {
        self.handover.leaving.is_some()
    }

    /// Whether an operator gave it to another node, from which this one does not take it for its priority.
    pub const fn is_settled_elsewhere(&self) -> bool {
        self.handover.settled
    }
}

impl Engine {
    /// Whether a stop has to wait for a successor's word.
    pub fn hands_over(&self) -> bool {
        self.vips.iter().any(Vip::is_leaving)
    }

    pub(super) fn on_hand_over(&mut self, now: Instant, vip: VipId, request: RequestId, order: HandoverOrder) {
        let is_here = order.to.as_deref() == Some(self.node.as_str());
        self.step(now, vip, |vip, step| vip.on_order(step, request, order, is_here));
    }

    pub(super) fn on_handover_message(&mut self, now: Instant, peer: &str, message: &HandoverMessage) {
        let known = message.addresses.iter().find_map(|address| self.by_address.get(&(message.vrid, address)));
        if let Some(vip) = known.copied() {
            self.step(now, vip, |vip, step| vip.on_handover_message(step, peer, message));
        }
    }
}

/// As an owner.
impl Vip {
    fn on_order(&mut self, step: &mut Step<'_>, request: RequestId, order: HandoverOrder, is_here: bool) {
        self.depose_if_late(step);
        let HandoverOrder { to, reason, dry_run } = order;
        let outcome = if is_here {
            self.want_for(step, reason, request)
        } else {
            let then = if dry_run { Then::Stay } else { Then::Follow };
            self.begin_handover(step, Order { reason, to, then, request: Some(request) })
        };
        if let Err(failure) = outcome {
            self.tell_outcome(step, Some(request), Err(failure));
        }
    }

    /// A stop. Whether it is to be waited for.
    pub(super) fn hand_over_to_leave(&mut self, step: &mut Step<'_>, cause: Cause) -> bool {
        self.depose_if_late(step);
        let order = Order { reason: HandoverReason::Stop, to: None, then: Then::Leave(cause), request: None };
        self.begin_handover(step, order).is_ok()
    }

    /// A drain. Whether it is under way.
    pub(super) fn hand_over_to_keep_out(&mut self, step: &mut Step<'_>, hold: Hold) -> bool {
        let order = Order { reason: HandoverReason::Drain, to: None, then: Then::KeepOut(hold), request: None };
        self.begin_handover(step, order).is_ok()
    }

    fn begin_handover(&mut self, step: &mut Step<'_>, order: Order) -> Result<(), HandoverFailure> {
        let State::Active(_) = &self.state else {
            return Err(HandoverFailure::NotOwner { owner: self.owner_by_name(step.now) });
        };
        if self.settings.priority == Priority::OWNER {
            return Err(HandoverFailure::AddressOwner);
        }
        if self.is_claimed_by_group() {
            return Err(HandoverFailure::Refused { peer: "this node".into(), refusal: Refusal::InGroup });
        }
        if let Some(leaving) = &mut self.handover.leaving {
            // A stop or a drain does not wait for less.
            return match (&order.then, leaving.phase) {
                (Then::Leave(_) | Then::KeepOut(_), Phase::Asking { .. }) => {
                    let request = leaving.order.request.take();
                    leaving.order = order;
                    self.tell_outcome(step, request, Err(HandoverFailure::Overtaken));
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
        let (until, repeat_at) = (step.now + ASKING, step.now);
        let (phase, asked) = (Phase::Asking { until }, Vec::new());
        self.handover.leaving = Some(Leaving { peer, order, phase, asked, repeat_at, tried });
        self.repeat_leaving(step);
        Ok(())
    }

    fn choose_successor(&self, now: Instant, to: Option<&str>, tried: &[String]) -> Result<String, HandoverFailure> {
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
    fn on_ready(&mut self, step: &mut Step<'_>, peer: &str, number: u64) {
        let pace = self.pace();
        let Some(leaving) = self.handover.leaving.as_mut().filter(|leaving| leaving.peer == peer) else { return };
        let Phase::Asking { .. } = leaving.phase else { return };
        let asked_at = leaving.asked.iter().find(|(known, _)| *known == number).map(|(_, at)| *at);
        if asked_at.is_none_or(|at| step.now.since(at) > window(pace) / 2) {
            leaving.repeat_at = step.now;
            return;
        }
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
    pub(super) fn on_let_go(&mut self, step: &mut Step<'_>, closed: bool) {
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
                self.handover.settled = matches!(reason, HandoverReason::Operator | HandoverReason::Drill);
                let backup = Backup::listening(step.now + patience);
                self.enter(step, State::Backup(backup), Cause::HandedOver { peer, reason });
            }
            Then::KeepOut(hold) => self.keep_out(step, hold),
            Then::Leave(cause) => self.enter(step, State::Initialize, cause),
        }
    }

    /// Where there is no gate, this is what the successor waits for.
    pub(super) fn handover_on_removed(&mut self, step: &mut Step<'_>, request: RequestId) {
        let Some(leaving) = &mut self.handover.leaving else { return };
        let Phase::Removing { number, request: awaited, since, until } = leaving.phase else { return };
        if awaited == request {
            leaving.phase = Phase::Telling { number, since, until };
            leaving.repeat_at = step.now;
            self.repeat_leaving(step);
        }
    }

    /// The successor owns: it says so itself, advertises, or says so on the second path.
    fn on_taken(&mut self, step: &mut Step<'_>, peer: &str) {
        let told = |leaving: &mut Leaving| leaving.peer == peer && matches!(leaving.phase, Phase::Telling { .. });
        let Some(leaving) = self.handover.leaving.take_if(told) else { return };
        let Phase::Telling { since, .. } = leaving.phase else { return };
        let (gap, reason) = (step.now.since(since), leaving.order.reason);
        self.event(step, EventKind::HandedOver { peer: peer.into(), reason, gap });
        self.tell_outcome(step, leaving.order.request, Ok(HandoverDone { peer: peer.into(), gap: Some(gap) }));
    }

    /// An advert of an owner.
    pub(super) fn handover_on_advert(&mut self, step: &mut Step<'_>, source: IpAddr, priority: Priority) {
        if priority == Priority::RESIGN {
            return;
        }
        let Some(peer) = self.handover.leaving.as_ref().map(|leaving| leaving.peer.clone()) else { return };
        if self.second_path.speaks_from(&peer, source) {
            self.on_taken(step, &peer);
        }
    }

    /// A peer's word on the second path.
    pub(super) fn handover_on_report(&mut self, step: &mut Step<'_>, peer: &str, standing: Standing) {
        if standing == Standing::Owner {
            self.on_taken(step, peer);
        }
    }

    /// It stays here, or goes to the next.
    fn on_not_ready(&mut self, step: &mut Step<'_>, failure: HandoverFailure) {
        let asks = |leaving: &mut Leaving| matches!(leaving.phase, Phase::Asking { .. });
        let Some(mut leaving) = self.handover.leaving.take_if(asks) else { return };
        let reason = leaving.order.reason;
        self.event(step, EventKind::HandoverFailed { reason, failure: failure.clone() });
        leaving.tried.push(leaving.peer);
        if self.ask_successor(step, leaving.order.clone(), leaving.tried).is_ok() {
            return;
        }
        match leaving.order.then {
            Then::Follow | Then::Stay => {}
            Then::KeepOut(hold) => {
                self.give_up(step);
                self.keep_out(step, hold);
            }
            Then::Leave(cause) => {
                self.give_up(step);
                self.enter(step, State::Initialize, cause);
            }
        }
        self.tell_outcome(step, leaving.order.request, Err(failure));
    }

    /// This node let go, and nobody says that he owns. The others are told, as by an owner that resigns.
    fn on_not_taken(&mut self, step: &mut Step<'_>) {
        let Some(leaving) = self.handover.leaving.take() else { return };
        let failure = HandoverFailure::NotTaken { peer: leaving.peer };
        self.event(step, EventKind::HandoverFailed { reason: leaving.order.reason, failure: failure.clone() });
        self.handover.settled = false;
        self.transmit(step, Priority::RESIGN);
        self.tell_outcome(step, leaving.order.request, Err(failure));
    }

    fn repeat_leaving(&mut self, step: &mut Step<'_>) {
        let Some(leaving) = &mut self.handover.leaving else { return };
        let peer = leaving.peer.clone();
        match leaving.phase {
            Phase::Asking { .. } => {
                leaving.repeat_at = step.now + ASK_SPACING;
                let reason = leaving.order.reason;
                let number = step.request().0;
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
            Phase::Closing { .. } | Phase::Removing { .. } => {}
        }
    }

    fn on_want(&mut self, step: &mut Step<'_>, peer: &str, number: u64, reason: HandoverReason) {
        let report = self.second_path.reports(step.now).find(|(name, _)| *name == peer).map(|(_, report)| *report);
        let outranks = report.is_some_and(|report| report.priority > self.priority());
        let refusal = match (&self.state, reason) {
            (State::Active(_), HandoverReason::Preempt) if !outranks => Refusal::NoReason,
            (State::Active(_), _) => {
                let order = Order { reason, to: Some(peer.into()), then: Then::Follow, request: None };
                match self.begin_handover(step, order) {
                    // It asks again; the answer is under way.
                    Ok(()) => return,
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

    /// An operator wants it to stay after all.
    pub(super) fn cancel_handover(&mut self, step: &mut Step<'_>) {
        let asks = |leaving: &mut Leaving| matches!(leaving.phase, Phase::Asking { .. });
        if let Some(leaving) = self.handover.leaving.take_if(asks) {
            self.say(step, &leaving.peer, 0, HandoverStep::Cancel);
            self.tell_outcome(step, leaving.order.request, Err(HandoverFailure::Overtaken));
        }
    }
}

/// As a successor.
impl Vip {
    fn on_ask(
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
        let until = step.now + READY_FOR;
        if let Some(offer) = &mut self.handover.offer {
            (offer.asked, offer.until, offer.reason, offer.interval) = (number, until, reason, interval);
            if offer.preparing.is_none() {
                self.say_ready(step);
            }
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
            asked: number,
            readies,
            is_given: false,
            until,
        };
        self.handover.offer = Some(offer);
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
    fn unable(&self) -> Option<Refusal> {
        if self.is_claimed_by_group() {
            Some(Refusal::InGroup)
        } else {
            self.has_hook(Moment::BeforeClaim).then_some(Refusal::AsksHook)
        }
    }

    /// The addresses are there, behind the closed gate, or will be when they are claimed.
    pub(super) fn on_prepared(
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
                self.say_ready(step);
            }
            Err(_) => {
                let (peer, asked) = (offer.peer.clone(), offer.asked);
                // Some of them may be there.
                offer.is_there = true;
                self.drop_offer(step);
                self.say(step, &peer, asked, HandoverStep::Refuse(Refusal::NotInstalled));
            }
        }
    }

    fn say_ready(&mut self, step: &mut Step<'_>) {
        let Some(offer) = &mut self.handover.offer else { return };
        let (peer, number) = (offer.peer.clone(), offer.asked);
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
    fn on_yours(&mut self, step: &mut Step<'_>, peer: &str, number: u64) {
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
        let said_at = offer.readies.iter().find(|(known, _)| *known == number).map(|(_, at)| *at);
        let holds = said_at.is_some_and(|at| step.now.since(at) < window(offer.interval));
        if offer.preparing.is_some() || !holds || offer.is_given {
            return;
        }
        offer.is_given = true;
        let cause = Cause::TakesOver { peer: peer.into(), reason: offer.reason };
        self.seek(step, cause);
        if self.state().is_owner() {
            self.say(step, peer, number, HandoverStep::Taken);
        }
    }

    /// Whether this is the word of a former owner from before it let go, which the news of that has overtaken: it came by another way. One that claims
    /// anew says so again.
    pub(super) fn is_of_before(&self, now: Instant, is_it: impl Fn(&str) -> bool) -> bool {
        let is_owner = self.state().is_owner();
        is_owner && self.handover.taken.as_ref().is_some_and(|(peer, until)| now < *until && is_it(peer))
    }

    /// An advert, of whichever priority.
    pub(super) fn is_advert_of_before(&self, now: Instant, source: IpAddr) -> bool {
        self.is_of_before(now, |peer| self.second_path.speaks_from(peer, source))
    }

    /// Why it would claim, where the owner let go, and something spoke against the claim then: voters are asked first.
    pub(super) fn cause_to_take(&self) -> Option<Cause> {
        let offer = self.handover.offer.as_ref().filter(|offer| offer.is_given)?;
        Some(Cause::TakesOver { peer: offer.peer.clone(), reason: offer.reason })
    }

    /// Whether the addresses are there already. One that preempts an owner which is still there has to begin anew: they would answer before that
    /// owner has heard of it.
    pub(super) fn take_offer(&mut self, step: &mut Step<'_>, cause: &Cause) -> bool {
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
    pub(super) fn drop_offer(&mut self, step: &mut Step<'_>) {
        let Some(offer) = self.handover.offer.take() else { return };
        if offer.is_there || offer.preparing.is_some() {
            let set = self.address_set(step);
            step.outputs.push_back(Output::Remove(set));
        }
    }
}

/// As one that would have it.
impl Vip {
    /// An operator wants it here.
    fn want_for(
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
            State::Claiming { .. } | State::Active(_) => return Err(HandoverFailure::Busy),
        }
        let owner = self.owner_by_name(step.now).ok_or(HandoverFailure::NotOwner { owner: None })?;
        self.want(step, owner, reason, Some(request));
        Ok(())
    }

    /// Until when a preemption waits for the owner to hand over.
    pub(super) fn object_for_handover(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Instant> {
        // Nobody claims what he has just given away, before it is known whether it was taken.
        if let Some(Leaving { phase: Phase::Telling { until, .. } | Phase::Removing { until, .. }, .. }) =
            &self.handover.leaving
            && step.now < *until
        {
            return Some(*until);
        }
        let (Cause::Preempts { source, .. }, None) = (cause, self.unable()) else { return None };
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
        self.handover.wanting = Some(Wanting { peer, reason, number, until, repeat_at, request, is_over: false });
        until
    }

    /// The owner does not hand over: what is to be had is to be had by the standard.
    fn end_wanting(&mut self, step: &mut Step<'_>, failure: HandoverFailure) {
        let Some(wanting) = self.handover.wanting.as_mut().filter(|wanting| !wanting.is_over) else { return };
        wanting.is_over = true;
        wanting.until = step.now + ASK_AGAIN;
        let (request, reason) = (wanting.request.take(), wanting.reason);
        self.event(step, EventKind::HandoverFailed { reason, failure: failure.clone() });
        self.tell_outcome(step, request, Err(failure));
        if let (HandoverReason::Preempt, State::Backup(backup)) = (reason, &mut self.state) {
            backup.hurry(None, step.now);
        }
    }
}

/// What both have to do.
impl Vip {
    fn on_handover_message(&mut self, step: &mut Step<'_>, peer: &str, message: &HandoverMessage) {
        self.depose_if_late(step);
        let number = message.number;
        match message.step {
            HandoverStep::Want(reason) => self.on_want(step, peer, number, reason),
            HandoverStep::Ask { reason, interval } => self.on_ask(step, peer, number, reason, interval),
            HandoverStep::Ready => self.on_ready(step, peer, number),
            HandoverStep::Refuse(refusal) => {
                let failure = HandoverFailure::Refused { peer: peer.into(), refusal };
                if self.handover.wanting.as_ref().is_some_and(|it| it.peer == peer && it.number == number) {
                    self.end_wanting(step, failure);
                } else if self.handover.leaving.as_ref().is_some_and(|it| it.peer == peer) {
                    self.on_not_ready(step, failure);
                }
            }
            HandoverStep::LetGo => self.on_yours(step, peer, number),
            HandoverStep::Taken => self.on_taken(step, peer),
            HandoverStep::Cancel => {
                if self.handover.offer.as_ref().is_some_and(|offer| offer.peer == peer) {
                    self.drop_offer(step);
                }
            }
        }
    }

    pub(super) fn handover_on_deadline(&mut self, step: &mut Step<'_>) {
        match self.handover.leaving.as_ref().map(|leaving| (leaving.phase, leaving.peer.clone(), leaving.repeat_at)) {
            Some((Phase::Asking { until }, peer, _)) if step.now >= until => {
                self.say(step, &peer, 0, HandoverStep::Cancel);
                self.on_not_ready(step, HandoverFailure::NoAnswer { peer });
            }
            Some((Phase::Telling { until, .. } | Phase::Removing { until, .. }, _, _)) if step.now >= until => {
                self.on_not_taken(step);
            }
            Some((_, _, repeat_at)) if step.now >= repeat_at => self.repeat_leaving(step),
            Some(_) | None => {}
        }
        if self.handover.offer.as_ref().is_some_and(|offer| step.now >= offer.until) {
            self.drop_offer(step);
        }
        match &mut self.handover.wanting {
            Some(wanting) if step.now >= wanting.until && wanting.is_over => self.handover.wanting = None,
            Some(wanting) if step.now >= wanting.until => {
                let peer = wanting.peer.clone();
                self.end_wanting(step, HandoverFailure::NoAnswer { peer });
            }
            Some(wanting) if step.now >= wanting.repeat_at => {
                wanting.repeat_at = step.now + ASK_SPACING;
                let (peer, number, reason) = (wanting.peer.clone(), wanting.number, wanting.reason);
                self.say(step, &peer, number, HandoverStep::Want(reason));
            }
            Some(_) | None => {}
        }
    }

    /// It enters another state.
    pub(super) fn handover_on_transition(&mut self, step: &mut Step<'_>, cause: &Cause) {
        let (is_backup, is_owner) = match &self.state {
            State::Backup(_) => (true, false),
            State::Claiming { .. } | State::Active(_) => (false, true),
            State::Initialize | State::Held { .. } => (false, false),
        };
        if !is_backup {
            self.drop_offer(step);
            if let Some(wanting) = self.handover.wanting.take() {
                let done = HandoverDone { peer: wanting.peer, gap: None };
                let outcome = if is_owner { Ok(done) } else { Err(HandoverFailure::Overtaken) };
                self.tell_outcome(step, wanting.request, outcome);
            }
        }
        if is_owner {
            self.handover.settled = false;
        }
        if let Cause::TakesOver { peer, .. } = cause {
            let until = step.now + window(self.settings.interval) / 2;
            self.handover.taken = Some((peer.clone(), until));
        }
        let (is_asking, is_telling) =
            self.handover.leaving.as_ref().map_or((false, false), |leaving| match leaving.phase {
                Phase::Asking { .. } | Phase::Closing { .. } => (true, false),
                Phase::Removing { .. } | Phase::Telling { .. } => (false, true),
            });
        let goes_on = *cause == Cause::Installed || (is_asking && is_owner) || (is_telling && !is_owner);
        if !goes_on && let Some(leaving) = self.handover.leaving.take() {
            self.tell_outcome(step, leaving.order.request, Err(HandoverFailure::Overtaken));
        }
    }

    /// Other settings hold: what was agreed on was agreed on for the old ones.
    pub(super) fn abandon_handover(&mut self, step: &mut Step<'_>) {
        self.cancel_handover(step);
        self.drop_offer(step);
        self.handover.wanting = None;
    }

    fn owner_by_name(&self, now: Instant) -> Option<String> {
        let heard = match &self.state {
            State::Backup(backup) => backup.owner().and_then(|owner| self.second_path.owner_at(now, owner.source)),
            State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => None,
        };
        let said = || self.second_path.reports(now).find(|(_, report)| report.standing == Standing::Owner);
        heard.or_else(|| said().map(|(peer, _)| peer.into()))
    }

    fn say(&self, step: &mut Step<'_>, peer: &str, number: u64, what: HandoverStep) {
        let addresses: Addresses = self.report_of(step.now).addresses;
        let message = HandoverMessage { vrid: self.settings.vrid, addresses, number, step: what };
        step.outputs.push_back(Output::SendHandover { peer: peer.into(), message });
    }

    fn tell_outcome(
        &self,
        step: &mut Step<'_>,
        request: Option<RequestId>,
        outcome: Result<HandoverDone, HandoverFailure>,
    ) {
        if let Some(request) = request {
            step.outputs.push_back(Output::HandoverEnded { request, outcome });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::election::{PATIENCE, skew_time};

    #[test]
    fn a_word_to_be_ready_ends_before_anybody_takes_the_last_advert_for_silence() {
        for centiseconds in [1, 10, 100, 4095] {
            let interval = AdvertInterval::from_centiseconds(centiseconds).unwrap();
            // The last advert is no older than that when the owner lets go, and the word is younger.
            let latest = interval.duration() * 5 / 4 + window(interval);
            let claims = interval.duration() * PATIENCE + skew_time(interval, Priority(254));
            assert!(latest + interval.duration() / 4 <= claims, "{latest:?} of {claims:?}");
        }
    }
}
