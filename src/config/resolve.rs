//! The whole file: TOML to settings, in one pass that goes on after each mistake.
//!
//! Nothing here stops at the first error. TOML that is no TOML is read as far as the parser recovers, so that mistakes
//! of both sorts come in one report; what may only be a consequence of broken syntax is then left out.

use std::collections::HashSet;
use std::time::Duration;

use toml::de::DeTable;

use super::across::Across;
use super::alert::alerts;
use super::checks::Checks;
use super::group::Groups;
use super::heartbeat::{self, HeartbeatPath};
use super::problem::{Findings, Kind, Lines, Problem};
use super::read::{Table, Value};
use super::seal::{check_room, seal};
use super::spread::Spreads;
use super::system::System;
use super::{Config, fence, quorum, vip};
use crate::engine::{FenceSettings, HeartbeatSettings, Settings, VipSettings};
use crate::wire::seal::is_name;

/// The settings of a text, or all its problems in the order of the file.
pub(super) fn resolve(text: &str, system: &System) -> Result<Config, Vec<Problem>> {
    let mut findings = Findings::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    let config = root(document.get_ref(), system, &mut findings);
    drop(document);

    if !errors.is_empty() {
        merge_syntax(&errors, text, &mut findings);
    }
    if findings.problems.is_empty() {
        return Ok(Config { notes: findings.into_notes(text), ..config });
    }
    findings.problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
    Err(findings.problems)
}

/// All tables, without the notes. What is returned means something only if there were no problems.
fn root(document: &DeTable<'_>, system: &System, findings: &mut Findings) -> Config {
    let mut root = Table::new("the file", document, 0..0);
    let is_sealed = root.value("seal").is_some();
    let node_at = root.value("node").map(|value| value.span());
    let without = Node { name: system.host_name.clone(), heartbeat: Vec::new(), interval: None };
    let Node { name: node, heartbeat, interval } = root.optional("node", without, findings, |value, findings| {
        Some(node(value.table("[node]", "[node]", findings)?, is_sealed, system, findings))
    });
    let seal_table = root.value("seal");
    let seal_at = seal_table.as_ref().map(Value::span);
    let seal = seal_table.and_then(|value| {
        let table = value.table("[seal]", "[seal]", findings)?;
        seal(table, system, findings)
    });
    let mut checks = Checks::read(root.value("check"), system, findings);
    let quorum = root.value("quorum").and_then(|value| {
        let table = value.table("[quorum]", "[quorum]", findings)?;
        Some(quorum::quorum(table, &node, is_sealed, findings))
    });
    let fence = root.optional("fence", FenceSettings::default(), findings, |value, findings| {
        Some(fence::fence(value.table("[fence]", "[fence]", findings)?, system, findings))
    });
    let alerts = alerts(root.value("alert"), system, findings);
    let spreads = Spreads::read(root.value("spread"), &node, findings);
    let mut across = Across::default();
    let mut hooks = Vec::new();
    let mut vips = Vec::new();
    let present = root.value("vip");
    let tables = present.and_then(|tables| tables.array("[[vip]] with double brackets, once for each vip", findings));
    for table in tables.unwrap_or_default() {
        if let Some(table) = table.table("[[vip]]", "[[vip]]", findings) {
            vips.extend(vip::vip(table, system, (&mut across, &spreads), (&mut checks, &mut hooks), findings));
        }
    }
    across.check(findings);
    spreads.check(&across, findings);
    let mut groups = Groups::default();
    let tables = root.value("group");
    let tables =
        tables.and_then(|tables| tables.array("[[group]] with double brackets, once for each group", findings));
    for table in tables.unwrap_or_default() {
        if let Some(table) = table.table("[[group]]", "[[group]]", findings) {
            groups.read(table, &vips, (&across, &spreads), findings);
        }
    }
    if let (Some(seal), Some(at)) = (&seal, &seal_at) {
        check_room(seal, at.clone(), &vips, findings);
    }
    if let Some(quorum) = &quorum {
        quorum.check(&vips, findings);
    }
    let meant = root.finish(findings);
    if present.is_none() && !meant.contains(&"vip") {
        let remedy = "add a table `[[vip]]` with `name`, `interface`, `vrid` and `addresses`";
        findings.refuse(Problem { kind: Kind::MissingKey, ..Problem::of_file("the file has no `[[vip]]`", remedy) });
    }
    vips.shrink_to_fit();
    for path in &heartbeat {
        if let HeartbeatPath::Interface(name) = path
            && vips.iter().any(|vip: &VipSettings| vip.interface == *name)
            && let Some(at) = node_at.clone()
        {
            let message = format!("the heartbeats on `{name}` go the same way as adverts do");
            findings.note(at, message, "name an interface that fails on its own");
        }
    }
    let every = interval.filter(|_| !heartbeat.is_empty()).map(|interval| HeartbeatSettings { interval });
    let (quorum, voters) = quorum.map_or_else(|| (None, Vec::new()), |it| (it.settings, it.voters));
    let settings = Settings { node, vips, groups: groups.finish(), quorum, heartbeat: every, fence };
    Config {
        settings,
        seal,
        spreads: spreads.finish(),
        checks: checks.finish(findings),
        hooks,
        alerts,
        heartbeat,
        voters,
        notes: Vec::new(),
    }
}

