//! Neighbor discovery for IPv6 (RFC 4861), as far as addresses that move need it.
//!
//! Sent: the unsolicited neighbor advertisement that tells the neighbors who has an address now, and the
//! solicitation that asks whether anybody has it. Received: neighbor advertisements that pass all checks of
//! RFC 4861 §7.1.2; whether one concerns anybody is the engine's business.

use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv6Addr;

use super::advert::HOP_LIMIT;
use super::checksum;
use super::frame::{self, ETHERTYPE_IPV6, Ipv6Header, multicast_mac_v6};
use crate::types::MacAddr;

/// A legal neighbor advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborAdvertisement {
    /// The sender.
    pub source: Ipv6Addr,
    /// All nodes, or the one that asked.
    pub destination: Ipv6Addr,
    /// The address that the sender has.
    pub target: Ipv6Addr,
    /// The MAC address to reach it at. May be left out of an answer.
    pub target_mac: Option<MacAddr>,
    /// R: the sender is a router.
    pub router: bool,
    /// S: somebody asked.
    pub solicited: bool,
    /// O: replaces what the neighbors have in their caches.
    pub replaces: bool,
}

/// A question whether anybody has an address, from nobody: nobody's cache changes, and the answer goes to all nodes
/// (RFC 4862 §5.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborProbe {
    /// The address asked for.
    pub target: Ipv6Addr,
}

/// A question who has an address, from a node that is told: the answer says that it is one (RFC 4861 §7.2.2). Unlike
/// [`NeighborProbe`] it is no duplicate detection, by which a host that has only just configured the address would give it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborSolicitation {
    /// Who asks.
    pub source: Ipv6Addr,
    /// The address asked for.
    pub target: Ipv6Addr,
}

/// Why an IPv6 packet is no neighbor advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NdiscError {
    /// Shorter than its headers, its IPv6 payload length or its options say. Bytes, of what `need` counts.
    Truncated {
        /// Bytes received.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Not IPv6.
    OtherVersion {
        /// The version field.
        version: u8,
    },
    /// Something else than ICMPv6 follows the IPv6 header.
    OtherNextHeader {
        /// The next header field.
        next_header: u8,
    },
    /// Another ICMPv6 message than a neighbor advertisement, or one with a code.
    OtherMessage {
        /// The type field.
        kind: u8,
        /// The code field.
        code: u8,
    },
    /// The packet was routed.
    WrongHopLimit {
        /// The hop limit as received.
        hop_limit: u8,
    },
    /// The ICMPv6 checksum does not hold.
    BadChecksum {
        /// The field as received.
        found: u16,
        /// What it should be.
        expected: u16,
    },
    /// A multicast address cannot be anybody's.
    MulticastTarget {
        /// The target field.
        target: Ipv6Addr,
    },
    /// Answers a question, yet was sent to a group.
    SolicitedToGroup {
        /// The group.
        destination: Ipv6Addr,
    },
    /// An option of length 0, or a link-layer address of another length than Ethernet's.
    BadOption {
        /// The option's type.
        kind: u8,
        /// The option's length in units of 8 bytes.
        length: u8,
    },
}

impl NeighborAdvertisement {
    /// Tells all nodes that `mac` has `target`.
    ///
    /// RFC 9568 §6.4.1, §6.4.2: R and O set, S clear, to all nodes, with the target link-layer address.
    pub const fn unsolicited(mac: MacAddr, target: Ipv6Addr) -> Self {
        Self {
            source: target,
            destination: ALL_NODES,
            target,
            target_mac: Some(mac),
            router: true,
            solicited: false,
            replaces: true,
        }
    }

