//! The messages that nodes and witnesses send each other over UDP: who says what to whom, and the proof of it.
//!
//! [`Message::parse`] believes nothing before the tag holds, and then checks the shape. Whether a message is new, and for
//! this node, is [`crate::engine::session`]'s business. All numbers are big endian:
//!
//! | bytes | are |
//! |---|---|
//! | 4 | `VIPD` |
//! | 1 | the version of this layout: 1 |
//! | 1 | the kind: 1 hello, 2 heartbeat, 3 grant, 4 handover |
//! | 4 | which key made the tag |
//! | 8 | the sender's epoch: which of its lives it is in |
//! | 8 | the token that the receiver gave to this epoch of the sender; 0 in a hello |
//! | 8 | a number that grows with each message from this sender to this receiver |
//! | 1 + n | the sender's name, behind its length |
//! | 1 + n | the receiver's name, behind its length; none in a hello to whoever hears it |
//! | n | the payload |
//! | 32 | HMAC-SHA-256 of all before it |
//!
//! Nothing is encrypted: none of it is a secret.

use alloc::vec::Vec;
use core::fmt;

mod keys;

pub use keys::{Key, KeyLength, Keys, MAX_KEY_LEN, MIN_KEY_LEN};

/// The longest message: an Ethernet frame's, behind an IPv6 and a UDP header. One that needs fragments would be lost in
/// networks that drop them. 1500 − 40 − 8.
pub const MAX_LEN: usize = 1452;

/// The longest name of a node: that of a host name (RFC 1035 §2.3.4), and what one byte can say.
pub const MAX_NAME_LEN: usize = 255;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Opens a session, and carries nothing else.
    Hello,
    /// For the layers above.
    Of(Topic),
}

/// What the layers above have to say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// That a node lives, and what it owns.
    Heartbeat,
    /// A voter is asked for a lease, or answers.
    Grant,
    /// A vip goes from one node to another.
    Handover,
}

/// A message whose sender has the key, or that is about to be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is for.
    pub kind: Kind,
    /// Who says so. 1 to [`MAX_NAME_LEN`] printable ASCII characters without spaces.
    pub sender: &'a str,
    /// For whom, likewise; `None`: for whoever hears it.
    pub receiver: Option<&'a str>,
    /// Which life of the sender.
    pub epoch: u64,
    /// What the receiver gave to that epoch.
    pub token: u64,
    /// Grows with each message from this sender to this receiver.
    pub counter: u64,
    /// The rest.
    pub payload: &'a [u8],
}

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// Shorter than any message, or than its names.
    TooShort {
        /// Bytes received.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Longer than any message of ours. Bytes.
    TooLong {
        /// Bytes received.
        have: usize,
    },
    /// Not one of these messages at all.
    BadMagic,
    /// Another layout.
    UnknownVersion {
        /// The version byte.
        version: u8,
    },
    /// Sealed with a key that this node does not have.
    UnknownKey {
        /// Which.
        id: [u8; 4],
    },
    /// The tag does not hold: made or changed by somebody who does not have the key.
    BadTag,
    /// Authentic, and of a kind that only a later version knows.
    UnknownKind {
        /// The kind byte.
        kind: u8,
    },
    /// Authentic, with a name that no node has.
    BadName,
    /// Authentic, a hello whose content makes no sense.
    BadHello,
    /// Authentic, under this node's own name: another node has it too, or our own message came back.
    OwnName,
    /// Authentic, for another node.
    NotForUs,
    /// From a node that has no session yet. It is being given one.
    NoSession,
    /// From a session that has ended: its sender or this node has been restarted since, or somebody repeats what was recorded.
    StaleSession,
    /// It came already, or is too old to know.
    Replayed {
        /// Its number.
        counter: u64,
    },
    /// A hello that answers nothing that this node said lately.
    StaleHello,
}

impl Message<'_> {
    /// Reads a datagram.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong: length, layout, key, tag, and then, of an authentic one, its content.
    pub fn parse<'a>(bytes: &'a [u8], keys: &Keys) -> Result<Message<'a>, SealError> {
        let have = bytes.len();
        if have > MAX_LEN {
            return Err(SealError::TooLong { have });
        }
        let too_short = SealError::TooShort { have, need: MIN_LEN };
        let (sealed, tag) = bytes.split_last_chunk::<TAG_LEN>().ok_or(too_short)?;
        let (&header, names) = sealed.split_first_chunk::<HEADER_LEN>().ok_or(too_short)?;
        if names.len() < 2 {
            return Err(too_short);
        }
        let [m1, m2, m3, m4, version, kind, k1, k2, k3, k4, numbers @ ..] = header;
        if [m1, m2, m3, m4] != MAGIC {
            return Err(SealError::BadMagic);
        }
        if version != VERSION {
            return Err(SealError::UnknownVersion { version });
        }
        let id = [k1, k2, k3, k4];
        if !keys.knows(id) {
            return Err(SealError::UnknownKey { id });
        }
        if !keys.verify_message(id, sealed, tag) {
            return Err(SealError::BadTag);
        }

        let kind = Kind::of(kind)?;
        let (sender, rest) = name(names, have)?;
        let (receiver, payload) = name(rest, have)?;
        let sender = sender.ok_or(SealError::BadName)?;
        let [epoch, token, counter] = thirds(numbers);
        Ok(Message { kind, sender, receiver, epoch, token, counter, payload })
    }

    /// The bytes to send, sealed with the first of the keys. The caller keeps to [`Self::room`].
    pub fn emit(&self, keys: &Keys) -> Vec<u8> {
        let receiver = self.receiver.unwrap_or_default();
        let mut out = Vec::with_capacity(MIN_LEN + self.sender.len() + receiver.len() + self.payload.len());
        out.extend(MAGIC);
        out.extend([VERSION, self.kind.number()]);
        out.extend(keys.current().id());
        for number in [self.epoch, self.token, self.counter] {
            out.extend(number.to_be_bytes());
        }
        for name in [self.sender, receiver] {
            out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.extend(name.bytes().take(MAX_NAME_LEN));
        }
        out.extend(self.payload);
        let tag = keys.current().tag_message(&out);
        out.extend(tag);
        out
    }

    /// How long a payload between these two may be.
    pub const fn room(sender: &str, receiver: &str) -> usize {
        MAX_LEN.saturating_sub(MIN_LEN).saturating_sub(sender.len()).saturating_sub(receiver.len())
    }
}

