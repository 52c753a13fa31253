//! `vipd status`: who owns what, since when, and why.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use super::Exit;
use super::client;
use super::output::{self, complain, print};
use crate::daemon::alert_accounts::AlertStatus;
use crate::daemon::enforcement::Enforcement;
use crate::daemon::status::{CheckStatus, ConflictStatus, SecondPathStatus, SpreadStatus, Status, VipStatus};
use crate::daemon::votes::VoterStatus;

/// Show what the running agent does, and why
///
/// One line a virtual IP. STATE is Active (this node owns the addresses), Backup (it listens), Claiming (it is
/// about to own them), Held (it keeps itself out for a while) or Initialize (its interface is not ready, or a check
/// fails). SINCE and WHY: how it came into that state. OWNER: who owns the addresses, as this node knows it. DROPS:
/// adverts that were not heeded; the log and --json name the reasons. Above and below the table stands what needs
/// somebody.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the agent has answered, 4 no agent answers, 5 not permitted (it is for root and the group \
vipd).\n\nExamples:\n  vipd status\n  vipd status --json | jq '.vips[] | {name, state, cause}'"
)]
pub(super) struct Args {
    #[command(flatten)]
    agent: client::Agent,
    /// Print everything the agent knows, as one JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        let document: serde_json::Value = match client::get(&self.agent.control, "/v1/status") {
            Ok(document) => document,
            Err(error) => {
                complain(&format!("vipd: {error}\n"));
                return Ok(error.exit());
            }
        };
        if self.json {
            print(&format!("{document:#}\n"))?;
            return Ok(Exit::Done);
        }
        match serde_json::from_value::<Status>(document) {
            Ok(status) => print(&table(&status)).map(|()| Exit::Done),
            Err(error) => {
                complain(&format!("vipd: the agent is of another version, its status cannot be shown: {error}\n"));
                Ok(Exit::Refused)
            }
        }
    }
}

const HEADINGS: [&str; 10] =
    ["VIP", "STATE", "SINCE", "WHY", "OWNER", "PRIORITY", "INTERVAL", "LAST ADVERT", "DROPS", "ADDRESSES"];

fn table(status: &Status) -> String {
    let mut out = format!("{}: vipd {}, up {}, at {}\n", status.node, status.version, time(status.uptime_s), status.at);
    if status.lease_layer == Enforcement::Lifetime.name() {
        let resolution = Duration::from_millis(status.lease_resolution_ms);
        writeln!(out, "{}", Enforcement::Lifetime.promise(resolution)).expect("a String takes all");
    }
    if let Some(sandbox) = &status.sandbox {
        for (holds, what) in [(sandbox.landlock > 0, "Landlock"), (sandbox.seccomp, "seccomp")] {
            if !holds {
                writeln!(out, "the agent is not restricted by {what}: the log says why").expect("a String takes all");
            }
        }
    }
    for link in status.links.iter().filter(|link| link.state != "up") {
        writeln!(out, "interface {} is {}", link.name, link.state).expect("a String takes all");
    }
    if let Some(trouble) = &status.journal.trouble {
        writeln!(out, "events are not recorded: {trouble}").expect("a String takes all");
    }
    for peer in &status.second_path {
        writeln!(out, "second path: {}", second_path(peer)).expect("a String takes all");
    }
    for line in status.quorum.iter().flat_map(|quorum| quorum.voters.iter().filter_map(voter)) {
        writeln!(out, "{line}").expect("a String takes all");
    }
    let rows: Vec<_> = std::iter::once(HEADINGS.map(str::to_owned)).chain(status.vips.iter().map(row)).collect();
    out.push_str(&output::table(&rows));
    out.push_str(&spreads(status));
    out.push_str(&checks(status));
    out.push_str(&alerts(status));
    for vip in &status.vips {
        trouble(vip).for_each(|line| writeln!(out, "{}: {line}", vip.name).expect("a String takes all"));
    }
    out
}

const SPREAD_HEADINGS: [&str; 5] = ["SPREAD", "VIP", "STATE", "THIS NODE IS", "ORDER"];

/// A table of all vips that are shared, if there are any.
fn spreads(status: &Status) -> String {
    let row = |vip: &VipStatus| {
        let SpreadStatus { name, order, place } = vip.spread.as_ref()?;
        let place = place.map_or_else(|| "none of them".to_owned(), |place| format!("{place} of {}", order.len()));
        Some([name.clone(), vip.name.clone(), vip.state.clone(), place, order.join(" ")])
    };
    let mut rows: Vec<_> = status.vips.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    rows.sort();
    let rows: Vec<_> = std::iter::once(SPREAD_HEADINGS.map(str::to_owned)).chain(rows).collect();
    format!("\n{}", output::table(&rows))
}

