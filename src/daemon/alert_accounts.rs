//! How the alerts get through, for `vipd status`: kept by their threads, and read by that of the control socket. The
//! loop has no part in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::{self, rfc3339};
use crate::config::{Alert, Way};
use crate::engine::Instant;

/// How an alert gets through.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlertStatus {
    /// Its name.
    pub name: String,
    /// `webhook`, `exec` or `journal`.
    pub way: String,
    /// What matters less is not told: `info`, `warning` or `error`.
    pub severity: String,
    /// Events that were told, since the alert is as it is.
    pub delivered: u64,
    /// Events that wait.
    pub queued: u64,
    /// Events that nobody will be told of: there was no room, or they grew too old.
    pub dropped: u64,
    /// That the last attempt failed.
    pub failing: Option<AlertFailure>,
}

/// Since when an alert does not get through, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlertFailure {
    /// When the first of the attempts failed, RFC 3339.
    pub since: String,
    /// Seconds since then.
    pub since_s: f64,
    /// How many have failed in a row.
    pub attempts: u64,
    /// Seconds until the next one; none where it is under way, or there is none.
    pub retry_in_s: Option<f64>,
    /// Why the last one failed.
    pub why: String,
}

/// Those of all alerts, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts(Arc<Mutex<Vec<(Alert, Account)>>>);

/// That of one.
#[derive(Clone, Debug, Default)]
pub(super) struct Account(Arc<Mutex<Figures>>);

#[derive(Debug, Default)]
struct Figures {
    delivered: u64,
    queued: u64,
    dropped: u64,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    attempts: u64,
    retry_at: Option<Instant>,
    why: String,
}

impl Accounts {
    /// From now on it is these.
    pub(super) fn keep(&self, alerts: Vec<(Alert, Account)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = alerts;
    }

    /// As they are.
    pub(super) fn statuses(&self) -> Vec<AlertStatus> {
        let now = clock::now();
        let alerts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        alerts.iter().map(|(alert, account)| account.status(alert, now)).collect()
    }
}

impl Account {
    /// An event waits from now on.
    pub(super) fn queue(&self) {
        self.figures().queued += 1;
    }

    /// One that waited was told.
    pub(super) fn delivered(&self) {
        let mut figures = self.figures();
        figures.queued = figures.queued.saturating_sub(1);
        figures.delivered += 1;
        figures.failing = None;
    }

    /// One that waited waits no longer.
    pub(super) fn dropped(&self) {
        let mut figures = self.figures();
        figures.queued = figures.queued.saturating_sub(1);
        figures.dropped += 1;
    }

    /// So many never came to wait.
    pub(super) fn missed(&self, count: u64) {
        self.figures().dropped += count;
    }

    /// An attempt begins.
    pub(super) fn tries(&self) {
        if let Some(failing) = &mut self.figures().failing {
            failing.retry_at = None;
        }
    }

    /// It has failed.
    pub(super) fn failed(&self, why: &str, pause: Option<Duration>) {
        let now = clock::now();
        let mut figures = self.figures();
        let (since, before) = figures.failing.as_ref().map_or((now, 0), |it| (it.since, it.attempts));
        let retry_at = pause.map(|pause| now + pause);
        figures.failing = Some(Failing { since, attempts: before + 1, retry_at, why: why.to_owned() });
    }

    fn status(&self, alert: &Alert, now: Instant) -> AlertStatus {
        let Figures { delivered, queued, dropped, failing } = &*self.figures();
        let way = match alert.way {
            Way::Webhook(_) => "webhook",
            Way::Exec(_) => "exec",
            Way::Journal => "journal",
        };
        AlertStatus {
            name: alert.name.clone(),
            way: way.to_owned(),
            severity: alert.severity.name().to_owned(),
            delivered: *delivered,
            queued: *queued,
            dropped: *dropped,
            failing: failing.as_ref().map(|failing| AlertFailure {
                since: rfc3339(clock::wall_of(failing.since)),
                since_s: now.since(failing.since).as_secs_f64(),
                attempts: failing.attempts,
                retry_in_s: failing.retry_at.map(|at| at.since(now).as_secs_f64()),
                why: failing.why.clone(),
            }),
        }
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
