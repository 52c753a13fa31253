//! Ways to speak other than version 3 by multicast.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::support::{Agent, Segment, V4, Vip, ensure_calm, eventually, ip};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("version_2_elects_and_fails_over_without_a_password", || version_2("")),
        trial("version_2_elects_and_fails_over_with_a_password", || version_2("password = \"secret\"")),
        trial("version_2_with_another_password_is_dropped_and_counted", wrong_password),
        trial("unicast_peers_fail_over_where_no_multicast_passes", unicast),
    ]
}

fn unicast() -> Result<()> {
    let segment = Segment::new()?;
    for host in [&segment.a, &segment.b] {
        host.port("eth0")?.set_multicast(false)?;
    }
    let vip = |priority, peer: &str| {
        Vip::new(priority).addresses(format!("[\"{V4}/24\"]")).with(&format!("peers = [\"{peer}\"]"))
    };
    let agent_a = Agent::start(&segment.a, &[vip(200, "10.9.0.2")])?;
    agent_a.await_state("Active")?;
    let agent_b = Agent::start(&segment.b, &[vip(100, "10.9.0.1")])?;
    agent_b.await_state("Backup")?;
    ensure_calm(&[&agent_a, &agent_b], Duration::from_millis(800))?;
    ensure!(agent_b.vip()?.routers[0].received > 0, "b hears nothing");
    segment.a.kill()?;
    agent_b.await_state("Active").map(drop)
}

/// Version 2 counts in seconds, so this takes eight.
fn version_2(password: &str) -> Result<()> {
    let segment = Segment::new()?;
    let agent_a = Agent::start(&segment.a, &[vip_2(200, password)])?;
    let agent_b = Agent::start(&segment.b, &[vip_2(100, password)])?;
    agent_a.await_state("Active")?;
    let owner = eventually("b hears a", || Ok(agent_b.vip()?.owner))?;
    ensure!((owner.source, owner.priority) == (ip("10.9.0.1"), 200), "b follows {owner:?}");
    ensure!(agent_b.vip()?.state == "Backup", "b is {}", agent_b.vip()?.state);
    segment.a.kill()?;
    agent_b.await_state("Active")?;
    ensure!(agent_b.vip()?.cause.starts_with("no advert for 3"), "{}", agent_b.vip()?.cause);
    Ok(())
}

fn wrong_password() -> Result<()> {
    let segment = Segment::new()?;
    let agent_a = Agent::start(&segment.a, &[vip_2(200, "password = \"secret\"")])?;
    let agent_b = Agent::start(&segment.b, &[vip_2(100, "password = \"other\"")])?;
    agent_a.await_state("Active")?;
    // Neither takes the other's word, so neither yields: it is the operators' mistake, and it is told.
    agent_b.await_state("Active")?;
    for (name, agent) in [("a", &agent_a), ("b", &agent_b)] {
        eventually(&format!("{name} counts"), || Ok((agent.drops("wrong-password")? > 0).then_some(())))?;
        ensure!(agent.vip()?.routers[0].received == 0, "{name} accepted one");
        let told = |line: &str| line.contains("\"WARN\"") && line.contains("wrong-password");
        ensure!(agent.process().lines_from(0).iter().any(|line| told(&line.text)), "{name} does not log it");
    }
    Ok(())
}

fn vip_2(priority: u8, more: &str) -> Vip {
    Vip::new(priority).every_ms(1_000).addresses(format!("[\"{V4}/24\"]")).with("version = 2").with(more)
}
