//! A small synchronous rtnetlink client: one request, one answer. The lab has no event loop to share with the agent's,
//! and must not need the `ip` program.
//!
//! A client stays in the network namespace in which it was made, whichever thread uses it.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use netlink_packet_route::{AddressFamily, link::LinkHeader};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// The kernel's work queue for news of carriers runs at least once a second.
const CARRIER_PATIENCE: Duration = Duration::from_secs(3);

/// Where duplicate detection could not be switched off, it takes up to 2 s; the work queue of a busy machine has taken more than 5.
const LINK_LOCAL_PATIENCE: Duration = Duration::from_secs(15);

/// An rtnetlink socket of one network namespace.
pub(super) struct Rtnl {
    socket: Mutex<Socket>,
}

/// An interface as the kernel describes it.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address; zeros where it has none.
    pub mac: [u8; 6],
    /// Whether it is administratively up and has carrier.
    pub running: bool,
    /// Whether the kernel has drawn its conclusions from that, too (RFC 2863).
    pub operational: bool,
}

impl Rtnl {
    /// A client of the namespace that the calling thread is in.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub(super) fn new() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("netlink socket")?;
        socket.bind_auto().context("netlink socket")?;
        socket.connect(&SocketAddr::new(0, 0)).context("netlink socket")?;
        Ok(Self { socket: Mutex::new(socket) })
    }

    /// The interface of a name.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn link(&self, name: &str) -> Result<Link> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        let answers = self
            .request(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST | NLM_F_ACK)
            .with_context(|| format!("interface {name}"))?;
        answers.iter().find_map(link_of).ok_or_else(|| anyhow!("interface {name}: no answer from the kernel"))
    }

    /// Waits until the kernel has taken notice that an interface has carrier, which it does from a work queue.
    ///
    /// # Errors
    /// It has none.
    pub(super) fn await_carrier(&self, name: &str) -> Result<()> {
        let until = Instant::now() + CARRIER_PATIENCE;
        while !self.link(name)?.operational {
            ensure!(Instant::now() < until, "interface {name} has no carrier");
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Creates an interface.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn create_link(&self, message: LinkMessage) -> Result<()> {
        self.acknowledged(RouteNetlinkMessage::NewLink(message), NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Changes an interface: the message names it by index.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn change_link(&self, message: LinkMessage) -> Result<()> {
        self.acknowledged(RouteNetlinkMessage::NewLink(message), NLM_F_REQUEST | NLM_F_ACK)
    }

    /// Like [`change_link`](Self::change_link) by the older message, which some families alone understand.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn set_link(&self, message: LinkMessage) -> Result<()> {
        self.acknowledged(RouteNetlinkMessage::SetLink(message), NLM_F_REQUEST | NLM_F_ACK)
    }

    /// Sets an interface administratively up or down.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn set_up(&self, index: u32, up: bool) -> Result<()> {
        let mut message = link_message(index);
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        self.set_link(message)
    }

    /// Renames an interface. Linux renames an interface that is up, too, since 6.2 or so; older kernels refuse.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn rename_link(&self, index: u32, name: &str) -> Result<()> {
        let mut message = link_message(index);
        message.attributes.push(LinkAttribute::IfName(name.into()));
        self.set_link(message)
    }

    /// Deletes an interface.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn delete_link(&self, index: u32) -> Result<()> {
        self.acknowledged(RouteNetlinkMessage::DelLink(link_message(index)), NLM_F_REQUEST | NLM_F_ACK)
    }

    /// Adds an address, without duplicate detection.
    ///
    /// # Errors
    /// The kernel's refusal; an address that is there already is one.
    pub(super) fn add_address(&self, index: u32, ip: IpAddr, prefix_len: u8) -> Result<()> {
        let mut message = address_message(index, ip, prefix_len);
        if ip.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.acknowledged(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        )
        .with_context(|| format!("address {ip}/{prefix_len}"))
    }

    /// Deletes an address.
    ///
    /// # Errors
    /// The kernel's refusal; an address that is not there is one.
    pub(super) fn delete_address(&self, index: u32, ip: IpAddr, prefix_len: u8) -> Result<()> {
        self.acknowledged(
            RouteNetlinkMessage::DelAddress(address_message(index, ip, prefix_len)),
            NLM_F_REQUEST | NLM_F_ACK,
        )
        .with_context(|| format!("address {ip}/{prefix_len}"))
    }

    /// All addresses of an interface, of both families.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn addresses(&self, index: u32) -> Result<Vec<IpAddr>> {
        let answers =
            self.request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_REQUEST | NLM_F_DUMP)?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(message) if message.header.index == index => address_of(message),
                _ => None,
            })
            .collect())
    }

    /// Waits until an interface has its link-local IPv6 address, which the kernel makes from a work queue.
    ///
    /// # Errors
    /// It has none.
    pub(super) fn await_link_local(&self, index: u32) -> Result<()> {
        let until = Instant::now() + LINK_LOCAL_PATIENCE;
        let request = || RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let ready = |answer: &RouteNetlinkMessage| match answer {
            RouteNetlinkMessage::NewAddress(message) => {
                let usable = !message.header.flags.contains(AddressHeaderFlags::Tentative);
                let local = matches!(address_of(message), Some(IpAddr::V6(ip)) if ip.is_unicast_link_local());
                message.header.index == index && usable && local
            }
            _ => false,
        };
        while !self.request(request(), NLM_F_REQUEST | NLM_F_DUMP)?.iter().any(ready) {
            ensure!(Instant::now() < until, "interface index {index} has no link-local IPv6 address");
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    fn acknowledged(&self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.request(message, flags).map(drop)
    }

    /// Sends one request and collects its answers until the acknowledgement, the end of the dump or the error.
    fn request(&self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut buffer = vec![0; request.buffer_len()];
        request.serialize(&mut buffer);

        // A thread that panicked between a request and its answer would leave the answer behind, but then the test
        // or lab that owned the namespace is over too.
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.send(&buffer, 0).context("netlink request")?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = socket.recv_from_full().context("netlink answer")?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).context("netlink answer")?;
                let length = usize::try_from(answer.header.length).context("netlink answer")?;
                // Messages are padded to four bytes.
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(error) => return Err(error.to_io().into()),
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    NetlinkPayload::Overrun(_) => bail!("netlink answer lost: the socket's buffer is full"),
                    _ => {}
                }
            }
        }
    }
}

/// A message about the interface of an index, to be filled.
pub(super) fn link_message(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header = LinkHeader { index, ..Default::default() };
    message
}

fn address_message(index: u32, ip: IpAddr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix_len;
    message.header.flags = AddressHeaderFlags::empty();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(ip));
    message.attributes.push(AddressAttribute::Address(ip));
    message
}

fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    // On a point-to-point interface LOCAL is the own address and ADDRESS the peer's; IPv6 has ADDRESS only.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}

fn link_of(answer: &RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else { return None };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        running: message.header.flags.contains(LinkFlags::Up | LinkFlags::Running),
        operational: message.attributes.contains(&LinkAttribute::OperState(State::Up)),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().unwrap_or_default(),
            _ => {}
        }
    }
    Some(link)
}
