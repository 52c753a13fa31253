//! An interface's table: its sets of addresses, its two chains, and the messages that make and fill them.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, DevHookNumber, Hook, HookNumber, ListAttribute, NfTablesMessage,
    RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementList, SetElementMessage, SetFlags,
    SetMessage, TableAttribute, TableFlags, TableMessage,
};

use super::rules::{self, Rule};
use crate::driver::nftables::Change;
use crate::types::Family;

/// Elements in one message, whose length is 16 bits: an IPv6 element takes 52 bytes.
pub(super) const ELEMENTS: usize = 1000;

/// Ours are named so and then as their interface.
const PREFIX: &str = "vipd-";

/// On ingress before everything else, so that no flow table picks a packet up first; on egress after everything else,
/// so that what others rewrite is seen as it leaves.
const INGRESS_PRIORITY: i32 = -500;
const EGRESS_PRIORITY: i32 = 500;

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

/// A hook of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
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
    pub(super) const ALL: [Self; 4] = [
        Self { kind: MANAGED, family: Family::V4 },
        Self { kind: OWNED, family: Family::V4 },
        Self { kind: MANAGED, family: Family::V6 },
        Self { kind: OWNED, family: Family::V6 },
    ];

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
    fn chain(self) -> String {
        let name = match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        };
        name.to_owned()
    }
}

/// The name of an interface's table.
pub(super) fn name_of(interface: &str) -> String {
    format!("{PREFIX}{interface}")
}

/// The interface whose table it is; `None`: the table is somebody else's.
pub(super) fn interface_of(table: &str) -> Option<&str> {
    table.strip_prefix(PREFIX)
}

/// Makes a table with its rules and empty sets, in the place of one of that name where there is one.
pub(super) fn replace(table: &str, interface: &str, persistent: bool) -> Vec<Change> {
    let mut changes = clear(table);
    changes.push(make(table, persistent));
    changes.extend((1..).zip(Set::ALL).map(|(id, set)| add_set(table, set, id)));
    for direction in [Direction::Ingress, Direction::Egress] {
        changes.push(add_chain(table, direction, interface));
        let rules = match direction {
            Direction::Ingress => rules::ingress(),
            Direction::Egress => rules::egress(),
        };
        changes.extend(rules.into_iter().map(|rule| add_rule(table, direction, rule)));
    }
    changes
}

/// Removes a table, which need not exist.
pub(super) fn clear(table: &str) -> Vec<Change> {
    vec![make(table, false), remove(table)]
}

/// Makes a table unless there is one. A persistent one is that of this socket: nobody else can change it, a flush of the
/// whole rule set leaves it alone, and it outlives the socket.
pub(super) fn make(table: &str, persistent: bool) -> Change {
    let mut attributes = vec![TableAttribute::Name(table.to_owned())];
    if persistent {
        attributes.push(TableAttribute::Flags(TableFlags::Owner | TableFlags::Persisent));
    }
    Change { message: NfTablesMessage::NewTable(TableMessage { attributes }), flags: NLM_F_CREATE }
}

/// Removes a table that exists.
pub(super) fn remove(table: &str) -> Change {
    let attributes = vec![TableAttribute::Name(table.to_owned())];
    Change { message: NfTablesMessage::DeleteTable(TableMessage { attributes }), flags: 0 }
}

/// The id has to be unique within a transaction.
pub(super) fn add_set(table: &str, set: Set, id: u32) -> Change {
    let (key_type, key_len) = match set.family {
        Family::V4 => (TYPE_IPV4, 4),
        Family::V6 => (TYPE_IPV6, 16),
    };
    let flags = match set.kind {
        Kind::Managed => SetFlags::empty(),
        Kind::Owned => SetFlags::Timeout,
    };
    let attributes = vec![
        SetAttribute::Table(table.to_owned()),
        SetAttribute::Name(set.name()),
        SetAttribute::Flags(flags),
        SetAttribute::KeyType(key_type),
        SetAttribute::KeyLen(key_len),
        SetAttribute::Id(id),
    ];
    Change { message: NfTablesMessage::NewSet(SetMessage { attributes }), flags: NLM_F_CREATE }
}

