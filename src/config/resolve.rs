//! The whole file: TOML to settings, in one pass that goes on after each mistake.
//!
//! Nothing here stops at the first error. TOML that is no TOML is read as far as the parser recovers, so that mistakes
//! of both sorts come in one report; what may only be a consequence of broken syntax is then left out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

use super::across::Across;
use super::alert::alerts;
use super::checks::Checks;
use super::group::Groups;
use super::heartbeat::{self, HeartbeatPath};
use super::parts::Parts;
use super::problem::{Findings, Kind, Lines, Problem};
use super::read::{Table, Value};
use super::seal::{check_room, seal};
use super::spread::Spreads;
use super::system::System;
use super::{Config, fence, quorum, spread, vip};
use crate::engine::{AnnounceSettings, FenceSettings, HeartbeatSettings, Settings, VipSettings};
use crate::wire::seal::is_name;

/// The settings of a text, or all its problems in the order of the file.
pub(super) fn resolve(text: &str, system: &System) -> Result<Config, Vec<Problem>> {
    in_parts(text, system).map_or_else(|| as_one(text, system), Ok)
}

/// The settings of a text, or all that is wrong with it.
fn as_one(text: &str, system: &System) -> Result<Config, Vec<Problem>> {
    let mut findings = Findings::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    let config = root(document.get_ref(), None, system, &mut findings);
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

/// The settings of a text, read vip by vip: parsed as one, a thousand vips take more memory than their agent ever needs later. `None` where
/// anything is wrong, which is to be seen in the whole.
fn in_parts(text: &str, system: &System) -> Option<Config> {
    let parts = Parts::of(text);
    let rest = parts.rest();
    let document = DeTable::parse(&rest).ok()?;
    // Some vip begins otherwise than a part does.
    if parts.is_empty() || document.get_ref().contains_key("vip") {
        return None;
    }
    let mut findings = Findings::default();
    let config = root(document.get_ref(), Some(&parts), system, &mut findings);
    findings.problems.is_empty().then(|| Config { notes: findings.into_notes(text), ..config })
}

/// Vips that announce as the one before them share that one's settings: a node may have a thousand, of which most do.
fn share(vips: &mut [VipSettings]) {
    let mut last: Option<Arc<AnnounceSettings>> = None;
    for vip in vips {
        match &last {
            Some(last) if **last == *vip.announce => vip.announce = Arc::clone(last),
            Some(_) | None => last = Some(Arc::clone(&vip.announce)),
        }
    }
}

/// All tables, without the notes. What is returned means something only if there were no problems. Where there are parts, the document is what
/// is left beside them.
fn root(document: &DeTable<'_>, parts: Option<&Parts<'_>>, system: &System, findings: &mut Findings) -> Config {
    let mut root = Table::root(document, 0);
    let is_sealed = root.value("seal").is_some();
    let node_at = root.value("node").map(|value| value.span());
    let Node { name, heartbeat, interval } = root.optional("node", Node::default(), findings, |value, findings| {
        Some(node(value.table("[node]", "[node]", findings)?, is_sealed, system, findings))
    });
    let node = name.unwrap_or_else(|| match spread::stand_in(root.value("spread"), system, findings) {
        Some(other) => other,
        None => system.host_name.clone(),
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
    let mut read = |tables: Option<Value<'_>>, findings: &mut Findings| {
        let tables =
            tables.and_then(|tables| tables.array("[[vip]] with double brackets, once for each vip", findings));
        for table in tables.unwrap_or_default() {
            if let Some(table) = table.table("[[vip]]", "[[vip]]", findings) {
                vips.extend(vip::vip(table, system, (&mut across, &spreads), (&mut checks, &mut hooks), findings));
            }
        }
    };
    read(present, findings);
    for (at, part) in parts.into_iter().flat_map(Parts::vips) {
        match DeTable::parse(part) {
            Ok(part) => read(Table::root(part.get_ref(), at).value("vip"), findings),
            Err(error) => findings.refuse(syntax_problem(&error, part)),
        }
    }
    share(&mut vips);
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
    if present.is_none() && parts.is_none() && !meant.contains(&"vip") {
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
#[derive(Default)]
struct Node {
    name: Option<String>,
    heartbeat: Vec<HeartbeatPath>,
    interval: Option<Duration>,
}

/// `[node]`: its name, and its second paths.
fn node(mut table: Table<'_>, is_sealed: bool, system: &System, findings: &mut Findings) -> Node {
    let name = table.value("name").and_then(|value| {
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config::MissingInterface;

    fn samples(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("the samples are there").map(|entry| entry.expect("it is there")) {
            let path = entry.path();
            if path.is_dir() {
                samples(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                found.push(fs::read_to_string(&path).expect("it can be read"));
            }
        }
    }

    #[test]
    fn a_file_means_the_same_read_vip_by_vip() {
        let system =
            System { host_name: "h".into(), interfaces: Vec::new(), missing_interface: MissingInterface::Ignore };
        let mut texts = Vec::new();
        samples(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config"), &mut texts);
        let two = "\n[[vip]]\nname = \"one\"\ninterface = \"e0\"\nvrid = 1\naddresses = [\n    \"10.9.0.1/24\",\n]\n\
                   [[vip.check]]\nname = \"c\"\nexec = [\"/bin/true\"]\nweight = -1\n\
                   [[vip]]   # another\nname = \"two\"\ninterface = \"e0\"\nvrid = 2\naddresses = [\"10.9.0.2/24\"]\nannounce.refresh = false\n";
        texts.push(format!("[node]\nname = \"n\"{two}"));
        texts.push(format!("{two}[node]\nname = \"n\"\n"));
        for text in &texts {
            assert_eq!(in_parts(text, &system), as_one(text, &system).ok(), "{text}");
        }
        assert!(texts.iter().filter(|text| in_parts(text, &system).is_some()).count() > 2);
    }

    #[test]
    fn what_only_looks_like_a_vip_is_read_as_one() {
        let system =
            System { host_name: "h".into(), interfaces: Vec::new(), missing_interface: MissingInterface::Ignore };
        let vip = "[[vip]]\nname = \"one\"\ninterface = \"e0\"\nvrid = 1\naddresses = [\"10.9.0.1/24\"]\n";
        for text in [
            format!("{vip}[ [vip] ]\n"),
            format!("{vip}[vip]\n"),
            format!("{vip}[node]\nname = \"\"\"\n[[vip]]\n\"\"\"\n"),
            format!("{vip}[node]\n[vip.hooks]\n"),
            format!("[vip.hooks]\n{vip}"),
            format!("vip = []\n{vip}"),
            format!("{vip}[[vip]]\n"),
            "[[ vip ]]\n".to_owned(),
        ] {
            assert_eq!(in_parts(&text, &system), None, "{text}");
        }
    }
}
