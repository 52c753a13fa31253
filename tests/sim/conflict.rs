//! Evidence of a second owner that is no advert of a peer: claims to an address, clones, foreign groups.

use std::net::IpAddr;
use std::time::Duration;

use vipd::engine::{Cause, ClaimKind, EventKind, Input, OVERTAKING, OnConflict, StateName, VipSettings};
use vipd::types::{Family, MacAddr};
use vipd::wire::advert::ChecksumForm;

use super::build::{STRANGER, VIP_V4, address, advert, forge, host, ms, secs, vip, world};
use super::clock::nanos;
use super::network::{NEIGHBOURS, Network};
use super::world::{Entry, World, vip_id};

const MAC: MacAddr = MacAddr(0x52, 0x54, 0, 0, 0, 9);

/// A stranger says that it has the address: the neighbours believe it, and a host hears it.
fn claim(world: &mut World, host: usize, mac: MacAddr) {
    let (now, from, addresses) = (world.now, NEIGHBOURS, vec![VIP_V4]);
    world.push(now, Entry::Announcement { vip: 0, from, addresses });
    world.run(Duration::from_nanos(1));
    world.input(host, Input::AddressClaimed { vip: vip_id(0), address: VIP_V4, mac, kind: ClaimKind::Announcement });
}

fn conflicts(world: &World, host: usize, since: u64) -> Vec<&EventKind> {
    let told = world.told(host, since).into_iter();
    told.filter(|kind| matches!(kind, EventKind::Conflict { .. } | EventKind::ConflictPersists { .. })).collect()
}

fn transitions(world: &World, host: usize, since: u64) -> usize {
    world.told(host, since).iter().filter(|kind| matches!(kind, EventKind::Transition { .. })).count()
}

#[test]
fn an_owner_whose_address_is_claimed_announces_and_stays_the_owner() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(10));
    let since = world.now;
    claim(&mut world, 0, MAC);
    assert_eq!(world.announcements(0, since), 0, "it may be a peer's that takes over");
    let overtaking = world.now + nanos(OVERTAKING);
    world.run(OVERTAKING);
    assert!(world.sent_by(0, since).iter().any(|sent| sent.at == overtaking), "an advert out of turn");
    world.run(ms(1));
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0));
    assert_eq!(world.announcements(0, since), 1);
    let told =
        EventKind::Conflict { address: VIP_V4, mac: MAC, kind: ClaimKind::Announcement, count: 1, former_owner: false };
    assert_eq!(conflicts(&world, 0, since), [&told]);
    world.run(secs(31));
    assert_eq!(world.announcements(0, since), 4, "and again after 1, 5 and 30 s");
    assert_eq!(transitions(&world, 0, since) + transitions(&world, 1, since), 0);
}

#[test]
fn a_claim_right_after_an_announcement_is_countered_within_a_second() {
    let mut world = world([vip(200)]);
    world.run(secs(10));
    claim(&mut world, 0, MAC);
    world.run(ms(10));
    claim(&mut world, 0, MAC);
    world.run(ms(10));
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(NEIGHBOURS), "or a flood would be answered by another");
    world.run(ms(981));
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0));
}

#[test]
fn each_of_several_addresses_that_are_claimed_in_a_row_is_answered() {
    let second = IpAddr::from([10, 0, 0, 101]);
    let mut world = world([VipSettings { addresses: vec![address(VIP_V4), address(second)], ..vip(200) }]);
    world.run(secs(10));
    let since = world.now;
    claim(&mut world, 0, MAC);
    world.run(ms(1));
    let (now, from) = (world.now, NEIGHBOURS);
    world.push(now, Entry::Announcement { vip: 0, from, addresses: vec![second] });
    world.run(Duration::from_nanos(1));
    let kind = ClaimKind::Announcement;
    world.input(0, Input::AddressClaimed { vip: vip_id(0), address: second, mac: MAC, kind });
    world.run(OVERTAKING + ms(1));
    assert_eq!([VIP_V4, second].map(|address| world.neighbours.believes(0, address)), [Some(0); 2]);
    assert_eq!(world.announcements(0, since), 2);
}

