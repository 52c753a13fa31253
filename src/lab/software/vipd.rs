//! vipd: its configuration, command line and log.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde::Deserialize;

use super::{AgentEvent, Router};
use crate::lab::host::Host;
use crate::lab::process::Line;

const CONFIG: &str = "/run/vipd/vipd.toml";
const STATE_DIR: &str = "/run/vipd/state";
const KEY_FILE: &str = "/run/vipd/key";
pub(in crate::lab) const CONTROL: &str = "/run/vipd/control.sock";

pub(super) fn commands(program: &Path, host: &Host, routers: &[Router]) -> Result<Vec<Command>> {
    host.write_file(CONFIG.as_ref(), &config(host.name(), routers))?;
    if routers.iter().any(|router| router.second_path.is_some()) {
        host.write_file(KEY_FILE.as_ref(), &"6c".repeat(32))?;
        // As a key has to be: nobody else's.
        host.run_in(|| fs::set_permissions(KEY_FILE, fs::Permissions::from_mode(0o600)))??;
    }
    let mut command = host.command(program);
    // The program may be /proc/self/exe, which tells a reader of `ps` nothing.
    command.arg0("vipd");
    command.args(["run", "--config", CONFIG, "--control", CONTROL, "--state-dir", STATE_DIR, "--log", "json"]);
    Ok(vec![command])
}

fn config(node: &str, routers: &[Router]) -> String {
    let mut text = format!("[node]\nname = {node:?}\n");
    if let Some(interface) = routers.iter().find_map(|router| router.second_path.as_ref()) {
        write!(text, "heartbeat = [{{ interface = {interface:?} }}]\n\n[seal]\nkey_file = {KEY_FILE:?}\n")
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
