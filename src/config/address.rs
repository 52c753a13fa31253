//! The addresses of a vip: which are legal, and in which order adverts list them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use toml::de::DeValue;

use super::problem::{Findings, Kind};
use super::read::{Value, printable};
use crate::types::{Family, Version, VirtualAddress, Vrid};

/// The longest label, in bytes (`IFNAMSIZ` less its end).
const MAX_LABEL: usize = 15;
/// The address count of an advert is one byte (RFC 9568 §5.2.5).
const LISTED_V4: usize = 255;
/// What fits into 1,500 bytes beside an IPv6 header of 40 and 8 bytes of VRRP, 16 bytes each.
const LISTED_V6: usize = 90;
/// The prefix of a link-local address (RFC 4291 §2.5.6).
const LINK_LOCAL_PREFIX: u8 = 64;

/// The legal addresses of one vip.
pub(super) struct Addresses {
    /// With the place of each; `None` for one that was derived.
    listed: Vec<(VirtualAddress, Option<Range<usize>>)>,
}

/// Reads `addresses`. The wrong ones are reported and left out.
pub(super) fn list(value: Value<'_>, vrid: Option<Vrid>, version: Version, findings: &mut Findings) -> Addresses {
    let mut listed: Vec<(VirtualAddress, Option<Range<usize>>)> = Vec::new();
    let elements = value.array("[\"10.20.0.100/24\"]", findings);
    if elements.as_ref().is_some_and(Vec::is_empty) {
        let remedy = "list at least one, as in [\"10.20.0.100/24\"]";
        value.refuse(Kind::OutOfRange, "`addresses` is empty", "", remedy, findings);
    }
    for element in elements.into_iter().flatten() {
        let Some(address) = address(element, findings) else { continue };
        if version == Version::V2 && address.family() == Family::V6 {
            let remedy = "use `version = 3`, or make the IPv6 addresses a vip of their own";
            element.refuse(Kind::Conflict, "version 2 knows IPv4 only", "IPv6", remedy, findings);
            continue;
        }
        listed.push((address, Some(element.span())));
    }
    let mut addresses = Addresses { listed };
    addresses.note_unlisted(value.span(), findings);
    addresses.put_link_local_first(vrid);
    addresses
}

/// Why an address cannot be that of a host; `None`: it can.
pub(super) fn not_unicast(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("the unspecified address"),
        _ if ip.is_loopback() => Some("a loopback address"),
        _ if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("the broadcast address"),
        IpAddr::V4(ip) if ip.octets()[0] == 0 => Some("of 0.0.0.0/8, which no host can have"),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// The own address of another node, which the host's routes lead to. The remedies are for what is no such address, and for one of a
/// link only.
pub(super) fn of_node(
    value: Value<'_>,
    example: &str,
    [remedy, of_link]: [&str; 2],
    findings: &mut Findings,
) -> Option<IpAddr> {
    let text = value.text(example, findings)?;
    let Ok(ip) = text.parse::<IpAddr>() else {
        value.refuse(Kind::Invalid, format!("`{}` is no IP address", printable(text)), "", remedy, findings);
        return None;
    };
    if is_link_local(ip) {
        value.refuse(Kind::Invalid, format!("{ip} means something on its link only"), "", of_link, findings);
        return None;
    }
    if let Some(class) = not_unicast(ip) {
        value.refuse(Kind::Invalid, format!("{ip} is {class}"), "", remedy, findings);
        return None;
    }
    Some(ip)
}

impl Addresses {
    /// IPv4 first.
    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(|family| self.listed.iter().any(|(address, _)| address.family() == *family))
    }

    /// Whether an address is among them.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.listed.iter().any(|(address, _)| address.ip == ip)
    }

    /// Those that stand in the file, and where.
    pub(super) fn places(&self) -> Vec<(IpAddr, Range<usize>)> {
        self.listed.iter().filter_map(|(address, at)| Some((address.ip, at.clone()?))).collect()
    }

    /// IPv4 as listed, then IPv6 with a link-local address first.
    pub(super) fn ordered(self) -> Vec<VirtualAddress> {
        let mut ordered = Vec::with_capacity(self.listed.len());
        let (v4, v6): (Vec<_>, Vec<_>) =
            self.listed.into_iter().map(|(address, _)| address).partition(|address| address.family() == Family::V4);
        ordered.extend(v4);
        ordered.extend(v6);
        ordered
    }

    /// RFC 9568 §5.2.9: the first address of an IPv6 advert is link-local. Where none is listed, all nodes derive the same.
    fn put_link_local_first(&mut self, vrid: Option<Vrid>) {
        if !self.listed.iter().any(|(address, _)| address.family() == Family::V6) {
            return;
        }
        let link_local = self.listed.iter().position(|(address, _)| is_link_local(address.ip));
        let first = match (link_local, vrid) {
            (Some(place), _) => self.listed.remove(place),
            (None, Some(vrid)) => {
                let ip = IpAddr::V6(vrid.derived_link_local());
                (VirtualAddress { ip, prefix_len: LINK_LOCAL_PREFIX, label: None }, None)
            }
            // There is no VRID to derive from, which was reported.
            (None, None) => return,
        };
        self.listed.insert(0, first);
    }

    fn note_unlisted(&self, at: Range<usize>, findings: &mut Findings) {
        for (family, limit) in [(Family::V4, LISTED_V4), (Family::V6, LISTED_V6)] {
            let count = self.listed.iter().filter(|(address, _)| address.family() == family).count();
            if count > limit {
                findings.note(
                    at.clone(),
                    format!(
                        "an advert lists {limit} {family} addresses at most; the vip has {count}, and all move together"
                    ),
                    "nothing needs to be done; peers compare the listed ones only",
                );
            }
        }
    }
}

