//! Adverts that do not come from a peer of good will: rogues, strangers, other groups, noise.

use vipd::engine::{Cause, EventKind, StateName, VipSettings};
use vipd::types::{Family, Password, Version, Vrid};
use vipd::wire::DropReason;
use vipd::wire::advert::{Advert, ChecksumForm, Endpoints, group};

use super::build::{STRANGER, VIP_V4, address, advert, forge, interval, ms, secs, vip, world};
use super::network::{NEIGHBOURS, Packet};
use super::world::{LINK, World};

/// How often a host dropped a packet for a reason, on its virtual router or its interface.
pub fn drops(world: &World, host: usize, label: &str) -> u64 {
    let engine = world.hosts[host].engine.as_ref().expect("it runs");
    let on_router = engine.vips()[0].routers().iter().map(|router| router.drops());
    let all = on_router.chain(engine.links().iter().map(|link| &link.drops));
    all.flat_map(|drops| drops.by_reason()).filter(|(name, _)| *name == label).map(|(_, count)| count).sum()
}

#[test]
fn a_rogue_255_is_yielded_to_once_and_outlived() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    forge(&mut world, STRANGER, &advert(&vip(255), 255), ChecksumForm::Rfc9568);
    world.run(ms(1));
    assert_eq!(
        [world.state(0), world.state(1)],
        [StateName::Backup; 2],
        "the protocol has no defence without a secret"
    );
    world.run(ms(325));
    assert_eq!(world.owner(), Some(0), "and the better host takes it back");
    assert_eq!(world.neighbours.believes(0, VIP_V4), Some(0));
}

#[test]
fn a_rogue_255_does_not_move_the_address_owner() {
    let mut world = world([vip(255), vip(100)]);
    world.run(secs(2));
    let since = world.now;
    for _ in 0..20 {
        forge(&mut world, STRANGER, &advert(&vip(255), 255), ChecksumForm::Rfc9568);
        world.run(ms(50));
    }
    assert_eq!(world.owner(), Some(0));
    assert_eq!(world.announcements(0, since), 0);
    assert_eq!(drops(&world, 0, "address-owner"), 20);
}

#[test]
fn a_strangers_resignation_moves_nobody() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    let since = world.now;
    for _ in 0..100 {
        forge(&mut world, STRANGER, &advert(&vip(200), 0), ChecksumForm::Rfc9568);
        world.run(ms(7));
    }
    assert_eq!(world.owner(), Some(0));
    assert!(world.sent_by(1, since).is_empty());
}

#[test]
fn an_advert_of_another_vrid_is_counted_and_told_once_a_minute() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    let since = world.now;
    let foreign = VipSettings { vrid: Vrid::new(99).expect("not 0"), ..vip(255) };
    for _ in 0..119 {
        forge(&mut world, STRANGER, &advert(&foreign, 255), ChecksumForm::Rfc9568);
        world.run(secs(1));
    }
    assert_eq!(world.owner(), Some(0));
    assert_eq!([drops(&world, 0, "unknown-vrid"), drops(&world, 1, "unknown-vrid")], [119; 2]);
    let vrid = foreign.vrid;
    let told = EventKind::Dropped {
        link: LINK,
        family: Family::V4,
        source: STRANGER,
        reason: DropReason::UnknownVrid { vrid },
    };
    assert_eq!(world.told(0, since), [&told, &told]);
}

#[test]
fn one_group_with_another_address_list_is_elected_with_and_reported() {
    let addresses = vec![address(VIP_V4), address([10, 0, 0, 111].into())];
    let mut world = world([vip(200), VipSettings { addresses, ..vip(100) }]);
    world.run(secs(5));
    assert_eq!(world.state(0), StateName::Active);
    assert_eq!(world.state(1), StateName::Backup);
    let reported = world.told(1, 0).iter().filter(|kind| matches!(kind, EventKind::AddressesDiffer { .. })).count();
    assert_eq!(reported, 1);
}

#[test]
fn an_advert_that_was_routed_is_dropped() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    let endpoints = Endpoints { source: STRANGER, destination: group(Family::V4) };
    let mut bytes = Vec::new();
    advert(&vip(255), 255).emit(endpoints, ChecksumForm::Rfc9568, &mut bytes);
    let Endpoints { source, destination } = endpoints;
    world.send(NEIGHBOURS, Packet { link: LINK, source, destination, hop_limit: 254, bytes });
    world.run(ms(50));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(drops(&world, 0, "wrong-hop-limit"), 1);
}

