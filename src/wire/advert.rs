//! VRRP advertisements, version 2 (RFC 3768 §5) and version 3 (RFC 9568 §5).
//!
//! [`Advert::parse`] checks all that can be checked without knowing a virtual router: lengths, version,
//! type, VRID, count, interval and checksum. Whether the advert concerns anybody is the engine's business.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{DropReason, checksum};
use crate::types::{AdvertInterval, Family, Password, Priority, Version, Vrid};

/// The IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// TTL and hop limit of every advert (RFC 9568 §5.1.1.3, §5.1.2.3).
pub const HOP_LIMIT: u8 = 255;
/// Where IPv4 adverts go (RFC 9568 §5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Where IPv6 adverts go (RFC 9568 §5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// How long an advert that begins like this is, as its header says; `None` for too few bytes and unknown versions.
pub fn length(bytes: &[u8], family: Family) -> Option<usize> {
    let [version_and_type, _, _, count, ..] = bytes else { return None };
    let version = match version_and_type >> 4 {
        2 => Version::V2,
        3 => Version::V3,
        _ => return None,
    };
    Some(HEADER_LEN + usize::from(*count) * address_len(family) + trailer_len(version))
}

/// The multicast group of a family.
pub const fn group(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(GROUP_V4),
        Family::V6 => IpAddr::V6(GROUP_V6),
    }
}

/// The addresses that an advert has room for: the first [`max_listed`] of one family's.
///
/// A virtual router may have more. They move with it all the same; only the list that peers compare is cut.
pub fn listed(addresses: &[IpAddr]) -> &[IpAddr] {
    let room = addresses.first().map_or(0, |first| max_listed(Family::of(*first)));
    addresses.get(..room).unwrap_or(addresses)
}

/// How many addresses an advert of a family lists.
pub const fn max_listed(family: Family) -> usize {
    match family {
        Family::V4 => MAX_LISTED_V4,
        Family::V6 => MAX_LISTED_V6,
    }
}

/// How many addresses an IPv4 advert lists: what the count field can say (RFC 9568 §5.2.5).
pub const MAX_LISTED_V4: usize = 255;
/// How many addresses an IPv6 advert lists: what fits an MTU of 1,500 bytes, since an advert that needs fragments
/// would be lost in networks that drop them. (1500 − 40 − 8) / 16.
pub const MAX_LISTED_V6: usize = 90;

/// A legal advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// The version to speak.
    pub version: Version,
    /// The virtual router.
    pub vrid: Vrid,
    /// 0 resigns.
    pub priority: Priority,
    /// What the sender promises. Whole seconds in version 2.
    pub interval: AdvertInterval,
    /// 1..=255, all of the family of the packet.
    pub addresses: Vec<IpAddr>,
    /// Version 2 only: authentication type 1.
    pub password: Option<Password>,
}

/// The IP addresses of a packet, which the checksum may cover. Both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The sender.
    pub source: IpAddr,
    /// The group or the unicast peer.
    pub destination: IpAddr,
}

/// What the checksum of a version 3 advert over IPv4 covers. Over IPv6 there is one form only, and in version 2 another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChecksumForm {
    /// The message alone (RFC 9568 §5.2.8).
    Rfc9568,
    /// A pseudo-header as well, as many read RFC 5798.
    Rfc5798,
}

