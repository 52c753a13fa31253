//! Other settings for agents at work: what changed changes, in place where it can; what did not is as if nothing had happened.

use std::net::IpAddr;

use vipd::engine::lease::STRETCH;
use vipd::engine::{Cause, EventKind, Preempt, Settings, StateName, VipId, VipSettings};
use vipd::types::{Family, MacMode, Priority, Vrid};

use super::build::{VIP_V4, address, addresses_v6, host, interval, ms, secs, vip};
use super::clock::{MILLISECOND, Nanos, nanos};
use super::network::{Network, Port};
use super::world::World;

const MORE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 150));

/// Two hosts with these vips, and others of lower priority; the first owns all.
fn world(vips: &[VipSettings]) -> World {
    let of = |place: u8| {
        let lower = |vip: &VipSettings| VipSettings { priority: Priority(vip.priority.0 - place * 50), ..vip.clone() };
        host(place, vips.iter().map(lower).collect())
    };
    let mut world = World::new(1, Network::quiet(), vec![of(0), of(1)]);
    world.start_all();
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0));
    world
}

fn named(name: &str, vrid: u8) -> VipSettings {
    let ip = IpAddr::from([10, 0, 0, 100 + vrid]);
    VipSettings { name: name.into(), vrid: Vrid::new(vrid).expect("not 0"), addresses: vec![address(ip)], ..vip(200) }
}

/// Changes what a host is configured to do.
fn reload(world: &mut World, host: Port, change: impl FnOnce(&mut Settings)) {
    let mut settings = world.hosts[host].spec.settings.clone();
    change(&mut settings);
    world.reload(host, settings);
}

fn transitions(world: &World, host: Port, since: Nanos) -> usize {
    world.told(host, since).iter().filter(|kind| matches!(kind, EventKind::Transition { .. })).count()
}

