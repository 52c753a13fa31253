//! Two real agents that hear each other on a second path.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use vipd::lab::{Host, Network, set_firewall};

use crate::support::{
    Agent, CONTROL, KEY, MAC_B, Segment, V4, Vip, configure, ensure_calm, eventually, learn, vipd, write_keys,
};
use crate::{support, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the_peer_of_an_owner_without_a_link_takes_over_at_once_when_told_by_multicast", || link_down(&LINK)),
        trial("the_peer_of_an_owner_without_a_link_takes_over_at_once_when_told_by_unicast", || link_down(&UNICAST)),
        trial("an_agent_that_stops_hands_over", stop),
        trial("adverts_that_are_blocked_one_way_make_no_second_owner_and_are_named", one_way),
        trial("a_second_path_comes_and_goes_by_reload_and_is_found_when_its_interface_comes_late", reload),
    ]
}

pub const LINK: [&str; 2] = ["{ interface = \"eth1\" }"; 2];
/// By address, of a to b and of b to a.
const UNICAST: [&str; 2] = ["{ peer = \"10.8.0.2\" }", "{ peer = \"fd08::1\" }"];

fn plug(second: &Network, host: &Host, number: u8) -> Result<()> {
    host.plug(second, "eth1", &[&format!("10.8.0.{number}/24"), &format!("fd08::{number}/64")]).map(drop)
}

/// The vip of a node, with what the node says of itself.
pub fn of(name: &str, priority: u8, path: &str) -> Vip {
    let node = format!("[node]\nname = \"{name}\"\nheartbeat = [{path}]\n[seal]\nkey_file = \"{KEY}\"");
    Vip::new(priority).every_ms(1_000).with(&node)
}

/// Both agents, of which a is the owner, with adverts of 1 s.
pub struct Both {
    pub segment: Segment,
    _second: Network,
    pub a: Agent,
    pub b: Agent,
}

pub fn both(paths: &[&str; 2]) -> Result<Both> {
    both_with(paths, |vip| vec![vip])
}

/// The same with what is made of the vip of each.
pub fn both_with(paths: &[&str; 2], vips: impl Fn(Vip) -> Vec<Vip>) -> Result<Both> {
    let segment = Segment::new()?;
    let second = Network::new()?;
    for (host, number) in [(&segment.a, 1), (&segment.b, 2)] {
        plug(&second, host, number)?;
        write_keys(host, &[0x5a])?;
    }
    let a = Agent::start(&segment.a, &vips(of("a", 200, paths[0])))?;
    a.await_state("Active")?;
    all_are(&a, "Active")?;
    let b = Agent::start(&segment.b, &vips(of("b", 100, paths[1])))?;
    b.await_state("Backup")?;
    all_are(&b, "Backup")?;
    eventually("b hears a's adverts", || Ok(b.status()?.vips.iter().all(|vip| vip.owner.is_some()).then_some(())))?;
    for (agent, other) in [(&a, "b"), (&b, "a")] {
        eventually("each hears the other on the second path", || Ok(hears(agent, other)?.then_some(())))?;
    }
    Ok(Both { segment, _second: second, a, b })
}

/// Waits until all vips of an agent are in a state.
pub fn all_are(agent: &Agent, state: &str) -> Result<()> {
    eventually(state, || Ok(agent.status()?.vips.iter().all(|vip| vip.state == state).then_some(())))
}

fn hears(agent: &Agent, peer: &str) -> Result<bool> {
    Ok(agent.status()?.second_path.iter().any(|it| it.peer == peer && it.heard && it.received > 3))
}

