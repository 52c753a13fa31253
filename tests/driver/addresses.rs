use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use vipd::driver::addresses::{AddressError, Addresses, InstallOptions};
use vipd::driver::ipv4_conf::{self, Setting};
use vipd::driver::netlink::Netlink;
use vipd::types::VirtualAddress;

use crate::support::{add_address, delete_link, eventually, index, ip, set_up, sysctl, veth};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("addresses::come_and_go_as_configured", come_and_go_as_configured),
        trial("addresses::installing_and_removing_twice_is_no_error", installing_and_removing_twice_is_no_error),
        trial("addresses::a_thousand_are_quick", a_thousand_are_quick),
        trial("addresses::removal_spares_the_nodes_address", removal_spares_the_nodes_address),
        trial("addresses::removal_spares_other_virtual_addresses", removal_spares_other_virtual_addresses),
        trial("addresses::removal_spares_a_later_address_of_the_node", removal_spares_a_later_address_of_the_node),
        trial("addresses::a_refusal_names_the_address_and_the_reason", a_refusal_names_the_address_and_the_reason),
        trial("addresses::a_missing_interface_has_nothing_to_remove", a_missing_interface_has_nothing_to_remove),
        trial("addresses::only_own_addresses_are_listed", only_own_addresses_are_listed),
        trial("addresses::a_lifetime_ends_and_is_renewed", a_lifetime_ends_and_is_renewed),
        trial("addresses::a_lifetimes_end_spares_the_nodes_address_and_routes", a_lifetimes_end_spares),
        trial("addresses::the_prefix_route_can_be_left_out", the_prefix_route_can_be_left_out),
    ]
}

fn virtual_address(text: &str, prefix_len: u8) -> VirtualAddress {
    VirtualAddress { ip: ip(text), prefix_len, label: None }
}

fn interface() -> u32 {
    veth("eth0", "eth1", None);
    set_up("eth0", true);
    set_up("eth1", true);
    index("eth0")
}

/// The addresses on `eth0` but for link-local ones, as the kernel lists them.
fn listed() -> Vec<String> {
    details()
        .into_iter()
        .map(|message| {
            let ip = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) | AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            format!("{}/{}", ip.expect("an address has an address"), message.header.prefix_len)
        })
        .filter(|text| !text.starts_with("fe80"))
        .collect()
}

fn details() -> Vec<AddressMessage> {
    use netlink_packet_core::Parseable;
    let mut found = Vec::new();
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut netlink = Netlink::open().expect("netlink opens");
    netlink
        .dump(&question, |_, body| {
            found.push(AddressMessage::parse(body).expect("an address is understood"));
            Ok(())
        })
        .expect("addresses are listed");
    found.retain(|message| message.header.index == index("eth0"));
    found
}

fn come_and_go_as_configured() {
    let ifindex = interface();
    let mut addresses = Addresses::open().expect("netlink opens");
    let mut labelled = virtual_address("10.0.0.100", 24);
    labelled.label = Some("eth0:vip".into());
    let wanted = [labelled, virtual_address("10.0.0.101", 32), virtual_address("2001:db8::100", 64)];
    addresses.install(ifindex, &wanted, InstallOptions::default()).expect("installed");
    assert_eq!(listed(), ["10.0.0.100/24", "10.0.0.101/32", "2001:db8::100/64"]);
    let details = details();
    assert!(details[0].attributes.contains(&AddressAttribute::Label("eth0:vip".into())));
    let v6 = details.iter().flat_map(|message| &message.attributes).filter_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Nodad) => Some(*flags),
        _ => None,
    });
    assert!(v6.clone().count() == 1 && v6.clone().all(|flags| !flags.contains(AddressFlags::Tentative)));
    addresses.remove(ifindex, &wanted).expect("removed");
    assert_eq!(listed(), [""; 0]);
}

fn installing_and_removing_twice_is_no_error() {
    let ifindex = interface();
    let mut addresses = Addresses::open().expect("netlink opens");
    let one = [virtual_address("10.0.0.100", 24)];
    let both = [virtual_address("10.0.0.100", 24), virtual_address("2001:db8::100", 64)];
    addresses.install(ifindex, &one, InstallOptions::default()).expect("installed");
    addresses.install(ifindex, &both, InstallOptions::default()).expect("installed again");
    assert_eq!(listed().len(), 2);
    addresses.remove(ifindex, &one).expect("removed");
    addresses.remove(ifindex, &both).expect("removed again");
    addresses.remove(ifindex, &both).expect("and again");
    assert_eq!(listed(), [""; 0]);
}

