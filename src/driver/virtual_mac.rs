//! The virtual router MAC address (RFC 9568 §7.3): a macvlan over the interface, which then carries the virtual addresses.
//!
//! It exists on the owner only: an interface that is up, even without an address, can send with its MAC, and a switch
//! would learn the wrong port. Mode `vepa`: what one virtual router broadcasts is no business of another on the same
//! host, as in mode `private`; but a private macvlan also takes for itself, away from the interface below, each
//! multicast frame that comes in with its own MAC address, and those are the adverts of a second owner.
//!
//! With two interfaces on one link, either would answer ARP for the other's addresses, with its own MAC. So the
//! parent's `arp_ignore` and `arp_announce` are raised while it carries such a macvlan. What they were is kept by the
//! kernel, in the macvlan's alias: it outlives an agent that crashes, and the last macvlan's removal restores it.
//! Settings under `all` are never touched; an `arp_ignore` of 3 or more, or an `arp_filter`, there would defeat this.

use std::fs;
use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, MacVlanMode,
};

use super::error::{context, errno};
use super::ipv4_conf::{self, Setting};
use super::link_message::LinkFacts;
use super::netlink::Netlink;
use crate::types::{Family, MacAddr, Vrid};

/// The longest interface name, in bytes.
const NAME_LEN: usize = 15;

/// Requests are answered only where the interface itself has the address asked for. 2 is stricter, and left alone.
const ARP_IGNORE: u32 = 1;
/// Requests never name a virtual address as their sender from an interface that does not carry it.
const ARP_ANNOUNCE: u32 = 2;
/// What arrives by the macvlan is answered through its parent, which only the loose check allows.
const REVERSE_PATH_LOOSE: u32 = 2;

const ALIAS: &str = "vipd:";

/// A macvlan that an agent has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualMac {
    /// The macvlan.
    pub ifindex: u32,
    /// Its name, `vip{parent}.{vrid}.{4|6}`.
    pub name: String,
    /// The interface that it stands on.
    pub parent: u32,
    /// The virtual router.
    pub vrid: Vrid,
    /// The family of its addresses.
    pub family: Family,
}

/// A conversation with the kernel about virtual MAC addresses. Blocks, up to about 20 ms a removal: not for the loop.
#[derive(Debug)]
pub struct VirtualMacs {
    netlink: Netlink,
}

