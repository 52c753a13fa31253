//! Conversations with the kernel's nftables: transactions, and lists.
//!
//! The kernel works a request off while it is being sent, so its answer is there when the send returns. Nothing here
//! waits for anything but the kernel's own lock over the rules of a network namespace, which another program may hold
//! while it loads a large rule set.

use std::io;

use netlink_packet_core::{
    Emitable as _, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    ParseableParametrized as _,
};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBufForce;
use socket2::SockRef;

use super::error::context;
use super::netlink::{Refusal, messages};

/// Of the socket. A transaction is one datagram: this holds some 50,000 addresses. Without the right to so much the
/// kernel grants what `net.core.wmem_max` allows, by default some 4,000 addresses.
const SEND_BUFFER: usize = 8 << 20;

/// Larger than any datagram the kernel sends: lists come in 32 KiB. Only what one of them has touched takes memory.
const DATAGRAM_LEN: usize = 64 * 1024;

/// How often a list that changed while it was read is asked for again before it is taken as it is.
const LIST_ATTEMPTS: usize = 5;

/// Before a message's attributes: netlink's, and netfilter's.
const HEADERS_LEN: usize = 20;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A message of a transaction, written already: what describes a rule takes ten times the memory of what is sent, and there
/// may be a rule for each of a thousand vips.
#[derive(Clone, Debug)]
pub struct Change {
    /// The family of the table that it is about.
    pub family: NetfilterProtoFamily,
    /// What is asked: `NFT_MSG_*`.
    pub kind: u8,
    /// Of the message.
    pub attributes: Vec<u8>,
    /// `NLM_F_CREATE` and the like.
    pub flags: u16,
}

impl Change {
    /// Writes what the message describes.
    pub fn new(family: NetfilterProtoFamily, message: &NfTablesMessage, flags: u16) -> Self {
        let mut attributes = vec![0; message.buffer_len().next_multiple_of(4)];
        message.emit(&mut attributes);
        Self { family, kind: message.message_type().into(), attributes, flags }
    }
}

/// A socket. The tables that it makes as an owner are its own as long as it lives.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
    port: u32,
    sequence: u32,
    request: Vec<u8>,
    datagram: Vec<u8>,
}

