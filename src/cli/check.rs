//! `vipd check`: is the configuration right, and what does it mean?

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Exit;
use super::output::{complain, print, stderr_colour, table};
use crate::config::{self, Config, Hook, MissingInterface, Report, Seal, Short, Spread, System, VoterAddress};
use crate::daemon::enforcement::Enforcement;
use crate::daemon::milliseconds;
use crate::daemon::peers::{key_name, sealing_name};
use crate::daemon::sandbox::Level;
use crate::driver::checks::Check;
use crate::engine::{ChecksumPolicy, OnConflict, OnSilentOwner, Preempt, Prefer, QuorumSettings, VipSettings};
use crate::types::{MacMode, Routing};
use crate::wire::advert::ChecksumForm;

/// The version of the JSON output. It grows when a field changes its meaning or goes away.
const JSON_VERSION: u32 = 1;
/// A vip with more addresses shows the first of them only.
const MAX_ADDRESSES_SHOWN: usize = 6;

/// Check the configuration, and show what it means
///
/// All mistakes are shown at once, each with its line, its key and its remedy. Nothing is changed, and no agent is
/// needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 the file is valid, 3 it is not.\n\nExamples:\n  \
                        vipd check\n  \
                        vipd check --config db-a.toml --offline\n  \
                        vipd check --json | jq '.problems[]'\n  \
                        vipd check --schema > vipd.schema.json")]
pub(super) struct Args {
    /// The file to check
    #[arg(short, long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// The file is for another machine: do not ask whether its interfaces exist here, nor which node of a spread this is
    #[arg(long)]
    offline: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Print the JSON schema of the file, and check nothing
    #[arg(long, conflicts_with_all = ["json", "offline", "config"])]
    schema: bool,
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        if self.schema {
            print(&pretty(&config::schema()))?;
            return Ok(Exit::Done);
        }
        let missing = if self.offline { MissingInterface::Ignore } else { MissingInterface::Refuse };
        let system = System::probe(missing);
        match config::load(&self.config, &system) {
            Ok(config) => {
                let file = self.config.display().to_string();
                let here = (!self.offline).then(|| Here::of(&config));
                print(&if self.json {
                    pretty(&valid_json(&file, &config, here.as_ref()))
                } else {
                    valid(&file, &config, here.as_ref())
                })?;
                Ok(Exit::Done)
            }
            Err(report) => {
                if self.json {
                    print(&pretty(&invalid_json(&report)))?;
                } else {
                    complain(&report.render(stderr_colour()));
                }
                Ok(Exit::Configuration)
            }
        }
    }
}

/// What was understood, for a person.
fn valid(file: &str, config: &Config, here: Option<&Here>) -> String {
    let settings = &config.settings;
    let noun = if settings.vips.len() == 1 { "vip" } else { "vips" };
    let mut out = format!("{file}: valid; node {}, {} {noun}\n\n", settings.node, settings.vips.len());
    let header = ["VIP", "INTERFACE", "VRID", "PRIORITY", "VERSION", "INTERVAL", "TAKEOVER", "PEERS", "ADDRESSES"];
    let mut rows = vec![header.map(str::to_string)];
    for vip in &settings.vips {
        rows.extend(vip_rows(vip));
    }
    out.push_str(&table(&rows));
    for group in &settings.groups {
        out.push_str(&format!("\ngroup {}: {} move together\n", group.name, group.vips.join(", ")));
    }
    for spread in &config.spreads {
        out.push_str(&spread_tables(spread, &settings.node));
    }
    if !config.checks.is_empty() {
        let header = ["CHECK", "INTERVAL", "TIMEOUT", "OF"].map(str::to_string);
        let rows: Vec<_> =
            std::iter::once(header).chain(config.checks.iter().map(|check| check_row(check, config))).collect();
        out.push_str(&format!("\n{}", table(&rows)));
    }
    if !config.hooks.is_empty() {
        let header = ["HOOK OF", "HOOK", "TIMEOUT", "PROGRAM"].map(str::to_string);
        let rows: Vec<_> = std::iter::once(header).chain(config.hooks.iter().map(hook_row)).collect();
        out.push_str(&format!("\n{}", table(&rows)));
    }
    for note in &config.notes {
        out.push_str(&format!("\nnote: line {}: {}\n      {}\n", note.line, note.message, note.remedy));
    }
    if let Some(here) = here {
        out.push_str(&format!("\n{here}\n"));
    }
    out
}