#[test]
fn a_flood_of_claims_is_announced_against_twice_a_second_at_most_and_told_twice() {
    let mut world = world([vip(200)]);
    world.run(secs(10));
    let since = world.now;
    for _ in 0..60_000 {
        claim(&mut world, 0, MAC);
        world.run(ms(1));
    }
    let announced = world.announcements(0, since);
    assert!((59..=122).contains(&announced), "{announced} in a minute");
    let adverts = world.sent_by(0, since).len();
    assert!(adverts <= 722, "{adverts} in a minute, of which 600 are in turn");
    let told = conflicts(&world, 0, since);
    assert!(
        matches!(told[..], [EventKind::Conflict { .. }, EventKind::ConflictPersists { lasts, .. }] if lasts.as_secs() == 10),
        "{told:?}"
    );
    assert_eq!(transitions(&world, 0, since), 0, "it does not give up");
}

#[test]
fn one_that_is_told_to_gives_up_to_a_claim_that_persists_and_not_to_a_single_one() {
    let demote = VipSettings { on_conflict: OnConflict::Demote, ..vip(200) };
    let mut world = world([demote, vip(100)]);
    world.run(secs(10));
    let since = world.now;
    for second in 0..10 {
        assert_eq!(world.state(0), StateName::Active, "after {second} s");
        claim(&mut world, 0, MAC);
        world.run(secs(1));
    }
    claim(&mut world, 0, MAC);
    assert_eq!(world.state(0), StateName::Held);
    assert_eq!(world.cause(0), Cause::AddressInUse { address: VIP_V4, mac: MAC });
    world.run(secs(1));
    assert_eq!(world.owner(), Some(1));
    world.run(secs(31));
    assert_eq!(world.owner(), Some(0), "it tries again");
    // A new ownership is not ended by what the last one knew.
    let again = world.now;
    claim(&mut world, 0, MAC);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(conflicts(&world, 0, again).len(), 1);
    assert!(transitions(&world, 0, since) > 2);
}

#[test]
fn a_backup_that_hears_the_owner_announce_itself_learns_who_it_is_and_tells_nothing() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(10));
    let since = world.now;
    world.input(1, Input::AddressClaimed { vip: vip_id(0), address: VIP_V4, mac: MAC, kind: ClaimKind::Announcement });
    assert!(world.told(1, since).is_empty());
    let engine = world.hosts[1].engine.as_ref().expect("it runs");
    assert_eq!(engine.vips()[0].owner_mac(), Some(MAC));
    // It takes over, and the former owner's host still answers: that is said.
    world.crash(0);
    world.run(secs(5));
    assert_eq!(world.state(1), StateName::Active);
    claim(&mut world, 1, MAC);
    world.run(ms(99));
    assert!(
        conflicts(&world, 1, since).is_empty(),
        "were it a peer that takes over, its advert would still be on the way"
    );
    world.run(ms(2));
    let told = conflicts(&world, 1, since);
    assert!(matches!(told[..], [EventKind::Conflict { former_owner: true, .. }]), "{told:?}");
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(1));
}

/// FRR's, which have a MAC address of their group, may come long before; those of keepalived before 2.2 are sent right before.
#[test]
fn a_peers_announcements_that_overtake_its_advert_are_not_contradicted() {
    for (mac, wait) in [(vip(100).vrid.virtual_mac(Family::V4), 80), (MAC, 15)] {
        let mut world = world([vip(100)]);
        world.run(secs(10));
        let since = world.now;
        for _ in 0..5 {
            claim(&mut world, 0, mac);
        }
        world.run(ms(wait));
        forge(&mut world, STRANGER, &advert(&vip(200), 200), ChecksumForm::Rfc9568);
        world.run(ms(200));
        assert_eq!(world.state(0), StateName::Backup);
        assert_eq!((world.announcements(0, since), conflicts(&world, 0, since).len()), (0, 0), "{mac}");
    }
}

#[test]
fn one_that_is_known_to_be_none_of_the_group_is_contradicted_at_once() {
    let mut world = world([vip(200)]);
    world.run(secs(10));
    claim(&mut world, 0, MAC);
    world.run(secs(5));
    claim(&mut world, 0, MAC);
    world.run(ms(1));
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0));
}

