//! Many virtual routers in one agent.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use vipd::driver::routing::RoutingTables;
use vipd::lab::{Host, Network};

use crate::support::{
    Agent, MAC_B, Segment, Transition, Vip, await_none, ensure_calm, eventually, learn, own_addresses,
};
use crate::trial;

/// As many as one interface's VRIDs nearly allow.
const VIPS: u8 = 250;
const INTERVAL_MS: u32 = 500;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("250_vips_come_up_and_are_taken_over_together", many),
        trial("each_vip_of_an_agent_fails_over_on_its_own", each_on_its_own),
        trial("the_many_addresses_of_a_vip_and_its_route_follow_a_dead_host", one_with_many),
    ]
}

fn many() -> Result<()> {
    let segment = Segment::new()?;
    let vips = |priority| -> Vec<_> {
        let vip = |vrid: u8| {
            Vip::new(priority)
                .named(format!("vip-{vrid}"))
                .vrid(vrid)
                .every_ms(INTERVAL_MS)
                .addresses(format!("[\"10.9.1.{vrid}/24\"]"))
        };
        (1..=VIPS).map(vip).collect()
    };
    let agent_a = Agent::start(&segment.a, &vips(200))?;
    let agent_b = Agent::start(&segment.b, &vips(100))?;
    let up = agent_a.await_that("all are Active at a", |transitions| all_in(transitions, "Active"))?;
    eprintln!("{VIPS} vips came up within {:?} of each other", spread(&up)?);
    agent_b.await_that("all are Backup at b", |transitions| all_in(transitions, "Backup"))?;
    eventually("a has all addresses", || Ok((own_addresses(&segment.a)?.len() == usize::from(VIPS)).then_some(())))?;
    // They settle: nobody wavers.
    ensure_calm(&[&agent_a, &agent_b], Duration::from_millis(u64::from(INTERVAL_MS)))?;

    segment.a.kill()?;
    let taken = agent_b.await_that("all are Active at b", |transitions| all_in(transitions, "Active"))?;
    let spread = spread(&taken)?;
    eprintln!("{VIPS} vips were taken within {spread:?} of each other");
    // One interval and the skew of priority 100.
    let bound = Duration::from_millis(INTERVAL_MS.into()) * (256 + 156) / 256;
    ensure!(spread <= bound, "{spread:?} between the first and the last, {bound:?} allowed");
    eventually("b has all addresses", || Ok((own_addresses(&segment.b)?.len() == usize::from(VIPS)).then_some(())))
}

/// What is left of them to install when the claim comes is a matter of how busy the machine is, and printed; `tests/sim/ahead.rs` has the rest.
fn one_with_many() -> Result<()> {
    let mut segment = Segment::new()?;
    let v4 = (101..=250).map(|last| format!("\"10.9.0.{last}/32\""));
    let v6 = (1..=50).map(|last| format!("\"fd09::1:{last}/128\""));
    let addresses: Vec<String> = v4.chain(v6).collect();
    let vip = |priority| {
        let vip = Vip::new(priority).every_ms(INTERVAL_MS).addresses(format!("[{}]", addresses.join(", ")));
        vip.with("routes = [\"10.50.0.0/16 via 10.9.0.9\"]")
    };
    let agent_a = Agent::start(&segment.a, &[vip(200)])?;
    let agent_b = Agent::start(&segment.b, &[vip(100)])?;
    agent_a.await_state("Active")?;
    agent_b.await_state("Backup")?;
    let all = |host: &Host| -> Result<Option<()>> {
        let routes = host.run_in(|| anyhow::Ok(RoutingTables::open()?.own()?.len()))??;
        // And the link-local one, which each virtual router of IPv6 has.
        Ok((own_addresses(host)?.len() == addresses.len() + 1 && routes == 1).then_some(()))
    };
    eventually("a has all addresses, and the route", || all(&segment.a))?;
    ensure!(own_addresses(&segment.b)?.is_empty(), "b has addresses although a is heard");

    segment.a.kill()?;
    let active = agent_b.await_state("Active")?;
    eventually("b has all addresses, and the route", || all(&segment.b))?;
    let claiming = agent_b.transitions().into_iter().rev().find(|moved| moved.to == "Claiming");
    eprintln!("{} addresses: {:?} from Claiming to Active", addresses.len(), claiming.map(|it| active.at - it.at));
    for address in ["10.9.0.101", "10.9.0.250", "fd09::1:1", "fd09::1:50"] {
        ensure!(learn(&segment.client, address)? == MAC_B, "{address} is not at b");
    }
    ensure_calm(&[&agent_b], Duration::from_millis(u64::from(INTERVAL_MS)))?;

    drop(agent_a);
    segment.reboot_a()?;
    let agent_a = Agent::start(&segment.a, &[vip(200)])?;
    agent_a.await_state("Active")?;
    await_none(&segment.b)?;
    eventually("a has all addresses again, and the route", || all(&segment.a))
}

