//! `[fence.self]`: the hardware watchdog resets this host when it may be an owner that nobody can stop any more.
//!
//! Armed while this node owns addresses, and until they are gone; a node that owns nothing harms nobody, and its host
//! is not reset for it. Fed by the loop itself: one that is stuck does not feed. Nor is it fed once addresses could not
//! be taken away where the kernel does not enforce the lease. Stopping disarms it, once the addresses are gone.

use std::path::Path;

use super::log::{Entry, Log};
use crate::driver::watchdog::Watchdog;
use crate::engine::{Instant, WatchdogSettings};

/// How often it is fed within its timeout.
const FEEDS: u32 = 3;

/// The watchdog, where one is configured.
#[derive(Debug)]
pub(super) struct SelfFence {
    settings: Option<WatchdogSettings>,
    watchdog: Option<Watchdog>,
    next_feed: Option<Instant>,
    /// It is the watchdog's turn.
    starved: bool,
}

impl SelfFence {
    /// Armed at once: one that a killed agent left armed is fed again, and disarmed where nothing is owned.
    pub(super) fn new(settings: Option<WatchdogSettings>, now: Instant, log: &Log) -> Self {
        let mut this = Self { settings, watchdog: None, next_feed: None, starved: false };
        this.arm(now, log);
        this
    }

    /// Whether there is anything to do.
    pub(super) const fn is_configured(&self) -> bool {
        self.settings.is_some()
    }

    /// When it wants to be fed.
    pub(super) const fn next_feed(&self) -> Option<Instant> {
        if self.starved { None } else { self.next_feed }
    }

    /// The loop turns.
    pub(super) fn feed(&mut self, now: Instant, log: &Log) {
        let (Some(watchdog), Some(next)) = (&mut self.watchdog, self.next_feed) else { return };
        if !self.starved && now >= next {
            self.next_feed = Some(now + watchdog.timeout() / FEEDS);
            if let Err(error) = watchdog.feed() {
                log.write(Entry::Trouble(error.to_string()));
            }
        }
    }

    /// What this node owns, or has not got rid of yet, has changed.
    pub(super) fn follow(&mut self, owns: bool, now: Instant, log: &Log) {
        match (owns, &self.watchdog) {
            (true, None) => self.arm(now, log),
            (false, Some(_)) => self.disarm(log),
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Addresses that this node no longer owns are still there, and answer.
    pub(super) fn starve(&mut self, log: &Log) {
        if let Some(watchdog) = &self.watchdog
            && !self.starved
        {
            self.starved = true;
            let within = watchdog.timeout();
            log.write(Entry::Trouble(format!(
                "addresses that this node does not own cannot be taken away: the watchdog resets this host within {within:?}"
            )));
        }
    }

    /// Other settings hold from now on.
    pub(super) fn reload(&mut self, settings: Option<WatchdogSettings>, owns: bool, now: Instant, log: &Log) {
        if self.settings != settings {
            self.disarm(log);
            self.settings = settings;
            self.follow(owns, now, log);
        }
    }

    /// The host is not reset any more, unless it must be.
    pub(super) fn disarm(&mut self, log: &Log) {
        if self.starved || !self.watchdog.as_ref().is_some_and(Watchdog::can_be_disarmed) {
            return;
        }
        if let Some(Err(error)) = self.watchdog.take().map(Watchdog::disarm) {
            log.write(Entry::Trouble(error.to_string()));
        }
        self.next_feed = None;
    }

    fn arm(&mut self, now: Instant, log: &Log) {
        let Some(WatchdogSettings { path, timeout }) = &self.settings else { return };
        match Watchdog::arm(Path::new(path), *timeout) {
            Ok(watchdog) => {
                if !watchdog.can_be_disarmed() {
                    let text = format!("{path} cannot be disarmed (nowayout): this host is reset after the agent ends");
                    log.write(Entry::Trouble(text));
                }
                self.next_feed = Some(now + watchdog.timeout() / FEEDS);
                self.watchdog = Some(watchdog);
            }
            Err(error) => {
                let text = format!("this host is NOT reset where it cannot give its addresses up: {error}");
                log.write(Entry::Trouble(text));
            }
        }
    }
}
