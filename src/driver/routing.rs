//! Routes and rules that move with a vip's addresses: installed, removed and listed.
//!
//! What is installed carries [`OWN_PROTOCOL`], as addresses do, so that it is known for ours by any later agent.
//! Installing what is there and removing what is not are no errors. In IPv4 a route stands before another program's to
//! the same network with the same metric, which counts again afterwards; in IPv6, where the kernel would share the
//! packets out among the two, it is refused.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::addresses::OWN_PROTOCOL;
use super::netlink::{Netlink, Refusal, Request};
use crate::types::{Family, Prefix, Routing, VirtualRoute, VirtualRule};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
/// Where the protocol stands in a message about a route (`struct rtmsg`).
const PROTOCOL_AT: usize = 5;

/// A route or rule that was installed by this or an earlier agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnRouting {
    /// The interface of a route; 0 for a rule.
    pub ifindex: u32,
    /// What it is.
    pub routing: Routing,
}

impl OwnRouting {
    /// As it stands where a vip on an interface owns it.
    pub const fn on(ifindex: u32, routing: Routing) -> Self {
        match routing {
            Routing::Route(_) => Self { ifindex, routing },
            Routing::Rule(_) => Self { ifindex: 0, routing },
        }
    }
}

/// What the kernel did not do.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// It said no to some; the others are done.
    #[error("cannot {action} the {} \"{routing}\" on interface index {ifindex}: {refusal}", kind(routing))]
    Refused {
        /// `install` or `remove`.
        action: &'static str,
        /// The first.
        routing: Routing,
        /// The interface.
        ifindex: u32,
        /// Why.
        refusal: Refusal,
    },
    /// It did not answer, or not understandably; any of them may be installed or removed.
    #[error("cannot {action} routes and rules: {error}")]
    Conversation {
        /// `install`, `remove` or `list`.
        action: &'static str,
        /// What went wrong.
        error: io::Error,
    },
}

const fn kind(routing: &Routing) -> &'static str {
    match routing {
        Routing::Route(_) => "route",
        Routing::Rule(_) => "rule",
    }
}

/// A conversation with the kernel about routes and rules. Blocks: not for the loop.
#[derive(Debug)]
pub struct RoutingTables {
    netlink: Netlink,
}

impl RoutingTables {
    /// Opens the conversation, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// Where the kernel gives no socket.
    pub fn open() -> io::Result<Self> {
        let netlink = Netlink::open()?;
        netlink.filter_dumps()?;
        Ok(Self { netlink })
    }

    /// The number by which notifications name this conversation as the one that asked for a change.
    pub const fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// Installs routes through an interface, and rules, in this order.
    ///
    /// # Errors
    ///
    /// The first refusal, after all were tried.
    pub fn install(&mut self, ifindex: u32, routing: &[Routing]) -> Result<(), RoutingError> {
        let requests: Vec<_> = routing.iter().map(|routing| install_request(ifindex, routing)).collect();
        let answers = self.netlink.batch(requests);
        let answers = answers.map_err(|error| RoutingError::Conversation { action: "install", error })?;
        let mut own = None;
        for (routing, answer) in routing.iter().zip(answers) {
            let Err(refusal) = answer else { continue };
            if refusal.errno == libc::EEXIST {
                // In IPv6 the kernel says so of another program's route as well.
                if !is_ambiguous(routing) {
                    continue;
                }
                let own = match &mut own {
                    Some(own) => own,
                    own @ None => own.insert(self.own()?),
                };
                if own.contains(&OwnRouting::on(ifindex, *routing)) {
                    continue;
                }
            }
            return Err(RoutingError::Refused { action: "install", routing: *routing, ifindex, refusal });
        }
        Ok(())
    }

