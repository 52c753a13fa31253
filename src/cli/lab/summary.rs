//! What came of all runs: the table, and the JSON document.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::show::{Shown, ms};
use crate::cli::output::table;
use crate::lab::{Bound, Outcome, Return, Scenario};

/// The version of the JSON output. It grows when a field changes its meaning or goes away.
const JSON_VERSION: u32 = 1;

/// All runs of a scenario.
pub(super) struct Series {
    scenario: Scenario,
    bound: Bound,
    runs: Vec<(Outcome, Vec<Shown>)>,
}

/// All that was done.
pub(super) struct Document {
    advert: Duration,
    priorities: [u8; 2],
    address: IpAddr,
    series: Vec<Series>,
}

/// Of some durations.
#[derive(Clone, Copy)]
struct Spread {
    median: Duration,
    min: Duration,
    max: Duration,
}

impl Series {
    pub(super) const fn new(scenario: Scenario, bound: Bound, runs: Vec<(Outcome, Vec<Shown>)>) -> Self {
        Self { scenario, bound, runs }
    }

    fn spread(&self, of: impl Fn(&Outcome) -> Option<Duration>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|(outcome, _)| of(outcome)).collect())
    }

    fn takeover(&self) -> Option<Spread> {
        self.spread(|outcome| outcome.measured.takeover)
    }

    fn outage(&self) -> Option<Spread> {
        self.spread(|outcome| Some(outcome.measured.outage))
    }

    fn two_owners(&self) -> Option<Spread> {
        self.spread(|outcome| Some(outcome.measured.dual))
    }

    fn two_leases(&self) -> Option<Spread> {
        self.spread(|outcome| outcome.both_leased)
    }

    fn settled(&self) -> Option<Spread> {
        self.spread(|outcome| outcome.settled)
    }

    /// Questions without an answer: the median, and the most.
    fn lost(&self) -> Option<(usize, usize)> {
        let mut lost: Vec<usize> = self.runs.iter().map(|(outcome, _)| outcome.measured.lost).collect();
        lost.sort_unstable();
        Some((*lost.get(lost.len() / 2)?, *lost.last()?))
    }

    fn row(&self) -> [String; 14] {
        let of = |spread: Option<Spread>, get: fn(Spread) -> Duration| {
            spread.map_or_else(|| "never".to_owned(), |spread| ms(get(spread)))
        };
        let (takeover, outage, two) = (self.takeover(), self.outage(), self.two_owners());
        let two = |get: fn(Spread) -> Duration| {
            two.filter(|two| !two.max.is_zero()).map_or_else(|| "never".to_owned(), |two| ms(get(two)))
        };
        [
            self.scenario.name().to_owned(),
            self.runs.len().to_string(),
            of(outage, |spread| spread.median),
            of(outage, |spread| spread.min),
            of(outage, |spread| spread.max),
            self.lost().map_or_else(String::new, |lost| lost.0.to_string()),
            self.lost().map_or_else(String::new, |lost| lost.1.to_string()),
            of(takeover, |spread| spread.median),
            of(takeover, |spread| spread.max),
            ms(self.bound.takeover),
            two(|spread| spread.median),
            two(|spread| spread.max),
            match self.two_leases() {
                None => "unknown".to_owned(),
                Some(both) if both.max.is_zero() => "never".to_owned(),
                Some(both) => ms(both.max),
            },
            if self.well() { "yes" } else { "NO" }.to_owned(),
        ]
    }

    /// Whether each run ended as it should.
    fn well(&self) -> bool {
        self.runs.iter().all(|(outcome, _)| {
            let silent = outcome.returned.is_none_or(Return::is_silent);
            outcome.healed.is_ok() && outcome.measured.takeover.is_some() && silent
        })
    }

    fn json(&self) -> Json {
        let runs: Vec<_> = self.runs.iter().map(|(outcome, events)| run_json(outcome, events)).collect();
        json!({
            "scenario": self.scenario,
            "fault": self.scenario.fault(),
            "takeover_bound_ms": millis(self.bound.takeover),
            "takeover_bound": self.bound.formula,
            "outage_ms": self.outage().map(Spread::json),
            "lost_probes": self.lost().map(|(median, max)| json!({ "median": median, "max": max })),
            "takeover_ms": self.takeover().map(Spread::json),
            "two_owners_ms": self.two_owners().map(Spread::json),
            "two_leases_ms": self.two_leases().map(Spread::json),
            "settled_ms": self.settled().map(Spread::json),
            "well": self.well(),
            "runs": runs,
        })
    }
}

