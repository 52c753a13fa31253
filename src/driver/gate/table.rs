//! An interface's tables: their sets, their chains, and the messages that make them.
//!
//! Everything in them is what nft can word as well: whoever lists the rules of a host sees these among them.

use std::net::IpAddr;
use std::num::NonZeroU32;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DevHookNumber, Hook, HookNumber, InetHookNumber, NfTablesMessage, RuleAttribute,
    RuleMessage, SetAttribute, SetFlags, SetMessage, TableAttribute, TableFlags, TableMessage,
};

use super::Layer;
use super::rules::{self, Rule};
use crate::driver::nftables::Change;
use crate::types::Family;

/// Ours are named so and then as their interface.
const PREFIX: &str = "vipd-";

/// On the way in before everything else, so that no flow table picks a packet up first; on the way out after everything else,
/// so that what others rewrite is seen as it leaves.
const INGRESS_PRIORITY: i32 = -500;
const EGRESS_PRIORITY: i32 = 500;

/// The kernel's hooks of ARP.
const NF_ARP_IN: u32 = 0;
const NF_ARP_OUT: u32 = 1;

/// What nft calls `ipv4_addr`, `ipv6_addr` and `mark`. The kernel does not look at it.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_MARK: u32 = 19;

/// Of a lease's number.
const LEASE_LEN: u32 = 4;

/// What nft calls `verdict`.
const TYPE_VERDICT: u32 = 0xffff_ff00;

/// The chains of leases are named so and then by their numbers.
pub(super) const LEASE_PREFIX: &str = "lease-";

/// Where addresses go that have no lease.
pub(super) const CLOSED: &str = "closed";

/// A set of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// The addresses that the gate is about.
    Managed(Family),
    /// A map of the same, each with the chain of its lease.
    Leases(Family),
    /// The leases that run: elements that end.
    Owned,
}

/// A hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

/// A table of an interface's gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) place: Place,
}

/// Where a table's rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the interface.
    Device,
    /// In the host's IP, for all interfaces.
    Ip,
    /// In the host's ARP, for all interfaces.
    Arp,
}

impl Layer {
    /// The tables of this layer. The first knows the addresses of both families.
    pub(super) fn places(self) -> &'static [Place] {
        match self {
            Self::Netdev => &[Place::Device],
            Self::InetArp => &[Place::Ip, Place::Arp],
        }
    }
}

impl Place {
    /// As nftables calls it.
    pub(super) const fn family(self) -> NetfilterProtoFamily {
        match self {
            Self::Device => NetfilterProtoFamily::NetDev,
            Self::Ip => NetfilterProtoFamily::Inet,
            Self::Arp => NetfilterProtoFamily::ARP,
        }
    }

    /// The families of addresses that it has sets of.
    pub(super) const fn families(self) -> &'static [Family] {
        match self {
            Self::Device | Self::Ip => &Family::ALL,
            Self::Arp => &[Family::V4],
        }
    }

    const fn hook(self, direction: Direction) -> HookNumber {
        match (self, direction) {
            (Self::Device, Direction::Ingress) => HookNumber::Dev(DevHookNumber::Ingress),
            (Self::Device, Direction::Egress) => HookNumber::Dev(DevHookNumber::Egress),
            (Self::Ip, Direction::Ingress) => HookNumber::Inet(InetHookNumber::LocalIn),
            (Self::Ip, Direction::Egress) => HookNumber::Inet(InetHookNumber::LocalOut),
            (Self::Arp, Direction::Ingress) => HookNumber::Other(NF_ARP_IN),
            (Self::Arp, Direction::Egress) => HookNumber::Other(NF_ARP_OUT),
        }
    }

    fn rules(self, direction: Direction) -> Vec<Rule> {
        match (self, direction) {
            (Self::Device, Direction::Ingress) => rules::ingress(),
            (Self::Device, Direction::Egress) => rules::egress(),
            (Self::Ip, Direction::Ingress) => rules::ip_input(),
            (Self::Ip, Direction::Egress) => rules::ip_output(),
            (Self::Arp, Direction::Ingress) => rules::arp_input(),
            (Self::Arp, Direction::Egress) => rules::arp_output(),
        }
    }
}

/// Names a lease: the addresses that have it are opened together, and end together. Never 0, which is no lease's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseId(pub NonZeroU32);

/// An address that passes only while its lease runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Managed {
    /// Which.
    pub address: IpAddr,
    /// `None`: it does not pass as long as it is managed.
    pub lease: Option<LeaseId>,
}

impl Set {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Managed(Family::V4) => "managed4",
            Self::Managed(Family::V6) => "managed6",
            Self::Leases(Family::V4) => "leases4",
            Self::Leases(Family::V6) => "leases6",
            Self::Owned => "owned",
        }
    }
}

impl LeaseId {
    pub(super) fn chain(self) -> String {
        format!("{LEASE_PREFIX}{}", self.0)
    }
}

impl Direction {
    pub(super) const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    fn chain(self) -> String {
        let name = match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        };
        name.to_owned()
    }
}

/// An interface's tables in a layer.
pub(super) fn tables_of(interface: &str, layer: Layer) -> Vec<Table> {
    layer.places().iter().map(|place| Table { name: format!("{PREFIX}{interface}"), place: *place }).collect()
}

/// The interface whose table it is; `None`: the table is somebody else's.
pub(super) fn interface_of(table: &str) -> Option<&str> {
    table.strip_prefix(PREFIX)
}

