//! keepalived: its configuration, command line and log.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{AgentEvent, Router};
use crate::lab::host::Host;
use crate::lab::process::Line;

const CONFIG: &str = "/run/keepalived.conf";

/// An advert lists at most so many; keepalived wants the rest elsewhere.
const MOST_ADVERTISED: usize = 20;

pub(super) fn commands(program: &Path, host: &Host, routers: &[Router]) -> Result<Vec<Command>> {
    host.write_file(CONFIG.as_ref(), &config(routers))?;
    let mut command = host.command(program);
    // Without --log-detail: a line for each announcement would cost it seconds at 1,000 addresses.
    command.args(["--dont-fork", "--log-console", "--no-syslog", "--use-file", CONFIG]);
    command.args(["--pid", "/run/keepalived.pid", "--vrrp_pid", "/run/keepalived-vrrp.pid"]);
    Ok(vec![command])
}

fn config(routers: &[Router]) -> String {
    let mut text = String::from("global_defs {\n}\n");
    for router in routers {
        let Router { name, vrid, priority, version, interface, .. } = router;
        let (seconds, centiseconds) = (router.interval.as_secs(), router.interval.subsec_millis() / 10);
        write!(
            text,
            "vrrp_instance {name} {{\n  state BACKUP\n  interface {interface}\n  virtual_router_id {vrid}\n  \
             priority {priority}\n  version {version}\n  advert_int {seconds}.{centiseconds:02}\n"
        )
        .expect("a String takes all");
        if !router.preempt {
            text.push_str("  nopreempt\n");
        }
        if let Some((source, peers)) = &router.unicast {
            writeln!(text, "  unicast_src_ip {source}\n  unicast_peer {{").expect("a String takes all");
            peers.iter().for_each(|peer| writeln!(text, "    {peer}").expect("a String takes all"));
            text.push_str("  }\n");
        }
        let (advertised, excluded) = router.addresses.split_at(router.addresses.len().min(MOST_ADVERTISED));
        for (block, addresses) in [("virtual_ipaddress", advertised), ("virtual_ipaddress_excluded", excluded)] {
            if !addresses.is_empty() {
                writeln!(text, "  {block} {{\n    {}\n  }}", addresses.join("\n    ")).expect("a String takes all");
            }
        }
        text.push_str("}\n");
    }
    text
}

/// `... (NAME) Entering MASTER STATE`.
pub(super) fn event(line: &Line) -> Option<AgentEvent> {
    let (before, state) = line.text.split_once(") Entering ")?;
    let (_, router) = before.rsplit_once('(')?;
    let to = match state.split_once(" STATE")?.0 {
        "MASTER" => "Active",
        "BACKUP" => "Backup",
        "FAULT" => "Initialize",
        other => other,
    };
    let cause = state.split_once(" STATE (").map(|(_, cause)| cause.trim_end_matches(')').to_owned());
    Some(AgentEvent { at: line.at, router: router.to_owned(), from: None, to: to.to_owned(), cause })
}
