//! The way to an address, as the kernel would choose it on an interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::Parseable as _;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::Netlink;
use crate::engine::isolation::Path;

/// Addresses to which nothing but the default route leads: of a block for documentation (RFC 5737), and the first that can be
/// anybody's. Nothing is sent there. To ask for one way costs the kernel nothing, however many routes it has.
const ANYWHERE: [(IpAddr, u8); 2] =
    [(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 32), (IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1)), 128)];

/// Asks the kernel. Blocks: not for the loop.
#[derive(Debug)]
pub struct Routes {
    netlink: Netlink,
}

impl Routes {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// What was tried in vain.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()? })
    }

    /// The next hop of an interface's default route, of IPv4 where there is one.
    pub fn gateway(&mut self, ifindex: u32) -> Option<Path> {
        let mut hops = ANYWHERE.iter().map(|(address, length)| self.next_hop(ifindex, *address, *length));
        hops.find_map(|hop| hop.flatten()).map(Path::Neighbour)
    }

    /// The way to a host.
    pub fn path(&mut self, ifindex: u32, address: IpAddr) -> Option<Path> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        match self.next_hop(ifindex, address, length)? {
            None => Some(Path::Neighbour(address)),
            Some(_) => Some(Path::Routed(address)),
        }
    }

    /// `None`: there is no way; within: the address is on the link.
    #[allow(clippy::option_option, reason = "no way, and a way without a router, are two answers")]
    fn next_hop(&mut self, ifindex: u32, address: IpAddr, length: u8) -> Option<Option<IpAddr>> {
        let (family, destination) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, RouteAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, RouteAddress::Inet6(address)),
        };
        let mut question = RouteMessage::default();
        question.header =
            RouteHeader { address_family: family, destination_prefix_length: length, ..RouteHeader::default() };
        question.attributes = vec![RouteAttribute::Destination(destination), RouteAttribute::Oif(ifindex)];
        let body = self.netlink.ask(&RouteNetlinkMessage::GetRoute(question)).ok()?;
        let route = RouteMessage::parse(&body).ok()?;
        if !route.attributes.contains(&RouteAttribute::Oif(ifindex)) {
            return None;
        }
        Some(route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(hop)) => Some(IpAddr::V4(*hop)),
            RouteAttribute::Gateway(RouteAddress::Inet6(hop)) => Some(IpAddr::V6(*hop)),
            _ => None,
        }))
    }
}
