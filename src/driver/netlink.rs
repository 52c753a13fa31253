//! Blocking conversations with the kernel's routing netlink: many requests at a time, each with its own answer.
//!
//! The kernel works a request off while it is being sent, so an answer that is late is lost: every
//! wait has an end, and an answer that nobody waits for any more is discarded by its sequence number.

use std::fmt;
use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use socket2::SockRef;

use super::error::context;

/// How long an answer may take. The kernel holds one lock for all of routing, which on a host with many
/// interfaces another program may keep for hundreds of milliseconds.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests in one datagram: measured as fast as any larger number, and the answers fit a default receive buffer.
pub const BATCH: usize = 100;

/// Larger than any datagram the kernel sends: dumps come in 32 KiB. Only what one of them has touched takes memory.
const DATAGRAM_LEN: usize = 64 * 1024;

/// How often an inconsistent dump is asked for again before its last answer is taken as it is.
const DUMP_ATTEMPTS: usize = 5;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER_LEN: usize = 16;

/// A change or a question, with its flags beside `NLM_F_REQUEST` and `NLM_F_ACK`.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked.
    pub message: RouteNetlinkMessage,
    /// `NLM_F_CREATE` and the like.
    pub flags: u16,
}

/// The kernel's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Positive.
    pub errno: i32,
    /// The kernel's own words, where it has any.
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(Self::from_raw_os_error(refusal.errno).kind(), refusal)
    }
}

/// A socket for requests. Blocks: not for the loop.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    port: u32,
    sequence: u32,
    datagram: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// Where the kernel gives none.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(context("open a netlink socket"))?;
        let port = socket.bind_auto().map_err(context("bind a netlink socket"))?.port_number();
        socket.connect(&SocketAddr::new(0, 0)).map_err(context("connect a netlink socket to the kernel"))?;
        // Neither is vital: without them an error has no words, or repeats its request.
        for option in [Socket::set_ext_ack, Socket::set_cap_ack] {
            option(&socket, true).or_else(unknown_option).map_err(context("set a netlink socket's options"))?;
        }
        SockRef::from(&socket)
            .set_read_timeout(Some(REQUEST_TIMEOUT))
            .map_err(context("set a netlink socket's timeout"))?;
        Ok(Self { socket, port, sequence: 0, datagram: Vec::with_capacity(DATAGRAM_LEN) })
    }

    /// The number by which notifications name the socket that asked for a change.
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// Has the kernel list only what a question's header says, where it can (since Linux 4.20); it is then strict about the header.
    ///
    /// # Errors
    ///
    /// What the kernel says about the socket.
    pub fn filter_dumps(&self) -> io::Result<()> {
        let filtered = self.socket.set_netlink_get_strict_chk(true).or_else(unknown_option);
        filtered.map_err(context("set a netlink socket's options"))
    }

    /// Asks for one change.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, or no answer in time.
    pub fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let answers = self.batch(vec![Request { message, flags }])?;
        answers.into_iter().try_for_each(|answer| answer.map_err(io::Error::from))
    }

    /// Asks for many changes, [`BATCH`] a datagram, and returns the answers in the order of the requests.
    ///
    /// # Errors
    ///
    /// Where the conversation broke down; then any of the requests may have been fulfilled.
    pub fn batch(&mut self, requests: Vec<Request>) -> io::Result<Vec<Result<(), Refusal>>> {
        let mut left = requests.len();
        let mut answers = Vec::with_capacity(left);
        let mut requests = requests.into_iter();
        while left > 0 {
            let count = left.min(BATCH);
            let first = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            for (number, Request { message, flags }) in (1..).zip(requests.by_ref().take(count)) {
                // Refusals come unasked, and in order: what the last answer leaves open was done.
                let ack = if number == count { NLM_F_ACK } else { 0 };
                self.append(message, NLM_F_REQUEST | ack | flags, &mut bytes);
            }
            self.socket.send(&bytes, 0).map_err(context("send a netlink request"))?;
            self.collect(first, count, &mut answers)?;
            left -= count;
        }
        Ok(answers)
    }

    /// Asks for a list, and hands each entry to `entry` as its message type and body.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, no answer in time, or what `entry` returns.
    pub fn dump(
        &mut self,
        question: &RouteNetlinkMessage,
        mut entry: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for attempt in 1..=DUMP_ATTEMPTS {
            // Entries are handed out only when the list is known to be whole.
            let mut entries = Vec::new();
            let interrupted = self.question(question, NLM_F_DUMP, &mut entries)?;
            if !interrupted || attempt == DUMP_ATTEMPTS {
                return entries.iter().try_for_each(|(kind, body)| entry(*kind, body));
            }
        }
        Ok(())
    }

    /// Asks about one thing; returns the body of the answer.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, or no answer in time.
    pub fn ask(&mut self, question: &RouteNetlinkMessage) -> io::Result<Vec<u8>> {
        let mut entries = Vec::new();
        self.question(question, NLM_F_ACK, &mut entries)?;
        let first = entries.into_iter().next().map(|(_, body)| body);
        first.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the kernel's netlink answer is empty"))
    }

    /// Whether the list changed while the kernel wrote it.
    fn question(
        &mut self,
        question: &RouteNetlinkMessage,
        flags: u16,
        entries: &mut Vec<(u16, Vec<u8>)>,
    ) -> io::Result<bool> {
        let mut bytes = Vec::new();
        self.append(question.clone(), NLM_F_REQUEST | flags, &mut bytes);
        self.socket.send(&bytes, 0).map_err(context("send a netlink request"))?;
        let mut interrupted = false;
        loop {
            let len = self.receive()?;
            for (header, body) in messages(self.datagram.get(..len).unwrap_or_default()) {
                if header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match header.message_type {
                    NLMSG_ERROR | NLMSG_DONE => {
                        return match answer(&header, body) {
                            Ok(()) => Ok(interrupted),
                            Err(refusal) => Err(refusal.into()),
                        };
                    }
                    kind => entries.push((kind, body.to_vec())),
                }
            }
        }
    }

    fn append(&mut self, message: RouteNetlinkMessage, flags: u16, bytes: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.header.port_number = self.port;
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len(), 0);
        message.serialize(&mut bytes[start..]);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }

    fn collect(&mut self, first: u32, count: usize, answers: &mut Vec<Result<(), Refusal>>) -> io::Result<()> {
        let start = answers.len();
        answers.resize(start + count, Ok(()));
        loop {
            let len = self.receive()?;
            for (header, body) in messages(self.datagram.get(..len).unwrap_or_default()) {
                let place = header.sequence_number.wrapping_sub(first);
                let place = usize::try_from(place).ok().filter(|place| *place < count);
                // Anything else belongs to a conversation that was given up.
                let (NLMSG_ERROR, Some(place)) = (header.message_type, place) else { continue };
                answers[start + place] = answer(&header, body);
                if place + 1 == count {
                    return Ok(());
                }
            }
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        self.datagram.clear();
        match self.socket.recv(&mut self.datagram, 0) {
            Ok(len) => Ok(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("no netlink answer within {REQUEST_TIMEOUT:?}")))
            }
            Err(error) => Err(context("receive a netlink answer")(error)),
        }
    }
}

