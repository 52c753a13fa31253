//! Addresses that the kernel takes long for are there when the claim comes.

use std::net::IpAddr;
use std::time::Duration;

use vipd::engine::{CheckOutcome, EventKind, HookSettings, Moment, OnHookFailure, Prefer, Reference};
use vipd::types::Priority;
use vipd::wire::advert::ChecksumForm;

use super::build::{VIP_V4, address, advert, forge, host, interval, ms, secs, vip};
use super::clock::{MILLISECOND, Nanos, nanos};
use super::fence::fence;
use super::health::{checked, give, lag};
use super::host::HostSpec;
use super::network::Network;
use super::second_path::HEARTBEAT;
use super::travel::REFERENCE;
use super::voters::quorum;
use super::world::World;

/// Each 100 ms, of so many addresses, which their hosts' kernels need so long for.
fn world(priorities: &[u8], addresses: u16, takes: Nanos, change: impl Fn(&mut HostSpec)) -> World {
    let specs = (0..).zip(priorities).map(|(place, priority)| {
        let mut it = vip(*priority);
        let ips = (0..addresses).map(|number| IpAddr::from([10, 1, number.to_be_bytes()[0], number.to_be_bytes()[1]]));
        it.addresses = [VIP_V4].into_iter().chain(ips).take(addresses.into()).map(address).collect();
        let mut spec = host(place, vec![it]);
        spec.effect_time = (takes, takes);
        change(&mut spec);
        spec
    });
    let mut world = World::new(1, Network::quiet(), specs.collect());
    world.start_all();
    world.run(secs(5));
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
fn an_answer_that_comes_late_has_them_taken_off() {
    let mut world = world(&[200, 100], 1_000, 2 * MILLISECOND, |_| {});
    world.network.filter(0, 1);
    // The question is asked 61 ms before the claim, and answered 44 ms later; the addresses are ordered 25 ms before it.
    world.network.delay = (22 * MILLISECOND, 22 * MILLISECOND);
    run_until_before_claim(&mut world, ms(20));
    assert_eq!(installed(&world, 1), 1_000);
    world.run(ms(15));
    assert_eq!((world.owner(), installed(&world, 1)), (Some(0), 0));
}

#[test]
fn one_that_stood_still_before_its_claim_takes_them_off_and_listens_once_more() {
    let mut world = world(&[200, 100], 1_000, 20 * MILLISECOND, |_| {});
    world.kill(0);
    run_until_before_claim(&mut world, ms(2));
    assert_eq!(installed(&world, 1), 1_000);
    world.freeze(1);
    world.run(ms(150));
    world.thaw(1);
    world.run(ms(30));
    assert_eq!((world.owner(), installed(&world, 1)), (None, 0));
    world.run(ms(200));
    assert_eq!((world.owner(), installed(&world, 1)), (Some(1), 1_000));
}

/// Nobody hears the first host; what it is that may speak against the second one's claim.
#[test]
fn where_something_may_speak_against_the_claim_they_wait_for_it() {
    let cut: fn(&mut World) = |world| world.network.cut(0, 1);
    let answers: fn(&mut World) = |world| world.network.filter(0, 1);
    let apart: fn(&mut World) = |world| [0, 2].into_iter().for_each(|other| world.part(1, other));
    let stale: fn(&mut World) = |world| {
        give(world, 1, CheckOutcome::Passed(Some(1_001)));
        world.run(secs(1));
        world.network.cut(0, 1);
    };
    let nothing: fn(&mut HostSpec) = |_| {};
    let hook: fn(&mut HostSpec) = |spec| {
        if spec.settings.vips[0].priority == Priority(150) {
            spec.settings.vips[0].hooks =
                vec![HookSettings { moment: Moment::BeforeClaim, on_failure: OnHookFailure::Veto }];
        }
    };
    let fenced: fn(&mut HostSpec) = |spec| spec.settings.fence = fence(true, secs(1), &[0]);
    let safe: fn(&mut HostSpec) = |spec| {
        let vip = &mut spec.settings.vips[0];
        (vip.prefer, vip.references) = (Prefer::Safe, vec![Reference::Address(REFERENCE)]);
    };
    let lagging: fn(&mut HostSpec) = |spec| {
        let vip = &mut spec.settings.vips[0];
        if vip.priority == Priority(150) {
            // That of stale data.
            (vip.priority, vip.checks) = (Priority(1), checked(1, lag(false)).checks);
        }
    };
    let second_path: fn(&mut HostSpec) = |spec| spec.settings.heartbeat = Some(HEARTBEAT);
    let voters: fn(&mut HostSpec) = |spec| {
        let place = usize::from(spec.ipv4.expect("it has one").octets()[3]) - 1;
        spec.settings.quorum = Some(quorum(place, 3, false, secs(3)));
    };
    let all = [
        ("nothing", nothing, cut, 1_000),
        ("an answer", nothing, answers, 0),
        ("a hook", hook, cut, 0),
        ("a fencing", fenced, cut, 0),
        ("references", safe, cut, 0),
        ("stale data", lagging, stale, 0),
        ("a peer on the second path", second_path, cut, 0),
        ("no majority", voters, apart, 0),
    ];
    for (what, change, befalls, expected) in all {
        let mut world = world(&[200, 150, 100], 1_000, 2 * MILLISECOND, change);
        befalls(&mut world);
        run_until_before_claim(&mut world, Duration::from_micros(1));
        assert_eq!(installed(&world, 1), expected, "{what}");
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
