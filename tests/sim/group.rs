//! Vips that move together: a host has all of a group or none, whatever befalls one of them.

use std::net::{IpAddr, Ipv6Addr};

use vipd::engine::{
    Cause, CheckEffect, CheckOutcome, CheckResult, CheckSettings, EventKind, GroupSettings, Hold, HoldReason, Input,
    LinkId, Preempt, StateName, VipSettings,
};
use vipd::types::{Priority, Vrid};

use super::build::{address, addresses_v6, host, ms, secs, vip};
use super::clock::{Clock, MICROSECOND, MILLISECOND, Nanos, nanos};
use super::host::{HostSpec, Life};
use super::network::{Network, Port};
use super::rng::Rng;
use super::seeds;
use super::voters::{WITNESS, Witness, quorum};
use super::world::{World, vip_id};

const INSIDE: LinkId = LinkId(0);
pub const OUTSIDE: LinkId = LinkId(1);

/// How long a host may have one side only while nothing is dead: what its kernel takes for an effect, and a little.
pub const TORN_ALIVE: Nanos = 2 * MILLISECOND;

/// Both sides of a gateway.
pub fn sides(priority: u8) -> Vec<VipSettings> {
    let inside = VipSettings { name: "inside".into(), ..vip(priority) };
    let outside = VipSettings {
        name: "outside".into(),
        interface: "eth1".into(),
        vrid: Vrid::new(52).expect("52 is a VRID"),
        addresses: vec![address(IpAddr::from([10, 1, 0, 100]))],
        ..vip(priority)
    };
    vec![inside, outside]
}

pub fn group() -> Vec<GroupSettings> {
    vec![GroupSettings { name: "gateway".into(), vips: vec!["inside".into(), "outside".into()] }]
}

pub fn gateway(place: u8, vips: Vec<VipSettings>) -> HostSpec {
    let mut spec = host(place, vips);
    spec.settings.groups = group();
    spec
}

fn world_of(specs: Vec<HostSpec>) -> World {
    let mut world = World::new(1, Network::quiet(), specs);
    world.watch.together = Some((2, TORN_ALIVE));
    world.start_all();
    world
}

/// Two gateways that have found their owner.
fn pair() -> World {
    let mut world = world_of(vec![gateway(0, sides(200)), gateway(1, sides(100))]);
    world.run(secs(2));
    assert_eq!(owners(&world), [Some(0); 2]);
    world
}

pub fn owners(world: &World) -> [Option<Port>; 2] {
    [world.owner_of(0), world.owner_of(1)]
}

pub fn states(world: &World, host: Port) -> [StateName; 2] {
    [0, 1].map(|vip| world.hosts[host].agent[vip].state)
}

pub fn cause_of(world: &World, host: Port, vip: usize) -> Cause {
    let engine = world.hosts[host].engine.as_ref().expect("an agent that is asked runs");
    engine.vip(vip_id(vip)).expect("each host has both").cause().clone()
}

#[test]
fn both_sides_are_claimed_in_one_step() {
    let world = pair();
    let claims = [0, 1].map(|vip| world.hosts[0].agent[vip].claimed.clone().expect("it claimed").0);
    assert_eq!(claims[0], claims[1]);
    // And they keep step.
    let sent = |vip| world.sent_by(0, 0).into_iter().filter(move |sent| sent.vip == vip).map(|sent| sent.at);
    assert!(sent(0).eq(sent(1)));
}

#[test]
fn a_dead_host_is_replaced_on_both_sides_as_fast_as_on_one() {
    let mut world = pair();
    world.kill(0);
    // Three intervals, and 156 parts of 256.
    world.run(ms(362));
    assert_eq!(owners(&world), [Some(1); 2]);
}

