//! A stop leaves nothing, and invites the successor.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::support::{Agent, CONTROL, Segment, Vip, addresses, await_all, eventually, interfaces, sysctls};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("a_clean_stop_leaves_nothing_and_costs_the_successors_skew", clean_stop)]
}

fn clean_stop() -> Result<()> {
    let segment = Segment::new()?;
    let before = (interfaces(&segment.a)?, sysctls(&segment.a)?, addresses(&segment.a)?);
    let vip = |priority| Vip::new(priority).every_ms(500);
    let agent_a = Agent::start(&segment.a, &[vip(200)])?;
    let agent_b = Agent::start(&segment.b, &[vip(100)])?;
    agent_a.await_state("Active")?;
    agent_b.await_state("Backup")?;
    eventually("b hears a", || Ok(agent_b.vip()?.owner))?;

    let signalled = Instant::now();
    ensure!(agent_a.stop()? == Some(0), "the exit code is not 0");
    let after = (interfaces(&segment.a)?, sysctls(&segment.a)?, addresses(&segment.a)?);
    ensure!(before == after, "before: {before:?}\nafter: {after:?}");
    ensure!(!segment.a.run_in(|| std::fs::exists(CONTROL))??, "the control socket is left");

    let active = agent_b.await_state("Active")?;
    let took = active.at.saturating_duration_since(signalled);
    eprintln!("SIGTERM to Active: {took:?} (skew 305 ms)");
    // Without the resignation it is 1.3 s at least: two whole intervals, and the skew.
    ensure!(took < Duration::from_millis(1_000), "the successor needed {took:?}");
    ensure!(agent_b.vip()?.cause.ends_with("1 resigned"), "{:?}", agent_b.vip()?.cause);
    await_all(&segment.b)
}