const CHECK_HEADINGS: [&str; 6] = ["CHECK OF", "CHECK", "STATE", "SINCE", "MAKES", "LAST OUTPUT"];

/// A table of all checks, if there are any.
fn checks(status: &Status) -> String {
    let all = status.vips.iter().flat_map(|vip| vip.checks.iter().map(move |check| (vip, check)));
    let rows: Vec<_> = all.map(|(vip, check)| check_row(&vip.name, check)).collect();
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = std::iter::once(CHECK_HEADINGS.map(str::to_owned)).chain(rows).collect();
    format!("\n{}", output::table(&rows))
}

fn check_row(vip: &str, check: &CheckStatus) -> [String; CHECK_HEADINGS.len()] {
    let failing = check.state == "failing";
    let makes = match check.effect.as_str() {
        "fault" | "number" if failing => "no part in the election".to_owned(),
        "lag" if check.stale => "no claim".to_owned(),
        "fault" => "-".to_owned(),
        _ => format!("priority {:+}", check.weight),
    };
    let state = match check.held_s {
        Some(held) if failing => format!("{}, for {} more at least", check.state, time(held)),
        Some(held) => format!("{}, no higher for {} more at least", check.state, time(held)),
        None => check.state.clone(),
    };
    [vip.to_owned(), check.name.clone(), state, time(check.since_s), makes, check.output.clone()]
}

const ALERT_HEADINGS: [&str; 7] = ["ALERT", "TELLS BY", "FROM", "DELIVERED", "WAITING", "DROPPED", "STATE"];

/// A table of all alerts, if there are any.
fn alerts(status: &Status) -> String {
    if status.alerts.is_empty() {
        return String::new();
    }
    let rows = status.alerts.iter().map(alert_row);
    let rows: Vec<_> = std::iter::once(ALERT_HEADINGS.map(str::to_owned)).chain(rows).collect();
    format!("\n{}", output::table(&rows))
}

fn alert_row(alert: &AlertStatus) -> [String; ALERT_HEADINGS.len()] {
    let AlertStatus { name, way, severity, delivered, queued, dropped, failing } = alert;
    let state = match failing {
        Some(failing) => {
            let again = failing.retry_in_s.map(|left| format!(", again in {}", time(left))).unwrap_or_default();
            let (since, attempts) = (time(failing.since_s), failing.attempts);
            format!("failing for {since} (attempts: {attempts}{again}): {}", failing.why)
        }
        None => "ok".to_owned(),
    };
    let [delivered, queued, dropped] = [delivered, queued, dropped].map(u64::to_string);
    [name.clone(), way.clone(), severity.clone(), delivered, queued, dropped, state]
}

/// A node on the second path, and how long ago it was heard.
fn second_path(peer: &SecondPathStatus) -> String {
    let at: Vec<String> = peer.paths.iter().map(ToString::to_string).collect();
    match (peer.heard, peer.age_ms) {
        (true, Some(age)) => format!("{} heard {} ago at {}", peer.peer, time(age / 1e3), some_of(&at)),
        (_, Some(age)) => format!("{} SILENT for {}", peer.peer, time(age / 1e3)),
        (_, None) => format!("{} not heard yet", peer.peer),
    }
}

/// A voter that does not vote.
fn voter(voter: &VoterStatus) -> Option<String> {
    let name = &voter.name;
    match (voter.silent, voter.last_heard_age_ms) {
        (true, Some(age)) => Some(format!("voter {name} SILENT for {}", time(age / 1e3))),
        (true, None) => Some(format!("voter {name} SILENT: never heard")),
        (false, _) if voter.votes_in_ms > 0.0 => {
            Some(format!("voter {name} has just started, and votes in {}", time(voter.votes_in_ms / 1e3)))
        }
        (false, _) => None,
    }
}

