//! What is in the sets of an interface's tables: the addresses that are managed, each with its lease, and the leases that run.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList, SetElementMessage, Verdict,
    VerdictAttribute,
};

use super::table::{CLOSED, LEASE_PREFIX, LeaseId, Managed, Set, Table};
use crate::driver::nftables::Change;
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

/// For how long a lease runs, in milliseconds; never 0, which the kernel takes for endless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term(pub(super) u64);

/// Manages those of the family.
pub(super) fn add_managed(table: &Table, family: Family, managed: &[Managed]) -> Vec<Change> {
    let of_family = || managed.iter().filter(|it| Family::of(it.address) == family);
    let mut changes = in_messages(table, Set::Managed(family), Action::Add, of_family(), |it, element| {
        put_address(element, it.address);
    });
    changes.extend(in_messages(table, Set::Leases(family), Action::Add, of_family(), |it, element| {
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
        in_messages(table, set, Action::Remove, of_family(), |address, element| put_address(element, *address))
    });
    changes.collect()
}

/// Adds leases, or refreshes those that run where the kernel can.
pub(super) fn add_owned(table: &Table, leases: &[LeaseId], Term(term): Term) -> Vec<Change> {
    in_messages(table, Set::Owned, Action::Add, leases.iter(), |lease, element| {
        put_lease(element, *lease);
        // The first is the term of a new element, the second what is left of it: an old one is given both.
        put(element, NFTA_SET_ELEM_TIMEOUT, &term.to_be_bytes());
        put(element, NFTA_SET_ELEM_EXPIRATION, &term.to_be_bytes());
    })
}

/// Ends leases. The kernel refuses where one is missing or has ended.
pub(super) fn remove_owned(table: &Table, leases: &[LeaseId]) -> Vec<Change> {
    in_messages(table, Set::Owned, Action::Remove, leases.iter(), |lease, element| put_lease(element, *lease))
}

/// All elements of a set, as a question.
pub(super) fn all(table: &Table, set: Set) -> NfTablesMessage {
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
pub(super) fn read<T>(answer: NfTablesMessage, of: impl Fn(&[SetElementAttribute]) -> Option<T>) -> Vec<T> {
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
enum Action {
    Add,
    Remove,
}

/// In as many messages as they need; written as they are, as they are sent with every advert.
fn in_messages<T>(
    table: &Table,
    set: Set,
    action: Action,
    elements: impl Iterator<Item = T>,
    write: impl Fn(T, &mut Vec<u8>),
) -> Vec<Change> {
    let (kind, flags) = match action {
        Action::Add => (NFT_MSG_NEWSETELEM, NLM_F_CREATE),
        Action::Remove => (NFT_MSG_DELSETELEM, 0),
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
        Some(Change { family: table.place.family(), kind, attributes, flags })
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
