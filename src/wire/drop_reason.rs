//! Why a received packet was discarded: one variant a misdeed, with its facts.
//!
//! Every discard is counted under [`DropReason::label`]; nothing is discarded without one.

use core::fmt;
use core::net::IpAddr;

use crate::types::Vrid;

/// Why a packet was not taken for an advert of one of our virtual routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Shorter than its header, or than its address count says. Bytes.
    Truncated {
        /// Bytes received.
        have: usize,
        /// Bytes that the header promises.
        need: usize,
    },
    /// Longer than its header says. Bytes.
    TrailingBytes {
        /// Bytes received.
        have: usize,
        /// Bytes that the header promises.
        need: usize,
    },
    /// Neither version 2 nor 3, or version 2 over IPv6.
    UnknownVersion {
        /// The version field.
        version: u8,
    },
    /// Not an advertisement (RFC 9568 §5.2.2).
    UnknownType {
        /// The type field.
        kind: u8,
    },
    /// VRID 0 is not a virtual router.
    ZeroVrid,
    /// No address is advertised.
    NoAddress,
    /// A promised interval of zero.
    ZeroInterval,
    /// Version 2 with an authentication type other than 0 and 1.
    UnknownAuthType {
        /// The authentication type field.
        auth_type: u8,
    },
    /// The checksum holds in none of the forms that are in use.
    BadChecksum {
        /// The field as received.
        found: u16,
        /// What it would be in the form of RFC 9568.
        expected: u16,
    },
    /// TTL or hop limit is not 255: the packet was routed (RFC 9568 §5.1.1.3, §5.1.2.3).
    WrongHopLimit {
        /// TTL or hop limit as received.
        hop_limit: u8,
    },
    /// No virtual router with this VRID is configured on the interface for this family.
    UnknownVrid {
        /// The VRID field.
        vrid: Vrid,
    },
    /// The peer speaks the other version.
    OtherVersion {
        /// The version of the packet.
        version: u8,
    },
    /// Version 2: the peer's interval differs from ours (RFC 3768 §7.1). Seconds.
    OtherInterval {
        /// The interval field.
        seconds: u8,
    },
    /// Version 2: authentication type or password differ from ours.
    WrongPassword,
    /// Unicast peers are configured and the sender is none of them.
    NotAPeer {
        /// The sender.
        source: IpAddr,
    },
    /// It carries our own source address: our own packet came back, or another host has our address.
    OwnSource {
        /// The address.
        source: IpAddr,
    },
    /// We own the addresses (priority 255), and nobody else may (RFC 9568 §7.1).
    AddressOwner {
        /// The sender.
        source: IpAddr,
    },
    /// It is about another group, which uses the same VRID: its addresses and ours have none in common.
    ForeignGroup {
        /// The sender.
        source: IpAddr,
    },
    /// It has no seal, and only sealed adverts are believed.
    NotSealed {
        /// The sender.
        source: IpAddr,
    },
    /// It is sealed with a key that this node does not have.
    UnknownSealKey {
        /// Which.
        id: [u8; 4],
    },
    /// Its seal does not hold: forged, damaged, or from another source address.
    BadSeal,
    /// It came already, or is too old to know.
    Replayed {
        /// Its number.
        counter: u64,
    },
    /// It is from an earlier life of its sender.
    StaleEpoch {
        /// Its epoch.
        epoch: u64,
        /// The latest that was heard.
        known: u64,
    },
    /// Its sender said it by another of its interfaces than the one that is heard here.
    OtherLink {
        /// The sender.
        source: IpAddr,
    },
}

impl DropReason {
    /// The names that counters use, in the order of [`Self::index`].
    pub const LABELS: [&'static str; 24] = [
        "truncated",
        "trailing-bytes",
        "unknown-version",
        "unknown-type",
        "zero-vrid",
        "no-address",
        "zero-interval",
        "unknown-auth-type",
        "bad-checksum",
        "wrong-hop-limit",
        "unknown-vrid",
        "other-version",
        "other-interval",
        "wrong-password",
        "not-a-peer",
        "own-source",
        "address-owner",
        "foreign-group",
        "not-sealed",
        "unknown-seal-key",
        "bad-seal",
        "replayed",
        "stale-epoch",
        "other-link",
    ];

