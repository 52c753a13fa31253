//! `[fence]`: how a silent owner is fenced. Programs and secrets are looked at, unless the file is for another machine.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::duration::duration;
use super::probe::{absolute, inspect};
use super::problem::{Findings, Kind};
use super::read::{Table, Value, printable};
use super::secret_file::secret_file;
use super::system::System;
use crate::driver::program::Program;
use crate::engine::{FenceAction, FencePeer, FenceSettings, WatchdogSettings};
use crate::wire::seal::is_name;

/// A longer one is no delay but an outage.
const DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
/// After a day somebody has looked.
const HOLD: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// What management controllers take, which some do for a minute.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Below two seconds a busy host would be reset; above five minutes nobody waits for it.
const WATCHDOG: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(300);
const DEFAULT_WATCHDOG: Duration = Duration::from_secs(10);
/// No group of virtual routers has more.
const MAX_PEERS: usize = 64;

/// Reads the table.
pub(super) fn fence(mut table: Table<'_>, system: &System, findings: &mut Findings) -> FenceSettings {
    let default = FenceSettings::default();
    let required = table.value("require");
    let require = required.and_then(|value| value.boolean(findings)).unwrap_or(default.require);
    let delay = table
        .optional("delay", default.delay, findings, |value, findings| duration(value, DELAY, "", "\"1s\"", findings));
    let hold = table.optional("hold", default.hold, findings, |value, findings| match value.raw() {
        DeValue::Boolean(false) => Some(None),
        DeValue::String(_) => duration(value, HOLD, "", "\"10m\"", findings).map(Some),
        _ => value.wrong_type("a duration or false", "\"10m\" or false", findings),
    });
    let mut peers: Vec<Arc<FencePeer>> = Vec::new();
    let tables = table.value("peer").and_then(|value| value.array("[[fence.peer]] with double brackets", findings));
    let count = tables.as_ref().map_or(0, Vec::len);
    for value in tables.unwrap_or_default().into_iter().take(MAX_PEERS) {
        let Some(table) = value.table("[[fence.peer]]", "[[fence.peer]]", findings) else { continue };
        let Some(peer) = peer(table, system, findings) else { continue };
        let twice = peers.iter().any(|known| known.name == peer.name || shares_address(known, &peer));
        if twice {
            let remedy = "give each peer one table, with a name and addresses of its own; one at most has no addresses";
            value.refuse(Kind::Duplicate, "two tables [[fence.peer]] are for the same peer", "again", remedy, findings);
        }
        peers.push(Arc::new(peer));
    }
    let watchdog = table
        .value("self")
        .and_then(|value| Some(watchdog(value.table("[fence.self]", "[fence.self]", findings)?, findings)));
    if count > MAX_PEERS {
        findings.note(table.span(), format!("only the first {MAX_PEERS} peers are used"), "remove the others");
    }
    if let Some(value) = required.filter(|_| require && count == 0) {
        let remedy = "add a table [[fence.peer]] with `name` and `program`: without one this node would never claim";
        value.refuse(Kind::Conflict, "`require = true` needs a [[fence.peer]]", "", remedy, findings);
    }
    table.finish(findings);
    FenceSettings { require, delay, hold, peers, watchdog }
}

/// `[fence.self]`.
fn watchdog(mut table: Table<'_>, findings: &mut Findings) -> WatchdogSettings {
    let path = table.optional("watchdog", "/dev/watchdog".to_owned(), findings, |value, findings| {
        let path = value.text("\"/dev/watchdog\"", findings)?;
        absolute(&value, path, findings).map(|_| path.to_owned())
    });
    let timeout = table.optional("timeout", DEFAULT_WATCHDOG, findings, |value, findings| {
        let timeout = duration(value, WATCHDOG, "", "\"10s\"", findings)?;
        if timeout.subsec_nanos() != 0 {
            value.refuse(Kind::OutOfRange, "watchdogs count in whole seconds", "", "write whole seconds", findings);
        }
        Some(timeout)
    });
    table.finish(findings);
    WatchdogSettings { path, timeout }
}