/// What each node has while all live, and who follows.
fn spread_tables(spread: &Spread, this: &str) -> String {
    let vips = spread.orders.len();
    let node = |(name, weight): (&String, &u8)| {
        let share: Vec<&str> = spread.share(name).collect();
        let shown = if name == this { format!("{name} (this node)") } else { name.clone() };
        [shown, weight.to_string(), format!("{} of {vips}", share.len()), share.join(" ")]
    };
    let header = ["NODE", "WEIGHT", "SHARE", "VIPS"].map(str::to_string);
    let nodes: Vec<_> = std::iter::once(header).chain(spread.nodes.iter().map(node)).collect();
    let header = ["VIP", "ORDER"].map(str::to_string);
    let vip = |(vip, order): (&String, &Vec<String>)| [vip.clone(), order.join(" ")];
    let vips: Vec<_> = std::iter::once(header).chain(spread.orders.iter().map(vip)).collect();
    let delay = match spread.delay {
        Duration::ZERO => "at once".to_string(),
        delay => format!("after {}", Short(delay)),
    };
    format!("\nspread {}: who comes back takes its share {delay}\n{}\n{}", spread.name, table(&nodes), table(&vips))
}

fn check_row(check: &Check, config: &Config) -> [String; 4] {
    let has = |vip: &&VipSettings| vip.checks.iter().any(|its| its.name == check.name);
    let vips: Vec<&str> = config.settings.vips.iter().filter(has).map(|vip| vip.name.as_str()).collect();
    [check.name.clone(), Short(check.interval).to_string(), Short(check.timeout).to_string(), vips.join(" ")]
}

fn hook_row(hook: &Hook) -> [String; 4] {
    let program = hook.program.command.first().cloned().unwrap_or_default();
    [hook.vip.clone(), hook.moment.to_string(), Short(hook.timeout).to_string(), program]
}

/// What would hold on this host.
struct Here {
    enforcement: io::Result<Enforcement>,
    resolution: Duration,
    sandbox: Level,
}

impl Here {
    fn of(config: &Config) -> Self {
        let enforcement = Enforcement::probe();
        let resolution = enforcement.as_ref().map_or(Duration::ZERO, |it| it.resolution(&config.settings.vips));
        Self { enforcement, resolution, sandbox: Level::possible() }
    }

    fn lease_json(&self) -> Json {
        match &self.enforcement {
            Ok(enforcement) => {
                json!({ "layer": enforcement.name(), "resolution_ms": milliseconds::whole(self.resolution) })
            }
            Err(_) => Json::Null,
        }
    }
}

impl fmt::Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.enforcement {
            Ok(enforcement) => writeln!(f, "{}", enforcement.promise(self.resolution))?,
            Err(_) => writeln!(f, "what enforces the leases here can only be told to root")?,
        }
        f.write_str(match (self.sandbox.landlock > 0, self.sandbox.seccomp) {
            (true, true) => "the agent can restrict itself here, by Landlock and by seccomp",
            (false, true) => "the agent can restrict itself here by seccomp, and not by Landlock",
            (true, false) => "the agent can restrict itself here by Landlock, and not by seccomp",
            (false, false) => "the agent cannot restrict itself here, neither by Landlock nor by seccomp",
        })
    }
}

/// One row, and one more for each further address.
fn vip_rows(vip: &VipSettings) -> Vec<[String; 9]> {
    let mut addresses: Vec<String> = vip.addresses.iter().map(ToString::to_string).collect();
    if addresses.len() > MAX_ADDRESSES_SHOWN {
        let rest = addresses.len() - (MAX_ADDRESSES_SHOWN - 1);
        addresses.truncate(MAX_ADDRESSES_SHOWN - 1);
        addresses.push(format!("and {rest} more"));
    }
    let peers = match vip.peers.as_slice() {
        [] => "multicast".to_string(),
        [peer] => peer.to_string(),
        peers => format!("{} unicast", peers.len()),
    };
    let mut facts = Some([
        vip.name.clone(),
        vip.interface.clone(),
        vip.vrid.to_string(),
        vip.priority.to_string(),
        vip.version.number().to_string(),
        Short(vip.interval.duration()).to_string(),
        Short(takeover(vip)).to_string(),
        peers,
    ]);
    let row = |address: String| {
        let [name, interface, vrid, priority, version, interval, takeover, peers] = facts.take().unwrap_or_default();
        [name, interface, vrid, priority, version, interval, takeover, peers, address]
    };
    addresses.into_iter().map(row).collect()
}