/// A chain that lets pass what no rule drops.
pub(super) fn add_chain(table: &str, direction: Direction, interface: &str) -> Change {
    let (hook, priority) = match direction {
        Direction::Ingress => (DevHookNumber::Ingress, INGRESS_PRIORITY),
        Direction::Egress => (DevHookNumber::Egress, EGRESS_PRIORITY),
    };
    let attributes = vec![
        ChainAttribute::Table(table.to_owned()),
        ChainAttribute::Name(direction.chain()),
        ChainAttribute::Hook(vec![
            Hook::Number(HookNumber::Dev(hook)),
            Hook::Priority(priority.cast_unsigned()),
            Hook::NetDeviceName(interface.to_owned()),
        ]),
        ChainAttribute::Type("filter".to_owned()),
    ];
    Change { message: NfTablesMessage::NewChain(ChainMessage { attributes }), flags: NLM_F_CREATE }
}

/// Which chain, as a question.
pub(super) fn chain(table: &str, direction: Direction) -> NfTablesMessage {
    let attributes = vec![ChainAttribute::Table(table.to_owned()), ChainAttribute::Name(direction.chain())];
    NfTablesMessage::GetChain(ChainMessage { attributes })
}

fn add_rule(table: &str, direction: Direction, rule: Rule) -> Change {
    let attributes = vec![
        RuleAttribute::Table(table.to_owned()),
        RuleAttribute::Chain(direction.chain()),
        RuleAttribute::Expressions(rule),
    ];
    Change { message: NfTablesMessage::NewRule(RuleMessage { attributes }), flags: NLM_F_CREATE | NLM_F_APPEND }
}

/// Adds the addresses of the set's family, or refreshes those that are there where the kernel can.
pub(super) fn add_elements(table: &str, set: Set, addresses: &[IpAddr], term: Term) -> Vec<Change> {
    let element = |key: Vec<u8>| {
        let mut element = vec![SetElementAttribute::Key(DataAttribute::Value(key))];
        if let Term::Milliseconds(term) = term {
            // The first is the term of a new element, the second what is left of it: an old one is given both.
            element.extend([SetElementAttribute::Timeout(term), SetElementAttribute::Expiration(term)]);
        }
        element
    };
    messages(table, set, addresses, element)
        .map(|message| Change { message: NfTablesMessage::NewSetElement(message), flags: NLM_F_CREATE })
        .collect()
}

/// Removes the addresses of the set's family. The kernel refuses where one is missing or has ended.
pub(super) fn remove_elements(table: &str, set: Set, addresses: &[IpAddr]) -> Vec<Change> {
    messages(table, set, addresses, |key| vec![SetElementAttribute::Key(DataAttribute::Value(key))])
        .map(|message| Change { message: NfTablesMessage::DeleteSetElement(message), flags: 0 })
        .collect()
}

/// All elements, as a question.
pub(super) fn elements(table: &str, set: Set) -> NfTablesMessage {
    let attributes = vec![SetElementList::Table(table.to_owned()), SetElementList::Set(set.name())];
    NfTablesMessage::GetSetElement(SetElementMessage { attributes })
}

/// The elements of an answer that have not ended, each with what is left of it.
pub(super) fn elements_of(answer: NfTablesMessage) -> Vec<(IpAddr, Duration)> {
    let NfTablesMessage::NewSetElement(SetElementMessage { attributes }) = answer else { return Vec::new() };
    let lists = attributes.into_iter().filter_map(|attribute| match attribute {
        SetElementList::Elements(elements) => Some(elements),
        _ => None,
    });
    lists.flatten().filter_map(|element| element_of(&element)).collect()
}

fn element_of(element: &ListAttribute<SetElementAttribute>) -> Option<(IpAddr, Duration)> {
    let ListAttribute::Element(attributes) = element else { return None };
    let address = attributes.iter().find_map(|attribute| match attribute {
        SetElementAttribute::Key(DataAttribute::Value(key)) => address_of(key),
        _ => None,
    })?;
    let left = attributes.iter().find_map(|attribute| match attribute {
        SetElementAttribute::Expiration(milliseconds) => Some(Duration::from_millis(*milliseconds)),
        _ => None,
    })?;
    (!left.is_zero()).then_some((address, left))
}

fn messages(
    table: &str,
    set: Set,
    addresses: &[IpAddr],
    element: impl Fn(Vec<u8>) -> Vec<SetElementAttribute>,
) -> impl Iterator<Item = SetElementMessage> {
    let elements: Vec<_> = addresses
        .iter()
        .filter_map(|address| key(*address, set.family))
        .map(|key| ListAttribute::Element(element(key)))
        .collect();
    let mut elements = elements.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<_> = elements.by_ref().take(ELEMENTS).collect();
        if chunk.is_empty() {
            return None;
        }
        let attributes = vec![
            SetElementList::Table(table.to_owned()),
            SetElementList::Set(set.name()),
            SetElementList::Elements(chunk),
        ];
        Some(SetElementMessage { attributes })
    })
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
