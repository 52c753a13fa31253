//! The vocabulary of every layer: small values that cannot hold what the standard forbids.
//!
//! Nothing here decides. A value that was built is legal; what was refused says why.

// The pure layers keep to arithmetic that cannot surprise: a lint that fires here is a bug to fix, not to allow.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::float_arithmetic,
        clippy::as_conversions,
        clippy::wildcard_enum_match_arm
    )
)]

use alloc::boxed::Box;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::{NonZeroU8, NonZeroU16};
use core::time::Duration;

pub use pnet_base::MacAddr;

/// The identifier of a virtual router on a link, 1..=255 (RFC 9568 §5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// `None` for 0, which the standard leaves out.
    pub const fn new(vrid: u8) -> Option<Self> {
        match NonZeroU8::new(vrid) {
            Some(vrid) => Some(Self(vrid)),
            None => None,
        }
    }

    /// The number, 1..=255.
    pub const fn number(self) -> u8 {
        self.0.get()
    }

    /// The virtual router MAC address: 00-00-5E-00-01-{VRID} for IPv4, 00-00-5E-00-02-{VRID} for IPv6 (RFC 9568 §7.3).
    pub const fn virtual_mac(self, family: Family) -> MacAddr {
        let fifth = match family {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        MacAddr(0x00, 0x00, 0x5e, 0x00, fifth, self.number())
    }

    /// The link-local address that all nodes derive from the virtual MAC where the user lists none
    /// (modified EUI-64, RFC 4291 appendix A): `fe80::200:5eff:fe00:2{VRID}`.
    pub fn derived_link_local(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0200, 0x5eff, 0xfe00, 0x0200 | u16::from(self.number()))
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// A VRRP priority, 0..=255, as it stands in an advert (RFC 9568 §5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

impl Priority {
    /// Sent by an Active Router that gives up.
    pub const RESIGN: Self = Self(0);
    /// Of a Backup Router that was not configured otherwise.
    pub const DEFAULT: Self = Self(100);
    /// Of the router that owns the addresses.
    pub const OWNER: Self = Self(255);
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version of the protocol that a virtual router speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 3768: IPv4 only, whole seconds. For interoperation with what is installed already.
    V2,
    /// RFC 9568: IPv4 and IPv6, centiseconds.
    V3,
}

impl Version {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// The address family of a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, IPv4 first: the order in which a vip's virtual routers stand everywhere.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The longest prefix, in bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The interval that an Active Router promises, in the wire's centiseconds (RFC 9568 §5.2.7).
///
/// Range: 1..=4095 (10 ms to 40.95 s) in version 3; whole seconds, 100..=25500, in version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdvertInterval(NonZeroU16);

impl AdvertInterval {
    /// The longest that version 3 can say: 40.95 s.
    pub const MAX_V3: Self = match Self::from_centiseconds(4095) {
        Some(interval) => interval,
        None => unreachable!(),
    };

    /// `None` for 0 and for more than 255 s.
    pub const fn from_centiseconds(centiseconds: u16) -> Option<Self> {
        match NonZeroU16::new(centiseconds) {
            Some(centiseconds) if centiseconds.get() <= 25_500 => Some(Self(centiseconds)),
            _ => None,
        }
    }

    /// Hundredths of a second.
    pub const fn centiseconds(self) -> u16 {
        self.0.get()
    }

    /// The seconds that version 2 can say, 1..=255; `None` where the interval is not whole seconds.
    pub fn whole_seconds(self) -> Option<u8> {
        match self.centiseconds() % 100 {
            0 => u8::try_from(self.centiseconds() / 100).ok(),
            _ => None,
        }
    }

    /// The same as a duration.
    pub fn duration(self) -> Duration {
        Duration::from_millis(u64::from(self.centiseconds()) * 10)
    }
}

/// An address that moves between nodes, with the prefix length it is installed with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualAddress {
    /// The address.
    pub ip: IpAddr,
    /// 0..=32 or 0..=128, as configured.
    pub prefix_len: u8,
    /// `ip address ... label`, IPv4 only, at most 15 bytes.
    pub label: Option<Box<str>>,
}

impl VirtualAddress {
    /// The family it belongs to.
    pub const fn family(&self) -> Family {
        Family::of(self.ip)
    }
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_len)
    }
}

/// A network: an address whose bits behind the length are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The network's own address.
    pub ip: IpAddr,
    /// 0..=32 or 0..=128.
    pub len: u8,
}

impl Prefix {
    /// All addresses of a family.
    pub const fn everything(family: Family) -> Self {
        let ip = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { ip, len: 0 }
    }

    /// The family it belongs to.
    pub const fn family(self) -> Family {
        Family::of(self.ip)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len {
            0 => f.write_str("default"),
            len => write!(f, "{}/{len}", self.ip),
        }
    }
}

/// What directs packets on a node that owns a vip, and moves with its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Routing {
    /// Where a network is.
    Route(VirtualRoute),
    /// Which table of routes is asked.
    Rule(VirtualRule),
}

/// A route through a vip's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualRoute {
    /// Where to.
    pub to: Prefix,
    /// The next hop; `None`: the network is on the link.
    pub via: Option<IpAddr>,
    /// The address from which this host speaks to it.
    pub source: Option<IpAddr>,
    /// Of which table; the main one is [`VirtualRoute::MAIN`].
    pub table: u32,
    /// The lowest of several routes to a network is used. IPv6 knows no 0.
    pub metric: u32,
}

impl VirtualRoute {
    /// The table that is asked where no rule says otherwise.
    pub const MAIN: u32 = 254;

    /// The metric that the kernel gives a route which names none.
    pub const fn default_metric(family: Family) -> u32 {
        match family {
            Family::V4 => 0,
            Family::V6 => 1024,
        }
    }
}

/// A rule of policy routing: whatever comes from, or goes to, a network is sent by a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualRule {
    /// Packets from there; everything: from anywhere.
    pub from: Prefix,
    /// Packets to there, of the same family; everything: to anywhere.
    pub to: Prefix,
    /// The table that is asked.
    pub table: u32,
    /// The lowest is asked first.
    pub order: u32,
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(route) => route.fmt(f),
            Self::Rule(rule) => rule.fmt(f),
        }
    }
}

/// As `ip route` writes it.
impl fmt::Display for VirtualRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, via, source, table, metric } = self;
        write!(f, "{to}")?;
        if let Some(via) = via {
            write!(f, " via {via}")?;
        }
        if let Some(source) = source {
            write!(f, " src {source}")?;
        }
        if *table != Self::MAIN {
            write!(f, " table {table}")?;
        }
        if *metric != Self::default_metric(to.family()) {
            write!(f, " metric {metric}")?;
        }
        Ok(())
    }
}

/// As `ip rule` writes it.
impl fmt::Display for VirtualRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, table, order } = self;
        match from.len {
            0 => f.write_str("from all")?,
            _ => write!(f, "from {from}")?,
        }
        if to.len != 0 {
            write!(f, " to {to}")?;
        }
        write!(f, " lookup {table} pref {order}")
    }
}

/// Which MAC address a virtual address answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacMode {
    /// The interface's own; a failover is made known by announcements.
    Interface,
    /// The virtual router MAC address of RFC 9568 §7.3, on a macvlan of its own.
    Virtual,
}

/// The password field of version 2, as it stands in clear text on the wire: padded with zeros (RFC 2338 §5.3.6).
///
/// Kept for interoperation with what is configured in the field. It is no security.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password(pub [u8; 8]);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}