/// After how much silence this node takes over: 3 intervals and the skew time (RFC 9568 §6.1; RFC 3768 §6.1 for
/// version 2, where the skew is a part of a second).
fn takeover(vip: &VipSettings) -> Duration {
    let interval = vip.interval.duration();
    let skewed = match vip.version {
        crate::types::Version::V2 => Duration::from_secs(1),
        crate::types::Version::V3 => interval,
    };
    let skew = skewed * (256 - u32::from(vip.priority.0)) / 256;
    interval * 3 + skew
}

fn valid_json(file: &str, config: &Config, here: Option<&Here>) -> Json {
    let settings = &config.settings;
    json!({
        "version": JSON_VERSION,
        "file": file,
        "valid": true,
        "problems": [],
        "notes": config.notes,
        "node": settings.node,
        "lease": here.map_or(Json::Null, Here::lease_json),
        "sandbox": here.map(|here| here.sandbox),
        "seal": config.seal.as_ref().map(seal_json),
        "quorum": settings.quorum.as_ref().map(|quorum| quorum_json(quorum, &config.voters)),
        "vips": settings.vips.iter().map(vip_json).collect::<Vec<_>>(),
        "spreads": config.spreads.iter().map(spread_json).collect::<Vec<_>>(),
        "groups": settings.groups.iter().map(|group| json!({ "name": group.name, "vips": group.vips })).collect::<Vec<_>>(),
    })
}

fn spread_json(spread: &Spread) -> Json {
    let node = |(name, weight): (&String, &u8)| json!({ "name": name, "weight": weight, "share": spread.share(name).collect::<Vec<_>>() });
    let vip = |(vip, order): (&String, &Vec<String>)| json!({ "name": vip, "order": order });
    json!({
        "name": spread.name,
        "delay_ms": milliseconds::whole(spread.delay),
        "nodes": spread.nodes.iter().map(node).collect::<Vec<_>>(),
        "vips": spread.orders.iter().map(vip).collect::<Vec<_>>(),
    })
}

/// Of the keys it says only which they are.
fn seal_json(seal: &Seal) -> Json {
    let keys = std::iter::once(seal.keys.current()).chain(seal.keys.also());
    json!({ "keys": keys.map(key_name).collect::<Vec<_>>(), "adverts": sealing_name(seal.adverts), "port": seal.port })
}

fn quorum_json(quorum: &QuorumSettings, voters: &[VoterAddress]) -> Json {
    let voter = |voter: &VoterAddress| json!({ "name": *voter.name, "address": voter.address });
    json!({
        "cluster": *quorum.cluster,
        "longest_grant_ms": milliseconds::whole(quorum.longest_grant),
        "votes": quorum.is_voter(),
        "voters": voters.iter().map(voter).collect::<Vec<_>>(),
    })
}

fn invalid_json(report: &Report) -> Json {
    json!({
        "version": JSON_VERSION,
        "file": report.file(),
        "valid": false,
        "problems": report.problems_json(),
        "notes": [],
        "node": null,
        "seal": null,
        "quorum": null,
        "lease": null,
        "sandbox": null,
        "vips": [],
        "groups": [],
        "spreads": [],
    })
}

/// A vip with all its defaults. Times are in milliseconds. Of a password it says only whether there is one.
fn vip_json(vip: &VipSettings) -> Json {
    let address = |address: &crate::types::VirtualAddress| json!({ "ip": address.ip, "prefix_len": address.prefix_len, "label": address.label });
    let routing = |wanted: fn(&Routing) -> bool| {
        vip.routing.iter().filter(|it| wanted(it)).map(ToString::to_string).collect::<Vec<_>>()
    };
    let (preempt, preempt_delay) = match vip.preempt {
        Preempt::Off => (false, None),
        Preempt::On => (true, None),
        Preempt::After(delay) => (true, Some(delay)),
    };
    json!({
        "name": vip.name,
        "interface": vip.interface,
        "vrid": vip.vrid.number(),
        "priority": vip.priority.0,
        "version": vip.version.number(),
        "interval_ms": milliseconds::whole(vip.interval.duration()),
        "takeover_ms": takeover(vip).as_secs_f64() * 1000.0,
        "preempt": preempt,
        "preempt_delay_ms": preempt_delay.map(milliseconds::whole),
        "peers": vip.peers,
        "check_hop_limit": vip.check_hop_limit,
        "mac": match vip.mac {
            MacMode::Interface => "interface",
            MacMode::Virtual => "virtual",
        },
        "checksum": match vip.checksum {
            ChecksumPolicy::Auto => "auto",
            ChecksumPolicy::Pinned(ChecksumForm::Rfc9568) => "rfc9568",
            ChecksumPolicy::Pinned(ChecksumForm::Rfc5798) => "rfc5798",
        },
        "on_conflict": match vip.on_conflict {
            OnConflict::Assert => "assert",
            OnConflict::Demote => "demote",
        },
        "on_silent_owner": match vip.on_silent_owner {
            OnSilentOwner::Wait => "wait",
            OnSilentOwner::Take => "take",
        },
        "checks": vip.checks.iter().map(|check| check.name.as_str()).collect::<Vec<_>>(),
        "hooks": vip.hooks.iter().map(|hook| hook.moment.name()).collect::<Vec<_>>(),
        "references": vip.references.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "prefer": match vip.prefer {
            Prefer::Available => "available",
            Prefer::Safe => "safe",
        },
        "spread": vip.spread.as_ref().map(|place| place.spread.as_str()),
        "password": vip.password.is_some(),
        "announce": {
            "repeat_ms": vip.announce.repeat.iter().copied().map(milliseconds::whole).collect::<Vec<_>>(),
            "refresh_ms": vip.announce.refresh.map(milliseconds::whole),
        },
        "addresses": vip.addresses.iter().map(address).collect::<Vec<_>>(),
        "routes": routing(|it| matches!(it, Routing::Route(_))),
        "rules": routing(|it| matches!(it, Routing::Rule(_))),
    })
}