/// One element: a text, or a table with a label.
fn address(value: Value<'_>, findings: &mut Findings) -> Option<VirtualAddress> {
    const EXAMPLE: &str = "\"10.20.0.100/24\" or { address = \"10.20.0.100/24\", label = \"eno1:db\" }";
    match value.raw() {
        DeValue::String(_) => ip_and_prefix(value, findings),
        DeValue::Table(_) => {
            let mut table = value.table("an address", EXAMPLE, findings)?;
            let address = table.required("address", "\"10.20.0.100/24\"");
            let address = address.and_then(|value| ip_and_prefix(value, findings));
            let label = table.value("label").and_then(|value| label(value, address.as_ref(), findings));
            table.finish(findings);
            address.map(|address| VirtualAddress { label, ..address })
        }
        _ => value.wrong_type("an address or a table", EXAMPLE, findings),
    }
}

fn ip_and_prefix(value: Value<'_>, findings: &mut Findings) -> Option<VirtualAddress> {
    let text = value.text("\"10.20.0.100/24\"", findings)?;
    let (ip, prefix) = match text.split_once('/') {
        Some((ip, prefix)) => (ip, Some(prefix)),
        None => (text, None),
    };
    let Ok(ip) = ip.parse::<IpAddr>() else {
        let message = format!("`{}` is no IP address with prefix", printable(text));
        value.refuse(Kind::Invalid, message, "", "write it as in \"10.20.0.100/24\" or \"2001:db8::100/64\"", findings);
        return None;
    };
    let bits = Family::of(ip).bits();
    let Some(prefix) = prefix else {
        let usual = if ip.is_ipv4() { 24 } else { 64 };
        let remedy = format!("add that of its network, as in \"{ip}/{usual}\", or /{bits} for the address alone");
        value.refuse(Kind::Invalid, format!("`{ip}` has no prefix length"), "", remedy, findings);
        return None;
    };
    let digits = prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix_len = prefix.parse::<u8>().ok().filter(|len| digits && (1..=bits).contains(len));
    let Some(prefix_len) = prefix_len else {
        let message = format!("`{}` is no prefix length for {}", printable(prefix), Family::of(ip));
        value.refuse(Kind::OutOfRange, message, "", format!("write a number from 1 to {bits}"), findings);
        return None;
    };
    if let Some(class) = not_unicast(ip).or_else(|| not_a_host(ip, prefix_len)) {
        let remedy = "write an address that one host of the network can have";
        value.refuse(Kind::Invalid, format!("{ip}/{prefix_len} is {class}"), "", remedy, findings);
        return None;
    }
    Some(VirtualAddress { ip, prefix_len, label: None })
}

/// What an address is within its network, if not a host's.
fn not_a_host(ip: IpAddr, prefix_len: u8) -> Option<&'static str> {
    let host_bits = u32::from(Family::of(ip).bits() - prefix_len);
    // RFC 3021 and RFC 6164: point-to-point networks of two addresses have no others.
    if host_bits < 2 {
        return None;
    }
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX >> (32 - host_bits);
            match ip.to_bits() & mask {
                0 => Some("the address of the network itself"),
                host if host == mask => Some("the broadcast address of its network"),
                _ => None,
            }
        }
        IpAddr::V6(ip) => {
            // The anycast address of all routers of the network (RFC 4291 §2.6.1).
            let mask = u128::MAX >> (128 - host_bits);
            (ip.to_bits() & mask == 0).then_some("the address of the network itself")
        }
    }
}

fn label(value: Value<'_>, address: Option<&VirtualAddress>, findings: &mut Findings) -> Option<Box<str>> {
    let label = value.text("\"eno1:db\"", findings)?;
    if address.is_some_and(|address| address.family() == Family::V6) {
        let remedy = "remove it: only IPv4 addresses have labels";
        value.refuse(Kind::Conflict, "an IPv6 address has no `label`", "", remedy, findings);
        return None;
    }
    if label.is_empty() || label.len() > MAX_LABEL || !label.chars().all(|c| c.is_ascii_graphic()) {
        let remedy = format!("use 1 to {MAX_LABEL} bytes without spaces, by custom the interface, a colon and a word");
        value.refuse(Kind::Invalid, "`label` is no address label", format!("{} bytes", label.len()), remedy, findings);
        return None;
    }
    Some(label.into())
}

/// fe80::/10 (RFC 4291 §2.4).
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if Ipv6Addr::is_unicast_link_local(&ip))
}
