//! The questions that a probe asks, byte for byte, and how their answers are told from other traffic.
//!
//! ARP and neighbour solicitations are sent in the name of a host that does not exist: their answers, addressed to its
//! MAC, pass the client's own neighbour cache by. So an address that is announced badly stays unreachable for the client's
//! echo requests, as it would in the field, although it answers the other question all the time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The MAC address of the host that does not exist (locally administered).
const ASKER_MAC: [u8; 6] = [0x02, 0x76, 0x69, 0x70, 0x64, 0x01];
const ASKER_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0076, 0x69ff, 0xfe70, 0x6401);
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const VRRP: u8 = 112;

/// What a frame that concerns the probed address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer to the client's echo request of a number.
    Echo(u16),
    /// An answer to "who has the address?".
    Neighbour,
    /// A gratuitous ARP or an unsolicited neighbour advertisement: nobody had asked.
    Announcement,
}

impl Kind {
    /// The number of the echo request that it answers.
    pub const fn sequence(self) -> Option<u16> {
        match self {
            Self::Echo(sequence) => Some(sequence),
            Self::Neighbour | Self::Announcement => None,
        }
    }
}

/// "Who has the address?", as ARP request or neighbour solicitation. `asker` is an unused address of the same network.
pub fn who_has(target: IpAddr, asker: Ipv4Addr) -> Vec<u8> {
    match target {
        IpAddr::V4(target) => arp_request(target, asker),
        IpAddr::V6(target) => neighbour_solicitation(target),
    }
}

/// Whether a frame is a VRRP advert, of any version and family; if so, who sent it.
pub(super) fn advert(frame: &[u8]) -> Option<[u8; 6]> {
    let protocol = match frame.get(12..14)?.try_into().ok()? {
        ETHERTYPE_IPV4 => *frame.get(14 + 9)?,
        ETHERTYPE_IPV6 => *frame.get(14 + 6)?,
        _ => return None,
    };
    (protocol == VRRP).then(|| frame.get(6..12)?.try_into().ok())?
}

/// An echo request without its IP header. The kernel fills the checksum of ICMPv6 in.
pub(super) fn echo_request(target: IpAddr, identifier: u16, sequence: u16) -> [u8; 8] {
    let kind = if target.is_ipv4() { 8 } else { 128 };
    let (id, seq) = (identifier.to_be_bytes(), sequence.to_be_bytes());
    let mut packet = [kind, 0, 0, 0, id[0], id[1], seq[0], seq[1]];
    if target.is_ipv4() {
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

/// Reads a frame: who sent it, what it is, and which address it is about. `None`: none of the answers looked for.
pub fn read(frame: &[u8], identifier: u16) -> Option<([u8; 6], Kind, IpAddr)> {
    let destination = frame.get(0..6)?;
    let source: [u8; 6] = frame.get(6..12)?.try_into().ok()?;
    let payload = frame.get(14..)?;
    let (kind, address) = match frame.get(12..14)?.try_into().ok()? {
        ETHERTYPE_ARP => read_arp(payload, destination)?,
        ETHERTYPE_IPV4 => read_ipv4(payload, identifier)?,
        ETHERTYPE_IPV6 => read_ipv6(payload, destination, identifier)?,
        _ => return None,
    };
    Some((source, kind, address))
}

fn read_arp(packet: &[u8], destination: &[u8]) -> Option<(Kind, IpAddr)> {
    let operation = *packet.get(7)?;
    let sender: [u8; 4] = packet.get(14..18)?.try_into().ok()?;
    let target: [u8; 4] = packet.get(24..28)?.try_into().ok()?;
    let kind = match operation {
        _ if sender == target => Kind::Announcement,
        2 if destination == ASKER_MAC => Kind::Neighbour,
        _ => return None,
    };
    Some((kind, Ipv4Addr::from(sender).into()))
}

fn read_ipv4(packet: &[u8], identifier: u16) -> Option<(Kind, IpAddr)> {
    let header_length = usize::from(packet.first()? & 0x0f) * 4;
    if *packet.get(9)? != 1 {
        return None;
    }
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let kind = read_echo_reply(packet.get(header_length..)?, 0, identifier)?;
    Some((kind, Ipv4Addr::from(source).into()))
}

fn read_ipv6(packet: &[u8], destination: &[u8], identifier: u16) -> Option<(Kind, IpAddr)> {
    if *packet.get(6)? != ICMPV6 {
        return None;
    }
    let message = packet.get(40..)?;
    if *message.first()? != 136 {
        let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
        return Some((read_echo_reply(message, 129, identifier)?, Ipv6Addr::from(source).into()));
    }
    let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    let kind = match () {
        () if destination == ASKER_MAC => Kind::Neighbour,
        () if destination.first()? & 1 == 1 => Kind::Announcement,
        () => return None,
    };
    Some((kind, Ipv6Addr::from(target).into()))
}

fn read_echo_reply(message: &[u8], reply: u8, identifier: u16) -> Option<Kind> {
    let number = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    (*message.first()? == reply && number(4)? == identifier).then_some(())?;
    Some(Kind::Echo(number(6)?))
}

fn arp_request(target: Ipv4Addr, asker: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], ETHERTYPE_ARP);
    // Ethernet, IPv4, address lengths 6 and 4, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(ASKER_MAC);
    frame.extend(asker.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

fn neighbour_solicitation(target: Ipv6Addr) -> Vec<u8> {
    let [.., x, y, z] = target.octets();
    // RFC 4291 §2.7.1: the solicited-node group; RFC 2464 §7: its MAC address.
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z]));
    // RFC 4861 §4.3, with the source's link-layer address as the one option.
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]);
    message.extend(ASKER_MAC);
    let mut pseudo_header = Vec::new();
    pseudo_header.extend(ASKER_LINK_LOCAL.octets());
    pseudo_header.extend(group.octets());
    pseudo_header.extend([0, 0, 0, 32, 0, 0, 0, ICMPV6]);
    pseudo_header.extend(&message);
    message[2..4].copy_from_slice(&checksum(&pseudo_header).to_be_bytes());

    let mut frame = ethernet([0x33, 0x33, 0xff, x, y, z], ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
    frame.extend(ASKER_LINK_LOCAL.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

fn ethernet(destination: [u8; 6], ethertype: [u8; 2]) -> Vec<u8> {
    [destination.as_slice(), &ASKER_MAC, &ethertype].concat()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}