fn pretty(json: &Json) -> String {
    format!("{json:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_tells_all_but_the_password() {
        let text = "[node]\nname = \"a\"\n[[vip]]\nname = \"db\"\ninterface = \"eno1\"\nvrid = 51\nversion = 2\n\
                    password = \"hunter2\"\npreempt = { delay = \"30s\" }\naddresses = [\"10.0.0.1/24\"]\n";
        let system =
            System { host_name: "h".into(), interfaces: Vec::new(), missing_interface: MissingInterface::Ignore };
        let config = config::parse("f", text, &system).expect("the text is valid");
        let json = valid_json("f", &config, None);
        assert!(!json.to_string().contains("hunter2") && !valid("f", &config, None).contains("hunter2"));
        assert_eq!(json["version"], 1);
        assert_eq!(json["node"], "a");
        let expected = json!({
            "name": "db", "interface": "eno1", "vrid": 51, "priority": 100, "version": 2, "interval_ms": 1000,
            "takeover_ms": 3609.375, "preempt": true, "preempt_delay_ms": 30_000, "peers": [],
            "check_hop_limit": true, "mac": "interface", "checksum": "auto", "on_conflict": "assert",
            "on_silent_owner": "wait", "checks": [], "hooks": [], "references": [], "prefer": "available", "spread": null, "password": true,
            "announce": { "repeat_ms": [1000, 5000, 30_000], "refresh_ms": 60_000 },
            "addresses": [{ "ip": "10.0.0.1", "prefix_len": 24, "label": null }], "routes": [], "rules": [],
        });
        assert_eq!(json["vips"][0], expected);
    }

    #[test]
    fn json_tells_who_is_preferred_for_what() {
        let vip = |name: &str, last: u8| {
            format!(
                "[[vip]]\nname = \"{name}\"\ninterface = \"eno1\"\nvrid = {last}\naddresses = [\"10.0.0.{last}/24\"]\n"
            )
        };
        let spread = "[[spread]]\nname = \"dns\"\nvips = [\"dns1\", \"dns2\"]\nnodes = { db-a = 1, db-b = 1 }\n";
        let text = format!("{}{}{spread}", vip("dns1", 61), vip("dns2", 62));
        let system =
            System { host_name: "db-b".into(), interfaces: Vec::new(), missing_interface: MissingInterface::Ignore };
        let json = valid_json("f", &config::parse("f", &text, &system).expect("the text is valid"), None);
        let expected = json!([{
            "name": "dns", "delay_ms": 30_000,
            "nodes": [
                { "name": "db-a", "weight": 1, "share": ["dns1"] },
                { "name": "db-b", "weight": 1, "share": ["dns2"] },
            ],
            "vips": [{ "name": "dns1", "order": ["db-a", "db-b"] }, { "name": "dns2", "order": ["db-b", "db-a"] }],
        }]);
        assert_eq!(json["spreads"], expected);
        let vip = |index: usize| (json["vips"][index]["spread"].as_str(), json["vips"][index]["priority"].as_u64());
        assert_eq!([vip(0), vip(1)], [(Some("dns"), Some(220)), (Some("dns"), Some(240))]);
        assert_eq!(json["vips"][0]["preempt_delay_ms"], 30_000);
    }
}
