//! References: with `prefer = "safe"` a partition has one owner, on the side of the references, and never two.

use vipd::engine::{Cause, EventKind, OnSilentOwner, Preempt, Prefer, Reference, StateName, VipSettings};

use super::build::{host, interval, ms, secs, vip, world};
use super::clock::MILLISECOND;
use super::network::{NEIGHBOURS, Network, Port};
use super::rng::Rng;
use super::travel::REFERENCE;
use super::world::World;

fn safe(priority: u8, every: u16) -> VipSettings {
    VipSettings {
        interval: interval(every),
        references: vec![Reference::Address(REFERENCE)],
        prefer: Prefer::Safe,
        ..vip(priority)
    }
}

/// The network falls into two parts. Only the one reaches the references.
fn partition(world: &mut World, with_references: &[Port]) {
    for one in 0..world.hosts.len() {
        let inside = with_references.contains(&one);
        if !inside {
            world.part(one, NEIGHBOURS);
        }
        for other in 0..one {
            if with_references.contains(&other) != inside {
                world.part(one, other);
            }
        }
    }
}

/// Longer than everything here takes: a silence, and the longest wait of a safe backup.
fn settle(every: u16) -> std::time::Duration {
    ms(5 * u64::from(every) + 600)
}

#[test]
fn an_owner_without_references_gives_up_before_its_successor_claims() {
    for every in [10, 50, 70, 100, 300, 1_000] {
        for priority in [1, 100, 254] {
            let mut world = world([VipSettings { preempt: Preempt::Off, ..safe(255, every) }, safe(priority, every)]);
            world.run(settle(every));
            assert_eq!(world.owner(), Some(0));
            world.run(ms(5_003));
            partition(&mut world, &[1]);
            world.run(settle(every));
            assert_eq!((world.owner(), world.state(0)), (Some(1), StateName::Backup), "{every} ms, {priority}");
            assert!(matches!(world.cause(1), Cause::ActiveDown { .. }));
            assert!(
                world
                    .told(0, 0)
                    .iter()
                    .any(|kind| { matches!(kind, EventKind::Transition { cause: Cause::Isolated, .. }) })
            );
            world.heal();
            world.run(settle(every));
            // The address owner takes nobody's word, and takes back.
            assert!(world.owner().is_some());
            if priority > 1 {
                continue;
            }
            assert_eq!(world.owner(), Some(0));
        }
    }
}

#[test]
fn a_backup_without_references_does_not_claim_and_says_so() {
    let mut world = world([safe(200, 100), safe(100, 100)]);
    world.run(secs(5));
    partition(&mut world, &[0]);
    world.run(secs(10));
    assert_eq!((world.owner(), world.state(1)), (Some(0), StateName::Backup));
    assert_eq!(world.sent_by(1, 0), []);
    let told = world.told(1, 0);
    assert_eq!(told.iter().filter(|kind| matches!(kind, EventKind::IsolatedFromReferences)).count(), 1);
    assert!(told.iter().any(|kind| matches!(kind, EventKind::ReferenceLost { .. })));
    let engine = world.hosts[1].engine.as_ref().expect("it runs");
    assert!(engine.vips()[0].is_isolated() && engine.vips()[0].references()[0].lost);
    world.heal();
    world.run(secs(2));
    assert_eq!((world.owner(), world.watch.overlapped), (Some(0), 0));
    assert!(world.told(1, 0).iter().any(|kind| matches!(kind, EventKind::ReferenceBack { .. })));
    let engine = world.hosts[1].engine.as_ref().expect("it runs");
    assert!(!engine.vips()[0].is_isolated());
}

#[test]
fn nobody_owns_while_no_reference_answers_and_one_does_as_soon_as_one_does() {
    let mut world = world([safe(200, 100), safe(100, 100)]);
    world.run(secs(5));
    for host in [0, 1] {
        world.part(host, NEIGHBOURS);
    }
    world.run(secs(5));
    assert_eq!([world.state(0), world.state(1)], [StateName::Backup; 2]);
    world.heal();
    // The next question, which is asked each 43.75 ms, an interval, and a skew time of 21.9 ms.
    world.run(ms(167));
    assert_eq!(world.owner(), Some(0), "the better one, whose turn comes first");
}

#[test]
fn available_nodes_watch_their_references_and_do_nothing() {
    let it = |priority| VipSettings { prefer: Prefer::Available, ..safe(priority, 100) };
    let mut world = world([it(200), it(100)]);
    world.run(secs(5));
    partition(&mut world, &[1]);
    world.run(secs(10));
    assert_eq!([world.state(0), world.state(1)], [StateName::Active; 2]);
    assert!(world.told(0, 0).iter().any(|kind| matches!(kind, EventKind::ReferenceLost { .. })));
}

#[test]
fn a_killed_host_is_succeeded_as_fast_where_intervals_are_100_ms_or_longer() {
    for every in [100, 300, 1_000] {
        let claimed = [Prefer::Safe, Prefer::Available].map(|prefer| {
            let it = |priority| VipSettings { prefer, preempt: Preempt::Off, ..safe(priority, every) };
            let mut world = world([it(254), it(254)]);
            world.network.delay = (100_000, 100_000);
            world.run(secs(5));
            let owner = world.owner().expect("one of the two");
            world.kill(owner);
            let killed_at = world.now;
            world.run(settle(every));
            assert_eq!(world.owner(), Some(1 - owner));
            world.sent_by(1 - owner, killed_at)[0].at - killed_at
        });
        assert_eq!(claimed[0], claimed[1], "at {every} ms");
    }
}

#[test]
fn no_partition_of_any_shape_makes_two_owners() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let every = rng.pick(&[10, 20, 50, 100, 300]);
        let hosts = u8::try_from(rng.within(2, 5)).expect("few");
        let policy = rng.pick(&[OnSilentOwner::Wait, OnSilentOwner::Take]);
        // So far apart that two backups of one part never claim within the way from one to the other, which is another matter.
        let rotation = rng.within(0, 4);
        let specs = (0..hosts).map(|place| {
            let rank = (u64::from(place) + rotation) % 5;
            let priority = u8::try_from(10 + 55 * rank).expect("a byte");
            // Preemption overlaps for as long as the advert takes to the owner, by design of the standard.
            let settings = VipSettings { on_silent_owner: policy, preempt: Preempt::Off, ..safe(priority, every) };
            let mut spec = host(place, vec![settings]);
            spec.lateness = (0, 100_000);
            spec
        });
        let mut world = World::new(seed, Network::quiet(), specs.collect());
        world.start_all();
        world.run(secs(2) + settle(every));
        for _ in 0..6 {
            let with_references: Vec<Port> = (0..usize::from(hosts)).filter(|_| world.rng.permille(500)).collect();
            let pause = world.rng.within(0, 3 * u64::from(every) * MILLISECOND);
            world.run(std::time::Duration::from_nanos(pause));
            partition(&mut world, &with_references);
            world.run(settle(every) + ms(200));
            let owner = world.owner();
            assert_eq!(owner.is_some(), !with_references.is_empty(), "seed {seed}: {with_references:?} {owner:?}");
            assert!(owner.is_none_or(|owner| with_references.contains(&owner)), "seed {seed}");
            assert_eq!(world.watch.overlapped, 0, "seed {seed}: two owners");
            world.heal();
            world.run(settle(every));
            // Two that waited may have the same turn, and hear each other at once, as two backups of any owner.
            assert!(world.watch.overlapped < MILLISECOND, "seed {seed}: two owners after the heal");
            world.watch.overlapped = 0;
            assert!(world.owner().is_some(), "seed {seed}: nobody after the heal");
        }
    }
}
