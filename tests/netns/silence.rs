//! An owner that is not heard: dead, or behind a firewall.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use vipd::engine::silence::LONGEST_WAIT;
use vipd::lab::set_firewall;

use crate::support::{Agent, MAC_A, Segment, V4, V6, Vip, ensure_calm, eventually, learn};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_killed_agent_is_succeeded_without_waiting_for_its_address", || dead_agent(Signal::SIGKILL)),
        trial("a_frozen_agent_is_succeeded_without_waiting_for_its_address", || dead_agent(Signal::SIGSTOP)),
        trial("an_owner_behind_a_firewall_is_waited_for_and_named", || firewall(V4)),
        trial("an_owner_of_ipv6_addresses_behind_a_firewall_is_waited_for_and_named", || firewall(V6)),
        trial("on_silent_owner_take_does_not_ask", take),
    ]
}

const ALARM: &str = " still answers at ";

/// Its kernel answers until the lease lapses, which is no reason to wait.
fn dead_agent(signal: Signal) -> Result<()> {
    for (every_ms, priority) in [(100, 100), (100, 254), (10, 100), (10, 254)] {
        let segment = Segment::new()?;
        let of = |priority| Vip::new(priority).every_ms(every_ms).with("preempt = false");
        let agent_b = Agent::start(&segment.b, &[of(priority)])?;
        agent_b.await_state("Active")?;
        let agent_a = Agent::start(&segment.a, &[of(254)])?;
        agent_a.await_state("Backup")?;
        // By turns: b is to be the backup.
        agent_b.stop()?;
        agent_a.await_state("Active")?;
        let agent_b = Agent::start(&segment.b, &[of(priority)])?;
        agent_b.await_state("Backup")?;
        eventually("b hears a", || Ok(agent_b.vip()?.owner))?;
        agent_a.process().signal(signal)?;
        agent_b.await_state("Active")?;
        let cause = agent_b.vip()?.cause;
        eprintln!("{signal} at {every_ms} ms and priority {priority}: {cause}");
        ensure!(cause.starts_with("no advert for "), "b claimed because {cause:?}");
        ensure!(!agent_b.has_said(ALARM), "b took a lease that lapsed for an owner");
    }
    Ok(())
}

fn firewall(address: &str) -> Result<()> {
    let segment = Segment::new()?;
    let of = |priority| Vip::new(priority).addresses(format!("[\"{address}/64\"]").replace("0/64", "0/24"));
    let [agent_a, agent_b] = segment.pair(of)?;
    set_firewall(&segment.b, "eth0", true)?;
    let silent = eventually("b waits", || Ok(agent_b.vip()?.silent_owner))?;
    ensure!(silent.address.is_ipv4() == address.contains('.'), "{silent:?}");
    ensure!(mac(MAC_A) == silent.mac, "{silent:?}");
    ensure!(agent_b.has_said(ALARM), "no alarm");
    // Most of the wait.
    ensure_calm(&[&agent_a, &agent_b], LONGEST_WAIT / 2)?;
    ensure!(learn(&segment.client, address)? == MAC_A, "{address} is not at a");
    // Mended in time, nothing has happened.
    set_firewall(&segment.b, "eth0", false)?;
    eventually("b hears a again", || Ok(agent_b.has_said("adverts are heard again").then_some(())))?;
    ensure!(agent_b.vip()?.silent_owner.is_none(), "b waits still");
    ensure_calm(&[&agent_a, &agent_b], Duration::from_secs(1))?;
    // Not mended, it takes over, and says that there are two.
    set_firewall(&segment.b, "eth0", true)?;
    agent_b.await_state("Active")?;
    ensure!(agent_b.has_said("taking over all the same"), "no alarm");
    set_firewall(&segment.b, "eth0", false)?;
    agent_b.await_state("Backup").context("after the firewall was mended")?;
    Ok(())
}

fn take() -> Result<()> {
    let segment = Segment::new()?;
    let of = |priority| Vip::new(priority).with("on_silent_owner = \"take\"");
    let [_agent_a, agent_b] = segment.pair(of)?;
    set_firewall(&segment.b, "eth0", true)?;
    agent_b.await_state("Active")?;
    ensure!(!agent_b.has_said(ALARM), "b asked");
    Ok(())
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}
