//! The raw sockets that VRRP speaks through: one an interface and family, for all its virtual routers.
//!
//! A socket hears what is sent to the group and to the interface's own addresses, on its interface alone. It checks
//! neither TTL nor checksum: it hands them up, so that what is wrong is counted where all is counted.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::error::context;
use crate::types::Family;
use crate::wire::advert::{GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL};

/// Room for the largest packet: an IPv4 header with options, or 255 IPv6 addresses.
pub const DATAGRAM_LEN: usize = 8 * 1024;

/// CS6, network control: what routers have long given to routing protocols (RFC 4594 §3.2).
const TRAFFIC_CLASS: u32 = 0xc0;

/// `TC_PRIO_CONTROL`: the first band of a host's own queues.
const QUEUE_PRIORITY: u32 = 7;

/// The adverts of 1,000 virtual routers at once, with the kernel's bookkeeping of about 1 KiB each.
const RECEIVE_BUFFER_LEN: usize = 1024 * 1024;

/// A packet of protocol 112 as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The sender.
    pub source: IpAddr,
    /// The group, or an address of this host.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// What follows the IP header.
    pub payload: &'a [u8],
}

/// A raw socket of protocol 112, bound to an interface. Never blocks.
#[derive(Debug)]
pub struct AdvertSocket {
    socket: Socket,
    ifindex: u32,
    family: Family,
}

impl AdvertSocket {
    /// Opens a socket on an interface, which must exist and have that index.
    ///
    /// # Errors
    ///
    /// What was tried in vain; `PermissionDenied` without `CAP_NET_RAW`.
    pub fn open(interface: &str, ifindex: u32, family: Family) -> io::Result<Self> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(i32::from(PROTOCOL))))
            .map_err(context(&format!("open a raw {family} socket (needs CAP_NET_RAW)")))?;
        socket
            .bind_device(Some(interface.as_bytes()))
            .and_then(|()| configure(&socket, ifindex, family))
            .map_err(context(&format!("prepare the {family} advert socket on {interface}")))?;
        join(&socket, ifindex, family).map_err(context(&format!("join the {family} VRRP group on {interface}")))?;
        Ok(Self { socket, ifindex, family })
    }

    /// The family of the addresses.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The interface.
    pub const fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Takes the next packet, into a buffer of [`DATAGRAM_LEN`] bytes; `None` when there is none.
    ///
    /// # Errors
    ///
    /// What the kernel says about the socket.
    pub fn recv<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<Datagram<'b>>> {
        let received = match self.family {
            Family::V4 => self.recv_v4(buffer),
            Family::V6 => self.recv_v6(buffer),
        };
        match received {
            Ok(facts) => Ok(Some(Datagram {
                source: facts.source,
                destination: facts.destination,
                hop_limit: facts.hop_limit,
                payload: buffer.get(facts.start..facts.end).unwrap_or_default(),
            })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(context("receive an advert")(error)),
        }
    }

    /// Sends a payload, from an address of the interface to the group or to a peer.
    ///
    /// # Errors
    ///
    /// The kernel's refusal; `WouldBlock` or `ENOBUFS` where its queue is full.
    pub fn send(&self, source: IpAddr, destination: IpAddr, payload: &[u8]) -> io::Result<()> {
        let sent = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.send_v4(source, destination, payload),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.send_v6(source, destination, payload),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "source and destination of different families",
                ));
            }
        };
        sent.map(|_| ())
            .map_err(|error| context(&format!("send an advert from {source} to {destination}"))(io::Error::from(error)))
    }

    fn recv_v4(&self, buffer: &mut [u8]) -> io::Result<Facts> {
        loop {
            let mut iov = [IoSliceMut::new(buffer)];
            let len = recvmsg::<SockaddrIn>(self.as_raw_fd(), &mut iov, None, MsgFlags::MSG_DONTWAIT)?.bytes;
            // The kernel checked the header. What it cannot have sent is passed over.
            if let Some(facts) = buffer.get(..len).and_then(parse_ipv4) {
                return Ok(facts);
            }
        }
    }

    fn recv_v6(&self, buffer: &mut [u8]) -> io::Result<Facts> {
        loop {
            let mut control = cmsg_space!(libc::in6_pktinfo, libc::c_int);
            let mut iov = [IoSliceMut::new(buffer)];
            let message =
                recvmsg::<SockaddrIn6>(self.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
            let mut destination = None;
            let mut hop_limit = None;
            for control in message.cmsgs()? {
                match control {
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
                    }
                    ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
                    _ => {}
                }
            }
            if let (Some(source), Some(destination), Some(hop_limit)) = (message.address, destination, hop_limit) {
                return Ok(Facts {
                    source: source.ip().into(),
                    destination: destination.into(),
                    hop_limit,
                    start: 0,
                    end: message.bytes,
                });
            }
        }
    }

    fn send_v4(&self, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> nix::Result<usize> {
        let info = libc::in_pktinfo {
            ipi_ifindex: self.ifindex.cast_signed(),
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        sendmsg(
            self.as_raw_fd(),
            &[IoSlice::new(payload)],
            &[ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn::from(SocketAddrV4::new(destination, 0))),
        )
    }

    fn send_v6(&self, source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> nix::Result<usize> {
        let info =
            libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source.octets() }, ipi6_ifindex: self.ifindex };
        // A scope is said for link-local addresses only; others may be routed by the interface's routes.
        let scoped = destination.is_multicast() || destination.is_unicast_link_local();
        let scope = if scoped { self.ifindex } else { 0 };
        sendmsg(
            self.as_raw_fd(),
            &[IoSlice::new(payload)],
            &[ControlMessage::Ipv6PacketInfo(&info)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn6::from(SocketAddrV6::new(destination, 0, 0, scope))),
        )
    }
}

