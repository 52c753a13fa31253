//! Hears who says that he has an address: ARP packets and neighbour advertisements of other hosts.
//!
//! One socket an interface and family, bound to its own ethertype, so that no other traffic touches it. A filter in the
//! kernel passes only packets about watched addresses; the rest costs the agent nothing, however busy the network.
//! Questions are not heard: to ask for an address, as duplicate detection does, claims nothing, and the owner's kernel
//! answers.
#![allow(unsafe_code)] // Binding an AF_PACKET socket and receiving from one with the sender's address have no safe wrapper.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, SockFilter, Socket, Type};

use super::error::context;
use super::filter::{PASS, REJECT, and, if_equal, if_greater, load_byte, load_word};
use crate::engine::ClaimKind;
use crate::types::{Family, MacAddr};
use crate::wire::arp::{Arp, Operation};
use crate::wire::ndisc::NeighborAdvertisement;

/// Room for any packet of a link with the usual largest frames. What is longer is no claim that anybody heeds.
pub const PACKET_LEN: usize = 2048;

/// Some two hundred claims: a flood of them says nothing more than its first ones.
const RECEIVE_BUFFER_LEN: usize = 128 * 1024;

/// The most addresses that are looked for in the kernel: a filter has at most 4,096 instructions (`BPF_MAXINSNS`).
/// Where there are more, all claims are heard, and looked through here.
const MOST_FILTERED: usize = 2_000;

/// A host says that it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// Where others will now look for it.
    pub mac: MacAddr,
    /// By what.
    pub kind: ClaimKind,
}

/// A packet socket that hears claims to some addresses on an interface. Never blocks.
#[derive(Debug)]
pub struct ClaimSocket {
    socket: Socket,
    family: Family,
    addresses: RefCell<BTreeSet<IpAddr>>,
}

impl ClaimSocket {
    /// Opens one on the interface of an index. Only the addresses of the family count.
    ///
    /// # Errors
    ///
    /// What was tried in vain; `PermissionDenied` without `CAP_NET_RAW`.
    pub fn open(ifindex: u32, family: Family, addresses: impl IntoIterator<Item = IpAddr>) -> io::Result<Self> {
        // Without a protocol it hears nothing until it is bound, when the filter is in place.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)
            .map_err(context("open a packet socket (needs CAP_NET_RAW)"))?;
        let this = Self { socket, family, addresses: RefCell::default() };
        this.watch(addresses)?;
        this.socket.set_recv_buffer_size(RECEIVE_BUFFER_LEN).map_err(context("size a packet socket's buffer"))?;
        bind(&this.socket, ifindex, family)
            .map_err(context(&format!("watch {family} claims on interface index {ifindex}")))?;
        Ok(this)
    }

    /// Whose claims it hears.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Hears claims to these addresses from now on, and to no others. What it has heard before it keeps, where it is about one of these.
    ///
    /// # Errors
    ///
    /// What the kernel says about the filter.
    pub fn watch(&self, addresses: impl IntoIterator<Item = IpAddr>) -> io::Result<()> {
        let mut watched = BTreeSet::new();
        // Not collected: that sorts them, by code that is let go when the agent runs.
        watched.extend(addresses.into_iter().filter(|address| Family::of(*address) == self.family));
        self.socket.attach_filter(&filter(self.family, &watched)).map_err(context("filter a packet socket"))?;
        self.addresses.replace(watched);
        Ok(())
    }

    /// The next claim to a watched address, by way of a buffer of [`PACKET_LEN`] bytes; `None` when there is none.
    ///
    /// # Errors
    ///
    /// What the kernel says about the socket.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<Claim>> {
        loop {
            let (len, sender) = match receive(&self.socket, buffer) {
                Ok(received) => received,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(None),
                    // Said once when the interface goes down; it may come up again.
                    Some(libc::ENETDOWN) => continue,
                    // The interface is gone for good, and the socket deaf.
                    Some(libc::ENODEV | libc::ENXIO) => return Ok(None),
                    _ => return Err(context("receive a claim")(error)),
                },
            };
            let packet = buffer.get(..len).unwrap_or_default();
            let claim = match self.family {
                Family::V4 => claim_v4(packet),
                Family::V6 => claim_v6(packet, sender),
            };
            if let Some(claim) = claim.filter(|claim| self.addresses.borrow().contains(&claim.address)) {
                return Ok(Some(claim));
            }
        }
    }
}

impl AsFd for ClaimSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for ClaimSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn claim_v4(packet: &[u8]) -> Option<Claim> {
    let arp = Arp::parse(packet).ok()?;
    let kind = match arp.operation {
        // A gratuitous packet of either form names its own address as the target.
        Operation::Request | Operation::Reply if arp.sender_ip == arp.target_ip => ClaimKind::Announcement,
        Operation::Request => ClaimKind::Question,
        Operation::Reply => ClaimKind::Answer,
    };
    Some(Claim { address: arp.sender_ip.into(), mac: arp.sender_mac, kind })
}

fn claim_v6(packet: &[u8], sender: Option<MacAddr>) -> Option<Claim> {
    let advertisement = NeighborAdvertisement::parse(packet).ok()?;
    let kind = if advertisement.solicited { ClaimKind::Answer } else { ClaimKind::Announcement };
    // An answer may leave out what the frame says already.
    let mac = advertisement.target_mac.or(sender)?;
    Some(Claim { address: advertisement.target.into(), mac, kind })
}

