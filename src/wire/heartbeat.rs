//! Heartbeats: what a node says on a second path of itself and of each of its vips. They travel sealed ([`seal`](super::seal)).
//!
//! A vip has no number that all nodes know. It is found again by its VRID and an address in common, as an advert's is: names may
//! differ, and two interfaces may use one VRID. The lowest address of each family is told, no link-local one where there is another.
//!
//! ```text
//! version 1 | epoch 8 | sequence 8 | interval in ms 2 | echo: epoch 8, sequence 8 | reports to the end
//! report: vrid 1 | flags 1 | present 1 | priority 1 | advert interval in cs 2 | generation 8 | addresses that are present, 4 or 16 each
//! ```
//!
//! All numbers are big endian. Bits without a meaning must be 0: another meaning is another version.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use crate::types::{AdvertInterval, Family, Priority, Vrid};

/// The longest heartbeat, in bytes: it has room in a sealed datagram between nodes of the longest names. More reports are more
/// heartbeats.
pub const MAX_LEN: usize = 840;

const VERSION: u8 = 1;
const HEADER_LEN: usize = 35;
const FIXED_LEN: usize = 14;

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Tells one run of the sender's agent from the next.
    pub epoch: u64,
    /// Grows with each heartbeat of a run.
    pub sequence: u64,
    /// The sender speaks at least this often. Whole milliseconds, not 0, at most 65,535.
    pub interval: Duration,
    /// The latest heartbeat of the receiver that the sender has heard. So the receiver knows that this one is newer than that.
    pub echo: Option<Echo>,
    /// Of some of its vips, or all.
    pub reports: Vec<Report>,
}

/// A heartbeat, named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// See [`Heartbeat::epoch`].
    pub epoch: u64,
    /// See [`Heartbeat::sequence`].
    pub sequence: u64,
}

/// What a node says of one of its vips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// With [`Self::addresses`] it says which.
    pub vrid: Vrid,
    /// The lowest of each family.
    pub addresses: Addresses,
    /// What the node is to the vip.
    pub standing: Standing,
    /// Whether adverts could be sent on the vip's interface.
    pub link_up: bool,
    /// It was the owner, has no lease any more, has taken the addresses off, and knows of no successor.
    pub given_up: bool,
    /// Not 0.
    pub priority: Priority,
    /// As configured.
    pub interval: AdvertInterval,
    /// How often the vip has changed its state.
    pub generation: u64,
    /// The addresses that its adverts come from, or came from last.
    pub sources: Addresses,
    /// The owner that it hears on the vip's interface.
    pub hears: Option<IpAddr>,
}

/// What a node is to a vip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes no part.
    Out,
    /// It listens.
    Backup,
    /// It owns the addresses, or is about to.
    Owner,
}

/// At most one address a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Both, where there are two.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// That of a family.
    pub fn of(self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// Whether this is one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        self.of(Family::of(address)) == Some(address)
    }

    /// Has this one for its family.
    pub const fn set(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.v4 = Some(address),
            IpAddr::V6(address) => self.v6 = Some(address),
        }
    }

    const fn len(self) -> usize {
        (if self.v4.is_some() { 4 } else { 0 }) + (if self.v6.is_some() { 16 } else { 0 })
    }

    pub(super) fn emit(self, out: &mut Vec<u8>) {
        self.v4.iter().for_each(|address| out.extend(address.octets()));
        self.v6.iter().for_each(|address| out.extend(address.octets()));
    }

    /// Those of these families, with which bytes begin, and what follows; `None` where that is cut short.
    pub(super) fn split_from(bytes: &[u8], v4: bool, v6: bool) -> Option<(Self, &[u8])> {
        let (mut addresses, mut rest) = (Self::default(), bytes);
        if v4 {
            let (octets, after) = rest.split_first_chunk::<4>()?;
            (addresses.v4, rest) = (Some((*octets).into()), after);
        }
        if v6 {
            let (octets, after) = rest.split_first_chunk::<16>()?;
            (addresses.v6, rest) = (Some((*octets).into()), after);
        }
        Some((addresses, rest))
    }
}

