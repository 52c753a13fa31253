//! What the gate stops, and what it leaves alone.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use libtest_mimic::Trial;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoMacVlan, InfoVlan, LinkAttribute, LinkInfo, MacVlanMode};
use vipd::driver::frames::{FrameSocket, Urgency};
use vipd::driver::netlink::Netlink;

use crate::exact::{Stage, VIP, VIP6, VIPS, by, closed_gate, closed_gate_with_two_leases, lease, mac};
use crate::frames::{End, Mac, advertisement, announcement, arp, questions, tagged};
use crate::prober::ask_for;
use crate::support::{PATIENCE, add_address, change, delete_address, eventually, index, ip, link, set_up, sysctl};
use crate::{both, open_gate, trial};

const LONG: Duration = Duration::from_secs(60);
const WHILE: Duration = Duration::from_millis(100);

const OTHER_MAC: Mac = [2, 0, 0, 0, 0, 9];

pub fn trials() -> Vec<Trial> {
    let both = [
        both("only managed addresses are closed", only_managed_addresses_are_closed),
        both("leases open one by one", leases_open_one_by_one),
        both("an address on a macvlan is closed and opened at the interface below", macvlan),
        both("a closed host is a client of the owner", a_closed_host_is_a_client_of_the_owner),
        both("a program cannot speak as a closed address, but with its own host", programs),
    ];
    let one = [
        trial("gate: an announcement cannot leave a closed gate", announcements),
        trial("gate: frames of a VLAN pass, those of VLAN 0 do not", vlans),
    ];
    both.into_iter().flatten().chain(one).collect()
}

fn only_managed_addresses_are_closed() {
    let stage = Stage::new();
    add_address("eth0", "10.0.0.101", 24);
    add_address("eth0", "2001:db8::101", 64);
    let _gate = closed_gate(&stage);
    let others = ["10.0.0.1", "10.0.0.101", "2001:db8::1", "2001:db8::101"].map(ip);
    let (silent, loud) = (stage.probe(), stage.probe_for(&others));
    std::thread::sleep(Duration::from_millis(300));
    silent.stop();
    loud.stop().assert_lossless(&ask_for(&others));
    stage.probe_during(WHILE).assert_silent();
}

fn leases_open_one_by_one() {
    let stage = Stage::new();
    let (mut gate, leases) = closed_gate_with_two_leases(&stage);
    for (vip, lease) in stage.vips.iter().zip(leases) {
        let until = std::time::Instant::now() + LONG;
        let renewal = gate.renew("eth0", lease, until).expect("the gate stands");
        assert_eq!(renewal, vipd::driver::gate::Renewal::Open);
        let record = stage.probe_during(WHILE);
        record.assert_lossless(&questions(*vip));
        for other in stage.vips.iter().filter(|other| *other != vip) {
            assert!(questions(*other).iter().all(|question| record.answers(*question) == 0));
        }
        gate.end("eth0", lease).expect("the gate stands");
    }
}

fn macvlan() {
    let stage = Stage::new();
    delete_address("eth0", VIP, 24);
    delete_address("eth0", VIP6, 64);
    // A virtual MAC answers alone where the interface below keeps to its own addresses.
    sysctl("ipv4/conf/eth0/arp_ignore", "1");
    let mut message = link("vrrp.51");
    message.attributes.push(LinkAttribute::Link(index("eth0")));
    message.attributes.push(LinkAttribute::Address(vec![0, 0, 0x5e, 0, 1, 51]));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::MacVlan),
        LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)])),
    ]));
    change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
    add_address("vrrp.51", VIP, 32);
    add_address("vrrp.51", VIP6, 128);
    set_up("vrrp.51", true);

    let virtual_mac = mac("vrrp.51");
    let answers = || {
        let record = stage.probe_at(virtual_mac, Duration::from_millis(20));
        ask_for(&stage.vips).iter().all(|question| record.answers(*question) > 0).then_some(())
    };
    eventually("the macvlan answers without a gate", answers);
    let mut gate = closed_gate(&stage);
    stage.probe_at(virtual_mac, WHILE).assert_silent();
    lease(&mut gate, LONG);
    stage.probe_at(virtual_mac, WHILE).assert_lossless(&ask_for(&stage.vips));
    gate.end("eth0", VIPS).expect("the gate stands");
    stage.probe_at(virtual_mac, WHILE).assert_silent();
}

