//! `mac = "virtual"`: the address answers with the virtual router's MAC address, whoever owns it.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use vipd::lab::{Host, Kind, Probe};

use crate::support::{
    Agent, MAC_A, MAC_B, Segment, V4, V6, Vip, await_none, eventually, interfaces, ip, learn, neighbour, own_addresses,
    sysctls,
};
use crate::trial;

const VRID: u8 = 51;
const VIRTUAL_MAC: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x01, VRID];
const VIRTUAL_MAC_V6: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x02, VRID];
/// An address that no host has.
const ASKER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 222);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_virtual_mac_alone_answers_and_outlives_its_owner", failover),
        trial("two_owners_of_one_virtual_mac_hear_each_other", heal),
        trial("a_virtual_mac_is_gone_after_a_stop_and_after_a_crash", stop),
    ]
}

fn failover() -> Result<()> {
    let segment = Segment::new()?;
    let [_agent_a, agent_b] = segment.pair(vip)?;
    let probe = Probe::start(&segment.client, "eth0", ip(V4), ASKER)?;
    ensure_macs(&segment)?;
    await_answers(&probe, 20)?;

    segment.a.kill()?;
    agent_b.await_state("Active")?;
    let answered = probe.count();
    await_answers(&probe, answered + 20)?;
    ensure!(neighbour(&segment.client, ip(V4))? == Some(VIRTUAL_MAC), "the client's neighbour cache changed");
    ensure!(learn(&segment.client, "10.9.0.2")? == MAC_B, "b's own address left its interface");
    let record = probe.stop()?;
    let mut macs: Vec<_> = record.answers.iter().filter(|answer| answer.kind == Kind::Neighbour).collect();
    macs.dedup_by_key(|answer| answer.from);
    ensure!(macs.len() == 1 && macs[0].from == VIRTUAL_MAC, "{V4} was answered for by {macs:?}");
    Ok(())
}

fn heal() -> Result<()> {
    let segment = Segment::new()?;
    let ports = [segment.a.port("eth0")?, segment.b.port("eth0")?];
    ports.iter().try_for_each(|port| port.set_isolated(true))?;
    let agent_a = Agent::start(&segment.a, &[vip(200)])?;
    let agent_b = Agent::start(&segment.b, &[vip(100)])?;
    agent_a.await_state("Active")?;
    agent_b.await_state("Active")?;
    // Now the adverts of each come in with the other's own MAC address.
    ports.iter().try_for_each(|port| port.set_isolated(false))?;
    agent_b.await_state("Backup")?;
    await_none(&segment.b)?;
    ensure_macs(&segment)?;
    ensure!(agent_a.vip()?.state == "Active", "both yielded");
    Ok(())
}

fn stop() -> Result<()> {
    let segment = Segment::new()?;
    let before = (interfaces(&segment.a)?, sysctls(&segment.a)?);
    let agent = Agent::start(&segment.a, &[vip(200)])?;
    agent.await_state("Active")?;
    ensure_macs(&segment)?;
    ensure!(interfaces(&segment.a)?.len() == before.0.len() + 2, "{:?}", interfaces(&segment.a)?);
    ensure!(agent.stop()? == Some(0), "the exit code is not 0");
    ensure_as_before(&segment.a, &before)?;

    let agent = Agent::start(&segment.a, &[vip(200)])?;
    agent.await_state("Active")?;
    agent.process().kill()?;
    ensure!(
        interfaces(&segment.a)?.len() == before.0.len() + 2,
        "a crash leaves nothing: {:?}",
        interfaces(&segment.a)?
    );
    // Once its lease of 300 ms is over, nothing is gone on with.
    std::thread::sleep(Duration::from_millis(500));
    let agent = Agent::start(&segment.a, &[vip(200).every_ms(5_000)])?;
    eventually("the agent answers", || Ok(agent.status().ok()))?;
    ensure_as_before(&segment.a, &before)
}

fn vip(priority: u8) -> Vip {
    Vip::new(priority).vrid(VRID).with("mac = \"virtual\"")
}

fn ensure_macs(segment: &Segment) -> Result<()> {
    for (address, mac) in [(V4, VIRTUAL_MAC), (V6, VIRTUAL_MAC_V6), ("10.9.0.1", MAC_A), ("fd09::1", MAC_A)] {
        let learned = learn(&segment.client, address)?;
        ensure!(learned == mac, "{address} is at {learned:x?}");
    }
    Ok(())
}

fn await_answers(probe: &Probe, count: usize) -> Result<()> {
    let started = std::time::Instant::now();
    eventually("answers", || {
        let answers = probe.answers_from(0);
        Ok((answers.iter().filter(|answer| answer.kind == Kind::Neighbour).count() >= count).then_some(()))
    })?;
    // And no more than that has to come soon.
    ensure!(started.elapsed() < Duration::from_secs(15), "answers are rare");
    Ok(())
}

fn ensure_as_before(host: &Host, before: &(Vec<String>, std::collections::BTreeMap<String, String>)) -> Result<()> {
    ensure!(interfaces(host)? == before.0, "left behind: {:?}", interfaces(host)?);
    let now = sysctls(host)?;
    let differ: Vec<_> = now.iter().filter(|(path, value)| before.1.get(*path) != Some(*value)).collect();
    ensure!(differ.is_empty() && now.len() == before.1.len(), "settings are not as before: {differ:?}");
    ensure!(own_addresses(host)?.is_empty(), "addresses are left");
    Ok(())
}
