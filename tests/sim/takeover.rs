//! An owner dies or stops, and another host takes over.

use vipd::engine::{Cause, EventKind, StateName, VipId};

use super::build::{address, host, interval, ms, secs, vip, world};
use super::network::Network;
use super::world::World;

#[test]
fn the_highest_priority_owns_after_a_start() {
    let mut world = world([vip(200), vip(100), vip(50)]);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0));
    assert_eq!([0, 1, 2].map(|host| world.state(host)), [StateName::Active, StateName::Backup, StateName::Backup]);
    assert!(matches!(world.cause(0), Cause::ActiveDown { silence: None }));
}

#[test]
fn a_killed_host_is_replaced_within_three_intervals_and_skew() {
    let mut world = world([vip(200), vip(100), vip(50)]);
    world.run(secs(2));
    world.kill(0);
    world.run(ms(300) + ms(100) * 156 / 256 + ms(1));
    assert_eq!(world.owner(), Some(1));
    assert_eq!(world.state(2), StateName::Backup);
    // From the last advert on, which is up to an interval before the kill.
    let waited = ms(300) + ms(100) * 156 / 256;
    let away = world.told(1, 0).into_iter().find_map(|kind| match kind {
        EventKind::TookOver { away } => *away,
        _ => None,
    });
    assert!(away.is_some_and(|away| away >= waited && away <= waited + ms(1)), "{away:?}");
    assert_eq!(world.neighbours.believes(0, super::build::VIP_V4), Some(1));
}

#[test]
fn a_crashed_agent_and_its_successor_never_answer_together() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.crash(0);
    assert_eq!(world.owner(), Some(0), "the kernel answers on");
    world.run(secs(1));
    assert_eq!(world.owner(), Some(1));
    assert!(!world.hosts[0].kernel[0].installed.is_empty(), "nobody took the addresses away: the lease ended");
    assert_eq!(world.watch.overlapped, 0);
}

#[test]
fn a_clean_stop_hands_over_within_the_skew_time() {
    let mut world = world([vip(200), vip(100), vip(50)]);
    world.run(secs(2));
    world.stop(0);
    assert_eq!(world.owner(), None, "it ended its lease before it resigned");
    world.run(ms(100) * 156 / 256 + ms(1));
    assert_eq!(world.owner(), Some(1));
    assert!(world.hosts[0].kernel[0].installed.is_empty());
    let told = world.told(1, 0);
    let [.., claim, active, took_over] = &told[..] else { panic!("{told:?}") };
    assert!(matches!(claim, EventKind::Transition { cause: Cause::PeerResigned { .. }, .. }));
    assert!(matches!(active, EventKind::Transition { cause: Cause::Installed, .. }));
    // From the resignation on.
    let EventKind::TookOver { away: Some(away) } = took_over else { panic!("{took_over:?}") };
    assert!(*away >= ms(100) * 156 / 256 && *away <= ms(100) * 156 / 256 + ms(1), "{away:?}");
}

#[test]
fn a_stopped_agent_starts_nothing_more() {
    let mut world = world([vip(200)]);
    world.run(secs(1));
    world.stop(0);
    world.set_wire(0, super::host::Wire::Down);
    world.run(ms(10));
    world.set_wire(0, super::host::Wire::Up);
    let stopped_at = world.now;
    world.run(secs(60));
    assert_eq!(world.state(0), StateName::Initialize);
    assert!(world.sent_by(0, stopped_at).is_empty());
}

#[test]
fn an_agent_that_stops_while_it_claims_leaves_nothing_behind() {
    let mut specs = vec![host(0, vec![vip(200)])];
    specs[0].effect_time = (80_000_000, 80_000_000);
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    while world.state(0) != StateName::Claiming {
        world.run(ms(1));
    }
    world.stop(0);
    world.run(secs(1));
    assert!(world.hosts[0].kernel[0].installed.is_empty());
    assert_eq!(world.announcements(0, 0), 0);
}

#[test]
fn the_address_owner_owns_at_once() {
    let mut world = world([vip(255), vip(254)]);
    world.run(ms(1));
    assert_eq!(world.owner(), Some(0));
    assert!(matches!(
        world.told(0, 0).first(),
        Some(vipd::engine::EventKind::Transition {
            from: StateName::Initialize,
            to: StateName::Claiming,
            cause: Cause::AddressOwner
        })
    ));
    world.kill(0);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(1));
    world.start(0);
    world.run(ms(2));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn a_thousand_vips_fail_at_once_and_are_claimed_within_an_interval_and_skew() {
    let vips = |priority: u8| {
        (0..1_000_u16)
            .map(|number| {
                let mut it = vip(priority);
                let [high, low] = number.to_be_bytes();
                it.name = format!("vip-{number}");
                // 250 virtual routers on each of four interfaces.
                it.vrid = vipd::types::Vrid::new(u8::try_from(number % 250 + 1).expect("a byte")).expect("not 0");
                it.interface = format!("eth{}", number / 250);
                it.addresses = vec![address([10, 1, high, low].into())];
                it
            })
            .collect::<Vec<_>>()
    };
    let mut world = World::new(1, Network::quiet(), vec![host(0, vips(200)), host(1, vips(100))]);
    world.start_all();
    world.run(secs(1));
    assert!((0..1_000).all(|vip| world.owner_of(vip) == Some(0)));
    world.kill(0);
    world.run(ms(300) + ms(100) * 156 / 256 + ms(100));
    assert!((0..1_000).all(|vip| world.owner_of(vip) == Some(1)));
    let engine = world.hosts[1].engine.as_ref().expect("it runs");
    let since = engine.vips().iter().map(|vip| vip.since());
    let (first, last) = (since.clone().min().expect("some"), since.max().expect("some"));
    assert!(last.since(first) <= ms(100) + ms(100) * 156 / 256, "{:?}", last.since(first));
    assert_eq!(engine.vip(VipId(999)).map(|vip| vip.state()), Some(StateName::Active));
}

#[test]
fn many_hosts_that_start_together_settle_on_the_best() {
    let mut world = world([10, 20, 30, 40, 50].map(|priority| {
        let mut it = vip(priority);
        it.interval = interval(10);
        it
    }));
    world.run(ms(100));
    assert_eq!(world.owner(), Some(4));
    assert_eq!(world.announced.len(), 1, "nobody else got as far as to announce");
}
