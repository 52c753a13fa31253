//! An interface's tables: their sets of addresses and leases, their chains, and the messages that make and fill them.
//!
//! Everything in them is what nft can word as well: whoever lists the rules of a host sees these among them.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, DevHookNumber, Hook, HookNumber, InetHookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementList, SetElementMessage,
    SetFlags, SetMessage, TableAttribute, TableFlags, TableMessage, Verdict, VerdictAttribute,
};

use super::Layer;
use super::rules::{self, Rule};
use crate::driver::nftables::{Body, Change};
use crate::types::Family;

/// Elements in one message, whose length is 16 bits: an IPv6 address with the chain of its lease takes 72 bytes.
const ELEMENTS: usize = 500;

/// Of a message with one element, with some to spare.
const ROOM: usize = 128;

const NFT_MSG_NEWSETELEM: u8 = 12;
const NFT_MSG_DELSETELEM: u8 = 14;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
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

/// What nft calls `ipv4_addr`, `ipv6_addr` and `mark`. The kernel does not look at it.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_MARK: u32 = 19;

/// Of a lease's number.
const LEASE_LEN: u32 = 4;

/// What nft calls `verdict`.
const TYPE_VERDICT: u32 = 0xffff_ff00;

/// The chains of leases are named so and then by their numbers.
const LEASE_PREFIX: &str = "lease-";

/// Where addresses go that have no lease.
const CLOSED: &str = "closed";

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

/// For how long a lease runs, in milliseconds; never 0, which the kernel takes for endless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term(pub(super) u64);

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
    fn chain(self) -> String {
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
    Change {
        family: table.place.family(),
        message: NfTablesMessage::NewSet(SetMessage { attributes }).into(),
        flags: NLM_F_CREATE,
    }
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
    Change {
        family: table.place.family(),
        message: NfTablesMessage::NewChain(ChainMessage { attributes }).into(),
        flags: NLM_F_CREATE,
    }
}

/// Makes the chain that whatever is about an address of this lease is asked in. It may be there already.
pub(super) fn add_lease(table: &Table, lease: LeaseId) -> [Change; 2] {
    let LeaseId(number) = lease;
    [make_chain(table, lease.chain()), add_rule(table, lease.chain(), rules::drop_unless_running(number.get()))]
}

/// Removes that chain, to which no address may lead any more.
pub(super) fn remove_lease(table: &Table, lease: LeaseId) -> Change {
    let attributes = vec![ChainAttribute::Table(table.name.clone()), ChainAttribute::Name(lease.chain())];
    Change {
        family: table.place.family(),
        message: NfTablesMessage::DeleteChain(ChainMessage { attributes }).into(),
        flags: 0,
    }
}

/// One without a hook: others lead to it.
fn make_chain(table: &Table, name: String) -> Change {
    let attributes = vec![ChainAttribute::Table(table.name.clone()), ChainAttribute::Name(name)];
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

fn add_rule(table: &Table, chain: String, rule: Rule) -> Change {
    let attributes =
        vec![RuleAttribute::Table(table.name.clone()), RuleAttribute::Chain(chain), RuleAttribute::Expressions(rule)];
    Change {
        family: table.place.family(),
        message: NfTablesMessage::NewRule(RuleMessage { attributes }).into(),
        flags: NLM_F_CREATE | NLM_F_APPEND,
    }
}

/// Manages those of the family.
pub(super) fn add_managed(table: &Table, family: Family, managed: &[Managed]) -> Vec<Change> {
    let of_family = || managed.iter().filter(|it| Family::of(it.address) == family);
    let mut changes = change(table, Set::Managed(family), Elements::Add, of_family(), |it, element| {
        put_address(element, it.address);
    });
    changes.extend(change(table, Set::Leases(family), Elements::Add, of_family(), |it, element| {
        put_address(element, it.address);
        let chain = it.lease.map_or_else(|| CLOSED.to_owned(), LeaseId::chain);
        nest(element, NFTA_SET_ELEM_DATA, |data| {
            nest(data, NFTA_DATA_VERDICT, |verdict| {
                put(verdict, NFTA_VERDICT_CODE, &u32::from(Verdict::Jump).to_be_bytes());
                put_text(verdict, NFTA_VERDICT_CHAIN, &chain);
            });
        });
    }));
    changes
}

/// Manages the addresses of the family no longer. The kernel refuses where one is not managed.
pub(super) fn remove_managed(table: &Table, family: Family, addresses: &[IpAddr]) -> Vec<Change> {
    let of_family = || addresses.iter().filter(|address| Family::of(**address) == family);
    let sets = [Set::Managed(family), Set::Leases(family)];
    let changes = sets.into_iter().flat_map(|set| {
        change(table, set, Elements::Remove, of_family(), |address, element| put_address(element, *address))
    });
    changes.collect()
}

/// Adds leases, or refreshes those that run where the kernel can.
pub(super) fn add_owned(table: &Table, leases: &[LeaseId], Term(term): Term) -> Vec<Change> {
    change(table, Set::Owned, Elements::Add, leases.iter(), |lease, element| {
        put_lease(element, *lease);
        // The first is the term of a new element, the second what is left of it: an old one is given both.
        put(element, NFTA_SET_ELEM_TIMEOUT, &term.to_be_bytes());
        put(element, NFTA_SET_ELEM_EXPIRATION, &term.to_be_bytes());
    })
}

/// Ends leases. The kernel refuses where one is missing or has ended.
pub(super) fn remove_owned(table: &Table, leases: &[LeaseId]) -> Vec<Change> {
    change(table, Set::Owned, Elements::Remove, leases.iter(), |lease, element| put_lease(element, *lease))
}

/// All elements, as a question.
pub(super) fn elements(table: &Table, set: Set) -> NfTablesMessage {
    let attributes = vec![SetElementList::Table(table.name.clone()), SetElementList::Set(set.name().to_owned())];
    NfTablesMessage::GetSetElement(SetElementMessage { attributes })
}

/// An element of the map, in an answer: the address, and the number of its lease; `None` also where it has none.
pub(super) fn leased_of(attributes: &[SetElementAttribute]) -> Option<(IpAddr, u32)> {
    let address = address_of(key_of(attributes)?)?;
    let verdict = attributes.iter().find_map(|attribute| match attribute {
        SetElementAttribute::Data(DataAttribute::Verdict(verdict)) => Some(verdict),
        _ => None,
    })?;
    let chain = verdict.iter().find_map(|attribute| match attribute {
        VerdictAttribute::Chain(chain) => chain.strip_prefix(LEASE_PREFIX),
        _ => None,
    })?;
    Some((address, chain.parse().ok()?))
}

/// A lease that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) number: u32,
    /// For how long yet.
    pub(super) left: Duration,
    /// How long it was when it was given.
    pub(super) term: Duration,
}

