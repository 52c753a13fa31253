//! Worlds by seed: first safety under faults, then heal and require an owner, fresh caches, and a clean end.

use std::collections::BTreeSet;
use vipd::engine::{Cause, EventKind, StateName};

use super::clock::{MILLISECOND, Nanos, SECOND, nanos};
use super::host::{Life, Wire};
use super::network::Port;
use super::plan::{Plan, REFRESH};
use super::seeds;
use super::watch::would_preempt;
use super::world::World;

/// So many worlds are run where nobody says how many: about 8 s on two idle cores, without optimisation.
const SEEDS: u64 = 2_000;

/// How long a node asks another for a handover.
const ASKING: Nanos = 300 * MILLISECOND;

/// How often a takeover is looked for.
const LOOKS: u64 = 16;

#[test]
fn no_seed_makes_two_owners_or_leaves_a_healed_world_without_one() {
    let worlds = seeds::each("no_seed_makes", seeds::number(SEEDS, 1), |seed, trace| {
        let mut world = World::new(seed, super::network::Network::quiet(), Vec::new());
        let result = run(seed, trace, &mut world);
        (result.map(|()| causes_in(&world)), world)
    });
    let Some(worlds) = worlds else { return };
    // Worlds in which nothing happens prove nothing.
    let causes: BTreeSet<String> = worlds.into_iter().flatten().collect();
    for cause in [
        "ActiveDown",
        "PeerResigned",
        "PeerWins",
        "Preempts",
        "Late",
        "InstallRefused",
        "LinkDown",
        "LinkMissing",
        "AddressesKeepVanishing",
        "HoldOver",
        "AddressOwner",
        "Shutdown",
        "GivenUp",
        "PeerOwns",
    ] {
        assert!(causes.contains(cause), "in no world was {cause} a cause: {causes:?}");
    }
}

/// The names of the causes that moved a vip.
fn causes_in(world: &World) -> BTreeSet<String> {
    let transitions = world.events.iter().filter_map(|(_, _, event)| match &event.kind {
        EventKind::Transition { cause, .. } => Some(cause),
        _ => None,
    });
    let name = |cause: &Cause| format!("{cause:?}").split([' ', '(', '{']).next().unwrap().to_owned();
    transitions.map(name).collect()
}

/// One world from its beginning to its end.
fn run(seed: u64, trace: bool, out: &mut World) -> Result<(), String> {
    let plan = Plan::by_seed(seed);
    *out = plan.world(seed);
    if trace {
        println!("{plan:#?}");
        out.trace = Some(Vec::new());
    }
    let world = out;
    under_faults(world, &plan)?;
    let owners = healed(world, &plan)?;
    handed_over(world, &plan, owners[0])?;
    clean_end(world)
}

/// Starts the agents one by one and lets everything happen that the plan has; the watch judges.
fn under_faults(world: &mut World, plan: &Plan) -> Result<(), String> {
    let longest = nanos(plan.longest_interval());
    for host in 0..world.hosts.len() {
        world.start(host);
        let pause = world.rng.within(0, longest);
        run_on(world, pause * u64::from(plan.staggered))?;
    }
    let quiet_at_first = world.rng.within(0, 8 * longest);
    run_on(world, quiet_at_first)?;
    for _ in 0..plan.acts {
        plan.act(world);
        let pause = world.rng.within(0, plan.pause);
        run_on(world, pause)?;
    }
    Ok(())
}

