//! Virtual addresses on an interface: installed, removed and listed.
//!
//! What is installed carries [`OWN_PROTOCOL`], so that it is known for ours by any later agent. Installing what is there and
//! removing what is not are no errors. Removing takes exactly what it names: in IPv4 the kernel would remove
//! with the first address of a subnet all others of that subnet, whoever configured them.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::error::errno;
use super::ipv4_conf::{self, Setting};
use super::netlink::{Netlink, Refusal, Request};
use crate::types::VirtualAddress;

/// The number under which the kernel keeps our addresses (`IFA_PROTO`, `ip address ... proto`): that of VRRP.
///
/// Kernels before 5.18 keep none; there, addresses are not known for ours again.
pub const OWN_PROTOCOL: u8 = 112;

/// The longest lifetime that is not for ever, in the kernel's seconds.
const LIFETIME_MAX: u64 = 0xffff_fffe;

/// The kernel looks for addresses whose lifetime is over so seldom, to let its processors sleep (`ADDRCONF_TIMER_FUZZ_MAX`).
pub const LATE_BY: Duration = Duration::from_millis(250);

/// What the kernel says is left of the lifetime of an address that it has just removed for its age, at most: it counts
/// in whole seconds, and comes a moment early.
const EXPIRED_LEFT: u32 = 1;

/// How addresses are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstallOptions {
    /// Whether each address brings the route to its prefix. A link-local address always does: without
    /// it nothing could be sent from there.
    pub prefix_route: bool,
    /// The kernel removes the addresses after this time, in whole seconds rounded down, at least 1, and up to
    /// [`LATE_BY`] later; installing again renews it. `None`: for ever. In IPv4 an interface's first address of a
    /// subnet takes the others with it: see [`Addresses::spare_others`].
    pub valid_lifetime: Option<Duration>,
}

impl Default for InstallOptions {
    fn default() -> Self {
        Self { prefix_route: true, valid_lifetime: None }
    }
}

/// An address that was installed by this or an earlier agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnAddress {
    /// The interface.
    pub ifindex: u32,
    /// The address.
    pub ip: IpAddr,
    /// Its prefix length.
    pub prefix_len: u8,
}

/// The IPv4 addresses that a conversation has put on interfaces, and nobody took off since, as far as is known: for
/// whoever does without the kernel's news of the installations.
#[derive(Clone, Debug, Default)]
pub struct Installed {
    port: u32,
    places: Arc<Mutex<HashSet<(u32, IpAddr)>>>,
}

impl Installed {
    /// As [`Addresses::port`].
    pub(super) const fn port(&self) -> u32 {
        self.port
    }

    /// Each with the index of its interface.
    pub(super) fn places(&self) -> MutexGuard<'_, HashSet<(u32, IpAddr)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel did not do.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It said no to some; the others are done.
    #[error("cannot {action} {address} on interface index {ifindex}{}: {refusal}", Others(*others))]
    Refused {
        /// `install` or `remove`.
        action: &'static str,
        /// The first.
        address: String,
        /// The interface.
        ifindex: u32,
        /// How many more were refused.
        others: usize,
        /// Why the first was.
        refusal: Refusal,
    },
    /// It did not answer, or not understandably; any of the addresses may be installed or removed.
    #[error("cannot {action} addresses on interface index {ifindex}: {error}")]
    Conversation {
        /// `install`, `remove`, `list` or `restore`.
        action: &'static str,
        /// The interface; 0 where all are meant.
        ifindex: u32,
        /// What went wrong.
        error: io::Error,
    },
}

/// A conversation with the kernel about addresses. Blocks: not for the loop.
#[derive(Debug)]
pub struct Addresses {
    netlink: Netlink,
    installed: Installed,
    /// Interfaces whose settings were looked at.
    looked_at: BTreeSet<u32>,
    /// Those whose settings were changed, by this agent or by one before it. By index: in one boot the kernel gives it to no
    /// other interface, while a name may pass to one that nobody changed.
    spared: BTreeSet<u32>,
}

impl Addresses {
    /// Opens the conversation, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// Where the kernel gives no socket.
    pub fn open() -> io::Result<Self> {
        let netlink = Netlink::open()?;
        let installed = Installed { port: netlink.port(), ..Installed::default() };
        Ok(Self { netlink, installed, looked_at: BTreeSet::new(), spared: BTreeSet::new() })
    }

    /// Has the end of an IPv4 address's lifetime spare the interface's others (`promote_secondaries`, which systemd
    /// sets everywhere): nobody may be there then to see to it. [`Self::restore`] takes it back. Asks the kernel once
    /// for each interface.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, or no answer.
    pub fn spare_others(&mut self, ifindex: u32) -> io::Result<()> {
        if self.looked_at.contains(&ifindex) {
            return Ok(());
        }
        if ipv4_conf::read(&mut self.netlink, ifindex, Setting::PromoteSecondaries)? == 0 {
            ipv4_conf::write(&mut self.netlink, ifindex, Setting::PromoteSecondaries, 1)?;
            self.spared.insert(ifindex);
        }
        self.looked_at.insert(ifindex);
        Ok(())
    }

