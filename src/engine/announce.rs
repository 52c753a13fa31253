//! When the neighbours are told again. Who tells them, and how, is a driver's business.

use core::time::Duration;

use super::settings::AnnounceSettings;
use super::time::Instant;

/// While a rival keeps advertising, the neighbours are not told more often than this: each telling
/// is two frames an address, and a rival can last for ever.
pub const RIVAL_SPACING: Duration = Duration::from_secs(1);

/// The announcements of one ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncePlan {
    /// From which the repeats count.
    started_at: Instant,
    /// The last announcement.
    last_at: Instant,
    /// The next one.
    next_at: Option<Instant>,
}

impl AnnouncePlan {
    /// The plan of an owner that has just announced.
    pub fn start(now: Instant, settings: &AnnounceSettings) -> Self {
        let mut plan = Self { started_at: now, last_at: now, next_at: None };
        plan.schedule(settings);
        plan
    }

    /// The plan of an owner that the neighbours know already: it refreshes their memory.
    pub fn known(now: Instant, settings: &AnnounceSettings) -> Self {
        Self { started_at: now, last_at: now, next_at: settings.refresh.map(|period| now + period) }
    }

    /// When to announce next.
    pub const fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// The announcement of [`Self::next_at`] has been made.
    pub fn advance(&mut self, now: Instant, settings: &AnnounceSettings) {
        self.last_at = now;
        self.schedule(settings);
    }

    /// Other settings hold: what is past due by them comes at once.
    pub fn reschedule(&mut self, settings: &AnnounceSettings) {
        self.schedule(settings);
    }

    /// Somebody else may have announced itself: tell again, and repeat as after a claim. Whether to announce now.
    ///
    /// Where the last announcement is too fresh, the next one comes as soon as the spacing allows.
    pub fn restart(&mut self, now: Instant, settings: &AnnounceSettings, spacing: Duration) -> bool {
        let earliest = self.last_at + spacing;
        if now >= earliest {
            *self = Self::start(now, settings);
            return true;
        }
        self.started_at = now;
        self.next_at = Some(self.next_at.map_or(earliest, |next| next.min(earliest)));
        false
    }

    fn schedule(&mut self, settings: &AnnounceSettings) {
        let repeat = settings.repeat.iter().map(|after| self.started_at + *after).find(|at| *at > self.last_at);
        self.next_at = repeat.or_else(|| settings.refresh.map(|period| self.last_at + period));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn settings() -> AnnounceSettings {
        AnnounceSettings {
            repeat: [1, 5, 30].map(Duration::from_secs).to_vec(),
            refresh: Some(Duration::from_secs(60)),
        }
    }

    #[test]
    fn repeats_after_1_5_and_30_seconds_and_then_every_minute() {
        let mut plan = AnnouncePlan::start(at(0), &settings());
        for expected in [1, 5, 30, 90, 150] {
            assert_eq!(plan.next_at(), Some(at(expected)));
            plan.advance(at(expected), &settings());
        }
    }

    #[test]
    fn a_rival_restarts_the_repeats() {
        let mut plan = AnnouncePlan::start(at(0), &settings());
        plan.advance(at(1), &settings());
        assert!(plan.restart(at(10), &settings(), RIVAL_SPACING));
        assert_eq!(plan.next_at(), Some(at(11)));
        assert!(!plan.restart(at(10) + Duration::from_millis(1), &settings(), RIVAL_SPACING), "too fresh");
        assert_eq!(plan.next_at(), Some(at(11)));
    }

    #[test]
    fn no_refresh_ends_the_plan() {
        let settings = AnnounceSettings { repeat: [Duration::from_secs(1)].to_vec(), refresh: None };
        let mut plan = AnnouncePlan::start(at(0), &settings);
        plan.advance(at(1), &settings);
        assert_eq!(plan.next_at(), None);
    }
}
