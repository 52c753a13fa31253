//! The nodes' knowledge side by side: up, down or unknown, and what is counted of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::course::{Course, Knowledge, NO_OWNER_HEARD, Node};
use super::{Nanos, shown};

/// Of one vip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VipFigures {
    /// Its name.
    pub vip: String,
    /// Up, in ms.
    pub up_ms: f64,
    /// Down, in ms.
    pub down_ms: f64,
    /// Neither is known, in ms.
    pub unknown_ms: f64,
    /// Two owners, in ms: a part of up.
    pub two_owners_ms: f64,
    /// How often a node saw a sign of a second owner.
    pub second_owner_signs: u64,
    /// `up / (up + down)`; `None`: nothing is known.
    pub availability: Option<f64>,
    /// The same if all that is unknown was down, and if it was up.
    pub availability_bounds: [f64; 2],
    /// `up / outages`.
    pub mtbf_ms: Option<f64>,
    /// `down / outages`.
    pub mttr_ms: Option<f64>,
    /// Each of them, the first one first.
    pub outages: Vec<Outage>,
    /// All takeovers but those of a node that had heard no owner since its start.
    pub failovers: Takeovers,
    /// By the cause to claim.
    pub takeovers_by_cause: BTreeMap<String, Takeovers>,
    /// How often an ownership ended, by its cause.
    pub ownerships_ended: BTreeMap<String, u64>,
}

/// A time of being down.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outage {
    /// RFC 3339.
    pub since: String,
    /// For how long.
    pub ms: f64,
    /// It begins or ends where something is unknown, or at an end of the time that was asked for: it may have been longer.
    pub at_least: bool,
}

/// Takeovers, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Takeovers {
    /// How many.
    pub count: u64,
    /// Of how many of them the gap is unknown.
    pub gap_unknown: u64,
    /// Of the known gaps.
    pub gap_median_ms: Option<f64>,
    /// Of the known gaps.
    pub gap_slowest_ms: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Up,
    Down,
    Unknown,
}

/// An unbroken time of one verdict.
#[derive(Clone, Copy, Debug)]
struct Span {
    since: Nanos,
    until: Nanos,
    verdict: Verdict,
}

impl Span {
    const fn length(&self) -> Nanos {
        self.until - self.since
    }
}

/// Of each vip that the journals know, or of one.
pub(super) fn of(nodes: &[Node], since: Nanos, until: Nanos, wanted: Option<&str>) -> Vec<VipFigures> {
    let names: BTreeSet<&String> = nodes.iter().flat_map(|node| node.vips.keys()).collect();
    let wanted = names.into_iter().filter(|name| wanted.is_none_or(|wanted| wanted == *name));
    wanted.map(|vip| of_vip(nodes, vip, since, until)).collect()
}

fn of_vip(nodes: &[Node], vip: &str, since: Nanos, until: Nanos) -> VipFigures {
    let courses: Vec<&Course> = nodes.iter().filter_map(|node| node.vips.get(vip)).collect();
    let (spans, two_owners) = lay_side_by_side(&courses, since, until);
    let total = |verdict| spans.iter().filter(|span| span.verdict == verdict).map(Span::length).sum::<Nanos>();
    let (up, down, unknown) = (total(Verdict::Up), total(Verdict::Down), total(Verdict::Unknown));
    let outages = outages(&spans);
    let count = outages.len();
    let inside = |at: Nanos| since <= at && at <= until;

    let mut gaps: BTreeMap<String, Vec<Option<Nanos>>> = BTreeMap::new();
    for takeover in nodes.iter().flat_map(|node| &node.takeovers).filter(|it| it.vip == vip && inside(it.at)) {
        gaps.entry(takeover.cause.clone()).or_default().push(gap(&spans, takeover.at));
    }
    let failovers = gaps.iter().filter(|(cause, _)| *cause != NO_OWNER_HEARD);
    let mut ownerships_ended = BTreeMap::new();
    for ending in nodes.iter().flat_map(|node| &node.endings).filter(|it| it.vip == vip && inside(it.at)) {
        *ownerships_ended.entry(ending.cause.clone()).or_default() += 1;
    }
    let signs = nodes.iter().flat_map(|node| &node.rivals).filter(|(at, of)| of == vip && inside(*at)).count();
    VipFigures {
        vip: vip.to_owned(),
        up_ms: ms(up),
        down_ms: ms(down),
        unknown_ms: ms(unknown),
        two_owners_ms: ms(two_owners),
        second_owner_signs: u64::try_from(signs).unwrap_or(u64::MAX),
        availability: share(up, up + down),
        availability_bounds: [up, up + unknown].map(|part| share(part, until - since).unwrap_or(0.0)),
        mtbf_ms: mean(up, count),
        mttr_ms: mean(down, count),
        failovers: Takeovers::of(failovers.flat_map(|(_, gaps)| gaps).copied().collect()),
        takeovers_by_cause: gaps.into_iter().map(|(cause, gaps)| (cause, Takeovers::of(gaps))).collect(),
        outages,
        ownerships_ended,
    }
}

