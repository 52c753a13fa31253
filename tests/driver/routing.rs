use libtest_mimic::Trial;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use vipd::driver::links::{LinkEvent, LinkMonitor};
use vipd::driver::routing::{OwnRouting, RoutingTables};
use vipd::types::{Family, Prefix, Routing, VirtualRoute, VirtualRule};

use crate::support::{add_address, change, delete_address, delete_link, index, ip, pair, set_up};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("routing::what_is_installed_is_listed_and_removed_whole", what_is_installed_is_listed_and_removed_whole),
        trial("routing::routes_of_others_stay", routes_of_others_stay),
        trial("routing::what_the_kernel_refuses_is_named", what_the_kernel_refuses_is_named),
        trial("routing::what_goes_is_told_whoever_took_it", what_goes_is_told_whoever_took_it),
        trial("routing::an_ipv4_route_goes_with_the_address_it_speaks_from", a_route_goes_with_its_source),
        trial("routing::what_of_an_interface_is_gone_needs_no_removal", what_of_an_interface_is_gone_needs_no_removal),
    ]
}

fn prefix(text: &str, len: u8) -> Prefix {
    Prefix { ip: ip(text), len }
}

fn route(to: Prefix, via: Option<&str>) -> VirtualRoute {
    let metric = VirtualRoute::default_metric(to.family());
    VirtualRoute { to, via: via.map(ip), source: None, table: VirtualRoute::MAIN, metric }
}

/// Of each kind one, in both families.
fn all() -> Vec<Routing> {
    let rule = |from: &str, len| {
        let from = prefix(from, len);
        Routing::Rule(VirtualRule { from, to: Prefix::everything(from.family()), table: 100, order: 1000 })
    };
    vec![
        Routing::Route(route(prefix("10.50.0.0", 16), Some("10.0.0.2"))),
        Routing::Route(VirtualRoute {
            source: Some(ip("10.0.0.1")),
            table: 1_000_000,
            metric: 7,
            ..route(Prefix::everything(Family::V4), Some("10.0.0.2"))
        }),
        Routing::Route(route(prefix("10.60.0.0", 24), None)),
        Routing::Route(route(prefix("2001:db8:50::", 48), Some("2001:db8::2"))),
        Routing::Route(VirtualRoute {
            source: Some(ip("2001:db8::1")),
            table: 100,
            ..route(Prefix::everything(Family::V6), Some("2001:db8::2"))
        }),
        Routing::Route(route(prefix("2001:db8:60::", 64), None)),
        rule("10.0.0.1", 32),
        rule("2001:db8::", 32),
    ]
}

fn cable() -> u32 {
    std::mem::forget(pair());
    add_address("eth0", "2001:db8::1", 64);
    index("eth0")
}

fn own(tables: &mut RoutingTables) -> Vec<OwnRouting> {
    let mut own = tables.own().expect("the kernel lists");
    own.sort();
    own
}

fn what_is_installed_is_listed_and_removed_whole() {
    let eth0 = cable();
    let mut tables = RoutingTables::open().expect("a socket");
    assert_eq!(own(&mut tables), []);
    let all = all();
    let mut expected: Vec<_> = all.iter().map(|routing| OwnRouting::on(eth0, *routing)).collect();
    expected.sort();
    for _ in 0..2 {
        tables.install(eth0, &all).expect("twice is no error");
        assert_eq!(own(&mut tables), expected);
    }
    for _ in 0..2 {
        tables.remove(eth0, &all).expect("twice is no error");
        assert_eq!(own(&mut tables), []);
    }
}

/// A route of another program to the same network with the same metric.
fn foreign(family: AddressFamily, to: Prefix, via: &str, flags: u16) {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family,
        destination_prefix_length: to.len,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        table: RouteHeader::RT_TABLE_MAIN,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Oif(index("eth0")),
        RouteAttribute::Destination(to.ip.into()),
        RouteAttribute::Gateway(ip(via).into()),
        RouteAttribute::Priority(VirtualRoute::default_metric(to.family())),
    ];
    change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | flags);
}

fn routes_of_others_stay() {
    let eth0 = cable();
    let mut tables = RoutingTables::open().expect("a socket");
    let (v4, v6) = (prefix("10.50.0.0", 16), prefix("2001:db8:50::", 48));
    foreign(AddressFamily::Inet, v4, "10.0.0.3", 0);
    foreign(AddressFamily::Inet6, v6, "2001:db8::3", 0);

    let ours = [Routing::Route(route(v4, Some("10.0.0.2")))];
    tables.install(eth0, &ours).expect("an IPv4 route stands before the other");
    assert_eq!(next_hop("10.50.0.1"), ip("10.0.0.2"));
    tables.remove(eth0, &ours).expect("ours goes");
    assert_eq!(next_hop("10.50.0.1"), ip("10.0.0.3"), "and the other counts again");

    let ours = [Routing::Route(route(v6, Some("2001:db8::2")))];
    let refused = tables.install(eth0, &ours).expect_err("packets would be shared among the two").to_string();
    assert!(refused.contains("2001:db8:50::/48 via 2001:db8::2"), "{refused}");
    tables.remove(eth0, &ours).expect("there is none of ours");
    assert_eq!(next_hop("2001:db8:50::1"), ip("2001:db8::3"));
}