/// What an operator should not overlook, a line each.
fn trouble(vip: &VipStatus) -> impl Iterator<Item = String> {
    let conflicts = vip.conflicts.iter().map(|conflict| {
        let ConflictStatus { mac, address, claims, age_ms, remedy, .. } = conflict;
        let last = time(age_ms / 1e3);
        format!("{mac} also answers for {address} (heard {claims} times, last {last} ago): {remedy}")
    });
    let foreign = vip.foreign_group.iter().map(|group| {
        let (source, last) = (group.source, time(group.age_ms / 1e3));
        let theirs: Vec<String> = group.addresses.iter().map(ToString::to_string).collect();
        let theirs = some_of(&theirs);
        format!("{source} uses the same VRID for {theirs} (last {last} ago): give one of the two groups another vrid")
    });
    let silent = vip.silent_owner.iter().map(|owner| {
        let (address, mac, remedy) = (owner.address, &owner.mac, &owner.remedy);
        let (waits, takes) = (time(owner.waits_ms / 1e3), time(owner.takes_in_ms / 1e3));
        format!(
            "no advert is heard, but {address} answers at {mac}: waits since {waits}, takes over in {takes}: {remedy}"
        )
    });
    let held = vip.hold.iter().map(|hold| {
        let why = match hold.reason.as_str() {
            "drained" => "drained by an operator",
            _ => "kept out: this host went down while it was the owner, and may have been fenced",
        };
        let until = hold.left_s.map(|left| format!(" for {} more", time(left))).unwrap_or_default();
        format!("{why}{until}; `vipd undrain {}` ends it", vip.name)
    });
    let lost = vip.references.iter().filter(|reference| reference.lost).map(|reference| {
        let name = &reference.reference;
        let of = reference.address.map(|address| format!(" ({address})")).unwrap_or_default();
        match reference.last_answer_age_ms {
            Some(age) => format!("the reference {name}{of} has not answered for {}", time(age / 1e3)),
            None => format!("the reference {name}{of} has never answered"),
        }
    });
    let minority = vip.grants.iter().filter_map(|grants| {
        let lacks = time(grants.lacks_majority_ms? / 1e3);
        let (granted, needed, missing) = (grants.granted, grants.needed, grants.missing.join(", "));
        Some(format!(
            "would claim since {lacks}, but {granted} of the {needed} votes that it needs are there: without {missing}"
        ))
    });
    let isolated =
        vip.isolated.then(|| "no reference answers: this node does not claim (prefer = \"safe\")".to_owned());
    let blocked = vip.blocked.iter().map(|blocked| {
        let (from, to, interface, last) = (&blocked.from, &blocked.to, &vip.interface, time(blocked.age_ms / 1e3));
        format!(
            "adverts from {from} to {to} on {interface} are blocked (since {last}), though both are heard on the second path: look for a \
             firewall or a switch that drops IP protocol 112 there"
        )
    });
    let hooks = vip.hooks.iter().filter_map(|hook| match (hook.state.as_str(), hook.hook.as_str()) {
        ("failed", name) => Some(format!("hook {name} failed {} ago: {}", time(hook.age_s), hook.output)),
        ("running", name @ "before_claim") => {
            Some(format!("a claim or a handover waits for hook {name}, since {}", time(hook.age_s)))
        }
        _ => None,
    });
    held.chain(hooks)
        .chain(conflicts)
        .chain(minority)
        .chain(silent)
        .chain(blocked)
        .chain(isolated)
        .chain(lost)
        .chain(foreign)
}

fn row(vip: &VipStatus) -> [String; HEADINGS.len()] {
    let owner = match &vip.owner {
        Some(owner) if owner.this_node => "this node".to_owned(),
        Some(owner) => format!("{} ({})", owner.source, owner.priority),
        None => "unknown".to_owned(),
    };
    [
        vip.name.clone(),
        vip.state.clone(),
        time(vip.since_s),
        vip.cause.clone(),
        owner,
        match vip.effective_priority {
            effective if effective == vip.priority => effective.to_string(),
            effective => format!("{effective} of {}", vip.priority),
        },
        format!("{:?}", Duration::from_millis(vip.advert_interval_ms)),
        vip.last_advert_age_ms.map_or_else(|| "never".to_owned(), |age| format!("{} ago", time(age / 1e3))),
        vip.drops.to_string(),
        some_of(&vip.addresses),
    ]
}

/// How many addresses a line shows; the document has them all.
const SHOWN: usize = 4;

fn some_of(addresses: &[String]) -> String {
    match addresses.get(SHOWN..) {
        Some(rest) if !rest.is_empty() => format!("{} and {} more", addresses[..SHOWN].join(" "), rest.len()),
        Some(_) | None => addresses.join(" "),
    }
}

fn time(seconds: f64) -> String {
    output::span(Duration::from_secs_f64(seconds.max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_show_their_largest_two_units() {
        let shown = [0.0123, 59.9, 61.0, 3_660.0, 90_000.0].map(time);
        assert_eq!(shown, ["12ms", "59s", "1m01s", "1h01m", "1d01h"]);
    }

    #[test]
    fn a_long_list_of_addresses_is_cut() {
        let addresses: Vec<String> = (1..=6).map(|n| format!("10.0.0.{n}/24")).collect();
        assert_eq!(some_of(&addresses[..4]), "10.0.0.1/24 10.0.0.2/24 10.0.0.3/24 10.0.0.4/24");
        assert!(some_of(&addresses).ends_with("10.0.0.4/24 and 2 more"));
    }
}
