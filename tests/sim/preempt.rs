//! Whether and when a healthy owner of lower priority is replaced.

use vipd::engine::{Cause, EventKind, Preempt, StateName, VipSettings};

use super::build::{interval, ms, secs, vip, world};
use super::world::World;

/// The second owns, the first comes back.
fn returning(preempt: Preempt) -> World {
    let mut world = world([VipSettings { preempt, ..vip(200) }, vip(100)]);
    world.run(secs(1));
    world.kill(0);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(1));
    world.start(0);
    world
}

#[test]
fn preemption_waits_for_a_silence_that_would_be_noticed() {
    let mut world = returning(Preempt::On);
    world.run(ms(320));
    assert_eq!(world.owner(), Some(1));
    world.run(ms(3));
    assert_eq!(world.owner(), Some(0));
    assert!(world.told(0, 0).iter().any(|kind| {
        matches!(kind, EventKind::Transition { cause: Cause::Preempts { priority, .. }, .. } if priority.0 == 100)
    }));
    assert!(matches!(world.cause(1), Cause::PeerWins { .. }));
}

#[test]
fn no_preemption_leaves_a_healthy_owner_alone_and_replaces_a_dead_one() {
    let mut world = returning(Preempt::Off);
    world.run(secs(600));
    assert_eq!(world.owner(), Some(1));
    assert_eq!(world.state(0), StateName::Backup);
    world.kill(1);
    world.run(ms(330));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn no_preemption_takes_a_resignation() {
    let mut world = returning(Preempt::Off);
    world.run(secs(2));
    world.stop(1);
    world.run(ms(23));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn delayed_preemption_comes_after_the_delay_and_not_before() {
    let mut world = returning(Preempt::After(secs(30)));
    let started_at = world.now;
    world.run(secs(30));
    assert_eq!(world.owner(), Some(1));
    world.run(ms(201));
    assert_eq!(world.owner(), Some(0));
    let claimed_at = world.hosts[0].agent[0].claimed.as_ref().map(|(at, _)| at - started_at);
    assert!(claimed_at.is_some_and(|after| after >= 30_000_000_000));
}

#[test]
fn delayed_preemption_does_not_delay_the_replacement_of_a_dead_owner() {
    let mut world = returning(Preempt::After(secs(30)));
    world.run(secs(5));
    world.kill(1);
    world.run(ms(330));
    assert_eq!(world.owner(), Some(0));
    assert!(
        world.told(0, 0).iter().any(|kind| {
            matches!(kind, EventKind::Transition { cause: Cause::ActiveDown { silence: Some(_) }, .. })
        })
    );
}

#[test]
fn equal_priorities_do_not_preempt_each_other() {
    let mut world = world([vip(100), vip(100)]);
    world.stop(1);
    world.run(secs(2));
    world.start(1);
    world.run(secs(60));
    assert_eq!(world.owner(), Some(0), "though 10.0.0.2 is the larger address");
}

#[test]
fn two_owners_of_equal_priority_leave_the_larger_address() {
    let mut world = world([vip(100), vip(100)]);
    world.part(0, 1);
    world.run(secs(2));
    world.heal();
    world.run(ms(110));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn a_backup_learns_the_owners_interval() {
    let mut world = world([vip(200), VipSettings { interval: interval(10), ..vip(100) }]);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0));
    let settled_at = world.now;
    world.run(secs(20));
    assert!(world.sent_by(1, settled_at).is_empty(), "though its own patience would be 36 ms");
    let engine = world.hosts[1].engine.as_ref().expect("it runs");
    assert_eq!(engine.vips()[0].interval(), interval(100));
    world.kill(0);
    world.run(ms(362));
    assert_eq!(world.owner(), Some(1), "three of the owner's intervals and skew");
}

#[test]
fn a_new_owner_advertises_its_own_interval_and_the_others_learn_it() {
    let mut world = world([vip(200), VipSettings { interval: interval(10), ..vip(150) }, vip(100)]);
    world.run(secs(2));
    world.kill(0);
    let killed_at = world.now;
    world.run(secs(2));
    assert_eq!(world.owner(), Some(1));
    world.kill(1);
    world.run(ms(37));
    assert_eq!(world.owner(), Some(2), "three intervals of 10 ms and skew");
    let learned =
        world.told(2, killed_at).iter().filter(|kind| matches!(kind, EventKind::IntervalLearned { .. })).count();
    assert_eq!(learned, 1);
}
