//! Routes and rules that go with the addresses.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use vipd::driver::routing::RoutingTables;
use vipd::engine::restore::LIMIT;
use vipd::lab::Host;

use crate::support::{Agent, Segment, Vip, await_all, await_none, configure, ensure_calm, eventually, reload};
use crate::trial;

/// As `ip route` and `ip rule` write what [`FILE`] says.
const ALL: [&str; 4] = [
    "10.50.0.0/16 via 10.9.0.9",
    "default via fd09::9 src fd09::100 table 100",
    "from 10.9.0.100/32 lookup 100 pref 1000",
    "from fd09::100/128 lookup 100 pref 1000",
];

const FILE: &str = r#"
routes = ["10.50.0.0/16 via 10.9.0.9", { to = "default", via = "fd09::9", source = "fd09::100", table = 100 }]
rules = [{ from = "10.9.0.100", table = 100 }, { from = "fd09::100", table = 100 }]
"#;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("routes_and_rules_go_where_the_addresses_are", they_move),
        trial("a_removed_route_is_put_back_and_past_the_limit_handed_over", removed),
        trial("routes_are_kept_by_an_agent_that_is_started_anew_and_leftovers_are_removed", started_anew),
        trial("a_reload_changes_routes_under_an_owner", reloaded),
        trial("a_route_that_the_kernel_refuses_is_no_owners", refused),
    ]
}

/// What an agent has installed on a host.
fn own(host: &Host) -> Result<Vec<String>> {
    let own = host.run_in(|| anyhow::Ok(RoutingTables::open()?.own()?))??;
    let mut texts: Vec<_> = own.into_iter().map(|own| own.routing.to_string()).collect();
    texts.sort();
    Ok(texts)
}

fn await_routing(host: &Host, expected: &[&str]) -> Result<()> {
    let mut expected: Vec<_> = expected.to_vec();
    expected.sort_unstable();
    let mut last = Vec::new();
    let seen = eventually("routes", || {
        last = own(host)?;
        Ok((last == expected).then_some(()))
    });
    seen.map_err(|error| error.context(format!("{} has {last:?} and not {expected:?}", host.name())))
}

/// As `ip route delete` does it.
fn delete(host: &Host, text: &str) -> Result<()> {
    host.run_in(|| {
        let mut tables = RoutingTables::open()?;
        let own = tables.own()?;
        let mut found = own.iter().filter(|own| own.routing.to_string() == text);
        found.try_for_each(|own| anyhow::Ok(tables.remove(own.ifindex, &[own.routing])?))
    })?
}

fn they_move() -> Result<()> {
    let segment = Segment::new()?;
    for mac in ["mac = \"interface\"", "mac = \"virtual\""] {
        let agent_a = Agent::start(&segment.a, &[Vip::new(200).with(FILE).with(mac)])?;
        let agent_b = Agent::start(&segment.b, &[Vip::new(100).with(FILE).with(mac)])?;
        agent_a.await_state("Active")?;
        agent_b.await_state("Backup")?;
        await_routing(&segment.a, &ALL)?;
        await_routing(&segment.b, &[])?;
        let status = agent_a.vip()?;
        ensure!(status.routes == ALL[..2] && status.rules == ALL[2..], "{status:?}");

        ensure!(agent_a.stop()? == Some(0), "it does not stop properly");
        await_routing(&segment.a, &[])?;
        await_routing(&segment.b, &ALL)?;

        // The interface takes what it carries with it, and brings nothing back.
        segment.b.set_up("eth0", false)?;
        agent_b.await_state("Initialize")?;
        await_routing(&segment.b, &[])?;
        segment.b.set_up("eth0", true)?;
        // Its own address of IPv6 as well.
        segment.b.add_address("eth0", "fd09::2/64")?;
        agent_b.await_state("Active")?;
        await_routing(&segment.b, &ALL)?;
        ensure!(agent_b.stop()? == Some(0), "it does not stop properly");
        await_routing(&segment.b, &[])?;
        await_none(&segment.b)?;
    }
    Ok(())
}

fn removed() -> Result<()> {
    let segment = Segment::new()?;
    let [agent_a, agent_b] = segment.pair(|priority| Vip::new(priority).with(FILE))?;
    await_routing(&segment.a, &ALL)?;
    for text in ALL.into_iter().cycle().take(LIMIT.into()) {
        delete(&segment.a, text)?;
        await_routing(&segment.a, &ALL)?;
        // What is put back is heard of before the next goes.
        thread::sleep(Duration::from_millis(50));
    }
    ensure!(agent_a.vip()?.state == "Active", "{:?}", agent_a.vip()?);
    delete(&segment.a, ALL[0])?;
    agent_a.await_state("Held")?;
    agent_b.await_state("Active")?;
    let cause = agent_a.vip()?.cause;
    ensure!(cause == "another program keeps removing the addresses or routes", "the cause is {cause:?}");
    await_routing(&segment.a, &[])?;
    await_routing(&segment.b, &ALL)
}

