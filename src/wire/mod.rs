//! What stands on the wire, as plain legal values and their bytes.
//!
//! Parsing takes bytes and facts about them, and returns a value or the reason why there is none; it
//! cannot panic, and allocates for nothing that the bytes in hand only promise. Emitting a value cannot fail.
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

pub mod advert;
pub mod arp;
mod checksum;
mod drop_reason;
pub mod echo;
pub mod frame;
pub mod grant;
pub mod handover;
pub mod heartbeat;
pub mod ndisc;
pub mod seal;
pub mod sealed_advert;

pub use drop_reason::DropReason;