/// The messages of a datagram with their bodies; ends at the first that is malformed.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (NetlinkHeader, &[u8])> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let mut header = NetlinkHeader::default();
        header.length = message.length();
        header.message_type = message.message_type();
        header.flags = message.flags();
        header.sequence_number = message.sequence_number();
        header.port_number = message.port_number();
        let len = usize::try_from(message.length()).ok()?;
        let body = datagram.get(HEADER_LEN..len)?;
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((header, body))
    })
}

/// The verdict of an `NLMSG_ERROR` or `NLMSG_DONE`, with the kernel's words from its extended acknowledgement.
fn answer(header: &NetlinkHeader, body: &[u8]) -> Result<(), Refusal> {
    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        return Ok(());
    }
    let mut attributes = body.len();
    if header.flags & NLM_F_ACK_TLVS != 0 {
        attributes = 4;
        if header.message_type == NLMSG_ERROR {
            // The request follows: its header alone, or all of it.
            let request_len =
                body.get(4..8).and_then(|len| len.first_chunk()).map_or(0, |len| u32::from_ne_bytes(*len));
            let capped = header.flags & NLM_F_CAPPED != 0;
            let request_len = usize::try_from(request_len).unwrap_or(HEADER_LEN);
            attributes += if capped { HEADER_LEN } else { request_len.next_multiple_of(4) };
        }
    }
    let text = NlasIterator::new(body.get(attributes..).unwrap_or_default())
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned());
    Err(Refusal { errno: code.saturating_abs(), text })
}

fn unknown_option(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_that_ends_too_early_yields_what_is_whole() {
        let mut one = vec![20, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let bytes = one.clone();
        one.extend_from_slice(&bytes[..19]);
        let numbers: Vec<u32> = messages(&one).map(|(header, _)| header.sequence_number).collect();
        assert_eq!(numbers, [7]);
    }
}
