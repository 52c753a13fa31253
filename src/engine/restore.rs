//! Addresses that another program removes are put back, up to a limit: past it somebody else wants them gone.

use core::time::Duration;

use super::input::RequestId;
use super::time::Instant;

/// How often within [`WINDOW`] a vip's addresses are put back before the node hands over.
///
/// A network manager that is restarted removes them once or twice; a program that fights does it for ever.
pub const LIMIT: u8 = 5;
/// See [`LIMIT`].
pub const WINDOW: Duration = Duration::from_secs(10);

/// What to do about an address that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Put it back, for the how-many-th time within the window.
    Restore(u8),
    /// It is being put back already.
    Pending,
    /// The limit is reached.
    HandOver,
}

/// The restorations of one ownership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restorations {
    window: Option<(Instant, u8)>,
    pending: Option<RequestId>,
    again: bool,
}

impl Restorations {
    /// An address went. [`Self::began`] must follow a verdict to restore.
    pub fn on_gone(&mut self, now: Instant) -> Verdict {
        if self.pending.is_some() {
            self.again = true;
            return Verdict::Pending;
        }
        let count = match self.window {
            Some((start, count)) if now.since(start) < WINDOW => count.saturating_add(1),
            Some(_) | None => 1,
        };
        if count > LIMIT {
            return Verdict::HandOver;
        }
        let start = match self.window {
            Some((start, _)) if count > 1 => start,
            Some(_) | None => now,
        };
        self.window = Some((start, count));
        Verdict::Restore(count)
    }

    /// A request puts them back.
    pub const fn began(&mut self, request: RequestId) {
        self.pending = Some(request);
        self.again = false;
    }

    /// A request has ended. `None`: it was no restoration; else whether an address went meanwhile.
    pub fn ended(&mut self, request: RequestId) -> Option<bool> {
        if self.pending != Some(request) {
            return None;
        }
        self.pending = None;
        Some(core::mem::take(&mut self.again))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn the_sixth_removal_within_the_window_hands_over() {
        let mut restorations = Restorations::default();
        for count in 1..=LIMIT {
            assert_eq!(restorations.on_gone(at(u64::from(count))), Verdict::Restore(count));
        }
        assert_eq!(restorations.on_gone(at(9_999)), Verdict::HandOver);
    }

    #[test]
    fn the_window_ends() {
        let mut restorations = Restorations::default();
        for count in 1..=LIMIT {
            assert_eq!(restorations.on_gone(at(0)), Verdict::Restore(count));
        }
        assert_eq!(restorations.on_gone(at(10_000)), Verdict::Restore(1));
    }

    #[test]
    fn a_flush_of_many_addresses_counts_once() {
        let mut restorations = Restorations::default();
        assert_eq!(restorations.on_gone(at(0)), Verdict::Restore(1));
        restorations.began(RequestId(7));
        assert_eq!(restorations.on_gone(at(0)), Verdict::Pending);
        assert_eq!(restorations.ended(RequestId(6)), None);
        assert_eq!(restorations.ended(RequestId(7)), Some(true));
    }
}
