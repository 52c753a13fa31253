//! Who owns the addresses, and who takes them over.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use vipd::lab::Host;

use crate::support::{
    Address, Agent, LINK_LOCAL, MAC_A, MAC_B, Segment, V4, V6, Vip, await_none, ensure_calm, eventually, ip, learn,
    neighbour, own_addresses,
};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_dead_host_is_replaced_and_takes_back_when_it_returns", dead_host),
        trial("preempt_false_leaves_the_addresses_where_they_are", no_preemption),
        trial("a_delayed_preemption_waits_for_its_delay", delayed_preemption),
    ]
}

fn dead_host() -> Result<()> {
    let mut segment = Segment::new()?;
    let addresses = format!("[{{ address = \"{V4}/24\", label = \"eth0:db\" }}, \"{V6}/60\"]");
    let (vip_a, vip_b) = (Vip::new(200).addresses(&addresses), Vip::new(100).addresses(&addresses));
    let agent_a = Agent::start(&segment.a, std::slice::from_ref(&vip_a))?;
    let agent_b = Agent::start(&segment.b, &[vip_b])?;
    agent_a.await_state("Active")?;
    agent_b.await_state("Backup")?;
    ensure_installed_as_configured(&segment.a)?;
    ensure_none(&segment.b)?;
    for address in [V4, V6] {
        ensure!(learn(&segment.client, address)? == MAC_A, "{address} is not at a");
    }
    let owner = agent_b.vip()?.owner;
    ensure!(owner.is_some_and(|owner| owner.source == ip("10.9.0.1") && !owner.this_node), "b follows somebody else");

    let died = segment.a.kill()?;
    let claimed = agent_b.await_state("Active")?;
    eprintln!("host dead to Active: {:?} at 100 ms adverts (bound 361 ms)", claimed.at - died);
    let cause = agent_b.vip()?.cause;
    ensure!(cause.starts_with("no advert for 3"), "the cause is {cause:?}");
    ensure_installed_as_configured(&segment.b)?;
    await_neighbours(&segment.client, MAC_B)?;

    drop(agent_a);
    segment.reboot_a()?;
    let agent_a = Agent::start(&segment.a, &[vip_a])?;
    let active = agent_a.await_state("Active")?;
    let backup = agent_b.await_state("Backup")?;
    ensure!(backup.cause == "10.9.0.1 is Active with priority 200", "b yielded because {:?}", backup.cause);
    eprintln!("failback: b yields {:?} from a's Active", backup.at.max(active.at) - backup.at.min(active.at));
    await_none(&segment.b)?;
    ensure_installed_as_configured(&segment.a)?;
    await_neighbours(&segment.client, MAC_A)
}

fn no_preemption() -> Result<()> {
    let segment = Segment::new()?;
    let agent_b = Agent::start(&segment.b, &[Vip::new(100)])?;
    agent_b.await_state("Active")?;
    let agent_a = Agent::start(&segment.a, &[Vip::new(200).with("preempt = false")])?;
    agent_a.await_state("Backup")?;
    // Several times as long as it waits for an owner.
    ensure_calm(&[&agent_a, &agent_b], Duration::from_millis(1_500))?;
    ensure_none(&segment.a)?;
    ensure!(agent_b.stop()? == Some(0), "b did not end well");
    agent_a.await_state("Active")?;
    // Whichever of its two addresses resigned last.
    ensure!(agent_a.vip()?.cause.ends_with("2 resigned"), "a took over because {:?}", agent_a.vip()?.cause);
    Ok(())
}

fn delayed_preemption() -> Result<()> {
    let segment = Segment::new()?;
    let agent_b = Agent::start(&segment.b, &[Vip::new(100)])?;
    agent_b.await_state("Active")?;
    let started = Instant::now();
    let agent_a = Agent::start(&segment.a, &[Vip::new(200).with("preempt = { delay = \"1s\" }")])?;
    let active = agent_a.await_state("Active")?;
    ensure!(active.at - started >= Duration::from_secs(1), "a waited for {:?} only", active.at - started);
    // By whichever family's advert it was that came first after the delay.
    let cause = agent_a.vip()?.cause;
    ensure!(cause.starts_with("preempts ") && cause.ends_with(" with priority 100"), "{cause:?}");
    agent_b.await_state("Backup")?;
    await_none(&segment.b)
}

/// With the agent's protocol number, without duplicate detection, with prefix and label.
fn ensure_installed_as_configured(host: &Host) -> Result<()> {
    let installed = own_addresses(host)?;
    let find = |address: &str| installed.iter().find(|found| found.ip == ip(address));
    let eth0 = host.link("eth0")?.index;
    let v4_right =
        |found: &Address| (found.ifindex, found.prefix_len, found.label.as_deref()) == (eth0, 24, Some("eth0:db"));
    let v6_right = |found: &Address| (found.ifindex, found.prefix_len, found.nodad) == (eth0, 60, true);
    let right = find(V4).is_some_and(v4_right) && find(V6).is_some_and(v6_right);
    let right = right && find(LINK_LOCAL).is_some_and(|found| found.nodad) && installed.len() == 3;
    ensure!(right, "{} has {installed:?}", host.name());
    Ok(())
}

fn ensure_none(host: &Host) -> Result<()> {
    let installed = own_addresses(host)?;
    ensure!(installed.is_empty(), "{} has {installed:?}", host.name());
    Ok(())
}

/// The client asked long ago; it knows better because it was told.
fn await_neighbours(client: &Host, mac: [u8; 6]) -> Result<()> {
    [V4, V6].into_iter().try_for_each(|address| {
        eventually(&format!("the client's neighbour cache has {address} at {mac:x?}"), || {
            Ok((neighbour(client, ip(address))? == Some(mac)).then_some(()))
        })
    })
}
