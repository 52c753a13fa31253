//! Who answers for an address on a link, asked as any neighbour asks: by an ARP probe or a neighbour solicitation.
//!
//! For a moment's question from a command; the agent asks by its own sockets.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::context;
use super::frames::{FrameSocket, Urgency};
use super::watch::{ClaimSocket, PACKET_LEN};
use crate::types::{Family, MacAddr};
use crate::wire::arp::Arp;
use crate::wire::ndisc::NeighborSolicitation;

/// How long one question waits for its answer.
const ROUND_MS: u16 = 50;

/// Another host that answers, if one does within so many questions, 50 ms each.
///
/// # Errors
///
/// What the system refuses; `PermissionDenied` without `CAP_NET_RAW`.
pub fn who_answers(interface: &str, address: IpAddr, questions: u32) -> io::Result<Option<MacAddr>> {
    let ifindex = if_nametoindex(interface).map_err(|errno| context(interface)(errno.into()))?;
    let Asker { mac, link_local } = Asker::on(interface)?;
    let mut question = Vec::new();
    match (address, link_local) {
        (IpAddr::V4(target), _) => Arp::probe(mac, target).emit(&mut question),
        (IpAddr::V6(target), Some(source)) => NeighborSolicitation { source, target }.emit(mac, &mut question),
        (IpAddr::V6(_), None) => {
            return Err(io::Error::other(format!("{interface} has no IPv6 link-local address to ask from")));
        }
    }
    let heard = ClaimSocket::open(ifindex, Family::of(address), [address])?;
    let frames = FrameSocket::open(Urgency::Ordinary)?;
    let mut buffer = vec![0; PACKET_LEN];
    for _ in 0..questions {
        frames.send(ifindex, &[&question])?;
        let mut waits = [PollFd::new(heard.as_fd(), PollFlags::POLLIN)];
        poll(&mut waits, PollTimeout::from(ROUND_MS)).map_err(io::Error::from)?;
        while let Some(claim) = heard.recv(&mut buffer)? {
            if claim.mac != mac {
                return Ok(Some(claim.mac));
            }
        }
    }
    Ok(None)
}

/// Who asks.
struct Asker {
    mac: MacAddr,
    link_local: Option<Ipv6Addr>,
}

impl Asker {
    fn on(interface: &str) -> io::Result<Self> {
        let (mut mac, mut link_local) = (None, None);
        for it in getifaddrs().map_err(io::Error::from)?.filter(|it| it.interface_name == interface) {
            let Some(address) = it.address else { continue };
            if let Some(octets) = address.as_link_addr().and_then(nix::sys::socket::LinkAddr::addr) {
                mac = Some(MacAddr::from(octets));
            }
            let v6 = address.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::ip);
            link_local = link_local.or_else(|| v6.filter(Ipv6Addr::is_unicast_link_local));
        }
        let mac = mac.ok_or_else(|| io::Error::other(format!("{interface} has no MAC address")))?;
        Ok(Self { mac, link_local })
    }
}