/// Why bytes are no heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatError {
    /// It ends within a field. Bytes.
    Truncated {
        /// Bytes received.
        have: usize,
    },
    /// A newer agent's.
    UnknownVersion {
        /// The version field.
        version: u8,
    },
    /// A node that speaks at least every 0 ms.
    ZeroInterval,
    /// VRID 0 is not a virtual router.
    ZeroVrid,
    /// No node takes part with priority 0.
    ZeroPriority,
    /// No advert interval.
    BadAdvertInterval {
        /// The field.
        centiseconds: u16,
    },
    /// No such standing, or bits without a meaning.
    UnknownFlags {
        /// The first field of bits.
        flags: u8,
        /// The second.
        present: u8,
    },
}

impl fmt::Display for HeartbeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { have } => write!(f, "truncated: {have} bytes end within a field"),
            Self::UnknownVersion { version } => write!(f, "heartbeat of the unknown version {version}"),
            Self::ZeroInterval => f.write_str("heartbeat interval 0"),
            Self::ZeroVrid => f.write_str("VRID 0"),
            Self::ZeroPriority => f.write_str("priority 0"),
            Self::BadAdvertInterval { centiseconds } => write!(f, "advert interval of {centiseconds} cs"),
            Self::UnknownFlags { flags, present } => write!(f, "unknown flags {flags:#04x} {present:#04x}"),
        }
    }
}

/// Bits of the first field; its lowest two are the standing.
mod flag {
    pub(super) const STANDING: u8 = 0b11;
    pub(super) const LINK_UP: u8 = 1 << 2;
    pub(super) const GIVEN_UP: u8 = 1 << 3;
    pub(super) const ALL: u8 = STANDING | LINK_UP | GIVEN_UP;
}

/// Bits of the second field: which addresses follow, in this order.
mod present {
    pub(super) const ADDRESS_V4: u8 = 1;
    pub(super) const ADDRESS_V6: u8 = 1 << 1;
    pub(super) const SOURCE_V4: u8 = 1 << 2;
    pub(super) const SOURCE_V6: u8 = 1 << 3;
    pub(super) const HEARS_V4: u8 = 1 << 4;
    pub(super) const HEARS_V6: u8 = 1 << 5;
    pub(super) const ALL: u8 = (1 << 6) - 1;
}

impl Heartbeat {
    /// Appends its bytes: no more than [`MAX_LEN`] where its reports are one of [`parts`].
    pub fn emit(&self, out: &mut Vec<u8>) {
        let Echo { epoch, sequence } = self.echo.unwrap_or(Echo { epoch: 0, sequence: 0 });
        let interval_ms = u16::try_from(self.interval.as_millis()).unwrap_or(u16::MAX).max(1);
        out.push(VERSION);
        out.extend(self.epoch.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        out.extend(interval_ms.to_be_bytes());
        out.extend(epoch.to_be_bytes());
        out.extend(sequence.to_be_bytes());
        self.reports.iter().for_each(|report| report.emit(out));
    }

    /// Reads a whole payload.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong. Of a heartbeat with one bad report nothing is believed.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeartbeatError> {
        let mut rest = Rest { bytes, have: bytes.len() };
        let [version] = rest.take()?;
        if version != VERSION {
            return Err(HeartbeatError::UnknownVersion { version });
        }
        let [epoch, sequence] = [rest.number()?, rest.number()?];
        let interval_ms = u16::from_be_bytes(rest.take()?);
        if interval_ms == 0 {
            return Err(HeartbeatError::ZeroInterval);
        }
        let echo = Echo { epoch: rest.number()?, sequence: rest.number()? };
        let mut reports = Vec::new();
        while !rest.bytes.is_empty() {
            reports.push(Report::parse(&mut rest)?);
        }
        Ok(Self {
            epoch,
            sequence,
            interval: Duration::from_millis(interval_ms.into()),
            // Sequences begin at 1.
            echo: (echo.sequence != 0).then_some(echo),
            reports,
        })
    }
}

