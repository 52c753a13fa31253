//! An agent that ends and is started anew on the same host, within its lease or not, and perhaps with another file.

use std::time::Duration;

use vipd::engine::lease::STRETCH;
use vipd::engine::{Cause, EventKind, Input, Instant, StateName};

use super::build::{host, interval, ms, secs, vip};
use super::clock::{MILLISECOND, Nanos};
use super::network::{Network, Port};
use super::world::World;

/// Two hosts with an advert each so many milliseconds, the first of them the owner; the other of the priority that waits shortest.
fn world(interval_ms: u16) -> World {
    let of = |priority: u8| {
        let mut vip = vip(priority);
        vip.interval = interval(interval_ms);
        vip
    };
    let mut specs = vec![host(0, vec![of(254)]), host(1, vec![of(253)])];
    specs.iter_mut().for_each(|spec| spec.settings.vips[0].preempt = vipd::engine::Preempt::Off);
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    world.run(Duration::from_millis(u64::from(interval_ms)) * 30);
    assert_eq!(world.owner(), Some(0));
    world
}

fn configure_interval(world: &mut World, host: Port, interval_ms: u16) {
    world.hosts[host].spec.settings.vips[0].interval = interval(interval_ms);
}

fn transitions(world: &World, host: Port, since: Nanos) -> Vec<StateName> {
    let told = world.told(host, since).into_iter();
    told.filter_map(|kind| match kind {
        EventKind::Transition { to, .. } => Some(*to),
        _ => None,
    })
    .collect()
}

#[test]
fn a_restart_within_the_lease_moves_nothing_and_announces_nothing() {
    let mut world = world(100);
    world.watch.settled = Some(vec![0]);
    let before = world.now;
    for end in [World::crash, World::hand_on] {
        end(&mut world, 0);
        world.run(ms(150));
        world.restart(0);
        world.run(secs(2));
        assert_eq!(world.cause(0), Cause::Adopted);
    }
    assert_eq!(transitions(&world, 1, before), []);
    assert_eq!(world.announcements(0, before), 0);
}

/// An emulated or a busy host needs a second to start an agent.
#[test]
fn a_restart_that_takes_longer_than_the_usual_lease_moves_nothing_where_the_peers_were_asked_for_patience() {
    let mut world = world(100);
    world.watch.settled = Some(vec![0]);
    let before = world.now;
    world.input(0, Input::PrepareHandOn);
    let at = world.hosts[0].engine.as_ref().and_then(|engine| engine.may_hand_on_at()).expect("it is the owner");
    world.run(Duration::from_nanos(at.as_nanos()) - world.hosts[0].local(world.now).since(Instant::ZERO));
    world.hand_on(0);
    world.run(ms(2_500));
    world.restart(0);
    world.run(secs(2));
    assert_eq!(world.cause(0), Cause::Adopted);
    assert_eq!(transitions(&world, 1, before), []);
    assert_eq!(world.announcements(0, before), 0);
}

/// It is asked for by adverts, which may be lost.
#[test]
fn a_restart_asks_for_patience_and_relies_on_it_once_no_backup_can_have_missed_it() {
    for death_after in [0, 1, 100, 299, 300, 350] {
        let mut world = world(100);
        world.cut(0, 1);
        world.input(0, Input::PrepareHandOn);
        world.run(ms(death_after));
        world.crash(0);
        let it = &world.hosts[0];
        let left = it.kernel[0].lease_until.expect("it owned").since(it.local(world.now));
        assert!(left <= ms(300), "the lease outlives the patience of a backup: {left:?}");
        world.run(secs(1));
        assert_eq!(world.owner(), Some(1));
    }
}

#[test]
fn a_restart_after_the_lease_leaves_nothing_behind_and_listens() {
    let mut world = world(100);
    world.crash(0);
    world.run(ms(301));
    let before = world.now;
    world.restart(0);
    assert!(world.hosts[0].kernel[0].installed.is_empty());
    assert_eq!(transitions(&world, 0, before), [StateName::Backup]);
    world.run(secs(2));
    assert_eq!(world.watch.overlapped, 0);
}

#[test]
fn an_agent_that_crashes_again_and_again_never_answers_beside_its_successor() {
    for pause in [10, 290, 310, 350, 400, 1_000] {
        let mut world = world(100);
        for _ in 0..20 {
            world.crash(0);
            world.run(ms(pause));
            world.restart(0);
            world.run(ms(50));
        }
        assert_eq!(world.watch.overlapped, 0, "pause of {pause} ms");
        world.run(secs(2));
        assert!(world.owner().is_some());
    }
}

/// The successor of a restart must not hold the addresses by the new interval while a backup waits by the old one.
#[test]
fn a_restart_onto_a_longer_interval_lengthens_the_lease_once_no_backup_waits_by_the_shorter() {
    for longer in [110, 200, 1_000, 10_000] {
        for death_after in [0, 1, 100, 299, 300, 400, 499, 549] {
            let mut world = world(100);
            world.hand_on(0);
            world.run(ms(20));
            configure_interval(&mut world, 0, longer);
            // The backup misses every word of the new interval.
            world.cut(0, 1);
            world.restart(0);
            assert_eq!(world.cause(0), Cause::Adopted);
            world.run(ms(death_after));
            world.crash(0);
            let left = {
                let it = &world.hosts[0];
                it.kernel[0].lease_until.expect("it owned").since(it.local(world.now))
            };
            assert!(left <= ms(300), "the lease outlives the patience of a backup: {left:?}");
            world.run(secs(1));
            assert_eq!(world.owner(), Some(1));
        }
    }
}

#[test]
fn a_restart_onto_a_longer_interval_keeps_the_shorter_pace_for_five_of_the_longer() {
    let mut world = world(100);
    configure_interval(&mut world, 0, 1_000);
    world.hand_on(0);
    world.run(ms(20));
    world.restart(0);
    world.watch.settled = Some(vec![0]);
    let began = world.now;
    let lease = |world: &World| world.hosts[0].kernel[0].term;
    world.run(secs(1) * STRETCH - ms(1));
    assert_eq!(lease(&world), ms(300));
    assert_eq!(world.sent_by(0, began).len(), 50, "at the shorter pace");
    world.run(ms(101));
    assert_eq!(lease(&world), secs(3));
    world.run(secs(20));
}

#[test]
fn a_restart_onto_a_shorter_interval_takes_it_at_once() {
    let mut world = world(1_000);
    configure_interval(&mut world, 0, 100);
    world.hand_on(0);
    world.restart(0);
    assert_eq!(world.hosts[0].kernel[0].term, ms(300));
    world.watch.settled = Some(vec![0]);
    world.run(secs(5));
    assert_eq!(world.cause(0), Cause::Adopted);
}

#[test]
fn a_reload_right_after_a_restart_lengthens_no_lease_early() {
    let mut world = world(100);
    configure_interval(&mut world, 0, 1_000);
    world.hand_on(0);
    world.restart(0);
    let began = world.now;
    let mut settings = world.hosts[0].spec.settings.clone();
    settings.vips[0].interval = interval(500);
    world.reload(0, settings);
    while world.now < began + 4_900 * MILLISECOND {
        world.run(ms(50));
        assert!(world.hosts[0].kernel[0].term <= ms(300));
    }
}
