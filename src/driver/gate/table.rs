//! An interface's tables: their sets of addresses, their two chains, and the messages that make and fill them.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, DevHookNumber, Hook, HookNumber, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementList, SetElementMessage,
    SetFlags, SetMessage, TableAttribute, TableFlags, TableMessage,
};

use super::Layer;
use super::rules::{self, Rule};
use crate::driver::nftables::{Body, Change};
use crate::types::Family;

/// Elements in one message, whose length is 16 bits: an IPv6 element takes 52 bytes.
pub(super) const ELEMENTS: usize = 1000;

/// Of a message with one element, with some to spare.
const ROOM: usize = 128;

const NFT_MSG_NEWSETELEM: u8 = 12;
const NFT_MSG_DELSETELEM: u8 = 14;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
const NFTA_DATA_VALUE: u16 = 1;
const NLA_F_NESTED: u16 = 1 << 15;

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
    pub(super) const fn name(self) -> &'static str {
        match (self.kind, self.family) {
            (Kind::Managed, Family::V4) => "managed4",
            (Kind::Owned, Family::V4) => "owned4",
            (Kind::Managed, Family::V6) => "managed6",
            (Kind::Owned, Family::V6) => "owned6",
        }
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
        message: NfTablesMessage::NewTable(TableMessage { attributes }).into(),
        flags: NLM_F_CREATE,
    }
}

/// Removes a table that exists.
pub(super) fn remove(table: &Table) -> Change {
    let attributes = vec![TableAttribute::Name(table.name.clone())];
    Change {
        family: table.place.family(),
        message: NfTablesMessage::DeleteTable(TableMessage { attributes }).into(),
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
        SetAttribute::Name(set.name().to_owned()),
        SetAttribute::Flags(flags),
        SetAttribute::KeyType(key_type),
        SetAttribute::KeyLen(key_len),
        SetAttribute::Id(id),
    ];
    Change {
        family: table.place.family(),
        message: NfTablesMessage::NewSet(SetMessage { attributes }).into(),
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
        message: NfTablesMessage::NewChain(ChainMessage { attributes }).into(),
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
        message: NfTablesMessage::NewRule(RuleMessage { attributes }).into(),
        flags: NLM_F_CREATE | NLM_F_APPEND,
    }
}

/// Adds the addresses of the set's family, or refreshes those that are there where the kernel can.
pub(super) fn add_elements(table: &Table, set: Set, addresses: &[IpAddr], term: Term) -> Vec<Change> {
    change(table, set, NFT_MSG_NEWSETELEM, NLM_F_CREATE, addresses, |address, element| {
        put_key(element, address);
        if let Term::Milliseconds(term) = term {
            // The first is the term of a new element, the second what is left of it: an old one is given both.
            put(element, NFTA_SET_ELEM_TIMEOUT, &term.to_be_bytes());
            put(element, NFTA_SET_ELEM_EXPIRATION, &term.to_be_bytes());
        }
    })
}

/// Removes the addresses of the set's family. The kernel refuses where one is missing or has ended.
pub(super) fn remove_elements(table: &Table, set: Set, addresses: &[IpAddr]) -> Vec<Change> {
    change(table, set, NFT_MSG_DELSETELEM, 0, addresses, |address, element| put_key(element, address))
}

/// All elements, as a question.
pub(super) fn elements(table: &Table, set: Set) -> NfTablesMessage {
    let attributes = vec![SetElementList::Table(table.name.clone()), SetElementList::Set(set.name().to_owned())];
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

/// Changes the addresses of the set's family, in as many messages as they need. Written as they are sent, with every advert: to describe
/// each element first and then have it written was a third of what the renewal of a thousand took.
fn change(
    table: &Table,
    set: Set,
    kind: u8,
    flags: u16,
    addresses: &[IpAddr],
    write: impl Fn(IpAddr, &mut Vec<u8>),
) -> Vec<Change> {
    let mut addresses = addresses.iter().copied().filter(|address| Family::of(*address) == set.family).peekable();
    let messages = std::iter::from_fn(|| {
        addresses.peek()?;
        let mut attributes = Vec::with_capacity(ROOM);
        put(&mut attributes, NFTA_SET_ELEM_LIST_TABLE, &terminated(&table.name));
        put(&mut attributes, NFTA_SET_ELEM_LIST_SET, &terminated(set.name()));
        nest(&mut attributes, NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
            for address in addresses.by_ref().take(ELEMENTS) {
                nest(list, NFTA_LIST_ELEM, |element| write(address, element));
            }
        });
        Some(Change { family: table.place.family(), message: Body::Written { kind, attributes }, flags })
    });
    messages.collect()
}

fn put_key(element: &mut Vec<u8>, address: IpAddr) {
    nest(element, NFTA_SET_ELEM_KEY, |key| match address {
        IpAddr::V4(address) => put(key, NFTA_DATA_VALUE, &address.octets()),
        IpAddr::V6(address) => put(key, NFTA_DATA_VALUE, &address.octets()),
    });
}

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn put(attributes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let start = begin(attributes, kind);
    attributes.extend_from_slice(value);
    end(attributes, start);
}

fn nest(attributes: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = begin(attributes, kind | NLA_F_NESTED);
    write(attributes);
    end(attributes, start);
}

/// Where an attribute starts: with its length, which is not known yet, and its kind.
fn begin(attributes: &mut Vec<u8>, kind: u16) -> usize {
    let start = attributes.len();
    attributes.extend([[0; 2], kind.to_ne_bytes()].as_flattened());
    start
}

fn end(attributes: &mut Vec<u8>, start: usize) {
    let len = u16::try_from(attributes.len() - start).expect("ELEMENTS fit an attribute");
    attributes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
}

fn address_of(key: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(key).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(key).map(IpAddr::from)).ok()
}