/// Reports in as many lists as heartbeats are needed for them; at least one, which may be empty.
pub fn parts(reports: impl IntoIterator<Item = Report>) -> Vec<Vec<Report>> {
    let (mut parts, mut part, mut len) = (Vec::new(), Vec::new(), HEADER_LEN);
    for report in reports {
        if len + report.len() > MAX_LEN {
            parts.push(core::mem::take(&mut part));
            len = HEADER_LEN;
        }
        len += report.len();
        part.push(report);
    }
    parts.push(part);
    parts
}

impl Report {
    fn hears_by_family(&self) -> Addresses {
        let mut hears = Addresses::default();
        self.hears.into_iter().for_each(|address| hears.set(address));
        hears
    }

    fn len(&self) -> usize {
        FIXED_LEN + self.addresses.len() + self.sources.len() + self.hears_by_family().len()
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        let hears = self.hears_by_family();
        let flags = self.standing.number() | bit(self.link_up, flag::LINK_UP) | bit(self.given_up, flag::GIVEN_UP);
        let present = bit(self.addresses.v4.is_some(), present::ADDRESS_V4)
            | bit(self.addresses.v6.is_some(), present::ADDRESS_V6)
            | bit(self.sources.v4.is_some(), present::SOURCE_V4)
            | bit(self.sources.v6.is_some(), present::SOURCE_V6)
            | bit(hears.v4.is_some(), present::HEARS_V4)
            | bit(hears.v6.is_some(), present::HEARS_V6);
        out.extend([self.vrid.number(), flags, present, self.priority.0]);
        out.extend(self.interval.centiseconds().to_be_bytes());
        out.extend(self.generation.to_be_bytes());
        [self.addresses, self.sources, hears].into_iter().for_each(|addresses| addresses.emit(out));
    }

    fn parse(rest: &mut Rest<'_>) -> Result<Self, HeartbeatError> {
        let [vrid, flags, present, priority] = rest.take()?;
        let vrid = Vrid::new(vrid).ok_or(HeartbeatError::ZeroVrid)?;
        let unknown = HeartbeatError::UnknownFlags { flags, present };
        if flags & !flag::ALL != 0 || present & !present::ALL != 0 {
            return Err(unknown);
        }
        let standing = Standing::from_number(flags & flag::STANDING).ok_or(unknown)?;
        if priority == 0 {
            return Err(HeartbeatError::ZeroPriority);
        }
        let centiseconds = u16::from_be_bytes(rest.take()?);
        let interval = AdvertInterval::from_centiseconds(centiseconds)
            .ok_or(HeartbeatError::BadAdvertInterval { centiseconds })?;
        let generation = rest.number()?;
        let has = |bit: u8| present & bit != 0;
        let addresses = rest.addresses(has(present::ADDRESS_V4), has(present::ADDRESS_V6))?;
        let sources = rest.addresses(has(present::SOURCE_V4), has(present::SOURCE_V6))?;
        let hears = rest.addresses(has(present::HEARS_V4), has(present::HEARS_V6))?;
        Ok(Self {
            vrid,
            addresses,
            standing,
            link_up: flags & flag::LINK_UP != 0,
            given_up: flags & flag::GIVEN_UP != 0,
            priority: Priority(priority),
            interval,
            generation,
            sources,
            hears: hears.iter().next(),
        })
    }
}

impl Standing {
    const fn number(self) -> u8 {
        match self {
            Self::Out => 0,
            Self::Backup => 1,
            Self::Owner => 2,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Out),
            1 => Some(Self::Backup),
            2 => Some(Self::Owner),
            _ => None,
        }
    }
}

