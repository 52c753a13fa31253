//! A restart: the agent of an owner ends, and its successor on this node goes on with the addresses and the lease.

use core::time::Duration;

use super::announce::AnnouncePlan;
use super::election::PATIENCE;
use super::lease::Stretch;
use super::output::Cause;
use super::owner::Ownership;
use super::restore::Restorations;
use super::time::Instant;
use super::vip::{State, Step, Vip};
use crate::types::AdvertInterval;

/// What an owner that is restarted promises at least: its successor has three of it to begin, on a slow or busy host as well.
const RESTART_INTERVAL: AdvertInterval = AdvertInterval::from_centiseconds(100).expect("1 s is an interval");

/// The lease on the addresses that an earlier agent left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inheritance {
    until: Instant,
    term: Duration,
}

/// What the agent leaves that ends.
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

/// What the agent takes up that begins.
impl Vip {
    pub(super) fn on_inherited(&mut self, until: Instant, term: Duration) {
        self.inherited = Some(Inheritance { until, term });
        self.health.presume();
    }

    /// Goes on with what an earlier agent left, if its lease still runs; else that is taken away.
    pub(super) fn take_up_inheritance(&mut self, step: &mut Step<'_>) -> bool {
        let Some(Inheritance { until, term }) = self.inherited.take() else { return false };
        let runs = step.now < until;
        if runs {
            self.adopt(step, until, term);
        } else {
            self.withdraw(step);
        }
        runs
    }

    /// Goes on as the owner that an earlier agent of this node was. Its lease runs, so that nobody else can have claimed the
    /// addresses; they are there, and the neighbours know. A peer may wait by the earlier agent's interval, which its lease tells.
    ///
    /// The grants that its lease rests on were given to that agent; this one asks for its own, and has until then.
    fn adopt(&mut self, step: &mut Step<'_>, until: Instant, term: Duration) {
        self.count_references_from(step.now);
        let stretch = Stretch::inherited(step.now, term, self.settings.interval);
        let interval = stretch.map_or(self.settings.interval, Stretch::pace);
        self.transmit(step, self.priority());
        self.ask_to_stay(step);
        let lease = match self.quorum {
            None => self.renew_lease_for(step, interval),
            Some(_) => self.keep_lease(step, interval, until),
        };
        let known = AnnouncePlan::known(step.now, &self.settings.announce);
        let ownership = Ownership::begun(step.now, lease, interval, Restorations::default(), Some(known));
        let ownership = ownership.stretched(stretch);
        self.enter(step, State::Active(ownership), Cause::Adopted);
    }
}
