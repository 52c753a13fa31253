use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use libtest_mimic::Trial;
use netlink_packet_route::RouteNetlinkMessage;
use vipd::driver::addresses::{Addresses, InstallOptions};
use vipd::driver::links::{LinkEvent, LinkMonitor, Stopper, Watchlist};
use vipd::engine::LinkState;
use vipd::types::VirtualAddress;

use crate::support::{
    PATIENCE, add_address, change, delete_address, delete_link, index, ip, link, set_up, sysctl, veth,
};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("links::the_first_report_says_what_is", the_first_report_says_what_is),
        trial("links::carrier_loss_is_reported_and_its_return", carrier_loss_is_reported_and_its_return),
        trial("links::an_interface_comes_late_goes_and_returns", an_interface_comes_late_goes_and_returns),
        trial("links::a_rename_is_a_loss_and_a_gain", a_rename_is_a_loss_and_a_gain),
        trial("links::a_tentative_link_local_address_is_not_used", a_tentative_link_local_address_is_not_used),
        trial("links::the_source_is_never_virtual", the_source_is_never_virtual),
        trial("links::what_is_watched_can_change", what_is_watched_can_change),
        trial("links::the_source_stays_while_it_exists", the_source_stays_while_it_exists),
        trial("links::a_foreign_deletion_is_told_from_ours", a_foreign_deletion_is_told_from_ours),
        trial("links::a_lifetimes_end_is_told_from_a_deletion", a_lifetimes_end_is_told_from_a_deletion),
        trial("links::what_is_put_back_at_once_is_not_gone", what_is_put_back_at_once_is_not_gone),
        trial("links::an_overrun_is_made_good", || an_overrun_is_made_good(false)),
        trial("links::an_overrun_is_made_good_without_news_of_installations", || an_overrun_is_made_good(true)),
        trial("links::what_is_installed_without_news_is_missed", what_is_installed_without_news_is_missed),
        trial("links::a_stopped_monitor_ends", a_stopped_monitor_ends),
    ]
}

/// A monitor on a thread of its own, which ends with the test.
struct Watch {
    events: Receiver<LinkEvent>,
    stopper: Stopper,
    watchlist: Watchlist,
}

