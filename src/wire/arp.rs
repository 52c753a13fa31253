//! ARP over Ethernet for IPv4 (RFC 826), as far as addresses that move need it.
//!
//! Sent: the gratuitous request and reply that tell the neighbors who has an address now, and the probe that asks
//! whether anybody has it. Received: whatever is well formed; whether it concerns anybody is the engine's business.

use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;

use super::frame::{self, ETHERTYPE_ARP, ETHERTYPE_IPV4};
use crate::types::MacAddr;

/// A legal ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// A question or a statement; both state what the sender has.
    pub operation: Operation,
    /// The sender's MAC address.
    pub sender_mac: MacAddr,
    /// The sender's address; 0.0.0.0 in a probe.
    pub sender_ip: Ipv4Addr,
    /// In a request without meaning.
    pub target_mac: MacAddr,
    /// The address that is asked for; the sender's own in a gratuitous packet.
    pub target_ip: Ipv4Addr,
}

/// What an ARP packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// Why bytes are no ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpError {
    /// Shorter than such a packet. Bytes.
    Truncated {
        /// Bytes received.
        have: usize,
        /// Bytes of every ARP packet for IPv4 over Ethernet.
        need: usize,
    },
    /// Not for Ethernet and IPv4, with addresses of 6 and 4 bytes.
    OtherKind {
        /// The hardware type; 1 is Ethernet.
        hardware: u16,
        /// The protocol type; 0x0800 is IPv4.
        protocol: u16,
        /// The length of a hardware address in bytes.
        hardware_len: u8,
        /// The length of a protocol address in bytes.
        protocol_len: u8,
    },
    /// Neither request nor reply.
    UnknownOperation {
        /// The operation field.
        operation: u16,
    },
}

impl Arp {
    /// States by a request that `mac` has `ip` (an ARP announcement, RFC 5227 §2.3).
    ///
    /// Some switches and hosts take note of this form only, others of [`Self::gratuitous_reply`] only.
    pub const fn gratuitous_request(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self { operation: Operation::Request, sender_mac: mac, sender_ip: ip, target_mac: NOBODY, target_ip: ip }
    }

    /// States by a reply that `mac` has `ip` (RFC 5944 §4.6).
    pub const fn gratuitous_reply(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self { operation: Operation::Reply, sender_mac: mac, sender_ip: ip, target_mac: mac, target_ip: ip }
    }

    /// Asks whether anybody has `ip`, without changing anybody's cache (RFC 5227 §2.1.1).
    pub const fn probe(mac: MacAddr, ip: Ipv4Addr) -> Self {
        let sender_ip = Ipv4Addr::UNSPECIFIED;
        Self { operation: Operation::Request, sender_mac: mac, sender_ip, target_mac: NOBODY, target_ip: ip }
    }

    /// Reads what follows the Ethernet header. Bytes after the packet are the link's padding, and are ignored.
    ///
    /// # Errors
    ///
    /// Each with the first thing that is wrong, in the order length, kind, operation.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArpError> {
        let Some(&packet) = bytes.first_chunk::<PACKET_LEN>() else {
            return Err(ArpError::Truncated { have: bytes.len(), need: PACKET_LEN });
        };
        let [h1, h0, p1, p0, hardware_len, protocol_len, o1, o0, addresses @ ..] = packet;
        let [s1, s2, s3, s4, s5, s6, sender_ip @ .., t1, t2, t3, t4, t5, t6, a, b, c, d] = addresses;

        let (hardware, protocol) = (u16::from_be_bytes([h1, h0]), u16::from_be_bytes([p1, p0]));
        if (hardware, protocol, hardware_len, protocol_len) != KIND {
            return Err(ArpError::OtherKind { hardware, protocol, hardware_len, protocol_len });
        }
        let operation = match u16::from_be_bytes([o1, o0]) {
            1 => Operation::Request,
            2 => Operation::Reply,
            operation => return Err(ArpError::UnknownOperation { operation }),
        };
        Ok(Self {
            operation,
            sender_mac: MacAddr(s1, s2, s3, s4, s5, s6),
            sender_ip: Ipv4Addr::from(sender_ip),
            target_mac: MacAddr(t1, t2, t3, t4, t5, t6),
            target_ip: Ipv4Addr::new(a, b, c, d),
        })
    }

    /// Replaces the content of `out` by an Ethernet frame from the sender's MAC address to all: 42 bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (hardware, protocol, hardware_len, protocol_len) = KIND;
        out.clear();
        frame::ethernet(BROADCAST, self.sender_mac, ETHERTYPE_ARP, out);
        out.extend(hardware.to_be_bytes());
        out.extend(protocol.to_be_bytes());
        out.extend([hardware_len, protocol_len]);
        out.extend(self.operation.number().to_be_bytes());
        out.extend(self.sender_mac.octets());
        out.extend(self.sender_ip.octets());
        out.extend(self.target_mac.octets());
        out.extend(self.target_ip.octets());
    }
}

impl Operation {
    /// The number on the wire.
    const fn number(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
        }
    }
}