fn each_on_its_own() -> Result<()> {
    let segment = Segment::new()?;
    let second = Network::new()?;
    segment.a.plug(&second, "eth1", &["10.8.0.1/24", "fd08::1/64"])?;
    segment.b.plug(&second, "eth1", &["10.8.0.2/24", "fd08::2/64"])?;
    // Two on each interface, and one VRID on both.
    let vips = |first, second| {
        [
            Vip::new(first).named("front").vrid(10),
            Vip::new(second).named("front-2").vrid(11).addresses("[\"10.9.0.101/24\"]"),
            Vip::new(first).named("back").vrid(10).on("eth1").addresses("[\"10.8.0.100/24\", \"fd08::100/64\"]"),
            Vip::new(second).named("back-2").vrid(11).on("eth1").addresses("[\"fd08::101/64\"]"),
        ]
    };
    let agent_a = Agent::start(&segment.a, &vips(200, 100))?;
    let agent_b = Agent::start(&segment.b, &vips(100, 200))?;
    await_states(&agent_a, ["Active", "Backup", "Active", "Backup"])?;
    await_states(&agent_b, ["Backup", "Active", "Backup", "Active"])?;

    segment.a.port("eth0")?.set_cable(false)?;
    await_states(&agent_b, ["Active", "Active", "Backup", "Active"])?;
    await_states(&agent_a, ["Initialize", "Initialize", "Active", "Backup"])?;
    segment.a.port("eth0")?.set_cable(true)?;
    await_states(&agent_a, ["Active", "Backup", "Active", "Backup"])?;
    await_states(&agent_b, ["Backup", "Active", "Backup", "Active"])?;

    segment.b.port("eth1")?.set_cable(false)?;
    await_states(&agent_a, ["Active", "Backup", "Active", "Active"])?;
    await_states(&agent_b, ["Backup", "Active", "Initialize", "Initialize"])?;

    // What was not concerned did not move at all, after it had come up.
    for (agent, name) in [(&agent_a, "back"), (&agent_b, "front-2")] {
        let path: Vec<_> =
            agent.transitions().into_iter().filter(|moved| moved.vip == name).map(|moved| moved.to).collect();
        ensure!(path == ["Backup", "Claiming", "Active"], "{name} went {path:?}");
    }
    Ok(())
}

/// In the order of the configuration.
fn await_states(agent: &Agent, wanted: [&str; 4]) -> Result<()> {
    let names = ["front", "front-2", "back", "back-2"];
    agent.await_that(&format!("{names:?} are {wanted:?}"), |transitions| {
        let last = last_of_each(transitions);
        let states = names.map(|name| last.get(name).map(|last| last.to.as_str()));
        (states == wanted.map(Some)).then_some(())
    })
}

fn last_of_each(transitions: &[Transition]) -> BTreeMap<&str, &Transition> {
    transitions.iter().map(|transition| (transition.vip.as_str(), transition)).collect()
}

/// The last transition of each vip, once all are in a state.
fn all_in(transitions: &[Transition], state: &str) -> Option<Vec<Transition>> {
    let last = last_of_each(transitions);
    let there = last.len() == usize::from(VIPS) && last.values().all(|last| last.to == state);
    there.then(|| last.into_values().cloned().collect())
}

/// Between the first and the last, by the times in the log.
fn spread(transitions: &[Transition]) -> Result<Duration> {
    let written = || transitions.iter().map(|transition| transition.written);
    let (first, last) = written().min().zip(written().max()).context("no transition")?;
    Ok(last.duration_since(first)?)
}
