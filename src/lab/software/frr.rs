//! FRR: its configuration, command line and log. It wants a macvlan with the virtual MAC address for each virtual router.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{AgentEvent, Router};
use crate::lab::host::Host;
use crate::lab::process::Line;

/// Where its programs look for each other.
const RUN: &str = "/run/frr";
const CONFIG: &str = "/run/frr/frr.conf";

pub(super) fn commands(directory: &Path, host: &Host, routers: &[Router]) -> Result<Vec<Command>> {
    host.write_file(CONFIG.as_ref(), &config(routers))?;
    // Its programs drop to a user who must be in a group `frrvty`. The lab knows one user: root.
    host.replace_file("/etc/group".as_ref(), "root:x:0:\nfrr:x:0:root\nfrrvty:x:0:root\n")?;
    // The addresses stand on the macvlans; else the interface below would answer for them too, even while FRR is Backup.
    host.run_in(|| fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1"))?.context("arp_ignore")?;
    for router in routers {
        let family = if router.is_ipv6() { 6 } else { 4 };
        let mac = [0, 0, 0x5e, 0, if family == 6 { 2 } else { 1 }, router.vrid];
        let name = format!("vrrp{family}-{}", router.vrid);
        // Left from an earlier start on the same host.
        if host.link(&name).is_ok() {
            host.delete_link(&name)?;
        }
        host.add_macvlan(&router.interface, &name, mac)?;
        // As FRR keeps it while it is Backup: else the addresses would answer until FRR has started.
        host.set_proto_down(&name, true)?;
        // FRR finds its macvlan by the addresses on it, and takes care of when they may answer. The link-local one, which is made
        // from the virtual MAC address, the kernel has put there.
        for address in router.addresses.iter().filter(|address| !address.starts_with("fe80:")) {
            host.add_address(&name, address).with_context(|| format!("FRR's {name}"))?;
        }
    }
    let zserv = format!("{RUN}/zserv.api");
    let user = ["--user", "root", "--group", "root"];
    let common =
        ["--vty_socket", RUN, "-f", CONFIG, "-z", &zserv, "-P", "0", "--log", "stdout", "--log-level", "debug"];
    let command = |name: &str| {
        let mut command = host.command(directory.join(name));
        command.args(user).args(common).args(["-i", &format!("{RUN}/{name}.pid")]);
        command
    };
    Ok(vec![command("zebra"), command("vrrpd")])
}

fn config(routers: &[Router]) -> String {
    let mut text = String::from("log stdout debugging\ndebug vrrp protocol\n");
    for router in routers {
        let Router { vrid, priority, version, interface, .. } = router;
        let interval_ms = router.interval.as_millis();
        write!(
            text,
            "interface {interface}\n vrrp {vrid} version {version}\n vrrp {vrid} priority {priority}\n \
             vrrp {vrid} advertisement-interval {interval_ms}\n"
        )
        .expect("a String takes all");
        if !router.preempt {
            writeln!(text, " no vrrp {vrid} preempt").expect("a String takes all");
        }
        let family = if router.is_ipv6() { "ipv6" } else { "ip" };
        for address in router.addresses.iter().filter_map(|address| address.split('/').next()) {
            writeln!(text, " vrrp {vrid} {family} {address}").expect("a String takes all");
        }
        text.push_str("exit\n");
    }
    text
}

/// `... [VRID 51] [IPv4] Backup -> Master`.
pub(super) fn event(line: &Line) -> Option<AgentEvent> {
    let (before, to) = line.text.rsplit_once(" -> ")?;
    let (_, from) = before.rsplit_once("] ")?;
    let known = |state: &str| match state {
        "Master" => Some("Active".to_owned()),
        "Backup" | "Initialize" => Some(state.to_owned()),
        _ => None,
    };
    Some(AgentEvent { at: line.at, router: String::new(), from: known(from), to: known(to)?, cause: None })
}
