//! Vips that are shared among the hosts: all serve, a dead one's share is spread over the others, and one that comes back takes its
//! own after a delay.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vipd::engine::{CheckEffect, CheckOutcome, CheckResult, CheckSettings, EventKind, Input};
use vipd::engine::{Preempt, Settings, SpreadPlace, VipSettings, spread};
use vipd::types::Vrid;

use super::build::{address, host, ms, secs, vip};
use super::clock::{MICROSECOND, MILLISECOND, Nanos};
use super::host::Life;
use super::network::{Network, Port};
use super::rng::Rng;
use super::seeds;
use super::world::{World, vip_id};

/// What hosts that came back wait, in seconds.
const DELAY: u64 = 5;

/// Weights of hosts, and how many vips they share.
#[derive(Clone, Debug)]
struct Plan {
    weights: Vec<u8>,
    vips: usize,
}

impl Plan {
    fn new(weights: &[u8], vips: usize) -> Self {
        Self { weights: weights.to_vec(), vips }
    }

    fn name(vip: usize) -> String {
        format!("dns{vip}")
    }

    fn orders(&self) -> BTreeMap<String, Vec<String>> {
        let nodes = self.weights.iter().enumerate().map(|(place, weight)| (format!("host {place}"), *weight)).collect();
        spread::orders("dns", &nodes, &(0..self.vips).map(Self::name).collect())
    }

    /// What a configuration makes of it for a host.
    fn settings(&self, place: Port) -> Settings {
        let orders = self.orders();
        let node = format!("host {place}");
        let settings = |number: usize| {
            let order = orders[&Self::name(number)].clone();
            let place = SpreadPlace { spread: "dns".into(), order };
            let last = u8::try_from(number + 1).expect("few vips");
            VipSettings {
                name: Self::name(number),
                vrid: Vrid::new(last).expect("not 0"),
                priority: place.of(&node).and_then(spread::priority).expect("it is one of a few"),
                preempt: Preempt::After(secs(DELAY)),
                addresses: vec![address(IpAddr::from([10, 0, 0, 100 + last]))],
                spread: Some(place.into()),
                ..vip(100)
            }
        };
        Settings::of(&node, (0..self.vips).map(settings).collect())
    }

    /// Who is to have each vip while these hosts live.
    fn owners(&self, live: &[Port]) -> Vec<Option<Port>> {
        let orders = self.orders();
        let owner =
            |vip| orders[&Self::name(vip)].iter().find_map(|name| live.iter().find(|it| *name == format!("host {it}")));
        (0..self.vips).map(|vip| owner(vip).copied()).collect()
    }

    fn world(&self, seed: u64, network: Network) -> World {
        let spec = |place: u8| host(place, self.settings(usize::from(place)).vips);
        let specs = (0..u8::try_from(self.weights.len()).expect("few hosts")).map(spec).collect();
        World::new(seed, network, specs)
    }

    /// All hosts, each with its share.
    fn settled(&self) -> World {
        let mut world = self.world(1, Network::quiet());
        world.start_all();
        world.run(ms(600));
        assert_eq!(owners(&world), self.owners(&self.all()));
        world
    }

    fn all(&self) -> Vec<Port> {
        (0..self.weights.len()).collect()
    }

    fn without(&self, gone: &[Port]) -> Vec<Port> {
        self.all().into_iter().filter(|host| !gone.contains(host)).collect()
    }
}

fn owners(world: &World) -> Vec<Option<Port>> {
    (0..world.hosts[0].configured.len()).map(|vip| world.owner_of(vip)).collect()
}

/// How many vips each host has.
fn shares(world: &World) -> Vec<usize> {
    let owners = owners(world);
    (0..world.hosts.len()).map(|host| owners.iter().filter(|owner| **owner == Some(host)).count()).collect()
}

/// The vips of which any host told that its state changed, since a moment.
fn touched(world: &World, since: Nanos) -> BTreeSet<usize> {
    let changed =
        world.events.iter().filter(|(at, _, event)| *at > since && matches!(event.kind, EventKind::Transition { .. }));
    changed.filter_map(|(_, _, event)| (0..100).find(|place| Some(vip_id(*place)) == event.vip)).collect()
}

fn vips_of(owners: &[Option<Port>], host: Port) -> BTreeSet<usize> {
    owners.iter().enumerate().filter(|(_, owner)| **owner == Some(host)).map(|(vip, _)| vip).collect()
}

