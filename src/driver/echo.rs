//! Asks a host behind a router whether it is there, by ICMP echo.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

use super::error::context;
use crate::types::Family;
use crate::wire::echo::{self, Echo};

/// Longer than any answer to us: what is cut off does not matter.
const ANSWER_LEN: usize = 128;

/// How many packets of that host that are no answers are passed over before others have their turn.
const OTHERS_IN_A_ROW: usize = 64;

static OPENED: AtomicU16 = AtomicU16::new(0);

/// A raw socket for the echoes of one host. Never blocks.
#[derive(Debug)]
pub struct EchoSocket {
    socket: Socket,
    address: IpAddr,
    /// Tells our echoes from those of other programs.
    identifier: u16,
}

impl EchoSocket {
    /// Opens one that asks a host, through this interface or as the routes say; over IPv4 from this address.
    ///
    /// # Errors
    ///
    /// What was tried in vain; `PermissionDenied` without `CAP_NET_RAW`.
    pub fn open(interface: Option<&str>, source: Option<IpAddr>, address: IpAddr) -> io::Result<Self> {
        let (domain, protocol) = match address {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))
            .map_err(context("open an ICMP socket (needs CAP_NET_RAW)"))?;
        if let Some(interface) = interface {
            socket.bind_device(Some(interface.as_bytes())).map_err(context(&format!("bind to {interface}")))?;
        }
        // Never from a virtual address, which is this host's today and another's tomorrow.
        if let Some(source @ IpAddr::V4(_)) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
            socket.bind(&SocketAddr::new(source, 0).into()).map_err(context(&format!("send from {source}")))?;
        }
        // Only what comes from there is heard.
        socket.connect(&SocketAddr::new(address, 0).into()).map_err(context(&format!("reach {address}")))?;
        let [.., high, low] = std::process::id().to_be_bytes();
        // Another for each socket: one that asks a host again must not take a late answer to the last one for its own.
        let turn = OPENED.fetch_add(1, Ordering::Relaxed);
        Ok(Self { socket, address, identifier: u16::from_be_bytes([high, low]).wrapping_add(turn) })
    }

    /// Asks. A question that there is no room or no way for is lost as any other.
    pub fn ask(&self, sequence: u16) {
        let echo = Echo { family: Family::of(self.address), identifier: self.identifier, sequence };
        self.socket.send(&echo.request()).ok();
    }

    /// Whether an answer has come.
    ///
    /// # Errors
    ///
    /// None that a caller could do anything about: what the network says of a question is no answer.
    pub fn recv(&self) -> io::Result<Option<IpAddr>> {
        for _ in 0..OTHERS_IN_A_ROW {
            let mut packet = [0; ANSWER_LEN];
            let received = io::Read::read(&mut &self.socket, &mut packet);
            match received {
                Ok(len) if self.is_answer(packet.get(..len).unwrap_or_default()) => return Ok(Some(self.address)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // A router's or our own kernel's word about an earlier question, told once.
                Err(_) => {}
            }
        }
        Ok(None)
    }

    fn is_answer(&self, packet: &[u8]) -> bool {
        echo::answer(Family::of(self.address), packet) == Some(self.identifier)
    }
}

impl AsRawFd for EchoSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for EchoSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