    /// Removes them, the last first. Those of an interface that is gone are gone with it.
    ///
    /// # Errors
    ///
    /// The first refusal, after all were tried.
    pub fn remove(&mut self, ifindex: u32, routing: &[Routing]) -> Result<(), RoutingError> {
        let backwards: Vec<_> = routing.iter().rev().copied().collect();
        let requests: Vec<_> = backwards.iter().map(|routing| remove_request(ifindex, routing)).collect();
        let answers = self.netlink.batch(requests);
        let answers = answers.map_err(|error| RoutingError::Conversation { action: "remove", error })?;
        let absent = [libc::ESRCH, libc::ENOENT, libc::ENODEV];
        let refusals = backwards.iter().zip(answers);
        let mut refusals = refusals.filter_map(|(routing, answer)| Some((*routing, answer.err()?)));
        match refusals.find(|(_, refusal)| !absent.contains(&refusal.errno)) {
            None => Ok(()),
            Some((routing, refusal)) => Err(RoutingError::Refused { action: "remove", routing, ifindex, refusal }),
        }
    }

    /// All that carries our protocol number.
    ///
    /// # Errors
    ///
    /// Where the kernel does not answer.
    pub fn own(&mut self) -> Result<Vec<OwnRouting>, RoutingError> {
        let mut own = Vec::new();
        self.list(|kind, body| {
            own.extend(News::read(kind, body).filter(|news| news.is_ours).map(|news| news.what));
            Ok(())
        })
        .map_err(|error| RoutingError::Conversation { action: "list", error })?;
        Ok(own)
    }

    /// Hands out all of ours, and on old kernels all others too, as message type and body.
    ///
    /// # Errors
    ///
    /// Where the kernel does not answer.
    pub fn list(&mut self, mut entry: impl FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<()> {
        for address_family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut routes = RouteMessage::default();
            routes.header = RouteHeader {
                address_family,
                protocol: RouteProtocol::Other(OWN_PROTOCOL),
                kind: RouteType::Unspec,
                ..RouteHeader::default()
            };
            self.netlink.dump(&RouteNetlinkMessage::GetRoute(routes), &mut entry)?;
            let mut rules = RuleMessage::default();
            rules.header = RuleHeader { family: address_family, ..RuleHeader::default() };
            self.netlink.dump(&RouteNetlinkMessage::GetRule(rules), &mut entry)?;
        }
        Ok(())
    }
}

/// What a message of the kernel says of a route or rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) what: OwnRouting,
    /// Whether it carries our protocol number.
    pub(super) is_ours: bool,
    /// Whether it is there from now on, or no longer.
    pub(super) is_there: bool,
}

impl News {
    /// `None` where it is nothing that an agent would install.
    pub(super) fn read(kind: u16, body: &[u8]) -> Option<Self> {
        match kind {
            RTM_NEWROUTE | RTM_DELROUTE => {
                let what = read_route(body)?;
                Some(Self { what, is_ours: is_own_route(body), is_there: kind == RTM_NEWROUTE })
            }
            RTM_NEWRULE | RTM_DELRULE => {
                let (rule, is_ours) = read_rule(body)?;
                let what = OwnRouting::on(0, Routing::Rule(rule));
                Some(Self { what, is_ours, is_there: kind == RTM_NEWRULE })
            }
            _ => None,
        }
    }

    /// Whether a message is of this kind.
    pub(super) const fn is_told_by(kind: u16) -> bool {
        matches!(kind, RTM_NEWROUTE | RTM_DELROUTE | RTM_NEWRULE | RTM_DELRULE)
    }
}

/// Looks at one byte: a router has many routes of others, and hears of each change.
pub(super) fn is_own_route(body: &[u8]) -> bool {
    body.get(PROTOCOL_AT) == Some(&OWN_PROTOCOL)
}

/// Whether a message of this kind is about a route.
pub(super) const fn is_route(kind: u16) -> bool {
    matches!(kind, RTM_NEWROUTE | RTM_DELROUTE)
}

const fn is_ambiguous(routing: &Routing) -> bool {
    match routing {
        Routing::Route(route) => matches!(route.to.family(), Family::V6),
        Routing::Rule(_) => false,
    }
}

