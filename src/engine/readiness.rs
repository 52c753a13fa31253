//! Whether a vip takes part: its interface, its checks and its group are ready for it.

use super::input::LinkState;
use super::output::Cause;
use super::vip::{State, Step, Vip};

impl Vip {
    pub(super) fn on_link(&mut self, step: &mut Step<'_>, link_state: LinkState) {
        self.depose_if_late(step);
        let was_ready = self.unready().is_none();
        self.link_state = link_state;
        for router in &mut self.routers {
            router.set_source(link_state.source(router.family()));
        }
        self.follow_readiness(step, was_ready);
    }

    /// Takes part, or stops to, as the interface allows now.
    pub(super) fn follow_readiness(&mut self, step: &mut Step<'_>, was_ready: bool) {
        match (self.unready(), &self.state) {
            (Some(cause), State::Initialize) => self.cause = cause,
            // A check is no reason to forget what else it keeps out for, nor is another member: it is asked again at the end of that.
            (
                Some(Cause::CheckFails { .. } | Cause::CheckPending { .. } | Cause::GroupFault { .. }),
                State::Held { .. },
            ) => {}
            // What it held itself out for, it held against an interface that is no more as it was.
            (Some(cause), State::Backup(_) | State::Held { .. }) => self.enter(step, State::Initialize, cause),
            (Some(cause), State::Claiming { .. } | State::Active(_)) => {
                self.give_up(step);
                self.enter(step, State::Initialize, cause);
            }
            (None, State::Initialize) if !was_ready => {
                let by_checks = matches!(self.cause, Cause::CheckFails { .. } | Cause::CheckPending { .. });
                let by_group = matches!(self.cause, Cause::GroupFault { .. });
                let cause = match (by_checks, by_group) {
                    (true, _) => Cause::ChecksPass,
                    (false, true) => Cause::GroupReady,
                    (false, false) => Cause::LinkReady,
                };
                self.start(step, cause);
            }
            (
                None,
                State::Initialize | State::Backup(_) | State::Claiming { .. } | State::Active(_) | State::Held { .. },
            ) => {}
        }
    }

    /// Why the vip takes no part.
    pub(super) fn unready(&self) -> Option<Cause> {
        self.own_unreadiness().or_else(|| self.group_fault())
    }

    /// The same without what a group makes of it.
    pub(super) fn own_unreadiness(&self) -> Option<Cause> {
        self.link_fault().or_else(|| self.health.unready())
    }

    /// Whether the interface is ready, whatever the checks say.
    pub(super) fn has_link(&self) -> bool {
        self.link_fault().is_none()
    }

    fn link_fault(&self) -> Option<Cause> {
        match self.link_state {
            LinkState::Missing => Some(Cause::LinkMissing),
            LinkState::Down => Some(Cause::LinkDown),
            LinkState::Up { .. } => self
                .routers
                .iter()
                .find(|router| router.source().is_none())
                .map(|router| Cause::NoSourceAddress(router.family())),
        }
    }
}
