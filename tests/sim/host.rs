//! A host: the agent's engine, and the kernel under it, which outlives the agent.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vipd::engine::seals::{Sealing, Seals};
use vipd::engine::{AddressSet, Cause, Engine, Input, Instant, LinkId, LinkState, Settings, StateName, VipSettings};
use vipd::types::{Family, Version, VirtualAddress};

use super::clock::{Clock, MICROSECOND, Nanos};
use super::network::Port;

/// What the agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Running,
    /// Stopped by a signal or starved: what happens to it waits.
    Frozen,
    /// Gone, without a word.
    Crashed,
    /// Asked to stop; its engine is still there to answer for the last effects.
    Stopped,
}

/// What the host under the agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    On,
    /// All of it stands still: its kernel answers nobody, and the lease runs on.
    Paused,
    Off,
}

/// What the interface is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Up,
    Down,
    Missing,
}

/// Something slow that the agent asked the kernel for. They are done one after another.
#[derive(Clone, Debug)]
pub enum Effect {
    Install(AddressSet),
    Prepare(AddressSet),
    Remove(AddressSet),
}

/// What is configured on a host, and what it is like.
#[derive(Clone, Debug)]
pub struct HostSpec {
    pub settings: Settings,
    pub clock: Clock,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// How long the kernel takes over an effect.
    pub effect_time: (Nanos, Nanos),
    /// How late the agent is called at its deadlines.
    pub lateness: (Nanos, Nanos),
}

/// The kernel's side of a vip.
#[derive(Clone, Debug, Default)]
pub struct KernelVip {
    pub installed: BTreeSet<IpAddr>,
    /// On the host's clock. Meaningless without a gate.
    pub lease_until: Option<Instant>,
    /// How long the lease was when it was last renewed.
    pub term: Duration,
    /// Whether the watch for its end is on the world's agenda.
    pub lapse_watched: bool,
}

/// The agent's side of a vip, as its events told.
#[derive(Clone, Debug)]
pub struct AgentVip {
    pub state: StateName,
    /// When and why it claimed last.
    pub claimed: Option<(Nanos, Cause)>,
}

#[derive(Debug)]
pub struct Host {
    pub spec: HostSpec,
    pub engine: Option<Engine>,
    pub life: Life,
    /// When the agent last froze, thawed, died or started.
    pub life_changed_at: Nanos,
    pub wire: Wire,
    /// Of several interfaces, those that are down on their own.
    pub down: BTreeSet<LinkId>,
    pub kernel: Vec<KernelVip>,
    pub agent: Vec<AgentVip>,
    /// What is configured for each vip, by its id: reloads change the spec's order.
    pub configured: Vec<VipSettings>,
    pub power: Power,
    /// What its kernel was asked while it stood still: by whom, for which vip, for what.
    pub unanswered: Vec<(Port, usize, Vec<IpAddr>)>,
    /// What waits for a frozen agent.
    pub inbox: VecDeque<Input>,
    pub effects: VecDeque<Effect>,
    pub effect_under_way: bool,
    /// So many installations will be refused, after the first address.
    pub refusals: u32,
    /// Its segment's switch takes no IPv4 adverts to it.
    pub deaf_to_ipv4: bool,
    /// Tells an agent's events from those of the one before.
    pub incarnation: u32,
    /// By the host that sent it: the youngest agent of which a heartbeat was heard. An older one's session is dead.
    pub heard_from: std::collections::BTreeMap<Port, u32>,
    /// What its file says about seals on adverts, where it has a key.
    pub sealing: Option<Sealing>,
    /// The agent's, in this life.
    pub seals: Option<Seals>,
    /// For when the agent's deadline is on the world's agenda.
    pub wake_at: Option<Nanos>,
}

impl Host {
    pub fn new(spec: HostSpec) -> Self {
        let vips = spec.settings.vips.len();
        let configured = spec.settings.vips.clone();
        Self {
            spec,
            engine: None,
            life: Life::Crashed,
            life_changed_at: 0,
            wire: Wire::Up,
            down: BTreeSet::new(),
            kernel: vec![KernelVip::default(); vips],
            agent: vec![AgentVip { state: StateName::Initialize, claimed: None }; vips],
            configured,
            power: Power::On,
            unanswered: Vec::new(),
            inbox: VecDeque::new(),
            effects: VecDeque::new(),
            effect_under_way: false,
            refusals: 0,
            deaf_to_ipv4: false,
            incarnation: 0,
            heard_from: std::collections::BTreeMap::new(),
            sealing: None,
            seals: None,
            wake_at: None,
        }
    }

    pub fn local(&self, world: Nanos) -> Instant {
        self.spec.clock.shows(world)
    }

    pub fn link_state(&self) -> LinkState {
        match self.wire {
            Wire::Missing => LinkState::Missing,
            Wire::Down => LinkState::Down,
            Wire::Up => LinkState::Up { ipv4: self.spec.ipv4, ipv6: self.spec.ipv6 },
        }
    }

    /// The interface of a vip: they are numbered as they are met in the settings.
    pub fn link_of(&self, vip: usize) -> LinkId {
        let mut met: Vec<&str> = Vec::new();
        for settings in self.configured.iter().take(vip + 1) {
            if !met.contains(&settings.interface.as_str()) {
                met.push(&settings.interface);
            }
        }
        let place = met.iter().position(|name| *name == self.configured[vip].interface).expect("it was met");
        LinkId(u16::try_from(place).expect("few"))
    }

    /// Whether an interface carries packets.
    pub fn carries(&self, link: LinkId) -> bool {
        self.wire == Wire::Up && !self.down.contains(&link)
    }

    /// Whether a vip's interface does. Which that is takes long to find with a thousand vips.
    fn carries_vip(&self, vip: usize) -> bool {
        self.wire == Wire::Up && (self.down.is_empty() || self.carries(self.link_of(vip)))
    }

    pub fn source(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.spec.ipv4.map(IpAddr::V4),
            Family::V6 => self.spec.ipv6.map(IpAddr::V6),
        }
    }

    /// Whether the agent can do nothing about what its kernel answers.
    pub fn is_dead(&self) -> bool {
        matches!(self.life, Life::Frozen | Life::Crashed)
    }

    /// Whether it answers for any address of a vip.
    pub fn answers(&self, vip: usize, now: Nanos, gate: bool) -> bool {
        let kernel = &self.kernel[vip];
        let lease_runs = kernel.lease_until.is_some_and(|until| self.local(now) < until);
        self.carries_vip(vip) && !kernel.installed.is_empty() && (lease_runs || !gate)
    }

    pub fn addresses(&self, vip: usize) -> &[VirtualAddress] {
        &self.configured[vip].addresses
    }

    pub fn interval(&self, vip: usize) -> Nanos {
        super::clock::nanos(self.configured[vip].interval.duration())
    }

    /// How long it waits for an owner of this interval, at most.
    pub fn active_down(&self, vip: usize, interval: Nanos) -> Nanos {
        let settings = &self.configured[vip];
        let unit = match settings.version {
            Version::V2 => super::clock::SECOND,
            Version::V3 => interval,
        };
        3 * interval + unit * (256 - u64::from(settings.priority.0)) / 256
    }
}

/// A kernel that is quick about it.
pub const QUICK: (Nanos, Nanos) = (20 * MICROSECOND, 80 * MICROSECOND);
