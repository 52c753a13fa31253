//! An interface's IPv4 settings (`net.ipv4.conf.INTERFACE.*`), read and written through netlink.
//!
//! So they can be set by index, whatever the interface is called at that moment, and where `/proc/sys` is read-only.
//! The settings under `all` are out of reach here; most settings take the larger of the two.

use std::io;

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NlaBuffer};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::error::context;
use super::netlink::Netlink;

const IFLA_AF_SPEC: u16 = 26;
const AF_INET: u16 = 2;
const IFLA_INET_CONF: u16 = 1;
const LINK_HEADER_LEN: usize = 16;

/// A setting; the number is the kernel's `IPV4_DEVCONF_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Setting {
    /// `forwarding`: whether what came in for others is passed on. Tests make routers by it.
    Forwarding = 1,
    /// `rp_filter`: whether the way back to a sender must lead through the interface it came by (1), or any (2).
    ReversePathFilter = 8,
    /// `arp_announce`: which address an ARP request names as its sender.
    ArpAnnounce = 18,
    /// `arp_ignore`: for which addresses ARP requests are answered.
    ArpIgnore = 19,
    /// `promote_secondaries`: whether the other addresses of a subnet outlive its first.
    PromoteSecondaries = 20,
}

impl Setting {
    /// The name under `net.ipv4.conf`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarding => "forwarding",
            Self::ReversePathFilter => "rp_filter",
            Self::ArpAnnounce => "arp_announce",
            Self::ArpIgnore => "arp_ignore",
            Self::PromoteSecondaries => "promote_secondaries",
        }
    }
}

/// What a setting is on an interface.
///
/// # Errors
///
/// `ENODEV` where there is no such interface; `Unsupported` where it has no IPv4.
pub fn read(netlink: &mut Netlink, ifindex: u32, setting: Setting) -> io::Result<u32> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    let body = netlink
        .ask(&RouteNetlinkMessage::GetLink(message))
        .map_err(context(&format!("read {} of interface index {ifindex}", setting.name())))?;
    let values = body
        .get(LINK_HEADER_LEN..)
        .and_then(|attributes| find(attributes, IFLA_AF_SPEC))
        .and_then(|families| find(families, AF_INET))
        .and_then(|inet| find(inet, IFLA_INET_CONF))
        .unwrap_or_default();
    // Numbers begin at 1.
    values.as_chunks::<4>().0.get(usize::from(setting as u16) - 1).map(|value| u32::from_ne_bytes(*value)).ok_or_else(
        || {
            let text = format!("interface index {ifindex} has no IPv4 setting {}", setting.name());
            io::Error::new(io::ErrorKind::Unsupported, text)
        },
    )
}

/// Changes a setting on an interface.
///
/// # Errors
///
/// The kernel's refusal; `PermissionDenied` without `CAP_NET_ADMIN`.
pub fn write(netlink: &mut Netlink, ifindex: u32, setting: Setting, value: u32) -> io::Result<()> {
    let conf = attribute(setting as u16, &value.to_ne_bytes());
    let inet = attribute(IFLA_INET_CONF | NLA_F_NESTED, &conf);
    let families = attribute(AF_INET | NLA_F_NESTED, &inet);
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.attributes.push(LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC | NLA_F_NESTED, families)));
    netlink
        .change(RouteNetlinkMessage::SetLink(message), 0)
        .map_err(context(&format!("set {} of interface index {ifindex} to {value}", setting.name())))
}

/// An attribute whose value needs no padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len() + 4).expect("a few nested numbers are short");
    [&len.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
}

fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let attribute = NlaBuffer::new_checked(rest).ok()?;
        let len = usize::from(attribute.length());
        if attribute.kind() == kind {
            return rest.get(4..len);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}
