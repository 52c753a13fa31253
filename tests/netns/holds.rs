//! `vipd drain` and `vipd undrain`: the peer takes over, and a restart changes nothing.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

use crate::journal::await_event;
use crate::support::{Agent, CONTROL, Segment, Vip, await_all, await_none, vipd};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("a_drain_moves_the_address_at_once_and_outlasts_a_kill", drain)]
}

fn drain() -> Result<()> {
    let segment = Segment::new()?;
    let [agent_a, agent_b] = segment.pair(Vip::new)?;

    let (code, _, said) = vipd(&segment.a, &["drain", "nobody", "--control", CONTROL])?;
    ensure!(code == Some(1) && said.contains("there is no vip \"nobody\""), "{code:?}: {said}");
    let (code, out, said) = vipd(&segment.a, &["drain", "db", "--for", "1h", "--control", CONTROL])?;
    ensure!(code == Some(0) && out.starts_with("db: Held until "), "{code:?}: {out}{said}");
    agent_b.await_state("Active")?;
    ensure!(agent_b.vip()?.cause.ends_with("1 resigned"), "b claimed because {:?}", agent_b.vip()?.cause);
    await_none(&segment.a)?;
    await_all(&segment.b)?;

    agent_a.process().kill()?;
    let agent_a = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent_a.await_state("Held")?;
    let hold = agent_a.vip()?.hold.context("no hold in the status")?;
    ensure!(hold.reason == "drained" && hold.left_s.is_some_and(|left| (3_500.0..3_600.0).contains(&left)), "{hold:?}");
    let (_, table, _) = vipd(&segment.a, &["status", "--control", CONTROL])?;
    ensure!(table.contains("db: drained by an operator for 59m"), "{table}");
    agent_a.stop()?;
    agent_b.stop()?;
    await_none(&segment.b)?;
    let agent_a = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent_a.await_state("Held")?;

    let (code, out, said) = vipd(&segment.a, &["undrain", "--control", CONTROL])?;
    ensure!(code == Some(0) && out == "db: Backup\n", "{code:?}: {out}{said}");
    agent_a.await_state("Active")?;
    await_all(&segment.a)?;
    let drained = await_event(&segment.a, "the drain in the journal", |record| {
        record.cause.as_deref() == Some("drained by an operator")
    })?;
    ensure!(drained.vip.as_deref() == Some("db"), "{drained:?}");
    agent_a.stop()?;
    let agent_a = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent_a.await_state("Active").map(drop)
}
