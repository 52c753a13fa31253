//! The keys that all nodes of a group share. At most two: the first seals, either is believed, so that one can follow the other
//! while everything runs.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The shortest key, in bytes: as long as the tag (RFC 2104 §3).
pub const MIN_KEY_LEN: usize = 32;
/// The longest key, in bytes. More than the hash's block of 64 bytes gains nothing.
pub const MAX_KEY_LEN: usize = 128;

/// One or two keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    current: Key,
    also: Option<Key>,
}

/// One of them, ready for use: what the user wrote is not kept.
#[derive(Clone)]
pub struct Key {
    fingerprint: [u8; 32],
    messages: Hmac<Sha256>,
    adverts: Hmac<Sha256>,
}

/// A key that is too short or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLength {
    /// Its bytes.
    pub have: usize,
}

impl Keys {
    /// The one that seals, and another that is believed too.
    pub const fn new(current: Key, also: Option<Key>) -> Self {
        Self { current, also }
    }

    /// The one that seals.
    pub const fn current(&self) -> &Key {
        &self.current
    }

    /// The other one.
    pub const fn also(&self) -> Option<&Key> {
        self.also.as_ref()
    }

    /// Whether one of them is called so.
    pub(super) fn knows(&self, id: [u8; 4]) -> bool {
        self.named(id).next().is_some()
    }

    /// Whether the one that is called so made the tag of a message.
    pub(super) fn verify_message(&self, id: [u8; 4], sealed: &[u8], tag: &[u8]) -> bool {
        self.named(id).any(|key| holds(&key.messages, sealed, tag))
    }

    /// Those that are called so: one, or by a rare chance two.
    pub(in crate::wire) fn named(&self, id: [u8; 4]) -> impl Iterator<Item = &Key> {
        core::iter::once(&self.current).chain(&self.also).filter(move |key| key.id() == id)
    }
}

impl Key {
    /// Of [`MIN_KEY_LEN`] to [`MAX_KEY_LEN`] random bytes.
    ///
    /// # Errors
    ///
    /// Where there are fewer or more.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyLength> {
        if !(MIN_KEY_LEN..=MAX_KEY_LEN).contains(&bytes.len()) {
            return Err(KeyLength { have: bytes.len() });
        }
        // Each use has a key of its own, so that nothing that was sealed for one is good for another.
        let master = keyed(bytes);
        let messages = keyed(&tag(&master, b"vipd message 1"));
        let adverts = keyed(&tag(&master, b"vipd advert 1"));
        Ok(Self { fingerprint: tag(&master, b"vipd key id"), messages, adverts })
    }

    /// Which key it is, for all to see.
    pub const fn id(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.fingerprint;
        [a, b, c, d]
    }

    /// Over all of a message that stands before the tag.
    pub(super) fn tag_message(&self, sealed: &[u8]) -> [u8; 32] {
        tag(&self.messages, sealed)
    }

    /// Over the parts of what the seal of an advert covers.
    pub(in crate::wire) fn tag_advert(&self, parts: &Parts<'_>) -> [u8; 32] {
        chained(&self.adverts, parts).finalize().into_bytes().into()
    }

    /// Whether a tag of 16 bytes is the beginning of that.
    pub(in crate::wire) fn verify_advert(&self, parts: &Parts<'_>, tag: &[u8]) -> bool {
        tag.len() == 16 && chained(&self.adverts, parts).verify_truncated_left(tag).is_ok()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.id();
        write!(f, "Key({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

impl fmt::Display for KeyLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {MIN_KEY_LEN} to {MAX_KEY_LEN} are needed", self.have)
    }
}

impl core::error::Error for KeyLength {}

/// What a seal of an advert covers.
pub(in crate::wire) type Parts<'a> = ([u8; 17], &'a [u8], &'a [u8]);

fn chained(mac: &Hmac<Sha256>, (head, advert, fields): &Parts<'_>) -> Hmac<Sha256> {
    mac.clone().chain_update(head).chain_update(advert).chain_update(fields)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn tag(mac: &Hmac<Sha256>, bytes: &[u8]) -> [u8; 32] {
    mac.clone().chain_update(bytes).finalize().into_bytes().into()
}

/// In a time that does not depend on where two tags differ.
fn holds(mac: &Hmac<Sha256>, bytes: &[u8], tag: &[u8]) -> bool {
    mac.clone().chain_update(bytes).verify_slice(tag).is_ok()
}
