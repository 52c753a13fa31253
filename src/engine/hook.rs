//! Hooks: programs of the operator's that are told what becomes of a vip, and one that is asked before a claim.
//!
//! | moment | when | waited for |
//! |---|---|---|
//! | before a claim | all else permits it; a claim that an owner's advert makes void asks anew the next time | yes: the claim is made when the hook has ended; where it failed, by its policy |
//! | the same | an owner would hand over ([`super::handover`]) | yes, by this node's answer; the owner goes on meanwhile |
//! | after a claim | the kernel has the addresses; after an adoption too, for an agent that was killed may have left it half done | no |
//! | before a release | an owner leaves in good order: it hands over, is drained, or stops. If it stays after all, it runs the hook after a claim again | yes: it goes on as the owner, and lets go when the hook has ended, well or not; a stop waits for [`LONGEST_AT_STOP`] |
//! | before a release | any other is decided, such as a fault; the lease ends, whatever the hook does | no |
//! | after a release | the addresses are taken off, or could not be | no |
//! | fault | this node falls out of the election by a check, its interface, the kernel or its own lateness | no |
//! | split brain | there is evidence of a second owner; not more often than [`REPORT_SPACING`] | no |
//!
//! The driver runs the hooks of a vip one after the other in this order, and answers each. A lease never depends on one: an owner that waits for
//! one renews it as ever, and gives up for anything else.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::input::{EffectError, RequestId};
use super::output::{Cause, Event, EventKind, Output, StateName};
use super::rare::Blank;
use super::settings::VipSettings;
use super::silence::WaitEnd;
use super::stats::REPORT_SPACING;
use super::time::Instant;
use super::vip::{State, Step, Vip};
use super::{Engine, VipId};
use crate::types::Priority;
use crate::wire::handover::HandoverReason;

/// How long after a veto the hook is asked again. Whoever else wants the addresses has claimed them by then.
pub const RETRY_AFTER_VETO: Duration = Duration::from_secs(10);
/// For so long a stop waits for the hook before a release: whoever stops an agent does not wait for much longer.
pub const LONGEST_AT_STOP: Duration = Duration::from_secs(3);
/// While a hook runs, a claim looks at it this often; its end wakes the claim by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// When a hook is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// This node is about to claim.
    BeforeClaim,
    /// It owns the addresses.
    AfterClaim,
    /// It is about to give them up.
    BeforeRelease,
    /// It has.
    AfterRelease,
    /// It cannot take part any more.
    Fault,
    /// Somebody else may own the addresses too.
    SplitBrain,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::BeforeClaim, Self::AfterClaim, Self::BeforeRelease, Self::AfterRelease, Self::Fault, Self::SplitBrain];

    /// Its name in the configuration, and to the hook.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeClaim => "before_claim",
            Self::AfterClaim => "after_claim",
            Self::BeforeRelease => "before_release",
            Self::AfterRelease => "after_release",
            Self::Fault => "fault",
            Self::SplitBrain => "split_brain",
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What becomes of a claim whose hook failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHookFailure {
    /// It is made all the same.
    Ignore,
    /// It is not made.
    Veto,
}

/// A hook, as the engine needs it: what is run is the driver's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookSettings {
    /// When.
    pub moment: Moment,
    /// [`OnHookFailure::Veto`] of [`Moment::BeforeClaim`] only.
    pub on_failure: OnHookFailure,
}

/// Run a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOrder {
    /// Ties the answer to this output.
    pub request: RequestId,
    /// Whose.
    pub vip: VipId,
    /// When.
    pub at: Instant,
    /// Which.
    pub moment: Moment,
    /// Of the vip, which new settings may have removed by the time that the hook runs.
    pub settings: Arc<VipSettings>,
    /// The state of the vip.
    pub state: StateName,
    /// The effective priority.
    pub priority: Priority,
    /// Why.
    pub why: Reason,
}

/// Why a hook is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Why the vip would claim.
    Claim(Cause),
    /// Why the vip is to be released.
    Release(HandoverReason),
    /// It was to be released, and stays.
    Stays,
    /// What happened.
    Event(EventKind),
    /// The addresses were taken off, or what was refused.
    Removed(Result<(), EffectError>),
}

/// What became of a hook: the last line that it said, or what was wrong.
pub type HookResult = Result<String, EffectError>;

/// A hook that was run, or runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRun {
    /// Which.
    pub moment: Moment,
    /// When it was ordered.
    pub at: Instant,
    /// `None`: it has not ended.
    pub result: Option<HookResult>,
    request: RequestId,
}

/// The hooks of a vip, as they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hooks {
    /// The last of each moment.
    runs: Vec<HookRun>,
    /// What the request of the last removal is, and whether a hook waits for its end.
    releasing: Option<RequestId>,
    /// Of the hook before a release in good order.
    release: Option<Told>,
    split_brain_at: Option<Instant>,
}

