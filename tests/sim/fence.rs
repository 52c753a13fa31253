//! A silent owner is fenced before its addresses are claimed, where the settings say so; and of two nodes that would fence each other one survives.

use std::sync::Arc;
use std::time::Duration;

use vipd::engine::{Cause, EventKind, FenceAction, FencePeer, FenceSettings, StateName};

use super::build::{host, ms, secs, vip};
use super::clock::nanos;
use super::network::Network;
use super::world::World;

pub fn fence(require: bool, delay: Duration, others: &[usize]) -> FenceSettings {
    let peer = |place: &usize| {
        Arc::new(FencePeer {
            name: format!("host {place}"),
            addresses: vec![[10, 0, 0, u8::try_from(place + 1).expect("few")].into()],
            program: "/usr/sbin/fence_test".into(),
            action: FenceAction::Off,
            options: Vec::new(),
            secrets: Vec::new(),
            timeout: secs(10),
            attempts: 1,
        })
    };
    FenceSettings { require, delay, hold: None, peers: others.iter().map(peer).collect(), watchdog: None }
}

fn pair(require: bool) -> World {
    let mut specs: Vec<_> = (0..).zip([200, 100]).map(|(place, priority)| host(place, vec![vip(priority)])).collect();
    specs[0].settings.fence = fence(require, secs(1), &[1]);
    specs[1].settings.fence = fence(require, secs(1), &[0]);
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    world.run(secs(2));
    assert_eq!((world.state(0), world.state(1)), (StateName::Active, StateName::Backup));
    world
}

fn fencings(world: &World) -> Vec<(usize, usize)> {
    world.fenced.iter().map(|(_, by, target)| (*by, *target)).collect()
}

#[test]
fn a_required_fencing_is_confirmed_before_the_claim() {
    let mut world = pair(true);
    world.kill(0);
    // 3 intervals and the skew, the delay of the one that would lose, and nearly all of the 2 s that the fence agent takes.
    world.run(ms(3_200));
    assert_eq!((world.state(1), fencings(&world)), (StateName::Backup, vec![]));
    world.run(ms(200));
    assert_eq!((world.state(1), fencings(&world)), (StateName::Active, vec![(1, 0)]));
    let told: Vec<_> = world
        .told(1, 0)
        .into_iter()
        .filter(|kind| matches!(kind, EventKind::Fencing { .. } | EventKind::Fenced { .. }))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn a_partition_with_required_fencing_makes_no_two_owners() {
    let mut world = pair(true);
    world.part(0, 1);
    world.run(secs(10));
    assert_eq!(world.owner(), Some(1));
    assert_eq!(fencings(&world), [(1, 0)]);
    assert!(world.hosts[0].is_dead());
    // It boots, hears nothing, and has heard nobody since: what keeps it out then is the hold, which its driver remembers.
}

#[test]
fn a_required_fencing_that_fails_leaves_the_addresses_alone_and_is_tried_again() {
    let mut world = pair(true);
    world.fence_works = false;
    world.kill(0);
    world.run(secs(30));
    assert_eq!(world.state(1), StateName::Backup);
    let failed = |world: &World| {
        world.told(1, 0).iter().filter(|kind| matches!(kind, EventKind::FenceFailed { claims: false, .. })).count()
    };
    assert_eq!(failed(&world), 1);
    world.fence_works = true;
    world.run(secs(10));
    assert_eq!((world.state(1), failed(&world)), (StateName::Active, 1));
}

#[test]
fn an_owner_that_is_heard_again_during_the_delay_is_not_fenced() {
    let mut world = pair(true);
    world.part(0, 1);
    world.run(ms(1_000));
    world.heal();
    world.run(secs(20));
    assert_eq!((world.state(0), world.state(1), fencings(&world)), (StateName::Active, StateName::Backup, vec![]));
}

#[test]
fn without_require_a_host_that_is_gone_is_succeeded_at_once() {
    let mut world = pair(false);
    world.kill(0);
    world.run(ms(400));
    assert_eq!((world.state(1), fencings(&world)), (StateName::Active, vec![]));
}

#[test]
fn a_resignation_needs_no_fencing() {
    let mut world = pair(true);
    world.stop(0);
    world.run(ms(200));
    assert_eq!((world.state(1), fencings(&world)), (StateName::Active, vec![]));
}

#[test]
fn a_start_without_anybody_needs_no_fencing() {
    let mut world = pair(true);
    world.kill(0);
    world.kill(1);
    world.start(1);
    world.run(secs(1));
    assert_eq!((world.state(1), fencings(&world)), (StateName::Active, vec![]));
    assert_eq!(world.cause(1), Cause::ActiveDown { silence: None });
}

#[test]
fn without_a_table_for_the_owner_a_required_fencing_is_an_alarm_and_no_claim() {
    let mut world = pair(true);
    let mut settings = world.hosts[1].spec.settings.clone();
    settings.fence = fence(true, secs(1), &[7]);
    world.reload(1, settings);
    world.kill(0);
    world.run(secs(90));
    assert_eq!(world.state(1), StateName::Backup);
    let alarms = world.told(1, 0).iter().filter(|kind| matches!(kind, EventKind::FenceMissing { .. })).count();
    assert_eq!(alarms, 2, "once a minute");
}

/// Hosts 0 and 1 follow a third that dies, and hold it for the same silent owner.
#[test]
fn two_backups_fence_a_dead_owner_and_one_of_them_owns() {
    let mut specs: Vec<_> =
        (0..).zip([150, 100, 200]).map(|(place, priority)| host(place, vec![vip(priority)])).collect();
    for (place, others) in [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])] {
        specs[place].settings.fence = fence(true, secs(1), &others);
    }
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    world.run(secs(2));
    world.kill(2);
    world.run(secs(20));
    assert_eq!(world.owner(), Some(0));
    assert!(fencings(&world).iter().all(|(_, target)| *target == 2), "{:?}", world.fenced);
}

