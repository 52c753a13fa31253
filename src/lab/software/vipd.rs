//! vipd: its configuration, command line and log.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;

use super::{AgentEvent, Router};
use crate::config::LONGEST_GRANT;
use crate::lab::host::Host;
use crate::lab::process::{Line, Process};

const CONFIG: &str = "/run/vipd/vipd.toml";
const STATE_DIR: &str = "/run/vipd/state";
const KEY_FILE: &str = "/run/vipd/key";
pub(in crate::lab) const CONTROL: &str = "/run/vipd/control.sock";

pub(super) fn commands(program: &Path, host: &Host, routers: &[Router]) -> Result<Vec<Command>> {
    host.write_file(CONFIG.as_ref(), &config(host.name(), routers))?;
    if routers.iter().any(|router| router.second_path.is_some() || !router.voters.is_empty()) {
        write_key(host)?;
    }
    let mut command = named(program, host);
    command.args(["run", "--config", CONFIG, "--control", CONTROL, "--state-dir", STATE_DIR, "--log", "json"]);
    Ok(vec![command])
}

/// The witness of a pair, on a host of its own.
pub(in crate::lab) fn witness(program: &Path, host: &Host, longest_grant: Duration) -> Result<Process> {
    write_key(host)?;
    let mut command = named(program, host);
    let longest_grant = format!("{}ms", longest_grant.as_millis());
    command.args(["witness", "--name", host.name(), "--key-file", KEY_FILE, "--longest-grant", &longest_grant]);
    Process::start(&mut command)
}

/// The program may be /proc/self/exe, which tells a reader of `ps` nothing.
fn named(program: &Path, host: &Host) -> Command {
    let mut command = host.command(program);
    command.arg0("vipd");
    command
}

/// As a key has to be: nobody else's.
fn write_key(host: &Host) -> Result<()> {
    host.write_file(KEY_FILE.as_ref(), &"6c".repeat(32))?;
    host.run_in(|| fs::set_permissions(KEY_FILE, fs::Permissions::from_mode(0o600)))??;
    Ok(())
}

/// What voters of these routers grant for at most.
pub(in crate::lab) fn longest_grant(router: &Router) -> Duration {
    *LONGEST_GRANT.start().max(&(3 * router.interval))
}

fn config(node: &str, routers: &[Router]) -> String {
    let mut text = format!("[node]\nname = {node:?}\n");
    if let Some(interface) = routers.iter().find_map(|router| router.second_path.as_ref()) {
        writeln!(text, "heartbeat = [{{ interface = {interface:?} }}]").expect("a String takes all");
    }
    let voting = routers.iter().find(|router| !router.voters.is_empty());
    if voting.is_some() || routers.iter().any(|router| router.second_path.is_some()) {
        writeln!(text, "\n[seal]\nkey_file = {KEY_FILE:?}").expect("a String takes all");
    }
    if let Some(router) = voting {
        let voter = |(name, address): &(String, IpAddr)| format!("{{ name = {name:?}, address = \"{address}\" }}");
        let voters: Vec<_> = router.voters.iter().map(voter).collect();
        let (voters, longest_grant_ms) = (voters.join(", "), longest_grant(router).as_millis());
        writeln!(text, "\n[quorum]\nvoters = [{voters}]\nlongest_grant = \"{longest_grant_ms}ms\"")
            .expect("a String takes all");
    }
    for router in routers {
        let Router { name, vrid, priority, version, interface, addresses, .. } = router;
        let interval_ms = router.interval.as_millis();
        write!(
            text,
            "\n[[vip]]\nname = {name:?}\ninterface = {interface:?}\nvrid = {vrid}\npriority = {priority}\n\
             version = {version}\nadvert_interval = \"{interval_ms}ms\"\naddresses = {addresses:?}\n"
        )
        .expect("a String takes all");
        if !router.preempt {
            text.push_str("preempt = false\n");
        }
        if let Some((_, peers)) = &router.unicast {
            let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
            writeln!(text, "peers = {peers:?}").expect("a String takes all");
        }
    }
    text
}

#[derive(Deserialize)]
struct Logged {
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    vip: String,
    from: Option<String>,
    to: String,
    cause: Option<String>,
}

pub(super) fn event(line: &Line) -> Option<AgentEvent> {
    let Fields { vip, from, to, cause } = serde_json::from_str::<Logged>(&line.text).ok()?.fields;
    Some(AgentEvent { at: line.at, router: vip, from, to, cause })
}
