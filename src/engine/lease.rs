//! The right to hold the addresses until an instant.
//!
//! It is renewed with each advert, from just before it is sent, for as long as every peer is sure to wait for the next
//! one. A backup waits [`PATIENCE`] intervals and its skew time after it *received* the last advert, so the lease has
//! always lapsed when a successor starts.

use core::time::Duration;

use super::election::PATIENCE;
use super::time::Instant;
use crate::types::AdvertInterval;

/// The unit of advert intervals.
const CENTISECOND: Duration = Duration::from_millis(10);

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

    /// An earlier agent's lease of this length is gone on with. It tells that agent's interval, or a shorter one where it was cut
    /// short on its way to the kernel: so it is kept for as long as if the interval had been almost the one promised now.
    /// `None` where that is not longer.
    pub fn inherited(now: Instant, term: Duration, interval: AdvertInterval) -> Option<Self> {
        let centiseconds = term.as_nanos().div_ceil(u128::from(PATIENCE) * CENTISECOND.as_nanos());
        let shorter = u16::try_from(centiseconds.max(1)).ok().and_then(AdvertInterval::from_centiseconds)?;
        (interval > shorter).then(|| Self { shorter, until: now + interval.duration() * STRETCH })
    }

    /// The same, but for no shorter time than one before it.
    pub fn no_shorter_than(self, earlier: Option<Self>) -> Self {
        Self { until: earlier.map_or(self.until, |earlier| self.until.max(earlier.until)), ..self }
    }

    /// The interval of adverts and lease until then.
    pub const fn pace(self) -> AdvertInterval {
        self.shorter
    }

    /// From when on no peer can still wait by the shorter interval.
    pub const fn until(self) -> Instant {
        self.until
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
    fn an_inherited_lease_tells_the_interval_it_was_made_for_and_never_a_longer_one() {
        let longer = AdvertInterval::from_centiseconds(4095).unwrap();
        for centiseconds in [1, 10, 33, 100, 4094] {
            let interval = AdvertInterval::from_centiseconds(centiseconds).unwrap();
            let lease = interval.duration() * PATIENCE;
            // What a renewal is given for its way, and what the kernel rounds down.
            for term in [lease, lease - Duration::from_micros(250), lease - Duration::from_millis(3)] {
                assert_eq!(Stretch::inherited(Instant::ZERO, term, longer).unwrap().pace(), interval);
            }
            let cut = Stretch::inherited(Instant::ZERO, lease / 4, longer).unwrap();
            assert!(cut.pace() <= interval);
            assert!(!cut.is_over(Instant::ZERO + interval.duration() * STRETCH));
            assert_eq!(Stretch::inherited(Instant::ZERO, lease, interval), None);
        }
    }

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