/// Hardware type, protocol type, and the lengths of their addresses.
const KIND: (u16, u16, u8, u8) = (1, ETHERTYPE_IPV4, 6, 4);
const PACKET_LEN: usize = 28;
const BROADCAST: MacAddr = MacAddr(0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
const NOBODY: MacAddr = MacAddr(0, 0, 0, 0, 0, 0);

impl fmt::Display for ArpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { have, need } => write!(f, "truncated: {have} bytes, {need} needed"),
            Self::OtherKind { hardware, protocol, hardware_len, protocol_len } => write!(
                f,
                "hardware type {hardware} ({hardware_len} bytes), protocol type {protocol:#06x} ({protocol_len} bytes)"
            ),
            Self::UnknownOperation { operation } => write!(f, "unknown ARP operation {operation}"),
        }
    }
}

impl core::error::Error for ArpError {}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use pnet_packet::Packet;
    use pnet_packet::arp::{ArpHardwareTypes, ArpOperation, ArpPacket};
    use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddr = MacAddr(0x02, 0x11, 0x22, 0x33, 0x44, 0x55);
    const IP: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 100);
    const KINDS: [Arp; 3] = [Arp::gratuitous_request(MAC, IP), Arp::gratuitous_reply(MAC, IP), Arp::probe(MAC, IP)];

    fn frame(arp: &Arp) -> Vec<u8> {
        let mut out = vec![0xa5; 100];
        arp.emit(&mut out);
        out
    }

    fn payload(arp: &Arp) -> Vec<u8> {
        frame(arp).split_off(14)
    }

    #[test]
    fn every_kind_is_framed_as_pnet_reads_it() {
        for arp in KINDS {
            let bytes = frame(&arp);
            assert_eq!(bytes.len(), 42);
            let ethernet = EthernetPacket::new(&bytes).unwrap();
            assert_eq!((ethernet.get_destination(), ethernet.get_source()), (MacAddr::broadcast(), MAC));
            assert_eq!(ethernet.get_ethertype(), EtherTypes::Arp);
            let packet = ArpPacket::new(ethernet.payload()).unwrap();
            assert_eq!(packet.get_hardware_type(), ArpHardwareTypes::Ethernet);
            assert_eq!(packet.get_protocol_type(), EtherTypes::Ipv4);
            assert_eq!((packet.get_hw_addr_len(), packet.get_proto_addr_len()), (6, 4));
            assert_eq!(packet.get_operation(), ArpOperation(arp.operation.number()));
            assert_eq!((packet.get_sender_hw_addr(), packet.get_target_hw_addr()), (arp.sender_mac, arp.target_mac));
            assert_eq!(packet.get_sender_proto_addr().octets(), arp.sender_ip.octets());
            assert_eq!(packet.get_target_proto_addr().octets(), arp.target_ip.octets());
        }
    }

    #[test]
    fn every_kind_survives_the_round_trip_padded_or_not() {
        for arp in KINDS {
            let mut bytes = payload(&arp);
            assert_eq!(Arp::parse(&bytes), Ok(arp));
            bytes.resize(46, 0xa5);
            assert_eq!(Arp::parse(&bytes), Ok(arp));
        }
    }

    #[test]
    fn every_prefix_is_truncated() {
        for arp in KINDS {
            let bytes = payload(&arp);
            for have in 0..bytes.len() {
                assert_eq!(Arp::parse(&bytes[..have]), Err(ArpError::Truncated { have, need: 28 }));
            }
        }
    }

    #[test]
    fn refuses_other_kinds() {
        let good = payload(&KINDS[0]);
        for index in 0..6 {
            let mut bytes = good.clone();
            bytes[index] ^= 0x80;
            assert!(matches!(Arp::parse(&bytes), Err(ArpError::OtherKind { .. })), "byte {index}");
        }
    }

    #[test]
    fn refuses_unknown_operations() {
        for operation in [0, 3, 0x0100, 0xffff_u16] {
            let mut bytes = payload(&KINDS[0]);
            bytes[6..8].copy_from_slice(&operation.to_be_bytes());
            assert_eq!(Arp::parse(&bytes), Err(ArpError::UnknownOperation { operation }));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_emitted_is_parsed_to_the_same(
            reply: bool, sender_mac: [u8; 6], sender_ip: [u8; 4], target_mac: [u8; 6], target_ip: [u8; 4],
        ) {
            let arp = Arp {
                operation: if reply { Operation::Reply } else { Operation::Request },
                sender_mac: sender_mac.into(),
                sender_ip: sender_ip.into(),
                target_mac: target_mac.into(),
                target_ip: target_ip.into(),
            };
            prop_assert_eq!(Arp::parse(&payload(&arp)), Ok(arp));
        }

        #[test]
        fn random_bytes_never_panic_and_what_is_taken_is_what_was_said(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            sane: bool,
        ) {
            let head: &[u8] = if sane { &[0, 1, 8, 0, 6, 4, 0] } else { &[] };
            let bytes = [head, &bytes].concat();
            if let Ok(arp) = Arp::parse(&bytes) {
                prop_assert_eq!(&payload(&arp)[..], &bytes[..28]);
            }
        }
    }
}
