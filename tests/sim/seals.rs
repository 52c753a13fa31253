//! Sealed adverts: what somebody without the key can do, which is nothing, and what he can do to plain ones.

use vipd::engine::seals::Sealing;
use vipd::engine::{EventKind, StateName, VipSettings};
use vipd::types::Family;
use vipd::wire::advert::{Advert, ChecksumForm, Endpoints, HOP_LIMIT, group};
use vipd::wire::seal::{Key, Keys};
use vipd::wire::sealed_advert::{self, Stamp};

use super::build::{STRANGER, advert, forge, host, ms, secs, vip};
use super::forged::drops;
use super::network::{NEIGHBOURS, Network, Packet};
use super::world::{LINK, World};

pub fn keys(byte: u8) -> Keys {
    Keys::new(Key::new(&[byte; 32]).expect("32 bytes"), None)
}

/// Hosts whose files say this about seals, and an enemy who records all.
fn world(sealing: Sealing, vips: impl IntoIterator<Item = VipSettings>) -> World {
    let specs = (0..).zip(vips).map(|(place, vip)| host(place, vec![vip])).collect();
    let mut world = World::new(1, Network::quiet(), specs);
    world.hosts.iter_mut().for_each(|host| host.sealing = Some(sealing));
    world.tap = Some(Vec::new());
    world.start_all();
    world
}

/// What was recorded so far.
fn recorded(world: &mut World) -> Vec<Packet> {
    std::mem::take(world.tap.as_mut().expect("somebody records"))
}

/// The enemy sends something to all.
fn inject(world: &mut World, packet: Packet) {
    let tap = world.tap.take();
    world.send(NEIGHBOURS, packet);
    world.tap = tap;
}

/// All drops of a host, for reasons of seals.
fn refused(world: &World, host: usize) -> u64 {
    ["not-sealed", "unknown-seal-key", "bad-seal", "replayed", "stale-epoch", "other-link"]
        .iter()
        .map(|label| drops(world, host, label))
        .sum()
}

#[test]
fn a_sealed_pair_elects_and_fails_over_as_a_plain_one() {
    let mut world = world(Sealing::Require, [vip(200), vip(100)]);
    world.run(secs(2));
    assert_eq!((world.owner(), world.state(1)), (Some(0), StateName::Backup));
    world.kill(0);
    world.run(ms(362));
    assert_eq!(world.owner(), Some(1));
    world.start(0);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0), "a new life is believed at once");
    assert_eq!([refused(&world, 0), refused(&world, 1)], [0; 2]);
}

#[test]
fn a_rogue_255_without_the_key_moves_nobody() {
    let mut world = world(Sealing::Require, [vip(200), vip(100)]);
    world.run(secs(2));
    let events = world.events.len();
    for n in 0..100_u64 {
        forge(&mut world, STRANGER, &advert(&vip(255), 255), ChecksumForm::Rfc9568);
        inject(&mut world, sealed(&keys(2), 255, n));
        world.run(ms(20));
    }
    assert_eq!((world.owner(), world.state(1)), (Some(0), StateName::Backup));
    for host in [0, 1] {
        assert_eq!([drops(&world, host, "not-sealed"), drops(&world, host, "unknown-seal-key")], [100; 2]);
    }
    let told = &world.events[events..];
    assert_eq!(told.len(), 4, "each reason once at each host");
}

/// An advert of a stranger, with a key of his own.
fn sealed(keys: &Keys, priority: u8, counter: u64) -> Packet {
    let (source, destination) = (STRANGER, group(Family::V4));
    let mut bytes = Vec::new();
    advert(&vip(priority), priority).emit(Endpoints { source, destination }, ChecksumForm::Rfc9568, &mut bytes);
    sealed_advert::seal(keys, source, Stamp { epoch: 1_000, link: 0, counter }, &mut bytes);
    Packet { link: LINK, source, destination, hop_limit: HOP_LIMIT, bytes }
}

/// When a backup owned the addresses after the owner's host died, while somebody repeats what the owner said. Milliseconds.
fn takeover_under_replay(sealing: Sealing) -> Option<u64> {
    let mut world = world(sealing, [vip(200), vip(100)]);
    world.run(secs(2));
    let said: Vec<Packet> = recorded(&mut world);
    world.crash(0);
    world.set_wire(0, super::host::Wire::Down);
    for elapsed in 0..1_000_u64 {
        if world.owner() == Some(1) {
            return Some(elapsed);
        }
        let place = world.rng.index(said.len());
        inject(&mut world, said[place].clone());
        world.run(ms(1));
    }
    None
}

#[test]
fn an_owners_recorded_adverts_do_not_outlive_it() {
    assert_eq!(takeover_under_replay(Sealing::Off), None, "plain ones do, for as long as they are repeated");
    let takeover = takeover_under_replay(Sealing::Require).expect("the backup takes over");
    assert!(takeover <= 362, "{takeover} ms");
}

#[test]
fn a_recorded_resignation_moves_nobody() {
    let mut world = world(Sealing::Require, [vip(200), vip(100)]);
    world.run(secs(2));
    world.stop(0);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(1));
    let said = recorded(&mut world);
    world.start(0);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0));
    let since = world.now;
    for packet in said {
        inject(&mut world, packet);
        world.run(ms(3));
    }
    assert_eq!((world.owner(), world.sent_by(1, since).len()), (Some(0), 0));
    assert!(drops(&world, 1, "stale-epoch") > 0, "of the earlier life");
}