fn shares_address(one: &FencePeer, other: &FencePeer) -> bool {
    let both_any = one.addresses.is_empty() && other.addresses.is_empty();
    both_any || one.addresses.iter().any(|address| other.addresses.contains(address))
}

fn peer(mut table: Table<'_>, system: &System, findings: &mut Findings) -> Option<FencePeer> {
    let name = table.required("name", "\"db-b\"").and_then(|value| {
        let name = value.text("\"db-b\"", findings)?;
        let legal = is_name(name);
        if !legal {
            value.refuse(
                Kind::Invalid,
                "`name` is no node name",
                "",
                "write the peer's name, as in \"db-b\"",
                findings,
            );
        }
        legal.then(|| name.to_owned())
    });
    let addresses = table.optional("addresses", Vec::new(), findings, addresses);
    let program = table.required("program", "\"/usr/sbin/fence_ipmilan\"").and_then(|value| {
        let path = value.text("\"/usr/sbin/fence_ipmilan\"", findings)?;
        absolute(&value, path, findings)?;
        let program = Program { command: vec![path.to_owned()], user: None };
        inspect(&program, &value, system, findings).then(|| path.to_owned())
    });
    let action = table.optional("action", FenceAction::Reboot, findings, |value, findings| {
        value.word(&[("reboot", FenceAction::Reboot), ("off", FenceAction::Off)], findings)
    });
    let options = table
        .optional("options", Vec::new(), findings, |value, findings| pairs(value, "{ ip = \"192.0.2.7\" }", findings));
    let secrets = table.optional("secrets", Vec::new(), findings, |value, findings| {
        let secrets = pairs(value, "{ password = \"/etc/vipd/ipmi.pass\" }", findings)?;
        for (_, path) in &secrets {
            secret_file(&value, path, system, findings)?;
        }
        Some(secrets)
    });
    let timeout = table.optional("timeout", DEFAULT_TIMEOUT, findings, |value, findings| {
        duration(value, TIMEOUT, "", "\"60s\"", findings)
    });
    let attempts = table.optional("attempts", 2, findings, |value, findings| {
        u8::try_from(value.integer(1..=10, "a number such as 2", findings)?).ok()
    });
    table.finish(findings);
    Some(FencePeer { name: name?, addresses, program: program?, action, options, secrets, timeout, attempts })
}

fn addresses(value: Value<'_>, findings: &mut Findings) -> Option<Vec<IpAddr>> {
    let elements = value.array("[\"10.20.0.12\"]", findings)?;
    let mut addresses = Vec::new();
    for element in elements {
        let text = element.text("\"10.20.0.12\"", findings)?;
        let Ok(address) = text.parse() else {
            let message = format!("`{}` is no IP address", printable(text));
            let remedy = "write the address that the peer's adverts come from, without a prefix";
            element.refuse(Kind::Invalid, message, "", remedy, findings);
            return None;
        };
        addresses.push(address);
    }
    Some(addresses)
}

/// Names and values as a fence agent reads them: `action` and `nodename` are not for the user to set.
fn pairs(value: Value<'_>, example: &str, findings: &mut Findings) -> Option<Vec<(String, String)>> {
    let DeValue::Table(entries) = value.raw() else { return value.wrong_type("a table", example, findings) };
    let mut pairs = Vec::new();
    for (name, text) in entries {
        let name = name.get_ref();
        let legal_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let ours = matches!(name.as_ref(), "action" | "option" | "nodename");
        let text = match text.get_ref() {
            DeValue::String(text) if !text.contains(['\n', '\r', '\0']) => text.to_string(),
            _ => return value.wrong_type("a table of texts of one line", example, findings),
        };
        if !legal_name || ours {
            let message = format!("`{}` cannot be set here", printable(name));
            let remedy = "write an option of the fence agent, as its manual names it; `action` is a key of its own";
            value.refuse(Kind::Invalid, message, "", remedy, findings);
            return None;
        }
        pairs.push((name.to_string(), text));
    }
    Some(pairs)
}