impl Nftables {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// Where the kernel has no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(context("open a netfilter netlink socket"))?;
        let port = socket.bind_auto().map_err(context("bind a netlink socket"))?.port_number();
        socket.connect(&SocketAddr::new(0, 0)).map_err(context("connect a netlink socket to the kernel"))?;
        socket.set_non_blocking(true).map_err(context("set a netlink socket's options"))?;
        // Else an error repeats its request. Older kernels do not know it.
        socket.set_cap_ack(true).or_else(unknown_option).map_err(context("set a netlink socket's options"))?;
        force_send_buffer(&socket).map_err(context("set a netlink socket's send buffer"))?;
        Ok(Self { socket, port, sequence: 0, request: Vec::new(), datagram: Vec::with_capacity(DATAGRAM_LEN) })
    }

    /// Makes all changes at once, or none. When it returns, every packet meets the new state.
    ///
    /// # Errors
    ///
    /// The kernel's first refusal, then nothing has changed; or none of its answers could be read.
    pub fn commit(&mut self, changes: Vec<Change>) -> io::Result<()> {
        self.request.clear();
        // Exactly: while a thousand leases are made this is most of the memory in use.
        let len: usize = changes.iter().map(|change| HEADERS_LEN + change.attributes.len()).sum();
        self.request.reserve_exact(len + 2 * HEADERS_LEN);
        let first = self.append(NetfilterProtoFamily::Unspec, ControlMessage::BatchBegin, NLM_F_REQUEST);
        let (mut last, mut left) = (first, changes.len());
        for change in changes {
            left -= 1;
            // One acknowledgement is enough: it comes after all refusals, and after the transaction is done.
            let ack = if left == 0 { NLM_F_ACK } else { 0 };
            last = self.append_change(&change, NLM_F_REQUEST | ack);
        }
        self.append(NetfilterProtoFamily::Unspec, ControlMessage::BatchEnd, NLM_F_REQUEST);
        self.socket.send(&self.request, 0).map_err(context("send an nftables transaction"))?;
        self.outcome(first, last)
    }

    /// Lists things of a family's tables; returns the messages that describe them.
    ///
    /// # Errors
    ///
    /// The kernel's refusal: `ENOENT` where the table or set is missing.
    pub fn list(
        &mut self,
        family: NetfilterProtoFamily,
        question: &NfTablesMessage,
    ) -> io::Result<Vec<NfTablesMessage>> {
        for _ in 1..LIST_ATTEMPTS {
            if let (entries, false) = self.ask(family, question, NLM_F_DUMP)? {
                return Ok(entries);
            }
        }
        Ok(self.ask(family, question, NLM_F_DUMP)?.0)
    }

    /// Asks about one thing by its name; `None`: it is missing.
    ///
    /// # Errors
    ///
    /// The kernel's refusal for another reason.
    pub fn find(
        &mut self,
        family: NetfilterProtoFamily,
        question: &NfTablesMessage,
    ) -> io::Result<Option<NfTablesMessage>> {
        match self.ask(family, question, NLM_F_ACK) {
            Ok((entries, _)) => Ok(entries.into_iter().next()),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The entries, and whether something changed between them.
    fn ask(
        &mut self,
        family: NetfilterProtoFamily,
        question: &NfTablesMessage,
        flags: u16,
    ) -> io::Result<(Vec<NfTablesMessage>, bool)> {
        self.request.clear();
        let number = self.append(family, question.clone(), NLM_F_REQUEST | flags);
        self.socket.send(&self.request, 0).map_err(context("send an nftables question"))?;
        let (mut entries, mut interrupted) = (Vec::new(), false);
        loop {
            let len = self.receive()?;
            for (header, body) in messages(self.datagram.get(..len).unwrap_or_default()) {
                if header.sequence_number != number {
                    continue;
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match header.message_type {
                    NLMSG_ERROR | NLMSG_DONE => return verdict(body).map(|()| (entries, interrupted)),
                    kind => {
                        let message = NetfilterMessage::parse_with_param(body, kind)
                            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
                        if let NetfilterMessageInner::NfTables(message) = message.inner {
                            entries.push(message);
                        }
                    }
                }
            }
        }
    }

    fn outcome(&mut self, first: u32, last: u32) -> io::Result<()> {
        let mut refusal = Ok(());
        loop {
            let len = match self.receive() {
                Ok(len) => len,
                // After a refusal the last change may go without an acknowledgement.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return refusal.and_then(|()| Err(context("read the outcome of an nftables transaction")(error)));
                }
                Err(error) => return Err(error),
            };
            for (NetlinkHeader { message_type, sequence_number, .. }, body) in
                messages(self.datagram.get(..len).unwrap_or_default())
            {
                // Anything else answers a conversation that was given up.
                if message_type != NLMSG_ERROR || sequence_number.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                refusal = refusal.and_then(|()| verdict(body));
                if sequence_number == last {
                    return refusal;
                }
            }
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        self.datagram.clear();
        self.socket.recv(&mut self.datagram, 0)
    }

    /// As [`Self::append`].
    fn append_change(&mut self, change: &Change, flags: u16) -> u32 {
        let Change { family, kind, attributes, .. } = change;
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        let len = HEADERS_LEN + attributes.len();
        header.length = u32::try_from(len).expect("a message has some thousand elements at most");
        header.message_type = u16::from_be_bytes([NetfilterSubsystem::NfTables.into(), *kind]);
        header.flags = flags | change.flags;
        header.sequence_number = self.sequence;
        header.port_number = self.port;
        let start = self.request.len();
        self.request.resize(start + HEADERS_LEN, 0);
        header.emit(&mut self.request[start..]);
        NetfilterHeader::new(*family, 0, 0).emit(&mut self.request[start + header.buffer_len()..]);
        self.request.extend_from_slice(attributes);
        self.sequence
    }

    fn append(&mut self, family: NetfilterProtoFamily, message: impl Into<NetfilterMessageInner>, flags: u16) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let inner = message.into();
        let header = match inner {
            // A batch names the subsystem that it is for.
            NetfilterMessageInner::None(_) => {
                NetfilterHeader::new(family, 0, u8::from(NetfilterSubsystem::NfTables).into())
            }
            _ => NetfilterHeader::new(family, 0, 0),
        };
        let mut message = NetlinkMessage::from(NetfilterMessage::new(header, inner));
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.header.port_number = self.port;
        message.finalize();
        let start = self.request.len();
        self.request.resize(start + message.buffer_len(), 0);
        message.serialize(&mut self.request[start..]);
        self.request.resize(self.request.len().next_multiple_of(4), 0);
        self.sequence
    }
}

/// Whether what was asked for, or what was to be changed, is not there.
pub fn is_missing(error: &io::Error) -> bool {
    super::errno(error) == Some(libc::ENOENT)
}

fn verdict(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code)) {
        0 => Ok(()),
        code => Err(Refusal { errno: code.saturating_abs(), text: None }.into()),
    }
}

fn unknown_option(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(()) } else { Err(error) }
}

fn force_send_buffer(socket: &Socket) -> io::Result<()> {
    // Root of a user namespace may not.
    setsockopt(socket, SndBufForce, &SEND_BUFFER).or_else(|_| SockRef::from(socket).set_send_buffer_size(SEND_BUFFER))
}