#[test]
fn the_former_owners_last_words_are_no_conflict_but_have_not_the_last_word() {
    let mut world = world([vip(200)]);
    world.run(ms(361));
    assert_eq!(world.state(0), StateName::Active);
    world.run(ms(20));
    let since = world.now;
    claim(&mut world, 0, MAC);
    world.run(ms(1));
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0), "at once");
    world.run(secs(2));
    assert!(conflicts(&world, 0, since).is_empty());
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0));
}

#[test]
fn the_link_local_address_of_a_peers_idle_macvlan_is_no_conflict() {
    let vrid = vip(200).vrid;
    let derived = IpAddr::V6(vrid.derived_link_local());
    let mut world = world([VipSettings { addresses: vec![address(derived)], ..vip(200) }]);
    world.run(secs(10));
    let since = world.now;
    for (mac, expected) in [(vrid.virtual_mac(Family::V6), 0), (MAC, 1)] {
        let kind = ClaimKind::Announcement;
        world.input(0, Input::AddressClaimed { vip: vip_id(0), address: derived, mac, kind });
        world.run(OVERTAKING + ms(1));
        assert_eq!((conflicts(&world, 0, since).len(), world.announcements(0, since)), (expected, expected));
    }
}

#[test]
fn a_clone_of_this_host_is_named_and_moves_nobody() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(10));
    let since = world.now;
    let source = IpAddr::from([10, 0, 0, 2]);
    for _ in 0..100 {
        forge(&mut world, source, &advert(&vip(100), 100), ChecksumForm::Rfc9568);
        world.run(ms(100));
    }
    let named = |kind: &&EventKind| matches!(kind, EventKind::ClonedHost { source: of, .. } if *of == source);
    assert_eq!(world.told(1, since).into_iter().filter(named).count(), 1, "once a minute");
    assert_eq!(world.owner(), Some(0));
    assert_eq!(transitions(&world, 0, since) + transitions(&world, 1, since), 0);
}

#[test]
fn an_owners_own_advert_that_comes_back_is_no_clone() {
    let mut world = world([vip(200)]);
    world.run(secs(10));
    let since = world.now;
    forge(&mut world, [10, 0, 0, 1].into(), &advert(&vip(200), 200), ChecksumForm::Rfc9568);
    world.run(ms(1));
    assert!(!world.told(0, since).iter().any(|kind| matches!(kind, EventKind::ClonedHost { .. })));
}

#[test]
fn a_foreign_group_on_the_same_vrid_is_named_counted_and_not_fought() {
    let mut world = world([vip(100)]);
    world.run(secs(10));
    let since = world.now;
    let theirs = IpAddr::from([10, 0, 0, 77]);
    let foreign = VipSettings { addresses: vec![address(theirs)], ..vip(254) };
    for priority in [254, 254, 0, 1] {
        forge(&mut world, STRANGER, &advert(&foreign, priority), ChecksumForm::Rfc9568);
        world.run(ms(50));
    }
    assert_eq!(world.owner(), Some(0));
    assert_eq!(world.told(0, since), [&EventKind::ForeignGroup { source: STRANGER, theirs: vec![theirs] }]);
    assert_eq!(world.announcements(0, since), 0);
    assert!(world.sent_by(0, since).len() <= 3, "it advertises in turn, and answers nothing");
    let engine = world.hosts[0].engine.as_ref().expect("it runs");
    let drops = engine.vips()[0].routers()[0].drops();
    assert!(drops.by_reason().any(|drop| drop == ("foreign-group", 4)));
}

#[test]
fn two_groups_on_one_vrid_each_keep_their_own_addresses() {
    let other = |priority| VipSettings { addresses: vec![address([10, 0, 0, 77].into())], ..vip(priority) };
    let vips = [vip(200), vip(100), other(150), other(50)];
    let specs = (0..).zip(vips).map(|(place, vip)| host(place, vec![vip])).collect();
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    // The judge takes all vips of one place for one; here they are two, and what it says of two owners is right.
    world.run_unchecked(800_000_000);
    let states = [0, 1, 2, 3].map(|host| world.state(host));
    assert_eq!(states, [StateName::Active, StateName::Backup, StateName::Active, StateName::Backup]);
}
