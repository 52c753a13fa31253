//! `[[spread]]`: vips that are shared among the nodes. [`crate::engine::spread`] ranks the nodes for each; here a rank becomes this
//! node's `priority` of the vip, and the delay its `preempt`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use super::across::Across;
use super::duration::duration;
use super::problem::{Findings, Kind, Problem};
use super::read::{Table, Value, printable};
use super::system::{MissingInterface, System};
use super::vip;
use super::vip_options::PREEMPT_DELAY;
use crate::engine::spread::{self, MAX_NODES, MAX_VIPS, MAX_WEIGHT};
use crate::engine::{Preempt, SpreadPlace};
use crate::types::Priority;
use crate::wire::seal::is_name;

/// As long as a host may need from its boot until its services are as fast as they were.
const DEFAULT_DELAY: Duration = Duration::from_secs(30);

/// Vips that are shared among nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Unique in the file.
    pub name: String,
    /// The weight of each node.
    pub nodes: BTreeMap<String, u8>,
    /// How long a node that came back waits before it takes its share.
    pub delay: Duration,
    /// The nodes for each vip, the preferred one first.
    pub orders: BTreeMap<String, Vec<String>>,
}

impl Spread {
    /// The vips of a node that are its own while all live.
    pub fn share(&self, node: &str) -> impl Iterator<Item = &str> {
        self.orders
            .iter()
            .filter(move |(_, order)| order.first().is_some_and(|first| first == node))
            .map(|(vip, _)| vip.as_str())
    }
}

/// All spreads.
#[derive(Default)]
pub(super) struct Spreads {
    spreads: Vec<Spread>,
    names: Vec<(String, Range<usize>)>,
    shares: HashMap<String, Share>,
}

/// What a spread makes of a vip.
pub(super) struct Share {
    /// The spread's name, where it has one.
    spread: Option<String>,
    /// Where the vip is listed.
    pub(super) at: Range<usize>,
    /// `None`: the spread is wrong, and was reported.
    settled: Option<(Priority, Preempt, SpreadPlace)>,
}

impl Share {
    /// Whose it is, for messages.
    pub(super) fn of(&self) -> String {
        self.spread.as_ref().map_or_else(|| "a spread".to_string(), |name| format!("the spread `{name}`"))
    }

    /// The priority and the preemption of the vip, which has none of its own.
    pub(super) fn settle(&self, table: &mut Table<'_>, findings: &mut Findings) -> (Priority, Preempt) {
        let own = [
            ("priority", "remove it: the spread ranks the nodes for each of its vips"),
            ("preempt", "remove it: the spread's `delay` says when a node that came back takes its share"),
        ];
        for (key, remedy) in own {
            let Some(value) = table.value(key) else { continue };
            let is_owner = matches!(value.raw(), DeValue::Integer(number) if number.as_str() == "255");
            let remedy = if is_owner {
                "take the vip out of the spread: who owns its addresses shares them with nobody"
            } else {
                remedy
            };
            let message = format!("a vip of {} has no `{key}` of its own", self.of());
            let problem = Problem::at(value.span(), Kind::Conflict, message, "", remedy);
            findings.refuse(problem.because_of(self.at.clone(), "it is listed here"));
        }
        let settled = self.settled.as_ref();
        settled.map_or((Priority::DEFAULT, Preempt::On), |(priority, preempt, _)| (*priority, *preempt))
    }

    /// How it is ranked.
    pub(super) fn place(&self) -> Option<SpreadPlace> {
        self.settled.as_ref().map(|(_, _, place)| place.clone())
    }
}

/// Which node a file is judged as that is for another machine and names none: the first of a spread of which this host is
/// no node. A file that is the same on all nodes is right or wrong on each of them.
pub(super) fn stand_in(tables: Option<Value<'_>>, system: &System, findings: &mut Findings) -> Option<String> {
    if system.missing_interface != MissingInterface::Ignore {
        return None;
    }
    // What is no spread is reported where it is read.
    let first = tables?.raw().as_array()?.first()?.get_ref().as_table()?;
    let nodes = first.get("nodes")?.get_ref().as_table()?;
    let (name, at) = nodes.keys().map(|name| (name.get_ref(), name.span())).min_by_key(|(_, at)| at.start)?;
    if !is_name(name) || nodes.contains_key(system.host_name.as_str()) {
        return None;
    }
    let message = format!("this host is none of the nodes: the file is judged as on `{name}`, the first of them");
    findings.note(at, message, "say with `[node] name` which node to judge it as");
    Some(name.to_string())
}