#[test]
fn ones_own_adverts_that_come_back_are_no_copy_of_this_host() {
    let mut world = world(Sealing::Require, [vip(200), vip(100)]);
    world.run(secs(2));
    let said = recorded(&mut world);
    let since = world.now;
    for packet in said {
        inject(&mut world, packet);
        world.run(ms(1));
    }
    assert!(drops(&world, 0, "own-source") > 10);
    assert!(!world.told(0, since).iter().any(|kind| matches!(kind, EventKind::ClonedHost { .. })));
}

#[test]
fn a_group_goes_from_plain_to_sealed_under_way_and_nobody_moves() {
    let mut world = world(Sealing::Off, [vip(200), vip(150), vip(100)]);
    world.run(secs(2));
    let transitions = world.events.len();
    for step in [Sealing::Receive, Sealing::Send, Sealing::Require] {
        // The owner first, in the middle, and last.
        for host in [1, 0, 2] {
            let seals = world.hosts[host].seals.as_mut().expect("it runs");
            assert!(seals.follow(keys(1), step));
            world.run(secs(1));
        }
    }
    assert_eq!(world.events.len(), transitions, "{:?}", &world.events[transitions..]);
    assert_eq!(world.owner(), Some(0));
    let received = |world: &World| world.hosts[1].engine.as_ref().expect("it runs").vips()[0].routers()[0].received();
    let before = received(&world);
    world.run(secs(1));
    assert_eq!(received(&world) - before, 10, "and is heard");
}

#[test]
fn a_plain_peer_is_heard_until_seals_are_required() {
    for (sealing, owner) in [(Sealing::Receive, 0), (Sealing::Send, 0), (Sealing::Require, 1)] {
        // A router that knows no seals, and hears no other owner.
        let mut world = world(sealing, [vip(250), vip(100)]);
        world.watch.forgiving = true;
        world.kill(0);
        world.hosts[0].sealing = None;
        world.start(0);
        world.run(secs(3));
        let yields = world.state(1) == StateName::Backup;
        assert_eq!(yields, owner == 0, "{sealing:?}");
        assert_eq!(drops(&world, 1, "not-sealed") > 0, sealing == Sealing::Require);
    }
}

/// Everything that somebody without the key can send: replays, splices, cuts, flipped bits, other sources, other VRIDs, another key.
#[test]
fn a_storm_of_forged_replayed_spliced_and_truncated_adverts_moves_nobody() {
    let mut world = world(Sealing::Require, [vip(200), vip(100)]);
    world.run(secs(2));
    world.stop(0);
    world.run(secs(1));
    world.start(0);
    world.run(secs(3));
    let said = recorded(&mut world);
    assert_eq!((world.owner(), world.state(1)), (Some(0), StateName::Backup));
    let events = world.events.len();
    let storm = std::env::var("VIPD_SIM_SEEDS").map_or(10_000, |_| 1_000_000);
    for n in 0..storm {
        let packet = hostile(&mut world, &said);
        inject(&mut world, packet);
        world.tap = Some(Vec::new());
        if n % 20 == 0 {
            world.run(ms(1));
        }
    }
    world.run(ms(500));
    assert_eq!((world.owner(), world.state(1)), (Some(0), StateName::Backup));
    let transitions =
        world.events[events..].iter().filter(|(_, _, event)| matches!(event.kind, EventKind::Transition { .. }));
    assert_eq!(transitions.count(), 0);
    assert!(refused(&world, 1) > storm / 2, "{} of {storm}", refused(&world, 1));
}

fn hostile(world: &mut World, said: &[Packet]) -> Packet {
    let rng = &mut world.rng;
    let mut packet = said[rng.index(said.len())].clone();
    let other = &said[rng.index(said.len())];
    match rng.within(0, 6) {
        0 | 1 => {}
        2 => packet.bytes.truncate(rng.index(packet.bytes.len() + 1)),
        3 => {
            let at = rng.index(packet.bytes.len());
            packet.bytes[at] ^= 1 << rng.within(0, 7);
        }
        4 => {
            let at = rng.index(packet.bytes.len().min(other.bytes.len()));
            packet.bytes.truncate(at);
            packet.bytes.extend(&other.bytes[at..]);
        }
        5 => packet.source = other.source,
        _ => {
            let counter = rng.next();
            let mut plain = Vec::new();
            let endpoints = Endpoints { source: packet.source, destination: packet.destination };
            let advert =
                Advert { priority: vipd::types::Priority(rng.pick(&[0, 1, 254, 255])), ..advert(&vip(255), 255) };
            advert.emit(endpoints, ChecksumForm::Rfc9568, &mut plain);
            sealed_advert::seal(&keys(2), packet.source, Stamp { epoch: u64::MAX, link: 0, counter }, &mut plain);
            if rng.permille(500) {
                // With the right key's name on it.
                plain[16..20].copy_from_slice(&keys(1).current().id());
            }
            packet.bytes = plain;
        }
    }
    packet
}
