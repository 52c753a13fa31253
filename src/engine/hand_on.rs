//! A restart: the agent of an owner ends, and its successor on this node goes on with the addresses and the lease.

use super::election::PATIENCE;
use super::output::Cause;
use super::time::Instant;
use super::vip::{State, Step, Vip};
use crate::types::AdvertInterval;

/// What an owner that is restarted promises at least: its successor has three of it to begin, on a slow or busy host as well.
const RESTART_INTERVAL: AdvertInterval = AdvertInterval::from_centiseconds(100).expect("1 s is an interval");

impl Vip {
    /// An owner promises longer intervals from now on, as after a reload: its peers wait for three of them, and when none can still wait
    /// by the shorter one, so long is its lease. A starting agent may need more than the lease of a short interval.
    pub(super) fn on_prepare_hand_on(&mut self, step: &mut Step<'_>) {
        self.depose_if_late(step);
        let is_owner = match &self.state {
            State::Active(_) => true,
            State::Initialize | State::Backup(_) | State::Claiming { .. } | State::Held { .. } => false,
        };
        // Voters refuse what is longer than their longest grant, which is the same for all.
        let lease = RESTART_INTERVAL.duration() * PATIENCE;
        let is_granted = self.quorum.is_none() || step.voter.as_ref().is_some_and(|voter| lease <= voter.longest());
        if is_owner && is_granted && self.settings.interval < RESTART_INTERVAL {
            let before = self.settings.clone();
            self.settings.interval = RESTART_INTERVAL;
            self.owner_on_settings(step, &before);
        }
    }

    /// When it has the longer lease, if it is getting one.
    pub(super) fn may_hand_on_at(&self) -> Option<Instant> {
        match &self.state {
            // Voters grant the longer lease when they are asked for it, which the next advert does.
            State::Active(ownership) if self.quorum.is_some() => {
                ownership.lengthens_at().map(|at| at + self.pace().duration() * 2)
            }
            State::Active(ownership) => ownership.lengthens_at(),
            State::Initialize | State::Backup(_) | State::Claiming { .. } | State::Held { .. } => None,
        }
    }

    /// An owner sends one more advert, so that its successor on this node has the whole of a lease to begin.
    pub(super) fn on_hand_on(&mut self, step: &mut Step<'_>) {
        self.depose_if_late(step);
        match &self.state {
            State::Active(_) => {
                self.advertise(step);
                self.enter(step, State::Initialize, Cause::HandedOn);
            }
            State::Initialize | State::Backup(_) | State::Claiming { .. } | State::Held { .. } => {
                self.leave(step, Cause::Shutdown)
            }
        }
    }
}