fn a_thousand_are_quick() {
    let ifindex = interface();
    let mut addresses = Addresses::open().expect("netlink opens");
    let vips: Vec<_> = (0..1000).map(|n| virtual_address(&format!("10.0.{}.{}", n / 250, n % 250 + 1), 16)).collect();
    for node_address in [true, false] {
        if node_address {
            add_address("eth0", "10.0.200.1", 16);
        }
        let start = Instant::now();
        addresses.install(ifindex, &vips, InstallOptions::default()).expect("installed");
        let installed = start.elapsed();
        assert_eq!(listed().len(), 1000 + usize::from(node_address));
        let start = Instant::now();
        addresses.remove(ifindex, &vips).expect("removed");
        let removed = start.elapsed();
        assert_eq!(listed().len(), usize::from(node_address));
        eprintln!(
            "1,000 IPv4 addresses, node address {node_address}: installed in {installed:?}, removed in {removed:?}"
        );
        // Far above what is measured, and far below what one request at a time would take on a slow machine.
        assert!(installed < Duration::from_secs(2) && removed < Duration::from_secs(2));
        if node_address {
            crate::support::delete_address("eth0", "10.0.200.1", 16);
        }
    }
    let vips: Vec<_> = (0..1000).map(|n| virtual_address(&format!("2001:db8::{n:x}:1"), 64)).collect();
    let start = Instant::now();
    addresses.install(ifindex, &vips, InstallOptions::default()).expect("installed");
    let installed = start.elapsed();
    let start = Instant::now();
    addresses.remove(ifindex, &vips).expect("removed");
    eprintln!("1,000 IPv6 addresses: installed in {installed:?}, removed in {:?}", start.elapsed());
    assert_eq!(listed(), [""; 0]);
}

fn promote(value: u32) {
    let mut netlink = Netlink::open().expect("netlink opens");
    ipv4_conf::write(&mut netlink, index("eth0"), Setting::PromoteSecondaries, value).expect("the setting is written");
}

fn promoted() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/promote_secondaries").expect("the setting is there")
}

fn removal_spares_the_nodes_address() {
    let ifindex = interface();
    add_address("eth0", "10.0.0.1", 24);
    let vips = [virtual_address("10.0.0.100", 24), virtual_address("10.0.0.101", 24)];
    let mut addresses = Addresses::open().expect("netlink opens");
    addresses.install(ifindex, &vips, InstallOptions::default()).expect("installed");
    addresses.remove(ifindex, &vips[..1]).expect("removed");
    assert_eq!(listed(), ["10.0.0.1/24", "10.0.0.101/24"]);
    addresses.remove(ifindex, &vips[1..]).expect("removed");
    assert_eq!(listed(), ["10.0.0.1/24"]);
}

fn removal_spares_other_virtual_addresses() {
    let ifindex = interface();
    sysctl("ipv4/conf/all/promote_secondaries", "0");
    for setting in [0, 1] {
        promote(setting);
        let vips = [virtual_address("10.0.0.100", 24), virtual_address("10.0.0.101", 24)];
        let mut addresses = Addresses::open().expect("netlink opens");
        addresses.install(ifindex, &vips, InstallOptions::default()).expect("installed");
        addresses.remove(ifindex, &vips[..1]).expect("removed");
        assert_eq!(listed(), ["10.0.0.101/24"], "promote_secondaries was {setting}");
        assert_eq!(promoted().trim(), setting.to_string(), "the setting is as it was");
        addresses.remove(ifindex, &vips[1..]).expect("removed");
    }
}

fn removal_spares_a_later_address_of_the_node() {
    let ifindex = interface();
    sysctl("ipv4/conf/all/promote_secondaries", "0");
    promote(0);
    let vip = [virtual_address("10.0.0.100", 24)];
    let mut addresses = Addresses::open().expect("netlink opens");
    addresses.install(ifindex, &vip, InstallOptions::default()).expect("installed");
    add_address("eth0", "10.0.0.1", 24);
    addresses.remove(ifindex, &vip).expect("removed");
    assert_eq!(listed(), ["10.0.0.1/24"]);
}

