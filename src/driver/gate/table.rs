//! An interface's tables: their sets of addresses, their two chains, and the messages that make and fill them.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{DefaultNla, Emitable as _, NLM_F_APPEND, NLM_F_CREATE, Nla as _};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, DevHookNumber, Hook, HookNumber, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementList, SetElementMessage,
    SetFlags, SetMessage, TableAttribute, TableFlags, TableMessage,
};

use super::Layer;
use super::rules::{self, Rule};
use crate::driver::nftables::Change;
use crate::types::Family;

/// Elements in one message, whose length is 16 bits: an IPv6 element takes 52 bytes.
pub(super) const ELEMENTS: usize = 1000;

/// Ours are named so and then as their interface.
const PREFIX: &str = "vipd-";

/// On the way in before everything else, so that no flow table picks a packet up first; on the way out after everything else,
/// so that what others rewrite is seen as it leaves.
const INGRESS_PRIORITY: i32 = -500;
const EGRESS_PRIORITY: i32 = 500;

/// The kernel's hooks of ARP.
const NF_ARP_IN: u32 = 0;
const NF_ARP_OUT: u32 = 1;

/// What nft calls `ipv4_addr` and `ipv6_addr`. The kernel does not look at it.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;

/// The addresses that the gate is about: elements without an end.
pub(super) const MANAGED: Kind = Kind::Managed;
/// Those of them that pass: elements that end.
pub(super) const OWNED: Kind = Kind::Owned;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Managed,
    Owned,
}

/// A set of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) kind: Kind,
    pub(super) family: Family,
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

/// For how long elements pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// For ever: of the managed set.
    Endless,
    /// In milliseconds; never 0, which the kernel takes for endless.
    Milliseconds(u64),
}

