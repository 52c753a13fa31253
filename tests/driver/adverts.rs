use std::net::IpAddr;

use libtest_mimic::Trial;
use vipd::driver::adverts::{AdvertSocket, DATAGRAM_LEN};
use vipd::types::Family;
use vipd::wire::advert::group;

use crate::support::{add_address, await_readable, index, ip, pair, veth};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("adverts::multicast_arrives_whole_in_both_directions_v4", || both_directions(Family::V4, true)),
        trial("adverts::multicast_arrives_whole_in_both_directions_v6", || both_directions(Family::V6, true)),
        trial("adverts::unicast_arrives_whole_in_both_directions_v4", || both_directions(Family::V4, false)),
        trial("adverts::unicast_arrives_whole_in_both_directions_v6", || both_directions(Family::V6, false)),
        trial("adverts::a_socket_hears_its_own_interface_only", a_socket_hears_its_own_interface_only),
        trial("adverts::own_multicast_does_not_come_back", own_multicast_does_not_come_back),
        trial("adverts::the_largest_payload_fits", the_largest_payload_fits),
        trial("adverts::a_foreign_source_is_refused", a_foreign_source_is_refused),
        trial("adverts::a_full_queue_never_blocks", a_full_queue_never_blocks),
    ]
}

fn open(family: Family) -> AdvertSocket {
    AdvertSocket::open("eth0", index("eth0"), family).expect("an advert socket opens")
}

fn expect(socket: &AdvertSocket, source: IpAddr, destination: IpAddr, payload: &[u8]) {
    await_readable(socket);
    let mut buffer = vec![0xa5; DATAGRAM_LEN];
    let datagram = socket.recv(&mut buffer).expect("reception works").expect("a packet is there");
    assert_eq!((datagram.source, datagram.destination), (source, destination));
    assert_eq!(datagram.hop_limit, 255);
    assert_eq!(datagram.payload, payload);
    assert_eq!(socket.recv(&mut buffer).expect("reception works"), None);
}

fn both_directions(family: Family, multicast: bool) {
    let other = pair();
    let (here, there) = match family {
        Family::V4 => (ip("10.0.0.1"), ip("10.0.0.2")),
        Family::V6 => (ip("fe80::1"), ip("fe80::2")),
    };
    if family == Family::V6 {
        add_address("eth0", "fe80::1", 64);
        other.run(|| add_address("eth0", "fe80::2", 64));
    }
    let near = open(family);
    let far = other.run(|| open(family));
    let to = |peer| if multicast { group(family) } else { peer };
    near.send(here, to(there), b"from here").expect("sending works");
    expect(&far, here, to(there), b"from here");
    far.send(there, to(here), b"from there, and longer").expect("sending works");
    expect(&near, there, to(here), b"from there, and longer");
}

fn a_socket_hears_its_own_interface_only() {
    let other = pair();
    veth("eth1", "eth2", None);
    for name in ["eth1", "eth2"] {
        crate::support::set_up(name, true);
    }
    add_address("eth1", "10.1.0.1", 24);
    let first = open(Family::V4);
    let second = AdvertSocket::open("eth2", index("eth2"), Family::V4).expect("an advert socket opens");
    let sender = other.run(|| open(Family::V4));
    sender.send(ip("10.0.0.2"), group(Family::V4), b"eth0").expect("sending works");
    expect(&first, ip("10.0.0.2"), group(Family::V4), b"eth0");
    assert_eq!(second.recv(&mut [0; DATAGRAM_LEN]).expect("reception works"), None);
}

fn own_multicast_does_not_come_back() {
    let other = pair();
    let near = open(Family::V4);
    let far = other.run(|| open(Family::V4));
    near.send(ip("10.0.0.1"), group(Family::V4), b"x").expect("sending works");
    expect(&far, ip("10.0.0.1"), group(Family::V4), b"x");
    assert_eq!(near.recv(&mut [0; DATAGRAM_LEN]).expect("reception works"), None);
}

fn the_largest_payload_fits() {
    let other = pair();
    add_address("eth0", "fe80::1", 64);
    let near = open(Family::V6);
    let far = other.run(|| open(Family::V6));
    // 255 IPv6 addresses: the packet crosses in fragments.
    let payload: Vec<u8> = (0..8 + 255 * 16).map(|n: usize| n.to_le_bytes()[0]).collect();
    near.send(ip("fe80::1"), group(Family::V6), &payload).expect("sending works");
    expect(&far, ip("fe80::1"), group(Family::V6), &payload);
}

fn a_foreign_source_is_refused() {
    let _other = pair();
    let socket = open(Family::V4);
    let error = socket.send(ip("10.0.0.77"), group(Family::V4), b"x").expect_err("not an address of this host");
    assert!(error.to_string().contains("10.0.0.77"), "{error}");
    let error = socket.send(ip("10.0.0.1"), group(Family::V6), b"x").expect_err("two families");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

fn a_full_queue_never_blocks() {
    let _other = pair();
    let socket = open(Family::V4);
    // Nobody has this address, so packets queue behind its resolution, up to the socket's send buffer and beyond.
    let refused = (0..2_000).filter(|_| socket.send(ip("10.0.0.1"), ip("10.0.0.99"), &[0; 1_000]).is_err()).count();
    assert!(refused < 2_000, "the first was taken");
}
