use std::fs;
use std::io::{ErrorKind, Read};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use socket2::{Domain, Protocol, Socket, Type};
use vipd::driver::addresses::{Addresses, InstallOptions};
use vipd::driver::frames::{FrameSocket, Urgency};
use vipd::driver::virtual_mac::{VirtualMac, VirtualMacs};
use vipd::types::{Family, MacAddr, VirtualAddress, Vrid};

use crate::support::{
    Host, change, delete_link, echo, index, ip, link, mac, neighbour, set_up, switched_pair, sysctl, veth,
};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("virtual_mac::answers_with_the_virtual_mac_alone", answers_with_the_virtual_mac_alone),
        trial("virtual_mac::that_of_ipv6_answers_no_arp", that_of_ipv6_answers_no_arp),
        trial("virtual_mac::carries_traffic_under_strict_reverse_path_checks", carries_traffic_both_ways),
        trial("virtual_mac::the_last_one_restores_the_settings", the_last_one_restores_the_settings),
        trial("virtual_mac::what_somebody_else_set_stays", what_somebody_else_set_stays),
        trial("virtual_mac::a_later_agent_finds_and_removes_it", a_later_agent_finds_and_removes_it),
        trial("virtual_mac::has_no_address_of_its_own", has_no_address_of_its_own),
        trial("virtual_mac::a_failure_leaves_nothing", a_failure_leaves_nothing),
        trial("virtual_mac::goes_with_its_parent", goes_with_its_parent),
    ]
}

fn vrid() -> Vrid {
    Vrid::new(51).expect("not 0")
}

/// As a daemon does it: the macvlan, and the addresses on it without their prefix routes.
fn become_owner(macs: &mut VirtualMacs, family: Family, address: &str, prefix_len: u8) -> VirtualMac {
    let made = macs.create(index("eth0"), vrid(), family).expect("the macvlan is made");
    let address = VirtualAddress { ip: ip(address), prefix_len, label: None };
    let options = InstallOptions { prefix_route: false, ..Default::default() };
    let installed = Addresses::open().map(|mut addresses| addresses.install(made.ifindex, &[address], options));
    installed.expect("netlink opens").expect("installed");
    made
}