/// What has not been read yet.
struct Rest<'b> {
    bytes: &'b [u8],
    have: usize,
}

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HeartbeatError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(HeartbeatError::Truncated { have: self.have })?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u64, HeartbeatError> {
        self.take().map(u64::from_be_bytes)
    }

    fn addresses(&mut self, v4: bool, v6: bool) -> Result<Addresses, HeartbeatError> {
        let cut_short = HeartbeatError::Truncated { have: self.have };
        let (addresses, rest) = Addresses::split_from(self.bytes, v4, v6).ok_or(cut_short)?;
        self.bytes = rest;
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(vrid: u8) -> Report {
        Report {
            vrid: Vrid::new(vrid).unwrap(),
            addresses: Addresses { v4: Some([10, 0, 0, 100].into()), v6: Some("2001:db8::100".parse().unwrap()) },
            standing: Standing::Owner,
            link_up: true,
            given_up: false,
            priority: Priority(150),
            interval: AdvertInterval::from_centiseconds(10).unwrap(),
            generation: 7,
            sources: Addresses { v4: Some([10, 0, 0, 1].into()), v6: Some("fe80::1".parse().unwrap()) },
            hears: Some([10, 0, 0, 2].into()),
        }
    }

    fn heartbeat(reports: Vec<Report>) -> Heartbeat {
        let echo = Some(Echo { epoch: 3, sequence: 4 });
        Heartbeat { epoch: 1, sequence: 2, interval: Duration::from_millis(50), echo, reports }
    }

    fn bytes(heartbeat: &Heartbeat) -> Vec<u8> {
        let mut bytes = Vec::new();
        heartbeat.emit(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_emitted_is_read_again() {
        let bare = Report { addresses: Addresses::default(), sources: Addresses::default(), hears: None, ..report(1) };
        let gone = Report { standing: Standing::Out, given_up: true, link_up: false, ..report(255) };
        let backup = Report { standing: Standing::Backup, hears: Some("fe80::9".parse().unwrap()), ..report(9) };
        for all in [heartbeat(vec![]), heartbeat(vec![report(51), bare, gone, backup])] {
            assert_eq!(Heartbeat::parse(&bytes(&all)), Ok(all));
        }
        let first = Heartbeat { echo: None, ..heartbeat(vec![]) };
        assert_eq!(Heartbeat::parse(&bytes(&first)), Ok(first));
    }

    #[test]
    fn every_truncation_is_refused_but_that_between_reports() {
        let whole = bytes(&heartbeat(vec![report(51), report(52)]));
        let one = HEADER_LEN + report(51).len();
        for len in 0..whole.len() {
            let parsed = Heartbeat::parse(&whole[..len]);
            match len {
                len if len == HEADER_LEN || len == one => assert!(parsed.is_ok()),
                have => assert_eq!(parsed, Err(HeartbeatError::Truncated { have })),
            }
        }
    }

    #[test]
    fn each_field_that_can_be_wrong_is_named() {
        let good = bytes(&heartbeat(vec![report(51)]));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Heartbeat::parse(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 2), HeartbeatError::UnknownVersion { version: 2 });
        assert_eq!(with(18, 0), HeartbeatError::ZeroInterval);
        assert_eq!(with(35, 0), HeartbeatError::ZeroVrid);
        assert_eq!(with(36, 0b11), HeartbeatError::UnknownFlags { flags: 0b11, present: 0b1_1111 });
        assert_eq!(with(36, 0x80), HeartbeatError::UnknownFlags { flags: 0x80, present: 0b1_1111 });
        assert_eq!(with(37, 0x80), HeartbeatError::UnknownFlags { flags: 0b110, present: 0x80 });
        assert_eq!(with(38, 0), HeartbeatError::ZeroPriority);
        assert_eq!(with(40, 0), HeartbeatError::BadAdvertInterval { centiseconds: 0 });
    }

    #[test]
    fn many_reports_take_several_heartbeats_of_which_none_is_too_long() {
        let vrid = |n: u16| u8::try_from(n % 255 + 1).unwrap();
        let parts = parts((0..1_000).map(|n| report(vrid(n))));
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 1_000);
        assert!(parts.len() > 1 && parts.iter().all(|part| bytes(&heartbeat(part.clone())).len() <= MAX_LEN));
        assert_eq!(super::parts([]), [vec![]]);
    }
}
