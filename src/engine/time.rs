//! The engine's time: instants that somebody else read from a clock, and the agenda of who is due when.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;
use core::num::NonZeroU64;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on the monotonic clock of whoever drives the engine, in nanoseconds since a moment of its choice.
///
/// Kept as one more than those, so that an `Option` of it takes no more memory: a vip has many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// The moment from which the driver counts.
    pub const ZERO: Self = Self::from_nanos(0);

    /// Nanoseconds since that moment: 584 years at most.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds since that moment.
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// How long after `earlier` this is; zero where it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instant").field(&self.as_nanos()).finish()
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Not before [`Self::ZERO`].
    fn sub(self, duration: Duration) -> Self {
        Self::from_nanos(self.as_nanos().saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Who is due when: at most one instant a key, the earliest found at once.
#[derive(Clone, Debug)]
pub struct Agenda<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K: Copy + Ord> Agenda<K> {
    /// Nobody is due.
    pub const fn new() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Replaces the instant of a key; `None` takes it off.
    pub fn set(&mut self, key: K, at: Option<Instant>) {
        if self.by_key.get(&key).copied() == at {
            return;
        }
        if let Some(old) = self.by_key.remove(&key) {
            self.by_time.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_key.insert(key, at);
            self.by_time.insert((at, key));
        }
    }

    /// The earliest instant.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The keys that are due at `now`, earliest first. They stay on until [`Self::set`] moves them.
    pub fn due(&self, now: Instant) -> alloc::vec::Vec<K> {
        self.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect()
    }
}

impl<K: Copy + Ord> Default for Agenda<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agenda_keeps_one_instant_a_key() {
        let mut agenda = Agenda::new();
        agenda.set('a', Some(Instant::from_nanos(30)));
        agenda.set('b', Some(Instant::from_nanos(20)));
        agenda.set('a', Some(Instant::from_nanos(10)));
        assert_eq!(agenda.next(), Some(Instant::from_nanos(10)));
        assert_eq!(agenda.due(Instant::from_nanos(20)), ['a', 'b']);
        agenda.set('a', None);
        assert_eq!(agenda.due(Instant::from_nanos(30)), ['b']);
    }
}
