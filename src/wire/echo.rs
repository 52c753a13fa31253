//! ICMP echo (RFC 792, RFC 4443 §4), as far as it takes to ask whether a host is there.

use super::checksum;
use crate::types::Family;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Of the addresses.
    pub family: Family,
    /// Tells the echoes of one program from those of others.
    pub identifier: u16,
    /// Tells one question from the next.
    pub sequence: u16,
}

impl Echo {
    /// The ICMP message. That of IPv6 has no checksum: it covers addresses that the kernel chooses, and writes.
    pub fn request(&self) -> [u8; 8] {
        let ([a, b], [c, d]) = (self.identifier.to_be_bytes(), self.sequence.to_be_bytes());
        match self.family {
            Family::V4 => {
                let [high, low] = checksum::alone(&[REQUEST_V4, 0, 0, 0, a, b, c, d]).to_be_bytes();
                [REQUEST_V4, 0, high, low, a, b, c, d]
            }
            Family::V6 => [REQUEST_V6, 0, 0, 0, a, b, c, d],
        }
    }
}

/// The identifier of an answer; `None`: it is something else. An IPv4 packet from its IP header on, an IPv6 one from its ICMP
/// header on, as the kernel hands them out once it has checked them.
pub fn answer(family: Family, packet: &[u8]) -> Option<u16> {
    let (message, kind) = match family {
        Family::V4 => (packet.get(header_len(packet)..)?, ANSWER_V4),
        Family::V6 => (packet, ANSWER_V6),
    };
    match message {
        [found, 0, _, _, a, b, _, _, ..] if *found == kind => Some(u16::from_be_bytes([*a, *b])),
        _ => None,
    }
}

/// Of IPv4, in bytes.
fn header_len(packet: &[u8]) -> usize {
    packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4)
}

const REQUEST_V4: u8 = 8;
const ANSWER_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const ANSWER_V6: u8 = 129;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_its_identifier_and_a_request_is_none() {
        let request = Echo { family: Family::V4, identifier: 0xabcd, sequence: 7 }.request();
        assert_eq!(checksum::alone(&request), 0, "the checksum holds");
        let mut packet = [0x46_u8; 24].to_vec();
        packet.extend(request);
        assert_eq!(answer(Family::V4, &packet), None);
        packet[24] = ANSWER_V4;
        assert_eq!(answer(Family::V4, &packet), Some(0xabcd), "behind a header with an option");
        assert_eq!(answer(Family::V4, &packet[..31]), None, "truncated");
        let mut message = Echo { family: Family::V6, identifier: 0xabcd, sequence: 7 }.request();
        assert_eq!(answer(Family::V6, &message), None);
        message[0] = ANSWER_V6;
        assert_eq!(answer(Family::V6, &message), Some(0xabcd));
        assert_eq!(answer(Family::V6, &[]), None);
    }
}
