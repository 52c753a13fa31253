//! The right to hold the addresses until an instant.
//!
//! It is renewed with each advert, from just before it is sent, for as long as every peer is sure to wait for the next
//! one. A backup waits [`PATIENCE`] intervals and its skew time after it *received* the last advert, so the lease has
//! always lapsed when a successor starts.

use core::time::Duration;

use super::election::PATIENCE;
use super::time::Instant;
use crate::types::AdvertInterval;

/// The lease of one ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    renewed_at: Instant,
    until: Instant,
}

impl Lease {
    /// The lease of an owner that is about to send an advert.
    pub fn renewed(now: Instant, interval: AdvertInterval) -> Self {
        Self { renewed_at: now, until: now + interval.duration() * PATIENCE }
    }

    /// The same, but not longer than until then.
    pub fn ending_by(self, until: Instant) -> Self {
        Self { until: self.until.min(until), ..self }
    }

    /// The first instant at which the addresses may no longer be held.
    pub const fn until(&self) -> Instant {
        self.until
    }

    /// How long ago it was renewed, where it has lapsed.
    pub fn lapsed(&self, now: Instant) -> Option<Duration> {
        (now >= self.until).then(|| now.since(self.renewed_at))
    }
}

/// For how many of the shorter intervals its pace is kept after a longer one was promised: [`PATIENCE`], one for the skew time,
/// which is less than an interval, and one for the last advert that promised the shorter, which may have been under way.
pub const STRETCH: u32 = PATIENCE + 2;

/// The interval became longer under an owner. A peer that has heard only of the shorter one waits by it, and so do adverts and
/// lease; once no peer can, both become longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    shorter: AdvertInterval,
    until: Instant,
}

impl Stretch {
    /// From now on `interval` is promised, after `before`. `None` where it is not longer: a peer that does not know yet is
    /// more patient than it need be.
    pub fn new(now: Instant, before: AdvertInterval, interval: AdvertInterval) -> Option<Self> {
        (interval > before).then(|| Self { shorter: before, until: now + before.duration() * STRETCH })
    }

    /// The interval of adverts and lease until then.
    pub const fn pace(self) -> AdvertInterval {
        self.shorter
    }

    /// Whether no peer can still wait by the shorter interval.
    pub fn is_over(self, now: Instant) -> bool {
        now >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::election::skew_time;
    use crate::types::Priority;

    #[test]
    fn a_lease_lapses_before_the_most_impatient_backup_acts() {
        for centiseconds in [1, 10, 100, 4095] {
            let interval = AdvertInterval::from_centiseconds(centiseconds).unwrap();
            let lease = Lease::renewed(Instant::ZERO, interval);
            let backup_acts = Instant::ZERO + interval.duration() * PATIENCE + skew_time(interval, Priority(254));
            assert!(lease.until() < backup_acts);
            assert_eq!(lease.lapsed(lease.until()), Some(interval.duration() * PATIENCE));
            assert_eq!(lease.lapsed(Instant::from_nanos(lease.until().as_nanos() - 1)), None);
        }
    }
}