impl Blank for Hooks {
    const BLANK: &'static Self = &Self { runs: Vec::new(), releasing: None, release: None, split_brain_at: None };
}

/// What is known of the hook before a claim. It belongs to the wait of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Running(RequestId),
    Permitted,
    Vetoed { retry_at: Instant },
}

/// Whether the hook before a release has ended, for which the owner waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// For no longer than that, where it is a stop.
    Running {
        request: RequestId,
        until: Option<Instant>,
    },
    Ended,
}

impl Hooks {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.release {
            Some(Told::Running { until, .. }) => until,
            Some(Told::Ended) | None => None,
        }
    }
}

impl Engine {
    pub(super) fn on_hook_ended(
        &mut self,
        now: Instant,
        vip: VipId,
        request: RequestId,
        moment: Moment,
        result: HookResult,
    ) {
        let vetoes = self.vip(vip).is_some_and(|vip| result.is_err() && vip.vetoes(moment));
        let kind = match &result {
            Ok(said) => EventKind::HookDone { moment, said: said.clone() },
            Err(error) => EventKind::HookFailed { moment, error: error.clone(), vetoes },
        };
        // Told of vips as well that new settings have removed.
        self.outputs.push_back(Output::Event(Event { at: now, vip: Some(vip), kind }));
        self.step(now, vip, |vip, step| vip.on_hook_ended(step, request, result));
    }

    /// What is taken off by new settings is told its hook now: nothing is left of it when the removal ends.
    pub(super) fn hooks_of_removed(&mut self, now: Instant, id: VipId) {
        self.step(now, id, |vip, step| {
            if vip.hooks.releasing.take().is_some() {
                vip.run_hook(step, Moment::AfterRelease, Reason::Removed(Ok(())));
            }
        });
    }
}

/// What a status shows.
impl Vip {
    /// The hooks that were run, the last of each moment.
    pub fn hook_runs(&self) -> &[HookRun] {
        &self.hooks.runs
    }
}

/// Before a claim.
impl Vip {
    /// When to ask again, where a hook is asked first.
    pub(super) fn object_until_hook_permits(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Instant> {
        if !self.has_hook(Moment::BeforeClaim) {
            return None;
        }
        let known = self.hook_for_offer();
        let asked = match &mut self.state {
            State::Backup(backup) => {
                backup.asked_hook = known.or(backup.asked_hook);
                backup.asked_hook
            }
            State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => None,
        };
        match asked {
            Some(Asked::Permitted) => return None,
            Some(Asked::Running(_)) => return Some(step.now + LOOK_AGAIN),
            Some(Asked::Vetoed { retry_at }) if step.now < retry_at => {
                return Some(self.put_off_canvass(step, retry_at));
            }
            Some(Asked::Vetoed { .. }) | None => {}
        }
        let again = step.now + LOOK_AGAIN;
        // An address owner claims without having listened.
        if !matches!(self.state, State::Backup(_)) {
            self.wait_to_claim(step, again, cause.clone());
        }
        let request = self.run_hook(step, Moment::BeforeClaim, Reason::Claim(cause.clone()));
        if let State::Backup(backup) = &mut self.state {
            backup.asked_hook = Some(Asked::Running(request));
        }
        Some(again)
    }

    fn on_hook_ended(&mut self, step: &mut Step<'_>, request: RequestId, result: HookResult) {
        let permits = result.is_ok() || !self.vetoes(Moment::BeforeClaim);
        if let Some(run) = self.hooks.runs.iter_mut().find(|run| run.request == request) {
            run.result = Some(result);
        }
        self.handover_on_hook(step, request, permits);
        if matches!(self.hooks.release, Some(Told::Running { request: awaited, .. }) if awaited == request) {
            self.hooks.release = Some(Told::Ended);
            self.on_release_told(step);
        }
        let State::Backup(backup) = &mut self.state else { return };
        if backup.asked_hook != Some(Asked::Running(request)) {
            return;
        }
        let retry_at = step.now + RETRY_AFTER_VETO;
        backup.asked_hook = Some(if permits { Asked::Permitted } else { Asked::Vetoed { retry_at } });
        backup.put_off(if permits { step.now } else { retry_at });
        if permits {
            self.backup_on_deadline(step);
        } else {
            // Others may have what the voters would grant.
            self.put_off_canvass(step, retry_at);
        }
    }

    fn vetoes(&self, moment: Moment) -> bool {
        let veto = HookSettings { moment, on_failure: OnHookFailure::Veto };
        self.settings.hooks.contains(&veto)
    }
}

/// Before a release in good order.
impl Vip {
    /// Whether the owner may let go: the hook has ended, or there is none. It is run now, if it was not. It is waited for until a moment at most,
    /// where there is one.
    pub(super) fn was_told_of_release(
        &mut self,
        step: &mut Step<'_>,
        why: HandoverReason,
        until: Option<Instant>,
    ) -> bool {
        if !self.has_hook(Moment::BeforeRelease) {
            return true;
        }
        match &mut self.hooks.release {
            Some(Told::Ended) => return true,
            Some(Told::Running { until: known, .. }) => *known = known.or(until),
            None => {
                let request = self.run_hook(step, Moment::BeforeRelease, Reason::Release(why));
                self.hooks.release = Some(Told::Running { request, until });
            }
        }
        false
    }