/// The spans of equal verdicts, and for how long there were two owners.
fn lay_side_by_side(courses: &[&Course], since: Nanos, until: Nanos) -> (Vec<Span>, Nanos) {
    let mut times: BTreeSet<Nanos> = courses.iter().flat_map(|course| course.times()).collect();
    times = times.into_iter().filter(|at| since < *at && *at < until).chain([since, until]).collect();
    let times: Vec<Nanos> = times.into_iter().collect();
    let (mut spans, mut two_owners): (Vec<Span>, Nanos) = (Vec::new(), 0);
    for pair in times.windows(2) {
        let [since, until] = [pair[0], pair[1]];
        let known: Vec<Knowledge> = courses.iter().map(|course| course.at(since)).collect();
        if known.iter().filter(|known| **known == Knowledge::Owns).count() > 1 {
            two_owners += until - since;
        }
        let verdict = verdict(&known);
        match spans.last_mut().filter(|last| last.verdict == verdict) {
            Some(last) => last.until = until,
            None => spans.push(Span { since, until, verdict }),
        }
    }
    (spans, two_owners)
}

fn verdict(known: &[Knowledge]) -> Verdict {
    let has = |wanted: Knowledge| known.contains(&wanted);
    // Who is about to take over knows better than who only listens: a third node need not notice that an owner was missing.
    if has(Knowledge::Owns) {
        Verdict::Up
    } else if has(Knowledge::Missing) {
        Verdict::Down
    } else if has(Knowledge::Hears) {
        Verdict::Up
    } else if known.len() > 1 && known.iter().all(|known| *known == Knowledge::Away) {
        Verdict::Down
    } else {
        Verdict::Unknown
    }
}

fn outages(spans: &[Span]) -> Vec<Outage> {
    let is_up =
        |index: Option<usize>| index.and_then(|index| spans.get(index)).is_some_and(|it| it.verdict == Verdict::Up);
    let down = spans.iter().enumerate().filter(|(_, span)| span.verdict == Verdict::Down);
    let outage = |(index, span): (usize, &Span)| Outage {
        since: shown(span.since),
        ms: ms(span.length()),
        at_least: !is_up(index.checked_sub(1)) || !is_up(index.checked_add(1)),
    };
    down.map(outage).collect()
}

/// How long it had been down at a takeover; `None`: unknown.
fn gap(spans: &[Span], at: Nanos) -> Option<Nanos> {
    let before = spans.iter().rfind(|span| span.since < at)?;
    match before.verdict {
        Verdict::Up => Some(0),
        Verdict::Down => Some(at - before.since),
        Verdict::Unknown => None,
    }
}

impl Takeovers {
    fn of(gaps: Vec<Option<Nanos>>) -> Self {
        let mut known: Vec<Nanos> = gaps.iter().copied().flatten().collect();
        known.sort_unstable();
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        Self {
            count: count(gaps.len()),
            gap_unknown: count(gaps.len() - known.len()),
            gap_median_ms: median(&known),
            gap_slowest_ms: known.last().map(|gap| ms(*gap)),
        }
    }
}

/// Of an even number, the mean of the two in the middle.
fn median(sorted: &[Nanos]) -> Option<f64> {
    let (lower, upper) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(ms(lower + upper) / 2.0)
}

fn mean(total: Nanos, count: usize) -> Option<f64> {
    let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
    Some(ms(total) / f64::from(count))
}

fn share(part: Nanos, whole: Nanos) -> Option<f64> {
    (whole > 0).then(|| ms(part) / ms(whole))
}

/// Exact to the microsecond for thirty years.
fn ms(time: Nanos) -> f64 {
    time as f64 / 1e6
}