/// Each hears the other as owner last: the delay lets the better one fence first, and a dead one fences nobody.
#[test]
fn of_two_nodes_that_would_fence_each_other_the_better_one_survives() {
    for (priority_a, priority_b, survivor) in [(150, 100, 0), (100, 150, 1), (100, 100, 1)] {
        let mut specs: Vec<_> =
            (0..).zip([priority_a, priority_b]).map(|(place, priority)| host(place, vec![vip(priority)])).collect();
        specs[0].settings.fence = fence(true, secs(3), &[1]);
        specs[1].settings.fence = fence(true, secs(3), &[0]);
        let (a, b) = (specs[0].settings.vips[0].clone(), specs[1].settings.vips[0].clone());
        let mut world = World::new(1, Network::quiet(), specs);
        world.part(0, 1);
        world.start_all();
        world.run(ms(20));
        // What each heard last is an advert of the other; then nothing passes.
        for (to, from, settings) in [(0, 2_u8, &b), (1, 1, &a)] {
            let advert = super::build::advert(settings, settings.priority.0);
            let arrival = vipd::engine::Arrival {
                link: super::world::LINK,
                source: [10, 0, 0, from].into(),
                hop_limit: 255,
                advert: vipd::wire::advert::Advert { priority: vipd::types::Priority(settings.priority.0), ..advert },
                checksum: vipd::wire::advert::ChecksumForm::Rfc9568,
            };
            // One that would preempt follows nobody: it has to be a node that does not.
            let mut own = world.hosts[to].spec.settings.clone();
            own.vips[0].preempt = vipd::engine::Preempt::Off;
            world.reload(to, own);
            world.input(to, vipd::engine::Input::Advert(arrival));
        }
        world.run(secs(20));
        assert_eq!(world.owner(), Some(survivor), "{priority_a} and {priority_b}: {:?}", world.fenced);
        assert_eq!(fencings(&world), [(survivor, 1 - survivor)]);
        assert!(world.fenced[0].0 < nanos(secs(3)), "the better one did not wait");
    }
}