fn a_refusal_names_the_address_and_the_reason() {
    let ifindex = interface();
    let mut addresses = Addresses::open().expect("netlink opens");
    let mut long = virtual_address("10.0.0.101", 24);
    long.label = Some("a-label-that-is-too-long".into());
    let vips = [virtual_address("10.0.0.100", 24), long, virtual_address("10.0.0.102", 24)];
    let error = addresses.install(ifindex, &vips, InstallOptions::default()).expect_err("the label is too long");
    assert!(matches!(error, AddressError::Refused { others: 0, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("cannot install 10.0.0.101/24 on interface index"), "{text}");
    assert_eq!(listed(), ["10.0.0.100/24", "10.0.0.102/24"], "the others are installed");
    // The kernel's own words.
    sysctl("ipv6/conf/eth0/disable_ipv6", "1");
    let vips = [virtual_address("2001:db8::1", 64), virtual_address("2001:db8::2", 64)];
    let error = addresses.install(ifindex, &vips, InstallOptions::default()).expect_err("IPv6 is off");
    let AddressError::Refused { others: 1, refusal, .. } = error else { panic!("{error:?}") };
    assert!(refusal.text.as_deref().is_some_and(|text| text.contains("disabled")), "{refusal:?}");
}

fn a_missing_interface_has_nothing_to_remove() {
    let ifindex = interface();
    let mut addresses = Addresses::open().expect("netlink opens");
    let vips = [virtual_address("10.0.0.100", 24), virtual_address("2001:db8::100", 64)];
    delete_link("eth0");
    addresses.remove(ifindex, &vips).expect("nothing is there");
    let error = addresses.install(ifindex, &vips, InstallOptions::default()).expect_err("there is no interface");
    assert!(matches!(error, AddressError::Refused { others: 1, .. }), "{error:?}");
}

fn only_own_addresses_are_listed() {
    let ifindex = interface();
    add_address("eth0", "10.0.0.1", 24);
    add_address("eth1", "10.1.0.1", 24);
    let mut addresses = Addresses::open().expect("netlink opens");
    let other = index("eth1");
    addresses.install(ifindex, &[virtual_address("10.0.0.100", 24)], InstallOptions::default()).expect("installed");
    addresses.install(other, &[virtual_address("2001:db8::100", 64)], InstallOptions::default()).expect("installed");
    let shown = |list: Vec<vipd::driver::addresses::OwnAddress>| -> Vec<_> {
        list.into_iter().map(|own| (own.ifindex, own.ip.to_string(), own.prefix_len)).collect()
    };
    let all = shown(addresses.own_addresses(None).expect("listed"));
    assert_eq!(all, [(ifindex, "10.0.0.100".into(), 24), (other, "2001:db8::100".into(), 64)]);
    let one = shown(addresses.own_addresses(Some(other)).expect("listed"));
    assert_eq!(one, [(other, "2001:db8::100".into(), 64)]);
}

fn a_lifetime_ends_and_is_renewed() {
    let ifindex = interface();
    let mut addresses = Addresses::open().expect("netlink opens");
    let vips = [virtual_address("10.0.0.100", 24), virtual_address("2001:db8::100", 64)];
    let lease = |seconds| InstallOptions { valid_lifetime: Some(Duration::from_secs(seconds)), ..Default::default() };
    addresses.install(ifindex, &vips, lease(100)).expect("installed");
    addresses.install(ifindex, &vips, lease(1)).expect("shortened");
    assert_eq!(listed().len(), 2);
    eventually("the addresses lapse", || listed().is_empty().then_some(()));
}

fn a_lifetimes_end_spares() {
    let ifindex = interface();
    sysctl("ipv4/conf/all/promote_secondaries", "0");
    promote(0);
    let mut addresses = Addresses::open().expect("netlink opens");
    // The host's own come second, so that it is the vips that lead their subnets.
    let vips = [virtual_address("10.0.0.100", 24), virtual_address("2001:db8::100", 64)];
    let lease = |seconds| InstallOptions { valid_lifetime: Some(Duration::from_secs(seconds)), ..Default::default() };
    let routes = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}")).expect("routes are listed");
    // Whether the route goes by itself, which no list of routes shows before it has gone (RTF_EXPIRES).
    let expires = || {
        let routes = routes("ipv6_route");
        let route = routes.lines().find(|route| route.starts_with("20010db8000000000000000000000000 40"));
        let flags = route.and_then(|route| route.split_whitespace().nth(8)).expect("there is a route, with flags");
        u32::from_str_radix(flags, 16).expect("hexadecimal") & 0x0040_0000 != 0
    };
    addresses.spare_others(ifindex).expect("the setting is written");
    assert_eq!(promoted().trim(), "1");
    addresses.install(ifindex, &vips, lease(100)).expect("installed");
    assert!(expires(), "the route of an address with a lifetime");
    add_address("eth0", "10.0.0.1", 24);
    add_address("eth0", "2001:db8::1", 64);
    addresses.restore().expect("the kernel answers");
    assert_eq!(promoted().trim(), "1", "as long as there is one of ours");
    addresses.install(ifindex, &vips, lease(1)).expect("renewed, for the last time");
    eventually("the addresses lapse", || (listed() == ["10.0.0.1/24", "2001:db8::1/64"]).then_some(()));
    assert!(routes("route").contains("0000000A"), "{}", routes("route"));
    assert!(!expires(), "the route of an address for ever");
    let mut next = Addresses::open().expect("netlink opens");
    promote(0);
    next.spare_others(ifindex).expect("the setting is written");
    next.restore().expect("the setting is written");
    assert_eq!(promoted().trim(), "0", "none of ours is left");
}

fn the_prefix_route_can_be_left_out() {
    let ifindex = interface();
    let mut addresses = Addresses::open().expect("netlink opens");
    let routes = || fs::read_to_string("/proc/thread-self/net/route").expect("routes are listed").lines().count() - 1;
    let vip = [virtual_address("10.0.0.100", 24)];
    let options = InstallOptions { prefix_route: false, ..Default::default() };
    addresses.install(ifindex, &vip, options).expect("installed");
    assert_eq!(routes(), 0);
    addresses.remove(ifindex, &vip).expect("removed");
    addresses.install(ifindex, &vip, InstallOptions::default()).expect("installed");
    assert_eq!(routes(), 1);
}
