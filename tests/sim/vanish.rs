//! Another program removes addresses, or the kernel refuses them.

use vipd::engine::{Cause, EventKind, StateName};

use super::build::{VIP_V4, host, ms, secs, vip, world};
use super::network::Network;
use super::world::World;

#[test]
fn a_removed_address_is_put_back_within_10_ms_and_announced() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    let removed_at = world.now;
    world.remove_address(0, 0, VIP_V4);
    assert_eq!(world.owner(), None);
    world.run(ms(10));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(world.announcements(0, removed_at), 1);
    assert_eq!(world.told(0, removed_at), [&EventKind::AddressRestored { address: VIP_V4, count: 1 }]);
    assert_eq!(world.state(0), StateName::Active);
}

#[test]
fn an_address_that_keeps_vanishing_is_handed_over() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    let since = world.now;
    for count in 1..=5 {
        world.remove_address(0, 0, VIP_V4);
        world.run(ms(200));
        assert_eq!(world.owner(), Some(0), "after {count}");
    }
    world.remove_address(0, 0, VIP_V4);
    world.run(ms(100));
    assert_eq!(world.owner(), Some(1));
    assert_eq!(world.state(0), StateName::Held);
    assert_eq!(world.cause(0), Cause::AddressesKeepVanishing);
    assert!(world.hosts[0].kernel[0].installed.is_empty());
    assert_eq!(world.told(0, since).len(), 6);
    world.run(secs(29));
    assert_eq!(world.state(0), StateName::Held, "it stays out for 30 s");
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0), "and takes part again");
}

#[test]
fn removals_that_are_seldom_are_put_back_for_ever() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    for _ in 0..30 {
        world.remove_address(0, 0, VIP_V4);
        world.run(secs(3));
        assert_eq!(world.owner(), Some(0));
    }
}

#[test]
fn an_address_removed_while_the_claim_is_under_way_is_put_back() {
    let mut spec = host(0, vec![vip(200)]);
    // Applied after 20 ms, answered after 40 ms.
    spec.effect_time = (40_000_000, 40_000_000);
    let mut world = World::new(1, Network::quiet(), vec![spec]);
    world.start_all();
    while world.owner().is_none() {
        world.run(ms(1));
    }
    assert_eq!(world.state(0), StateName::Claiming);
    world.remove_address(0, 0, VIP_V4);
    world.run(ms(100));
    assert_eq!(world.state(0), StateName::Active);
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn a_refused_claim_is_handed_over_and_cleaned_up() {
    let mut world = world([vip(200), vip(100)]);
    world.hosts[0].refusals = 1;
    world.run(ms(600));
    assert_eq!(world.state(0), StateName::Held);
    assert!(matches!(world.cause(0), Cause::InstallRefused(_)));
    assert_eq!(world.owner(), Some(1));
    assert!(world.hosts[0].kernel[0].installed.is_empty(), "nor is a part of them left");
    assert_eq!(world.announcements(0, 0), 0);
    world.run(secs(6));
    assert_eq!(world.owner(), Some(0), "tried again after 5 s");
}

#[test]
fn a_refused_restoration_hands_over() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.hosts[0].refusals = 1;
    world.remove_address(0, 0, VIP_V4);
    world.run(ms(200));
    assert!(matches!(world.cause(0), Cause::InstallRefused(_)));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn a_slow_kernel_delays_the_claim_and_no_advert() {
    let mut spec = host(0, vec![vip(200)]);
    spec.effect_time = (2_000_000_000, 2_000_000_000);
    let mut world = World::new(1, Network::quiet(), vec![spec, host(1, vec![vip(100)])]);
    world.start_all();
    world.run(secs(2));
    assert_eq!(world.state(0), StateName::Claiming);
    let sent = world.sent_by(0, 0);
    assert!(sent.windows(2).all(|pair| pair[1].at - pair[0].at == 100_000_000));
    assert!(sent.len() >= 16);
    assert_eq!(world.announcements(0, 0), 0, "nothing is announced that is not there");
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(world.announcements(0, 0), 1);
}
