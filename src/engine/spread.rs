//! Spreads: vips that are shared among the live nodes by weight, so that all hosts serve at once.
//!
//! Decides, for each vip, in which order the nodes are preferred. Nothing else is needed: a node's place in the order is its
//! priority ([`priority`]), and the election of each vip does the rest. No node is told anything that it does not compute itself
//! from names and weights, in whatever order its file has them; so the hash here is for ever, and a test holds its values.
//!
//! The order is found choice by choice. Whichever nodes are dead, those of the vips for which all of them were preferred are given
//! their next choice together:
//!
//! - *How many to each live node*: one after the other, to the one that is the least busy for its weight, of those that have less than
//!   their share of what is given by then (the quota method of Balinski and Young). So a node's number is its exact share, rounded up
//!   or down, and one more vip takes none away from any node.
//! - *Which to whom*: each pair of a vip and a node has a score (highest random weight, where a node of weight 3 draws three times);
//!   the highest pairs first, until a node has its number. So nodes and vips that come and go move few others.
//!
//! What is given takes the vips into account that the live nodes have already. So the share of a dead node is spread over the others,
//! and so is that of the next.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::types::Priority;

/// The nodes of a spread at most: for each a priority, [`STEP`] apart.
pub const MAX_NODES: usize = 12;
/// The vips of a spread at most. The work grows with their square.
pub const MAX_VIPS: usize = 256;
/// The largest weight: how often a node draws for each vip.
pub const MAX_WEIGHT: u8 = 100;
/// The priority of the node that is preferred: below the address owner's, with room for a check that adds some.
pub const FIRST: u8 = 240;
/// How far the next node's is below: wide enough that of several backups the preferred one's patience ends noticeably earlier.
pub const STEP: u8 = 20;

/// What a spread makes of one of its vips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadPlace {
    /// The name of the spread.
    pub spread: String,
    /// The names of all its nodes, the preferred one first.
    pub order: Vec<String>,
}

impl SpreadPlace {
    /// At which place a node is, from 0.
    pub fn of(&self, node: &str) -> Option<usize> {
        self.order.iter().position(|name| name == node)
    }
}

/// The priority of a place in the order, from 0; `None` beyond [`MAX_NODES`].
pub fn priority(place: usize) -> Option<Priority> {
    let below = STEP.checked_mul(u8::try_from(place).ok()?)?;
    FIRST.checked_sub(below).filter(|priority| *priority > 0).map(Priority)
}

/// The order of the nodes for each vip, the preferred one first.
///
/// Nodes of weight 0 come last, as equals. The name of the spread decides only who is the first of equals to be given a vip more.
pub fn orders(spread: &str, nodes: &BTreeMap<String, u8>, vips: &BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
    let nodes: Vec<Node<'_>> = nodes
        .iter()
        .zip(0..)
        .map(|((name, weight), place)| Node { name, weight: u64::from(*weight), only: Set(1_u64.wrapping_shl(place)) })
        .collect();
    let mut vips: Vec<Vip<'_>> =
        vips.iter().map(|name| Vip { name, choices: Vec::with_capacity(nodes.len()), tried: Set::default() }).collect();
    for _ in &nodes {
        let all: BTreeSet<Set> = vips.iter().map(|vip| vip.tried).collect();
        for dead in all {
            give(spread, &nodes, &mut vips, dead);
        }
    }
    vips.into_iter().map(|vip| (vip.name.to_string(), vip.names(&nodes))).collect()
}

/// Some of the nodes, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Set(u64);

impl Set {
    const fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Node<'a> {
    name: &'a str,
    weight: u64,
    /// The set with nobody else in it.
    only: Set,
}

#[derive(Clone, Debug)]
struct Vip<'a> {
    name: &'a str,
    /// Who is preferred, as far as that is known.
    choices: Vec<Set>,
    /// All of them.
    tried: Set,
}

