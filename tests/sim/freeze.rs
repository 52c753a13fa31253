//! Agents that stand still.

use vipd::engine::{Cause, EventKind, StateName};
use vipd::types::Priority;

use super::build::{VIP_V4, host, ms, secs, vip, world};
use super::clock::Clock;
use super::network::Network;
use super::world::World;

#[test]
fn a_frozen_owner_and_its_successor_never_answer_together() {
    let mut world = world([vip(200), vip(254)]);
    world.hosts[1].spec.settings.vips[0].preempt = vipd::engine::Preempt::Off;
    world.start(1);
    world.run(secs(2));
    let owner = world.owner().expect("one owner");
    world.freeze(owner);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(1 - owner));
    assert_eq!(world.watch.overlapped, 0);
}

#[test]
fn thawed_active_listens_before_it_speaks() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.freeze(0);
    world.run(secs(10));
    assert_eq!(world.owner(), Some(1));
    let thawed_at = world.now;
    world.thaw(0);
    assert_eq!(world.state(0), StateName::Backup);
    assert!(matches!(world.cause(0), Cause::Late { by } if by >= secs(9)));
    assert_eq!(world.announcements(0, thawed_at), 0);
    assert!(world.sent_by(0, thawed_at).is_empty());
    world.run(ms(300));
    assert!(world.sent_by(0, thawed_at).is_empty(), "it listens for as long as one that has just started");
    world.run(ms(200));
    assert_eq!(world.owner(), Some(0), "and preempts after that");
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0));
}

#[test]
fn a_freeze_shorter_than_the_lease_changes_nothing() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    let events = world.events.len();
    for _ in 0..10 {
        world.freeze(0);
        world.run(ms(199));
        world.thaw(0);
        world.run(ms(500));
    }
    assert_eq!(world.owner(), Some(0));
    assert_eq!(world.events.len(), events);
}

#[test]
fn a_thawed_backup_reads_what_waited_before_it_claims() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.freeze(1);
    world.run(secs(10));
    let thawed_at = world.now;
    world.thaw(1);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
    assert!(world.sent_by(1, thawed_at).is_empty());
}

#[test]
fn an_owner_without_peers_owns_again_after_a_freeze() {
    let mut world = world([vip(200)]);
    world.run(secs(2));
    world.freeze(0);
    world.run(secs(10));
    assert_eq!(world.owner(), None, "no renewal, no address");
    world.thaw(0);
    world.run(ms(330));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn an_owner_that_is_told_to_stop_while_frozen_leaves_nothing_behind() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.freeze(0);
    world.stop(0);
    world.run(secs(5));
    world.thaw(0);
    let thawed_at = world.now;
    world.run(secs(1));
    assert_eq!(world.owner(), Some(1));
    assert!(world.hosts[0].kernel[0].installed.is_empty());
    assert!(world.sent_by(0, thawed_at).is_empty(), "it has nothing to resign from");
}

#[test]
fn a_claim_that_is_frozen_before_the_kernel_answers_is_not_taken_up_again() {
    let mut specs = vec![host(0, vec![vip(200)]), host(1, vec![vip(100)])];
    specs[0].effect_time = (50_000_000, 50_000_000);
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    while world.state(0) != StateName::Claiming {
        world.run(ms(1));
    }
    world.freeze(0);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(1));
    let thawed_at = world.now;
    world.thaw(0);
    let told = world.told(0, thawed_at);
    assert!(matches!(told[..], [EventKind::Transition { to: StateName::Backup, cause: Cause::Late { .. }, .. }]));
    world.run(ms(200));
    assert!(world.hosts[0].kernel[0].installed.is_empty());
    assert!(world.sent_by(0, thawed_at).iter().all(|sent| sent.priority != Priority::RESIGN));
}

/// 200 ppm apart in either direction, at the shortest skew time that there is.
#[test]
fn good_clocks_keep_a_dead_owner_and_its_successor_apart() {
    for (slow, fast) in [(-200, 200), (200, -200)] {
        let mut specs = vec![host(0, vec![vip(253)]), host(1, vec![vip(254)])];
        specs[0].clock = Clock { offset: 7, ppm: slow };
        specs[1].clock = Clock { offset: 7, ppm: fast };
        specs[1].settings.vips[0].preempt = vipd::engine::Preempt::Off;
        let mut world = World::new(1, Network::quiet(), specs);
        world.start(0);
        world.run(secs(2));
        world.start(1);
        world.run(secs(2));
        assert_eq!(world.owner(), Some(0));
        world.freeze(0);
        world.run(secs(1));
        assert_eq!(world.owner(), Some(1));
        assert_eq!(world.watch.overlapped, 0);
    }
}

#[test]
fn a_backup_that_could_not_hear_while_it_was_paused_listens_again() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.freeze(1);
    world.isolate(1);
    world.run(secs(2));
    world.heal();
    world.thaw(1);
    let thawed_at = world.now;
    world.run(ms(500));
    assert_eq!((world.owner(), world.state(1)), (Some(0), StateName::Backup));
    assert!(world.sent_by(1, thawed_at).is_empty());
}

#[test]
fn a_paused_backup_listens_for_one_more_advert_and_no_longer() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.freeze(1);
    world.kill(0);
    world.run(secs(2));
    world.thaw(1);
    world.run(ms(150));
    assert_eq!(world.state(1), StateName::Backup);
    world.run(ms(20));
    assert_eq!(world.owner(), Some(1));
}
