//! Sends whole Ethernet frames: what has to leave with a source MAC of our choice, or is no IP packet.
//!
//! The socket receives nothing. Frames pass the interface's queue and its egress filters like any other packet.
#![allow(unsafe_code)] // `sendmmsg` with an address of its own for each frame has no safe wrapper.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use super::error::context;

/// Frames handed to the kernel in one call.
pub const BATCH: usize = 64;

/// Room for the announcement of 1,000 addresses in both forms, with the kernel's bookkeeping of under 1 KiB each.
const SEND_BUFFER_LEN: usize = 2 * 1024 * 1024;

/// `TC_PRIO_CONTROL`: the first band of a host's own queues.
const CONTROL_PRIORITY: u32 = 7;

const ETHERNET_HEADER_LEN: usize = 14;

/// How the host's own queues treat what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// First: for adverts.
    Control,
    /// As other traffic: for announcements, which must never delay an advert.
    Ordinary,
}

/// An `AF_PACKET` socket for all interfaces. Never blocks.
#[derive(Debug)]
pub struct FrameSocket {
    socket: Socket,
}

impl FrameSocket {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// What was tried in vain; `PermissionDenied` without `CAP_NET_RAW`.
    pub fn open(urgency: Urgency) -> io::Result<Self> {
        // Protocol 0: nothing is received.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)
            .map_err(context("open a packet socket (needs CAP_NET_RAW)"))?;
        // Above the system's limit where we may, up to it otherwise.
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER_LEN).is_err() {
            socket.set_send_buffer_size(SEND_BUFFER_LEN).map_err(context("enlarge a packet socket's buffer"))?;
        }
        if urgency == Urgency::Control {
            socket.set_priority(CONTROL_PRIORITY).map_err(context("set a packet socket's priority"))?;
        }
        Ok(Self { socket })
    }

    /// Sends frames through an interface, at most [`BATCH`]; returns how many were taken, from the first on. Not
    /// all are taken where a queue is full; then the next call says so.
    ///
    /// # Errors
    ///
    /// Why not even the first was taken: `WouldBlock` or `ENOBUFS` where a queue is full.
    pub fn send<F: AsRef<[u8]>>(&self, ifindex: u32, frames: &[F]) -> io::Result<usize> {
        let batch: Vec<&[u8]> = frames.iter().take(BATCH).map(AsRef::as_ref).collect();
        if batch.is_empty() {
            return Ok(0);
        }
        let mut addresses: Vec<_> = batch.iter().map(|frame| address(ifindex, frame)).collect();
        let mut slices: Vec<_> = batch
            .iter()
            .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
            .collect();
        let mut messages: Vec<_> =
            addresses.iter_mut().zip(&mut slices).map(|(address, slice)| message(address, slice)).collect();
        let count = libc::c_uint::try_from(messages.len()).expect("a batch is small");
        // SAFETY: the messages point into `addresses` and `slices`, which stand still until the end of this function, and the
        // slices into `frames`, which the kernel only reads; `count` is the number of messages.
        // The flags are signed with one libc, and not with another.
        let sent =
            unsafe { libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
        usize::try_from(sent)
            .map_err(|_| context(&format!("send frames on interface index {ifindex}"))(io::Error::last_os_error()))
    }
}

fn address(ifindex: u32, frame: &[u8]) -> libc::sockaddr_ll {
    // As it stands in the frame, so that filters see it.
    let protocol = frame.get(12..ETHERNET_HEADER_LEN).and_then(|kind| kind.first_chunk());
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: protocol.map_or(0, |kind| u16::from_ne_bytes(*kind)),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    }
}

fn message(address: &mut libc::sockaddr_ll, slice: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all zeros are a message without name, content and control data.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_name = ptr::from_mut(address).cast();
    header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    header.msg_iov = ptr::from_mut(slice);
    header.msg_iovlen = 1;
    libc::mmsghdr { msg_hdr: header, msg_len: 0 }
}
