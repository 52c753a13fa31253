//! A seal behind an advert: who sent it, in which of its lives, and as the how manieth.
//!
//! The advert itself is as ever; what follows it is not VRRP, so routers that do not know it discard the packet. All numbers are
//! big endian:
//!
//! | bytes | are |
//! |---|---|
//! | 4 | `VSA` and the version of this layout, 1 |
//! | 4 | which key made the tag |
//! | 8 | the sender's epoch, which grows with each of its lives |
//! | 4 | which of its interfaces the sender means by this |
//! | 8 | a number that grows with each advert by that interface |
//! | 16 | the first half of HMAC-SHA-256 over the family (4 or 6), the source address (16 bytes, IPv4 first), the advert, and the 28 bytes before |
//!
//! What makes it good for one thing only: the VRID stands in the advert, the source address is the packet's own.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::DropReason;
use super::advert;
use super::seal::{Key, Keys};
use crate::types::Family;

/// Bytes behind an advert.
pub const TRAILER_LEN: usize = FIELDS_LEN + TAG_LEN;

/// How many IPv6 addresses a sealed advert lists within an MTU of 1,500 bytes. (1500 − 40 − 8 − 44) / 16.
pub const MAX_LISTED_V6: usize = 88;

/// What a seal says beside the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which life of the sender.
    pub epoch: u64,
    /// Which of its interfaces.
    pub link: u32,
    /// The how manieth there.
    pub counter: u64,
}

/// An advert without its seal, and what that says; `None` where there is none.
pub type Unsealed<'a> = (&'a [u8], Option<Stamp>);

/// Appends a seal to an advert's bytes.
pub fn seal(keys: &Keys, source: IpAddr, stamp: Stamp, packet: &mut Vec<u8>) {
    let advert_len = packet.len();
    packet.extend(MAGIC);
    packet.extend(keys.current().id());
    packet.extend(stamp.epoch.to_be_bytes());
    packet.extend(stamp.link.to_be_bytes());
    packet.extend(stamp.counter.to_be_bytes());
    let (advert, fields) = packet.split_at_checked(advert_len).unwrap_or((packet, &[]));
    let tag = keys.current().tag_advert(&covered(source, advert, fields));
    packet.extend(tag.iter().take(TAG_LEN));
}

/// Takes the seal off a packet of protocol 112, if there is one and it holds. What has neither the length of an advert nor of a sealed one
/// is handed on as it is: whoever reads it says what is wrong.
///
/// # Errors
///
/// A seal that does not hold.
pub fn open<'a>(keys: &Keys, source: IpAddr, bytes: &'a [u8]) -> Result<Unsealed<'a>, DropReason> {
    let Some((advert, trailer)) = split(bytes, Family::of(source)) else { return Ok((bytes, None)) };
    let [fields @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = trailer;
    let [_, _, _, _, k1, k2, k3, k4, e1, e2, e3, e4, e5, e6, e7, e8, l1, l2, l3, l4, c1, c2, c3, c4, c5, c6, c7, c8] =
        *fields;
    let id = [k1, k2, k3, k4];
    let tag = trailer.get(FIELDS_LEN..).unwrap_or_default();
    let covered = covered(source, advert, fields);
    let mut known = keys.named(id).peekable();
    if known.peek().is_none() {
        return Err(DropReason::UnknownSealKey { id });
    }
    if !known.any(|key: &Key| key.verify_advert(&covered, tag)) {
        return Err(DropReason::BadSeal);
    }
    let stamp = Stamp {
        epoch: u64::from_be_bytes([e1, e2, e3, e4, e5, e6, e7, e8]),
        link: u32::from_be_bytes([l1, l2, l3, l4]),
        counter: u64::from_be_bytes([c1, c2, c3, c4, c5, c6, c7, c8]),
    };
    Ok((advert, Some(stamp)))
}

/// An advert and the seal behind it, where the packet has one.
pub fn split(bytes: &[u8], family: Family) -> Option<(&[u8], &[u8; TRAILER_LEN])> {
    let (advert, rest) = bytes.split_at_checked(advert::length(bytes, family)?)?;
    let trailer = <&[u8; TRAILER_LEN]>::try_from(rest).ok()?;
    trailer.starts_with(&MAGIC).then_some((advert, trailer))
}

const MAGIC: [u8; 4] = *b"VSA\x01";
/// Of the seal, all before the tag.
const FIELDS_LEN: usize = 28;
/// Half of the hash's output is as much as RFC 2104 §5 wants, and leaves room for addresses.
const TAG_LEN: usize = 16;

/// What the tag covers, in parts.
fn covered<'a>(source: IpAddr, advert: &'a [u8], fields: &'a [u8]) -> ([u8; 17], &'a [u8], &'a [u8]) {
    let mut head = [0; 17];
    let octets: &[u8] = match source {
        IpAddr::V4(source) => &source.octets(),
        IpAddr::V6(source) => &source.octets(),
    };
    let family = match Family::of(source) {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    head.iter_mut().zip(core::iter::once(&family).chain(octets)).for_each(|(place, byte)| *place = *byte);
    (head, advert, fields)
}

#[cfg(test)]
mod tests;
