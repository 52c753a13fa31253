//! A host that has a virtual address without being its owner, as its neighbours hear of it.

use std::net::IpAddr;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use vipd::daemon::status::ConflictStatus;
use vipd::lab::{Host, Tap};
use vipd::types::MacAddr;
use vipd::wire::arp::Arp;
use vipd::wire::ndisc::NeighborAdvertisement;

use crate::support::{Agent, CONTROL, MAC_A, Segment, V4, V6, Vip, eventually, host, ip, learn, neighbour, vipd};
use crate::trial;

/// Of the host that should not be there, which the lab makes from its first address.
const STRANGER: MacAddr = MacAddr(0x02, 0x04, 10, 9, 0, 66);
/// How long a neighbour may believe the wrong host.
const MOST_WRONG: Duration = Duration::from_secs(1);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_millis(500);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_host_that_announces_the_address_is_named_and_the_neighbours_are_corrected", stranger),
        trial("a_stranger_is_told_from_the_virtual_mac_address", stranger_and_virtual_mac),
        trial("an_ordinary_failover_is_no_conflict", ordinary_failover),
        trial("a_foreign_group_on_the_same_vrid_is_named_and_not_fought", foreign_group),
        trial("ten_thousand_arp_packets_a_second_do_not_wake_the_agent", busy_network),
    ]
}

fn stranger() -> Result<()> {
    let segment = Segment::new()?;
    let agents = segment.pair(Vip::new)?;
    for address in [V4, V6] {
        ensure!(learn(&segment.client, address)? == MAC_A, "{address} is not at a");
    }
    let before = agents.each_ref().map(|agent| agent.transitions().len());
    let stranger = host(&segment.network, "stranger", 66)?;
    stranger.add_address("eth0", &format!("{V4}/24"))?;
    stranger.add_address("eth0", &format!("{V6}/64"))?;
    // More than a second after the announcement that is repeated after one second.
    thread::sleep(Duration::from_millis(2_300));
    // The first time the owner may answer at once; the second time it has just done so, and the neighbours must wait.
    for time in 1..=2 {
        let wrong = announce_and_watch(&stranger, &segment.client, MAC_A)?;
        eprintln!("announcement {time}: the client believed the stranger for {wrong:?}");
        ensure!(
            wrong.iter().all(|wrong| *wrong < MOST_WRONG + SLACK),
            "the client believed the stranger for {wrong:?}"
        );
        if time == 2 {
            ensure!(wrong.iter().all(|wrong| !wrong.is_zero()), "the client never believed the stranger");
        }
    }
    let conflicts = eventually("a knows of both addresses", || {
        let conflicts = agents[0].vip()?.conflicts;
        Ok((conflicts.len() == 2).then_some(conflicts))
    })?;
    for (conflict, address) in conflicts.iter().zip([V4, V6]) {
        let ConflictStatus { mac, claims, former_owner, persistent, .. } = conflict;
        let right = conflict.address == ip(address) && *mac == STRANGER.to_string();
        ensure!(right && *claims >= 2 && !former_owner && !persistent, "{conflict:?}");
        let line = format!("{STRANGER} also answers for {address}: another host has this address configured");
        ensure!(said(&agents[0], &line) == 1, "{line:?} is not in the log exactly once");
    }
    ensure!(agents[1].vip()?.conflicts.is_empty(), "b, which owns nothing, knows of conflicts");
    let shown = table(&segment.a)?;
    ensure!(shown.contains(&format!("db: {STRANGER} also answers for {V4} (heard 2 times")), "{shown}");
    agents.iter().zip(before).try_for_each(|(agent, before)| agent.ensure_calm_since(before))
}

fn stranger_and_virtual_mac() -> Result<()> {
    const VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
    let segment = Segment::new()?;
    let agents = segment.pair(|priority| Vip::new(priority).with("mac = \"virtual\""))?;
    ensure!(learn(&segment.client, V4)? == VIRTUAL, "the address is not at its virtual MAC address");
    // Beyond the first repeat of the announcement.
    thread::sleep(Duration::from_millis(1_300));
    ensure!(agents[0].vip()?.conflicts.is_empty(), "a takes itself for a stranger: {:?}", agents[0].vip()?.conflicts);
    let stranger = host(&segment.network, "stranger", 66)?;
    announce(&stranger)?;
    eventually("a knows of it", || Ok((agents[0].vip()?.conflicts.len() == 2).then_some(())))?;
    eventually("the client is corrected", || Ok((neighbour(&segment.client, ip(V4))? == Some(VIRTUAL)).then_some(())))
}

fn ordinary_failover() -> Result<()> {
    let mut segment = Segment::new()?;
    let [agent_a, agent_b] = segment.pair(Vip::new)?;
    segment.a.kill()?;
    agent_b.await_state("Active")?;
    // What is left of it was killed as well.
    drop(agent_a);
    segment.reboot_a()?;
    let agent_a = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent_a.await_state("Active")?;
    agent_b.await_state("Backup")?;
    ensure!(agent_a.stop()? == Some(0), "a did not end well");
    agent_b.await_state("Active")?;
    let again = Agent::start(&segment.a, &[Vip::new(200)])?;
    again.await_state("Active")?;
    agent_b.await_state("Backup")?;
    // Beyond the first repeat of the announcement.
    thread::sleep(Duration::from_millis(1_300));
    for agent in [&agent_a, &agent_b, &again] {
        ensure!(said(agent, "answers for") + said(agent, "answering for") == 0, "a failover was taken for a conflict");
    }
    let owner = agent_b.vip()?.owner_mac;
    ensure!(owner == Some(mac(MAC_A).to_string()), "b takes {owner:?} for the owner");
    Ok(())
}