impl Watch {
    fn new(names: &[&str], virtual_addresses: &[&str]) -> Self {
        let names = names.iter().map(|name| (*name).to_owned());
        let mut monitor =
            LinkMonitor::open(names, virtual_addresses.iter().map(|text| ip(text))).expect("the monitor opens");
        let (stopper, watchlist) = (monitor.stopper(), monitor.watchlist());
        let (sender, events) = channel();
        std::thread::spawn(move || {
            while let Some(events) = monitor.next().expect("the kernel answers") {
                for event in events {
                    if sender.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        Self { events, stopper, watchlist }
    }

    fn next(&self) -> LinkEvent {
        self.events.recv_timeout(PATIENCE).expect("an event comes")
    }

    /// The next change of state, as the index and the state.
    fn state(&self, of: &str) -> (Option<u32>, LinkState) {
        loop {
            if let LinkEvent::State { name, ifindex, state, .. } = self.next()
                && name == of
            {
                return (ifindex, state);
            }
        }
    }

    /// Waits for a state, whatever comes before.
    fn await_state(&self, of: &str, wanted: LinkState) -> Option<u32> {
        let start = Instant::now();
        loop {
            let (ifindex, state) = self.state(of);
            if state == wanted {
                return ifindex;
            }
            assert!(start.elapsed() < PATIENCE, "{of} is {state:?}, not {wanted:?}");
        }
    }

    fn gone(&self) -> (u32, IpAddr, u32) {
        loop {
            if let LinkEvent::AddressGone { ifindex, ip, by_port, .. } = self.next() {
                return (ifindex, ip, by_port);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stopper.stop().expect("an eventfd can be written");
    }
}

/// A cable between `eth0` and `eth1`, without link-local addresses, with `eth1` up.
fn cable() {
    sysctl("ipv6/conf/default/addr_gen_mode", "1");
    veth("eth0", "eth1", None);
    set_up("eth1", true);
}

fn up(ipv4: Option<&str>, ipv6: Option<&str>) -> LinkState {
    LinkState::Up {
        ipv4: ipv4.map(|text| text.parse().expect("an IPv4 address")),
        ipv6: ipv6.map(|text| text.parse().expect("an IPv6 address")),
    }
}

fn the_first_report_says_what_is() {
    cable();
    set_up("eth0", true);
    add_address("eth0", "10.0.0.1", 24);
    add_address("eth0", "fe80::1", 64);
    let watch = Watch::new(&["eth0", "none"], &[]);
    let LinkEvent::State { name, ifindex, mac, mtu, state } = watch.next() else { panic!("no state") };
    assert_eq!((name.as_str(), ifindex, mtu), ("eth0", Some(index("eth0")), 1500));
    assert!(mac.is_some_and(|mac| mac.is_unicast() && !mac.is_zero()));
    assert_eq!(state, up(Some("10.0.0.1"), Some("fe80::1")));
    assert_eq!(watch.state("none"), (None, LinkState::Missing));
}

fn carrier_loss_is_reported_and_its_return() {
    cable();
    add_address("eth0", "10.0.0.1", 24);
    let watch = Watch::new(&["eth0"], &[]);
    let at = Some(index("eth0"));
    assert_eq!(watch.state("eth0"), (at, LinkState::Down));
    set_up("eth0", true);
    watch.await_state("eth0", up(Some("10.0.0.1"), None));
    // The other end of the cable.
    let start = Instant::now();
    set_up("eth1", false);
    assert_eq!(watch.state("eth0"), (at, LinkState::Down));
    eprintln!("carrier loss reported after {:?}", start.elapsed());
    set_up("eth1", true);
    assert_eq!(watch.state("eth0"), (at, up(Some("10.0.0.1"), None)));
    // And our own end.
    set_up("eth0", false);
    assert_eq!(watch.state("eth0"), (at, LinkState::Down));
}

fn an_interface_comes_late_goes_and_returns() {
    let watch = Watch::new(&["eth0"], &[]);
    assert_eq!(watch.state("eth0"), (None, LinkState::Missing));
    let mut last = None;
    for _ in 0..2 {
        cable();
        set_up("eth0", true);
        add_address("eth0", "10.0.0.1", 24);
        let ifindex = watch.await_state("eth0", up(Some("10.0.0.1"), None));
        assert_eq!(ifindex, Some(index("eth0")));
        assert_ne!(ifindex, last, "a new interface has a new index");
        last = ifindex;
        delete_link("eth0");
        assert_eq!(watch.await_state("eth0", LinkState::Missing), None);
    }
}

fn a_rename_is_a_loss_and_a_gain() {
    cable();
    set_up("eth0", true);
    add_address("eth0", "10.0.0.1", 24);
    let watch = Watch::new(&["eth0", "lan"], &[]);
    let ifindex = watch.await_state("eth0", up(Some("10.0.0.1"), None));
    assert_eq!(watch.state("lan"), (None, LinkState::Missing));
    rename("eth0", "lan");
    assert_eq!(watch.await_state("eth0", LinkState::Missing), None);
    assert_eq!(watch.await_state("lan", up(Some("10.0.0.1"), None)), ifindex);
}

fn rename(from: &str, to: &str) {
    // Only newer kernels rename an interface that is up.
    set_up(from, false);
    let mut message = link(to);
    message.header.index = index(from);
    change(RouteNetlinkMessage::SetLink(message), 0);
    set_up(to, true);
}

fn a_tentative_link_local_address_is_not_used() {
    veth("eth0", "eth1", None);
    set_up("eth1", true);
    sysctl("ipv6/conf/eth0/dad_transmits", "1");
    let watch = Watch::new(&["eth0"], &[]);
    assert_eq!(watch.state("eth0").1, LinkState::Down);
    set_up("eth0", true);
    assert_eq!(watch.state("eth0").1, up(None, None), "duplicate detection has just begun");
    let (_, state) = watch.state("eth0");
    assert!(matches!(state, LinkState::Up { ipv4: None, ipv6: Some(ip) } if ip.is_unicast_link_local()), "{state:?}");
}

fn virtual_address(text: &str, prefix_len: u8) -> VirtualAddress {
    VirtualAddress { ip: ip(text), prefix_len, label: None }
}

fn the_source_is_never_virtual() {
    cable();
    set_up("eth0", true);
    // Known by its protocol number, and known by name.
    let ours = [virtual_address("10.0.0.100", 24), virtual_address("fe80::100", 64)];
    Addresses::open()
        .and_then(|mut addresses| {
            addresses.install(index("eth0"), &ours, InstallOptions::default()).map_err(std::io::Error::other)
        })
        .expect("installed");
    add_address("eth0", "10.0.1.101", 24);
    add_address("eth0", "fe80::101", 64);
    let watch = Watch::new(&["eth0"], &["10.0.1.101", "fe80::101"]);
    assert_eq!(watch.state("eth0").1, up(None, None));
    // In the virtual address's subnet, so the kernel counts it as secondary.
    add_address("eth0", "10.0.0.1", 24);
    assert_eq!(watch.state("eth0").1, up(Some("10.0.0.1"), None));
    add_address("eth0", "fe80::1", 64);
    assert_eq!(watch.state("eth0").1, up(Some("10.0.0.1"), Some("fe80::1")));
}

fn what_is_watched_can_change() {
    cable();
    set_up("eth0", true);
    add_address("eth0", "10.0.0.1", 24);
    add_address("eth0", "10.0.1.1", 24);
    let watch = Watch::new(&["eth0"], &["10.0.0.1"]);
    assert_eq!(watch.state("eth0").1, up(Some("10.0.1.1"), None));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    // Another is virtual now, and another interface is of interest.
    watch.watchlist.set(names(&["eth0", "eth1"]), [ip("10.0.1.1")], false).expect("an eventfd can be written");
    let mut states = [watch.next(), watch.next()].map(|event| match event {
        LinkEvent::State { name, state, .. } => (name, state),
        LinkEvent::AddressGone { ip, .. } => panic!("{ip} is not gone"),
        LinkEvent::RoutingGone { routing, .. } => panic!("{routing} is not gone"),
    });
    states.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(states, [("eth0".to_owned(), up(Some("10.0.0.1"), None)), ("eth1".to_owned(), up(None, None))]);
    // Nothing is said twice, and what is new is followed.
    watch.watchlist.set(names(&["eth0", "eth1"]), [ip("10.0.1.1")], false).expect("an eventfd can be written");
    delete_address("eth0", "10.0.1.1", 24);
    assert_eq!(watch.gone().1, ip("10.0.1.1"));
    set_up("eth1", false);
    watch.await_state("eth1", LinkState::Down);
}

fn the_source_stays_while_it_exists() {
    cable();
    set_up("eth0", true);
    add_address("eth0", "10.0.0.2", 24);
    let watch = Watch::new(&["eth0"], &[]);
    assert_eq!(watch.state("eth0").1, up(Some("10.0.0.2"), None));
    // The second is a secondary, the third a primary of its own. Neither changes anything.
    add_address("eth0", "10.0.0.1", 24);
    add_address("eth0", "10.1.0.1", 24);
    // Without promotion, the second goes with the first.
    sysctl("ipv4/conf/all/promote_secondaries", "0");
    sysctl("ipv4/conf/eth0/promote_secondaries", "0");
    delete_address("eth0", "10.0.0.2", 24);
    assert_eq!(watch.await_state("eth0", up(Some("10.1.0.1"), None)), Some(index("eth0")));
}

fn a_foreign_deletion_is_told_from_ours() {
    cable();
    set_up("eth0", true);
    let ifindex = index("eth0");
    let watch = Watch::new(&["eth0"], &[]);
    watch.state("eth0");
    let mut addresses = Addresses::open().expect("netlink opens");
    let vips = [virtual_address("10.0.0.100", 24), virtual_address("2001:db8::100", 64)];
    addresses.install(ifindex, &vips, InstallOptions::default()).expect("installed");
    let start = Instant::now();
    delete_address("eth0", "10.0.0.100", 24);
    let (at, gone, port) = watch.gone();
    eprintln!("foreign deletion reported after {:?}", start.elapsed());
    assert_eq!((at, gone), (ifindex, ip("10.0.0.100")));
    assert!(port != addresses.port() && port != 0, "{port}");
    delete_address("eth0", "2001:db8::100", 64);
    let (at, gone, port) = watch.gone();
    assert_eq!((at, gone), (ifindex, ip("2001:db8::100")));
    assert_ne!(port, addresses.port());
    addresses.install(ifindex, &vips, InstallOptions::default()).expect("installed");
    addresses.remove(ifindex, &vips[..1]).expect("removed");
    assert_eq!(watch.gone(), (ifindex, ip("10.0.0.100"), addresses.port()));
    addresses.remove(ifindex, &vips[1..]).expect("removed");
    let (_, gone, port) = watch.gone();
    assert_eq!(gone, ip("2001:db8::100"));
    eprintln!("the kernel says for IPv6 that port {port} deleted, it was {}", addresses.port());
    // An interface takes its addresses along.
    addresses.install(ifindex, &vips, InstallOptions::default()).expect("installed");
    delete_link("eth0");
    let mut both = [watch.gone(), watch.gone()];
    both.sort();
    assert_eq!(both, [(ifindex, ip("10.0.0.100"), 0), (ifindex, ip("2001:db8::100"), 0)]);
}

fn a_lifetimes_end_is_told_from_a_deletion() {
    cable();
    set_up("eth0", true);
    let watch = Watch::new(&["eth0"], &[]);
    watch.state("eth0");
    let mut addresses = Addresses::open().expect("netlink opens");
    let vips = [virtual_address("10.0.0.100", 24), virtual_address("2001:db8::100", 64)];
    let lasting = |seconds| InstallOptions {
        valid_lifetime: Some(std::time::Duration::from_secs(seconds)),
        ..Default::default()
    };
    for (lifetime, ended) in [(1, true), (5, false)] {
        addresses.install(index("eth0"), &vips, lasting(lifetime)).expect("installed");
        if !ended {
            delete_address("eth0", "10.0.0.100", 24);
            delete_address("eth0", "2001:db8::100", 64);
        }
        for _ in &vips {
            let expired = loop {
                if let LinkEvent::AddressGone { expired, .. } = watch.next() {
                    break expired;
                }
            };
            assert_eq!(expired, ended, "a lifetime of {lifetime} s");
        }
    }
}

fn what_is_put_back_at_once_is_not_gone() {
    cable();
    set_up("eth0", true);
    let ifindex = index("eth0");
    let mut monitor = LinkMonitor::open(["eth0".to_owned()], []).expect("the monitor opens");
    monitor.next().expect("the kernel answers").expect("the first report");
    let mut addresses = Addresses::open().expect("netlink opens");
    let vip = [virtual_address("10.0.0.100", 24)];
    for _ in 0..3 {
        addresses.install(ifindex, &vip, InstallOptions::default()).expect("installed");
        delete_address("eth0", "10.0.0.100", 24);
    }
    addresses.install(ifindex, &vip, InstallOptions::default()).expect("installed");
    add_address("eth0", "10.0.0.1", 24);
    let events = monitor.next().expect("the kernel answers").expect("the next report");
    assert!(matches!(events.as_slice(), [LinkEvent::State { .. }]), "{events:?}");
}

fn an_overrun_is_made_good(without_news: bool) {
    cable();
    set_up("eth0", true);
    let ifindex = index("eth0");
    let mut addresses = Addresses::open().expect("netlink opens");
    let kept = [virtual_address("10.0.0.100", 24), virtual_address("10.0.0.101", 24)];
    let mut monitor = LinkMonitor::open(["eth0".to_owned()], []).expect("the monitor opens");
    if without_news {
        monitor.ignore_installations(addresses.installed()).expect("a filter is taken");
        monitor.next().expect("the kernel answers").expect("the first report");
    }
    addresses.install(ifindex, &kept, InstallOptions::default()).expect("installed");
    if !without_news {
        monitor.next().expect("the kernel answers").expect("the first report");
    }
    // Nobody reads while more is told than any buffer holds.
    let many: Vec<_> = (0..2_000).map(|n| virtual_address(&format!("10.1.{}.{}", n / 250, n % 250), 16)).collect();
    for _ in 0..8 {
        addresses.install(ifindex, &many, InstallOptions::default()).expect("installed");
        addresses.remove(ifindex, &many).expect("removed");
    }
    // Not the first: the others of its subnet would go with it.
    delete_address("eth0", "10.0.0.101", 24);
    add_address("eth0", "10.0.0.1", 24);
    let mut events = Vec::new();
    let wanted = up(Some("10.0.0.1"), None);
    while !events.iter().any(|event| matches!(event, LinkEvent::State { state, .. } if *state == wanted)) {
        events.extend(monitor.next().expect("the kernel answers").expect("a report"));
    }
    let gone = |text: &str| {
        let wanted = ip(text);
        events.iter().any(|event| matches!(event, LinkEvent::AddressGone { ip, .. } if *ip == wanted))
    };
    assert!(gone("10.0.0.101") && !gone("10.0.0.100"));
}

fn what_is_installed_without_news_is_missed() {
    // Both ends are down: of one that comes up the kernel tells for a while.
    veth("eth0", "eth1", None);
    let ifindex = index("eth0");
    let vips = [virtual_address("10.0.0.100", 24), virtual_address("10.0.0.101", 24)];
    let mut addresses = Addresses::open().expect("netlink opens");
    let mut monitor = LinkMonitor::open(["eth0".to_owned()], []).expect("the monitor opens");
    monitor.ignore_installations(addresses.installed()).expect("a filter is taken");
    monitor.next().expect("the kernel answers").expect("the first report");
    assert_eq!(unread(), 0);
    addresses.install(ifindex, &vips, InstallOptions::default()).expect("installed");
    assert_eq!(unread(), 0);
    // That it goes is told, whoever did it; and so is what another program installs.
    delete_address("eth0", "10.0.0.101", 24);
    assert_ne!(unread(), 0);
    let gone = |events: Vec<LinkEvent>| {
        let places = events.into_iter().filter_map(|event| match event {
            LinkEvent::AddressGone { ifindex, ip, .. } => Some((ifindex, ip)),
            LinkEvent::State { .. } | LinkEvent::RoutingGone { .. } => None,
        });
        places.collect::<Vec<_>>()
    };
    let events = monitor.next().expect("the kernel answers").expect("a report");
    assert_eq!(gone(events), [(ifindex, ip("10.0.0.101"))]);
    assert_eq!(unread(), 0);
    add_address("eth0", "10.0.0.1", 24);
    assert_ne!(unread(), 0);
    set_up("eth1", true);
    set_up("eth0", true);
    let is_own = |event: &LinkEvent| match event {
        LinkEvent::State { state: LinkState::Up { ipv4: Some(own), .. }, .. } => IpAddr::V4(*own) == ip("10.0.0.1"),
        _ => false,
    };
    while !monitor.next().expect("the kernel answers").expect("a report").iter().any(is_own) {}
    delete_link("eth0");
    let mut left = Vec::new();
    while left.is_empty() {
        left = gone(monitor.next().expect("the kernel answers").expect("a report"));
    }
    assert_eq!(left, [(ifindex, ip("10.0.0.100"))]);
}

/// What waits for those who hear the kernel's news in this namespace, in bytes.
fn unread() -> u64 {
    let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").expect("/proc is mounted");
    // sk, Eth, Pid, Groups, Rmem, ...
    let columns = sockets.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = columns.filter(|columns| columns[3] != "00000000");
    listening.map(|columns| columns[4].parse::<u64>().expect("a number")).sum()
}

fn a_stopped_monitor_ends() {
    let mut monitor = LinkMonitor::open(["eth0".to_owned()], []).expect("the monitor opens");
    monitor.next().expect("the kernel answers").expect("the first report");
    let stopper = monitor.stopper();
    let thread = std::thread::spawn(move || (monitor.next().expect("the kernel answers"), monitor));
    stopper.stop().expect("an eventfd can be written");
    let (last, mut monitor) = thread.join().expect("the monitor does not panic");
    assert_eq!(last, None);
    assert_eq!(monitor.next().expect("the kernel answers"), None);
}