const ARP_SENDER_IP: u32 = 14;
const IPV6_NEXT_HEADER: u32 = 6;
const ICMPV6_TYPE: u32 = 40;
/// The last four bytes of a neighbour advertisement's target: enough to tell most addresses apart.
const ND_TARGET_END: u32 = 60;
const ICMPV6: u32 = 58;
const NEIGHBOR_ADVERTISEMENT: u32 = 136;

/// `SKF_AD_OFF` and what lies above it: facts that are not in the packet.
const ANCILLARY: i32 = -0x1000;
const PACKET_TYPE: i32 = ANCILLARY + 4;
const VLAN_TAG: i32 = ANCILLARY + 44;
const VLAN_TAG_PRESENT: i32 = ANCILLARY + 48;
/// The packet types up to this one are for this host: to it, to all, to a group. Above are those to others, and our own.
const PACKET_MULTICAST: u32 = libc::PACKET_MULTICAST as u32;

/// A program for the kernel: passes claims of others to these addresses, and what looks like one.
///
/// What answers to a test follows it at once, so that no jump is long, however many addresses there are. What is shorter
/// than a load wants is rejected by the kernel.
fn filter(family: Family, addresses: &BTreeSet<IpAddr>) -> Vec<SockFilter> {
    let mut program = vec![
        load_word(PACKET_TYPE.cast_unsigned()),
        if_greater(PACKET_MULTICAST, 0, 1),
        REJECT,
        // What belongs to a VLAN is not of this network. Tag 0 is none but for its priority.
        load_word(VLAN_TAG_PRESENT.cast_unsigned()),
        if_equal(0, 4, 0),
        load_word(VLAN_TAG.cast_unsigned()),
        and(0x0fff),
        if_equal(0, 1, 0),
        REJECT,
    ];
    match family {
        Family::V4 => program.push(load_word(ARP_SENDER_IP)),
        Family::V6 => program.extend([
            load_byte(IPV6_NEXT_HEADER),
            if_equal(ICMPV6, 1, 0),
            REJECT,
            load_byte(ICMPV6_TYPE),
            if_equal(NEIGHBOR_ADVERTISEMENT, 1, 0),
            REJECT,
            load_word(ND_TARGET_END),
        ]),
    }
    if addresses.len() > MOST_FILTERED {
        program.push(PASS);
        return program;
    }
    for address in addresses {
        program.extend([if_equal(last_word(*address), 0, 1), PASS]);
    }
    program.push(REJECT);
    program
}

/// The last four bytes of an address, as a filter reads them.
const fn last_word(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            u32::from_be_bytes([a, b, c, d])
        }
    }
}

fn bind(socket: &Socket, ifindex: u32, family: Family) -> io::Result<()> {
    let ethertype = match family {
        Family::V4 => libc::ETH_P_ARP,
        Family::V6 => libc::ETH_P_IPV6,
    };
    // SAFETY: all zeros is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = (ethertype as u16).to_be();
    address.sll_ifindex = ifindex.cast_signed();
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads a `sockaddr_ll` of the stated length.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A packet without its link header: its length, at most the buffer's, and the MAC address in that header.
fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<MacAddr>)> {
    // SAFETY: all zeros is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    let mut length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel writes at most the stated lengths into buffers that outlive the call.
    let received = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
            (&raw mut address).cast(),
            &raw mut length,
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let [a, b, c, d, e, f, ..] = address.sll_addr;
    let mac = (address.sll_halen == 6).then_some(MacAddr(a, b, c, d, e, f));
    Ok((received, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_filters_of_all_lengths() {
        for family in Family::ALL {
            for count in [0, 1, 300, 2_000, 2_001] {
                let address = |n: u16| match family {
                    Family::V4 => IpAddr::from([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]),
                    Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]),
                };
                let program = filter(family, &(0..count).map(address).collect());
                // The kernel refuses a filter that is too long, or that could be left otherwise than by a verdict.
                let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
                Socket::from(socket).attach_filter(&program).expect("the kernel takes it");
            }
        }
    }

    #[test]
    fn what_an_arp_packet_claims() {
        let (mac, ip) = (MacAddr(2, 0, 0, 0, 0, 9), std::net::Ipv4Addr::new(10, 0, 0, 100));
        let claim = |arp: Arp| {
            let mut frame = Vec::new();
            arp.emit(&mut frame);
            claim_v4(&frame[14..]).expect("well formed")
        };
        for arp in [Arp::gratuitous_request(mac, ip), Arp::gratuitous_reply(mac, ip)] {
            assert_eq!(claim(arp), Claim { address: ip.into(), mac, kind: ClaimKind::Announcement });
        }
        let other = std::net::Ipv4Addr::new(10, 0, 0, 9);
        assert_eq!(claim(Arp { target_ip: other, ..Arp::gratuitous_reply(mac, ip) }).kind, ClaimKind::Answer);
        assert_eq!(claim(Arp { target_ip: other, ..Arp::gratuitous_request(mac, ip) }).kind, ClaimKind::Question);
        let probe = claim(Arp::probe(mac, ip));
        assert_eq!(probe.address, IpAddr::from([0, 0, 0, 0]), "a probe claims nothing that anybody has");
    }
}
