//! A packet socket on an interface: sends frames as they are, and receives every frame, with the kernel's time of receipt.
#![allow(unsafe_code)] // Binding an AF_PACKET socket and reading SO_TIMESTAMPNS have no safe wrapper for these types.

use std::io;
use std::mem;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use super::host::Host;

/// What a busy machine may leave unread for 100 ms at a few thousand frames a second.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// A packet socket on one interface of one host. Promiscuous, so that answers to made-up MAC addresses are received.
pub struct Tap {
    socket: Socket,
    index: libc::c_int,
}

impl Tap {
    /// Opens one that waits at most so long for a frame.
    ///
    /// # Errors
    /// There is no such interface, or the kernel's refusal.
    pub fn open(host: &Host, interface: &str, patience: Duration) -> Result<Self> {
        let index = host.link(interface)?.index.cast_signed();
        let socket = host.run_in(|| Socket::new(Domain::PACKET, Type::RAW, None))?.context("packet socket")?;
        // Above the system's limit where we may, up to it otherwise.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER).context("packet socket's buffer")?;
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).context("kernel timestamps")?;
        socket.set_read_timeout(Some(patience)).context("packet socket")?;
        let tap = Self { socket, index };
        tap.set_promiscuous().context("promiscuous packet socket")?;
        tap.bind().with_context(|| format!("packet socket on {interface}"))?;
        Ok(tap)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The interface is down or its queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(drop)
    }

    /// Receives a frame into the buffer: when the kernel had it, and its length. `None`: none came in time.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<Option<(Instant, usize)>> {
        self.receive(buffer, 0)
    }

    /// As [`Self::recv`], but without waiting.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn try_recv(&self, buffer: &mut [u8]) -> Result<Option<(Instant, usize)>> {
        self.receive(buffer, libc::MSG_DONTWAIT)
    }

    fn receive(&self, buffer: &mut [u8], flags: libc::c_int) -> Result<Option<(Instant, usize)>> {
        let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = [0_u64; 16];
        // SAFETY: all zeros is a message header without buffers.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        // Of another width with each libc.
        message.msg_controllen = mem::size_of_val(&control) as _;
        // SAFETY: the header points at buffers of the stated lengths that live until the call returns.
        let received = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, flags) };
        let Ok(length) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                // Said once when the interface goes down; it may come up again.
                io::ErrorKind::NetworkDown => Ok(None),
                _ => Err(error).context("packet socket"),
            };
        };
        // SAFETY: `message` was filled by the kernel, and `control` is still there.
        let stamp = unsafe { timestamp(&message) };
        Ok(Some((stamp.map_or_else(Instant::now, monotonic), length.min(buffer.len()))))
    }

    fn set_promiscuous(&self) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: self.index,
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        // SAFETY: the kernel reads a `packet_mreq` of the stated length.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const request).cast(),
                mem::size_of_val(&request) as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn bind(&self) -> io::Result<()> {
        // SAFETY: all zeros is a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::sa_family_t;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = self.index;
        let length = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: the kernel reads a `sockaddr_ll` of the stated length.
        let result = unsafe { libc::bind(self.socket.as_raw_fd(), (&raw const address).cast(), length) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The kernel's time of receipt.
///
/// # Safety
/// The header must be one that `recvmsg` filled, with its control buffer still in place.
unsafe fn timestamp(message: &libc::msghdr) -> Option<SystemTime> {
    // SAFETY: by this function's contract.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: the macros give headers within the control buffer, or null.
    while let Some(control) = unsafe { header.as_ref() } {
        if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            // SAFETY: this kind of control message holds a `timespec`, of no particular alignment.
            let time: libc::timespec = unsafe { libc::CMSG_DATA(control).cast::<libc::timespec>().read_unaligned() };
            let since_epoch =
                Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).unwrap_or_default());
            return Some(SystemTime::UNIX_EPOCH + since_epoch);
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// The kernel stamps with the wall clock, which may be stepped; only its distance from now is used.
fn monotonic(stamp: SystemTime) -> Instant {
    let age = SystemTime::now().duration_since(stamp).unwrap_or_default();
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}

/// Opens an ICMP or ICMPv6 socket whose requests take the host's ordinary way: its routes and its neighbour cache.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn echo_socket(host: &Host, target: std::net::IpAddr) -> Result<Socket> {
    let (domain, protocol) = match target {
        std::net::IpAddr::V4(_) => (Domain::IPV4, socket2::Protocol::ICMPV4),
        std::net::IpAddr::V6(_) => (Domain::IPV6, socket2::Protocol::ICMPV6),
    };
    let socket = host.run_in(|| Socket::new(domain, Type::RAW, Some(protocol)))?.context("raw ICMP socket")?;
    // Answers are received elsewhere; here they only would fill memory.
    socket.set_recv_buffer_size(0).context("raw ICMP socket")?;
    socket.set_nonblocking(true).context("raw ICMP socket")?;
    if socket.connect(&std::net::SocketAddr::new(target, 0).into()).is_err() {
        bail!("{} has no route to {target}", host.name());
    }
    Ok(socket)
}