#[test]
fn each_host_serves_its_share_from_the_start() {
    assert_eq!(shares(&Plan::new(&[2, 1, 1], 4).settled()), [2, 1, 1]);
    assert_eq!(shares(&Plan::new(&[2, 1, 1, 0], 8).settled()), [4, 2, 2, 0]);
    assert_eq!(shares(&Plan::new(&[1, 1, 1, 1], 12).settled()), [3, 3, 3, 3]);
}

#[test]
fn of_a_dead_host_only_its_own_share_moves_and_not_to_one_neighbour() {
    for (weights, vips) in [(&[2, 1, 1][..], 4), (&[1, 1, 1, 1][..], 12), (&[3, 2, 1, 0][..], 12)] {
        let plan = Plan::new(weights, vips);
        for dead in 0..weights.len() {
            let mut world = plan.settled();
            let before = owners(&world);
            let share = vips_of(&before, dead);
            let since = world.now;
            world.kill(dead);
            // Three intervals, and the skew of the second place: 36 parts of 256.
            world.run(ms(320));
            assert_eq!(owners(&world), plan.owners(&plan.without(&[dead])));
            world.run(secs(10));
            assert_eq!(owners(&world), plan.owners(&plan.without(&[dead])));
            assert_eq!(touched(&world, since), share);
            let heirs: BTreeSet<_> = share.iter().map(|vip| world.owner_of(*vip)).collect();
            assert!(heirs.len() >= share.len().min(2), "{weights:?}: all of host {dead} went to {heirs:?}");
        }
    }
}

#[test]
fn a_spare_host_serves_only_while_no_other_lives() {
    let plan = Plan::new(&[1, 1, 0], 4);
    let mut world = plan.settled();
    assert_eq!(shares(&world), [2, 2, 0]);
    world.kill(0);
    world.run(secs(1));
    assert_eq!(shares(&world), [0, 4, 0]);
    world.kill(1);
    world.run(secs(1));
    assert_eq!(shares(&world), [0, 0, 4]);
}

#[test]
fn one_that_comes_back_takes_its_share_after_the_delay_and_no_other() {
    let plan = Plan::new(&[2, 1, 1, 1], 10);
    let mut world = plan.settled();
    let share = vips_of(&owners(&world), 0);
    world.kill(0);
    world.run(secs(2));
    let since = world.now;
    world.start(0);
    world.run(secs(DELAY));
    assert_eq!(owners(&world), plan.owners(&[1, 2, 3]), "before the delay is over");
    let owned = |world: &World| {
        let is_claim =
            |kind: &&EventKind| matches!(kind, EventKind::Transition { to, .. } if to.to_string() == "Active");
        world.told(0, since).into_iter().filter(is_claim).count()
    };
    assert_eq!(owned(&world), 0);
    world.run(secs(1));
    assert_eq!(owners(&world), plan.owners(&plan.all()));
    assert_eq!(owned(&world), share.len());
    let others: BTreeSet<usize> = (0..10).filter(|vip| !share.contains(vip)).collect();
    let by_others = world.events.iter().filter(|(at, by, event)| {
        *at > since
            && *by != 0
            && matches!(event.kind, EventKind::Transition { .. })
            && others.iter().any(|vip| Some(vip_id(*vip)) == event.vip)
    });
    assert_eq!(by_others.count(), 0, "a vip that was no matter of the host moved");
}

#[test]
fn one_that_just_came_back_takes_the_share_of_another_that_dies_at_once() {
    let plan = Plan::new(&[1, 1, 1], 6);
    let mut world = plan.settled();
    world.kill(0);
    world.run(secs(2));
    world.start(0);
    world.run(secs(1));
    world.kill(1);
    world.run(ms(320));
    assert!(owners(&world).iter().all(Option::is_some));
    let is_first_of_all = |vip: &usize| plan.owners(&[0, 2])[*vip] == Some(0) && plan.owners(&[1, 2])[*vip] == Some(1);
    assert!((0..6).any(|vip| is_first_of_all(&vip)), "nothing of the dead one's was for the other");
    for vip in (0..6).filter(is_first_of_all) {
        assert_eq!(world.owner_of(vip), Some(0));
    }
}

#[test]
fn other_weights_move_what_they_must_after_the_delay() {
    let (before, after) = (Plan::new(&[1, 1, 1], 9), Plan::new(&[1, 1, 4], 9));
    let mut world = before.settled();
    let since = world.now;
    // One host after the other, as an operator does it.
    for host in 0..3 {
        world.reload(host, after.settings(host));
        world.run(secs(1));
    }
    world.run(secs(DELAY));
    assert_eq!(owners(&world), after.owners(&after.all()));
    let differ = |vip: &usize| before.owners(&before.all())[*vip] != after.owners(&after.all())[*vip];
    assert_eq!(touched(&world, since), (0..9).filter(differ).collect());
    assert_eq!(shares(&world), [2, 1, 6].map(|share| share));
}