/// Repairs everything, waits for the stated bound, and requires one owner for good.
fn healed(world: &mut World, plan: &Plan) -> Result<Vec<Port>, String> {
    plan.heal(world);
    // What the kernels have begun by now may yet put a host out for a while.
    run_on(world, plan.effect_time.1 + 5 * MILLISECOND)?;
    let bound = bound(world, plan);
    run_on(world, bound)?;
    let mut owners = Vec::new();
    for vip in 0..plan.vips() {
        let Some(owner) = world.owner_of(vip) else {
            let states: Vec<StateName> = world.hosts.iter().map(|host| host.agent[vip].state).collect();
            let ms = bound / MILLISECOND;
            return Err(format!("vip {vip} has no single owner {ms} ms after the heal: the agents are {states:?}"));
        };
        if let Some(better) = would_preempt(&world.hosts, vip, owner) {
            return Err(format!("host {owner} owns vip {vip}, though host {better} preempts it"));
        }
        owners.push(owner);
    }
    world.watch.settled = Some(owners.clone());
    run_on(world, (2 * plan.patience()).max(nanos(REFRESH)) + 200 * MILLISECOND)?;
    world.watch.settled = None;
    for (vip, owner) in owners.iter().enumerate() {
        for address in world.hosts[*owner].addresses(vip) {
            if !world.hosts[*owner].kernel[vip].installed.contains(&address.ip) {
                return Err(format!("host {owner} owns vip {vip} without {address}"));
            }
            let believed = world.neighbours.believes(vip, address.ip);
            if believed != Some(*owner) {
                return Err(format!("the neighbours ask {believed:?} for {address} of host {owner}"));
            }
        }
    }
    Ok(owners)
}

/// How long after a heal everything is in its place: holds and delays of preemption, disputes, a silence, the kernel.
fn bound(world: &World, plan: &Plan) -> Nanos {
    let held = |host: &super::host::Host| host.agent.iter().any(|agent| agent.state == StateName::Held);
    let hold = if world.hosts.iter().any(held) { 31 * SECOND } else { 0 };
    let effects = 4 * plan.vips() as u64 * plan.effect_time.1;
    let bound = hold + plan.longest_delay() + 4 * plan.patience() + effects + 100 * MILLISECOND;
    // One that would preempt may just have asked another than who owns by now, which is gone, for a handover.
    let bound = bound + ASKING;
    // A bad clock may be slow.
    bound + bound / 8 + world.network.longest_way()
}

/// The owner stops: the next one is there after its skew time.
fn handed_over(world: &mut World, plan: &Plan, owner: Port) -> Result<(), String> {
    let interval = world.hosts[owner].interval(0);
    let heirs = world.hosts.iter().enumerate().filter(|(place, host)| *place != owner && host.life == Life::Running);
    let skew = heirs.map(|(_, host)| host.active_down(0, interval) - 3 * interval).min();
    world.stop(owner);
    let Some(skew) = skew else { return Ok(()) };
    // One agent may take over all vips, and asks its kernel for one after another.
    let effects = plan.effect_time.1 * plan.vips() as u64;
    // A handover takes three messages.
    let bound = skew + skew / 8 + 3 * world.network.longest_way() + effects + plan.lateness + MILLISECOND / 10;
    // Who took over may be preempted at once, by a better one that is on no second path: so it is looked at more than once. And
    // an owner that asks others whether they are ready still owns.
    let answers = |world: &World, host: Port| world.hosts[host].answers(0, world.now, true);
    let mut owned = false;
    for _ in 0..LOOKS {
        run_on(world, bound / LOOKS)?;
        owned |= (0..world.hosts.len()).any(|host| host != owner && answers(world, host));
    }
    let us = bound / 1_000;
    if owned || answers(world, owner) {
        Ok(())
    } else {
        Err(format!("host {owner} stopped, and nobody owns vip 0 {us} us later"))
    }
}

/// Everybody stops: no address is left.
fn clean_end(world: &mut World) -> Result<(), String> {
    for host in 0..world.hosts.len() {
        world.stop(host);
        // A stop is not undone by what comes late.
        world.set_wire(host, Wire::Up);
    }
    run_on(world, 2 * SECOND)?;
    for (place, host) in world.hosts.iter().enumerate() {
        if (0..host.kernel.len()).any(|vip| host.answers(vip, world.now, true)) {
            return Err(format!("host {place} is {:?} and answers still", host.life));
        }
        if host.life != Life::Stopped {
            continue;
        }
        if host.kernel.iter().any(|kernel| !kernel.installed.is_empty() || kernel.lease_until.is_some()) {
            return Err(format!("host {place} has stopped and kept {:?}", host.kernel));
        }
        if host.agent.iter().any(|agent| agent.state != StateName::Initialize) {
            return Err(format!("host {place} has stopped in {:?}", host.agent));
        }
    }
    Ok(())
}

fn run_on(world: &mut World, time: Nanos) -> Result<(), String> {
    world.run_unchecked(time);
    world.watch.violation.clone().map_or(Ok(()), Err)
}
