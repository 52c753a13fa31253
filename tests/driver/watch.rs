use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libtest_mimic::Trial;
use vipd::driver::frames::{FrameSocket, Urgency};
use vipd::driver::watch::{Claim, ClaimSocket, PACKET_LEN};
use vipd::engine::ClaimKind;
use vipd::types::{Family, MacAddr};
use vipd::wire::arp::Arp;
use vipd::wire::ndisc::{NeighborAdvertisement, NeighborProbe};

use crate::support::{Host, delete_link, echo, eventually, index, ip, mac, pair, set_up};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("watch::claims_to_watched_addresses_are_heard", claims_are_heard),
        trial("watch::other_addresses_and_questions_are_not_heard", the_rest_is_not_heard),
        trial("watch::frames_of_a_vlan_and_to_others_are_not_heard", frames_of_other_networks),
        trial("watch::more_addresses_than_a_filter_holds_are_told_apart", many_addresses),
        trial("watch::an_interface_that_goes_leaves_a_socket_that_is_silent", the_interface_goes),
    ]
}

const MAC: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);
const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
/// Sent last: what comes before it was not heard.
const END: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 199);

/// Two hosts that reach each other: what is sent before an interface is quite up is lost.
fn hosts() -> Host {
    let other = pair();
    echo(&other, ip("10.0.0.1"));
    other
}

fn watch(family: Family) -> ClaimSocket {
    ClaimSocket::open(index("eth0"), family, [V4.into(), V6.into(), END.into()]).expect("a socket")
}

fn arp(arp: Arp) -> Vec<u8> {
    let mut frame = Vec::new();
    arp.emit(&mut frame);
    frame
}

fn advertisement(advertisement: NeighborAdvertisement) -> Vec<u8> {
    let mut frame = Vec::new();
    advertisement.emit(MAC, &mut frame);
    frame
}

fn send(from: &Host, frames: &[Vec<u8>]) {
    from.run(|| {
        let socket = FrameSocket::open(Urgency::Ordinary).expect("a socket");
        assert_eq!(socket.send(index("eth0"), frames).expect("sent"), frames.len());
    });
}

fn next(socket: &ClaimSocket) -> Claim {
    let mut buffer = [0; PACKET_LEN];
    eventually("a claim", || socket.recv(&mut buffer).expect("the socket works"))
}

fn claim(address: impl Into<IpAddr>, kind: ClaimKind) -> Claim {
    Claim { address: address.into(), mac: MAC, kind }
}

fn claims_are_heard() {
    let other = hosts();
    let (v4, v6) = (watch(Family::V4), watch(Family::V6));
    let asked = Ipv4Addr::new(10, 0, 0, 9);
    send(
        &other,
        &[
            arp(Arp::gratuitous_request(MAC, V4)),
            arp(Arp::gratuitous_reply(MAC, V4)),
            arp(Arp { target_ip: asked, ..Arp::gratuitous_request(MAC, V4) }),
            arp(Arp { target_ip: asked, ..Arp::gratuitous_reply(MAC, V4) }),
            advertisement(NeighborAdvertisement::unsolicited(MAC, V6)),
            // Without an option the frame's own address counts.
            advertisement(NeighborAdvertisement { target_mac: None, ..NeighborAdvertisement::unsolicited(MAC, V6) }),
        ],
    );
    use ClaimKind::{Announcement, Answer, Question};
    for kind in [Announcement, Announcement, Question, Answer] {
        assert_eq!(next(&v4), claim(V4, kind));
    }
    assert_eq!([next(&v6), next(&v6)], [claim(V6, Announcement); 2]);
}

fn the_rest_is_not_heard() {
    let other = hosts();
    let (v4, v6) = (watch(Family::V4), watch(Family::V6));
    let mut question = Vec::new();
    NeighborProbe { target: V6 }.emit(MAC, &mut question);
    let elsewhere = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 0x100);
    // What this host says itself.
    FrameSocket::open(Urgency::Ordinary)
        .and_then(|socket| socket.send(index("eth0"), &[arp(Arp::gratuitous_request(mac("eth0"), V4))]))
        .expect("sent");
    send(
        &other,
        &[
            arp(Arp::gratuitous_request(MAC, Ipv4Addr::new(10, 0, 0, 101))),
            arp(Arp::probe(MAC, V4)),
            question,
            // Its end is that of a watched address, which the filter lets pass.
            advertisement(NeighborAdvertisement::unsolicited(MAC, elsewhere)),
            arp(Arp::gratuitous_request(MAC, END)),
            advertisement(NeighborAdvertisement::unsolicited(MAC, V6)),
        ],
    );
    assert_eq!(next(&v4), claim(END, ClaimKind::Announcement));
    assert_eq!(next(&v6), claim(V6, ClaimKind::Announcement));
    assert_eq!(v6.recv(&mut [0; PACKET_LEN]).expect("the socket works"), None);
}

fn frames_of_other_networks() {
    let other = hosts();
    let v4 = watch(Family::V4);
    let tagged = |vlan: u16, ip: Ipv4Addr| {
        let mut frame = arp(Arp::gratuitous_request(MAC, ip));
        let tag = [0x81, 0, vlan.to_be_bytes()[0], vlan.to_be_bytes()[1]];
        frame.splice(12..12, tag);
        frame
    };
    let mut to_another = arp(Arp::gratuitous_reply(MAC, V4));
    to_another[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x77]);
    // A tag of VLAN 0 holds a priority and nothing else.
    send(&other, &[tagged(20, V4), to_another, tagged(0, END)]);
    assert_eq!(next(&v4), claim(END, ClaimKind::Announcement));
}

fn many_addresses() {
    let other = hosts();
    for count in [2_000_u32, 2_001] {
        let first = Ipv4Addr::new(10, 1, 0, 0).to_bits();
        let addresses = (0..count).map(|n| Ipv4Addr::from_bits(first + n).into());
        let socket = ClaimSocket::open(index("eth0"), Family::V4, addresses).expect("a socket");
        let last = Ipv4Addr::from_bits(first + count - 1);
        let next_to_it = Ipv4Addr::from_bits(first + count);
        send(&other, &[next_to_it, last].map(|ip| arp(Arp::gratuitous_request(MAC, ip))));
        assert_eq!(next(&socket), claim(last, ClaimKind::Announcement));
    }
}

fn the_interface_goes() {
    let other = hosts();
    let socket = watch(Family::V4);
    set_up("eth0", false);
    assert_eq!(socket.recv(&mut [0; PACKET_LEN]).expect("down is no error"), None);
    set_up("eth0", true);
    eventually("it hears again", || {
        send(&other, &[arp(Arp::gratuitous_request(MAC, V4))]);
        std::thread::sleep(Duration::from_millis(5));
        socket.recv(&mut [0; PACKET_LEN]).expect("up again").map(|heard| assert_eq!(heard.address, ip("10.0.0.100")))
    });
    delete_link("eth0");
    let silent = || socket.recv(&mut [0; PACKET_LEN]).expect("gone is no error").is_none();
    eventually("what had arrived is read", || silent().then_some(()));
    assert!(silent());
}