    /// Whether it has ended, or there is none.
    pub(super) fn has_been_told_of_release(&self) -> bool {
        !self.has_hook(Moment::BeforeRelease) || self.hooks.release == Some(Told::Ended)
    }

    /// A stop waits no longer.
    pub(super) fn release_hook_on_deadline(&mut self, step: &mut Step<'_>) {
        if self.hooks.deadline().is_some_and(|until| step.now >= until) {
            self.hooks.release = Some(Told::Ended);
            let moment = Moment::BeforeRelease;
            let error = EffectError::from("a stop does not wait for it any longer");
            self.event(step, EventKind::HookFailed { moment, error, vetoes: false });
            self.on_release_told(step);
        }
    }

    /// After each step: what has left has been told so, and what is not to leave any more is told that.
    fn settle_release_hook(&mut self, step: &mut Step<'_>) {
        if !self.state().is_owner() {
            self.hooks.release = None;
        } else if !self.is_leaving() && self.hooks.release.take().is_some() && self.has_hook(Moment::AfterClaim) {
            self.run_hook(step, Moment::AfterClaim, Reason::Stays);
        }
    }
}

/// All others.
impl Vip {
    /// Runs the hooks for what has happened in a step, whose outputs begin at a place.
    pub(super) fn run_hooks(&mut self, step: &mut Step<'_>, from: usize) {
        if self.settings.hooks.is_empty() {
            return;
        }
        let happened: Vec<Happened> = step.outputs.iter().skip(from).filter_map(|it| self.happened(it)).collect();
        for happened in happened {
            match happened {
                Happened::Event(kind) => {
                    for moment in Moment::ALL {
                        if self.calls_for(moment, &kind, step.now) {
                            self.run_hook(step, moment, Reason::Event(kind.clone()));
                        }
                    }
                }
                Happened::Removal(request) => self.hooks.releasing = Some(request),
            }
        }
        self.settle_release_hook(step);
        if self.state().is_owner() {
            // A family that goes, or what was given up and is claimed again.
            self.hooks.releasing = None;
        }
    }

    fn happened(&self, output: &Output) -> Option<Happened> {
        if let Output::Event(Event { vip, kind, .. }) = output
            && *vip == Some(self.id)
        {
            return Some(Happened::Event(kind.clone()));
        }
        if let Output::Remove(set) = output
            && set.vip == self.id
        {
            return Some(Happened::Removal(set.request));
        }
        None
    }

    /// The addresses of a vip are off, or could not be taken off; its lease has ended before.
    pub(super) fn hook_on_removed(&mut self, step: &mut Step<'_>, request: RequestId, result: Result<(), EffectError>) {
        if self.hooks.releasing == Some(request) {
            self.hooks.releasing = None;
            if self.has_hook(Moment::AfterRelease) {
                self.run_hook(step, Moment::AfterRelease, Reason::Removed(result));
            }
        }
    }

    fn calls_for(&mut self, moment: Moment, kind: &EventKind, now: Instant) -> bool {
        let was_told = moment == Moment::BeforeRelease && self.hooks.release.is_some();
        let calls = self.has_hook(moment) && !was_told && calls_for(moment, kind);
        if moment != Moment::SplitBrain || !calls {
            return calls;
        }
        let due = self.hooks.split_brain_at.is_none_or(|at| now.since(at) >= REPORT_SPACING);
        if due {
            self.hooks.split_brain_at = Some(now);
        }
        due
    }

    pub(super) fn has_hook(&self, moment: Moment) -> bool {
        self.settings.hooks.iter().any(|hook| hook.moment == moment)
    }

