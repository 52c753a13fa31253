//! What the kernel has said about interfaces, addresses and our routes, and what of it concerns the watched names.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::address::AddressFlags;

use super::LinkEvent;
use crate::driver::addresses::{Installed, KernelAddress, OWN_PROTOCOL, read_address};
use crate::driver::link_message::LinkFacts;
use crate::driver::routing::{News, OwnRouting, is_own_route, is_route};
use crate::engine::LinkState;
use crate::types::Routing;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
pub(super) const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const IFF_UP: u32 = 1;
const IFF_RUNNING: u32 = 1 << 6;
const IFF_LOWER_UP: u32 = 1 << 16;
/// Addresses of this scope (`RT_SCOPE_HOST`) and narrower ones are no address to send from.
const SCOPE_HOST: u8 = 254;

/// See the module.
#[derive(Debug)]
pub(super) struct View {
    watched: Vec<Watched>,
    virtual_addresses: HashSet<IpAddr>,
    links: HashMap<u32, LinkFacts>,
    /// The interfaces' own addresses, in the kernel's order.
    own: HashMap<u32, Vec<KernelAddress>>,
    present: HashSet<(u32, IpAddr)>,
    /// What is there without a word of the kernel's.
    installed: Installed,
    /// Virtual addresses that went since the last report.
    gone: Vec<Gone>,
    /// Virtual addresses that were there before everything was listed anew.
    before_listing: HashSet<(u32, IpAddr)>,
    routing: HashSet<OwnRouting>,
    /// Routes and rules that went since the last report, and the port of who asked for it.
    routing_gone: Vec<(OwnRouting, u32)>,
    routing_before_listing: HashSet<OwnRouting>,
}

/// A virtual address that went.
#[derive(Debug)]
struct Gone {
    place: (u32, IpAddr),
    /// The port of who asked for it.
    by_port: u32,
    expired: bool,
}

impl Gone {
    const fn unexplained(place: (u32, IpAddr)) -> Self {
        Self { place, by_port: 0, expired: false }
    }
}

impl View {
    pub(super) fn new(names: impl IntoIterator<Item = String>, virtual_addresses: HashSet<IpAddr>) -> Self {
        Self {
            watched: names.into_iter().map(Watched::new).collect(),
            virtual_addresses,
            links: HashMap::new(),
            own: HashMap::new(),
            present: HashSet::new(),
            installed: Installed::default(),
            gone: Vec::new(),
            before_listing: HashSet::new(),
            routing: HashSet::new(),
            routing_gone: Vec::new(),
            routing_before_listing: HashSet::new(),
        }
    }

    /// Nobody will tell of what is installed there.
    pub(super) fn without_news_of(&mut self, installed: Installed) {
        self.installed = installed;
    }

    /// Watches more names, and takes other addresses for virtual. Everything has to be told anew afterwards.
    pub(super) fn watch(&mut self, names: Vec<String>, virtual_addresses: HashSet<IpAddr>) {
        let known: HashSet<String> = self.watched.iter().map(|watched| watched.name.clone()).collect();
        self.watched.extend(names.into_iter().filter(|name| !known.contains(name)).map(Watched::new));
        let before = std::mem::replace(&mut self.virtual_addresses, virtual_addresses);
        // What is virtual no longer has not gone.
        let Self { present, virtual_addresses, .. } = self;
        present.retain(|(_, ip)| virtual_addresses.contains(ip) || !before.contains(ip));
    }

    /// Takes in one message of the kernel, by its type. What is not understood is passed over: it concerns a kind of
    /// interface or address that this program does not handle.
    pub(super) fn apply(&mut self, kind: u16, body: &[u8], port: u32) {
        match kind {
            RTM_NEWLINK => {
                if let Some(link) = LinkFacts::read(body) {
                    self.on_link(link);
                }
            }
            RTM_DELLINK => {
                if let Some(link) = LinkFacts::read(body) {
                    self.on_link_gone(link.ifindex);
                }
            }
            RTM_NEWADDR => {
                if let Some(address) = read_address(body) {
                    self.on_address(address);
                }
            }
            RTM_DELADDR => {
                if let Some(address) = read_address(body) {
                    self.on_address_gone(&address, port);
                }
            }
            _ => {}
        }
    }

