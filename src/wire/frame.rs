//! Ethernet frames: what has to leave with a source MAC of our choice goes through a packet socket, whole.
//!
//! An advert with the virtual router MAC address as its source (RFC 9568 §7.2) is built here; ARP and neighbor
//! discovery build theirs on the same headers. Nothing is parsed here.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::advert::{Advert, ChecksumForm, Endpoints, HOP_LIMIT, PROTOCOL, group};
use super::checksum;
use crate::types::{Family, MacAddr};

/// CS6, network control: what routers have long given to routing protocols (RFC 4594 §3.2).
pub const TRAFFIC_CLASS: u8 = 0xc0;

/// Replaces the content of `out` by a frame that carries an advert to the multicast group of the family of `source`.
pub fn emit_advert(advert: &Advert, checksum: ChecksumForm, source_mac: MacAddr, source: IpAddr, out: &mut Vec<u8>) {
    let destination = group(Family::of(source));
    let mut message = Vec::new();
    advert.emit(Endpoints { source, destination }, checksum, &mut message);
    emit_packet(&message, source_mac, source, out);
}

/// The same of an advert's bytes, with whatever stands behind them.
pub fn emit_packet(message: &[u8], source_mac: MacAddr, source: IpAddr, out: &mut Vec<u8>) {
    let destination = group(Family::of(source));
    out.clear();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet(multicast_mac_v4(destination), source_mac, ETHERTYPE_IPV4, out);
            ipv4(source, destination, message.len(), out);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet(multicast_mac_v6(destination), source_mac, ETHERTYPE_IPV6, out);
            ipv6(Ipv6Header { traffic_class: TRAFFIC_CLASS, next_header: PROTOCOL, source, destination }, message, out);
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => unreachable!("a group is of its family"),
    }
    out.extend(message);
}

pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Appends an Ethernet header: 14 bytes.
pub(super) fn ethernet(destination: MacAddr, source: MacAddr, ethertype: u16, out: &mut Vec<u8>) {
    out.extend(destination.octets());
    out.extend(source.octets());
    out.extend(ethertype.to_be_bytes());
}

/// What differs between the IPv6 headers that are sent here. The hop limit is 255 in all.
pub(super) struct Ipv6Header {
    pub(super) traffic_class: u8,
    pub(super) next_header: u8,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
}

/// Appends an IPv6 header without extensions: 40 bytes (RFC 8200 §3). The flow label is 0.
pub(super) fn ipv6(header: Ipv6Header, payload: &[u8], out: &mut Vec<u8>) {
    let payload_len = u16::try_from(payload.len()).expect("a message that is built here fits a link's MTU");
    let version_class_flow = (6 << 28) | (u32::from(header.traffic_class) << 20);
    out.extend(version_class_flow.to_be_bytes());
    out.extend(payload_len.to_be_bytes());
    out.extend([header.next_header, HOP_LIMIT]);
    out.extend(header.source.octets());
    out.extend(header.destination.octets());
}

/// Appends the IPv4 header of an advert, without options: 20 bytes (RFC 791 §3.1).
fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, payload_len: usize, out: &mut Vec<u8>) {
    let total_len = u16::try_from(IPV4_HEADER_LEN + payload_len).expect("an advert of 255 IPv4 addresses is short");
    let start = |checksum: u16| {
        let [length_high, length_low] = total_len.to_be_bytes();
        let [sum_high, sum_low] = checksum.to_be_bytes();
        // RFC 6864 §4.1: what may not be fragmented (the 4) needs no identification.
        let first_word = [0x45, TRAFFIC_CLASS, length_high, length_low];
        [first_word, [0, 0, 0x40, 0], [HOP_LIMIT, PROTOCOL, sum_high, sum_low]]
    };
    let addresses = [source.octets(), destination.octets()];
    let unsummed = [start(0).as_flattened(), addresses.as_flattened()].concat();
    out.extend(start(checksum::alone(&unsummed)).as_flattened());
    out.extend(addresses.as_flattened());
}

const IPV4_HEADER_LEN: usize = 20;

/// RFC 1112 §6.4: the lower 23 bits of the group.
const fn multicast_mac_v4(group: Ipv4Addr) -> MacAddr {
    let [_, second, third, fourth] = group.octets();
    MacAddr(0x01, 0x00, 0x5e, second & 0x7f, third, fourth)
}