impl Set {
    pub(super) fn name(self) -> String {
        let name = match (self.kind, self.family) {
            (Kind::Managed, Family::V4) => "managed4",
            (Kind::Owned, Family::V4) => "owned4",
            (Kind::Managed, Family::V6) => "managed6",
            (Kind::Owned, Family::V6) => "owned6",
        };
        name.to_owned()
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
        for family in table.place.families() {
            let sets = [MANAGED, OWNED].map(|kind| Set { kind, family: *family });
            changes.extend(sets.into_iter().zip(&mut ids).map(|(set, id)| add_set(table, set, id)));
        }
        for direction in Direction::ALL {
            changes.push(add_chain(table, direction, interface));
            let rules = table.place.rules(direction);
            changes.extend(rules.into_iter().map(|rule| add_rule(table, direction, rule)));
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
    Change {
        family: table.place.family(),
        message: NfTablesMessage::NewTable(TableMessage { attributes }),
        flags: NLM_F_CREATE,
    }
}

/// Removes a table that exists.
pub(super) fn remove(table: &Table) -> Change {
    let attributes = vec![TableAttribute::Name(table.name.clone())];
    Change {
        family: table.place.family(),
        message: NfTablesMessage::DeleteTable(TableMessage { attributes }),
        flags: 0,
    }
}

/// The id has to be unique within a transaction.
pub(super) fn add_set(table: &Table, set: Set, id: u32) -> Change {
    let (key_type, key_len) = match set.family {
        Family::V4 => (TYPE_IPV4, 4),
        Family::V6 => (TYPE_IPV6, 16),
    };
    let flags = match set.kind {
        Kind::Managed => SetFlags::empty(),
        Kind::Owned => SetFlags::Timeout,
    };
    let attributes = vec![
        SetAttribute::Table(table.name.clone()),
        SetAttribute::Name(set.name()),
        SetAttribute::Flags(flags),
        SetAttribute::KeyType(key_type),
        SetAttribute::KeyLen(key_len),
        SetAttribute::Id(id),
    ];
    Change {
        family: table.place.family(),
        message: NfTablesMessage::NewSet(SetMessage { attributes }),
        flags: NLM_F_CREATE,
    }
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
    Change {
        family: table.place.family(),
        message: NfTablesMessage::NewChain(ChainMessage { attributes }),
        flags: NLM_F_CREATE,
    }
}

/// Which chain, as a question.
pub(super) fn chain(table: &Table, direction: Direction) -> NfTablesMessage {
    let attributes = vec![ChainAttribute::Table(table.name.clone()), ChainAttribute::Name(direction.chain())];
    NfTablesMessage::GetChain(ChainMessage { attributes })
}

fn add_rule(table: &Table, direction: Direction, rule: Rule) -> Change {
    let attributes = vec![
        RuleAttribute::Table(table.name.clone()),
        RuleAttribute::Chain(direction.chain()),
        RuleAttribute::Expressions(rule),
    ];
    Change {
        family: table.place.family(),
        message: NfTablesMessage::NewRule(RuleMessage { attributes }),
        flags: NLM_F_CREATE | NLM_F_APPEND,
    }
}

/// Adds the addresses of the set's family, or refreshes those that are there where the kernel can.
pub(super) fn add_elements(table: &Table, set: Set, addresses: &[IpAddr], term: Term) -> Vec<Change> {
    let element = |key: Vec<u8>| {
        let key = SetElementAttribute::Key(DataAttribute::Value(key));
        match term {
            Term::Endless => vec![key],
            // The first is the term of a new element, the second what is left of it: an old one is given both.
            Term::Milliseconds(term) => {
                vec![key, SetElementAttribute::Timeout(term), SetElementAttribute::Expiration(term)]
            }
        }
    };
    messages(table, set, addresses, element)
        .map(|message| Change {
            family: table.place.family(),
            message: NfTablesMessage::NewSetElement(message),
            flags: NLM_F_CREATE,
        })
        .collect()
}

/// Removes the addresses of the set's family. The kernel refuses where one is missing or has ended.
pub(super) fn remove_elements(table: &Table, set: Set, addresses: &[IpAddr]) -> Vec<Change> {
    messages(table, set, addresses, |key| vec![SetElementAttribute::Key(DataAttribute::Value(key))])
        .map(|message| Change {
            family: table.place.family(),
            message: NfTablesMessage::DeleteSetElement(message),
            flags: 0,
        })
        .collect()
}

/// All elements, as a question.
pub(super) fn elements(table: &Table, set: Set) -> NfTablesMessage {
    let attributes = vec![SetElementList::Table(table.name.clone()), SetElementList::Set(set.name())];
    NfTablesMessage::GetSetElement(SetElementMessage { attributes })
}

/// An address that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// For how long yet.
    pub left: Duration,
    /// How long it was when it was given.
    pub term: Duration,
}

/// The elements of an answer that have not ended.
pub(super) fn elements_of(answer: NfTablesMessage) -> Vec<Lease> {
    let NfTablesMessage::NewSetElement(SetElementMessage { attributes }) = answer else { return Vec::new() };
    let lists = attributes.into_iter().filter_map(|attribute| match attribute {
        SetElementList::Elements(elements) => Some(elements),
        _ => None,
    });
    lists.flatten().filter_map(|element| element_of(&element)).collect()
}

fn element_of(element: &ListAttribute<SetElementAttribute>) -> Option<Lease> {
    let ListAttribute::Element(attributes) = element else { return None };
    let address = attributes.iter().find_map(|attribute| match attribute {
        SetElementAttribute::Key(DataAttribute::Value(key)) => address_of(key),
        _ => None,
    })?;
    let left = attributes.iter().find_map(|attribute| match attribute {
        SetElementAttribute::Expiration(milliseconds) => Some(Duration::from_millis(*milliseconds)),
        _ => None,
    })?;
    let term = attributes.iter().find_map(|attribute| match attribute {
        SetElementAttribute::Timeout(milliseconds) => Some(Duration::from_millis(*milliseconds)),
        _ => None,
    });
    (!left.is_zero()).then_some(Lease { address, left, term: term.unwrap_or(left) })
}

fn messages(
    table: &Table,
    set: Set,
    addresses: &[IpAddr],
    element: impl Fn(Vec<u8>) -> Vec<SetElementAttribute>,
) -> impl Iterator<Item = SetElementMessage> {
    let keys: Vec<_> = addresses.iter().filter_map(|address| key(*address, set.family)).collect();
    let mut keys = keys.into_iter().peekable();
    std::iter::from_fn(move || {
        keys.peek()?;
        let elements = keys.by_ref().take(ELEMENTS).map(|key| ListAttribute::Element(element(key)));
        let attributes = vec![
            SetElementList::Table(table.name.clone()),
            SetElementList::Set(set.name()),
            SetElementList::Other(written(elements)),
        ];
        Some(SetElementMessage { attributes })
    })
}

/// As bytes at once. A message that is written with its elements asks each of them for its length once for each layer around it, which
/// was a quarter of what the renewal of a thousand costs.
fn written(elements: impl Iterator<Item = ListAttribute<SetElementAttribute>>) -> DefaultNla {
    let mut bytes = Vec::new();
    for element in elements {
        let start = bytes.len();
        bytes.resize(start + element.buffer_len(), 0);
        element.emit(&mut bytes[start..]);
    }
    DefaultNla::new(SetElementList::Elements(Vec::new()).kind(), bytes)
}

fn key(address: IpAddr, family: Family) -> Option<Vec<u8>> {
    match (address, family) {
        (IpAddr::V4(address), Family::V4) => Some(address.octets().to_vec()),
        (IpAddr::V6(address), Family::V6) => Some(address.octets().to_vec()),
        _ => None,
    }
}

fn address_of(key: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(key).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(key).map(IpAddr::from)).ok()
}
