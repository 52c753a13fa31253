//! What was dropped, counted by reason, and which of it is worth a line in the log.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::time::Instant;
use crate::wire::DropReason;

/// A reason that goes on is reported once in so long; the rest is in the counters.
pub const REPORT_SPACING: Duration = Duration::from_secs(60);

/// Drops by reason. Takes memory for those that occur only: most virtual routers never drop anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    by_index: BTreeMap<usize, Dropped>,
}

/// The drops of one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dropped {
    label: &'static str,
    count: u64,
    reported_at: Instant,
}

impl Drops {
    /// Counts one. Whether it should be reported too.
    pub fn count(&mut self, now: Instant, reason: &DropReason) -> bool {
        let Some(dropped) = self.by_index.get_mut(&reason.index()) else {
            let first = Dropped { label: reason.label(), count: 1, reported_at: now };
            self.by_index.insert(reason.index(), first);
            return true;
        };
        dropped.count = dropped.count.saturating_add(1);
        let due = now.since(dropped.reported_at) >= REPORT_SPACING;
        if due {
            dropped.reported_at = now;
        }
        due
    }

    /// The reasons that occurred, by label, with their counts.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.by_index.values().map(|dropped| (dropped.label, dropped.count))
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_index.values().fold(0, |sum, dropped| sum.saturating_add(dropped.count))
    }
}

/// How many events of one vip packets may cause within [`REPORT_SPACING`]. A pair that is set up differently causes
/// one or two; a forger is not worth more lines than that tell of him.
pub const REPORTS: u8 = 20;

/// How much was reported lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    window: Option<(Instant, u8)>,
}

impl Reports {
    /// Whether one more may be reported.
    pub fn permit(&mut self, now: Instant) -> bool {
        let (start, count) = match self.window {
            Some((start, count)) if now.since(start) < REPORT_SPACING => (start, count),
            Some(_) | None => (now, 0),
        };
        self.window = Some((start, count.saturating_add(1)));
        count < REPORTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_permitted_anew_each_minute() {
        let mut reports = Reports::default();
        let permitted = (0..1_000_u64).filter(|n| reports.permit(Instant::ZERO + Duration::from_millis(n * 100)));
        assert_eq!(permitted.count(), 2 * usize::from(REPORTS));
    }

    #[test]
    fn a_flood_is_counted_whole_and_reported_once_a_minute() {
        let mut drops = Drops::default();
        let reports = (0..1_000_u64)
            .filter(|n| drops.count(Instant::ZERO + Duration::from_millis(n * 100), &DropReason::ZeroVrid))
            .count();
        assert_eq!((reports, drops.total()), (2, 1_000));
        assert_eq!(drops.by_reason().collect::<Vec<_>>(), [("zero-vrid", 1_000)]);
    }
}