/// RFC 2464 §7: the lower 32 bits of the group.
pub(super) const fn multicast_mac_v6(group: Ipv6Addr) -> MacAddr {
    let [.., third, second, first, last] = group.octets();
    MacAddr(0x33, 0x33, third, second, first, last)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use pnet_base::core_net;
    use pnet_packet::Packet;
    use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
    use pnet_packet::ip::IpNextHeaderProtocols;
    use pnet_packet::ipv4::{self, Ipv4Packet};
    use pnet_packet::ipv6::Ipv6Packet;

    use super::*;
    use crate::types::{AdvertInterval, Priority, Version, Vrid};

    fn advert(addresses: Vec<IpAddr>) -> Advert {
        Advert {
            version: Version::V3,
            vrid: Vrid::new(51).unwrap(),
            priority: Priority(200),
            interval: AdvertInterval::from_centiseconds(10).unwrap(),
            addresses,
            password: None,
        }
    }

    fn frame(advert: &Advert, source: IpAddr) -> Vec<u8> {
        let mut out = vec![0xa5; 100];
        let mac = advert.vrid.virtual_mac(Family::of(source));
        emit_advert(advert, ChecksumForm::Rfc5798, mac, source, &mut out);
        out
    }

    #[test]
    fn an_ipv4_advert_is_framed_as_pnet_reads_it() {
        let source = IpAddr::from([10, 20, 0, 1]);
        for count in [1, 2, 255] {
            let advert = advert((0..count).map(|n| IpAddr::from([10, 20, 1, n])).collect());
            let bytes = frame(&advert, source);
            let ethernet = EthernetPacket::new(&bytes).unwrap();
            assert_eq!(ethernet.get_destination(), MacAddr(0x01, 0x00, 0x5e, 0x00, 0x00, 0x12));
            assert_eq!(ethernet.get_source(), MacAddr(0x00, 0x00, 0x5e, 0x00, 0x01, 51));
            assert_eq!(ethernet.get_ethertype(), EtherTypes::Ipv4);

            let packet = Ipv4Packet::new(ethernet.payload()).unwrap();
            assert_eq!((packet.get_version(), packet.get_header_length()), (4, 5));
            assert_eq!(packet.get_dscp() << 2 | packet.get_ecn(), 0xc0);
            assert_eq!(usize::from(packet.get_total_length()), bytes.len() - 14);
            assert_eq!((packet.get_flags(), packet.get_fragment_offset()), (2, 0));
            assert_eq!((packet.get_ttl(), packet.get_next_level_protocol()), (255, IpNextHeaderProtocols::Vrrp));
            assert_eq!(packet.get_checksum(), ipv4::checksum(&packet));
            assert_eq!(packet.get_source(), core_net::Ipv4Addr::new(10, 20, 0, 1));
            assert_eq!(packet.get_destination(), core_net::Ipv4Addr::new(224, 0, 0, 18));

            let endpoints = Endpoints { source, destination: group(Family::V4) };
            assert_eq!(Advert::parse(packet.payload(), endpoints), Ok((advert, ChecksumForm::Rfc5798)));
        }
    }

    #[test]
    fn an_ipv6_advert_is_framed_as_pnet_reads_it() {
        let source = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
        let advert = advert(vec![IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0x51])]);
        let bytes = frame(&advert, source);
        let ethernet = EthernetPacket::new(&bytes).unwrap();
        assert_eq!(ethernet.get_destination(), MacAddr(0x33, 0x33, 0x00, 0x00, 0x00, 0x12));
        assert_eq!(ethernet.get_source(), MacAddr(0x00, 0x00, 0x5e, 0x00, 0x02, 51));
        assert_eq!(ethernet.get_ethertype(), EtherTypes::Ipv6);

        let packet = Ipv6Packet::new(ethernet.payload()).unwrap();
        assert_eq!((packet.get_version(), packet.get_traffic_class(), packet.get_flow_label()), (6, 0xc0, 0));
        assert_eq!(usize::from(packet.get_payload_length()), bytes.len() - 54);
        assert_eq!((packet.get_hop_limit(), packet.get_next_header()), (255, IpNextHeaderProtocols::Vrrp));
        assert_eq!(packet.get_source(), core_net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
        assert_eq!(packet.get_destination(), core_net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12));

        let endpoints = Endpoints { source, destination: group(Family::V6) };
        assert_eq!(Advert::parse(packet.payload(), endpoints).unwrap().0, advert);
    }

    #[test]
    fn a_group_s_mac_has_its_lower_bits() {
        assert_eq!(multicast_mac_v4(Ipv4Addr::new(239, 0x81, 2, 3)), MacAddr(0x01, 0x00, 0x5e, 0x01, 2, 3));
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff12, 0x3456);
        assert_eq!(multicast_mac_v6(group), MacAddr(0x33, 0x33, 0xff, 0x12, 0x34, 0x56));
    }
}