    /// The indexes of the interfaces that [`Self::restore`] has something to restore on.
    pub const fn spared(&self) -> &BTreeSet<u32> {
        &self.spared
    }

    /// What an earlier agent had changed in this boot and did not restore is this one's to restore.
    pub fn inherit_spared(&mut self, spared: BTreeSet<u32>) {
        self.spared.extend(spared);
    }

    /// Restores what [`Self::spare_others`] changed, where no address of ours is left.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, or no answer.
    pub fn restore(&mut self) -> Result<(), AddressError> {
        let left = self.own_addresses(None)?;
        for ifindex in self.spared.clone() {
            if left.iter().any(|own| own.ifindex == ifindex && own.ip.is_ipv4()) {
                continue;
            }
            match ipv4_conf::write(&mut self.netlink, ifindex, Setting::PromoteSecondaries, 0) {
                // Gone in the meantime, with all its settings.
                Err(error) if errno(&error) == Some(libc::ENODEV) => {}
                result => {
                    result.map_err(|error| AddressError::Conversation { action: "restore", ifindex, error })?;
                }
            }
            self.looked_at.remove(&ifindex);
            self.spared.remove(&ifindex);
        }
        Ok(())
    }

    /// The number by which notifications name this conversation as the one that asked for a change. The kernel
    /// says it for IPv4 only.
    pub const fn port(&self) -> u32 {
        self.netlink.port()
    }

    /// What is installed, now and whenever it is asked.
    pub fn installed(&self) -> Installed {
        self.installed.clone()
    }

    /// Puts addresses on an interface, without duplicate address detection.
    ///
    /// # Errors
    ///
    /// The first refusal, after all were tried.
    pub fn install(
        &mut self,
        ifindex: u32,
        addresses: &[VirtualAddress],
        options: InstallOptions,
    ) -> Result<(), AddressError> {
        let conversation = |error| AddressError::Conversation { action: "install", ifindex, error };
        // A lifetime is renewed by replacing the address.
        let flags = NLM_F_CREATE | if options.valid_lifetime.is_some() { NLM_F_REPLACE } else { NLM_F_EXCL };
        let request = |address: &VirtualAddress, tagged| Request {
            message: RouteNetlinkMessage::NewAddress(new_address(ifindex, address, options, tagged)),
            flags,
        };
        let requests = addresses.iter().map(|address| request(address, true)).collect();
        let mut answers = self.netlink.batch(requests).map_err(conversation)?;
        for (address, answer) in addresses.iter().zip(&mut answers) {
            // So that an address comes up even where the kernel does not know of protocols, or not of this one.
            if matches!(answer, Err(refusal) if [libc::EINVAL, libc::EOPNOTSUPP].contains(&refusal.errno)) {
                let again = self.netlink.batch(vec![request(address, false)]).map_err(conversation)?;
                *answer = again.into_iter().next().unwrap_or(Ok(()));
            }
        }
        let there = addresses.iter().zip(&answers).filter(|(address, answer)| address.ip.is_ipv4() && answer.is_ok());
        self.installed.places().extend(there.map(|(address, _)| (ifindex, address.ip)));
        verdict("install", ifindex, addresses, answers, &[libc::EEXIST])
    }

    /// Takes addresses off an interface; an interface that is gone has none.
    ///
    /// # Errors
    ///
    /// The first refusal, after all were tried.
    pub fn remove(&mut self, ifindex: u32, addresses: &[VirtualAddress]) -> Result<(), AddressError> {
        let conversation = |error| AddressError::Conversation { action: "remove", ifindex, error };
        let mut installed = self.installed.places();
        for address in addresses {
            installed.remove(&(ifindex, address.ip));
        }
        drop(installed);
        let keep_secondaries = addresses.iter().any(|address| address.ip.is_ipv4())
            && matches!(ipv4_conf::read(&mut self.netlink, ifindex, Setting::PromoteSecondaries), Ok(0));
        if keep_secondaries {
            ipv4_conf::write(&mut self.netlink, ifindex, Setting::PromoteSecondaries, 1).map_err(conversation)?;
        }
        // The first installed is the one that others would be promoted after, so it goes last.
        let backwards: Vec<_> = addresses.iter().rev().cloned().collect();
        let requests = backwards.iter().map(|address| delete_request(ifindex, address)).collect();
        let answers = self.netlink.batch(requests);
        if keep_secondaries {
            match ipv4_conf::write(&mut self.netlink, ifindex, Setting::PromoteSecondaries, 0) {
                // Gone in the meantime, with all its settings.
                Err(error) if errno(&error) == Some(libc::ENODEV) => {}
                result => result.map_err(conversation)?,
            }
        }
        let absent = [libc::EADDRNOTAVAIL, libc::ENODEV];
        verdict("remove", ifindex, &backwards, answers.map_err(conversation)?, &absent)
    }