impl Spreads {
    /// Reads all tables, as the node of this name. The vips are not known yet; see [`Self::check`].
    pub(super) fn read(tables: Option<Value<'_>>, node: &str, findings: &mut Findings) -> Self {
        let mut spreads = Self::default();
        let tables =
            tables.and_then(|tables| tables.array("[[spread]] with double brackets, once for each spread", findings));
        for table in tables.unwrap_or_default() {
            if let Some(table) = table.table("[[spread]]", "[[spread]]", findings) {
                spreads.spread(table, node, findings);
            }
        }
        spreads
    }

    /// Reports the vips that there are none of.
    pub(super) fn check(&self, across: &Across, findings: &mut Findings) {
        for (name, share) in self.shares.iter().filter(|(name, _)| !across.has_vip(name)) {
            let message = format!("there is no vip named `{}`", printable(name));
            let remedy = "write the `name` of a [[vip]] of this file";
            findings.refuse(Problem::at(share.at.clone(), Kind::Invalid, message, "", remedy));
        }
    }

    /// What the spread of a vip makes of it, if it is in one.
    pub(super) fn share(&self, vip: &str) -> Option<&Share> {
        self.shares.get(vip)
    }

    /// All of them, in the order of the file.
    pub(super) fn finish(self) -> Vec<Spread> {
        self.spreads
    }

    fn spread(&mut self, mut table: Table<'_>, node: &str, findings: &mut Findings) {
        let name = table.required("name", "\"dns\"").and_then(|value| vip::name(value, findings));
        let listed = table.required("vips", "[\"dns1\", \"dns2\"]");
        let vips = listed.map(|value| self.vips(value, findings)).unwrap_or_default();
        let nodes = table.required("nodes", "{ a = 2, b = 1 }").and_then(|value| nodes(value, node, findings));
        let delay = table.optional("delay", DEFAULT_DELAY, findings, |value, findings| {
            duration(value, PREEMPT_DELAY, "", "\"30s\"", findings)
        });
        table.finish(findings);
        if let Some((name, at)) = &name {
            if let Some((_, first)) = self.names.iter().find(|(known, _)| known == name) {
                let message = format!("two spreads are named `{name}`");
                let problem =
                    Problem::at(at.clone(), Kind::Duplicate, message, "again", "give each spread its own name");
                findings.refuse(problem.because_of(first.clone(), "first here"));
            }
            self.names.push((name.clone(), at.clone()));
        }
        let name = name.map(|(name, _)| name);
        let spread = name.as_ref().zip(nodes).map(|(name, nodes)| {
            let names = vips.iter().map(|(vip, _)| vip.clone()).collect();
            Spread { name: name.clone(), delay, orders: spread::orders(name, &nodes, &names), nodes }
        });
        for (vip, at) in vips {
            let settled = spread.as_ref().and_then(|spread| settled(spread, &vip, node));
            self.shares.insert(vip, Share { spread: name.clone(), at, settled });
        }
        if let (Some(spread), Some(listed)) = (&spread, listed) {
            for (node, _) in
                spread.nodes.iter().filter(|(node, weight)| **weight > 0 && spread.share(node).next().is_none())
            {
                let message =
                    format!("of the vips of `{}` none is for `{node}`, unless another node dies", spread.name);
                findings.note(listed.span(), message, "list more vips, or give it a larger weight, or 0");
            }
        }
        self.spreads.extend(spread);
    }

