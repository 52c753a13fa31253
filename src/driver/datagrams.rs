//! The UDP sockets that nodes speak to each other through: one a family, for all peers and interfaces.
//!
//! A socket says by which interface a datagram came, and sends by the one that it is told, or as the host's routes say.
//! On interfaces that joined it hears the group too, by which nodes on one link find each other.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::error::context;
use crate::types::Family;

/// Where nodes on an IPv4 link find each other: organization-local scope (RFC 2365 §6.2), never routed with a TTL of 1.
pub const DISCOVERY_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 49, 12);
/// And on an IPv6 link: link-local scope, not assigned by IANA ("VIPD" in ASCII; RFC 4291 §2.7).
pub const DISCOVERY_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x5649, 0x5044);

/// CS6, as adverts have: whom a full queue holds up takes the others for dead.
const TRAFFIC_CLASS: u32 = 0xc0;
/// `TC_PRIO_CONTROL`: the first band of a host's own queues.
const QUEUE_PRIORITY: u32 = 7;
/// `TC_PRIO_INTERACTIVE`: the highest that everybody may ask for; the same band.
const UNPRIVILEGED_PRIORITY: u32 = 6;
/// The messages of 1,000 peers at once, with the kernel's bookkeeping of about 2 KiB each.
const RECEIVE_BUFFER_LEN: usize = 2 * 1024 * 1024;

/// Between this host and a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// The interface that a datagram came by, or is to be sent by; 0: as the host's routes say.
    pub ifindex: u32,
    /// The peer's address and port.
    pub remote: SocketAddr,
}

/// A socket of one family. Never blocks.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Socket,
    family: Family,
}

impl DatagramSocket {
    /// Binds a port on all addresses of a family.
    ///
    /// # Errors
    ///
    /// What was tried in vain; `AddrInUse` where another program has the port.
    pub fn open(family: Family, port: u16) -> io::Result<Self> {
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self::bind(SocketAddr::new(any, port))
    }

