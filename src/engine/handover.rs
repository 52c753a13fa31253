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
//! The members of a group are asked for, and given, in one step each (`whole`).
//!
//! Nodes that can do it know each other by the second path ([`super::second_path`]). Everybody else sees adverts of a new owner.

mod order;
mod owner;
mod successor;
mod wanting;
mod whole;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::ahead::Ahead;
use super::hold::Hold;
use super::input::RequestId;
use super::output::{Cause, Output};
use super::rare::Blank;
use super::time::Instant;
use super::vip::{State, Step, Vip};
use super::{Engine, VipId};
use crate::types::{AdvertInterval, Priority};
use crate::wire::handover::{HandoverMessage, HandoverReason, HandoverStep, QUESTION_ONLY, Refusal};
use crate::wire::heartbeat::{Addresses, Standing};

pub use order::{HandoverDone, HandoverFailure, HandoverOrder};
pub(super) use whole::Joints;
use whole::Proposal;

/// How long an owner asks one node, and a node asks an owner. The addresses are installed meanwhile, a thousand in a tenth of that.
const ASKING: Duration = Duration::from_millis(300);
/// A question is asked again after so long.
const ASK_SPACING: Duration = Duration::from_millis(20);
/// A node that says that it is preparing itself, which a hook may take minutes for, is asked again after so long.
const PATIENT_SPACING: Duration = Duration::from_millis(100);
/// For how long it is asked, at most: the longest time that a hook may take is 10 minutes, and others may run before it.
const LONGEST_ASKING: Duration = Duration::from_secs(11 * 60);
/// The same for a stop, which whoever stops the agent waits for.
const LONGEST_ASKING_TO_STOP: Duration = Duration::from_secs(3);
/// See [`window`]: a successor that needs longer is not well.
const LONGEST_WINDOW: Duration = Duration::from_secs(1);
/// How many of its answers a successor keeps: a question is repeated no more often within [`ASKING`].
const MOST_READIES: usize = 16;

/// How long a successor's word that it is ready holds. Together with the interval that has passed since the owner's last advert it is
/// shorter than the time that others wait for the next, [`PATIENCE`](super::election::PATIENCE) intervals.
fn window(interval: AdvertInterval) -> Duration {
    (interval.duration() * 3 / 2).min(LONGEST_WINDOW)
}

const fn is_question_only(number: u64) -> bool {
    number & QUESTION_ONLY != 0
}

/// What a vip has to do with handovers. Boxed, as handovers are rare and vips many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handover {
    /// It goes to another node.
    leaving: Option<Box<Leaving>>,
    /// It is to come from another node.
    offer: Option<Box<Offer>>,
    /// This node would have it.
    wanting: Option<Box<Wanting>>,
    /// It is to leave with the rest of its group.
    proposed: Option<Box<Proposal>>,
    /// Whose offer the hook before a claim has just forbidden, and until when that need not be asked again.
    vetoed: Option<(String, Instant)>,
    /// The question for whose answer its last predecessor let go, and when this node said that it is ready.
    accepted: Option<(u64, Instant)>,
    /// Whom it came from, and until when that one's word may be from before.
    taken: Option<(String, Instant)>,
    /// An operator gave it to another node of this priority, which is lower: as long as that one does not fall, this one does not take it back
    /// for its own priority alone.
    settled: Option<Priority>,
}

impl Blank for Handover {
    const BLANK: &'static Self = &Self {
        leaving: None,
        offer: None,
        wanting: None,
        proposed: None,
        vetoed: None,
        accepted: None,
        taken: None,
        settled: None,
    };
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
    /// Of a group's member: the last question to which it was said in time that the peer is ready, and when that was asked.
    ready: Option<(u64, Instant)>,
    /// Of a group's member: why the peer does not take it.
    failed: Option<HandoverFailure>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    reason: HandoverReason,
    /// Only to this node.
    to: Option<String>,
    then: Then,
    /// Nobody is asked for longer, however he prepares himself.
    until: Instant,
    /// Who waits for the outcome.
    request: Option<RequestId>,
}

