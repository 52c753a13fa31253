//! What systemd is told: ready, stopping, and that the loop turns (`Type=notify`, `WatchdogSec`).

use std::time::Duration;

use sd_notify::NotifyState;

use super::clock;
use crate::engine::Instant;

/// The supervisor, where there is one.
#[derive(Debug)]
pub(super) struct Supervisor {
    ready: bool,
    /// How often the watchdog is fed: half of what it allows.
    period: Option<Duration>,
    next_beat: Option<Instant>,
}

impl Supervisor {
    /// As `NOTIFY_SOCKET` and `WATCHDOG_USEC` say.
    pub(super) fn of_environment() -> Self {
        let period = sd_notify::watchdog_enabled().map(|timeout| timeout / 2);
        Self { ready: false, period, next_beat: period.map(|period| clock::now() + period) }
    }

    /// When the watchdog wants to be fed.
    pub(super) const fn next_beat(&self) -> Option<Instant> {
        self.next_beat
    }

    /// The loop turns.
    pub(super) fn beat(&mut self, now: Instant) {
        if let (Some(period), Some(next)) = (self.period, self.next_beat)
            && now >= next
        {
            tell(&[NotifyState::Watchdog]);
            self.next_beat = Some(now + period);
        }
    }

    /// The agent takes part in elections. Said once.
    pub(super) fn ready(&mut self) {
        if !std::mem::replace(&mut self.ready, true) {
            tell(&[NotifyState::Ready]);
        }
    }

    /// Whether it was said.
    pub(super) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// What it does, for `systemctl status`.
    pub(super) fn tell_status(&self, status: &str) {
        tell(&[NotifyState::Status(status)]);
    }

    /// The agent is giving everything up.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

/// A supervisor that does not listen must not stop the loop; systemd acts by itself on what it does not hear.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("notify the supervisor: {error}");
    }
}