    /// Binds a port on one address.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let family = Family::of(address.ip());
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))
            .map_err(context(&format!("open an {family} UDP socket")))?;
        configure(&socket, family).map_err(context(&format!("prepare the {family} UDP socket")))?;
        // Beside those alone that were left (see `drop`): two that are in use never share a port.
        socket
            .set_reuse_address(true)
            .and_then(|()| socket.bind(&address.into()))
            .and_then(|()| socket.set_reuse_address(false))
            .map_err(context(&format!("listen on UDP port {} of {}", address.port(), address.ip())))?;
        Ok(Self { socket, family })
    }

    /// The family of the addresses.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The port that it is bound to.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn port(&self) -> io::Result<u16> {
        let address = self.socket.local_addr().map_err(context("ask for the port"))?;
        Ok(address.as_socket().map_or(0, |address| address.port()))
    }

    /// Hears the group on an interface from now on; that it does already is no error.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn join(&self, ifindex: u32) -> io::Result<()> {
        let joined = match self.family {
            Family::V4 => self.socket.join_multicast_v4_n(&DISCOVERY_V4, &InterfaceIndexOrAddress::Index(ifindex)),
            Family::V6 => self.socket.join_multicast_v6(&DISCOVERY_V6, ifindex),
        };
        match joined {
            Err(error) if error.raw_os_error() != Some(libc::EADDRINUSE) => {
                Err(context(&format!("join the {} group of vipd on interface {ifindex}", self.family))(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Hears it no longer there; an interface that is gone has left already.
    pub fn leave(&self, ifindex: u32) {
        let left = match self.family {
            Family::V4 => self.socket.leave_multicast_v4_n(&DISCOVERY_V4, &InterfaceIndexOrAddress::Index(ifindex)),
            Family::V6 => self.socket.leave_multicast_v6(&DISCOVERY_V6, ifindex),
        };
        // The kernel refuses only what is so already.
        left.ok();
    }

    /// Takes the next datagram; `None` when there is none. What does not fit the buffer is cut off.
    ///
    /// # Errors
    ///
    /// What the kernel says about the socket.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<(Path, usize)>> {
        let received = match self.family {
            Family::V4 => self.recv_v4(buffer),
            Family::V6 => self.recv_v6(buffer),
        };
        match received {
            Ok(received) => Ok(Some(received)),
            Err(nix::Error::EAGAIN) => Ok(None),
            Err(error) => Err(context("receive a datagram")(error.into())),
        }
    }

    /// Sends a datagram.
    ///
    /// # Errors
    ///
    /// The kernel's refusal; `InvalidInput` for an address of the other family.
    pub fn send(&self, path: Path, bytes: &[u8]) -> io::Result<()> {
        let sent = match (self.family, path.remote) {
            (Family::V4, SocketAddr::V4(remote)) => self.send_v4(path.ifindex, remote, bytes),
            (Family::V6, SocketAddr::V6(remote)) => self.send_v6(path.ifindex, remote, bytes),
            (Family::V4, SocketAddr::V6(_)) | (Family::V6, SocketAddr::V4(_)) => Err(nix::Error::EINVAL),
        };
        sent.map(|_| ()).map_err(|error| context(&format!("send to {}", path.remote))(error.into()))
    }

    /// Sends a datagram to the group on an interface.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, such as where the interface has no address of the family.
    pub fn send_to_group(&self, ifindex: u32, port: u16, bytes: &[u8]) -> io::Result<()> {
        let group: IpAddr = match self.family {
            Family::V4 => DISCOVERY_V4.into(),
            Family::V6 => DISCOVERY_V6.into(),
        };
        self.send(Path { ifindex, remote: SocketAddr::new(group, port) }, bytes)
    }

    fn recv_v4(&self, buffer: &mut [u8]) -> nix::Result<(Path, usize)> {
        loop {
            let mut control = cmsg_space!(libc::in_pktinfo);
            let mut iov = [IoSliceMut::new(buffer)];
            let message =
                recvmsg::<SockaddrIn>(self.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
            let ifindex = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => Some(info.ipi_ifindex.cast_unsigned()),
                _ => None,
            });
            if let (Some(remote), Some(ifindex)) = (message.address, ifindex) {
                let remote = SocketAddrV4::new(remote.ip(), remote.port()).into();
                return Ok((Path { ifindex, remote }, message.bytes));
            }
        }
    }

    fn recv_v6(&self, buffer: &mut [u8]) -> nix::Result<(Path, usize)> {
        loop {
            let mut control = cmsg_space!(libc::in6_pktinfo);
            let mut iov = [IoSliceMut::new(buffer)];
            let message =
                recvmsg::<SockaddrIn6>(self.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
            let ifindex = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_ifindex),
                _ => None,
            });
            if let (Some(remote), Some(ifindex)) = (message.address, ifindex) {
                // One peer is one address, whatever the kernel noted beside it.
                let remote = SocketAddrV6::new(remote.ip(), remote.port(), 0, 0).into();
                return Ok((Path { ifindex, remote }, message.bytes));
            }
        }
    }

    fn send_v4(&self, ifindex: u32, remote: SocketAddrV4, bytes: &[u8]) -> nix::Result<usize> {
        let nowhere = libc::in_addr { s_addr: 0 };
        let info = libc::in_pktinfo { ipi_ifindex: ifindex.cast_signed(), ipi_spec_dst: nowhere, ipi_addr: nowhere };
        sendmsg(
            self.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn::from(remote)),
        )
    }

    fn send_v6(&self, ifindex: u32, remote: SocketAddrV6, bytes: &[u8]) -> nix::Result<usize> {
        let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: [0; 16] }, ipi6_ifindex: ifindex };
        // A scope is said for link-local addresses only.
        let scoped = remote.ip().is_multicast() || remote.ip().is_unicast_link_local();
        let scope = if scoped { ifindex } else { 0 };
        sendmsg(
            self.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[ControlMessage::Ipv6PacketInfo(&info)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn6::from(SocketAddrV6::new(*remote.ip(), remote.port(), 0, scope))),
        )
    }
}

impl Drop for DatagramSocket {
    /// Leaves the port to whoever comes next, be it this agent again: a program that is being started holds a copy of
    /// all descriptors until its own code runs, and with them the port.
    fn drop(&mut self) {
        // Of an open socket the kernel does not refuse it; and if it did, the port would be free a little later.
        self.socket.set_reuse_address(true).ok();
    }
}

impl AsRawFd for DatagramSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn configure(socket: &Socket, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => {
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_loop_v4(false)?;
            socket.set_multicast_ttl_v4(1)?;
            socket.set_tos_v4(TRAFFIC_CLASS)?;
            setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        Family::V6 => {
            // The other family has a socket of its own.
            socket.set_only_v6(true)?;
            socket.set_multicast_all_v6(false)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(1)?;
            socket.set_tclass_v6(TRAFFIC_CLASS)?;
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    // After the traffic class, which sets a priority of its own. The highest is for CAP_NET_ADMIN, which a witness lacks.
    if socket.set_priority(QUEUE_PRIORITY).is_err() {
        socket.set_priority(UNPRIVILEGED_PRIORITY)?;
    }
    // Above the system's limit where we may, up to it otherwise.
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_LEN).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_LEN)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_left_can_be_had_again_while_a_program_being_started_holds_a_copy() {
        for family in Family::ALL {
            // A host may lack IPv6.
            let Ok(socket) = DatagramSocket::open(family, 0) else { continue };
            let port = socket.port().expect("bound");
            // As a child process has it between its fork and its exec.
            let copy = socket.socket.try_clone().expect("a descriptor");
            drop(socket);
            let again = DatagramSocket::open(family, port).expect("it is free again");

            // Which is no licence for another agent: what is in use is taken.
            let refused = DatagramSocket::open(family, port).expect_err("taken");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            drop((copy, again));
        }
    }
}