#[test]
fn a_malformed_flood_moves_nobody_and_is_counted() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    let events = world.events.len();
    let destination = group(Family::V4);
    for n in 0..10_000_usize {
        let mut bytes = vec![0xff; n % 60];
        bytes.iter_mut().for_each(|byte| *byte = world.rng.next().to_le_bytes()[0]);
        world.send(NEIGHBOURS, Packet { link: LINK, source: STRANGER, destination, hop_limit: 255, bytes });
        world.run(std::time::Duration::from_micros(200));
    }
    assert_eq!(world.owner(), Some(0));
    let engine = world.hosts[0].engine.as_ref().expect("it runs");
    assert_eq!(engine.links()[0].drops.total() + engine.vips()[0].routers()[0].drops().total(), 10_000);
    let told = world.events.len() - events;
    assert!(told <= 2 * 2 * DropReason::LABELS.len(), "{told} lines in two seconds");
}

#[test]
fn an_advert_from_ones_own_address_is_dropped() {
    let mut world = world([vip(100)]);
    world.run(secs(2));
    forge(&mut world, [10, 0, 0, 1].into(), &advert(&vip(255), 255), ChecksumForm::Rfc9568);
    world.run(ms(50));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(drops(&world, 0, "own-source"), 1);
}

#[test]
fn who_is_no_unicast_peer_is_not_heard() {
    let peers = |last| vec![[10, 0, 0, last].into()];
    let mut world = world([VipSettings { peers: peers(2), ..vip(200) }, VipSettings { peers: peers(1), ..vip(100) }]);
    world.run(secs(2));
    forge(&mut world, STRANGER, &advert(&vip(255), 255), ChecksumForm::Rfc9568);
    world.run(ms(50));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(drops(&world, 0, "not-a-peer"), 1);
    world.kill(0);
    world.run(ms(370));
    assert_eq!(world.owner(), Some(1));
}

fn version_2(priority: u8) -> VipSettings {
    VipSettings { version: Version::V2, interval: interval(1_000), ..vip(priority) }
}

#[test]
fn version_2_elects_by_its_own_skew_time() {
    let mut world = world([version_2(200), version_2(100)]);
    world.run(secs(5));
    assert_eq!(world.owner(), Some(0));
    world.kill(0);
    world.run(ms(3_000) + ms(1_000) * 156 / 256 + ms(1));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn version_2_drops_another_interval() {
    let mut world = world([version_2(200), VipSettings { interval: interval(2_000), ..version_2(100) }]);
    world.watch.forgiving = true;
    world.run(secs(20));
    assert_eq!([world.state(0), world.state(1)], [StateName::Active; 2], "RFC 3768 §7.1 leaves them two owners");
    assert!(drops(&world, 0, "other-interval") > 0);
    assert!(drops(&world, 1, "other-interval") > 0);
    assert!(
        world.told(1, 0).iter().any(|kind| {
            matches!(kind, EventKind::Dropped { reason: DropReason::OtherInterval { seconds: 1 }, .. })
        })
    );
}

#[test]
fn version_2_drops_another_password_and_takes_its_own() {
    let with =
        |priority, password: &[u8; 8]| VipSettings { password: Some(Password(*password)), ..version_2(priority) };
    let mut same = world([with(200, b"secret\0\0"), with(100, b"secret\0\0")]);
    same.run(secs(5));
    assert_eq!(same.owner(), Some(0));
    let mut other = world([with(200, b"secret\0\0"), with(100, b"Secret\0\0"), version_2(50)]);
    other.watch.forgiving = true;
    other.run(secs(9));
    assert!([0, 1, 2].iter().all(|host| other.state(*host) == StateName::Active));
    assert!([0, 1, 2].iter().all(|host| drops(&other, *host, "wrong-password") > 0));
}

#[test]
fn the_other_version_is_dropped() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    let stranger = Advert { version: Version::V2, interval: interval(1_000), ..advert(&vip(255), 255) };
    forge(&mut world, STRANGER, &stranger, ChecksumForm::Rfc9568);
    world.run(ms(50));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(drops(&world, 0, "other-version"), 1);
    assert!(!matches!(world.cause(0), Cause::PeerWins { .. }));
}