    /// Reads an IPv6 packet, from its header on. Bytes after the packet are the link's padding, and are ignored.
    ///
    /// # Errors
    ///
    /// Each with the first thing that is wrong, in the order of the packet, the checksum before all of ICMPv6.
    pub fn parse(bytes: &[u8]) -> Result<Self, NdiscError> {
        let Packet { source, destination, message } = Packet::parse(bytes)?;
        let Some((&start, options)) = message.split_first_chunk::<MESSAGE_LEN>() else {
            return Err(NdiscError::Truncated { have: message.len(), need: MESSAGE_LEN });
        };
        let [kind, code, sum_high, sum_low, flags, _, _, _, target @ ..] = start;

        let missing = checksum::with_pseudo_header(source.into(), destination.into(), ICMPV6, message);
        if missing != 0 {
            let found = u16::from_be_bytes([sum_high, sum_low]);
            return Err(NdiscError::BadChecksum { found, expected: checksum::add(found, missing) });
        }
        if (kind, code) != (NEIGHBOR_ADVERTISEMENT, 0) {
            return Err(NdiscError::OtherMessage { kind, code });
        }
        let target = Ipv6Addr::from(target);
        if target.is_multicast() {
            return Err(NdiscError::MulticastTarget { target });
        }
        let solicited = flags & FLAG_SOLICITED != 0;
        if solicited && destination.is_multicast() {
            return Err(NdiscError::SolicitedToGroup { destination });
        }
        Ok(Self {
            source,
            destination,
            target,
            target_mac: parse_target_mac(options)?,
            router: flags & FLAG_ROUTER != 0,
            solicited,
            replaces: flags & FLAG_OVERRIDE != 0,
        })
    }

    /// Replaces the content of `out` by an Ethernet frame from `source_mac` to the group in `destination`; to all nodes
    /// where that is a single one, whose MAC address nobody knows here.
    pub fn emit(&self, source_mac: MacAddr, out: &mut Vec<u8>) {
        let group = if self.destination.is_multicast() { self.destination } else { ALL_NODES };
        let flag = |set, flag| if set { flag } else { 0 };
        let flags =
            flag(self.router, FLAG_ROUTER) | flag(self.solicited, FLAG_SOLICITED) | flag(self.replaces, FLAG_OVERRIDE);
        let mut message = start_message(NEIGHBOR_ADVERTISEMENT, flags, self.target);
        if let Some(mac) = self.target_mac {
            message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
            message.extend(mac.octets());
        }
        emit_message(source_mac, group, self.source, self.destination, message, out);
    }
}

impl NeighborProbe {
    /// Replaces the content of `out` by an Ethernet frame from `source_mac` to the target's solicited-node group.
    pub fn emit(&self, source_mac: MacAddr, out: &mut Vec<u8>) {
        let group = solicited_node_group(self.target);
        let message = start_message(NEIGHBOR_SOLICITATION, 0, self.target);
        emit_message(source_mac, group, Ipv6Addr::UNSPECIFIED, group, message, out);
    }
}

impl NeighborSolicitation {
    /// Replaces the content of `out` by an Ethernet frame from `source_mac`, which is told to whoever answers, to the target's
    /// solicited-node group.
    pub fn emit(&self, source_mac: MacAddr, out: &mut Vec<u8>) {
        let group = solicited_node_group(self.target);
        let mut message = start_message(NEIGHBOR_SOLICITATION, 0, self.target);
        message.extend([SOURCE_LINK_LAYER_ADDRESS, 1]);
        message.extend(source_mac.octets());
        emit_message(source_mac, group, self.source, group, message, out);
    }
}

/// The group that whoever has an address listens to (RFC 4291 §2.7.1).
pub const fn solicited_node_group(address: Ipv6Addr) -> Ipv6Addr {
    let [.., sixth, seventh] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (sixth & 0xff), seventh)
}

/// ff02::1 (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ICMPV6: u8 = 58;
const IPV6_HEADER_LEN: usize = 40;
/// Of a solicitation and of an advertisement, without options (RFC 4861 §4.3, §4.4).
const MESSAGE_LEN: usize = 24;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// What an IPv6 packet says that carries ICMPv6 from a neighbor.
struct Packet<'a> {
    source: Ipv6Addr,
    destination: Ipv6Addr,
    message: &'a [u8],
}

