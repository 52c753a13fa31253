//! The arithmetic of an election: how long a silence may last, and who wins.

use core::net::IpAddr;
use core::time::Duration;

use crate::types::{AdvertInterval, Priority};

/// How many intervals an owner may be silent before its peers act (RFC 9568 §6.1).
pub const PATIENCE: u32 = 3;

/// The part of the patience that lets the higher priority go first (RFC 9568 §6.1).
///
/// Version 2 sets it to (256 − priority)/256 s, whatever the interval (RFC 3768 §6.1); see [`skew_time_v2`].
pub fn skew_time(interval: AdvertInterval, priority: Priority) -> Duration {
    interval.duration() * distance(priority) / 256
}

/// The skew time of version 2: (256 − priority)/256 s (RFC 3768 §6.1).
pub fn skew_time_v2(priority: Priority) -> Duration {
    Duration::from_secs(1) * distance(priority) / 256
}

/// 256 − priority.
fn distance(priority: Priority) -> u32 {
    256 - u32::from(priority.0)
}

/// What a node brings into an election: its priority, and its source address to break a tie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// The advertised priority.
    pub priority: Priority,
    /// The primary address, compared as an unsigned number in network order.
    pub source: IpAddr,
}

/// How an advert compares with this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The sender gives up.
    Resigns,
    /// The sender's priority is higher.
    Higher,
    /// Equal priority, and the sender's address is larger.
    WinsTie,
    /// Equal priority, and the sender's address is smaller.
    LosesTie,
    /// The sender's priority is lower.
    Lower,
}

/// Compares a sender with this node (RFC 9568 §6.4.3).
///
/// The addresses are of one family, and differ: an advert from the node's own address never gets here.
pub fn compare(sender: Rank, own: Rank) -> Comparison {
    if sender.priority == Priority::RESIGN {
        return Comparison::Resigns;
    }
    match sender.priority.cmp(&own.priority) {
        core::cmp::Ordering::Greater => Comparison::Higher,
        core::cmp::Ordering::Less => Comparison::Lower,
        core::cmp::Ordering::Equal if sender.source > own.source => Comparison::WinsTie,
        core::cmp::Ordering::Equal => Comparison::LosesTie,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(centiseconds: u16) -> AdvertInterval {
        AdvertInterval::from_centiseconds(centiseconds).unwrap()
    }

    #[test]
    fn skew_time_is_the_standards() {
        assert_eq!(skew_time(interval(100), Priority(100)), Duration::from_micros(609_375));
        assert_eq!(skew_time(interval(1), Priority(254)), Duration::from_nanos(78_125));
        assert_eq!(skew_time(interval(4095), Priority(1)).as_millis(), 40_790);
        assert_eq!(skew_time_v2(Priority(100)), Duration::from_micros(609_375));
    }

    #[test]
    fn a_tie_goes_to_the_larger_address() {
        let rank = |priority, last| Rank { priority: Priority(priority), source: IpAddr::from([10, 0, 0, last]) };
        assert_eq!(compare(rank(100, 200), rank(100, 3)), Comparison::WinsTie);
        assert_eq!(compare(rank(100, 3), rank(100, 200)), Comparison::LosesTie);
        assert_eq!(compare(rank(101, 3), rank(100, 200)), Comparison::Higher);
        assert_eq!(compare(rank(99, 200), rank(100, 3)), Comparison::Lower);
        assert_eq!(compare(rank(0, 200), rank(100, 3)), Comparison::Resigns);
    }
}