fn foreign_group() -> Result<()> {
    let segment = Segment::new()?;
    let agents = segment.pair(Vip::new)?;
    let before = agents.each_ref().map(|agent| agent.transitions().len());
    let other = host(&segment.network, "other", 77)?;
    let group = Agent::start(&other, &[Vip::new(250).addresses("[\"10.9.0.177/24\"]")])?;
    group.await_state("Active")?;
    let counted = || agents.iter().map(|agent| agent.drops("foreign-group")).collect::<Result<Vec<_>>>();
    eventually("its adverts are counted", || Ok(counted()?.iter().all(|count| *count >= 5).then_some(())))?;
    for agent in agents.iter().chain([&group]) {
        ensure!(said(agent, "uses this VRID for other addresses") == 1, "the other group is not named once");
    }
    let foreign = agents[0].vip()?.foreign_group.context("a's status does not show it")?;
    ensure!(foreign.source == ip("10.9.0.77") && foreign.addresses == [ip("10.9.0.177")], "{foreign:?}");
    ensure!(table(&segment.a)?.contains("10.9.0.77 uses the same VRID for 10.9.0.177"), "{}", table(&segment.a)?);
    ensure!(group.vip()?.state == "Active", "the other group lost its address");
    agents.iter().zip(before).try_for_each(|(agent, before)| agent.ensure_calm_since(before))
}

fn busy_network() -> Result<()> {
    const A_SECOND: u32 = 10_000;
    const TIME: Duration = Duration::from_secs(2);
    let segment = Segment::new()?;
    let agents = segment.pair(Vip::new)?;
    let busy = host(&segment.network, "busy", 66)?;
    let tap = Tap::open(&busy, "eth0", Duration::from_millis(1))?;
    let transitions = agents.each_ref().map(|agent| agent.transitions().len());
    let pids = agents.each_ref().map(|agent| agent.process().pid());
    let usages = || Ok::<_, anyhow::Error>([usage(pids[0])?, usage(pids[1])?]);
    let quiet = usages()?;
    thread::sleep(TIME);
    let before = usages()?;
    let (started, mut sent) = (Instant::now(), 0_u32);
    let mut frame = Vec::new();
    while started.elapsed() < TIME {
        let due = u64::from(A_SECOND) * u64::try_from(started.elapsed().as_micros())? / 1_000_000;
        while u64::from(sent) < due {
            let [_, _, high, low] = sent.to_be_bytes();
            Arp::gratuitous_request(STRANGER, [10, 9, high | 0x80, low].into()).emit(&mut frame);
            tap.send(&frame)?;
            sent += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let after = usages()?;
    for index in 0..2 {
        let [(wakes_0, cpu_0), (wakes_1, cpu_1), (wakes_2, cpu_2)] = [quiet[index], before[index], after[index]];
        let (calm, busy) = (wakes_1 - wakes_0, wakes_2 - wakes_1);
        eprintln!(
            "{sent} ARP packets in {TIME:?}: {busy} wakes of the loop, {calm} without them; CPU {} and {} ticks",
            cpu_2 - cpu_1,
            cpu_1 - cpu_0
        );
        ensure!(busy < calm + u64::from(sent) / 100, "{busy} wakes of the loop, {calm} on a quiet network");
    }
    for (agent, before) in agents.iter().zip(transitions) {
        agent.ensure_calm_since(before)?;
        ensure!(agent.vip()?.conflicts.is_empty(), "{:?}", agent.vip()?.conflicts);
    }
    Ok(())
}

/// a owns, b follows.
/// A host says of both addresses that it has them.
fn announce(stranger: &Host) -> Result<Instant> {
    let tap = Tap::open(stranger, "eth0", Duration::from_millis(1))?;
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (ip(V4), ip(V6)) else { bail!("not one of each family") };
    let mut frame = Vec::new();
    Arp::gratuitous_request(STRANGER, v4).emit(&mut frame);
    tap.send(&frame)?;
    NeighborAdvertisement::unsolicited(STRANGER, v6).emit(STRANGER, &mut frame);
    tap.send(&frame)?;
    Ok(Instant::now())
}

/// For how long a client that knew better believes it, for each address.
fn announce_and_watch(stranger: &Host, client: &Host, right: [u8; 6]) -> Result<[Duration; 2]> {
    let said = announce(stranger)?;
    let mut last_wrong = [Duration::ZERO; 2];
    while said.elapsed() < MOST_WRONG + SLACK {
        for (address, last) in [V4, V6].into_iter().zip(&mut last_wrong) {
            if neighbour(client, ip(address))? != Some(right) {
                *last = said.elapsed();
            }
        }
        // Once it was corrected nothing more comes, unless the stranger speaks again.
        if last_wrong.iter().all(|last| said.elapsed() > *last + Duration::from_millis(100)) {
            break;
        }
    }
    Ok(last_wrong)
}

/// How many lines of an agent's log contain a text.
fn said(agent: &Agent, text: &str) -> usize {
    agent.process().lines_from(0).iter().filter(|line| line.text.contains(text)).count()
}

/// What `vipd status` shows on a host.
fn table(host: &Host) -> Result<String> {
    let (_, table, _) = vipd(host, &["status", "--control", CONTROL])?;
    Ok(table)
}

fn mac([a, b, c, d, e, f]: [u8; 6]) -> MacAddr {
    MacAddr(a, b, c, d, e, f)
}

/// How often the loop of a process has gone to sleep, and the processor time of all its threads in ticks.
fn usage(pid: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{pid}/status"))?;
    let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).context("sleeps")?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("stat")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok((sleeps.trim().parse()?, ticks))
}
