//! Holds: a vip keeps itself out of every election, because an operator said so or because this host may have been fenced.
//!
//! A hold ends at its time or by an operator, and by nothing else: not by an interface that goes and comes, not by new settings of the
//! same name, and not by a restart, over which the driver keeps what [`Engine::holds`] says. The short time for which a vip stays out
//! after a claim that was refused is no such hold.

use alloc::vec::Vec;

use super::output::{Cause, Output};
use super::time::Instant;
use super::vip::{State, Step, Vip};
use super::{Engine, VipId};

/// Why, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// When it ends by itself; `None`: it does not.
    pub until: Option<Instant>,
}

/// Why a vip is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// An operator drained it.
    Drained,
    /// The host went down while it was the owner, without a stop: it was fenced, by a peer or by its own watchdog, or it
    /// crashed. It may do so again.
    HostDied,
}

impl HoldReason {
    pub(super) const fn cause(self) -> Cause {
        match self {
            Self::Drained => Cause::Drained,
            Self::HostDied => Cause::HostDied,
        }
    }
}

impl Hold {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

impl Engine {
    /// The hold on all vips, those to come as well; and that of each vip, by its name.
    pub fn holds(&self) -> (Option<Hold>, impl Iterator<Item = (&str, Hold)>) {
        let vips = self.vips.iter().filter_map(|vip| Some((vip.settings().name.as_str(), *vip.held_by()?)));
        (self.hold, vips)
    }

    pub(super) fn on_hold(&mut self, now: Instant, vip: Option<VipId>, hold: Hold) {
        if vip.is_none() {
            self.hold = Some(hold);
        }
        for id in self.meant(vip) {
            self.step(now, id, |vip, step| vip.on_hold(step, hold));
        }
        self.outputs.push_back(Output::KeepHolds);
    }

    pub(super) fn on_release(&mut self, now: Instant, vip: Option<VipId>) {
        if vip.is_none() {
            self.hold = None;
        }
        for id in self.meant(vip) {
            let rest_leaves = self.rest_leaves(id);
            self.step(now, id, |vip, step| vip.on_release(step, rest_leaves));
        }
        self.outputs.push_back(Output::KeepHolds);
    }

    fn meant(&self, vip: Option<VipId>) -> Vec<VipId> {
        self.vips.iter().map(Vip::id).filter(|id| vip.is_none_or(|vip| vip == *id)).collect()
    }
}

impl Vip {
    /// Why this vip is kept out, if it is.
    pub const fn held_by(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// Hands over, or gives up at once, so that a peer takes over within its skew time.
    pub(super) fn on_hold(&mut self, step: &mut Step<'_>, hold: Hold) {
        self.depose_if_late(step);
        self.hold = Some(hold);
        match &self.state {
            State::Initialize => {}
            State::Backup(_) | State::Held { .. } => self.keep_out(step, hold),
            State::Claiming { .. } | State::Active(_) => {
                if !self.hand_over_to_keep_out(step, hold) {
                    self.give_up(step);
                    self.keep_out(step, hold);
                }
            }
        }
    }

    /// Takes part again, as at boot; with its group, once none of that is kept out. Ends the short holds too: an operator has seen to what they were for.
    pub(super) fn on_release(&mut self, step: &mut Step<'_>, rest_leaves: bool) {
        self.hold = None;
        self.handover.unsettle();
        if rest_leaves {
            self.follow_rest();
        } else {
            self.cancel_handover(step);
        }
        if let State::Held { .. } = &self.state {
            match self.unready() {
                None => self.start(step, Cause::Undrained),
                Some(cause) => self.enter(step, State::Initialize, cause),
            }
        }
    }

    /// A hold whose time has come is none.
    pub(super) fn expire_hold(&mut self, step: &mut Step<'_>) {
        if self.hold.take_if(|hold| hold.is_over(step.now)).is_some() {
            step.outputs.push_back(Output::KeepHolds);
        }
    }

    pub(super) fn keep_out(&mut self, step: &mut Step<'_>, hold: Hold) {
        self.enter(step, State::Held { until: hold.until }, hold.reason.cause());
    }
}
