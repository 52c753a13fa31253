//! Addresses that the kernel takes long for are there when the claim comes.

use std::net::IpAddr;
use std::time::Duration;

use vipd::engine::{EventKind, HookSettings, Moment, OnHookFailure, VipSettings};
use vipd::types::Priority;
use vipd::wire::advert::ChecksumForm;

use super::build::{VIP_V4, address, advert, forge, host, interval, ms, secs, vip};
use super::clock::{MILLISECOND, Nanos, nanos};
use super::network::Network;
use super::world::World;

/// Each 100 ms, of so many addresses, which their hosts' kernels need so long for.
fn world(priorities: &[u8], addresses: u16, takes: Nanos, change: impl Fn(&mut VipSettings)) -> World {
    let specs = (0..).zip(priorities).map(|(place, priority)| {
        let mut it = vip(*priority);
        let ips = (0..addresses).map(|number| IpAddr::from([10, 1, number.to_be_bytes()[0], number.to_be_bytes()[1]]));
        it.addresses = [VIP_V4].into_iter().chain(ips).take(addresses.into()).map(address).collect();
        change(&mut it);
        let mut spec = host(place, vec![it]);
        spec.effect_time = (takes, takes);
        spec
    });
    let mut world = World::new(1, Network::quiet(), specs.collect());
    world.start_all();
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0));
    world
}

/// Until so long before the second host's claim.
fn run_until_before_claim(world: &mut World, time: Duration) {
    let last = world.sent_by(0, 0).last().expect("it advertised").at;
    let claim_at = last + world.hosts[1].active_down(0, nanos(interval(100).duration()));
    let wait = claim_at - nanos(time) - world.now;
    world.run(Duration::from_nanos(wait));
}

fn installed(world: &World, host: usize) -> usize {
    world.hosts[host].kernel[0].installed.len()
}

/// The kernel needs longer for the addresses than there is between a claim and an answer, and is done before the skew time is over.
#[test]
fn the_addresses_are_there_when_the_turn_after_a_resignation_comes() {
    let mut specs = vec![host(0, vec![vip(200)]), host(1, vec![vip(150)]), host(2, vec![vip(100)])];
    for spec in &mut specs[1..] {
        spec.effect_time = (20 * MILLISECOND, 20 * MILLISECOND);
    }
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    world.run(secs(2));
    world.stop(0);
    world.watch.forget_silence();
    world.run(ms(25));
    let ahead = |world: &World| [1, 2].map(|host| !world.hosts[host].kernel[0].installed.is_empty());
    assert_eq!((ahead(&world), world.owner()), ([true; 2], None));
    world.run(ms(100));
    assert_eq!((ahead(&world), world.owner()), ([true, false], Some(1)));
    let skew = nanos(interval(100).duration()) * (256 - 150) / 256;
    let silence = world.watch.longest_silence(world.now);
    assert!(silence < skew + MILLISECOND, "{silence} ns");
}

#[test]
fn of_a_dead_owner_a_thousand_addresses_are_there_as_its_successor_claims() {
    let mut world = world(&[200, 150, 100], 1_000, 20 * MILLISECOND, |_| {});
    world.kill(0);
    run_until_before_claim(&mut world, ms(26));
    assert_eq!([1, 2].map(|host| installed(&world, host)), [0, 0], "not before it has to");
    world.run(ms(25));
    assert_eq!([1, 2].map(|host| installed(&world, host)), [1_000, 0], "and not where another claims first");
    assert_eq!(world.owner(), None, "they answer nobody");
    let since = world.now;
    world.run(ms(2));
    assert_eq!(world.owner(), Some(1));
    assert_eq!(world.announcements(1, since), 1);
    world.run(secs(1));
    assert_eq!((world.owner(), installed(&world, 2)), (Some(1), 0));
}

#[test]
fn few_addresses_wait_for_the_claim() {
    let mut world = world(&[200, 100], 39, MILLISECOND, |_| {});
    world.kill(0);
    run_until_before_claim(&mut world, Duration::from_micros(1));
    assert_eq!(installed(&world, 1), 0);
    world.run(ms(2));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn an_owner_that_is_heard_again_has_them_taken_off() {
    let mut world = world(&[200, 100], 1_000, 20 * MILLISECOND, |_| {});
    world.network.cut(0, 1);
    run_until_before_claim(&mut world, ms(2));
    assert_eq!(installed(&world, 1), 1_000);
    let since = world.now;
    let owner = IpAddr::V4(world.hosts[0].spec.ipv4.expect("it has one"));
    forge(&mut world, owner, &advert(&vip(200), 200), ChecksumForm::Rfc9568);
    world.network.heal();
    world.run(ms(100));
    assert_eq!((world.owner(), installed(&world, 1)), (Some(0), 0));
    assert!(!world.told(1, since).iter().any(|kind| matches!(kind, EventKind::Transition { .. })));
}

#[test]
fn those_of_an_owner_that_answers_or_where_a_hook_decides_are_not_installed_ahead() {
    let hook = HookSettings { moment: Moment::BeforeClaim, on_failure: OnHookFailure::Veto };
    for (answers, hooks) in [(true, vec![]), (false, vec![hook])] {
        let of_second = |it: &mut VipSettings| {
            if it.priority == Priority(100) {
                it.hooks.clone_from(&hooks);
            }
        };
        let mut world = world(&[200, 100], 1_000, 20 * MILLISECOND, of_second);
        world.hook_time = MILLISECOND;
        if answers {
            world.network.filter(0, 1);
        } else {
            world.kill(0);
        }
        run_until_before_claim(&mut world, Duration::from_micros(1));
        assert_eq!(installed(&world, 1), 0);
        world.run(secs(1));
        assert_eq!(world.owner(), Some(usize::from(!answers)));
    }
}

#[test]
fn one_that_another_program_removes_ahead_follows_the_claim_and_is_announced() {
    let mut world = world(&[200, 100], 1_000, 20 * MILLISECOND, |_| {});
    world.kill(0);
    run_until_before_claim(&mut world, ms(2));
    world.remove_address(1, 0, VIP_V4);
    assert_eq!(installed(&world, 1), 999);
    let since = world.now;
    world.run(ms(50));
    assert_eq!((world.owner(), installed(&world, 1)), (Some(1), 1_000));
    assert_eq!(world.announcements(1, since), 2, "the others at once, and all once it is there");
    assert!(!world.told(1, since).iter().any(|kind| matches!(kind, EventKind::AddressRestored { .. })));
}
