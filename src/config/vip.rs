//! `[[vip]]`: one table to one [`VipSettings`].

use std::ops::Range;
use std::sync::Arc;

use super::across::{Across, Claimed};
use super::address;
use super::checks::Checks;
use super::hook::{Hook, hooks};
use super::problem::{Findings, Kind};
use super::read::{Table, Value, printable};
use super::routing;
use super::spread::Spreads;
use super::system::{MissingInterface, System};
use super::vip_options::{self as options, MAX_PRIORITY};
use crate::engine::VipSettings;
use crate::types::{Family, Priority, Version, Vrid};

/// The longest vip name, in bytes: it is a column of tables and a label of metrics.
const MAX_NAME: usize = 63;
/// The longest interface name, in bytes (`IFNAMSIZ` less its end).
const MAX_INTERFACE: usize = 15;

/// Reads one table. `None` where a key that has no default is missing or wrong; that was reported then.
pub(super) fn vip(
    mut table: Table<'_>,
    system: &System,
    (across, spreads): (&mut Across, &Spreads),
    (checks, all_hooks): (&mut Checks, &mut Vec<Hook>),
    findings: &mut Findings,
) -> Option<VipSettings> {
    let span = table.span();
    let name = table.required("name", "\"db\"").and_then(|value| name(value, findings));
    let interface = table.required("interface", "\"eno1\"").and_then(|value| interface(value, system, findings));
    let vrid = table.required("vrid", "51").and_then(|value| vrid(value, findings));
    let (version, version_at) = options::version(&mut table, findings);
    let addresses = table
        .required("addresses", "[\"10.20.0.100/24\"]")
        .map(|value| address::list(value, vrid.as_ref().map(|(vrid, _)| *vrid), version, findings));
    let families: Vec<Family> = addresses.iter().flat_map(|addresses| addresses.families()).collect();

    let routing = routing::routing(&mut table, &families, addresses.as_ref(), findings);
    let share = name.as_ref().and_then(|(name, _)| spreads.share(name));
    let (priority, preempt) = match share {
        Some(share) => share.settle(&mut table, findings),
        None => {
            let priority = table.optional("priority", Priority::DEFAULT, findings, priority);
            (priority, options::preempt(&mut table, priority, findings))
        }
    };
    let interval = options::interval(&mut table, version, findings);
    let peers = options::peers(&mut table, &families, addresses.as_ref(), findings);
    let check_hop_limit = options::check_hop_limit(&mut table, &peers, findings);
    let mac = options::mac(&mut table, findings);
    let checksum = options::checksum(&mut table, findings);
    let on_conflict = options::on_conflict(&mut table, findings);
    let on_silent_owner = options::on_silent_owner(&mut table, findings);
    let references = options::references(&mut table, addresses.as_ref(), findings);
    let prefer = options::prefer(&mut table, &references, findings);
    let password = options::password(&mut table, version, version_at, findings);
    let announce = options::announce(&mut table, findings);
    let (shared, own) = (table.value("checks"), table.value("check"));
    let named = name.as_ref().map_or("", |(name, _)| name.as_str());
    let checks = checks.of_vip((shared, own), (named, priority, preempt), system, findings);
    let hooks = hooks(table.value("hooks"), named, all_hooks, system, findings);
    table.finish(findings);

    across.add(Claimed {
        name: name.clone(),
        interface: interface.clone(),
        vrid: vrid.clone(),
        families,
        addresses: addresses.as_ref().map(|addresses| addresses.places()).unwrap_or_default(),
        routing: routing.clone(),
        at: span,
    });
    Some(VipSettings {
        name: name?.0,
        interface: interface?,
        vrid: vrid?.0,
        priority,
        interval,
        version,
        preempt,
        peers,
        check_hop_limit,
        mac,
        checksum,
        password,
        announce: Arc::new(announce),
        on_conflict,
        on_silent_owner,
        checks,
        hooks,
        references,
        prefer,
        addresses: addresses?.ordered(),
        routing: routing.into_iter().map(|(routing, _)| routing).collect(),
        spread: share.and_then(|share| share.place()).map(Box::new),
    })
}

pub(super) fn name(value: Value<'_>, findings: &mut Findings) -> Option<(String, Range<usize>)> {
    let name = value.text("\"db\"", findings)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(legal) {
        let remedy = format!("use 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`, as in \"db\"");
        value.refuse(Kind::Invalid, "`name` is no name", "", remedy, findings);
        return None;
    }
    Some((name.to_string(), value.span()))
}

fn vrid(value: Value<'_>, findings: &mut Findings) -> Option<(Vrid, Range<usize>)> {
    let number = value.integer(1..=255, "a number such as 51", findings)?;
    Some((Vrid::new(u8::try_from(number).ok()?)?, value.span()))
}

fn priority(value: Value<'_>, findings: &mut Findings) -> Option<Priority> {
    let number = value.integer(1..=MAX_PRIORITY, "a number such as 100", findings)?;
    u8::try_from(number).ok().map(Priority)
}

pub(super) fn interface(value: Value<'_>, system: &System, findings: &mut Findings) -> Option<String> {
    let name = value.text("\"eno1\"", findings)?;
    // What the kernel refuses as a device name (dev_valid_name).
    let wrong = if name.is_empty() {
        Some("empty".to_string())
    } else if name.len() > MAX_INTERFACE {
        Some(format!("{} bytes", name.len()))
    } else if name == "." || name == ".." || name.contains(['/', ':']) || !name.chars().all(|c| c.is_ascii_graphic()) {
        Some("no device can have this name".to_string())
    } else {
        None
    };
    if let Some(wrong) = wrong {
        let remedy =
            format!("write a name as `ip link` shows it: 1 to {MAX_INTERFACE} bytes without space, `/` and `:`");
        value.refuse(Kind::Invalid, "`interface` is no interface name", wrong, remedy, findings);
        return None;
    }
    if !system.interfaces.iter().any(|existing| existing == name) {
        missing_interface(value, name, system, findings);
    }
    Some(name.to_string())
}

fn missing_interface(value: Value<'_>, name: &str, system: &System, findings: &mut Findings) {
    /// More names than these are of no help.
    const MAX_LISTED: usize = 12;
    let mut listed: Vec<&str> =
        system.interfaces.iter().map(String::as_str).filter(|name| *name != "lo").take(MAX_LISTED + 1).collect();
    if listed.len() > MAX_LISTED {
        listed[MAX_LISTED] = "...";
    }
    let existing = if listed.is_empty() { "none but lo".to_string() } else { listed.join(", ") };
    let message = format!("there is no interface `{}` on this machine", printable(name));
    match system.missing_interface {
        MissingInterface::Refuse => {
            let remedy = format!("existing: {existing}; to check a file for another machine, add --offline");
            value.refuse(Kind::MissingInterface, message, "not found", remedy, findings);
        }
        MissingInterface::Note => {
            findings.note(value.span(), message, format!("the vip waits for it; existing: {existing}"));
        }
        MissingInterface::Ignore => {}
    }
}

/// What version 3 and version 2 can say, for messages.
pub(super) const fn version_name(version: Version) -> &'static str {
    match version {
        Version::V2 => "version 2",
        Version::V3 => "version 3",
    }
}
