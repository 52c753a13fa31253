//! How late the loop woke for its deadlines: what tells a starved host from a healthy one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The upper bounds of the histogram's classes, microseconds; one more class holds the rest.
const BOUNDS_US: [u64; 7] = [50, 100, 500, 1_000, 5_000, 20_000, 100_000];

/// A histogram of lateness since the start.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Lateness {
    /// The upper bounds of the classes, microseconds.
    pub bounds_us: Vec<u64>,
    /// How many deadlines fell into each class; the last holds those beyond all bounds.
    pub counts: Vec<u64>,
    /// The worst, microseconds.
    pub max_us: u64,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { bounds_us: BOUNDS_US.to_vec(), counts: vec![0; BOUNDS_US.len() + 1], max_us: 0 }
    }
}

impl Lateness {
    /// Counts one deadline.
    pub(super) fn record(&mut self, late: Duration) {
        let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS_US.iter().position(|bound| late_us <= *bound).unwrap_or(BOUNDS_US.len());
        self.counts[class] += 1;
        self.max_us = self.max_us.max(late_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_falls_into_the_class_that_bounds_it() {
        let mut lateness = Lateness::default();
        for late_us in [0, 50, 51, 100_001] {
            lateness.record(Duration::from_micros(late_us));
        }
        assert_eq!(lateness.counts, [2, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(lateness.max_us, 100_001);
    }
}
