//! Times as documents, records and the log have them.

use std::time::Duration;

/// With what is less, since a gap of 10 ms is measured in parts of one.
pub(super) fn exact(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Without what is less.
pub fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// As an operator reads it.
pub(super) fn shown(time: Duration) -> String {
    format!("{:.1} ms", exact(time))
}