fn next_hop(to: &str) -> std::net::IpAddr {
    let mut routes = vipd::driver::routes::Routes::open().expect("a socket");
    let path = routes.path(index("eth0"), ip(to)).expect("there is a way");
    // The kernel says only that there is a router; who it is stands in its list.
    assert_eq!(path, vipd::engine::isolation::Path::Routed(ip(to)));
    let family = if ip(to).is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let mut question = RouteMessage::default();
    question.header = RouteHeader {
        address_family: family,
        destination_prefix_length: if ip(to).is_ipv4() { 32 } else { 128 },
        ..RouteHeader::default()
    };
    question.attributes = vec![RouteAttribute::Destination(ip(to).into())];
    let answer = vipd::driver::netlink::Netlink::open()
        .and_then(|mut netlink| netlink.ask(&RouteNetlinkMessage::GetRoute(question)))
        .expect("the kernel answers");
    let answer = <RouteMessage as netlink_packet_core::Parseable<[u8]>>::parse(&answer).expect("a route");
    let hop = answer.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(netlink_packet_route::route::RouteAddress::Inet(hop)) => Some((*hop).into()),
        RouteAttribute::Gateway(netlink_packet_route::route::RouteAddress::Inet6(hop)) => Some((*hop).into()),
        _ => None,
    });
    hop.expect("there is a router")
}

fn what_the_kernel_refuses_is_named() {
    let eth0 = cable();
    let mut tables = RoutingTables::open().expect("a socket");
    let far = Routing::Route(route(prefix("10.50.0.0", 16), Some("192.0.2.1")));
    let near = Routing::Route(route(prefix("10.60.0.0", 16), Some("10.0.0.2")));
    let refused = tables.install(eth0, &[far, near]).expect_err("no such neighbour").to_string();
    assert!(refused.starts_with("cannot install the route \"10.50.0.0/16 via 192.0.2.1\""), "{refused}");
    assert_eq!(own(&mut tables), [OwnRouting::on(eth0, near)], "the others were tried");
}

/// What a monitor on a thread of its own tells of routes.
fn watch() -> std::sync::mpsc::Receiver<(OwnRouting, u32)> {
    let mut monitor = LinkMonitor::open(["eth0".to_owned()], []).expect("the monitor opens");
    monitor.watch_routing().expect("the kernel tells of routes");
    monitor.next().expect("the kernel answers").expect("it goes on");
    let (sender, gone) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok(Some(events)) = monitor.next() {
            for event in events {
                if let LinkEvent::RoutingGone { ifindex, routing, by_port } = event
                    && sender.send((OwnRouting { ifindex, routing }, by_port)).is_err()
                {
                    return;
                }
            }
        }
    });
    gone
}

fn what_goes_is_told_whoever_took_it() {
    let eth0 = cable();
    let mut tables = RoutingTables::open().expect("a socket");
    let all = all();
    tables.install(eth0, &all).expect("it installs");
    let gone = watch();
    let next = || gone.recv_timeout(crate::support::PATIENCE).expect("it is told");
    let mut others = RoutingTables::open().expect("a socket");
    for routing in &all {
        others.remove(eth0, std::slice::from_ref(routing)).expect("it goes");
        assert_eq!(next(), (OwnRouting::on(eth0, *routing), others.port()));
        tables.install(eth0, std::slice::from_ref(routing)).expect("it comes back");
    }

    // A route put in the place of ours.
    let replaced = all[0];
    let Routing::Route(VirtualRoute { to, .. }) = replaced else { unreachable!("the first is a route") };
    foreign(AddressFamily::Inet, to, "10.0.0.3", NLM_F_REPLACE);
    assert_eq!(next().0, OwnRouting::on(eth0, replaced));
    tables.install(eth0, &[replaced]).expect("it stands before the other");

    // IPv4's go without a word of the kernel, IPv6's and rules are told of.
    set_up("eth0", false);
    set_up("eth0", true);
    let mut told: Vec<_> = (0..6).map(|_| next().0).collect();
    told.sort();
    let mut routes: Vec<_> = all.iter().filter(|it| matches!(it, Routing::Route(_))).collect();
    routes.sort();
    let routes: Vec<_> = routes.into_iter().map(|routing| OwnRouting::on(eth0, *routing)).collect();
    assert_eq!(told, routes);
}

fn what_of_an_interface_is_gone_needs_no_removal() {
    let eth0 = cable();
    let mut tables = RoutingTables::open().expect("a socket");
    let all = all();
    tables.install(eth0, &all).expect("it installs");
    delete_link("eth0");
    let left = own(&mut tables);
    assert!(left.iter().all(|own| matches!(own.routing, Routing::Rule(_))), "{left:?}");
    assert_eq!(left.len(), 2);
    tables.remove(eth0, &all).expect("the routes are gone");
    assert_eq!(own(&mut tables), [], "and the rules too");
}

fn a_route_goes_with_its_source() {
    let eth0 = cable();
    let mut tables = RoutingTables::open().expect("a socket");
    add_address("eth0", "10.0.0.100", 24);
    let to = prefix("10.50.0.0", 16);
    let with = Routing::Route(VirtualRoute { source: Some(ip("10.0.0.100")), ..route(to, Some("10.0.0.2")) });
    let without = Routing::Route(route(prefix("10.60.0.0", 16), Some("10.0.0.2")));
    tables.install(eth0, &[with, without]).expect("it installs");
    delete_address("eth0", "10.0.0.100", 24);
    assert_eq!(own(&mut tables), [OwnRouting::on(eth0, without)]);
}