#[test]
fn a_side_whose_interface_dies_takes_the_other_with_it() {
    for (link, other) in [(INSIDE, 1), (OUTSIDE, 0)] {
        let mut world = pair();
        world.set_link(0, link, false);
        world.run(ms(2));
        assert_eq!(states(&world, 0), [StateName::Initialize; 2]);
        let Cause::GroupFault { vip, why } = cause_of(&world, 0, other) else {
            panic!("{:?}", cause_of(&world, 0, other))
        };
        assert_eq!(vip, ["inside", "outside"][1 - other]);
        assert!(why.contains("interface down"), "{why}");
        world.run(ms(362));
        assert_eq!(owners(&world), [Some(1); 2]);
        world.set_link(0, link, true);
        world.run(secs(2));
        assert_eq!(owners(&world), [Some(0); 2]);
    }
}

#[test]
fn a_host_that_lacks_one_side_from_the_start_claims_neither() {
    let mut world = world_of(vec![gateway(0, sides(200)), gateway(1, sides(100))]);
    world.set_link(0, OUTSIDE, false);
    world.watch.together = Some((2, 400 * MILLISECOND));
    world.run(secs(3));
    assert_eq!(owners(&world), [Some(1); 2]);
    assert_eq!(states(&world, 0), [StateName::Initialize; 2]);
}

#[test]
fn one_side_that_is_parted_moves_nothing() {
    for link in [INSIDE, OUTSIDE] {
        let mut world = pair();
        world.watch.settled = Some(vec![0, 0]);
        world.network.part_link(link, 0, 1);
        world.run(secs(20));
        assert_eq!(states(&world, 1), [StateName::Backup; 2]);
        world.heal();
        world.run(secs(5));
        // Nor does it stand in the way of what comes after.
        world.watch.settled = None;
        world.network.part_link(link, 0, 1);
        world.run(secs(5));
        world.kill(0);
        world.run(ms(500));
        assert_eq!(owners(&world), [Some(1); 2]);
    }
}

#[test]
fn a_better_host_that_is_heard_on_one_side_takes_both() {
    let mut world = world_of(vec![gateway(0, sides(100)), gateway(1, sides(200))]);
    world.hosts[1].life = Life::Crashed;
    world.stop(1);
    world.run(secs(2));
    assert_eq!(owners(&world), [Some(0); 2]);
    world.network.part_link(OUTSIDE, 0, 1);
    world.watch.forgiving = true;
    world.start(1);
    world.run(secs(3));
    assert_eq!(owners(&world), [Some(1); 2], "the other one yields what it is not asked for as well");
}

#[test]
fn what_keeps_one_out_keeps_out_both() {
    let drain = Hold { reason: HoldReason::Drained, until: None };
    let mut world = pair();
    world.input(0, Input::Hold { vip: Some(vip_id(1)), hold: drain });
    world.run(ms(100));
    assert_eq!(owners(&world), [Some(1); 2]);
    assert_eq!(states(&world, 0), [StateName::Initialize, StateName::Held]);
    assert!(
        matches!(cause_of(&world, 0, 0), Cause::GroupFault { vip, why } if vip == "outside" && why.contains("drained"))
    );
    world.input(0, Input::Release { vip: Some(vip_id(1)) });
    world.run(secs(2));
    assert_eq!(owners(&world), [Some(0); 2]);

    // All are drained, and let go, by one command.
    world.input(0, Input::Hold { vip: None, hold: drain });
    world.run(secs(1));
    assert_eq!((owners(&world), states(&world, 0)), ([Some(1); 2], [StateName::Held; 2]));
    world.input(0, Input::Release { vip: None });
    world.run(secs(2));
    assert_eq!(owners(&world), [Some(0); 2]);
}

#[test]
fn an_address_that_the_kernel_refuses_on_one_side_is_a_failed_claim_of_both() {
    let mut world = world_of(vec![gateway(0, sides(200)), gateway(1, sides(100))]);
    world.hosts[0].refusals = 1;
    world.run(secs(2));
    assert_eq!(owners(&world), [Some(1); 2]);
    world.run(secs(6));
    assert_eq!(owners(&world), [Some(0); 2], "the hold of one ends that of both");
}