impl VirtualMacs {
    /// Opens the conversation, in the network namespace of the calling thread; use it there.
    ///
    /// # Errors
    ///
    /// Where the kernel gives no socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()? })
    }

    /// Makes the macvlan of a virtual router over an interface, or takes over the one that is there. Its addresses
    /// are best installed without their prefix routes, so that the parent's stay the ones in use.
    ///
    /// # Errors
    ///
    /// What was tried in vain; then nothing is left of it.
    pub fn create(&mut self, parent: u32, vrid: Vrid, family: Family) -> io::Result<VirtualMac> {
        let name = name(parent, vrid, family)?;
        let mac = vrid.virtual_mac(family);
        let links = self.links()?;
        if !links.iter().any(|link| is_virtual_mac(link, parent, vrid, family)) {
            self.netlink
                .change(RouteNetlinkMessage::NewLink(macvlan(&name, parent, mac)), NLM_F_CREATE | NLM_F_EXCL)
                .map_err(context(&format!("create the macvlan {name} with MAC address {mac}")))?;
        }
        self.configure(parent, &name, vrid, family).map_err(|error| match self.remove(parent, vrid, family) {
            Ok(()) => error,
            Err(left) => io::Error::new(error.kind(), format!("{error}; and it is still there: {left}")),
        })
    }

    /// Removes the macvlan of a virtual router with all its addresses, and restores the interface's settings if it was the
    /// last there. One that is not there is no error.
    ///
    /// # Errors
    ///
    /// What was tried in vain.
    pub fn remove(&mut self, parent: u32, vrid: Vrid, family: Family) -> io::Result<()> {
        let links = self.links()?;
        let Some(link) = links.iter().find(|link| is_virtual_mac(link, parent, vrid, family)) else {
            return Ok(());
        };
        let mut message = LinkMessage::default();
        message.header.index = link.ifindex;
        absent_is_fine(self.netlink.change(RouteNetlinkMessage::DelLink(message), 0))
            .map_err(context(&format!("remove the macvlan {}", link.name)))?;
        let is_other = |other: &&LinkFacts| other.ifindex != link.ifindex && other.parent == Some(parent);
        match Former::parse(&link.alias) {
            Some(former) if !links.iter().filter(is_other).any(|other| Former::parse(&other.alias).is_some()) => {
                absent_is_fine(self.restore(parent, former))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The macvlans of virtual routers that are there, by this or an earlier agent.
    ///
    /// # Errors
    ///
    /// Where the kernel does not answer.
    pub fn leftovers(&mut self) -> io::Result<Vec<VirtualMac>> {
        Ok(self.links()?.into_iter().filter_map(recognise).collect())
    }

    fn configure(&mut self, parent: u32, name: &str, vrid: Vrid, family: Family) -> io::Result<VirtualMac> {
        let links = self.links()?;
        let link = links.iter().find(|link| is_virtual_mac(link, parent, vrid, family));
        let ifindex = link.map(|link| link.ifindex).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("the macvlan {name} vanished while it was set up"))
        })?;
        self.silence_ipv6(ifindex, name, family)?;
        match family {
            Family::V4 => {
                let known =
                    links.iter().filter(|link| link.parent == Some(parent)).find_map(|link| Former::parse(&link.alias));
                let former = match known {
                    Some(former) => former,
                    None => Former::read(&mut self.netlink, parent)?,
                };
                // First the record, then what it is a record of.
                self.set_alias(ifindex, &former.to_string())?;
                for interface in [parent, ifindex] {
                    self.separate(interface)?;
                }
                ipv4_conf::write(&mut self.netlink, ifindex, Setting::ReversePathFilter, REVERSE_PATH_LOOSE)?;
            }
            Family::V6 => {
                self.set_alias(ifindex, ALIAS)?;
                // It has no IPv4 address, but hears each ARP request, and would answer for all those of the host.
                self.separate(ifindex)?;
            }
        }
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.netlink
            .change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(context(&format!("set the macvlan {name} up")))?;
        Ok(VirtualMac { ifindex, name: name.to_owned(), parent, vrid, family })
    }

    /// Keeps the macvlan from giving itself addresses and routes: it has what it was given, and no more.
    fn silence_ipv6(&mut self, ifindex: u32, name: &str, family: Family) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
        match self.netlink.change(RouteNetlinkMessage::SetLink(message), 0) {
            // A host without IPv6 needs none of this.
            Err(error) if family == Family::V4 && errno(&error) == Some(libc::EAFNOSUPPORT) => return Ok(()),
            result => result.map_err(context(&format!("switch address generation off on {name}")))?,
        }
        let (setting, value) = match family {
            Family::V4 => ("disable_ipv6", "1"),
            Family::V6 => ("accept_ra", "0"),
        };
        let path = format!("/proc/sys/net/ipv6/conf/{name}/{setting}");
        match fs::write(&path, value) {
            Err(error) if family == Family::V4 && error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(context(&format!("write {value} to {path} (needs /proc/sys/net to be writable)"))),
        }
    }

    fn separate(&mut self, ifindex: u32) -> io::Result<()> {
        if !matches!(ipv4_conf::read(&mut self.netlink, ifindex, Setting::ArpIgnore)?, 1 | 2) {
            ipv4_conf::write(&mut self.netlink, ifindex, Setting::ArpIgnore, ARP_IGNORE)?;
        }
        ipv4_conf::write(&mut self.netlink, ifindex, Setting::ArpAnnounce, ARP_ANNOUNCE)
    }

    /// Puts back what is still as [`Self::separate`] left it; what somebody changed since is theirs.
    fn restore(&mut self, parent: u32, former: Former) -> io::Result<()> {
        let settings = [
            (Setting::ArpIgnore, ARP_IGNORE, former.arp_ignore),
            (Setting::ArpAnnounce, ARP_ANNOUNCE, former.arp_announce),
        ];
        for (setting, set, former) in settings {
            if ipv4_conf::read(&mut self.netlink, parent, setting)? == set {
                ipv4_conf::write(&mut self.netlink, parent, setting, former)?;
            }
        }
        Ok(())
    }

    fn set_alias(&mut self, ifindex: u32, alias: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
        self.netlink
            .change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(context(&format!("set the alias of interface index {ifindex}")))
    }

    fn links(&mut self) -> io::Result<Vec<LinkFacts>> {
        let mut links = Vec::new();
        self.netlink.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()), |_, body| {
            links.extend(LinkFacts::read(body));
            Ok(())
        })?;
        Ok(links)
    }
}

/// What the parent's settings were before the first macvlan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Former {
    arp_ignore: u32,
    arp_announce: u32,
}

impl Former {
    fn read(netlink: &mut Netlink, parent: u32) -> io::Result<Self> {
        Ok(Self {
            arp_ignore: ipv4_conf::read(netlink, parent, Setting::ArpIgnore)?,
            arp_announce: ipv4_conf::read(netlink, parent, Setting::ArpAnnounce)?,
        })
    }

    fn parse(alias: &str) -> Option<Self> {
        let (ignore, announce) = alias.strip_prefix(ALIAS)?.trim().split_once(' ')?;
        Some(Self {
            arp_ignore: ignore.strip_prefix("arp_ignore=")?.parse().ok()?,
            arp_announce: announce.strip_prefix("arp_announce=")?.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Former {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{ALIAS} arp_ignore={} arp_announce={}", self.arp_ignore, self.arp_announce)
    }
}

fn name(parent: u32, vrid: Vrid, family: Family) -> io::Result<String> {
    let digit = match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    let name = format!("vip{parent}.{vrid}.{digit}");
    if name.len() > NAME_LEN {
        let text = format!("{name} is no interface name: longer than {NAME_LEN} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(name)
}

fn macvlan(name: &str, parent: u32, mac: MacAddr) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Link(parent),
        LinkAttribute::Address(<[u8; 6]>::from(mac).to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Vepa)])),
        ]),
    ];
    message
}

fn is_virtual_mac(link: &LinkFacts, parent: u32, vrid: Vrid, family: Family) -> bool {
    recognise(link.clone()).is_some_and(|found| (found.parent, found.vrid, found.family) == (parent, vrid, family))
}

/// Ours by all that it shows: kind, MAC address, and a name that says the same.
fn recognise(link: LinkFacts) -> Option<VirtualMac> {
    let mac = link.mac.filter(|_| link.kind == "macvlan")?;
    let parent = link.parent?;
    let vrid = Vrid::new(mac.5)?;
    let family = Family::ALL.into_iter().find(|family| vrid.virtual_mac(*family) == mac)?;
    let expected = name(parent, vrid, family).ok()?;
    (link.name == expected).then_some(VirtualMac { ifindex: link.ifindex, name: link.name, parent, vrid, family })
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}