impl<'a> Packet<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, NdiscError> {
        let have = bytes.len();
        let Some((&header, rest)) = bytes.split_first_chunk::<IPV6_HEADER_LEN>() else {
            return Err(NdiscError::Truncated { have, need: IPV6_HEADER_LEN });
        };
        let [version_and_class, _, _, _, length_high, length_low, next_header, hop_limit, addresses @ ..] = header;
        let [source, destination] = halves(addresses);

        match version_and_class >> 4 {
            6 => {}
            version => return Err(NdiscError::OtherVersion { version }),
        }
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let message = rest.get(..length).ok_or(NdiscError::Truncated { have, need: IPV6_HEADER_LEN + length })?;
        if next_header != ICMPV6 {
            return Err(NdiscError::OtherNextHeader { next_header });
        }
        if hop_limit != HOP_LIMIT {
            return Err(NdiscError::WrongHopLimit { hop_limit });
        }
        Ok(Self { source, destination, message })
    }
}

fn halves(addresses: [u8; 32]) -> [Ipv6Addr; 2] {
    match addresses.as_chunks::<16>().0 {
        [source, destination] => [Ipv6Addr::from(*source), Ipv6Addr::from(*destination)],
        _ => unreachable!("32 bytes are two addresses"),
    }
}

/// The MAC address of the first such option. Other options are ignored (RFC 4861 §4.4), but must be well formed.
fn parse_target_mac(mut options: &[u8]) -> Result<Option<MacAddr>, NdiscError> {
    let mut target_mac = None;
    while !options.is_empty() {
        let have = options.len();
        let Some((&unit, _)) = options.split_first_chunk::<OPTION_UNIT>() else {
            return Err(NdiscError::Truncated { have, need: OPTION_UNIT });
        };
        let [kind, length, mac @ ..] = unit;
        let need = usize::from(length) * OPTION_UNIT;
        if need == 0 || (kind == TARGET_LINK_LAYER_ADDRESS && need != OPTION_UNIT) {
            return Err(NdiscError::BadOption { kind, length });
        }
        if kind == TARGET_LINK_LAYER_ADDRESS && target_mac.is_none() {
            target_mac = Some(MacAddr::from(mac));
        }
        options = options.get(need..).ok_or(NdiscError::Truncated { have, need })?;
    }
    Ok(target_mac)
}

/// Options are counted in these.
const OPTION_UNIT: usize = 8;

/// A message without options, its checksum still 0.
fn start_message(kind: u8, flags: u8, target: Ipv6Addr) -> Vec<u8> {
    let mut message = Vec::with_capacity(MESSAGE_LEN + OPTION_UNIT);
    message.extend([kind, 0, 0, 0, flags, 0, 0, 0]);
    message.extend(target.octets());
    message
}

fn emit_message(
    source_mac: MacAddr,
    ethernet_group: Ipv6Addr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    mut message: Vec<u8>,
    out: &mut Vec<u8>,
) {
    let sum = checksum::with_pseudo_header(source.into(), destination.into(), ICMPV6, &message).to_be_bytes();
    if let Some([_, _, high, low]) = message.first_chunk_mut() {
        [*high, *low] = sum;
    }
    out.clear();
    frame::ethernet(multicast_mac_v6(ethernet_group), source_mac, ETHERTYPE_IPV6, out);
    frame::ipv6(Ipv6Header { traffic_class: 0, next_header: ICMPV6, source, destination }, &message, out);
    out.extend(message);
}

impl fmt::Display for NdiscError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { have, need } => write!(f, "truncated: {have} bytes, {need} needed"),
            Self::OtherVersion { version } => write!(f, "IP version {version}"),
            Self::OtherNextHeader { next_header } => write!(f, "next header {next_header}, ICMPv6 is 58"),
            Self::OtherMessage { kind, code } => write!(f, "ICMPv6 type {kind} code {code}"),
            Self::WrongHopLimit { hop_limit } => write!(f, "hop limit {hop_limit}, 255 required"),
            Self::BadChecksum { found, expected } => write!(f, "checksum {found:#06x}, {expected:#06x} expected"),
            Self::MulticastTarget { target } => write!(f, "target {target} is a group"),
            Self::SolicitedToGroup { destination } => write!(f, "an answer to one node was sent to {destination}"),
            Self::BadOption { kind, length } => write!(f, "option {kind} of length {length}"),
        }
    }
}

impl core::error::Error for NdiscError {}

#[cfg(test)]
mod tests;
