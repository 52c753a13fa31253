//! What a host's kernel says of itself, asked anew each time.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use netlink_packet_core::Parseable as _;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use vipd::driver::addresses::OWN_PROTOCOL;
use vipd::driver::netlink::Netlink;
use vipd::lab::Host;

use super::{LINK_LOCAL, V4, V6, eventually, ip};

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub ifindex: u32,
    pub ip: IpAddr,
    pub prefix_len: u8,
    /// `IFA_PROTO`.
    pub protocol: Option<u8>,
    pub label: Option<String>,
    /// Without duplicate detection, and usable.
    pub nodad: bool,
}

/// All addresses of a host.
pub fn addresses(host: &Host) -> Result<Vec<Address>> {
    let listed = host.run_in(|| {
        let mut listed = Vec::new();
        Netlink::open()?.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()), |_, body| {
            listed.extend(AddressMessage::parse(body).ok().as_ref().and_then(read));
            Ok(())
        })?;
        std::io::Result::Ok(listed)
    })?;
    listed.with_context(|| format!("addresses of {}", host.name()))
}

/// Whole seconds for which the addresses that an agent has installed on a host live yet.
pub fn lifetimes_left(host: &Host) -> Result<Vec<u32>> {
    let listed = host.run_in(|| {
        let mut listed = Vec::new();
        Netlink::open()?.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()), |_, body| {
            let message = AddressMessage::parse(body).map_err(std::io::Error::other)?;
            let ours = message
                .attributes
                .iter()
                .any(|it| matches!(it, AddressAttribute::Protocol(number) if u8::from(*number) == OWN_PROTOCOL));
            listed.extend(message.attributes.iter().filter(|_| ours).find_map(|attribute| match attribute {
                AddressAttribute::CacheInfo(cache) => Some(cache.ifa_valid),
                _ => None,
            }));
            Ok(())
        })?;
        std::io::Result::Ok(listed)
    })?;
    listed.with_context(|| format!("addresses of {}", host.name()))
}

/// The addresses of a host that an agent has installed, known by their protocol number.
pub fn own_addresses(host: &Host) -> Result<Vec<Address>> {
    Ok(addresses(host)?.into_iter().filter(|address| address.protocol == Some(OWN_PROTOCOL)).collect())
}

/// Waits until the addresses of [`Vip::new`](super::Vip::new) are on a host.
pub fn await_all(host: &Host) -> Result<()> {
    let wanted = [V4, V6, LINK_LOCAL].map(ip);
    eventually(&format!("{} has all addresses", host.name()), || {
        let own = own_addresses(host)?;
        Ok((own.len() == wanted.len() && own.iter().all(|address| wanted.contains(&address.ip))).then_some(()))
    })
}

/// Waits until no address of an agent is on a host.
pub fn await_none(host: &Host) -> Result<()> {
    eventually(&format!("{} has no address left", host.name()), || Ok(own_addresses(host)?.is_empty().then_some(())))
}

fn read(message: &AddressMessage) -> Option<Address> {
    let (mut ip, mut local, mut protocol, mut label, mut flags) = (None, None, None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(address) => ip = Some(*address),
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Protocol(number) => protocol = Some(u8::from(*number)),
            AddressAttribute::Label(text) => label = Some(text.clone()),
            AddressAttribute::Flags(bits) => flags = *bits,
            _ => {}
        }
    }
    Some(Address {
        ifindex: message.header.index,
        ip: local.or(ip)?,
        prefix_len: message.header.prefix_len,
        protocol,
        label,
        nodad: flags.contains(AddressFlags::Nodad) && !flags.contains(AddressFlags::Tentative),
    })
}

/// The MAC address that a host knows for a neighbour.
pub fn neighbour(host: &Host, ip: IpAddr) -> Result<Option<[u8; 6]>> {
    let wanted = NeighbourAttribute::Destination(match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    });
    let mut found = None;
    host.run_in(|| {
        Netlink::open()?.dump(&RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), |_, body| {
            let message = NeighbourMessage::parse(body).map_err(std::io::Error::other)?;
            if message.attributes.contains(&wanted) {
                found = message.attributes.iter().find_map(|attribute| match attribute {
                    NeighbourAttribute::LinkLayerAddress(mac) => <[u8; 6]>::try_from(mac.as_slice()).ok(),
                    _ => None,
                });
            }
            Ok(())
        })
    })?
    .with_context(|| format!("neighbours of {}", host.name()))?;
    Ok(found)
}

/// The names of a host's interfaces.
pub fn interfaces(host: &Host) -> Result<Vec<String>> {
    let names = host.run_in(|| {
        let interfaces = nix::net::if_::if_nameindex()?;
        let mut names: Vec<_> = interfaces.iter().map(|found| found.name().to_string_lossy().into_owned()).collect();
        names.sort();
        nix::Result::Ok(names)
    })?;
    names.with_context(|| format!("interfaces of {}", host.name()))
}

/// All settings of a host's interfaces, IPv4 and IPv6, by path.
pub fn sysctls(host: &Host) -> Result<BTreeMap<String, String>> {
    fn walk(folder: &Path, found: &mut BTreeMap<String, String>) -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(&path, found)?;
            } else if let Ok(value) = fs::read_to_string(&path) {
                // One cannot be read until it was written (stable_secret).
                found.insert(path.display().to_string(), value);
            }
        }
        Ok(())
    }
    let found = host.run_in(|| {
        let mut found = BTreeMap::new();
        for family in ["ipv4", "ipv6"] {
            walk(&Path::new("/proc/sys/net").join(family).join("conf"), &mut found)?;
        }
        std::io::Result::Ok(found)
    })?;
    found.with_context(|| format!("settings of {}", host.name()))
}

/// The memory of a process that is in RAM, KiB.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS")
}