impl Vip<'_> {
    /// Who has it while these are dead.
    fn owner(&self, dead: Set) -> Option<Set> {
        self.choices.iter().copied().find(|node| !dead.has(*node))
    }

    fn names(&self, nodes: &[Node<'_>]) -> Vec<String> {
        let name = |choice: &Set| nodes.iter().find(|node| node.only == *choice).map(|node| node.name.to_string());
        self.choices.iter().filter_map(name).collect()
    }
}

/// A live node, and what it has.
struct Seat<'a> {
    node: Node<'a>,
    /// The node's; where no live node has one, they are equals.
    weight: u64,
    /// How many vips it has.
    has: u64,
    /// How many of these it has yet to choose.
    free: u64,
    /// The first of equals.
    precedence: u64,
}

/// While these are dead: gives each vip that all of them were preferred for to a live node.
fn give(spread: &str, nodes: &[Node<'_>], vips: &mut [Vip<'_>], dead: Set) {
    let live = || nodes.iter().filter(|node| !dead.has(node.only));
    let weightless = live().all(|node| node.weight == 0);
    let dead_names = nodes.iter().filter(|node| dead.has(node.only)).map(|node| node.name);
    let circumstances = hash([spread].into_iter().chain(dead_names));
    let mut seats: Vec<Seat<'_>> = live()
        .map(|node| Seat {
            node: *node,
            weight: if weightless { 1 } else { node.weight },
            has: 0,
            free: 0,
            precedence: mixed(circumstances ^ hash([node.name])),
        })
        .collect();
    let mut given = 0_u64;
    for owner in vips.iter().filter_map(|vip| vip.owner(dead)) {
        given += 1;
        if let Some(seat) = seats.iter_mut().find(|seat| seat.node.only == owner) {
            seat.has += 1;
        }
    }
    let wanting: Vec<(usize, &str)> =
        vips.iter().enumerate().filter(|(_, vip)| vip.tried == dead).map(|(index, vip)| (index, vip.name)).collect();
    for _ in &wanting {
        given += 1;
        share_out(&mut seats, given);
    }
    let mut pairs: Vec<(Reverse<u64>, usize, Set)> = Vec::new();
    for seat in seats.iter().filter(|seat| seat.free > 0) {
        pairs.extend(wanting.iter().map(|(index, vip)| (Reverse(score(vip, seat.node)), *index, seat.node.only)));
    }
    pairs.sort_unstable();
    for (_, index, node) in pairs {
        let seat = seats.iter_mut().find(|seat| seat.node.only == node && seat.free > 0);
        let vip = vips.get_mut(index).filter(|vip| vip.tried == dead);
        if let (Some(seat), Some(vip)) = (seat, vip) {
            seat.free -= 1;
            vip.choices.push(node);
            vip.tried = Set(dead.0 | node.0);
        }
    }
}

/// One more vip, so that so many are given then.
fn share_out(seats: &mut [Seat<'_>], given: u64) {
    let total: u64 = seats.iter().map(|seat| seat.weight).sum();
    let below_share = seats.iter_mut().filter(|seat| seat.has * total < seat.weight * given);
    // Compares WEIGHT / (HAS + 1).
    let next = below_share.max_by(|one, other| {
        let (left, right) = (one.weight * (other.has + 1), other.weight * (one.has + 1));
        left.cmp(&right).then_with(|| (one.precedence, one.node.name).cmp(&(other.precedence, other.node.name)))
    });
    // There is one: all together have less than is given.
    if let Some(seat) = next {
        seat.has += 1;
        seat.free += 1;
    }
}

/// How well a vip and a node suit each other: the highest of as many draws as the node has weight.
fn score(vip: &str, node: Node<'_>) -> u64 {
    /// 2^64 divided by the golden ratio: what successive draws are apart (SplitMix64).
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let seed = hash([vip, node.name]);
    let draws = (0..node.weight.max(1)).map(|draw| mixed(seed.wrapping_add(draw.wrapping_mul(GOLDEN))));
    draws.max().unwrap_or_default()
}

/// FNV-1a, with a zero behind each name: no name has one.
fn hash<'a>(names: impl IntoIterator<Item = &'a str>) -> u64 {
    let bytes = names.into_iter().flat_map(|name| name.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Has each bit depend on all (the end of MurmurHash3).
const fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests;