#[test]
fn an_address_that_keeps_vanishing_on_one_side_hands_over_both() {
    let mut world = pair();
    for _ in 0..6 {
        world.remove_address(0, 1, IpAddr::from([10, 1, 0, 100]));
        world.run_unchecked(nanos(ms(100)));
    }
    world.run(ms(400));
    assert_eq!(owners(&world), [Some(1); 2]);
}

fn checked(priority: u8, effect: CheckEffect) -> Vec<VipSettings> {
    let mut sides = sides(priority);
    sides[1].checks = vec![CheckSettings { name: "uplink".into(), rise: 1, fall: 1, effect }];
    sides
}

fn give(world: &mut World, host: Port, outcome: CheckOutcome) {
    let result = CheckResult { outcome, output: String::new() };
    world.input(host, Input::CheckResult { check: "uplink".into(), result });
}

#[test]
fn a_check_of_one_side_counts_for_both() {
    for effect in [CheckEffect::Fault, CheckEffect::Weight(-150)] {
        let mut world = world_of(vec![gateway(0, checked(200, effect)), gateway(1, checked(100, effect))]);
        give(&mut world, 0, CheckOutcome::Passed(None));
        give(&mut world, 1, CheckOutcome::Passed(None));
        world.run(secs(2));
        assert_eq!(owners(&world), [Some(0); 2]);
        give(&mut world, 0, CheckOutcome::Failed);
        world.run(ms(500));
        assert_eq!(owners(&world), [Some(1); 2], "{effect:?}");
        world.run(secs(2));
        give(&mut world, 0, CheckOutcome::Passed(None));
        world.run(secs(1));
        assert_eq!(owners(&world), [Some(0); 2], "{effect:?}");
    }
}

#[test]
fn preemption_after_a_delay_takes_both_at_once() {
    let preempt = Preempt::After(secs(3));
    let patient = |priority| sides(priority).into_iter().map(|side| VipSettings { preempt, ..side }).collect();
    let mut world = world_of(vec![gateway(0, patient(100)), gateway(1, patient(200))]);
    world.run(secs(1));
    assert_eq!(owners(&world), [Some(1); 2]);
    world.crash(1);
    world.run(secs(1));
    assert_eq!(owners(&world), [Some(0); 2]);
    world.start(1);
    world.run(ms(2_900));
    assert_eq!(owners(&world), [Some(0); 2]);
    world.run(ms(300));
    assert_eq!(owners(&world), [Some(1); 2]);
}

#[test]
fn equals_that_would_win_one_side_each_do_not_both_yield() {
    // The first has the smaller address in IPv4, and the larger one in IPv6.
    let equal = |place: u8| {
        let mut sides = sides(100);
        sides[1].addresses = addresses_v6(1);
        let mut spec = gateway(place, sides);
        spec.ipv6 = Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9 - u16::from(place)));
        spec
    };
    let mut world = world_of(vec![equal(0), equal(1)]);
    world.watch.forgiving = true;
    world.part(0, 1);
    world.run(secs(2));
    assert_eq!(owners(&world), [None; 2], "both own");
    world.heal();
    world.run(ms(250));
    assert_eq!(owners(&world), [Some(1); 2], "the first of the group decides");
    let moves = world.told(1, 0).iter().filter(|kind| matches!(kind, EventKind::Transition { .. })).count();
    world.run(secs(5));
    assert_eq!(world.told(1, 0).iter().filter(|kind| matches!(kind, EventKind::Transition { .. })).count(), moves);
}