impl Advert {
    /// Reads the payload of an IP packet of protocol 112, and says which checksum form held.
    ///
    /// Reserved bits and version 2's unused authentication data are ignored. The form is
    /// [`ChecksumForm::Rfc9568`] where there is no choice, and where both forms hold.
    ///
    /// # Errors
    ///
    /// Each with the first thing that is wrong, in the order header, version, type, length, content, checksum.
    pub fn parse(bytes: &[u8], endpoints: Endpoints) -> Result<(Self, ChecksumForm), DropReason> {
        let have = bytes.len();
        let Some((&header, body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(DropReason::Truncated { have, need: HEADER_LEN });
        };
        let [version_and_type, vrid, priority, count, fifth, sixth, _, _] = header;
        let family = endpoints.family();

        let version = match (version_and_type >> 4, family) {
            (2, Family::V4) => Version::V2,
            (3, Family::V4 | Family::V6) => Version::V3,
            (version, Family::V4 | Family::V6) => return Err(DropReason::UnknownVersion { version }),
        };
        match version_and_type & 0x0f {
            ADVERTISEMENT => {}
            kind => return Err(DropReason::UnknownType { kind }),
        }

        // DEVIATION: RFC 9568 §7.1 asks only that the packet be complete. Bytes after its end mean a sender that says
        // what we do not understand; keepalived and FRR discard it too. IP's length has cut off any link padding.
        let addresses_len = usize::from(count) * address_len(family);
        let need = HEADER_LEN + addresses_len + trailer_len(version);
        if have < need {
            return Err(DropReason::Truncated { have, need });
        }
        if have > need {
            return Err(DropReason::TrailingBytes { have, need });
        }
        let (list, trailer) = body.split_at_checked(addresses_len).ok_or(DropReason::Truncated { have, need })?;

        let vrid = Vrid::new(vrid).ok_or(DropReason::ZeroVrid)?;
        if count == 0 {
            return Err(DropReason::NoAddress);
        }
        let (interval, password) = match version {
            Version::V3 => (u16::from_be_bytes([fifth & 0x0f, sixth]), None),
            Version::V2 => (u16::from(sixth) * 100, parse_password(fifth, trailer)?),
        };
        let interval = AdvertInterval::from_centiseconds(interval).ok_or(DropReason::ZeroInterval)?;
        let form = verify(version, bytes, header, endpoints)?;

        let priority = Priority(priority);
        Ok((Self { version, vrid, priority, interval, addresses: parse_addresses(family, list), password }, form))
    }

    /// Replaces the content of `out` by the payload of an IP packet.
    ///
    /// The form matters for version 3 over IPv4 only. Of the addresses the [`listed`] ones go out. An
    /// interval that the version cannot say is sent as the next longer one that it can, or as its longest.
    pub fn emit(&self, endpoints: Endpoints, checksum: ChecksumForm, out: &mut Vec<u8>) {
        let family = endpoints.family();
        let (fifth, sixth, trailer) = match self.version {
            Version::V3 => {
                let [high, low] = self.interval.centiseconds().min(AdvertInterval::MAX_V3.centiseconds()).to_be_bytes();
                (high, low, None)
            }
            Version::V2 => {
                let seconds = u8::try_from(self.interval.centiseconds().div_ceil(100)).unwrap_or(u8::MAX);
                match self.password {
                    None => (AUTH_NONE, seconds, Some([0; PASSWORD_LEN])),
                    Some(Password(password)) => (AUTH_PASSWORD, seconds, Some(password)),
                }
            }
        };
        let of_family = || listed(&self.addresses).iter().filter(|address| Family::of(**address) == family);
        let count = u8::try_from(of_family().count()).unwrap_or(u8::MAX);

        out.clear();
        out.extend([
            (self.version.number() << 4) | ADVERTISEMENT,
            self.vrid.number(),
            self.priority.0,
            count,
            fifth,
            sixth,
            0,
            0,
        ]);
        for address in of_family() {
            match address {
                IpAddr::V4(address) => out.extend(address.octets()),
                IpAddr::V6(address) => out.extend(address.octets()),
            }
        }
        out.extend(trailer.into_iter().flatten());

        let sum = checksum_of(self.version, checksum, out, endpoints).to_be_bytes();
        if let Some([.., high, low]) = out.first_chunk_mut::<HEADER_LEN>() {
            [*high, *low] = sum;
        }
    }
}

impl Endpoints {
    /// The family of the packet.
    pub const fn family(&self) -> Family {
        Family::of(self.destination)
    }
}

/// All before the addresses.
const HEADER_LEN: usize = 8;
/// The only type there is (RFC 9568 §5.2.2).
const ADVERTISEMENT: u8 = 1;
/// Version 2's authentication types that are still in use (RFC 3768 §5.3.6; 1 is from RFC 2338 §5.3.6).
const AUTH_NONE: u8 = 0;
const AUTH_PASSWORD: u8 = 1;
/// Version 2's authentication data, present whatever the type (RFC 3768 §5.3.10).
const PASSWORD_LEN: usize = 8;

const fn address_len(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

const fn trailer_len(version: Version) -> usize {
    match version {
        Version::V2 => PASSWORD_LEN,
        Version::V3 => 0,
    }
}

fn parse_password(auth_type: u8, trailer: &[u8]) -> Result<Option<Password>, DropReason> {
    match auth_type {
        AUTH_NONE => Ok(None),
        AUTH_PASSWORD => match trailer.first_chunk() {
            Some(password) => Ok(Some(Password(*password))),
            None => Err(DropReason::Truncated { have: trailer.len(), need: PASSWORD_LEN }),
        },
        auth_type => Err(DropReason::UnknownAuthType { auth_type }),
    }
}

fn parse_addresses(family: Family, list: &[u8]) -> Vec<IpAddr> {
    match family {
        Family::V4 => list.as_chunks::<4>().0.iter().map(|octets| IpAddr::from(*octets)).collect(),
        Family::V6 => list.as_chunks::<16>().0.iter().map(|octets| IpAddr::from(*octets)).collect(),
    }
}

/// Which form the checksum of a received message holds in.
fn verify(
    version: Version,
    bytes: &[u8],
    header: [u8; HEADER_LEN],
    endpoints: Endpoints,
) -> Result<ChecksumForm, DropReason> {
    let holds = |form: &ChecksumForm| checksum_of(version, *form, bytes, endpoints) == 0;
    [ChecksumForm::Rfc9568, ChecksumForm::Rfc5798].into_iter().find(holds).ok_or_else(|| {
        let [.., high, low] = header;
        let found = u16::from_be_bytes([high, low]);
        let missing = checksum_of(version, ChecksumForm::Rfc9568, bytes, endpoints);
        DropReason::BadChecksum { found, expected: checksum::add(found, missing) }
    })
}

/// The checksum over a message as it is.
fn checksum_of(version: Version, form: ChecksumForm, message: &[u8], endpoints: Endpoints) -> u16 {
    match (endpoints.family(), version, form) {
        (Family::V6, Version::V2 | Version::V3, ChecksumForm::Rfc9568 | ChecksumForm::Rfc5798)
        | (Family::V4, Version::V3, ChecksumForm::Rfc5798) => {
            checksum::with_pseudo_header(endpoints.source, endpoints.destination, PROTOCOL, message)
        }
        // RFC 3768 §5.3.8, RFC 9568 §5.2.8.
        (Family::V4, Version::V2, ChecksumForm::Rfc9568 | ChecksumForm::Rfc5798)
        | (Family::V4, Version::V3, ChecksumForm::Rfc9568) => checksum::alone(message),
    }
}

#[cfg(test)]
mod tests;