/// What `[node]` says.
struct Node {
    name: String,
    heartbeat: Vec<HeartbeatPath>,
    interval: Option<Duration>,
}

/// `[node]`: its name, and its second paths.
fn node(mut table: Table<'_>, is_sealed: bool, system: &System, findings: &mut Findings) -> Node {
    let name = table.optional("name", system.host_name.clone(), findings, |value, findings| {
        let name = value.text("\"db-a\"", findings)?;
        let legal = is_name(name);
        if !legal {
            let remedy = "write a host name such as \"db-a\", or leave the key out to use this host's";
            value.refuse(Kind::Invalid, "`name` is no node name", "", remedy, findings);
        }
        legal.then(|| name.to_string())
    });
    let heartbeat = heartbeat::paths(&mut table, is_sealed, system, findings);
    let interval = Some(heartbeat::interval(&mut table, findings));
    table.finish(findings);
    Node { name, heartbeat, interval }
}

/// Adds what the parser found, and takes out what may only be a consequence of it.
fn merge_syntax(errors: &[toml::de::Error], text: &str, findings: &mut Findings) {
    let lines = Lines::new(text);
    let line = |problem: &Problem| problem.span.as_ref().map_or(0, |span| lines.line(span.start));
    let mut syntax: Vec<Problem> = errors.iter().map(|error| syntax_problem(error, text)).collect();
    // Behind an array that is not closed the parser takes each line for an element, and complains about each.
    let in_array =
        syntax.iter().filter(|problem| problem.message.starts_with("unexpected `=` in array")).map(line).min();
    if let Some(end) = in_array {
        syntax.retain(|problem| line(problem) < end);
        findings.problems.retain(|problem| line(problem) < end);
        syntax.push(unclosed_array(text, &lines, end));
    }
    // One mistake a line: what the parser says next is mostly about what it made of the first.
    let mut broken = HashSet::new();
    syntax.retain(|problem| broken.insert(line(problem)));
    findings.problems.retain(|problem| problem.kind != Kind::MissingKey && !broken.contains(&line(problem)));
    findings.problems.extend(syntax);
}

/// The key of `line` stands where an element of an array was expected.
fn unclosed_array(text: &str, lines: &Lines<'_>, line: usize) -> Problem {
    let start = lines.start(line);
    let key_len = text.get(start..).and_then(|rest| rest.find('=')).unwrap_or_default();
    let key = text.get(start..start + key_len).unwrap_or_default().trim_end().len();
    let message = "an array above this line is not closed";
    Problem::at(start..start + key, Kind::Syntax, message, "", "close it with `]` before this line")
}

fn syntax_problem(error: &toml::de::Error, text: &str) -> Problem {
    let mut span = error.span().unwrap_or(text.len()..text.len());
    // The parser may point behind the last byte, where no line is left to show.
    span.end = span.end.min(text.len());
    span.start = span.start.min(span.end);
    let remedy = match error.message() {
        message if message.starts_with("duplicate key") => "remove one of the two, or open a further `[[vip]]`",
        message if message.contains("quote") || message.contains("string") => {
            "put texts in double quotes and close them on the same line"
        }
        message if message.contains("table") || message.contains(']') => {
            "write table headers as `[node]` and `[[vip]]`, arrays as `[\"a\", \"b\"]`"
        }
        _ => "write `key = value`, with texts in double quotes",
    };
    Problem::at(span, Kind::Syntax, error.message(), "", remedy)
}
