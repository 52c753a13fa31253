//! A host on the link that sends what it should not.
//!
//! A well-formed advert of a higher priority wins an election by rights (RFC 9568 §9: there is no authentication), so none is sent.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use vipd::types::Family;

use crate::support::{Agent, Forger, Forgery, Segment, Vip, eventually, host, resident_kib};
use crate::trial;

/// The virtual router of these tests.
const VRID: u8 = 51;
/// A quarter of a minute's worth is sent where nobody asks for more.
const PACKETS: u32 = 20_000;
const PACKETS_A_SECOND: u32 = 5_000;
/// How much memory a flood may cost.
const MOST_GROWTH_KIB: u64 = 1024;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_flood_of_bad_packets_moves_nobody_and_fills_no_memory", flood),
        trial("routed_adverts_are_dropped_and_counted_whatever_they_say", routed),
    ]
}

fn flood() -> Result<()> {
    let packets = match std::env::var("VIPD_FLOOD_PACKETS") {
        Ok(text) => text.parse().context("VIPD_FLOOD_PACKETS")?,
        Err(_) => PACKETS,
    };
    let segment = Segment::new()?;
    let agents = segment.pair(|priority| Vip::new(priority).vrid(VRID))?;
    let forger = Forger::new(&host(&segment.network, "forger", 66)?)?;
    let mut random = Random(0x7669_7064);
    let before = agents.each_ref().map(|agent| agent.transitions().len());
    let memory = |agent: &Agent| resident_kib(agent.process().pid());
    let memory_before = [memory(&agents[0])?, memory(&agents[1])?];
    let dropped_before = [dropped(&agents[0])?, dropped(&agents[1])?];

    let started = Instant::now();
    let mut sent = 0;
    while sent < packets {
        let due = u64::from(PACKETS_A_SECOND) * u64::try_from(started.elapsed().as_micros())? / 1_000_000;
        while u64::from(sent) < due && sent < packets {
            forger.send(&bad_packet(&forger, &mut random))?;
            sent += 1;
        }
        thread::sleep(Duration::from_millis(2));
    }
    eprintln!("{sent} packets in {:?}", started.elapsed());

    for (index, agent) in agents.iter().enumerate() {
        agent.ensure_calm_since(before[index])?;
        // Some may be lost on the way, where the machine is busy; what arrives is counted.
        let counted = eventually("most are counted", || {
            let counted = dropped(agent)? - dropped_before[index];
            Ok((counted >= u64::from(packets) / 2).then_some(counted))
        })?;
        let grown = memory(agent)?.saturating_sub(memory_before[index]);
        eprintln!("{counted} drops counted, {grown} KiB grown: {:?}", drops(agent)?);
        ensure!(grown < MOST_GROWTH_KIB, "{grown} KiB more than before");
        for reason in ["unknown-vrid", "wrong-hop-limit", "bad-checksum", "truncated", "unknown-version"] {
            ensure!(
                drops(agent)?.get(reason).is_some_and(|count| *count > 0),
                "none for {reason}: {:?}",
                drops(agent)?
            );
        }
    }
    Ok(())
}

fn routed() -> Result<()> {
    let segment = Segment::new()?;
    let agents = segment.pair(|priority| Vip::new(priority).vrid(VRID))?;
    let forger = Forger::new(&host(&segment.network, "forger", 66)?)?;
    let before = agents.each_ref().map(|agent| agent.transitions().len());
    let mut sent = 0;
    // What would make a Backup claim, and what would make an owner yield.
    for priority in [0, 254, 255] {
        for hop_limit in [254, 64, 1] {
            for family in Family::ALL {
                forger.send(&Forgery { family, hop_limit, payload: forger.advert(family, VRID, priority) })?;
                sent += 1;
            }
        }
    }
    for (agent, before) in agents.iter().zip(before) {
        eventually("all are counted", || Ok((agent.drops("wrong-hop-limit")? == sent).then_some(())))?;
        agent.ensure_calm_since(before)?;
    }
    Ok(())
}

/// a owns, b follows.
/// Anything but an advert of our virtual router.
fn bad_packet(forger: &Forger, random: &mut Random) -> Forgery {
    loop {
        let family = if random.below(2) == 0 { Family::V4 } else { Family::V6 };
        let priority = [0, 1, 100, 201, 254, 255][random.below(6)];
        let ours = forger.advert(family, VRID, priority);
        let mut forgery = Forgery { family, hop_limit: 255, payload: ours };
        match random.below(5) {
            0 => forgery.payload = (0..random.below(300)).map(|_| random.byte()).collect(),
            1 => {
                for _ in 0..=random.below(4) {
                    let place = random.below(forgery.payload.len());
                    forgery.payload[place] = random.byte();
                }
            }
            2 => forgery.payload.resize(random.below(64), 0),
            3 => forgery.hop_limit = u8::try_from(random.below(255)).expect("below 255").max(1),
            _ => forgery.payload = forger.advert(family, [VRID - 1, VRID + 1, 1, 255][random.below(4)], priority),
        }
        if !forger.is_advert_of(&forgery, VRID) {
            return forgery;
        }
    }
}

fn dropped(agent: &Agent) -> Result<u64> {
    Ok(drops(agent)?.values().sum())
}

/// All that an agent has dropped, by reason.
fn drops(agent: &Agent) -> Result<BTreeMap<String, u64>> {
    let status = agent.status()?;
    let of_links = status.links.into_iter().map(|link| link.drops);
    let of_routers = status.vips.into_iter().flat_map(|vip| vip.routers).map(|router| router.drops);
    let mut all = BTreeMap::new();
    for (reason, count) in of_links.chain(of_routers).flatten() {
        *all.entry(reason).or_default() += count;
    }
    Ok(all)
}

/// Sebastiano Vigna's SplitMix64: any seed is as good as another.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a few");
        usize::try_from(self.next() % bound).expect("below a usize")
    }

    const fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}
