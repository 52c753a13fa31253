//! Exit codes, a second agent, and what a killed one left.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use vipd::lab::Host;

use crate::support::{
    Agent, CONFIG, CONTROL, STATE_DIR, Segment, Transition, V4, V6, Vip, await_none, ensure_calm, eventually,
    own_addresses, vipd,
};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_second_agent_is_refused_and_leaves_the_first_alone", second_agent),
        trial("commands_say_by_their_exit_code_what_is_wrong", exit_codes),
        trial("what_a_killed_agent_left_is_cleared_at_the_next_start", leftovers),
        trial("an_agent_that_is_killed_and_started_anew_within_its_lease_moves_nothing", adoption),
    ]
}

fn second_agent() -> Result<()> {
    let segment = Segment::new()?;
    let agent = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent.await_state("Active")?;
    let (code, _, said) =
        vipd(&segment.a, &["run", "--config", CONFIG, "--control", CONTROL, "--state-dir", STATE_DIR])?;
    ensure!(code == Some(6) && said.contains("running already"), "{code:?}: {said}");
    ensure_calm(&[&agent], Duration::from_millis(500))?;
    ensure!(own_addresses(&segment.a)?.len() == 3, "the first lost addresses");
    ensure!(agent.vip()?.state == "Active", "the first no longer answers as owner");
    Ok(())
}

fn exit_codes() -> Result<()> {
    let host = Host::new("a")?;
    let (code, _, said) = vipd(&host, &["status", "--control", CONTROL])?;
    ensure!(code == Some(4) && said.contains("no agent answers"), "{code:?}: {said}");
    host.write_file(CONFIG.as_ref(), "[[vip]]\nname = \"db\"\n")?;
    for command in ["run", "check"] {
        let (code, _, said) = vipd(&host, &[command, "--config", CONFIG])?;
        ensure!(code == Some(3) && said.contains("interface"), "{command}: {code:?}: {said}");
    }
    Ok(())
}

fn leftovers() -> Result<()> {
    let segment = Segment::new()?;
    segment.a.add_address("eth0", "10.9.0.50/24")?;
    let agent_a = Agent::start(&segment.a, &[Vip::new(200).with("preempt = false")])?;
    let agent_b = Agent::start(&segment.b, &[Vip::new(100)])?;
    agent_a.await_state("Active")?;
    agent_a.process().kill()?;
    ensure!(own_addresses(&segment.a)?.len() == 3, "SIGKILL leaves no addresses to be cleared");
    agent_b.await_state("Active")?;

    // It listens for longer than this test lasts.
    let agent_a = Agent::start(&segment.a, &[Vip::new(200).with("preempt = false").every_ms(10_000)])?;
    eventually("the agent answers", || Ok(agent_a.status().ok()))?;
    await_none(&segment.a)?;
    ensure!(agent_a.transitions().iter().all(|transition| transition.to == "Backup"), "it did not listen");
    let kept = segment.a.addresses("eth0")?;
    for own in ["10.9.0.1", "10.9.0.50"] {
        ensure!(kept.contains(&own.parse()?), "{own}, which is the host's own, is gone");
    }
    ensure!([V4, V6].iter().all(|address| !kept.contains(&address.parse().expect("an address"))), "{kept:?}");
    Ok(())
}

fn adoption() -> Result<()> {
    let segment = Segment::new()?;
    // The virtual MAC is kept as well.
    let vips = |priority| {
        let plain = Vip::new(priority).every_ms(1_000);
        let addresses = "[\"10.9.0.101/24\"]";
        [plain.clone(), plain.named("virtual").vrid(52).addresses(addresses).with("mac = \"virtual\"")]
    };
    let mut agent_a = Agent::start(&segment.a, &vips(200))?;
    let agent_b = Agent::start(&segment.b, &vips(100))?;
    let both_active = |seen: &[Transition]| (seen.iter().filter(|one| one.to == "Active").count() == 2).then_some(());
    agent_a.await_that("both vips are Active", both_active)?;
    let installed = own_addresses(&segment.a)?;
    for _ in 0..3 {
        agent_a.process().kill()?;
        agent_a = Agent::start(&segment.a, &vips(200))?;
        agent_a.await_that("both vips are Active", both_active)?;
        let seen = agent_a.transitions();
        ensure!(seen.iter().all(|one| one.cause.starts_with("adopted")), "{seen:?}");
        ensure!(own_addresses(&segment.a)? == installed, "the addresses are not as they were");
    }
    ensure_calm(&[&agent_a, &agent_b], Duration::from_millis(3_500))?;
    let seen = agent_b.transitions();
    ensure!(seen.iter().all(|one| one.to == "Backup"), "the peer noticed: {seen:?}");
    Ok(())
}