    /// Takes in one message about a route or rule. Another program may put its own route in the place of ours, of which
    /// the kernel says nothing else.
    pub(super) fn apply_routing(&mut self, kind: u16, body: &[u8], port: u32, replaces: bool) {
        if !News::is_told_by(kind) || (is_route(kind) && !is_own_route(body) && !replaces) {
            return;
        }
        let Some(News { what, is_ours, is_there }) = News::read(kind, body) else { return };
        match (is_ours, is_there) {
            (true, true) => {
                self.routing.insert(what);
            }
            (true, false) => {
                if self.routing.remove(&what) {
                    self.routing_gone.push((what, port));
                }
            }
            (false, true) => {
                let gone: Vec<_> =
                    self.routing.extract_if(|ours| replaces && stand_in_one_place(ours, &what)).collect();
                self.routing_gone.extend(gone.into_iter().map(|ours| (ours, port)));
            }
            (false, false) => {}
        }
    }

    /// Forgets everything but what was reported, because it is about to be told anew.
    pub(super) fn begin_listing(&mut self) {
        self.links.clear();
        self.own.clear();
        self.before_listing.extend(self.present.drain());
        self.before_listing.extend(self.installed.places().iter());
        self.routing_before_listing.extend(self.routing.drain());
    }

    /// Everything was told.
    pub(super) fn end_listing(&mut self) {
        let before = std::mem::take(&mut self.before_listing);
        self.gone.extend(before.into_iter().map(Gone::unexplained));
        self.routing_gone.extend(self.routing_before_listing.drain().map(|routing| (routing, 0)));
    }

    /// What is different from the last report.
    pub(super) fn changes(&mut self) -> Vec<LinkEvent> {
        let mut events = Vec::new();
        for watched in &mut self.watched {
            let link = self.links.values().find(|link| link.name == watched.name);
            let event = watched.look(link, &self.own);
            if watched.reported.as_ref() != Some(&event) {
                watched.reported = Some(event.clone());
                events.push(event);
            }
        }
        let present = &self.present;
        let gone = self.gone.drain(..).filter(|gone| !present.contains(&gone.place));
        events.extend(gone.map(|Gone { place: (ifindex, ip), by_port, expired }| LinkEvent::AddressGone {
            ifindex,
            ip,
            by_port,
            expired,
        }));
        let present = &self.routing;
        let gone = self.routing_gone.drain(..).filter(|(gone, _)| !present.contains(gone));
        events.extend(gone.map(|(OwnRouting { ifindex, routing }, by_port)| LinkEvent::RoutingGone {
            ifindex,
            routing,
            by_port,
        }));
        events
    }

    fn on_link(&mut self, link: LinkFacts) {
        // Its IPv4 routes go with that, of which the kernel says nothing else, and do not come back.
        if link.flags & IFF_UP == 0 {
            self.on_routes_gone(link.ifindex);
        }
        self.links.insert(link.ifindex, link);
    }

    fn on_routes_gone(&mut self, ifindex: u32) {
        let gone: Vec<_> = self.routing.extract_if(|routing| routing.ifindex == ifindex).collect();
        self.routing_gone.extend(gone.into_iter().map(|routing| (routing, 0)));
    }

    fn on_link_gone(&mut self, ifindex: u32) {
        self.on_routes_gone(ifindex);
        self.links.remove(&ifindex);
        self.own.remove(&ifindex);
        let mut gone: HashSet<_> = self.present.extract_if(|(on, _)| *on == ifindex).collect();
        gone.extend(self.installed.places().extract_if(|(on, _)| *on == ifindex));
        self.gone.extend(gone.into_iter().map(Gone::unexplained));
    }

    fn on_address(&mut self, address: KernelAddress) {
        if self.is_virtual(&address) {
            self.present.insert((address.ifindex, address.ip));
            return;
        }
        let own = self.own.entry(address.ifindex).or_default();
        match own.iter_mut().find(|known| is_same(known, &address)) {
            Some(known) => *known = address,
            None => own.push(address),
        }
    }

