//! Whether a neighbour answers to the question who has its address: by ARP, and over IPv6 by neighbour solicitation.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::if_nametoindex;

use super::Failure;
use crate::driver::frames::{FrameSocket, Urgency};
use crate::driver::patience::{Patience, readable};
use crate::driver::watch::{ClaimSocket, PACKET_LEN};
use crate::types::{Family, MacAddr};
use crate::wire::arp::Arp;
use crate::wire::ndisc::NeighborSolicitation;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// On which interface.
    pub interface: String,
}

pub(super) fn run(neighbour: &Neighbour, patience: &Patience<'_>) -> Result<String, Failure> {
    let Neighbour { address, interface } = neighbour;
    let Ok(ifindex) = if_nametoindex(interface.as_str()) else {
        return Err(Failure::Ill(format!("there is no interface {interface}")));
    };
    let frame = question(neighbour)?;
    let unable = |error: std::io::Error| Failure::Unable(error.to_string());
    let claims = ClaimSocket::open(ifindex, Family::of(*address), [*address]).map_err(unable)?;
    let frames = FrameSocket::open(Urgency::Ordinary).map_err(unable)?;
    frames.send(ifindex, &[frame]).map_err(|error| Failure::Ill(format!("{interface}: {error}")))?;
    let mut buffer = [0; PACKET_LEN];
    loop {
        patience.wait([readable(claims.as_fd())])?;
        if let Some(claim) = claims.recv(&mut buffer).map_err(unable)? {
            return Ok(format!("{} is at {}", claim.address, claim.mac));
        }
    }
}

/// From nobody over IPv4, so that no neighbour learns anything by it (RFC 5227 §2.1.1); over IPv6 from this host's own
/// link-local address, for without a sender it would be duplicate detection.
fn question(Neighbour { address, interface }: &Neighbour) -> Result<Vec<u8>, Failure> {
    let all = getifaddrs().map_err(|error| Failure::Unable(format!("getifaddrs: {error}")))?;
    let own: Vec<InterfaceAddress> = all.filter(|it| it.interface_name == *interface).collect();
    let link = own.iter().find_map(|it| it.address.as_ref()?.as_link_addr()?.addr());
    let mac = MacAddr::from(link.ok_or_else(|| Failure::Unable(format!("{interface} has no MAC address")))?);
    let mut frame = Vec::new();
    match address {
        IpAddr::V4(target) => Arp::probe(mac, *target).emit(&mut frame),
        IpAddr::V6(target) => {
            let addresses = own.iter().filter_map(|it| Some(it.address.as_ref()?.as_sockaddr_in6()?.ip()));
            let source = addresses.into_iter().find(Ipv6Addr::is_unicast_link_local);
            let source = source.ok_or_else(|| Failure::Ill(format!("{interface} has no link-local address")))?;
            NeighborSolicitation { source, target: *target }.emit(mac, &mut frame);
        }
    }
    Ok(frame)
}