fn started_anew() -> Result<()> {
    let segment = Segment::new()?;
    let vip = |file: &str| [Vip::new(200).every_ms(1_000).with(file)];
    let mut agent_a = Agent::start(&segment.a, &vip(FILE))?;
    let agent_b = Agent::start(&segment.b, &[Vip::new(100).every_ms(1_000).with(FILE)])?;
    agent_a.await_state("Active")?;
    await_routing(&segment.a, &ALL)?;
    for _ in 0..2 {
        agent_a.process().kill()?;
        agent_a = Agent::start(&segment.a, &vip(FILE))?;
        agent_a.await_state("Active")?;
        let adopted = agent_a.transitions();
        ensure!(adopted.iter().all(|one| one.cause.starts_with("adopted")), "{adopted:?}");
        ensure!(own(&segment.a)?.len() == ALL.len(), "{:?}", own(&segment.a)?);
    }
    // The file was changed meanwhile, and a route was lost.
    agent_a.process().kill()?;
    delete(&segment.a, ALL[0])?;
    let other = "routes = [\"10.50.0.0/16 via 10.9.0.9\", \"10.60.0.0/16 via 10.9.0.9\"]";
    agent_a = Agent::start(&segment.a, &vip(other))?;
    agent_a.await_state("Active")?;
    ensure!(agent_a.transitions().iter().all(|one| one.cause.starts_with("adopted")), "it moved");
    await_routing(&segment.a, &[ALL[0], "10.60.0.0/16 via 10.9.0.9"])?;
    ensure_calm(&[&agent_a, &agent_b], Duration::from_millis(500))?;

    // Nobody goes on with these.
    agent_a.process().kill()?;
    agent_b.await_state("Active")?;
    await_all(&segment.b)?;
    ensure!(own(&segment.a)?.len() == 2, "there is something to clean");
    let agent_a = Agent::start(&segment.a, &[Vip::new(50).every_ms(1_000)])?;
    agent_a.await_state("Backup")?;
    await_routing(&segment.a, &[])
}

fn reloaded() -> Result<()> {
    let segment = Segment::new()?;
    let agent = Agent::start(&segment.a, &[Vip::new(200).with(FILE)])?;
    agent.await_state("Active")?;
    await_routing(&segment.a, &ALL)?;
    let count = agent.transitions().len();
    let other = "routes = [\"10.50.0.0/16 via 10.9.0.2\", \"10.60.0.0/16 via 10.9.0.9\"]\n\
                 rules = [{ from = \"10.9.0.100\", table = 100 }]";
    configure(&segment.a, &[Vip::new(200).with(other)])?;
    let said = reload(&segment.a)?;
    for line in ["- 10.50.0.0/16 via 10.9.0.9", "+ 10.50.0.0/16 via 10.9.0.2", "+ 10.60.0.0/16 via 10.9.0.9"] {
        ensure!(said.contains(line), "{said}");
    }
    await_routing(&segment.a, &["10.50.0.0/16 via 10.9.0.2", "10.60.0.0/16 via 10.9.0.9", ALL[2]])?;
    configure(&segment.a, &[Vip::new(200)])?;
    reload(&segment.a)?;
    await_routing(&segment.a, &[])?;
    // The first that the agent hears of routes.
    configure(&segment.a, &[Vip::new(200).with(FILE)])?;
    reload(&segment.a)?;
    await_routing(&segment.a, &ALL)?;
    delete(&segment.a, ALL[1])?;
    await_routing(&segment.a, &ALL)?;
    agent.ensure_calm_since(count)?;
    await_all(&segment.a)
}

fn refused() -> Result<()> {
    let segment = Segment::new()?;
    let nowhere = "routes = [\"10.50.0.0/16 via 192.0.2.1\"]";
    let agent_a = Agent::start(&segment.a, &[Vip::new(200).with(nowhere)])?;
    let agent_b = Agent::start(&segment.b, &[Vip::new(100).with(FILE)])?;
    agent_a.await_state("Held")?;
    agent_b.await_state("Active")?;
    let cause = agent_a.vip()?.cause;
    ensure!(cause.contains("cannot install the route \"10.50.0.0/16 via 192.0.2.1\""), "the cause is {cause:?}");
    await_none(&segment.a)?;
    await_routing(&segment.a, &[])?;
    await_routing(&segment.b, &ALL)
}