/// What becomes of the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
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
    /// Is the successor ready? And has the hook before a release ended?
    Asking { until: Instant },
    /// Nobody takes it, and it goes all the same: when that hook has ended.
    Releasing,
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
    ahead: Ahead,
    since: Instant,
    /// The latest question, and whether it is to be answered yet; that this node prepares itself is said once to each.
    asked: u64,
    owes_answer: bool,
    owes_sign: bool,
    hook: OfferedHook,
    /// The questions that were answered, and when.
    readies: Vec<(u64, Instant)>,
    /// The owner let go for the answer to this question, which was given then.
    told: Option<(u64, Instant)>,
    /// The owner let go of all that go with it.
    is_given: bool,
    until: Instant,
}

/// What the hook before a claim says to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OfferedHook {
    /// There is none, or it need not be asked for a mere question.
    Unasked,
    Running(RequestId),
    Permitted,
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

impl Order {
    fn new(now: Instant, reason: HandoverReason, to: Option<String>, then: Then) -> Self {
        let time = match &then {
            Then::Follow | Then::Stay | Then::KeepOut(_) => LONGEST_ASKING,
            Then::Leave(_) => LONGEST_ASKING_TO_STOP,
        };
        Self { reason, to, then, until: now + time, request: None }
    }
}

impl Handover {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().and_then(|leaving| match leaving.phase {
            Phase::Asking { until } | Phase::Telling { until, .. } => Some(until.min(leaving.repeat_at)),
            Phase::Removing { until, .. } => Some(until),
            // Answered before anything else, and by the hook's end.
            Phase::Closing { .. } | Phase::Releasing => None,
        });
        let offer = self.offer.as_ref().map(|offer| offer.until);
        let wanting = self.wanting.as_ref();
        let wanting = wanting.map(|it| if it.is_over { it.until } else { it.until.min(it.repeat_at) });
        [leaving, offer, wanting].into_iter().flatten().min()
    }

    /// Whether a better rank than an owner's of this priority is no reason to claim.
    pub(super) fn stays_with(&self, owner: Priority) -> bool {
        self.settled.is_some_and(|settled| owner >= settled)
    }

    pub(super) const fn unsettle(&mut self) {
        self.settled = None;
    }
}

/// What a status shows.
impl Vip {
    /// Whether this node still has to do with a handover to another.
    pub fn is_leaving(&self) -> bool {
        self.handover.leaving.is_some()
    }

    /// Whether an operator gave it to another node, from which this one does not take it for its priority.
    pub fn is_settled_elsewhere(&self) -> bool {
        self.handover.settled.is_some()
    }
}

impl Engine {
    /// Whether a stop has to wait for a successor's word.
    pub fn hands_over(&self) -> bool {
        self.vips.iter().any(Vip::is_leaving)
    }

    pub(super) fn on_hand_over(&mut self, now: Instant, vip: VipId, request: RequestId, order: &HandoverOrder) {
        let is_here = order.to.as_deref() == Some(self.node.as_str());
        // What is fetched is asked for one by one; what goes, goes as a whole by the order for one.
        let all = if is_here { self.moves_with(vip) } else { Vec::from([vip]) };
        self.joints.begin(request, all.len());
        for vip in all {
            self.step(now, vip, |vip, step| vip.on_order(step, request, order.clone(), is_here));
        }
    }