impl Kind {
    fn of(number: u8) -> Result<Self, SealError> {
        match number {
            1 => Ok(Self::Hello),
            2 => Ok(Self::Of(Topic::Heartbeat)),
            3 => Ok(Self::Of(Topic::Grant)),
            4 => Ok(Self::Of(Topic::Handover)),
            kind => Err(SealError::UnknownKind { kind }),
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Of(Topic::Heartbeat) => 2,
            Self::Of(Topic::Grant) => 3,
            Self::Of(Topic::Handover) => 4,
        }
    }
}

impl SealError {
    /// The names that counters use, in the order of [`Self::index`].
    pub const LABELS: [&'static str; 15] = [
        "too-short",
        "too-long",
        "bad-magic",
        "unknown-version",
        "unknown-key",
        "bad-tag",
        "unknown-kind",
        "bad-name",
        "bad-hello",
        "own-name",
        "not-for-us",
        "no-session",
        "stale-session",
        "replayed",
        "stale-hello",
    ];

    /// The place of this reason in [`Self::LABELS`].
    pub const fn index(&self) -> usize {
        match self {
            Self::TooShort { .. } => 0,
            Self::TooLong { .. } => 1,
            Self::BadMagic => 2,
            Self::UnknownVersion { .. } => 3,
            Self::UnknownKey { .. } => 4,
            Self::BadTag => 5,
            Self::UnknownKind { .. } => 6,
            Self::BadName => 7,
            Self::BadHello => 8,
            Self::OwnName => 9,
            Self::NotForUs => 10,
            Self::NoSession => 11,
            Self::StaleSession => 12,
            Self::Replayed { .. } => 13,
            Self::StaleHello => 14,
        }
    }

    /// The name under which this reason is counted.
    pub fn label(&self) -> &'static str {
        Self::LABELS.get(self.index()).copied().unwrap_or("unnamed")
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { have, need } => write!(f, "truncated: {have} bytes, {need} needed"),
            Self::TooLong { have } => write!(f, "{have} bytes, at most {MAX_LEN} are sent"),
            Self::BadMagic => f.write_str("not a message of vipd"),
            Self::UnknownVersion { version } => write!(f, "unknown version {version}"),
            Self::UnknownKey { id: [a, b, c, d] } => write!(f, "sealed with another key, {a:02x}{b:02x}{c:02x}{d:02x}"),
            Self::BadTag => f.write_str("the tag does not hold: forged or damaged"),
            Self::UnknownKind { kind } => write!(f, "unknown kind {kind}"),
            Self::BadName => f.write_str("no name that a node can have"),
            Self::BadHello => f.write_str("a hello without sense"),
            Self::OwnName => f.write_str("the sender has this node's name"),
            Self::NotForUs => f.write_str("for another node"),
            Self::NoSession => f.write_str("from a node without a session"),
            Self::StaleSession => f.write_str("from a session that has ended"),
            Self::Replayed { counter } => write!(f, "number {counter} came already, or is too old"),
            Self::StaleHello => f.write_str("a hello that answers nothing"),
        }
    }
}

impl core::error::Error for SealError {}

const MAGIC: [u8; 4] = *b"VIPD";
const VERSION: u8 = 1;
/// All before the names.
const HEADER_LEN: usize = 34;
const TAG_LEN: usize = 32;
/// With names and payload empty.
const MIN_LEN: usize = HEADER_LEN + 2 + TAG_LEN;

/// A name behind its length, and what follows. `None`: an empty one.
fn name(bytes: &[u8], have: usize) -> Result<(Option<&str>, &[u8]), SealError> {
    let (len, rest) = bytes.split_first().ok_or(SealError::TooShort { have, need: have + 1 })?;
    let len = usize::from(*len);
    let need = have + len.saturating_sub(rest.len());
    let (name, rest) = rest.split_at_checked(len).ok_or(SealError::TooShort { have, need })?;
    match core::str::from_utf8(name) {
        Ok("") => Ok((None, rest)),
        Ok(name) if is_name(name) => Ok((Some(name), rest)),
        Ok(_) | Err(_) => Err(SealError::BadName),
    }
}

/// Whether a node may be called so.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn thirds(bytes: [u8; 24]) -> [u64; 3] {
    match bytes.as_chunks::<8>().0 {
        [first, second, third] => [first, second, third].map(|bytes| u64::from_be_bytes(*bytes)),
        _ => unreachable!("24 bytes are three times 8"),
    }
}

#[cfg(test)]
mod tests;
