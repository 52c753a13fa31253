use alloc::vec;
use core::net::IpAddr;

use pnet_base::core_net;
use pnet_packet::Packet as _;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::icmpv6::ndp::{NeighborAdvertPacket, NeighborSolicitPacket};
use pnet_packet::icmpv6::{self, Icmpv6Code, Icmpv6Packet, Icmpv6Type};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::Ipv6Packet;
use proptest::prelude::*;

use super::*;

const MAC: MacAddr = MacAddr(0x02, 0x11, 0x22, 0x33, 0x44, 0x55);
const TARGET: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const UNSOLICITED: NeighborAdvertisement = NeighborAdvertisement::unsolicited(MAC, TARGET);
const TO_ONE: NeighborAdvertisement = NeighborAdvertisement {
    destination: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9),
    target_mac: None,
    solicited: true,
    ..UNSOLICITED
};

fn frame(advertisement: &NeighborAdvertisement) -> Vec<u8> {
    let mut out = vec![0xa5; 100];
    advertisement.emit(MAC, &mut out);
    out
}

fn packet(advertisement: &NeighborAdvertisement) -> Vec<u8> {
    frame(advertisement).split_off(14)
}

/// The packet of [`UNSOLICITED`], changed, with a payload length and a checksum that hold again.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = packet(&UNSOLICITED);
    change(&mut bytes);
    let payload_len = u16::try_from(bytes.len() - 40).unwrap();
    bytes[4..6].copy_from_slice(&payload_len.to_be_bytes());
    if bytes.len() < 44 {
        return bytes;
    }
    bytes[42..44].fill(0);
    let address = |range: core::ops::Range<usize>| IpAddr::from(<[u8; 16]>::try_from(&bytes[range]).unwrap());
    let sum = checksum::with_pseudo_header(address(8..24), address(24..40), ICMPV6, &bytes[40..]);
    bytes[42..44].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The checks that pnet can make on what all frames have in common.
fn check_headers<'a>(
    ethernet: &'a EthernetPacket<'a>,
    destination_mac: MacAddr,
    destination: Ipv6Addr,
) -> Ipv6Packet<'a> {
    assert_eq!((ethernet.get_destination(), ethernet.get_source()), (destination_mac, MAC));
    assert_eq!(ethernet.get_ethertype(), EtherTypes::Ipv6);
    let packet = Ipv6Packet::new(ethernet.packet().get(14..).unwrap()).unwrap();
    assert_eq!((packet.get_version(), packet.get_traffic_class(), packet.get_flow_label()), (6, 0, 0));
    assert_eq!((packet.get_hop_limit(), packet.get_next_header()), (255, IpNextHeaderProtocols::Icmpv6));
    assert_eq!(packet.get_destination().octets(), destination.octets());
    assert_eq!(usize::from(packet.get_payload_length()), ethernet.payload().len() - 40);
    packet
}

fn pnet_checksum(packet: &Ipv6Packet<'_>) -> u16 {
    let message = Icmpv6Packet::new(packet.payload()).unwrap();
    icmpv6::checksum(&message, &packet.get_source(), &packet.get_destination())
}

#[test]
fn an_unsolicited_advertisement_is_framed_as_pnet_reads_it() {
    let bytes = frame(&UNSOLICITED);
    assert_eq!(bytes.len(), 86);
    let ethernet = EthernetPacket::new(&bytes).unwrap();
    let packet = check_headers(&ethernet, MacAddr(0x33, 0x33, 0, 0, 0, 1), ALL_NODES);
    assert_eq!(packet.get_source(), core_net::Ipv6Addr::from(TARGET.octets()));
    let message = NeighborAdvertPacket::new(packet.payload()).unwrap();
    assert_eq!((message.get_icmpv6_type(), message.get_icmpv6_code()), (Icmpv6Type(136), Icmpv6Code(0)));
    assert_eq!(message.get_checksum(), pnet_checksum(&packet));
    assert_eq!((message.get_flags(), message.get_reserved()), (0b1010_0000, 0));
    assert_eq!(message.get_target_addr().octets(), TARGET.octets());
    let options = message.get_options();
    assert_eq!((options.len(), options[0].option_type.0, options[0].length), (1, 2, 1));
    assert_eq!(options[0].data, MAC.octets());
}

#[test]
fn a_probe_is_framed_as_pnet_reads_it() {
    let mut bytes = vec![0xa5; 100];
    NeighborProbe { target: TARGET }.emit(MAC, &mut bytes);
    assert_eq!(bytes.len(), 78);
    let ethernet = EthernetPacket::new(&bytes).unwrap();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff12, 0x3456);
    let packet = check_headers(&ethernet, MacAddr(0x33, 0x33, 0xff, 0x12, 0x34, 0x56), group);
    assert_eq!(packet.get_source().octets(), Ipv6Addr::UNSPECIFIED.octets());
    let message = NeighborSolicitPacket::new(packet.payload()).unwrap();
    assert_eq!((message.get_icmpv6_type(), message.get_icmpv6_code()), (Icmpv6Type(135), Icmpv6Code(0)));
    assert_eq!(message.get_checksum(), pnet_checksum(&packet));
    assert_eq!(message.get_target_addr().octets(), TARGET.octets());
    // RFC 4861 §4.3: no source link-layer address where the source is unspecified.
    assert!(message.get_options().is_empty());
}

#[test]
fn a_probe_is_no_advertisement() {
    let mut bytes = Vec::new();
    NeighborProbe { target: TARGET }.emit(MAC, &mut bytes);
    let refused = NeighborAdvertisement::parse(&bytes[14..]);
    assert_eq!(refused, Err(NdiscError::OtherMessage { kind: NEIGHBOR_SOLICITATION, code: 0 }));
}