fn announcements() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    let (v4, v6): (Ipv4Addr, Ipv6Addr) = (VIP.parse().unwrap(), VIP6.parse().unwrap());
    let mac = mac("eth0");
    let socket = FrameSocket::open(Urgency::Ordinary).expect("AF_PACKET");
    let frames = [
        announcement(1, End { mac, ip: v4 }),
        announcement(2, End { mac, ip: v4 }),
        advertisement(v6, End { mac, ip: v6 }),
        advertisement("2001:db8::1".parse().unwrap(), End { mac, ip: v6 }),
    ];
    for frame in &frames {
        let refused = socket.send(index("eth0"), std::slice::from_ref(frame)).expect_err("the gate is closed");
        assert_eq!(vipd::driver::errno(&refused), Some(libc_enobufs()), "{refused}");
    }
    lease(&mut gate, LONG);
    assert_eq!(socket.send(index("eth0"), &frames).expect("the gate is open"), frames.len());
}

fn programs() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    for (vip, client) in [(VIP, "10.0.0.2"), (VIP6, "2001:db8::2")] {
        let bound = UdpSocket::bind((ip(vip), 0)).expect("the address is there");
        let heard = stage.client.run(|| UdpSocket::bind((ip(client), 7000)).expect("a free port"));
        heard.set_read_timeout(Some(WHILE)).expect("a timeout can be set");
        // The layers differ in whether they tell the program.
        println!("sent: {:?}", bound.send_to(b"?", (ip(client), 7000)));
        assert_eq!(heard.recv(&mut [0; 1]).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        let neighbour = UdpSocket::bind((ip(vip), 7001)).expect("the address is there");
        neighbour.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        bound.send_to(b"?", (ip(vip), 7001)).expect("on the host itself it passes");
        assert_eq!(neighbour.recv(&mut [0; 1]).expect("on the host itself it passes"), 1);

        lease(&mut gate, LONG);
        // The closed gate stopped the question for the client's MAC, which the kernel repeats once a second.
        heard.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        bound.send_to(b"?", (ip(client), 7000)).expect("the gate is open");
        assert_eq!(heard.recv(&mut [0; 1]).expect("the gate is open"), 1);
        gate.end("eth0", VIPS).expect("the gate stands");
    }
}

/// `ENOBUFS`, what the kernel says where an egress hook drops.
const fn libc_enobufs() -> i32 {
    nix::errno::Errno::ENOBUFS as i32
}

fn a_closed_host_is_a_client_of_the_owner() {
    let stage = Stage::new();
    delete_address("eth0", VIP, 24);
    delete_address("eth0", VIP6, 64);
    let _gate = closed_gate(&stage);
    let owner_mac = stage.client.run(|| {
        add_address("eth0", VIP, 24);
        add_address("eth0", VIP6, 64);
        mac("eth0")
    });
    for (vip, own) in [(VIP, "10.0.0.1:0"), (VIP6, "[2001:db8::1]:0")] {
        let owner = stage.client.run(|| UdpSocket::bind((ip(vip), 7001)).expect("the owner has the address"));
        let client = UdpSocket::bind(own).expect("a free port");
        for socket in [&owner, &client] {
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        }
        client.send_to(b"?", (ip(vip), 7001)).expect("a route to the owner");
        let (_, asker) = owner.recv_from(&mut [0; 1]).expect("the question arrives");
        owner.send_to(b"!", asker).expect("a route back");
        client.recv(&mut [0; 1]).expect("the answer arrives");
    }
    assert_eq!(neighbor(VIP), Some(owner_mac));

    // The announcements of a new owner, in both forms, reach this host's own cache.
    for operation in [1, 2] {
        let new_mac = [operation, 0xee, 0, 0, 0, 1].map(|byte| byte & 0xfe);
        sysctl("ipv4/neigh/eth0/locktime", "0");
        stage.client.run(|| {
            let frame = announcement(operation, End { mac: new_mac, ip: VIP.parse().unwrap() });
            FrameSocket::open(Urgency::Ordinary).expect("AF_PACKET").send(index("eth0"), &[frame]).expect("a cable");
        });
        eventually("the cache follows", || (neighbor(VIP) == Some(new_mac)).then_some(()));
    }
}