    /// The names of the vips and where they stand, those alone that are in no other spread.
    fn vips(&self, value: Value<'_>, findings: &mut Findings) -> Vec<(String, Range<usize>)> {
        let elements = value.array("[\"dns1\", \"dns2\"]", findings).unwrap_or_default();
        if value.raw().as_array().is_some() && !(1..=MAX_VIPS).contains(&elements.len()) {
            let remedy = format!("list 1 to {MAX_VIPS} vips; more are another spread");
            value.refuse(Kind::OutOfRange, "`vips` is no spread", elements.len().to_string(), remedy, findings);
            return Vec::new();
        }
        let mut vips: Vec<(String, Range<usize>)> = Vec::with_capacity(elements.len());
        for element in elements {
            let Some(name) = element.text("\"dns1\"", findings) else { continue };
            let here = vips.iter().find(|(known, _)| known == name).map(|(_, at)| at);
            if let Some(first) = here.or_else(|| self.share(name).map(|share| &share.at)) {
                let message = format!("the vip `{}` is in a spread already", printable(name));
                let remedy = "leave it in one: a vip is shared once";
                let problem = Problem::at(element.span(), Kind::Duplicate, message, "again", remedy);
                findings.refuse(problem.because_of(first.clone(), "first here"));
                continue;
            }
            vips.push((name.to_string(), element.span()));
        }
        vips
    }
}

/// What this node is to a vip.
fn settled(spread: &Spread, vip: &str, node: &str) -> Option<(Priority, Preempt, SpreadPlace)> {
    let place = SpreadPlace { spread: spread.name.clone(), order: spread.orders.get(vip)?.clone() };
    let priority = spread::priority(place.of(node)?)?;
    let preempt = if spread.delay.is_zero() { Preempt::On } else { Preempt::After(spread.delay) };
    Some((priority, preempt, place))
}

/// `nodes`: names and weights, this node among them. `None` where they cannot be ranked; that was reported then.
fn nodes(value: Value<'_>, this: &str, findings: &mut Findings) -> Option<BTreeMap<String, u8>> {
    const EXAMPLE: &str = "{ a = 2, b = 1 }";
    let entries = value.entries(EXAMPLE, findings)?;
    let names: BTreeSet<&str> = entries.iter().map(|(name, ..)| *name).collect();
    if names.len() > MAX_NODES {
        let remedy = format!("list at most {MAX_NODES}, and make further spreads for the others");
        value.refuse(Kind::OutOfRange, "too many `nodes` in one spread", names.len().to_string(), remedy, findings);
    }
    let mut nodes = BTreeMap::new();
    for (name, at, weight) in &entries {
        if !is_name(name) {
            let message = format!("`{}` is no node name", printable(name));
            let remedy = "write what `[node] name` says there, or its host name";
            findings.refuse(Problem::at(at.clone(), Kind::Invalid, message, "", remedy));
        }
        nodes.extend(weigh(name, *weight, findings).map(|weight| ((*name).to_string(), weight)));
    }
    if nodes.len() < names.len() || names.len() > MAX_NODES {
        return None;
    }
    if nodes.values().all(|weight| *weight == 0) {
        let remedy = "give each node that is to serve a weight of at least 1";
        value.refuse(Kind::Invalid, "no node has a weight", "all are 0", remedy, findings);
        return None;
    }
    if !names.contains(this) {
        let message = format!("this node, `{}`, is not among the `nodes` of its spread", printable(this));
        let remedy = format!(
            "add it with its weight on all nodes, as in {EXAMPLE}; or say with `[node] name` which of them this is"
        );
        value.refuse(Kind::Conflict, message, "", remedy, findings);
        return None;
    }
    Some(nodes)
}

fn weigh(name: &str, weight: Value<'_>, findings: &mut Findings) -> Option<u8> {
    if let DeValue::Table(_) = weight.raw() {
        let message = format!("the weight of `{}` must be an integer", printable(name));
        weight.refuse(
            Kind::WrongType,
            message,
            "this is a table",
            "put a node's name with dots in quotes, as in \"a.example\" = 1",
            findings,
        );
        return None;
    }
    let weight = weight.integer(0..=i64::from(MAX_WEIGHT), "a weight such as 1", findings)?;
    u8::try_from(weight).ok()
}