#[test]
fn advertisements_survive_the_round_trip_padded_or_not() {
    for advertisement in [UNSOLICITED, TO_ONE] {
        let mut bytes = packet(&advertisement);
        assert_eq!(NeighborAdvertisement::parse(&bytes), Ok(advertisement));
        bytes.extend([0xa5; 7]);
        assert_eq!(NeighborAdvertisement::parse(&bytes), Ok(advertisement));
    }
}

#[test]
fn every_prefix_is_truncated() {
    for advertisement in [UNSOLICITED, TO_ONE] {
        let bytes = packet(&advertisement);
        for have in 0..bytes.len() {
            let need = if have < IPV6_HEADER_LEN { IPV6_HEADER_LEN } else { bytes.len() };
            assert_eq!(NeighborAdvertisement::parse(&bytes[..have]), Err(NdiscError::Truncated { have, need }));
        }
    }
}

#[test]
fn every_prefix_whose_length_field_admits_it_is_truncated_too() {
    let len = packet(&UNSOLICITED).len();
    for cut in (IPV6_HEADER_LEN..len).filter(|cut| *cut != IPV6_HEADER_LEN + MESSAGE_LEN) {
        let (have, need) = match cut - IPV6_HEADER_LEN {
            have if have < MESSAGE_LEN => (have, MESSAGE_LEN),
            have => (have - MESSAGE_LEN, OPTION_UNIT),
        };
        let bytes = changed(|bytes| bytes.truncate(cut));
        assert_eq!(NeighborAdvertisement::parse(&bytes), Err(NdiscError::Truncated { have, need }), "{cut}");
    }
    // Without its option it is whole.
    let bytes = changed(|bytes| bytes.truncate(IPV6_HEADER_LEN + MESSAGE_LEN));
    assert_eq!(NeighborAdvertisement::parse(&bytes), Ok(NeighborAdvertisement { target_mac: None, ..UNSOLICITED }));
}

#[test]
fn each_misdeed_has_its_reason() {
    let parse = NeighborAdvertisement::parse;
    assert_eq!(parse(&changed(|bytes| bytes[0] = 0x45)), Err(NdiscError::OtherVersion { version: 4 }));
    assert_eq!(parse(&changed(|bytes| bytes[6] = 6)), Err(NdiscError::OtherNextHeader { next_header: 6 }));
    assert_eq!(parse(&changed(|bytes| bytes[7] = 254)), Err(NdiscError::WrongHopLimit { hop_limit: 254 }));
    assert_eq!(parse(&changed(|bytes| bytes[40] = 134)), Err(NdiscError::OtherMessage { kind: 134, code: 0 }));
    assert_eq!(parse(&changed(|bytes| bytes[41] = 1)), Err(NdiscError::OtherMessage { kind: 136, code: 1 }));
    assert_eq!(
        parse(&changed(|bytes| bytes[44] |= FLAG_SOLICITED)),
        Err(NdiscError::SolicitedToGroup { destination: ALL_NODES })
    );
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    assert_eq!(
        parse(&changed(|bytes| bytes[48..64].copy_from_slice(&group.octets()))),
        Err(NdiscError::MulticastTarget { target: group })
    );
    for length in [0, 2] {
        let refused = Err(NdiscError::BadOption { kind: TARGET_LINK_LAYER_ADDRESS, length });
        assert_eq!(parse(&changed(|bytes| bytes[65] = length)), refused);
    }
    assert_eq!(parse(&changed(|bytes| bytes[64..66].fill(9))), Err(NdiscError::Truncated { have: 8, need: 72 }));
}

#[test]
fn other_options_are_stepped_over() {
    let bytes = changed(|bytes| {
        bytes.splice(64..64, [[14, 2].as_slice(), &[0xa5; 14]].concat());
    });
    assert_eq!(NeighborAdvertisement::parse(&bytes), Ok(UNSOLICITED));
}

#[test]
fn a_bad_checksum_tells_the_right_one() {
    let mut bytes = packet(&UNSOLICITED);
    let expected = u16::from_be_bytes([bytes[42], bytes[43]]);
    bytes[43] ^= 0x40;
    let found = u16::from_be_bytes([bytes[42], bytes[43]]);
    assert_eq!(NeighborAdvertisement::parse(&bytes), Err(NdiscError::BadChecksum { found, expected }));
}

proptest! {
    #[test]
    fn whatever_is_emitted_is_parsed_to_the_same(
        addresses: [[u8; 16]; 3],
        mac: Option<[u8; 6]>,
        flags: [bool; 3],
    ) {
        let [source, destination, target] = addresses.map(Ipv6Addr::from);
        let advertisement = NeighborAdvertisement {
            source,
            destination,
            target: if target.is_multicast() { TARGET } else { target },
            target_mac: mac.map(MacAddr::from),
            router: flags[0],
            solicited: flags[1] && !destination.is_multicast(),
            replaces: flags[2],
        };
        prop_assert_eq!(NeighborAdvertisement::parse(&packet(&advertisement)), Ok(advertisement));
    }

    #[test]
    fn random_bytes_never_panic_and_what_is_taken_is_legal(
        noise in prop::collection::vec(any::<u8>(), 0..80),
        keep in 0..=72_usize,
        sane: bool,
    ) {
        // Noise alone, and noise behind a good start whose lengths and checksum hold.
        let bytes = if sane { changed(|bytes| { bytes.truncate(keep.max(40)); bytes.extend(&noise); }) } else { noise };
        if let Ok(advertisement) = NeighborAdvertisement::parse(&bytes) {
            prop_assert_eq!(NeighborAdvertisement::parse(&packet(&advertisement)), Ok(advertisement));
        }
    }
}
