//! `[node] heartbeat`: the second paths, on which nodes tell each other how they are beside the adverts.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::address;
use super::duration::duration;
use super::problem::{Findings, Kind};
use super::read::{Table, Value};
use super::system::System;
use super::vip;

/// More paths than a host has links to its peers. Each carries each heartbeat.
const MAX_PATHS: usize = 8;
const DEFAULT_INTERVAL: Duration = Duration::from_millis(100);
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);

/// A way to the other nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeartbeatPath {
    /// Whoever is on this link.
    Interface(String),
    /// The node that has this address, as the host's routes say.
    Peer(IpAddr),
}

impl std::fmt::Display for HeartbeatPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interface(name) => f.write_str(name),
            Self::Peer(address) => address.fmt(f),
        }
    }
}

/// `heartbeat_interval`.
pub(super) fn interval(table: &mut Table<'_>, findings: &mut Findings) -> Duration {
    table.optional("heartbeat_interval", DEFAULT_INTERVAL, findings, |value, findings| {
        duration(value, INTERVAL, "", "\"100ms\"", findings)
    })
}

/// `heartbeat`; `is_sealed`: there is a `[seal]`, be it right or wrong.
pub(super) fn paths(
    table: &mut Table<'_>,
    is_sealed: bool,
    system: &System,
    findings: &mut Findings,
) -> Vec<HeartbeatPath> {
    let Some(value) = table.value("heartbeat") else { return Vec::new() };
    let Some(elements) = value.array("[{ interface = \"eno2\" }]", findings) else { return Vec::new() };
    if elements.len() > MAX_PATHS {
        let remedy = format!("list at most {MAX_PATHS}");
        value.refuse(Kind::OutOfRange, "too many `heartbeat` paths", elements.len().to_string(), remedy, findings);
    }
    if !is_sealed && !elements.is_empty() {
        let remedy = "make a key with `vipd keygen`, the same on all nodes, and name its file: `[seal] key_file = \"/etc/vipd/key\"`";
        value.refuse(Kind::Conflict, "`heartbeat` needs a `[seal]`", "nobody would be believed", remedy, findings);
    }
    let mut paths = Vec::new();
    for element in elements.iter().take(MAX_PATHS) {
        let Some(table) = element.table("heartbeat", "{ interface = \"eno2\" }", findings) else { continue };
        let Some(path) = path(*element, table, system, findings) else { continue };
        if paths.contains(&path) {
            element.refuse(Kind::Duplicate, "this path is listed twice", "again", "remove one of the two", findings);
        } else {
            paths.push(path);
        }
    }
    paths
}

fn path(value: Value<'_>, mut table: Table<'_>, system: &System, findings: &mut Findings) -> Option<HeartbeatPath> {
    let (interface, address) = (table.value("interface"), table.value("peer"));
    table.finish(findings);
    match (interface, address) {
        (Some(interface), None) => vip::interface(interface, system, findings).map(HeartbeatPath::Interface),
        (None, Some(address)) => peer(address, findings).map(HeartbeatPath::Peer),
        (Some(_), Some(_)) | (None, None) => {
            let remedy =
                "write { interface = \"eno2\" } to find the nodes on a link, or { peer = \"192.0.2.7\" } for one";
            value.refuse(Kind::Conflict, "a path is either an `interface` or a `peer`", "", remedy, findings);
            None
        }
    }
}

fn peer(value: Value<'_>, findings: &mut Findings) -> Option<IpAddr> {
    let remedy = "write the peer's own address on the second path, as in \"192.0.2.7\"";
    let of_link = "name the link instead: { interface = \"eno2\" }";
    address::of_node(value, "\"192.0.2.7\"", [remedy, of_link], findings)
}
