//! The Internet checksum (RFC 1071), with and without a pseudo-header.
//!
//! Over a message whose checksum field holds 0 it is what to write there. Over a received message it is 0 where
//! the field is right, whichever of its two zeros the sender wrote.

use core::net::IpAddr;

use pnet_packet::util;

/// Over a message alone.
pub(super) fn alone(message: &[u8]) -> u16 {
    over(&[message])
}

/// Over a message and the pseudo-header of its packet (RFC 768 for IPv4, RFC 8200 §8.1 for IPv6).
pub(super) fn with_pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    // IPv4's length field has two bytes and IPv6's four: the sum is the same.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    let protocol = [0, protocol];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            over(&[&source.octets(), &destination.octets(), &protocol, &length, message])
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            over(&[&source.octets(), &destination.octets(), &protocol, &length, message])
        }
        // Such a packet does not exist.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => alone(message),
    }
}

/// Over parts as if they stood one after the other. Only the last may have an odd length.
fn over(parts: &[&[u8]]) -> u16 {
    !parts.iter().map(|part| !util::checksum(part, NO_SKIP)).fold(0, add)
}

/// The one's complement sum of two words or sums.
pub(super) fn add(left: u16, right: u16) -> u16 {
    let (sum, carry) = left.overflowing_add(right);
    sum.wrapping_add(u16::from(carry))
}

/// The utility can take one 16-bit word for 0; no packet has this one.
const NO_SKIP: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn agrees_with_the_example_of_rfc_1071() {
        // RFC 1071 §3: the words 0001 f203 f4f5 f6f7 add up to ddf2.
        assert_eq!(alone(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn a_last_odd_byte_counts_as_the_high_one() {
        assert_eq!(alone(&[0x12]), !0x1200);
    }

    #[test]
    fn carries_are_added_back() {
        assert_eq!(add(0xffff, 0x0001), 1);
        assert_eq!(add(0xffff, 0xffff), 0xffff);
        assert_eq!(over(&[&[0xff, 0xff], &[0x00, 0x01]]), !0x0001);
    }

    #[test]
    fn pseudo_headers_agree_with_pnet() {
        use pnet_base::core_net;
        use pnet_packet::ip::IpNextHeaderProtocols::Vrrp;
        // Without `std`, pnet has address types of its own.
        let theirs4 = |address: Ipv4Addr| core_net::Ipv4Addr::from(address.octets());
        let theirs6 = |address: Ipv6Addr| core_net::Ipv6Addr::from(address.octets());
        let message = [0x31, 51, 100, 1, 0, 100, 0, 0, 10, 20, 0, 100, 7];
        let (v4, group4) = (Ipv4Addr::new(10, 20, 0, 1), Ipv4Addr::new(224, 0, 0, 18));
        assert_eq!(
            with_pseudo_header(v4.into(), group4.into(), 112, &message),
            util::ipv4_checksum(&message, NO_SKIP, &[], &theirs4(v4), &theirs4(group4), Vrrp)
        );
        let (v6, group6) = (Ipv6Addr::new(0xfe80, 0, 0, 0, 1, 2, 3, 4), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12));
        assert_eq!(
            with_pseudo_header(v6.into(), group6.into(), 112, &message),
            util::ipv6_checksum(&message, NO_SKIP, &[], &theirs6(v6), &theirs6(group6), Vrrp)
        );
    }
}
