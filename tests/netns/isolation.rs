//! References, of real kernels: a gateway by its route, a neighbour, and a host behind the gateway.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use vipd::daemon::status::ReferenceStatus;
use vipd::lab::Host;

use crate::support::{Agent, Segment, V4, Vip, await_none, ensure_calm, eventually, own_addresses};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_safe_owner_without_references_gives_up_and_its_peer_takes_over", || partition(Cut::Owner)),
        trial("a_safe_backup_without_references_does_not_claim", || partition(Cut::Backup)),
        trial("the_gateway_and_a_host_behind_it_are_found_and_asked", routes),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Owner,
    Backup,
}

/// The client, 10.9.0.9, is the reference of both.
fn partition(cut: Cut) -> Result<()> {
    let segment = Segment::new()?;
    let of = |priority| Vip::new(priority).with("references = [\"10.9.0.9\"]\nprefer = \"safe\"");
    let agent_a = Agent::start(&segment.a, &[of(200)])?;
    agent_a.await_state("Active")?;
    let agent_b = Agent::start(&segment.b, &[of(100)])?;
    agent_b.await_state("Backup")?;
    eventually("b hears a", || Ok(agent_b.vip()?.owner))?;
    for agent in [&agent_a, &agent_b] {
        let heard = eventually("the reference answers", || {
            Ok(reference(agent, 0)?.filter(|reference| reference.last_answer_age_ms.is_some()))
        })?;
        ensure!((heard.path.as_str(), heard.lost) == ("neighbour", false), "{heard:?}");
    }
    ensure_calm(&[&agent_a, &agent_b], Duration::from_secs(2))?;
    let cut_off = if cut == Cut::Owner { &segment.a } else { &segment.b };
    cut_off.port("eth0")?.set_forwarding(false)?;
    match cut {
        Cut::Owner => {
            agent_b.await_state("Active")?;
            let given_up = agent_a.await_state("Backup")?;
            ensure!(given_up.cause == "no reference answers (prefer = \"safe\")", "{given_up:?}");
            let claimed = agent_b.transitions().into_iter().find(|it| it.to == "Claiming");
            let claimed = claimed.ok_or_else(|| anyhow::anyhow!("b is Active, and never claimed"))?;
            eprintln!("a gave up this long before b claimed: {:?}", claimed.written.duration_since(given_up.written));
            // Some 150 ms on an idle machine.
            let slack = Duration::from_millis(200);
            ensure!(given_up.written < claimed.written + slack, "b claimed before a gave up");
            await_none(&segment.a)?;
            eventually("a is isolated", || Ok(agent_a.vip()?.isolated.then_some(())))?;
        }
        Cut::Backup => {
            eventually("b is isolated", || Ok(agent_b.vip()?.isolated.then_some(())))?;
            eventually("b misses its reference", || Ok(reference(&agent_b, 0)?.filter(|it| it.lost)))?;
            ensure!(own_addresses(&segment.b)?.is_empty(), "b has the addresses");
            agent_b.await_state("Backup")?;
        }
    }
    cut_off.port("eth0")?.set_forwarding(true)?;
    agent_a.await_state("Active")?;
    agent_b.await_state("Backup")?;
    eventually("b is connected", || Ok((!agent_b.vip()?.isolated).then_some(())))?;
    await_none(&segment.b)
}

fn routes() -> Result<()> {
    let segment = Segment::new()?;
    // The client is the router to 10.55.0.1, which is itself.
    run(&segment.client, "ip", &["address", "add", "10.55.0.1/32", "dev", "lo"])?;
    run(&segment.a, "ip", &["route", "add", "default", "via", "10.9.0.9"])?;
    let vip = Vip::new(100).addresses(format!("[\"{V4}/24\"]"));
    let vip = vip.with("references = [\"gateway\", \"10.9.0.2\", \"10.55.0.1\", \"10.55.0.2\"]");
    let agent = Agent::start(&segment.a, &[vip])?;
    agent.await_state("Active")?;
    for (place, address, path) in
        [(0, "10.9.0.9", "neighbour"), (1, "10.9.0.2", "neighbour"), (2, "10.55.0.1", "routed")]
    {
        let found = eventually(&format!("{address} answers"), || {
            let reference = reference(&agent, place)?;
            Ok(reference.filter(|reference| reference.last_answer_age_ms.is_some() && reference.path == path))
        })?;
        ensure!(found.address == address.parse().ok(), "{found:?}");
    }
    let lost = eventually("10.55.0.2 is lost", || Ok(reference(&agent, 3)?.filter(|it| it.lost)))?;
    ensure!(lost.last_answer_age_ms.is_none(), "{lost:?}");
    // Nothing depends on it.
    ensure_calm(&[&agent], Duration::from_millis(500))?;
    // Another router.
    run(&segment.a, "ip", &["route", "replace", "default", "via", "10.9.0.2"])?;
    eventually("the other gateway answers", || {
        Ok(reference(&agent, 0)?.filter(|it| it.address == "10.9.0.2".parse().ok()))
    })?;
    Ok(())
}

fn reference(agent: &Agent, place: usize) -> Result<Option<ReferenceStatus>> {
    Ok(agent.vip()?.references.get(place).cloned())
}

fn run(host: &Host, program: &str, arguments: &[&str]) -> Result<()> {
    let status = host.command(program).args(arguments).status()?;
    ensure!(status.success(), "{program} {arguments:?}: {status}");
    Ok(())
}
