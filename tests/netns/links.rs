//! Interfaces lose their carrier, go, come back, are called otherwise, or come late. Each is an ordinary event.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use vipd::lab::{Host, Network};

use crate::support::{Agent, Segment, Vip, await_all, await_none, eventually};
use crate::trial;

/// Far less than an advert interval.
const AT_ONCE: Duration = Duration::from_millis(50);
const ATTEMPTS: usize = 4;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_lost_carrier_gives_up_at_once_and_its_return_takes_back", carrier),
        trial("an_interface_that_is_deleted_and_made_anew_is_followed", deleted),
        trial("an_interface_that_is_renamed_keeps_no_address_and_is_followed_back", renamed),
        trial("an_interface_that_is_replaced_unseen_gets_the_addresses", replaced),
        trial("an_interface_that_comes_late_is_followed", late),
    ]
}

fn carrier() -> Result<()> {
    let (segment, [agent_a, agent_b]) = pair()?;
    let port = segment.a.port("eth0")?;
    // The best of a few: this is a property of the agent, not of a busy machine.
    let mut best = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let cut = Instant::now();
        port.set_cable(false)?;
        let gave_up = agent_a.await_state("Initialize")?;
        ensure!(gave_up.cause == "interface down or without carrier", "{:?}", gave_up.cause);
        best = best.min(gave_up.at.saturating_duration_since(cut));
        await_none(&segment.a)?;
        let active = agent_b.await_state("Active")?;
        let taken = active.at.saturating_duration_since(cut);
        eprintln!("cable out: given up within {best:?}, taken over after {taken:?}");
        port.set_cable(true)?;
        taken_back(&segment, &agent_a, &agent_b)?;
        if best < AT_ONCE {
            return Ok(());
        }
    }
    bail!("it took {best:?} at best")
}

fn deleted() -> Result<()> {
    let (segment, [agent_a, agent_b]) = pair()?;
    segment.a.delete_link("eth0")?;
    let gave_up = agent_a.await_state("Initialize")?;
    ensure!(gave_up.cause == "interface missing" || gave_up.cause.starts_with("interface down"), "{:?}", gave_up.cause);
    agent_b.await_state("Active")?;
    // Twice, so that what the first left behind in the agent would show.
    for _ in 0..2 {
        segment.a.plug(&segment.network, "eth0", &["10.9.0.1/24", "fd09::1/64"])?;
        taken_back(&segment, &agent_a, &agent_b)?;
        segment.a.delete_link("eth0")?;
        agent_a.await_state("Initialize")?;
        ensure!(agent_a.status()?.links[0].state == "missing", "{:?}", agent_a.status()?.links);
        agent_b.await_state("Active")?;
    }
    Ok(())
}

fn renamed() -> Result<()> {
    let (segment, [agent_a, agent_b]) = pair()?;
    // While it is up, which only kernels since 6.2 allow; before, it is set down first.
    if segment.a.rename_link("eth0", "lan").is_err() {
        segment.a.set_up("eth0", false)?;
        segment.a.rename_link("eth0", "lan")?;
        segment.a.set_up("lan", true)?;
    }
    agent_a.await_state("Initialize")?;
    await_none(&segment.a)?;
    agent_b.await_state("Active")?;
    ensure!(agent_a.status()?.links[0].state == "missing", "{:?}", agent_a.status()?.links);

    if segment.a.rename_link("lan", "eth0").is_err() {
        segment.a.set_up("lan", false)?;
        segment.a.rename_link("lan", "eth0")?;
        segment.a.set_up("eth0", true)?;
    }
    taken_back(&segment, &agent_a, &agent_b)
}

fn replaced() -> Result<()> {
    let segment = Segment::new()?;
    let agent = Agent::start(&segment.a, &[Vip::new(200).every_ms(1_000)])?;
    agent.await_state("Active")?;
    // It cannot look while that happens, but is back before its lease of 3 s lapses.
    agent.process().signal(Signal::SIGSTOP)?;
    segment.a.delete_link("eth0")?;
    segment.a.plug(&segment.network, "eth0", &["10.9.0.1/24", "fd09::1/64"])?;
    agent.process().signal(Signal::SIGCONT)?;
    agent.await_that("a claims anew", |transitions| {
        let states: Vec<_> = transitions.iter().map(|moved| moved.to.as_str()).collect();
        states.ends_with(&["Initialize", "Backup", "Claiming", "Active"]).then_some(())
    })?;
    await_all(&segment.a)
}

fn late() -> Result<()> {
    let network = Network::new()?;
    let host = Host::new("a")?;
    let agent = Agent::start(&host, &[Vip::new(200)])?;
    eventually("the agent answers", || Ok(agent.status().ok()))?;
    ensure!(agent.vip()?.cause == "interface missing", "{:?}", agent.vip()?.cause);
    host.plug(&network, "eth0", &["10.9.0.1/24", "fd09::1/64"])?;
    agent.await_state("Active")?;
    await_all(&host)
}

/// a owns, b waits.
fn pair() -> Result<(Segment, [Agent; 2])> {
    let segment = Segment::new()?;
    let agents = segment.pair(Vip::new)?;
    Ok((segment, agents))
}

fn taken_back(segment: &Segment, agent_a: &Agent, agent_b: &Agent) -> Result<()> {
    agent_a.await_state("Active")?;
    agent_b.await_state("Backup")?;
    await_none(&segment.b)?;
    await_all(&segment.a)
}
