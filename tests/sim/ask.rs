//! What a scenario asks of a world.

use std::time::Duration;

use vipd::engine::{Cause, EventKind, StateName, VipId};

use super::clock::{Nanos, nanos};
use super::network::Port;
use super::world::{Sent, World};

impl World {
    /// Runs, and fails the test where something happens that must not.
    pub fn run(&mut self, time: Duration) {
        self.run_unchecked(nanos(time));
        if let Some(violation) = &self.watch.violation {
            panic!("{violation}");
        }
    }

    /// The host that answers for the first vip, where exactly one does.
    pub fn owner(&self) -> Option<Port> {
        self.owner_of(0)
    }

    pub fn owner_of(&self, vip: usize) -> Option<Port> {
        let mut owners = (0..self.hosts.len()).filter(|host| self.hosts[*host].answers(vip, self.now, self.gate));
        let owner = owners.next();
        owner.filter(|_| owners.next().is_none())
    }

    pub fn state(&self, host: Port) -> StateName {
        self.hosts[host].agent[0].state
    }

    /// Why a host's first vip is in its state.
    pub fn cause(&self, host: Port) -> Cause {
        let engine = self.hosts[host].engine.as_ref().expect("an agent that is asked runs");
        engine.vip(VipId(0)).expect("each host has a vip").cause().clone()
    }

    /// What happened on a host since a moment, to any vip.
    pub fn told(&self, host: Port, since: Nanos) -> Vec<&EventKind> {
        let on_host = self.events.iter().filter(|(at, on, _)| *on == host && *at >= since);
        on_host.map(|(_, _, event)| &event.kind).collect()
    }

    /// The adverts that a host sent since a moment.
    pub fn sent_by(&self, host: Port, since: Nanos) -> Vec<Sent> {
        self.sent.iter().filter(|sent| sent.by == host && sent.at >= since).copied().collect()
    }

    /// How often a host announced its first vip since a moment.
    pub fn announcements(&self, host: Port, since: Nanos) -> usize {
        self.announced.iter().filter(|(at, by, vip)| *by == host && *at >= since && *vip == 0).count()
    }
}
