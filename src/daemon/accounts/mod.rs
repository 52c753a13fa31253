//! Accounts of a time: how long each vip was up, what ended it, and how quickly it came back. Computed from journals alone.
//!
//! A journal tells what its node knew: that it owned the addresses, that it heard another owner, that it heard none, or
//! nothing. [`course`] makes that of the records, node by node; [`figures`] lays the nodes' knowledge side by side, and
//! counts. What nobody knew stays unknown, and is neither up nor down.

use std::time::SystemTime;

use serde::Serialize;

mod course;
mod figures;

pub use figures::{Outage, Takeovers, VipFigures};

use super::record::Record;

/// Nanoseconds since 1970, by the nodes' wall clocks.
type Nanos = i64;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// From when on; `None`: from the first record.
    pub since: Option<SystemTime>,
    /// Until when; `None`: until the last record.
    pub until: Option<SystemTime>,
    /// One vip alone.
    pub vip: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accounts {
    /// Grows when a field changes its meaning or goes.
    pub schema: u32,
    /// RFC 3339.
    pub since: String,
    /// RFC 3339.
    pub until: String,
    /// The nodes whose journals were read.
    pub nodes: Vec<String>,
    /// How the figures come about.
    pub definitions: Vec<Definition>,
    /// What makes them worth less.
    pub notes: Vec<String>,
    /// By name.
    pub vips: Vec<VipFigures>,
    /// Rehearsals: handovers whose reason is a drill, each of the two that a drill is.
    pub drills: Vec<Drill>,
}

/// A term, and what it means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Definition {
    /// The term.
    pub term: &'static str,
    /// Its meaning, or its formula.
    pub meaning: &'static str,
}

/// A rehearsal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drill {
    /// RFC 3339.
    pub at: String,
    /// Where.
    pub node: String,
    /// Of which vip.
    pub vip: Option<String>,
    /// Whether the vip was handed over.
    pub done: bool,
    /// How long it was owned by nobody.
    pub gap_ms: Option<f64>,
    /// What came of it.
    pub text: String,
}

const SCHEMA: u32 = 1;

/// What the figures mean: said with each answer.
pub const DEFINITIONS: [Definition; 11] = [
    Definition {
        term: "up",
        meaning: "a node in the journals owned the addresses; or none is known to have, and a Backup heard the adverts of an owner",
    },
    Definition {
        term: "down",
        meaning: "no node in the journals owned them, and one that took over afterwards heard no owner; or the journals are of \
                  several nodes, and each says that its node was not the owner and listened to none",
    },
    Definition {
        term: "unknown",
        meaning: "the rest: no agent ran, or one ended without a trace; events are lost; or nobody who listened took over. It is no \
                  part of any other figure, but of the bounds of availability, as if it was all down, and all up",
    },
    Definition {
        term: "failover",
        meaning: "a node took over from another. Each is in the journal of the node that took over, and only there. Not counted is one \
                  that had heard no owner since its agent started (no-owner-heard)",
    },
    Definition { term: "outage", meaning: "an unbroken time of being down; planned ones count as well" },
    Definition { term: "availability", meaning: "up / (up + down)" },
    Definition { term: "MTBF", meaning: "up / outages" },
    Definition { term: "MTTR", meaning: "down / outages" },
    Definition {
        term: "gap",
        meaning: "how long the addresses were down before a takeover. It is the most that it can have been: it begins with the last \
                  advert of the owner before, which lived on for up to an interval, and ends when the new owner has the addresses",
    },
    Definition {
        term: "two owners",
        meaning: "two nodes in the journals owned the addresses; a difference of their wall clocks shows here as well",
    },
    Definition {
        term: "time",
        meaning: "of each node, by the clock of its boot, laid against its wall clock by the last record of that boot; a vip is known \
                  by its name",
    },
];

/// Reckons up what journals say. `None`: they say nothing. Records may be of any nodes, in any order of files, and more
/// than once.
pub fn reckon(records: Vec<Record>, question: &Question) -> Option<Accounts> {
    let (nodes, mut notes) = course::nodes(records);
    let first = nodes.iter().map(|node| node.first).min()?;
    let last = nodes.iter().map(|node| node.last).max()?;
    let since = question.since.map_or(first, nanos);
    let until = question.until.map_or(last, nanos).max(since);
    if nodes.len() == 1 {
        notes.push(
            "of one node's journal: what happened while it was not the owner and heard none is unknown, and takeovers by others are \
             not counted; name the journals of all nodes to know more"
                .to_owned(),
        );
    }
    let vips = figures::of(&nodes, since, until, question.vip.as_deref());
    let mut drills: Vec<_> =
        nodes.iter().flat_map(|node| &node.drills).filter(|(at, _)| (since..=until).contains(at)).collect();
    drills.sort_by_key(|(at, _)| *at);
    let wanted = |drill: &&Drill| question.vip.is_none() || drill.vip == question.vip;
    Some(Accounts {
        schema: SCHEMA,
        since: shown(since),
        until: shown(until),
        nodes: nodes.iter().map(|node| node.name.clone()).collect(),
        definitions: DEFINITIONS.to_vec(),
        notes,
        vips,
        drills: drills.into_iter().map(|(_, drill)| drill).filter(wanted).cloned().collect(),
    })
}

fn nanos(time: SystemTime) -> Nanos {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| Nanos::try_from(since.as_nanos()).unwrap_or(Nanos::MAX))
}

fn shown(at: Nanos) -> String {
    let since = std::time::Duration::from_nanos(u64::try_from(at).unwrap_or(0));
    super::clock::rfc3339(SystemTime::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests;