/// A lease in an answer, unless it has ended.
pub(super) fn running_of(attributes: &[SetElementAttribute]) -> Option<Running> {
    let number = u32::from_ne_bytes(key_of(attributes)?.try_into().ok()?);
    let left = attributes.iter().find_map(|attribute| match attribute {
        SetElementAttribute::Expiration(milliseconds) => Some(Duration::from_millis(*milliseconds)),
        _ => None,
    })?;
    let term = attributes.iter().find_map(|attribute| match attribute {
        SetElementAttribute::Timeout(milliseconds) => Some(Duration::from_millis(*milliseconds)),
        _ => None,
    });
    (!left.is_zero()).then_some(Running { number, left, term: term.unwrap_or(left) })
}

/// What an answer says of elements.
pub(super) fn elements_of<T>(answer: NfTablesMessage, of: impl Fn(&[SetElementAttribute]) -> Option<T>) -> Vec<T> {
    let NfTablesMessage::NewSetElement(SetElementMessage { attributes }) = answer else { return Vec::new() };
    let lists = attributes.into_iter().filter_map(|attribute| match attribute {
        SetElementList::Elements(elements) => Some(elements),
        _ => None,
    });
    let elements = lists.flatten().filter_map(|element| match element {
        ListAttribute::Element(attributes) => of(&attributes),
        _ => None,
    });
    elements.collect()
}

/// What is done with elements of a set.
#[derive(Clone, Copy)]
enum Elements {
    Add,
    Remove,
}

/// In as many messages as they need; written as they are, as they are sent with every advert.
fn change<T>(
    table: &Table,
    set: Set,
    what: Elements,
    elements: impl Iterator<Item = T>,
    write: impl Fn(T, &mut Vec<u8>),
) -> Vec<Change> {
    let (kind, flags) = match what {
        Elements::Add => (NFT_MSG_NEWSETELEM, NLM_F_CREATE),
        Elements::Remove => (NFT_MSG_DELSETELEM, 0),
    };
    let mut elements = elements.peekable();
    let messages = std::iter::from_fn(|| {
        elements.peek()?;
        let mut attributes = Vec::with_capacity(ROOM);
        put_text(&mut attributes, NFTA_SET_ELEM_LIST_TABLE, &table.name);
        put_text(&mut attributes, NFTA_SET_ELEM_LIST_SET, set.name());
        nest(&mut attributes, NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
            for element in elements.by_ref().take(ELEMENTS) {
                nest(list, NFTA_LIST_ELEM, |attributes| write(element, attributes));
            }
        });
        Some(Change { family: table.place.family(), message: Body::Written { kind, attributes }, flags })
    });
    messages.collect()
}

fn put_address(element: &mut Vec<u8>, address: IpAddr) {
    nest(element, NFTA_SET_ELEM_KEY, |key| match address {
        IpAddr::V4(address) => put(key, NFTA_DATA_VALUE, &address.octets()),
        IpAddr::V6(address) => put(key, NFTA_DATA_VALUE, &address.octets()),
    });
}

/// As the rules find it in their register: a number of this machine.
fn put_lease(element: &mut Vec<u8>, LeaseId(number): LeaseId) {
    nest(element, NFTA_SET_ELEM_KEY, |key| put(key, NFTA_DATA_VALUE, &number.get().to_ne_bytes()));
}

fn put_text(attributes: &mut Vec<u8>, kind: u16, text: &str) {
    put(attributes, kind, &[text.as_bytes(), &[0]].concat());
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

fn key_of(attributes: &[SetElementAttribute]) -> Option<&[u8]> {
    attributes.iter().find_map(|attribute| match attribute {
        SetElementAttribute::Key(DataAttribute::Value(key)) => Some(key.as_slice()),
        _ => None,
    })
}

fn address_of(key: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(key).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(key).map(IpAddr::from)).ok()
}
