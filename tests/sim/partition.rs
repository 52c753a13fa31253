//! Two nodes and a witness, and every shape of partition among them, by seed: one-way, symmetric, flapping, with delay, duplication
//! and reordering. No two hosts ever answer; where the owner loses its majority and the other node has one, that one is there in time.

use vipd::engine::StateName;

use super::build::{host, interval, vip};
use super::clock::{Clock, GOOD_PPM, MICROSECOND, MILLISECOND, Nanos, SECOND};
use super::network::{Network, Port};
use super::rng::Rng;
use super::seeds;
use super::voters::{WITNESS, Witness, quorum};
use super::world::World;

/// So many worlds are run where nobody says how many; CI runs more, optimised.
const SEEDS: u64 = 1_000;

/// The ways among the three: each can be cut alone, which makes 64 shapes.
const WAYS: [(Port, Port); 6] = [(0, 1), (1, 0), (0, WITNESS), (WITNESS, 0), (1, WITNESS), (WITNESS, 1)];

/// What came of the worlds, so that a test of nothing is seen.
#[derive(Debug, Default)]
struct Tally {
    stayed: u64,
    moved: u64,
    nobody: u64,
    flapped: u64,
}

#[test]
fn no_partition_makes_two_owners_and_a_majority_keeps_one() {
    let seeds = seeds::number(SEEDS, 1);
    let worlds = seeds::each("no_partition", seeds, |seed, trace| {
        let mut world = world(seed);
        world.trace = trace.then(Vec::new);
        let mut tally = Tally::default();
        (run(seed, &mut world, &mut tally).map(|()| tally), world)
    });
    let Some(worlds) = worlds else { return };
    let mut tally = Tally::default();
    for own in worlds {
        tally.stayed += own.stayed;
        tally.moved += own.moved;
        tally.nobody += own.nobody;
        tally.flapped += own.flapped;
    }
    println!("{seeds} worlds: {tally:?}");
    for (what, count) in [("stayed", tally.stayed), ("moved", tally.moved), ("was lost", tally.nobody)] {
        assert!(count * 50 >= seeds, "in {count} worlds of {seeds} the ownership {what}: they prove too little");
    }
}

fn rng(seed: u64) -> Rng {
    Rng::new(seed ^ 0x0070_6172_7469)
}

fn world(seed: u64) -> World {
    let mut rng = rng(seed);
    let advert_interval = rng.pick(&[10_u16, 50, 100, 100, 1_000]);
    let longest_grant = 3 * interval(advert_interval).duration();
    let mut clock = || Clock {
        offset: rng.within(0, 1 << 40),
        ppm: i32::try_from(rng.within(0, 800)).expect("small") - 2 * GOOD_PPM,
    };
    let mut specs = Vec::new();
    for place in 0..2_u8 {
        let mut it = vip(if place == 0 { 200 } else { 100 });
        it.interval = interval(advert_interval);
        let mut spec = host(place, vec![it]);
        spec.clock = clock();
        spec.lateness = (0, 100 * MICROSECOND);
        spec.settings.quorum = Some(quorum(usize::from(place), 2, true, longest_grant));
        specs.push(spec);
    }
    let witness = Witness { clock: clock(), longest_grant, voter: None };
    let mut network = Network::quiet();
    network.delay.1 = rng.pick(&[100, 300, 1_000]) * MICROSECOND;
    network.doubled_permille = rng.pick(&[0, 0, 100]);
    network.late_permille = rng.pick(&[0, 0, 30]);
    network.late_by = rng.pick(&[1, 3]) * MILLISECOND;
    let mut world = World::new(seed, network, specs);
    world.watch.exclusive = true;
    world.witness = Some(witness);
    world.start_witness();
    world.start_all();
    world
}

fn run(seed: u64, world: &mut World, tally: &mut Tally) -> Result<(), String> {
    let mut rng = rng(!seed);
    let interval = world.hosts[0].interval(0);
    let settled = 12 * interval + 100 * MILLISECOND;
    let phase = rng.within(0, interval);
    run_on(world, settled + phase)?;
    require_owner(world, Some(0), "at the start")?;

    let flaps = rng.permille(300);
    if flaps {
        tally.flapped += 1;
        // Also what gets through is lost now and then.
        world.network.lost_permille = rng.pick(&[0, 50, 300]);
        for _ in 0..rng.within(5, 60) {
            let (from, to) = rng.pick(&WAYS);
            if rng.permille(550) {
                world.cut(from, to)
            } else {
                world.network.mend(from, to)
            }
            let longest = rng.pick(&[interval / 4, interval, 5 * interval]);
            let pause = rng.within(0, longest);
            run_on(world, pause)?;
        }
    } else {
        let shape = rng.within(1, (1 << WAYS.len()) - 1);
        let cut: Vec<_> =
            WAYS.iter().enumerate().filter(|(bit, _)| shape & (1 << bit) != 0).map(|(_, way)| *way).collect();
        under_a_shape(world, &cut, tally)?;
    }
    world.heal();
    run_on(world, 16 * interval + SECOND / 2)?;
    require_owner(world, Some(0), "after the heal")?;
    run_on(world, 6 * interval)
}

/// A partition that stays as it is.
fn under_a_shape(world: &mut World, cut: &[(Port, Port)], tally: &mut Tally) -> Result<(), String> {
    let interval = world.hosts[0].interval(0);
    for (from, to) in cut {
        world.cut(*from, *to);
    }
    let both_ways = |one: Port, other: Port| !cut.contains(&(one, other)) && !cut.contains(&(other, one));
    let has_majority = |node: Port| both_ways(node, 1 - node) || both_ways(node, WITNESS);
    let expected = match (has_majority(0), has_majority(1)) {
        (true, _) => Some(0),
        (false, true) => Some(1),
        (false, false) => None,
    };
    // The bound without voters is the longest silence; a fifth more with them.
    let bound = world.hosts[1].active_down(0, interval) * 12 / 10;
    match expected {
        Some(0) => {
            tally.stayed += 1;
            world.watch.settled = Some(vec![0]);
            run_on(world, bound + 20 * interval)?;
            world.watch.settled = None;
        }
        Some(_) => {
            tally.moved += 1;
            // What is under way arrives first.
            let late = world.network.longest_way();
            run_on(world, bound + late)?;
            require_owner(world, Some(1), "in time, on the side of the majority")?;
            world.watch.settled = Some(vec![1]);
            run_on(world, 20 * interval)?;
            world.watch.settled = None;
        }
        None => {
            tally.nobody += 1;
            run_on(world, 3 * interval + world.network.longest_way())?;
            require_owner(world, None, "without a majority")?;
            run_on(world, 20 * interval)?;
            require_owner(world, None, "without a majority, later")?;
        }
    }
    Ok(())
}

fn require_owner(world: &World, owner: Option<Port>, when: &str) -> Result<(), String> {
    if world.owner() == owner {
        return Ok(());
    }
    let states: Vec<StateName> = world.hosts.iter().map(|host| host.agent[0].state).collect();
    let at = world.now / MILLISECOND;
    Err(format!("at {at} ms: {:?} owns {when}, where {owner:?} should: the agents are {states:?}", world.owner()))
}

fn run_on(world: &mut World, time: Nanos) -> Result<(), String> {
    world.run_unchecked(time);
    world.watch.violation.clone().map_or(Ok(()), Err)
}
