//! The second path: an owner that loses its link hands over at once, and adverts that are blocked make no second owner.

use std::time::Duration;

use vipd::engine::{
    Cause, Direction, EventKind, HeartbeatSettings, Input, OnSilentOwner, Preempt, StateName, VipSettings,
};
use vipd::types::Vrid;
use vipd::wire::handover::HandoverReason;

use super::build::{VIP_V4, address, host, interval, ms, secs, vip};
use super::clock::{MILLISECOND, nanos};
use super::handover::drain;
use super::host::Wire;
use super::network::Network;
use super::world::World;

pub const HEARTBEAT: HeartbeatSettings = HeartbeatSettings { interval: Duration::from_millis(100) };

/// Hosts with these vips and a second path, not started.
fn hosts_of(vips: Vec<Vec<VipSettings>>) -> World {
    let specs = (0..).zip(vips).map(|(place, vips)| {
        let mut spec = host(place, vips);
        spec.settings.heartbeat = Some(HEARTBEAT);
        spec
    });
    World::new(1, Network::quiet(), specs.collect())
}

/// Hosts with one vip each, an advert so often, of these priorities; the first is the owner.
fn world(every: u16, priorities: &[u8]) -> World {
    let vips = priorities.iter().map(|priority| vec![VipSettings { interval: interval(every), ..vip(*priority) }]);
    let mut world = hosts_of(vips.collect());
    world.start_all();
    world.run(secs(10));
    assert_eq!(world.owner(), Some(0));
    world
}

const INTERVALS: [u16; 4] = [10, 100, 1_000, 40_000];

fn blocked(world: &World, host: usize) -> Vec<(String, Direction)> {
    let engine = world.hosts[host].engine.as_ref().expect("it runs");
    let of_vip =
        |vip: &vipd::engine::Vip| vip.blocked().iter().map(|it| (it.peer.clone(), it.direction)).collect::<Vec<_>>();
    engine.vips().iter().flat_map(of_vip).collect()
}

fn count(world: &World, host: usize, since: u64, which: impl Fn(&EventKind) -> bool) -> usize {
    world.told(host, since).into_iter().filter(|kind| which(kind)).count()
}

#[test]
fn the_peer_of_an_owner_whose_link_dies_owns_at_once_at_any_interval() {
    for every in INTERVALS {
        let mut world =
            hosts_of([200, 100].map(|it| vec![VipSettings { interval: interval(every), ..vip(it) }]).to_vec());
        world.start_all();
        world.run(secs(200));
        assert_eq!(world.owner(), Some(0));
        world.set_wire(0, Wire::Down);
        world.run(ms(5));
        assert_eq!(world.owner(), Some(1), "adverts each {every} ms");
        assert_eq!(world.neighbours.believes(0, VIP_V4), Some(1));
        assert_eq!(world.cause(1), Cause::GivenUp { peer: "host 0".into(), link_down: true });
        assert_eq!(world.watch.overlapped, 0);
    }
}