fn gaps(world: &World, host: Port, vip: usize, since: Nanos) -> Vec<Nanos> {
    let sent: Vec<_> = world.sent_by(host, since).iter().filter(|sent| sent.vip == vip).map(|sent| sent.at).collect();
    sent.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// For how long a host's kernel would hold the addresses yet.
fn lease_left(world: &World, host: Port) -> Nanos {
    let it = &world.hosts[host];
    let until = it.kernel[0].lease_until.expect("it owns");
    until.as_nanos().saturating_sub(it.local(world.now).as_nanos())
}

#[test]
fn settings_as_they_are_change_nothing() {
    let mut world = world(&[named("a", 1), named("b", 2)]);
    world.watch.settled = Some(vec![0, 0]);
    let (before, sent) = (world.now, world.sent.len());
    for _ in 0..50 {
        reload(&mut world, 0, |_| {});
        reload(&mut world, 1, |_| {});
        assert_eq!(world.sent.len(), sent, "an advert out of turn");
    }
    world.run(secs(2));
    assert_eq!(transitions(&world, 0, before) + transitions(&world, 1, before), 0);
    assert_eq!(world.announcements(0, before), 0);
    assert!(gaps(&world, 0, 0, before).iter().all(|gap| gap.abs_diff(100 * MILLISECOND) < MILLISECOND));
}

#[test]
fn a_vip_that_is_the_same_is_not_touched_by_what_becomes_of_others() {
    let mut world = world(&[named("a", 1), named("b", 2), named("c", 3)]);
    let before = world.now;
    let (id, sent) = {
        let vip = &world.hosts[0].engine.as_ref().expect("it runs").vips()[2];
        (vip.id(), vip.routers()[0].sent())
    };
    reload(&mut world, 0, |settings| {
        settings.vips.remove(1);
        settings.vips[0].interval = interval(500);
        settings.vips.insert(0, named("d", 4));
    });
    world.run(secs(2));
    let engine = world.hosts[0].engine.as_ref().expect("it runs");
    let names: Vec<_> = engine.vips().iter().map(|vip| vip.settings().name.as_str()).collect();
    assert_eq!(names, ["d", "a", "c"], "the order is the settings'");
    assert_eq!(engine.vips()[2].id(), id);
    assert!(engine.vips()[2].routers()[0].sent() > sent, "its statistics go on");
    assert!(gaps(&world, 0, 2, before).iter().all(|gap| gap.abs_diff(100 * MILLISECOND) < MILLISECOND));
    assert!(!world.events.iter().any(|(at, _, event)| *at > before && event.vip == Some(id)));
}

#[test]
fn a_removed_vip_is_handed_over_within_the_successors_skew() {
    let mut world = world(&[named("a", 1), named("b", 2)]);
    reload(&mut world, 0, |settings| drop(settings.vips.remove(1)));
    assert!(world.hosts[0].kernel[1].lease_until.is_none(), "its lease is over at once");
    world.run(ms(45));
    assert_eq!((world.owner_of(0), world.owner_of(1)), (Some(0), Some(1)));
    assert!(world.hosts[0].kernel[1].installed.is_empty());
    assert!(world.hosts[0].engine.as_ref().is_some_and(|engine| engine.vip(VipId(1)).is_none()));
    let removed = |kind: &&EventKind| matches!(kind, EventKind::Transition { cause: Cause::Removed, .. });
    assert_eq!(world.told(0, 0).into_iter().filter(removed).count(), 1);
    world.run(secs(5));
    assert_eq!(world.owner_of(1), Some(1));
}

#[test]
fn an_added_vip_starts_as_at_boot_and_gets_an_id_of_its_own() {
    let mut world = world(&[named("a", 1), named("b", 2)]);
    reload(&mut world, 0, |settings| drop(settings.vips.remove(1)));
    world.run(secs(1));
    reload(&mut world, 0, |settings| settings.vips.push(named("b", 2)));
    let engine = world.hosts[0].engine.as_ref().expect("it runs");
    assert_eq!(engine.vips()[1].id(), VipId(2), "no id is given twice");
    assert_eq!(engine.vips()[1].state(), StateName::Backup);
    world.watch.forgiving = true;
    world.run(secs(1));
    let engine = world.hosts[0].engine.as_ref().expect("it runs");
    assert_eq!(engine.vips()[1].state(), StateName::Active, "it preempts after it has listened");
}

#[test]
fn another_virtual_router_of_the_same_name_is_a_removal_and_an_addition() {
    let changes: [fn(&mut VipSettings); 3] = [
        |vip| vip.vrid = Vrid::new(99).expect("not 0"),
        |vip| vip.mac = MacMode::Virtual,
        |vip| vip.interface = "eth9".into(),
    ];
    for change in changes {
        let mut world = world(&[named("a", 1)]);
        reload(&mut world, 0, |settings| change(&mut settings.vips[0]));
        let engine = world.hosts[0].engine.as_ref().expect("it runs");
        assert_eq!(engine.vips()[0].id(), VipId(1));
        assert_eq!(world.state(0), StateName::Initialize);
        world.run(ms(60));
        assert_eq!(world.owner(), Some(1), "resigned, so that the peer need not wait");
    }
}

#[test]
fn an_owner_of_lower_priority_from_now_on_stays_until_a_better_one_speaks() {
    let mut world = world(&[vip(200)]);
    let before = world.now;
    reload(&mut world, 1, |settings| settings.vips[0].preempt = Preempt::Off);
    reload(&mut world, 0, |settings| settings.vips[0].priority = Priority(50));
    world.run(secs(60));
    assert_eq!((world.owner(), transitions(&world, 0, before)), (Some(0), 0));
    assert!(world.sent_by(0, before + 200 * MILLISECOND).iter().all(|sent| sent.priority == Priority(50)));
    reload(&mut world, 1, |settings| settings.vips[0].preempt = Preempt::On);
    world.run(ms(500));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn a_backup_of_higher_priority_from_now_on_preempts_and_one_that_was_about_to_and_is_lower_does_not() {
    let mut world = world(&[vip(200)]);
    reload(&mut world, 1, |settings| settings.vips[0].priority = Priority(250));
    // It has heard one advert of the now lower owner, and outlasts it.
    world.run(ms(150));
    reload(&mut world, 1, |settings| settings.vips[0].priority = Priority(150));
    let before = world.now;
    world.run(secs(5));
    assert_eq!((world.owner(), transitions(&world, 1, before)), (Some(0), 0));
    reload(&mut world, 1, |settings| settings.vips[0].priority = Priority(250));
    world.run(ms(450));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn a_longer_interval_is_promised_at_once_and_lengthens_the_lease_once_no_backup_waits_by_the_shorter() {
    let mut world = world(&[vip(200)]);
    let (before, sent) = (world.now, world.sent_by(0, 0).len());
    reload(&mut world, 0, |settings| settings.vips[0].interval = interval(1_000));
    assert_eq!(world.sent_by(0, 0).len(), sent + 1, "at once");
    world.run(ms(1));
    let engine = world.hosts[1].engine.as_ref().expect("it runs");
    assert_eq!(engine.vips()[0].interval(), interval(1_000), "the backup has learned it");
    let stretch = nanos(ms(100)) * Nanos::from(STRETCH);
    while world.now < before + stretch - MILLISECOND {
        assert!(lease_left(&world, 0) <= nanos(ms(300)), "{} ms after", (world.now - before) / MILLISECOND);
        assert!(lease_left(&world, 0) > nanos(ms(195)), "{} ms after", (world.now - before) / MILLISECOND);
        world.run(ms(1));
    }
    world.run(ms(3));
    assert!(lease_left(&world, 0) > nanos(ms(2_990)), "and not longer than needed");
    let (settled, sent) = (world.now, world.sent_by(0, 0).len());
    world.run(secs(10));
    assert_eq!(world.sent_by(0, 0).len(), sent + 10);
    assert_eq!(transitions(&world, 0, before) + transitions(&world, 1, before), 0);
    assert!(gaps(&world, 0, 0, settled).iter().all(|gap| gap.abs_diff(nanos(secs(1))) < MILLISECOND));
}

#[test]
fn a_backup_that_misses_a_longer_interval_meets_no_longer_lease_than_by_the_shorter() {
    // From the very advert on everything is lost, and the owner freezes at any moment until the backup has claimed. The adverts that
    // were lost cost what they always cost.
    for frozen_after in (0..600).step_by(20) {
        for priority in [1, 150] {
            let mut world = world(&[vip(200)]);
            reload(&mut world, 1, |settings| settings.vips[0].priority = Priority(priority));
            world.run(secs(1));
            world.watch.forgiving = true;
            world.part(0, 1);
            reload(&mut world, 0, |settings| settings.vips[0].interval = interval(1_000));
            world.run(ms(frozen_after));
            let claimed = world.hosts[1].agent[0].claimed.is_some();
            world.freeze(0);
            let overlapped = world.watch.overlapped;
            world.run(secs(5));
            assert_eq!(world.owner(), Some(1));
            if !claimed {
                let overlapped = world.watch.overlapped - overlapped;
                assert!(overlapped < nanos(ms(300)), "frozen after {frozen_after} ms: {overlapped} ns");
            }
        }
    }
}

#[test]
fn a_shorter_interval_applies_at_once() {
    let mut world = world(&[vip(200)]);
    let before = world.now;
    reload(&mut world, 0, |settings| settings.vips[0].interval = interval(20));
    assert!(lease_left(&world, 0) <= nanos(ms(60)));
    assert!(lease_left(&world, 0) > nanos(ms(59)));
    world.run(ms(101));
    assert_eq!(world.sent_by(0, before).len(), 6);
    world.kill(0);
    world.run(ms(72));
    assert_eq!(world.owner(), Some(1), "within three of the new intervals and skew");
}

#[test]
fn an_interval_that_changes_again_and_again_never_lengthens_the_lease_early() {
    let mut world = world(&[vip(200)]);
    let before = world.now;
    for (milliseconds, pace) in [(1_000, 100), (500, 100), (50, 50), (2_000, 50), (1_000, 50)] {
        reload(&mut world, 0, |settings| settings.vips[0].interval = interval(milliseconds));
        for _ in 0..150 {
            assert!(lease_left(&world, 0) <= nanos(ms(3 * pace)), "{milliseconds}");
            world.run(ms(1));
        }
    }
    world.run(secs(5));
    assert!(lease_left(&world, 0) > nanos(ms(1_990)));
    assert_eq!(transitions(&world, 0, before) + transitions(&world, 1, before), 0);
}

#[test]
fn an_added_address_is_installed_and_announced_and_a_removed_one_goes_while_the_owner_stays() {
    let mut world = world(&[vip(200)]);
    world.watch.settled = Some(vec![0]);
    let before = world.now;
    reload(&mut world, 0, |settings| settings.vips[0].addresses.push(address(MORE)));
    world.run(ms(1));
    assert!(world.hosts[0].kernel[0].installed.contains(&MORE));
    assert_eq!(world.announcements(0, before), 1);
    assert_eq!(world.neighbours.believes(0, MORE), Some(0));
    reload(&mut world, 0, |settings| drop(settings.vips[0].addresses.remove(0)));
    world.run(ms(1));
    assert_eq!(world.hosts[0].kernel[0].installed.iter().collect::<Vec<_>>(), [&MORE]);
    world.run(secs(2));
    assert_eq!(transitions(&world, 0, before) + transitions(&world, 1, before), 0);
    assert!(gaps(&world, 0, 0, before).iter().all(|gap| *gap < 101 * MILLISECOND));
}

#[test]
fn an_address_that_passes_from_one_vip_to_another_is_there_in_the_end() {
    let mut world = world(&[named("a", 1), named("b", 2)]);
    reload(&mut world, 0, |settings| {
        settings.vips[0].addresses.push(address(MORE));
    });
    world.run(secs(1));
    let before = world.now;
    reload(&mut world, 0, |settings| {
        let passed = settings.vips[0].addresses.pop().expect("two");
        settings.vips[1].addresses.push(passed);
    });
    world.run(ms(5));
    assert!(!world.hosts[0].kernel[0].installed.contains(&MORE));
    assert!(world.hosts[0].kernel[1].installed.contains(&MORE));
    assert_eq!(transitions(&world, 0, before), 0);
}

#[test]
fn addresses_that_change_while_the_kernel_is_asked_are_there_when_the_owner_is_active() {
    let mut world = super::build::world([vip(200)]);
    while world.state(0) != StateName::Claiming {
        world.run(ms(1) / 100);
    }
    reload(&mut world, 0, |settings| settings.vips[0].addresses = vec![address(MORE)]);
    world.run(ms(5));
    assert_eq!(world.state(0), StateName::Active);
    assert_eq!(world.hosts[0].kernel[0].installed.iter().collect::<Vec<_>>(), [&MORE]);
}

#[test]
fn a_family_comes_and_goes_under_an_owner() {
    let mut world = world(&[vip(200)]);
    let before = world.now;
    for host in [0, 1] {
        reload(&mut world, host, |settings| settings.vips[0].addresses.extend(addresses_v6(0)));
    }
    world.run(secs(1));
    let of_family =
        |world: &World, family| world.sent_by(0, world.now - nanos(ms(450))).iter().any(|sent| sent.family == family);
    assert_eq!((of_family(&world, Family::V4), of_family(&world, Family::V6)), (true, true));
    for host in [0, 1] {
        reload(&mut world, host, |settings| settings.vips[0].addresses.retain(|address| address.ip.is_ipv6()));
    }
    world.run(secs(1));
    assert_eq!((of_family(&world, Family::V4), of_family(&world, Family::V6)), (false, true));
    assert!(!world.hosts[0].kernel[0].installed.contains(&VIP_V4));
    assert_eq!(transitions(&world, 0, before) + transitions(&world, 1, before), 0);
}

#[test]
fn a_family_without_an_address_to_send_from_ends_the_part_and_its_going_begins_it_anew() {
    let mut world = world(&[vip(200)]);
    world.hosts[0].spec.ipv6 = None;
    world.hosts[0].spec.ipv4 = Some([10, 0, 0, 1].into());
    world.set_wire(0, super::host::Wire::Up);
    world.run(ms(10));
    assert_eq!(world.owner(), Some(0));
    reload(&mut world, 0, |settings| settings.vips[0].addresses.extend(addresses_v6(0)));
    assert_eq!(world.cause(0), Cause::NoSourceAddress(Family::V6));
    world.run(secs(1));
    assert_eq!(world.owner(), Some(1));
    reload(&mut world, 0, |settings| settings.vips[0].addresses.truncate(1));
    assert_eq!(world.state(0), StateName::Backup);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn an_owner_that_was_frozen_beyond_its_lease_is_deposed_before_it_hears_of_new_settings() {
    let mut world = world(&[vip(200)]);
    world.freeze(0);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(1));
    let before = world.now;
    reload(&mut world, 0, |settings| settings.vips[0].addresses.push(address(MORE)));
    world.thaw(0);
    assert_eq!(world.state(0), StateName::Backup);
    assert!(world.sent_by(0, before).is_empty());
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0), "it preempts");
    assert!(world.hosts[0].kernel[0].installed.contains(&MORE));
}

#[test]
fn an_agent_that_stops_takes_no_settings() {
    let mut world = world(&[vip(200)]);
    world.stop(0);
    let before = world.now;
    reload(&mut world, 0, |settings| settings.vips[0].priority = Priority(250));
    world.run(secs(2));
    assert!(world.sent_by(0, before + 1).is_empty());
}

#[test]
fn random_reloads_of_both_hosts_never_end_in_two_owners() {
    for seed in 0..200 {
        let mut world = world(&[vip(200)]);
        world.rng = super::rng::Rng::new(seed);
        for _ in 0..20 {
            let host = world.rng.index(2);
            let pause = world.rng.within(0, 400);
            let (priority, centiseconds) = (world.rng.within(1, 254), world.rng.pick(&[10_u16, 20, 100, 500]));
            let (all, kind) = (world.rng.permille(500), world.rng.within(0, 3));
            reload(&mut world, host, |settings| {
                let vip = &mut settings.vips[0];
                match kind {
                    0 => vip.priority = Priority(u8::try_from(priority).expect("a byte")),
                    1 => vip.interval = interval(centiseconds),
                    2 => vip.preempt = if all { Preempt::On } else { Preempt::Off },
                    _ if all => vip.addresses = vec![address(VIP_V4), address(MORE)],
                    _ => vip.addresses = vec![address(VIP_V4)],
                }
            });
            // The judge knows no interval but the present ones: what is not settled yet is not its business.
            world.watch.forgiving = true;
            world.run(ms(pause));
        }
        world.run(secs(5));
        let owner = world.owner().unwrap_or_else(|| panic!("seed {seed}: not one owner"));
        world.watch.settled = Some(vec![owner]);
        world.run(secs(5));
    }
}