fn neighbor(address: &str) -> Option<Mac> {
    let table = fs::read_to_string("/proc/thread-self/net/arp").expect("/proc is mounted");
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(address))?;
    let bytes: Vec<u8> =
        line.split_whitespace().nth(3)?.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().ok()
}

fn vlans() {
    let stage = Stage::new();
    let mut gate = open_gate();
    gate.manage("eth0", &by(VIPS, &[ip(VIP), ip("10.5.0.1"), ip("10.5.0.2")])).expect("eth0 exists");
    match add_vlan().and_then(|()| stage.client.run(add_vlan)) {
        Ok(()) => in_the_vlan(&stage),
        Err(error) => println!("not tried in a VLAN: {error}"),
    }
    // What is tagged with a priority alone is the interface's own.
    let answers = |vlan: Option<u16>| {
        let sender = End { mac: OTHER_MAC, ip: "10.0.0.9".parse().unwrap() };
        let frame = arp(1, [0xff; 6], sender, End { mac: [0; 6], ip: VIP.parse().unwrap() });
        let frame = vlan.map_or_else(|| frame.clone(), |vlan| tagged(&frame, vlan));
        answers_to(&stage, frame) > 0
    };
    assert!(!answers(None) && !answers(Some(0)) && !answers(Some(0xe000)), "the gate is closed");
    gate.unmanage("eth0").expect("the gate stands");
    assert!(answers(None) && answers(Some(0)) && answers(Some(0xe000)), "without a gate the host answers");
}

/// VLAN 5 of `eth0`. Some kernels have none.
fn add_vlan() -> io::Result<()> {
    let mut message = link("eth0.5");
    message.attributes.push(LinkAttribute::Link(index("eth0")));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vlan),
        LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(5)])),
    ]));
    Netlink::open()?.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
    set_up("eth0.5", true);
    Ok(())
}

/// The addresses that are managed on the interface live in the VLAN as well, which is another network.
fn in_the_vlan(stage: &Stage) {
    add_address("eth0.5", "10.5.0.1", 24);
    stage.client.run(|| add_address("eth0.5", "10.5.0.2", 24));
    let inside = UdpSocket::bind("10.5.0.1:7002").expect("the address is there");
    let client = stage.client.run(|| UdpSocket::bind("10.5.0.2:0").expect("the address is there"));
    for socket in [&inside, &client] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    }
    client.send_to(b"?", "10.5.0.1:7002").expect("a route");
    let (_, asker) = inside.recv_from(&mut [0; 1]).expect("a question in the VLAN passes");
    inside.send_to(b"!", asker).expect("a route back");
    client.recv(&mut [0; 1]).expect("an answer in the VLAN passes");
}

/// How many answers from this host a frame from the client brings.
fn answers_to(stage: &Stage, frame: Vec<u8>) -> usize {
    let prober = stage.probe_for(&[]);
    stage.client.run(|| {
        FrameSocket::open(Urgency::Ordinary).expect("AF_PACKET").send(index("eth0"), &[frame]).expect("a cable");
    });
    std::thread::sleep(Duration::from_millis(20));
    prober.stop().answers(questions(ip(VIP))[0])
}