#[test]
fn a_restarted_agent_goes_on_with_both_or_neither() {
    let mut world = pair();
    let moved = world.events.len();
    world.watch.settled = Some(vec![0, 0]);
    for _ in 0..3 {
        world.hand_on(0);
        world.run(ms(20));
        world.restart(0);
        world.run(secs(1));
    }
    assert!(
        world
            .events
            .iter()
            .skip(moved)
            .all(|(_, on, event)| *on == 0 || !matches!(event.kind, EventKind::Transition { .. }))
    );

    // One side was taken away while nobody looked.
    world.watch.settled = None;
    world.watch.together = Some((2, 30 * MILLISECOND));
    world.hand_on(0);
    world.remove_address(0, 1, IpAddr::from([10, 1, 0, 100]));
    world.run(ms(20));
    world.restart(0);
    world.run(ms(1));
    assert_eq!(owners(&world), [None; 2]);
    world.run(secs(2));
    assert_eq!(owners(&world), [Some(0); 2]);
}

#[test]
fn a_frozen_host_that_wakes_has_neither() {
    let mut world = pair();
    world.watch.together = Some((2, 101 * MILLISECOND));
    world.freeze(0);
    world.run(secs(1));
    assert_eq!(owners(&world), [Some(1); 2]);
    world.thaw(0);
    world.run(secs(1));
    assert_eq!(owners(&world), [Some(0); 2]);
}

#[test]
fn a_reload_makes_a_group_and_adds_to_it_without_moving_what_is_owned() {
    let mut world = World::new(1, Network::quiet(), vec![host(0, sides(200)), host(1, sides(100))]);
    world.start_all();
    world.run(secs(2));
    world.watch.settled = Some(vec![0, 0]);
    let mut settings = world.hosts[0].spec.settings.clone();
    settings.groups = group();
    world.reload(0, settings.clone());
    world.run(secs(10));

    let third = VipSettings {
        name: "third".into(),
        vrid: Vrid::new(53).expect("not 0"),
        addresses: vec![address(IpAddr::from([10, 0, 0, 103]))],
        ..vip(200)
    };
    settings.vips.push(third);
    settings.groups[0].vips.push("third".into());
    world.reload(0, settings.clone());
    world.run(secs(1));
    world.watch.settled = Some(vec![0, 0, 0]);
    world.run(secs(10));

    // One that another host has is not left to be torn off for ever.
    world.watch.settled = None;
    settings.groups.clear();
    world.reload(0, settings.clone());
    settings.vips[1].priority = Priority(50);
    world.reload(0, settings.clone());
    world.run(secs(2));
    assert_eq!(owners(&world), [Some(0), Some(1)]);
    settings.groups = group();
    settings.vips[1].priority = Priority(200);
    settings.vips[1].preempt = Preempt::Off;
    settings.vips[0].preempt = Preempt::Off;
    world.reload(0, settings);
    world.run(secs(10));
    assert_eq!(owners(&world), [Some(1); 2]);
}

#[test]
fn the_voters_grant_both_to_one() {
    let voting = |place: u8, priority| {
        let mut spec = gateway(place, sides(priority));
        spec.settings.quorum = Some(quorum(usize::from(place), 2, true, secs(3)));
        spec
    };
    for equal in [false, true] {
        let mut world = World::new(1, Network::quiet(), vec![voting(0, 200), voting(1, if equal { 200 } else { 100 })]);
        world.watch.exclusive = true;
        world.watch.together = Some((2, 20 * MILLISECOND));
        world.witness = Some(Witness { clock: Clock { offset: 99, ppm: 0 }, longest_grant: secs(3), voter: None });
        world.start_witness();
        world.start_all();
        world.run(secs(6));
        let owner = world.owner().expect("one owns the first");
        assert_eq!(owners(&world), [Some(owner); 2]);
        for _ in 0..3 {
            let owner = world.owner().expect("one owns the first");
            world.isolate(owner);
            world.run(secs(3));
            assert_eq!(owners(&world), [Some(1 - owner); 2]);
            world.heal();
            world.run(secs(3));
            let owner = world.owner().expect("one owns the first");
            assert_eq!(owners(&world), [Some(owner); 2]);
            world.kill(owner);
            world.run(secs(1));
            assert_eq!(owners(&world), [Some(1 - owner); 2]);
            world.start(owner);
            world.run(secs(6));
        }
        for other in 0..2 {
            world.part(other, WITNESS);
        }
        world.run(secs(3));
        assert_eq!(owners(&world)[0], owners(&world)[1]);
    }
}