#[test]
fn without_a_second_path_the_silence_is_waited_for() {
    let mut world = world(1_000, &[200, 100]);
    world.second.cut(0, 1);
    world.set_wire(0, Wire::Down);
    world.run(ms(2_000));
    assert_eq!(world.owner(), None);
    world.run(ms(1_700));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn nothing_is_handed_over_before_the_addresses_are_off() {
    let mut world = world(1_000, &[200, 100]);
    world.hosts[0].spec.effect_time = (80 * MILLISECOND, 80 * MILLISECOND);
    world.hosts[0].refusals = 0;
    world.set_wire(0, Wire::Down);
    world.run(ms(79));
    assert_eq!(world.state(1), StateName::Backup);
    world.run(ms(5));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn what_was_lost_is_said_again() {
    let mut world = world(1_000, &[200, 100]);
    world.second.cut(0, 1);
    world.set_wire(0, Wire::Down);
    world.run(ms(15));
    assert_eq!(world.state(1), StateName::Backup);
    world.second.mend(0, 1);
    world.run(ms(20));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn of_several_backups_the_best_goes_first_and_alone() {
    let mut world = world(1_000, &[200, 50, 150, 100]);
    let since = world.now;
    world.set_wire(0, Wire::Down);
    world.run(ms(5));
    assert_eq!(world.owner(), Some(2));
    world.run(secs(10));
    assert!([1, 3].iter().all(|host| world.sent_by(*host, since).is_empty()), "the others claimed nothing");
    assert_eq!(world.watch.overlapped, 0);
}

#[test]
fn where_the_best_backup_is_gone_the_next_has_its_turn_by_skew() {
    let mut world = world(1_000, &[200, 150, 100]);
    // The agent of the best is gone a moment before the owner's link.
    world.kill(1);
    world.set_wire(0, Wire::Down);
    world.run(ms(5));
    assert_eq!(world.state(2), StateName::Backup);
    world.run(ms(1_000 * 156 / 256));
    assert_eq!(world.owner(), Some(2));
}

#[test]
fn a_clean_stop_hands_over() {
    let mut world = world(1_000, &[200, 100]);
    world.stop(0);
    world.run(ms(3));
    assert_eq!(world.owner(), Some(1));
    assert_eq!(world.cause(1), Cause::TakesOver { peer: "host 0".into(), reason: HandoverReason::Stop });
    assert_eq!(world.watch.overlapped, 0);
}

#[test]
fn a_restart_hands_nothing_over() {
    let mut world = world(100, &[200, 100]);
    let since = world.now;
    world.input(0, Input::HandOn);
    world.run(ms(250));
    assert_eq!(world.state(1), StateName::Backup);
    assert_eq!(count(&world, 1, since, |kind| matches!(kind, EventKind::Transition { .. })), 0);
    assert!(world.beats.iter().all(|(at, by)| *by != 0 || *at < since), "what was said last holds");
}

#[test]
fn adverts_that_are_blocked_make_no_second_owner_and_both_nodes_name_the_direction() {
    for every in [10, 100, 1_000] {
        for policy in [OnSilentOwner::Wait, OnSilentOwner::Take] {
            let it =
                |priority| vec![VipSettings { interval: interval(every), on_silent_owner: policy, ..vip(priority) }];
            let mut world = hosts_of(vec![it(200), it(100)]);
            world.start_all();
            world.run(secs(10));
            let since = world.now;
            world.cut(0, 1);
            world.run(secs(58));
            assert_eq!((world.owner(), world.watch.overlapped), (Some(0), 0), "adverts each {every} ms");
            assert!(world.sent_by(1, since).is_empty());
            assert_eq!(blocked(&world, 1), [("host 0".to_owned(), Direction::FromPeer)]);
            assert_eq!(blocked(&world, 0), [("host 1".to_owned(), Direction::ToPeer)]);
            for host in [0, 1] {
                assert_eq!(count(&world, host, since, |kind| matches!(kind, EventKind::AdvertsBlocked { .. })), 1);
            }
            let mended = world.now;
            world.heal();
            world.run(ms(u64::from(every) + 150));
            assert!(blocked(&world, 0).is_empty() && blocked(&world, 1).is_empty());
            for host in [0, 1] {
                assert_eq!(count(&world, host, mended, |kind| matches!(kind, EventKind::AdvertsThrough { .. })), 1);
            }
        }
    }
}

#[test]
fn the_other_direction_is_named_when_a_backups_adverts_would_be_blocked_and_nothing_happens() {
    let mut world = world(100, &[200, 100]);
    world.cut(1, 0);
    world.run(secs(60));
    assert_eq!(world.owner(), Some(0));
    assert!(
        blocked(&world, 0).is_empty() && blocked(&world, 1).is_empty(),
        "a backup sends nothing that could be missed"
    );
}

#[test]
fn when_the_second_path_ends_as_well_the_timer_decides() {
    let mut world = world(100, &[200, 100]);
    world.watch.forgiving = true;
    world.hosts[1].spec.settings.vips[0].on_silent_owner = OnSilentOwner::Take;
    let settings = world.hosts[1].spec.settings.clone();
    world.reload(1, settings);
    world.cut(0, 1);
    world.run(secs(10));
    assert_eq!(world.state(1), StateName::Backup);
    world.second.cut(0, 1);
    world.run(ms(120));
    assert_eq!(world.state(1), StateName::Backup, "3.5 heartbeats are not over");
    world.run(ms(60));
    assert_eq!(world.state(1), StateName::Active);
    assert!(blocked(&world, 1).is_empty());
}

#[test]
fn a_dead_owner_is_succeeded_as_soon_as_without_a_second_path() {
    for every in [10, 100, 1_000] {
        for priority in [1, 100, 254] {
            for phase in 0..8 {
                let claimed = [None, Some(HEARTBEAT)].map(|heartbeat| {
                    let it = |priority| {
                        vec![VipSettings { interval: interval(every), preempt: Preempt::Off, ..vip(priority) }]
                    };
                    let mut world = hosts_of(vec![it(255), it(priority)]);
                    world.hosts.iter_mut().for_each(|host| host.spec.settings.heartbeat = heartbeat);
                    // The same ways for the same adverts.
                    world.network.delay = (100_000, 100_000);
                    world.second.delay = (100_000, 100_000);
                    world.start_all();
                    world.run(secs(10) + ms(u64::from(every)) * phase / 8);
                    world.kill(0);
                    let killed = world.now;
                    world.run(5 * ms(u64::from(every)));
                    world.sent_by(1, killed).first().map(|sent| sent.at - killed)
                });
                assert_eq!(claimed[0], claimed[1], "adverts each {every} ms, priority {priority}, phase {phase}");
                assert!(claimed[0].is_some());
            }
        }
    }
}

#[test]
fn two_owners_that_hear_each_other_on_the_second_path_only_are_one_soon() {
    for every in [10, 100, 1_000] {
        let mut world = world(every, &[200, 100]);
        world.watch.forgiving = true;
        world.part(0, 1);
        world.second.cut(0, 1);
        world.second.cut(1, 0);
        world.run(secs(10) + 6 * ms(u64::from(every)));
        assert_eq!([world.state(0), world.state(1)], [StateName::Active; 2]);
        assert_eq!(world.neighbours.believes(0, VIP_V4), Some(1));
        let healed = world.now;
        world.second.heal();
        world.run(ms(105));
        assert_eq!(world.owner(), Some(0), "adverts each {every} ms: the lower rank yields");
        assert_eq!(world.cause(1), Cause::PeerOwns { peer: "host 0".into(), priority: vipd::types::Priority(200) });
        world.run(ms(20));
        assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0), "the survivor has the last word");
        assert_eq!(count(&world, 1, healed, |kind| matches!(kind, EventKind::SecondOwner { yields: true, .. })), 1);
        // The adverts are blocked still, and the one that yielded waits.
        world.run(secs(10));
        assert_eq!((world.owner(), world.state(1)), (Some(0), StateName::Backup));
    }
}

#[test]
fn of_equals_the_smaller_address_yields_on_the_second_path() {
    let mut world = hosts_of([100, 100].map(|priority| vec![vip(priority)]).to_vec());
    world.watch.forgiving = true;
    world.part(0, 1);
    world.second.cut(0, 1);
    world.second.cut(1, 0);
    world.start_all();
    world.run(secs(2));
    assert_eq!([world.state(0), world.state(1)], [StateName::Active; 2]);
    world.second.heal();
    world.run(secs(2));
    assert_eq!(world.owner(), Some(1));
}

/// The peer's word cannot be old where it echoes a young heartbeat. Where it echoes none, nobody knows.
#[test]
fn a_word_that_may_be_old_hands_nothing_over() {
    let mut world = world(1_000, &[200, 100]);
    world.second.cut(1, 0);
    world.run(ms(500));
    world.set_wire(0, Wire::Down);
    world.run(ms(1_500));
    assert_eq!(world.state(1), StateName::Backup);
    world.run(ms(2_200));
    assert_eq!(world.owner(), Some(1), "the timer holds as ever");
}

/// The second took over and its host stands still. The third heard it while it was drained, and is told late that the first gave up.
#[test]
fn a_word_of_the_owner_before_says_nothing_of_the_lease_of_who_is_heard_since() {
    let mut world = world(100, &[200, 150, 100]);
    drain(&mut world, 2);
    world.second.cut(0, 2);
    world.second.cut(1, 2);
    world.set_wire(0, Wire::Down);
    world.run(ms(10));
    assert_eq!(world.owner(), Some(1));
    world.freeze_host(1);
    world.input(2, Input::Release { vip: None });
    world.second.heal();
    world.run(secs(1));
    assert_eq!((world.owner(), world.watch.overlapped), (Some(2), 0));
}

#[test]
fn an_owner_that_comes_back_is_followed_again() {
    let mut world = world(100, &[200, 100]);
    for _ in 0..5 {
        world.set_wire(0, Wire::Down);
        world.run(ms(20));
        assert_eq!(world.owner(), Some(1));
        world.set_wire(0, Wire::Up);
        world.run(secs(1));
        assert_eq!(world.owner(), Some(0));
    }
    assert_eq!(world.watch.overlapped, 0);
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0));
}