    /// The place of this reason in [`Self::LABELS`].
    pub const fn index(&self) -> usize {
        match self {
            Self::Truncated { .. } => 0,
            Self::TrailingBytes { .. } => 1,
            Self::UnknownVersion { .. } => 2,
            Self::UnknownType { .. } => 3,
            Self::ZeroVrid => 4,
            Self::NoAddress => 5,
            Self::ZeroInterval => 6,
            Self::UnknownAuthType { .. } => 7,
            Self::BadChecksum { .. } => 8,
            Self::WrongHopLimit { .. } => 9,
            Self::UnknownVrid { .. } => 10,
            Self::OtherVersion { .. } => 11,
            Self::OtherInterval { .. } => 12,
            Self::WrongPassword => 13,
            Self::NotAPeer { .. } => 14,
            Self::OwnSource { .. } => 15,
            Self::AddressOwner { .. } => 16,
            Self::ForeignGroup { .. } => 17,
            Self::NotSealed { .. } => 18,
            Self::UnknownSealKey { .. } => 19,
            Self::BadSeal => 20,
            Self::Replayed { .. } => 21,
            Self::StaleEpoch { .. } => 22,
            Self::OtherLink { .. } => 23,
        }
    }

    /// The name under which this reason is counted.
    pub fn label(&self) -> &'static str {
        Self::LABELS.get(self.index()).copied().unwrap_or("unnamed")
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { have, need } => write!(f, "truncated: {have} bytes, {need} needed"),
            Self::TrailingBytes { have, need } => write!(f, "{have} bytes where the header says {need}"),
            Self::UnknownVersion { version } => write!(f, "unknown version {version}"),
            Self::UnknownType { kind } => write!(f, "unknown type {kind}, only advertisements (1) exist"),
            Self::ZeroVrid => f.write_str("VRID 0"),
            Self::NoAddress => f.write_str("no address advertised"),
            Self::ZeroInterval => f.write_str("advert interval 0"),
            Self::UnknownAuthType { auth_type } => write!(f, "unknown authentication type {auth_type}"),
            Self::BadChecksum { found, expected } => {
                write!(f, "checksum {found:#06x}, {expected:#06x} expected")
            }
            Self::WrongHopLimit { hop_limit } => write!(f, "TTL or hop limit {hop_limit}, 255 required"),
            Self::UnknownVrid { vrid } => write!(f, "VRID {vrid} is not configured here"),
            Self::OtherVersion { version } => write!(f, "the peer speaks VRRP version {version}"),
            Self::OtherInterval { seconds } => {
                write!(f, "the peer's advert interval is {seconds} s (version 2 needs equal ones)")
            }
            Self::WrongPassword => f.write_str("authentication type or password differ from ours"),
            Self::NotAPeer { source } => write!(f, "{source} is not in the list of peers"),
            Self::OwnSource { source } => write!(f, "the sender has our own address {source}"),
            Self::AddressOwner { source } => write!(f, "{source} claims addresses that this node owns (priority 255)"),
            Self::ForeignGroup { source } => {
                write!(f, "{source} advertises none of our addresses: another group uses this VRID")
            }
            Self::NotSealed { source } => {
                write!(f, "{source} does not seal its adverts ([seal] adverts = \"require\")")
            }
            Self::UnknownSealKey { id: [a, b, c, d] } => {
                write!(f, "sealed with another key, {a:02x}{b:02x}{c:02x}{d:02x}")
            }
            Self::BadSeal => f.write_str("the seal does not hold: forged, damaged, or sent from another address"),
            Self::Replayed { counter } => {
                write!(f, "number {counter} came already, or is too old: somebody repeats adverts")
            }
            Self::StaleEpoch { epoch, known } => {
                write!(
                    f,
                    "from epoch {epoch}, and {known} was heard: somebody repeats adverts, or the sender has lost its state directory"
                )
            }
            Self::OtherLink { source } => {
                write!(f, "{source} said so on another link: somebody repeats adverts, or two links are connected")
            }
        }
    }
}