impl AsRawFd for AdvertSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for AdvertSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A packet, but for its bytes.
struct Facts {
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    start: usize,
    end: usize,
}

fn configure(socket: &Socket, ifindex: u32, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => {
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_loop_v4(false)?;
            socket.set_multicast_ttl_v4(HOP_LIMIT.into())?;
            socket.set_ttl_v4(HOP_LIMIT.into())?;
            socket.set_tos_v4(TRAFFIC_CLASS)?;
            set_multicast_interface_v4(socket, ifindex)?;
        }
        Family::V6 => {
            socket.set_multicast_all_v6(false)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(HOP_LIMIT.into())?;
            socket.set_unicast_hops_v6(HOP_LIMIT.into())?;
            socket.set_tclass_v6(TRAFFIC_CLASS)?;
            socket.set_multicast_if_v6(ifindex)?;
            socket.set_recv_hoplimit_v6(true)?;
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    // After the traffic class, which sets a priority of its own.
    socket.set_priority(QUEUE_PRIORITY)?;
    // Above the system's limit where we may, up to it otherwise.
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_LEN).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_LEN)?;
    }
    // Between the socket's birth and its binding to the interface, packets of other interfaces came in.
    discard_received(socket)
}

fn discard_received(socket: &Socket) -> io::Result<()> {
    loop {
        match socket.recv(&mut [MaybeUninit::uninit(); 1]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn join(socket: &Socket, ifindex: u32, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(ifindex)),
        Family::V6 => socket.join_multicast_v6(&GROUP_V6, ifindex),
    }
}

/// By index: an interface may have no address yet, or share one.
#[allow(unsafe_code)] // No safe wrapper takes an index here.
fn set_multicast_interface_v4(socket: &Socket, ifindex: u32) -> io::Result<()> {
    let request = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: 0 },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: ifindex.cast_signed(),
    };
    // SAFETY: the pointer and the length describe `request`, which outlives the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MULTICAST_IF,
            (&raw const request).cast(),
            size_of_val(&request) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an IPv4 header (RFC 791 §3.1) as far as it is needed, from a packet that may be cut short.
fn parse_ipv4(packet: &[u8]) -> Option<Facts> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let start = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || start < header.len() || start > packet.len() || total < start {
        return None;
    }
    Some(Facts {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        hop_limit: header[8],
        start,
        end: total.min(packet.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::parse_ipv4;

    fn packet() -> Vec<u8> {
        let mut packet = vec![0x46, 0xc0, 0, 26, 0, 0, 0, 0, 255, 112, 0, 0, 10, 0, 0, 1, 224, 0, 0, 18];
        packet.extend_from_slice(&[0x94, 4, 0, 0, 0x31, 0x07]);
        packet
    }

    #[test]
    fn an_ipv4_header_with_options_is_skipped_whole() {
        let facts = parse_ipv4(&packet()).expect("a whole packet");
        assert_eq!((facts.start, facts.end, facts.hop_limit), (24, 26, 255));
        assert_eq!(facts.destination.to_string(), "224.0.0.18");
    }

    #[test]
    fn an_ipv4_header_that_lies_never_leads_outside_the_packet() {
        for len in 0..packet().len() {
            for first in 0..=255 {
                let mut bytes = packet();
                bytes[0] = first;
                bytes.truncate(len);
                if let Some(facts) = parse_ipv4(&bytes) {
                    assert!(facts.start <= facts.end && facts.end <= len, "{first:#x} {len}");
                }
            }
        }
    }

    #[test]
    fn bytes_behind_the_ip_packet_are_no_payload() {
        let mut bytes = packet();
        bytes.extend_from_slice(&[0xff; 20]);
        assert_eq!(parse_ipv4(&bytes).map(|facts| facts.end), Some(26));
    }
}