#[test]
fn a_thousand_vips_are_handed_over_at_once() {
    let vips = |priority: u8| {
        let it = |number: u16| {
            let [high, low] = number.to_be_bytes();
            let mut it = VipSettings { interval: interval(1_000), ..vip(priority) };
            it.name = format!("vip-{number}");
            it.vrid = Vrid::new(u8::try_from(number % 250 + 1).expect("a byte")).expect("not 0");
            it.interface = format!("eth{}", number / 250);
            it.addresses = vec![address([10, 1, high, low].into())];
            it
        };
        (0..1_000_u16).map(it).collect::<Vec<_>>()
    };
    let mut world = hosts_of(vec![vips(200), vips(100)]);
    world.start_all();
    world.run(secs(5));
    let (since, before) = (world.now, world.beats.len());
    world.run(secs(1));
    let quiet = world.beats.len() - before;
    assert!(quiet <= 2 * 11 * 50, "{quiet} heartbeats in a second of nothing new");
    world.set_wire(0, Wire::Down);
    world.run(ms(200));
    assert!((0..1_000).all(|vip| world.owner_of(vip) == Some(1)), "each as soon as its address is off");
    assert!(nanos(secs(1)) < world.now - since);
}

#[test]
fn a_stranger_in_the_table_and_a_vip_that_nobody_has_harm_nothing() {
    use vipd::types::{AdvertInterval, Priority};
    use vipd::wire::heartbeat::{Addresses, Heartbeat, Report, Standing};
    let mut world = world(100, &[200, 100]);
    let since = world.now;
    let other = |vrid: u8, last: u8| Report {
        vrid: Vrid::new(vrid).expect("not 0"),
        addresses: Addresses { v4: Some([10, 0, 0, last].into()), v6: None },
        standing: Standing::Owner,
        link_up: true,
        given_up: false,
        priority: Priority(254),
        interval: AdvertInterval::from_centiseconds(10).expect("100 ms"),
        generation: 1,
        sources: Addresses::default(),
        hears: None,
    };
    for n in 0..1_000_u64 {
        let reports = vec![other(52, 100), other(51, 101)];
        let heartbeat = Heartbeat { epoch: n, sequence: 1, interval: ms(100), echo: None, reports };
        world.input(0, Input::Heartbeat { peer: format!("stranger {n}"), heartbeat });
    }
    let engine = world.hosts[0].engine.as_ref().expect("it runs");
    assert!(engine.heartbeats().peers().count() <= 16);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(count(&world, 0, since, |kind| matches!(kind, EventKind::Transition { .. })), 0);
}
