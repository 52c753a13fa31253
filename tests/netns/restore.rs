//! Another program on the owner's host removes the addresses.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use vipd::driver::addresses::Addresses;
use vipd::engine::restore::LIMIT;
use vipd::lab::Host;
use vipd::types::VirtualAddress;

use crate::support::{PATIENCE, Segment, V4, V6, Vip, await_all, await_none, ip};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("a_removed_address_is_put_back_and_past_the_limit_handed_over", removed)]
}

fn removed() -> Result<()> {
    let segment = Segment::new()?;
    let [agent_a, agent_b] = segment.pair(Vip::new)?;

    let removals = [(V4, 24), (V6, 64)].into_iter().cycle();
    let mut times = Vec::new();
    for (address, prefix_len) in removals.take(LIMIT.into()) {
        let took = remove_and_time(&segment.a, address, prefix_len)?;
        eprintln!("{address} was put back after {took:?}");
        times.push(took);
    }
    times.sort();
    let median = times[times.len() / 2];
    ensure!(median < Duration::from_millis(100), "put back after {times:?}");
    ensure!(agent_a.vip()?.state == "Active", "{:?}", agent_a.vip()?);

    // One that goes while its restoration is under way is back with that, and nobody notices: so again, until it counts.
    let begun = Instant::now();
    while agent_a.vip()?.state != "Held" {
        ensure!(begun.elapsed() < PATIENCE, "it is put back for ever: {:?}", agent_a.vip()?);
        // One that is not back yet cannot be removed.
        segment.a.delete_address("eth0", &format!("{V4}/24")).ok();
        // Nothing tells that a restoration has ended.
        std::thread::sleep(Duration::from_millis(20));
    }
    agent_b.await_state("Active")?;
    ensure!(agent_b.vip()?.cause.ends_with("1 resigned"), "b claimed because {:?}", agent_b.vip()?.cause);
    let status = agent_a.vip()?;
    ensure!(
        status.cause == "another program keeps removing the addresses or routes",
        "the cause is {:?}",
        status.cause
    );
    await_none(&segment.a)?;
    await_all(&segment.b)
}

/// As `ip address delete` does it; how long the address was away.
fn remove_and_time(host: &Host, address: &str, prefix_len: u8) -> Result<Duration> {
    let address = VirtualAddress { ip: ip(address), prefix_len, label: None };
    let index = host.link("eth0")?.index;
    host.run_in(|| {
        let mut kernel = Addresses::open()?;
        kernel.remove(index, std::slice::from_ref(&address))?;
        let gone = Instant::now();
        while gone.elapsed() < PATIENCE {
            if kernel.own_addresses(None)?.iter().any(|own| own.ip == address.ip) {
                return Ok(gone.elapsed());
            }
        }
        Err(anyhow::anyhow!("it does not come back"))
    })?
    .with_context(|| address.to_string())
}