/// A check with a weight of more than one rank, and less than two.
#[test]
fn a_check_passes_each_vip_on_to_the_next_in_its_order() {
    let plan = Plan::new(&[1, 1, 1], 6);
    let check = CheckSettings { name: "named".into(), rise: 1, fall: 1, effect: CheckEffect::Weight(-30) };
    let mut world = plan.world(1, Network::quiet());
    for host in &mut world.hosts {
        host.spec.settings.vips.iter_mut().for_each(|vip| vip.checks.push(check.clone()));
    }
    let result = |healthy: bool| {
        let outcome = if healthy { CheckOutcome::Passed(None) } else { CheckOutcome::Failed };
        Input::CheckResult { check: "named".into(), result: CheckResult { outcome, output: String::new() } }
    };
    world.start_all();
    (0..3).for_each(|host| world.input(host, result(true)));
    world.run(secs(1));
    assert_eq!(owners(&world), plan.owners(&plan.all()));
    world.input(0, result(false));
    world.run(secs(DELAY + 1));
    assert_eq!(owners(&world), plan.owners(&[1, 2]));
    world.kill(1);
    world.run(secs(1));
    // And no further: it is still before the third.
    let orders = plan.orders();
    let is_third = |vip: usize| orders[&Plan::name(vip)] == ["host 0", "host 1", "host 2"];
    assert!((0..6).any(is_third), "{orders:?}");
    for vip in 0..6 {
        assert_eq!(world.owner_of(vip), Some(if is_third(vip) { 0 } else { 2 }), "{orders:?}");
    }
}

/// So many worlds are run where nobody says how many.
const SEEDS: u64 = 30;

#[test]
fn in_each_world_a_spread_is_whole_again_once_all_is_well() {
    let worlds = seeds::each("in_each_world_a_spread", seeds::number(SEEDS, 40), |seed, trace| {
        let mut rng = Rng::new(seed ^ 0x7370_7265_6164);
        let mut weights: Vec<u8> = (0..rng.within(3, 4)).map(|_| rng.pick(&[0, 1, 1, 2, 3])).collect();
        weights[0] = weights[0].max(1);
        let plan = Plan::new(&weights, usize::try_from(rng.within(1, 8)).expect("few"));
        let mut network = Network::quiet();
        if rng.permille(300) {
            network.lost_permille = 50;
        }
        let mut world = plan.world(seed, network);
        world.trace = trace.then(Vec::new);
        (befall(&mut world, &plan, &mut rng), world)
    });
    let Some(worlds) = worlds else { return };
    assert!(worlds.into_iter().sum::<usize>() > 0, "no vip was ever moved");
}

/// What is left of the vips' moves is how many there were.
fn befall(world: &mut World, plan: &Plan, rng: &mut Rng) -> Result<usize, String> {
    world.start_all();
    let run = |world: &mut World, time: Nanos| {
        world.run_unchecked(time);
        world.watch.violation.clone().map_or(Ok(()), Err)
    };
    run(world, 1_000 * MILLISECOND)?;
    for _ in 0..rng.within(1, 12) {
        let host = rng.index(world.hosts.len());
        let other = (host + 1) % world.hosts.len();
        match rng.within(0, 7) {
            0 => world.part(host, other),
            1 => world.heal(),
            2 => world.freeze(host),
            3 => world.thaw(host),
            4 | 5 => world.kill(host),
            _ => {
                if world.hosts[host].life == Life::Crashed {
                    world.start(host);
                }
            }
        }
        run(world, rng.within(MICROSECOND, 2_000 * MILLISECOND))?;
    }
    world.heal();
    for host in 0..world.hosts.len() {
        world.thaw(host);
        if world.hosts[host].life == Life::Crashed {
            world.start(host);
        }
    }
    world.network.lost_permille = 0;
    let since = world.now;
    // A hold after a split, the delay, and an election.
    run(world, 40_000 * MILLISECOND)?;
    let (found, wanted) = (owners(world), plan.owners(&plan.all()));
    if found == wanted {
        Ok(touched(world, since).len())
    } else {
        Err(format!("healed, the owners are {found:?}, not {wanted:?}"))
    }
}