fn settings(interface: &str) -> [String; 3] {
    ["arp_ignore", "arp_announce", "rp_filter"].map(|name| {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/{name}");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    })
}

/// Asks for an address by ARP, from a host's `eth0`, and returns who answers within 200 ms.
fn who_has(host: &Host, target: Ipv4Addr) -> Vec<MacAddr> {
    host.run(|| {
        // ETH_P_ARP in network order.
        let protocol = Protocol::from(i32::from(0x0806_u16.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).expect("a packet socket opens");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
        let own: [u8; 6] = mac("eth0").into();
        let mut request = vec![0xff; 6];
        request.extend_from_slice(&own);
        request.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        request.extend_from_slice(&own);
        request.extend_from_slice(&[10, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
        request.extend_from_slice(&target.octets());
        let frames = FrameSocket::open(Urgency::Ordinary).expect("a packet socket opens");
        frames.send(index("eth0"), &[request]).expect("the request is sent");
        let start = Instant::now();
        let mut answers = Vec::new();
        let mut frame = [0; 128];
        while start.elapsed() < Duration::from_millis(200) {
            match (&socket).read(&mut frame) {
                // Replies (2) whose sender is who was asked for; its MAC address stands in the ARP packet and in the frame.
                Ok(_) if frame[20..22] == [0, 2] && frame[28..32] == target.octets() => {
                    assert_eq!(frame[6..12], frame[22..28], "the frame comes from whom it speaks of");
                    answers.push(MacAddr::from(<[u8; 6]>::try_from(&frame[22..28]).expect("6 bytes")));
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
        answers
    })
}

fn answers_with_the_virtual_mac_alone() {
    let (_switch, client) = switched_pair();
    let before = settings("eth0");
    let mut macs = VirtualMacs::open().expect("netlink opens");
    let own = mac("eth0");
    assert!(who_has(&client, Ipv4Addr::new(10, 0, 0, 100)).is_empty());
    become_owner(&mut macs, Family::V4, "10.0.0.100", 24);
    assert_eq!(who_has(&client, Ipv4Addr::new(10, 0, 0, 100)), [MacAddr(0, 0, 0x5e, 0, 1, 51)]);
    assert_eq!(who_has(&client, Ipv4Addr::new(10, 0, 0, 1)), [own]);
    macs.remove(index("eth0"), vrid(), Family::V4).expect("removed");
    assert!(who_has(&client, Ipv4Addr::new(10, 0, 0, 100)).is_empty());
    assert_eq!(who_has(&client, Ipv4Addr::new(10, 0, 0, 1)), [own]);
    assert_eq!(settings("eth0"), before);
}

fn that_of_ipv6_answers_no_arp() {
    let (_switch, client) = switched_pair();
    let mut macs = VirtualMacs::open().expect("netlink opens");
    let own = mac("eth0");
    become_owner(&mut macs, Family::V6, "2001:db8::100", 64);
    assert_eq!(who_has(&client, Ipv4Addr::new(10, 0, 0, 1)), [own]);
    become_owner(&mut macs, Family::V4, "10.0.0.100", 24);
    assert_eq!(who_has(&client, Ipv4Addr::new(10, 0, 0, 1)), [own]);
    assert_eq!(who_has(&client, Ipv4Addr::new(10, 0, 0, 100)), [MacAddr(0, 0, 0x5e, 0, 1, 51)]);
}

fn carries_traffic_both_ways() {
    let (_switch, client) = switched_pair();
    // As many distributions set it.
    sysctl("ipv4/conf/all/rp_filter", "1");
    let mut macs = VirtualMacs::open().expect("netlink opens");
    become_owner(&mut macs, Family::V4, "10.0.0.100", 24);
    become_owner(&mut macs, Family::V6, "2001:db8::100", 64);
    for _ in 0..2 {
        for address in ["10.0.0.100", "2001:db8::100", "10.0.0.1", "2001:db8::1"] {
            echo(&client, ip(address));
        }
    }
    let known = |address: &str| client.run(|| neighbour(ip(address)));
    assert_eq!(known("10.0.0.100"), Some(vrid().virtual_mac(Family::V4)));
    assert_eq!(known("2001:db8::100"), Some(vrid().virtual_mac(Family::V6)));
    assert_eq!(known("10.0.0.1"), Some(mac("eth0")));
    assert_eq!(known("2001:db8::1"), Some(mac("eth0")));
}

fn the_last_one_restores_the_settings() {
    veth("eth0", "eth1", None);
    set_up("eth0", true);
    let parent = index("eth0");
    let other = Vrid::new(52).expect("not 0");
    for (ignore, announce) in [("0", "0"), ("0", "1"), ("1", "2"), ("2", "0")] {
        sysctl("ipv4/conf/eth0/arp_ignore", ignore);
        sysctl("ipv4/conf/eth0/arp_announce", announce);
        let before = settings("eth0");
        let mut macs = VirtualMacs::open().expect("netlink opens");
        macs.create(parent, vrid(), Family::V4).expect("the macvlan is made");
        macs.create(parent, other, Family::V4).expect("the macvlan is made");
        macs.create(parent, vrid(), Family::V6).expect("the macvlan is made");
        let during = settings("eth0");
        assert_eq!((during[0].as_str(), during[1].as_str()), (if ignore == "2" { "2" } else { "1" }, "2"));
        macs.remove(parent, vrid(), Family::V4).expect("removed");
        macs.remove(parent, vrid(), Family::V4).expect("removed twice is no error");
        assert_eq!(settings("eth0"), during, "another is still there");
        macs.remove(parent, other, Family::V4).expect("removed");
        assert_eq!(settings("eth0"), before);
        macs.remove(parent, vrid(), Family::V6).expect("removed");
        assert_eq!(settings("eth0"), before);
    }
}

fn what_somebody_else_set_stays() {
    veth("eth0", "eth1", None);
    set_up("eth0", true);
    let mut macs = VirtualMacs::open().expect("netlink opens");
    macs.create(index("eth0"), vrid(), Family::V4).expect("the macvlan is made");
    sysctl("ipv4/conf/eth0/arp_ignore", "8");
    macs.remove(index("eth0"), vrid(), Family::V4).expect("removed");
    let [ignore, announce, _] = settings("eth0");
    assert_eq!((ignore.as_str(), announce.as_str()), ("8", "0"));
}

fn a_later_agent_finds_and_removes_it() {
    veth("eth0", "eth1", None);
    set_up("eth0", true);
    let before = settings("eth0");
    let open = || VirtualMacs::open().expect("netlink opens");
    let made = open().create(index("eth0"), vrid(), Family::V4).expect("the macvlan is made");
    assert_eq!(made.name, format!("vip{}.51.4", index("eth0")));
    // It died. Its successor takes over what it finds, or removes it.
    assert_eq!(open().leftovers().expect("listed"), std::slice::from_ref(&made));
    assert_eq!(open().create(made.parent, vrid(), Family::V4).expect("it is taken over"), made);
    open().remove(made.parent, made.vrid, made.family).expect("removed");
    assert_eq!(open().leftovers().expect("listed"), []);
    assert_eq!(settings("eth0"), before);
}

fn has_no_address_of_its_own() {
    veth("eth0", "eth1", None);
    set_up("eth1", true);
    set_up("eth0", true);
    let mut macs = VirtualMacs::open().expect("netlink opens");
    for family in Family::ALL {
        let made = macs.create(index("eth0"), vrid(), family).expect("the macvlan is made");
        let shown = fs::read_to_string("/proc/thread-self/net/if_inet6").expect("addresses are listed");
        assert!(shown.contains(" eth0\n") && !shown.contains(&made.name), "{shown}");
    }
}

fn a_failure_leaves_nothing() {
    veth("eth0", "eth1", None);
    set_up("eth0", true);
    let before = settings("eth0");
    // Another program has a macvlan with this MAC address already, so ours cannot be up.
    let mut foreign = link("foreign");
    foreign.attributes.extend([
        LinkAttribute::Link(index("eth0")),
        LinkAttribute::Address(vec![0, 0, 0x5e, 0, 1, 51]),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan)]),
    ]);
    change(RouteNetlinkMessage::NewLink(foreign), NLM_F_CREATE | NLM_F_EXCL);
    set_up("foreign", true);
    let mut macs = VirtualMacs::open().expect("netlink opens");
    let error = macs.create(index("eth0"), vrid(), Family::V4).expect_err("the MAC address is taken");
    assert!(error.to_string().contains("set the macvlan vip"), "{error}");
    assert_eq!(macs.leftovers().expect("listed"), []);
    assert_eq!(settings("eth0"), before);
}

fn goes_with_its_parent() {
    veth("eth0", "eth1", None);
    set_up("eth0", true);
    let parent = index("eth0");
    let mut macs = VirtualMacs::open().expect("netlink opens");
    macs.create(parent, vrid(), Family::V4).expect("the macvlan is made");
    delete_link("eth0");
    assert_eq!(macs.leftovers().expect("listed"), []);
    macs.remove(parent, vrid(), Family::V4).expect("nothing is there");
    assert!(macs.create(parent, vrid(), Family::V4).is_err());
}