fn read_route(body: &[u8]) -> Option<OwnRouting> {
    let RouteMessage { header, attributes, .. } = RouteMessage::parse(body).ok()?;
    let family = family_of(header.address_family)?;
    let mut to = Prefix { len: header.destination_prefix_length, ..Prefix::everything(family) };
    let (mut via, mut source, mut table, mut metric, mut ifindex) = (None, None, u32::from(header.table), 0, 0);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Destination(address) => to.ip = ip_of(&address)?,
            RouteAttribute::Gateway(address) => via = ip_of(&address),
            RouteAttribute::PrefSource(address) => source = ip_of(&address),
            RouteAttribute::Table(number) => table = number,
            RouteAttribute::Priority(number) => metric = number,
            RouteAttribute::Oif(index) => ifindex = index,
            _ => {}
        }
    }
    Some(OwnRouting { ifindex, routing: Routing::Route(VirtualRoute { to, via, source, table, metric }) })
}

fn read_rule(body: &[u8]) -> Option<(VirtualRule, bool)> {
    let RuleMessage { header, attributes, .. } = RuleMessage::parse(body).ok()?;
    let family = family_of(header.family)?;
    let mut from = Prefix { len: header.src_len, ..Prefix::everything(family) };
    let mut to = Prefix { len: header.dst_len, ..Prefix::everything(family) };
    let (mut table, mut order, mut is_ours) = (u32::from(header.table), 0, false);
    for attribute in attributes {
        match attribute {
            RuleAttribute::Source(ip) => from.ip = ip,
            RuleAttribute::Destination(ip) => to.ip = ip,
            RuleAttribute::Table(number) => table = number,
            RuleAttribute::Priority(number) => order = number,
            RuleAttribute::Protocol(protocol) => is_ours = u8::from(protocol) == OWN_PROTOCOL,
            _ => {}
        }
    }
    Some((VirtualRule { from, to, table, order }, is_ours))
}

const fn family_of(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}

const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

const fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

fn install_request(ifindex: u32, routing: &Routing) -> Request {
    match routing {
        Routing::Route(route) => {
            let exclusive = match route.to.family() {
                Family::V4 => 0,
                Family::V6 => NLM_F_EXCL,
            };
            let message = RouteNetlinkMessage::NewRoute(route_message(ifindex, route));
            Request { message, flags: NLM_F_CREATE | exclusive }
        }
        Routing::Rule(rule) => {
            let message = RouteNetlinkMessage::NewRule(rule_message(rule));
            Request { message, flags: NLM_F_CREATE | NLM_F_EXCL }
        }
    }
}

fn remove_request(ifindex: u32, routing: &Routing) -> Request {
    let message = match routing {
        Routing::Route(route) => RouteNetlinkMessage::DelRoute(route_message(ifindex, route)),
        Routing::Rule(rule) => RouteNetlinkMessage::DelRule(rule_message(rule)),
    };
    Request { message, flags: 0 }
}

fn route_message(ifindex: u32, route: &VirtualRoute) -> RouteMessage {
    let family = route.to.family();
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: address_family(family),
        destination_prefix_length: route.to.len,
        protocol: RouteProtocol::Other(OWN_PROTOCOL),
        scope: if route.via.is_none() && family == Family::V4 { RouteScope::Link } else { RouteScope::Universe },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes =
        vec![RouteAttribute::Oif(ifindex), RouteAttribute::Table(route.table), RouteAttribute::Priority(route.metric)];
    if route.to.len > 0 {
        message.attributes.push(RouteAttribute::Destination(route.to.ip.into()));
    }
    message.attributes.extend(route.via.map(|via| RouteAttribute::Gateway(via.into())));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}

fn rule_message(rule: &VirtualRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header = RuleHeader {
        family: address_family(rule.from.family()),
        src_len: rule.from.len,
        dst_len: rule.to.len,
        action: RuleAction::ToTable,
        ..RuleHeader::default()
    };
    message.attributes = vec![
        RuleAttribute::Priority(rule.order),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::Other(OWN_PROTOCOL)),
    ];
    if rule.from.len > 0 {
        message.attributes.push(RuleAttribute::Source(rule.from.ip));
    }
    if rule.to.len > 0 {
        message.attributes.push(RuleAttribute::Destination(rule.to.ip));
    }
    message
}