    fn on_address_gone(&mut self, address: &KernelAddress, port: u32) {
        if self.is_virtual(address) {
            self.present.remove(&(address.ifindex, address.ip));
            self.installed.places().remove(&(address.ifindex, address.ip));
            let place = (address.ifindex, address.ip);
            self.gone.push(Gone { place, by_port: port, expired: address.expired });
        } else if let Some(own) = self.own.get_mut(&address.ifindex) {
            own.retain(|known| !is_same(known, address));
        }
    }

    fn is_virtual(&self, address: &KernelAddress) -> bool {
        address.protocol == Some(OWN_PROTOCOL) || self.virtual_addresses.contains(&address.ip)
    }
}

/// Whether one route can only be there instead of the other.
fn stand_in_one_place(one: &OwnRouting, other: &OwnRouting) -> bool {
    match (one.routing, other.routing) {
        (Routing::Route(one), Routing::Route(other)) => {
            (one.to, one.table, one.metric) == (other.to, other.table, other.metric)
        }
        (Routing::Route(_) | Routing::Rule(_), _) => false,
    }
}

/// A name that somebody wants to hear of.
#[derive(Debug)]
struct Watched {
    name: String,
    reported: Option<LinkEvent>,
    /// The addresses chosen last. They stay while they exist, so that a peer sees one sender.
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

impl Watched {
    const fn new(name: String) -> Self {
        Self { name, reported: None, ipv4: None, ipv6: None }
    }

    fn look(&mut self, link: Option<&LinkFacts>, own: &HashMap<u32, Vec<KernelAddress>>) -> LinkEvent {
        let Some(link) = link else {
            return LinkEvent::State {
                name: self.name.clone(),
                ifindex: None,
                mac: None,
                mtu: 0,
                state: LinkState::Missing,
            };
        };
        let own = own.get(&link.ifindex).map_or([].as_slice(), Vec::as_slice);
        self.ipv4 = choose_ipv4(own, self.ipv4);
        self.ipv6 = choose_ipv6(own, self.ipv6);
        let state = if is_up(link) { LinkState::Up { ipv4: self.ipv4, ipv6: self.ipv6 } } else { LinkState::Down };
        LinkEvent::State { name: self.name.clone(), ifindex: Some(link.ifindex), mac: link.mac, mtu: link.mtu, state }
    }
}

/// The first primary address; where there is none, the first: it may have come after a virtual address of its subnet.
fn choose_ipv4(own: &[KernelAddress], chosen: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    let candidates = || {
        own.iter().filter_map(|address| match address.ip {
            IpAddr::V4(ip) if address.scope < SCOPE_HOST => Some((ip, address.flags)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
    };
    let primary = || candidates().find(|(_, flags)| !flags.contains(AddressFlags::Secondary));
    let kept = candidates().find(|(ip, _)| Some(*ip) == chosen);
    kept.or_else(primary).or_else(|| candidates().next()).map(|(ip, _)| ip)
}

/// The first link-local address that duplicate address detection has passed (RFC 4862 §5.4).
fn choose_ipv6(own: &[KernelAddress], chosen: Option<Ipv6Addr>) -> Option<Ipv6Addr> {
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
    let candidates = || {
        own.iter().filter_map(|address| match address.ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() && !address.flags.intersects(unusable) => Some(ip),
            IpAddr::V6(_) | IpAddr::V4(_) => None,
        })
    };
    candidates().find(|ip| Some(*ip) == chosen).or_else(|| candidates().next())
}

fn is_same(one: &KernelAddress, other: &KernelAddress) -> bool {
    (one.ip, one.prefix_len) == (other.ip, other.prefix_len)
}

/// Administratively up, with a carrier, and not held back by what lies above the carrier (802.1X, a bond).
const fn is_up(link: &LinkFacts) -> bool {
    let all = IFF_UP | IFF_RUNNING | IFF_LOWER_UP;
    link.flags & all == all
}
