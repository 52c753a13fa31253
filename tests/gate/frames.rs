//! The frames that a client asks with, and how it knows the answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];

/// One end of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct End<A> {
    pub mac: Mac,
    pub ip: A,
}

/// A way to ask whether somebody answers for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Arp,
    Ping,
    Solicitation,
    Ping6,
}

/// A question: what is sent again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    pub way: Way,
    pub target: IpAddr,
}

/// ARP and ping, by the address's family.
pub fn questions(target: IpAddr) -> Vec<Question> {
    let ways = if target.is_ipv4() { [Way::Arp, Way::Ping] } else { [Way::Solicitation, Way::Ping6] };
    ways.map(|way| Question { way, target }).to_vec()
}

/// The frame of a question. Ping goes straight to `to`, as from a client with a filled cache.
pub fn question(question: Question, from: (End<Ipv4Addr>, Ipv6Addr), to: Mac, sequence: u16) -> Vec<u8> {
    let (end, from6) = from;
    match (question.way, question.target) {
        (Way::Arp, IpAddr::V4(target)) => arp(1, BROADCAST, end, End { mac: [0; 6], ip: target }),
        (Way::Ping, IpAddr::V4(target)) => {
            let mut icmp = vec![8, 0, 0, 0, 0x56, 0x49];
            icmp.extend(sequence.to_be_bytes());
            let sum = checksum(&[&icmp]);
            icmp[2..4].copy_from_slice(&sum);
            let mut header = vec![0x45, 0, 0, 20 + 8, 0, 0, 0, 0, 64, 1, 0, 0];
            header.extend(end.ip.octets());
            header.extend(target.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum);
            ethernet(to, end.mac, 0x0800, &[header, icmp].concat())
        }
        (Way::Solicitation, IpAddr::V6(target)) => {
            let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
            body.extend(target.octets());
            body.extend([1, 1]);
            body.extend(end.mac);
            let [.., a, b, c] = target.octets();
            let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
            ethernet([0x33, 0x33, 0xff, a, b, c], end.mac, 0x86dd, &icmpv6(from6, group, body))
        }
        (Way::Ping6, IpAddr::V6(target)) => {
            let mut body = vec![128, 0, 0, 0, 0x56, 0x49];
            body.extend(sequence.to_be_bytes());
            ethernet(to, end.mac, 0x86dd, &icmpv6(from6, target, body))
        }
        mismatch => panic!("{mismatch:?} is no question"),
    }
}

/// The question that a frame answers, with the sequence number where there is one.
pub fn answered(frame: &[u8]) -> Option<(Question, Option<u16>)> {
    let v4 = |at: usize| frame.get(at..at + 4).map(|b| IpAddr::from(<[u8; 4]>::try_from(b).unwrap()));
    let v6 = |at: usize| frame.get(at..at + 16).map(|b| IpAddr::from(<[u8; 16]>::try_from(b).unwrap()));
    let number = |at: usize| frame.get(at..at + 2).map(|b| u16::from_be_bytes(b.try_into().unwrap()));
    match (number(12)?, frame) {
        (0x0806, _) if number(20)? == 2 => Some((Question { way: Way::Arp, target: v4(28)? }, None)),
        (0x0800, [.., _]) if frame.get(23) == Some(&1) && frame.get(34) == Some(&0) => {
            Some((Question { way: Way::Ping, target: v4(26)? }, number(40)))
        }
        (0x86dd, _) if frame.get(20) == Some(&58) => match frame.get(54) {
            Some(136) => Some((Question { way: Way::Solicitation, target: v6(62)? }, None)),
            Some(129) => Some((Question { way: Way::Ping6, target: v6(22)? }, number(60))),
            _ => None,
        },
        _ => None,
    }
}

/// An ARP frame: 1 asks, 2 answers.
pub fn arp(operation: u8, destination: Mac, sender: End<Ipv4Addr>, target: End<Ipv4Addr>) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, operation];
    body.extend(sender.mac);
    body.extend(sender.ip.octets());
    body.extend(target.mac);
    body.extend(target.ip.octets());
    ethernet(destination, sender.mac, 0x0806, &body)
}

/// An announcement in the form of a request or of an answer.
pub fn announcement(operation: u8, of: End<Ipv4Addr>) -> Vec<u8> {
    arp(operation, BROADCAST, of, End { mac: [0; 6], ip: of.ip })
}

/// An unsolicited neighbor advertisement.
pub fn advertisement(source: Ipv6Addr, of: End<Ipv6Addr>) -> Vec<u8> {
    let mut body = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    body.extend(of.ip.octets());
    body.extend([2, 1]);
    body.extend(of.mac);
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    ethernet([0x33, 0x33, 0, 0, 0, 1], of.mac, 0x86dd, &icmpv6(source, all, body))
}

/// The same frame, in a VLAN.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0], &vlan.to_be_bytes(), rest].concat()
}

fn ethernet(destination: Mac, source: Mac, ethertype: u16, body: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes(), body].concat()
}

fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    let pseudo = [&source.octets()[..], &destination.octets(), &[0, 0], &len, &[0, 0, 0, 58]].concat();
    let sum = checksum(&[&pseudo, &body]);
    body[2..4].copy_from_slice(&sum);
    [&[0x60, 0, 0, 0][..], &len, &[58, 255], &source.octets(), &destination.octets(), &body].concat()
}

/// RFC 1071. All parts have an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}