impl Document {
    pub(super) const fn new(advert: Duration, priorities: [u8; 2], address: IpAddr, series: Vec<Series>) -> Self {
        Self { advert, priorities, address, series }
    }

    /// Whether each run ended as it should.
    pub(super) fn well(&self) -> bool {
        self.series.iter().all(Series::well)
    }

    /// For a person.
    pub(super) fn table(&self) -> String {
        let header = [
            "SCENARIO",
            "RUNS",
            "OUTAGE",
            "MIN",
            "MAX",
            "LOST",
            "MAX",
            "TAKEOVER",
            "MAX",
            "BOUND",
            "TWO OWNERS",
            "MAX",
            "TWO LEASES",
            "WELL AFTER",
        ];
        let mut rows = vec![header.map(str::to_owned)];
        rows.extend(self.series.iter().map(Series::row));
        format!(
            "\n{}\n\
             OUTAGE      the longest time for which nobody answered the client (median, and of all runs)\n\
             LOST        how many of the client's questions, one a millisecond, nobody answered (median, and the most)\n\
             TAKEOVER    from the fault to the first answer of the successor; BOUND is the longest that VRRP allows\n\
             TWO OWNERS  how long two hosts answered (median, and the longest)\n\
             TWO LEASES  how long the kernels of both nodes had a lease on it, by their own account (the longest)\n",
            table(&rows)
        )
    }

    /// For a program.
    pub(super) fn json(&self) -> String {
        let document = json!({
            "version": JSON_VERSION,
            "advert_interval_ms": millis(self.advert),
            "priorities": self.priorities,
            "address": self.address,
            "well": self.well(),
            "scenarios": self.series.iter().map(Series::json).collect::<Vec<_>>(),
        });
        format!("{document:#}\n")
    }
}

impl Spread {
    fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        let (min, max) = (*durations.first()?, *durations.last()?);
        // Of an even number the mean of the middle two.
        let (low, high) = (durations.get((durations.len() - 1) / 2)?, durations.get(durations.len() / 2)?);
        Some(Self { median: (*low + *high) / 2, min, max })
    }

    fn json(self) -> Json {
        json!({ "median": millis(self.median), "min": millis(self.min), "max": millis(self.max) })
    }
}

fn run_json(outcome: &Outcome, events: &[Shown]) -> Json {
    let measured = &outcome.measured;
    let event = |shown: &Shown| {
        json!({
            "at_ms": since(outcome.fault, shown.at),
            "who": shown.who,
            "what": shown.what,
            "from": shown.event.as_ref().and_then(|event| event.from.as_ref()),
            "to": shown.event.as_ref().map(|event| &event.to),
            "cause": shown.event.as_ref().and_then(|event| event.cause.as_ref()),
        })
    };
    json!({
        "outage_ms": millis(measured.outage),
        "lost_probes": measured.lost,
        "takeover_ms": measured.takeover.map(millis),
        "two_owners_ms": millis(measured.dual),
        "two_owners_from_ms": measured.dual_from.map(millis),
        "two_owners_until_ms": measured.dual_until.map(millis),
        "two_leases_ms": outcome.both_leased.map(millis),
        "wrong_host_ms": outcome.astray.map(millis),
        "settled_ms": outcome.settled.map(millis),
        "returned": outcome.returned.map(|it| json!({
            "answers": it.answers,
            "announcements": it.announcements,
            "transitions_of_the_other": it.transitions,
        })),
        "well": outcome.healed.is_ok(),
        "error": outcome.healed.as_ref().err(),
        "events": events.iter().map(event).collect::<Vec<_>>(),
    })
}

/// Milliseconds after the fault, negative before it.
fn since(fault: Instant, at: Instant) -> f64 {
    at.checked_duration_since(fault).map_or_else(|| -millis(fault - at), millis)
}

/// Milliseconds with three decimals at most.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        let of = |ms: &[u64]| Spread::of(ms.iter().copied().map(Duration::from_millis).collect());
        assert!(of(&[]).is_none());
        let spread = of(&[30, 10, 20]).expect("not empty");
        assert_eq!(spread.median, Duration::from_millis(20));
        let spread = of(&[40, 10, 20, 30]).expect("not empty");
        let ms = Duration::from_millis;
        assert_eq!((spread.median, spread.min, spread.max), (ms(25), ms(10), ms(40)));
    }
}