/// So many worlds are run where nobody says how many.
const SEEDS: u64 = 60;

#[test]
fn in_no_world_is_a_group_torn_for_long_and_a_healed_one_has_one_owner() {
    // Two vips each, and a hundred seconds to heal.
    let worlds = seeds::each("in_no_world_is_a_group", seeds::number(SEEDS, 20), |seed, trace| {
        let mut world = random_world(seed);
        world.trace = trace.then(Vec::new);
        (befall(&mut world, seed).map(|()| world.watch.longest_torn), world)
    });
    let Some(worlds) = worlds else { return };
    let torn = worlds.into_iter().max().unwrap_or_default();
    assert!(torn > 0, "nothing was ever done to a group");
}

fn random_world(seed: u64) -> World {
    let mut rng = Rng::new(seed ^ 0x0067_726f_7570);
    let hosts = u8::try_from(rng.within(2, 3)).expect("few");
    let equal = rng.permille(300);
    let specs = (0..hosts).map(|place| gateway(place, sides(if equal { 100 } else { 200 - 40 * place }))).collect();
    let mut network = Network::quiet();
    if rng.permille(300) {
        network.lost_permille = 50;
    }
    let mut world = World::new(seed, network, specs);
    // The leases of a dead host's sides end within an interval of each other, as its adverts were sent.
    world.watch.together = Some((2, 100 * MILLISECOND + TORN_ALIVE));
    world
}

fn befall(world: &mut World, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed ^ 0x0066_6175_6c74);
    let hosts = u64::try_from(world.hosts.len()).expect("few");
    world.start_all();
    let run = |world: &mut World, time: Nanos| {
        world.run_unchecked(time);
        world.watch.violation.clone().map_or(Ok(()), Err)
    };
    run(world, rng.within(0, 3_000 * MILLISECOND))?;
    for _ in 0..rng.within(1, 15) {
        let host = usize::try_from(rng.within(0, hosts - 1)).expect("few");
        let other = (host + 1) % world.hosts.len();
        let link = *[INSIDE, OUTSIDE].get(usize::from(rng.permille(500))).expect("there are two");
        match rng.within(0, 9) {
            0 => world.set_link(host, link, false),
            1 => world.set_link(host, link, true),
            2 => world.network.part_link(link, host, other),
            3 => world.part(host, other),
            4 => world.heal(),
            5 => world.freeze(host),
            6 => world.thaw(host),
            7 => world.crash(host),
            8 => {
                if world.hosts[host].life == Life::Crashed {
                    world.start(host);
                }
            }
            _ => world.hosts[host].refusals += 1,
        }
        let pause = rng.within(MICROSECOND, 800 * MILLISECOND);
        run(world, pause)?;
    }
    world.heal();
    for host in 0..world.hosts.len() {
        world.hosts[host].refusals = 0;
        world.thaw(host);
        [INSIDE, OUTSIDE].into_iter().for_each(|link| world.set_link(host, link, true));
        if world.hosts[host].life == Life::Crashed {
            world.start(host);
        }
    }
    // The longest hold after a few refusals, and an election.
    run(world, 100_000 * MILLISECOND)?;
    match owners(world) {
        [Some(inside), Some(outside)] if inside == outside => Ok(()),
        others => Err(format!("healed, the owners are {others:?}")),
    }
}

#[test]
fn the_judge_sees_a_pair_that_is_torn() {
    let mut world = pair();
    for host in 0..2 {
        let mut settings = world.hosts[host].spec.settings.clone();
        settings.groups.clear();
        world.reload(host, settings);
    }
    world.set_link(0, OUTSIDE, false);
    world.run_unchecked(nanos(secs(1)));
    let violation = world.watch.violation.expect("nothing holds them together");
    assert!(violation.contains("has 1 of 2 vips of a group"), "{violation}");
}