/// Makes tables with their rules and empty sets, in the place of those of their names where there are such.
pub(super) fn replace(tables: &[Table], interface: &str, persistent: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut ids = 1..;
    for table in tables {
        changes.extend(clear(table));
        changes.push(make(table, persistent));
        let of_family = |family: &Family| [Set::Managed(*family), Set::Leases(*family)];
        let sets = table.place.families().iter().flat_map(of_family).chain([Set::Owned]);
        changes.extend(sets.zip(&mut ids).map(|(set, id)| add_set(table, set, id)));
        changes.extend([make_chain(table, CLOSED.to_owned()), add_rule(table, CLOSED.to_owned(), rules::closed())]);
        for direction in Direction::ALL {
            changes.push(add_chain(table, direction, interface));
            let rules = table.place.rules(direction);
            changes.extend(rules.into_iter().map(|rule| add_rule(table, direction.chain(), rule)));
        }
    }
    changes
}

/// Removes a table, which need not exist.
pub(super) fn clear(table: &Table) -> Vec<Change> {
    vec![make(table, false), remove(table)]
}

/// Makes a table unless there is one. A persistent one is that of this socket: nobody else can change it, a flush of the
/// whole rule set leaves it alone, and it outlives the socket.
pub(super) fn make(table: &Table, persistent: bool) -> Change {
    let mut attributes = vec![TableAttribute::Name(table.name.clone())];
    if persistent {
        attributes.push(TableAttribute::Flags(TableFlags::Owner | TableFlags::Persisent));
    }
    change(table, NfTablesMessage::NewTable(TableMessage { attributes }), NLM_F_CREATE)
}

/// Removes a table that exists.
pub(super) fn remove(table: &Table) -> Change {
    let attributes = vec![TableAttribute::Name(table.name.clone())];
    change(table, NfTablesMessage::DeleteTable(TableMessage { attributes }), 0)
}

/// The id has to be unique within a transaction.
pub(super) fn add_set(table: &Table, set: Set, id: u32) -> Change {
    let address = |family| match family {
        Family::V4 => (TYPE_IPV4, 4),
        Family::V6 => (TYPE_IPV6, 16),
    };
    let (flags, (key_type, key_len)) = match set {
        Set::Managed(family) => (SetFlags::empty(), address(family)),
        Set::Leases(family) => (SetFlags::Map, address(family)),
        Set::Owned => (SetFlags::Timeout, (TYPE_MARK, LEASE_LEN)),
    };
    let mut attributes = vec![
        SetAttribute::Table(table.name.clone()),
        SetAttribute::Name(set.name().to_owned()),
        SetAttribute::Flags(flags),
        SetAttribute::KeyType(key_type),
        SetAttribute::KeyLen(key_len),
        SetAttribute::Id(id),
    ];
    match set {
        Set::Managed(_) => {}
        Set::Leases(_) => attributes.push(SetAttribute::DataType(TYPE_VERDICT)),
        Set::Owned => attributes.push(SetAttribute::UserData(host_byte_order())),
    }
    change(table, NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE)
}

/// What nft keeps with a set whose keys are numbers of this machine, for itself to show them (`NFTNL_UDATA_SET_KEYBYTEORDER`).
fn host_byte_order() -> Vec<u8> {
    const KEY_BYTE_ORDER: u8 = 0;
    const HOST: u32 = 1;
    let value = HOST.to_ne_bytes();
    [[KEY_BYTE_ORDER, 4].as_slice(), &value].concat()
}

/// A chain that lets pass what no rule drops.
pub(super) fn add_chain(table: &Table, direction: Direction, interface: &str) -> Change {
    let priority = match direction {
        Direction::Ingress => INGRESS_PRIORITY,
        Direction::Egress => EGRESS_PRIORITY,
    };
    let mut hook = vec![Hook::Number(table.place.hook(direction)), Hook::Priority(priority.cast_unsigned())];
    if table.place == Place::Device {
        hook.push(Hook::NetDeviceName(interface.to_owned()));
    }
    let attributes = vec![
        ChainAttribute::Table(table.name.clone()),
        ChainAttribute::Name(direction.chain()),
        ChainAttribute::Hook(hook),
        ChainAttribute::Type("filter".to_owned()),
    ];
    change(table, NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

/// Makes the chain that whatever is about an address of this lease is asked in. There must be none yet: its rule would be in it twice.
pub(super) fn add_lease(table: &Table, lease: LeaseId) -> [Change; 2] {
    let LeaseId(number) = lease;
    [make_chain(table, lease.chain()), add_rule(table, lease.chain(), rules::drop_unless_running(number.get()))]
}

/// Removes that chain, to which no address may lead any more.
pub(super) fn remove_lease(table: &Table, lease: LeaseId) -> Change {
    let attributes = vec![ChainAttribute::Table(table.name.clone()), ChainAttribute::Name(lease.chain())];
    change(table, NfTablesMessage::DeleteChain(ChainMessage { attributes }), 0)
}

/// One without a hook: others lead to it.
fn make_chain(table: &Table, name: String) -> Change {
    let attributes = vec![ChainAttribute::Table(table.name.clone()), ChainAttribute::Name(name)];
    change(table, NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

/// Which chain, as a question.
pub(super) fn chain(table: &Table, direction: Direction) -> NfTablesMessage {
    let attributes = vec![ChainAttribute::Table(table.name.clone()), ChainAttribute::Name(direction.chain())];
    NfTablesMessage::GetChain(ChainMessage { attributes })
}

fn add_rule(table: &Table, chain: String, rule: Rule) -> Change {
    let attributes =
        vec![RuleAttribute::Table(table.name.clone()), RuleAttribute::Chain(chain), RuleAttribute::Expressions(rule)];
    change(table, NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_CREATE | NLM_F_APPEND)
}

fn change(table: &Table, message: NfTablesMessage, flags: u16) -> Change {
    Change::new(table.place.family(), &message, flags)
}