    pub(super) fn run_hook(&mut self, step: &mut Step<'_>, moment: Moment, why: Reason) -> RequestId {
        let request = step.request();
        self.hooks.runs.retain(|run| run.moment != moment);
        self.hooks.runs.push(HookRun { moment, at: step.now, result: None, request });
        step.outputs.push_back(Output::RunHook(HookOrder {
            request,
            vip: self.id,
            at: step.now,
            moment,
            settings: Arc::new(self.settings.clone()),
            state: self.state(),
            priority: self.priority(),
            why,
        }));
        request
    }
}

enum Happened {
    Event(EventKind),
    Removal(RequestId),
}

/// Whether an event is what a hook is for.
fn calls_for(moment: Moment, kind: &EventKind) -> bool {
    match (moment, kind) {
        (Moment::BeforeClaim, _) | (Moment::AfterRelease, _) => false,
        (Moment::AfterClaim, EventKind::Transition { to: StateName::Active, .. }) => true,
        // What is handed on is not given up.
        (Moment::BeforeRelease, EventKind::Transition { from, to, cause }) => {
            from.is_owner() && !to.is_owner() && *cause != Cause::HandedOn
        }
        (Moment::Fault, EventKind::Transition { cause, .. }) => gravity(cause).fault,
        (Moment::SplitBrain, kind) => is_second_owner(kind),
        (Moment::AfterClaim | Moment::BeforeRelease | Moment::Fault, _) => false,
    }
}

/// What a state is left for, as hooks see it.
struct Gravity {
    /// Somebody has to mend it.
    fault: bool,
    /// There are two owners, or may be.
    second_owner: bool,
}

const fn gravity(cause: &Cause) -> Gravity {
    let (fault, second_owner) = match cause {
        Cause::AddressInUse { .. } => (true, true),
        Cause::PeerOwns { .. } => (false, true),
        Cause::LinkMissing
        | Cause::LinkDown
        | Cause::NoSourceAddress(_)
        | Cause::GroupFault { .. }
        | Cause::InstallRefused(_)
        | Cause::AddressesKeepVanishing
        | Cause::Isolated
        | Cause::Late { .. }
        | Cause::LeaseEnded
        | Cause::MajorityLost { .. }
        | Cause::HostDied
        | Cause::CheckFails { .. } => (true, false),
        Cause::LinkReady
        | Cause::AddressOwner
        | Cause::ActiveDown { .. }
        | Cause::PeerResigned { .. }
        | Cause::PeerWins { .. }
        | Cause::GivenUp { .. }
        | Cause::TakesOver { .. }
        | Cause::HandedOver { .. }
        | Cause::Preempts { .. }
        | Cause::GroupReady
        | Cause::GroupYields { .. }
        | Cause::Installed
        | Cause::Adopted
        | Cause::AddressAnswers { .. }
        | Cause::Challenged { .. }
        | Cause::Drained
        | Cause::Undrained
        | Cause::CheckPending { .. }
        | Cause::ChecksPass
        | Cause::HoldOver
        | Cause::Removed
        | Cause::Shutdown
        | Cause::HandedOn => (false, false),
    };
    Gravity { fault, second_owner }
}

/// Whether it says that there are two owners, or may be.
const fn is_second_owner(kind: &EventKind) -> bool {
    match kind {
        EventKind::Rival { .. }
        | EventKind::ConflictPersists { .. }
        | EventKind::ClonedHost { .. }
        | EventKind::SecondOwner { .. } => true,
        EventKind::SilentOwnerEnds { end, .. } => match end {
            WaitEnd::Overruled => true,
            WaitEnd::FellSilent | WaitEnd::HeardAgain | WaitEnd::NoMajority => false,
        },
        EventKind::Transition { cause, .. } => gravity(cause).second_owner,
        EventKind::Conflict { .. }
        | EventKind::ForeignGroup { .. }
        | EventKind::ReferenceLost { .. }
        | EventKind::ReferenceBack { .. }
        | EventKind::IsolatedFromReferences
        | EventKind::SilentOwner { .. }
        | EventKind::AddressRestored { .. }
        | EventKind::RoutingRestored { .. }
        | EventKind::ChecksumFollowed { .. }
        | EventKind::IntervalLearned { .. }
        | EventKind::AddressesDiffer { .. }
        | EventKind::Dropped { .. }
        | EventKind::NoMajority { .. }
        | EventKind::VoterSilent { .. }
        | EventKind::VoterAnswers { .. }
        | EventKind::CheckFails { .. }
        | EventKind::CheckPasses { .. }
        | EventKind::PriorityChanged { .. }
        | EventKind::PeerHeard { .. }
        | EventKind::PeerSilent { .. }
        | EventKind::AdvertsBlocked { .. }
        | EventKind::AdvertsThrough { .. }
        | EventKind::Fencing { .. }
        | EventKind::Fenced { .. }
        | EventKind::FenceFailed { .. }
        | EventKind::FenceMissing { .. }
        | EventKind::HandedOver { .. }
        | EventKind::HandoverFailed { .. }
        | EventKind::HookDone { .. }
        | EventKind::HookFailed { .. }
        | EventKind::RemoveFailed(_)
        | EventKind::TookOver { .. }
        | EventKind::ClaimWaits { .. }
        | EventKind::OwnerBack { .. } => false,
    }
}