fn link_down(paths: &[&str; 2]) -> Result<()> {
    let Both { segment, a, b, .. } = both(paths)?;
    segment.a.port("eth0")?.set_cable(false)?;
    let gone = a.await_state("Initialize")?;
    let active = b.await_state("Active")?;
    let taken = b.await_that("b claims", |all| all.iter().find(|it| it.to == "Claiming").cloned())?;
    ensure!(taken.cause.contains("a says on the second path that its interface is out of order"), "{}", taken.cause);
    // Of two lines that are written within a moment, by threads of two agents, either may be the first.
    let took = active.written.duration_since(gone.written).unwrap_or_default();
    eprintln!("b owns the address {took:?} after a gave it up, with adverts of 1 s");
    ensure!(took < Duration::from_secs(1), "that is no better than a silence: {took:?}");
    ensure!(learn(&segment.client, V4)? == MAC_B, "{V4} is not at b");
    // And back.
    segment.a.port("eth0")?.set_cable(true)?;
    a.await_that("a is the owner again", |all| (all.last()?.to == "Active" && all.len() > 4).then_some(()))?;
    Ok(())
}

fn stop() -> Result<()> {
    let Both { a, b, .. } = both(&LINK)?;
    ensure!(a.stop()? == Some(0), "a did not stop in good order");
    let taken = b.await_that("b claims", |all| all.iter().find(|it| it.to == "Claiming").cloned())?;
    ensure!(taken.cause == "handover from a (it stops)", "{}", taken.cause);
    Ok(())
}

fn one_way() -> Result<()> {
    let Both { segment, a, b, .. } = both(&LINK)?;
    set_firewall(&segment.b, "eth0", true)?;
    let blocked = eventually("b names the direction", || Ok(b.vip()?.blocked.first().cloned()))?;
    ensure!((blocked.from.as_str(), blocked.to.as_str()) == ("a", "b"), "{blocked:?}");
    let blocked = eventually("a names the direction", || Ok(a.vip()?.blocked.first().cloned()))?;
    ensure!((blocked.from.as_str(), blocked.to.as_str()) == ("a", "b"), "{blocked:?}");
    ensure!(b.has_said("adverts from a to b on eth0 are blocked"), "b has not told");
    let (_, table, _) = vipd(&segment.b, &["status", "--control", CONTROL])?;
    ensure!(
        table.contains("adverts from a to b on eth0 are blocked") && table.contains("second path: a heard"),
        "{table}"
    );
    // Longer than b would wait for an address that only answers.
    ensure_calm(&[&a, &b], Duration::from_secs(4))?;
    set_firewall(&segment.b, "eth0", false)?;
    eventually("both hear that it is over", || {
        Ok((a.vip()?.blocked.is_empty() && b.vip()?.blocked.is_empty()).then_some(()))
    })?;
    ensure!(b.has_said("get through again"), "b has not told that it is over");
    ensure_calm(&[&a, &b], Duration::from_secs(1))
}

fn reload() -> Result<()> {
    let segment = Segment::new()?;
    let second = Network::new()?;
    [&segment.a, &segment.b].into_iter().try_for_each(|host| write_keys(host, &[0x5a]))?;
    let a = Agent::start(&segment.a, &[of("a", 200, LINK[0])])?;
    a.await_state("Active")?;
    let b = Agent::start(&segment.b, &[of("b", 100, LINK[1])])?;
    b.await_state("Backup")?;
    ensure!(a.status()?.second_path.is_empty(), "nobody can be heard yet");
    plug(&second, &segment.a, 1)?;
    plug(&second, &segment.b, 2)?;
    eventually("each is found", || Ok((hears(&a, "b")? && hears(&b, "a")?).then_some(())))?;
    let reload = |host: &Host, vip: Vip| -> Result<String> {
        configure(host, &[vip])?;
        support::reload(host)
    };
    let said = reload(&segment.b, of("b", 100, ""))?;
    ensure!(said.contains("heartbeat: no path"), "{said}");
    ensure!(b.status()?.second_path.is_empty(), "b still knows a");
    eventually("a says that b is silent", || Ok(a.has_said("b is no longer heard on the second path").then_some(())))?;
    reload(&segment.b, of("b", 100, UNICAST[1]))?;
    eventually("each hears the other again", || Ok((hears(&a, "b")? && hears(&b, "a")?).then_some(())))?;
    ensure_calm(&[&a, &b], Duration::from_millis(500))
}