    /// The addresses with our protocol number, on one interface or on all.
    ///
    /// # Errors
    ///
    /// Where the kernel does not answer.
    pub fn own_addresses(&mut self, ifindex: Option<u32>) -> Result<Vec<OwnAddress>, AddressError> {
        let mut own = Vec::new();
        self.netlink
            .dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()), |_, body| {
                own.extend(
                    read_address(body).filter(|found| found.protocol == Some(OWN_PROTOCOL)).map(|found| OwnAddress {
                        ifindex: found.ifindex,
                        ip: found.ip,
                        prefix_len: found.prefix_len,
                    }),
                );
                Ok(())
            })
            .map_err(|error| AddressError::Conversation { action: "list", ifindex: ifindex.unwrap_or(0), error })?;
        own.retain(|address| ifindex.is_none_or(|wanted| address.ifindex == wanted));
        Ok(own)
    }
}

/// An address as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KernelAddress {
    pub(super) ifindex: u32,
    pub(super) ip: IpAddr,
    pub(super) prefix_len: u8,
    pub(super) scope: u8,
    pub(super) flags: AddressFlags,
    pub(super) protocol: Option<u8>,
    /// Whether its lifetime is over. Without meaning but in the news that it is gone.
    pub(super) expired: bool,
}

/// Reads the body of an address message; `None` where it is none that we understand.
pub(super) fn read_address(body: &[u8]) -> Option<KernelAddress> {
    use netlink_packet_core::Parseable;
    let message = AddressMessage::parse(body).ok()?;
    let mut ip = None;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let mut protocol = None;
    let mut expired = false;
    for attribute in message.attributes {
        match attribute {
            // On a point-to-point interface `Address` is the other end.
            AddressAttribute::Local(local) => ip = Some(local),
            AddressAttribute::Address(address) => ip = ip.or(Some(address)),
            AddressAttribute::Flags(all) => flags = all,
            AddressAttribute::Protocol(number) => protocol = Some(u8::from(number)),
            AddressAttribute::CacheInfo(cache) => expired = cache.ifa_valid <= EXPIRED_LEFT,
            _ => {}
        }
    }
    Some(KernelAddress {
        ifindex: message.header.index,
        ip: ip?,
        prefix_len: message.header.prefix_len,
        scope: message.header.scope.into(),
        flags,
        protocol,
        expired,
    })
}

fn new_address(ifindex: u32, address: &VirtualAddress, options: InstallOptions, tagged: bool) -> AddressMessage {
    let mut message = named(ifindex, address);
    let mut flags = AddressFlags::empty();
    match address.ip {
        IpAddr::V4(_) => {
            message.attributes.extend(address.label.clone().map(|label| AddressAttribute::Label(label.into())))
        }
        // It would keep the address unusable for a second or more, and its answer would come from the host we take over from.
        IpAddr::V6(_) => flags |= AddressFlags::Nodad,
    }
    let link_local = matches!(address.ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if !options.prefix_route && !link_local {
        flags |= AddressFlags::Noprefixroute;
    }
    if !flags.is_empty() {
        message.header.flags = AddressHeaderFlags::from_bits_truncate(flags.bits().to_le_bytes()[0]);
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    if tagged {
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(OWN_PROTOCOL)));
    }
    if let Some(lifetime) = options.valid_lifetime {
        let seconds = u32::try_from(lifetime.as_secs().clamp(1, LIFETIME_MAX)).unwrap_or(u32::MAX - 1);
        let mut cache = CacheInfo::default();
        cache.ifa_valid = seconds;
        cache.ifa_preferred = seconds;
        message.attributes.push(AddressAttribute::CacheInfo(cache));
    }
    message
}

fn delete_request(ifindex: u32, address: &VirtualAddress) -> Request {
    Request { message: RouteNetlinkMessage::DelAddress(named(ifindex, address)), flags: 0 }
}

fn named(ifindex: u32, address: &VirtualAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match address.ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = address.prefix_len;
    message.header.index = ifindex;
    message.attributes = vec![AddressAttribute::Local(address.ip), AddressAttribute::Address(address.ip)];
    message
}

fn verdict(
    action: &'static str,
    ifindex: u32,
    addresses: &[VirtualAddress],
    answers: Vec<Result<(), Refusal>>,
    tolerated: &[i32],
) -> Result<(), AddressError> {
    let mut refusals = addresses.iter().zip(answers).filter_map(|(address, answer)| {
        let refusal = answer.err().filter(|refusal| !tolerated.contains(&refusal.errno))?;
        Some((address, refusal))
    });
    match refusals.next() {
        None => Ok(()),
        Some((address, refusal)) => {
            let address = address.to_string();
            Err(AddressError::Refused { action, address, ifindex, others: refusals.count(), refusal })
        }
    }
}

/// How many more, where there are any.
struct Others(usize);

impl std::fmt::Display for Others {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " and {count} more addresses"),
        }
    }
}
