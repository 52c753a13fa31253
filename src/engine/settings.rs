//! What the engine is told to keep: already checked, nothing left to interpret.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use super::fence::FenceSettings;
use super::group::GroupSettings;
use super::health::CheckSettings;
use super::hook::HookSettings;
use super::quorum::QuorumSettings;
use super::spread::SpreadPlace;
use crate::types::{AdvertInterval, Family, MacMode, Password, Priority, Routing, Version, VirtualAddress, Vrid};
use crate::wire::advert::ChecksumForm;

/// A node and the virtual IPs it takes part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name under which this node is shown.
    pub node: String,
    /// In the order of the configuration file, names unique. With a quorum the VRIDs are unique too.
    pub vips: Vec<VipSettings>,
    /// Which of them move together.
    pub groups: Vec<GroupSettings>,
    /// Who votes on the owners; `None`: nobody is asked.
    pub quorum: Option<QuorumSettings>,
    /// `None`: there is no second path.
    pub heartbeat: Option<HeartbeatSettings>,
    /// How silent owners are fenced.
    pub fence: FenceSettings,
}

impl Settings {
    /// Of a node that has nothing beside its vips.
    pub fn of(node: &str, vips: Vec<VipSettings>) -> Self {
        Self {
            node: node.into(),
            vips,
            groups: Vec::new(),
            quorum: None,
            heartbeat: None,
            fence: FenceSettings::default(),
        }
    }
}

/// How a node speaks on its second path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatSettings {
    /// At least this often, and at least twice an advert interval. 10 ms to 10 s.
    pub interval: Duration,
}

/// One virtual IP: up to two virtual routers (one a family) that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipSettings {
    /// Unique within the node.
    pub name: String,
    /// The interface that the adverts use, by name: it may be absent, and may come and go.
    pub interface: String,
    /// Unique on the interface within a family.
    pub vrid: Vrid,
    /// 1..=255.
    pub priority: Priority,
    /// Version 3: 10 ms to 40.95 s. Version 2: whole seconds.
    pub interval: AdvertInterval,
    /// The version of both virtual routers; [`Version::V2`] only without IPv6 addresses.
    pub version: Version,
    /// Whether a healthy owner of lower priority is replaced.
    pub preempt: Preempt,
    /// Unicast peers of either family; empty: multicast.
    pub peers: Vec<IpAddr>,
    /// Whether adverts must arrive with TTL or hop limit 255, but those of IPv6 unicast peers with link-local addresses. False
    /// only by configuration, for routed unicast peers.
    pub check_hop_limit: bool,
    /// Which MAC address the addresses answer with.
    pub mac: MacMode,
    /// The form of the IPv4 checksum of version 3.
    pub checksum: ChecksumPolicy,
    /// Version 2 only.
    pub password: Option<Password>,
    /// When the neighbours are told again. Most vips share it.
    pub announce: Arc<AnnounceSettings>,
    /// What an owner does about another host that keeps claiming its addresses.
    pub on_conflict: OnConflict,
    /// What a backup does about an owner that is not heard, and whose addresses still answer.
    pub on_silent_owner: OnSilentOwner,
    /// What it makes of its health. No two of one name.
    pub checks: Vec<CheckSettings>,
    /// What is run when something becomes of it. No two of one moment.
    pub hooks: Vec<HookSettings>,
    /// What answers as long as this node is connected.
    pub references: Vec<Reference>,
    /// What a node does that none of its references answers to.
    pub prefer: Prefer,
    /// At least one. An IPv6 virtual router's first is link-local (RFC 9568 §5.2.9).
    pub addresses: Vec<VirtualAddress>,
    /// Routes and rules that move with them, each once.
    pub routing: Vec<Routing>,
    /// Where the priority is from, if a spread gave it. Nothing is decided by it here.
    pub spread: Option<Box<SpreadPlace>>,
}

impl VipSettings {
    /// The addresses of one family, in the order of the adverts.
    pub fn addresses_of(&self, family: Family) -> impl Iterator<Item = &VirtualAddress> {
        self.addresses.iter().filter(move |address| address.family() == family)
    }
}

/// Whether a node replaces a healthy owner of lower priority (RFC 9568 §6.1, `Preempt_Mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preempt {
    /// Never.
    Off,
    /// As soon as the owner's silence would have been noticed.
    On,
    /// Once a lower-priority owner has been heard for so long.
    After(Duration),
}

/// Which IPv4 checksum form version 3 sends. Both are accepted always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumPolicy {
    /// RFC 9568 until a peer is heard that uses the other form, then the peer's.
    Auto,
    /// Always this one.
    Pinned(ChecksumForm),
}

/// What an owner does about another host that keeps claiming its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Goes on, and tells the neighbours again.
    #[default]
    Assert,
    /// That too, and gives up once the conflict persists.
    Demote,
}

/// What a backup does about an owner that is not heard, and whose addresses still answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnSilentOwner {
    /// Waits while they do, for at most [`LONGEST_WAIT`](super::silence::LONGEST_WAIT).
    #[default]
    Wait,
    /// Does not even ask, and takes the addresses.
    Take,
}

/// Something that answers as long as this node is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// The next hop of the interface's default route, IPv4's where it has one.
    Gateway,
    /// A host.
    Address(IpAddr),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.pad("gateway"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What a node does that none of its references answers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Nothing else.
    #[default]
    Available,
    /// Gives its addresses up, and claims none; see [`isolation`](super::isolation).
    Safe,
}

/// When the neighbours are told again who owns the addresses, counted from the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceSettings {
    /// Ascending.
    pub repeat: Vec<Duration>,
    /// And then for ever with this period; `None`: not.
    pub refresh: Option<Duration>,
}