    pub(super) fn on_handover_message(&mut self, now: Instant, peer: &str, message: &HandoverMessage) {
        let known = message.addresses.iter().find_map(|address| self.by_address.get(&(message.vrid, address)));
        if let Some(vip) = known.copied() {
            self.step(now, vip, |vip, step| vip.on_handover_message(step, peer, message));
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
            HandoverStep::Preparing => self.on_preparing(step.now, peer),
            HandoverStep::Refuse(refusal) => {
                let failure = HandoverFailure::Refused { peer: peer.into(), refusal };
                let wanting = self.handover.wanting.as_ref().filter(|it| it.peer == peer && it.number == number);
                if let Some(wanting) = wanting {
                    // One that just hands over to another is asked again: that will soon be done, or have failed.
                    let waits = refusal == Refusal::Busy && wanting.reason == HandoverReason::Preempt;
                    if !waits {
                        self.end_wanting(step, failure);
                    }
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
        self.release_hook_on_deadline(step);
        if self.handover.is_blank() {
            return;
        }
        match self.handover.leaving.as_ref().map(|leaving| (leaving.phase, leaving.peer.clone(), leaving.repeat_at)) {
            Some((Phase::Asking { until }, peer, _)) if step.now >= until => {
                self.say(step, &peer, 0, HandoverStep::Cancel);
                let is_all = self.handover.leaving.as_ref().is_some_and(|leaving| step.now >= leaving.order.until);
                let failure =
                    if is_all { HandoverFailure::NotInTime { peer } } else { HandoverFailure::NoAnswer { peer } };
                self.on_not_ready(step, failure);
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
            Some(wanting) if step.now >= wanting.repeat_at && !wanting.is_over => {
                wanting.repeat_at = step.now + ASK_SPACING;
                let (peer, number, reason) = (wanting.peer.clone(), wanting.number, wanting.reason);
                self.say(step, &peer, number, HandoverStep::Want(reason));
            }
            Some(_) | None => {}
        }
    }

    /// It enters another state. What was to become of the owner after a handover that this makes void.
    pub(super) fn handover_on_transition(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Then> {
        if self.handover.is_blank() && !matches!(cause, Cause::TakesOver { .. }) {
            return None;
        }
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
            self.handover.settled = None;
        }
        if let Cause::TakesOver { peer, .. } = cause {
            let until = step.now + window(self.settings.interval) / 2;
            self.handover.taken = Some((peer.clone(), until));
            if is_owner {
                self.say(step, peer, self.handover.accepted.map_or(0, |(number, _)| number), HandoverStep::Taken);
            }
        }
        let (is_asking, is_telling) =
            self.handover.leaving.as_ref().map_or((false, false), |leaving| match leaving.phase {
                Phase::Asking { .. } | Phase::Closing { .. } | Phase::Releasing => (true, false),
                Phase::Removing { .. } | Phase::Telling { .. } => (false, true),
            });
        let goes_on = *cause == Cause::Installed || (is_asking && is_owner) || (is_telling && !is_owner);
        let leaving = self.handover.leaving.take_if(|_| !goes_on)?;
        self.tell_outcome(step, leaving.order.request, Err(HandoverFailure::Overtaken));
        Some(leaving.order.then)
    }

    /// What took the role away does not undo a stop or a drain.
    pub(super) fn leave_all_the_same(&mut self, step: &mut Step<'_>, then: Then) {
        let is_owner = self.state().is_owner();
        match (then, &self.state) {
            (Then::Follow | Then::Stay, _) | (Then::Leave(_) | Then::KeepOut(_), State::Initialize) => {}
            (Then::KeepOut(hold), _) => {
                if is_owner {
                    self.give_up(step);
                }
                self.keep_out(step, hold);
            }
            (Then::Leave(cause), _) => {
                if is_owner {
                    self.give_up(step);
                }
                self.enter(step, State::Initialize, cause);
            }
        }
    }

    /// Other settings hold: what was agreed on was agreed on for the old ones.
    pub(super) fn abandon_handover(&mut self, step: &mut Step<'_>) {
        self.leave_alone(step);
        self.drop_offer(step);
        self.drop_ahead(step);
        if let Some(wanting) = self.handover.wanting.take() {
            self.tell_outcome(step, wanting.request, Err(HandoverFailure::Overtaken));
        }
    }

    /// It is removed. Nobody waits for what becomes of it.
    pub(super) fn forget_handover(&mut self, step: &mut Step<'_>) {
        if let Some(leaving) = self.handover.leaving.take() {
            self.tell_outcome(step, leaving.order.request, Err(HandoverFailure::Overtaken));
        }
    }

    /// Nobody is asked any more: what was to become of this node becomes of it without a successor.
    fn leave_alone(&mut self, step: &mut Step<'_>) {
        let asks = |leaving: &mut Box<Leaving>| matches!(leaving.phase, Phase::Asking { .. });
        let Some(leaving) = self.handover.leaving.take_if(asks) else { return };
        self.say(step, &leaving.peer, 0, HandoverStep::Cancel);
        self.tell_outcome(step, leaving.order.request, Err(HandoverFailure::Overtaken));
        self.leave_all_the_same(step, leaving.order.then);
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
        let Some(request) = request else { return };
        if let Some(outcome) = step.joints.ended(request, outcome) {
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
