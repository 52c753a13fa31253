//! Interfaces that go, come back, come late, or change their address.

use std::net::Ipv4Addr;

use vipd::engine::{Cause, Preempt, StateName};
use vipd::types::Family;

use super::build::{address, addresses_v6, host, ms, secs, vip, world};
use super::host::Wire;
use super::network::Network;
use super::world::World;

#[test]
fn a_lost_carrier_gives_the_addresses_up_at_once() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.set_wire(0, Wire::Down);
    world.run(ms(1));
    assert_eq!(world.state(0), StateName::Initialize);
    assert_eq!(world.cause(0), Cause::LinkDown);
    assert!(world.hosts[0].kernel[0].lease_until.is_none());
    world.run(ms(400));
    assert_eq!(world.owner(), Some(1));
    assert!(world.hosts[0].kernel[0].installed.is_empty());
    world.set_wire(0, Wire::Up);
    world.run(ms(330));
    assert_eq!(world.owner(), Some(0), "and takes part again");
}

#[test]
fn a_backup_without_carrier_claims_nothing() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.set_wire(1, Wire::Down);
    world.run(secs(5));
    assert_eq!(world.state(1), StateName::Initialize);
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn an_interface_deleted_and_recreated_is_an_ordinary_event() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    for _ in 0..3 {
        world.set_wire(0, Wire::Missing);
        world.run(secs(1));
        assert_eq!((world.state(0), world.cause(0)), (StateName::Initialize, Cause::LinkMissing));
        assert_eq!(world.owner(), Some(1));
        world.set_wire(0, Wire::Down);
        world.run(ms(50));
        world.set_wire(0, Wire::Up);
        world.run(secs(1));
        assert_eq!(world.owner(), Some(0));
    }
}

#[test]
fn an_interface_that_comes_late_is_waited_for() {
    let mut world = World::new(1, Network::quiet(), vec![host(0, vec![vip(200)])]);
    world.hosts[0].wire = Wire::Missing;
    world.start(0);
    world.run(secs(3_600));
    assert_eq!(world.state(0), StateName::Initialize);
    assert!(world.sent.is_empty());
    world.set_wire(0, Wire::Up);
    world.run(ms(330));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn a_claim_is_not_made_before_each_family_can_send() {
    let mut dual = vip(200);
    dual.addresses.extend(addresses_v6(0));
    let mut spec = host(0, vec![dual]);
    // Duplicate detection of the link-local address is not over.
    let link_local = spec.ipv6.take();
    let mut world = World::new(1, Network::quiet(), vec![spec]);
    world.start_all();
    world.run(secs(2));
    assert_eq!(world.cause(0), Cause::NoSourceAddress(Family::V6));
    world.hosts[0].spec.ipv6 = link_local;
    world.set_wire(0, Wire::Up);
    world.run(ms(330));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn an_owner_whose_interface_changes_its_address_goes_on() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    world.hosts[0].spec.ipv4 = Some(Ipv4Addr::new(10, 0, 0, 77));
    world.set_wire(0, Wire::Up);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(
        world.hosts[1].engine.as_ref().and_then(|engine| engine.vips()[0].owner()).map(|owner| owner.source),
        Some([10, 0, 0, 77].into())
    );
}

#[test]
fn a_flapping_link_neither_loses_nor_doubles_the_owner() {
    let mut world = world([vip(200), vip(100)]);
    world.hosts[0].spec.settings.vips[0].preempt = Preempt::On;
    world.run(secs(2));
    for _ in 0..50 {
        world.set_wire(0, Wire::Down);
        world.run(ms(20));
        world.set_wire(0, Wire::Up);
        world.run(ms(20));
    }
    world.run(ms(700));
    assert_eq!(world.owner(), Some(0));
    assert!(world.hosts[1].kernel[0].installed.is_empty());
}

#[test]
fn vips_of_one_host_have_different_owners() {
    let second = |priority: u8| {
        let mut it = vip(priority);
        it.name = "other".into();
        it.vrid = vipd::types::Vrid::new(52).expect("not 0");
        it.addresses = vec![address([10, 0, 0, 101].into())];
        it
    };
    let specs = vec![host(0, vec![vip(200), second(100)]), host(1, vec![vip(100), second(200)])];
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    world.run(secs(2));
    assert_eq!([world.owner_of(0), world.owner_of(1)], [Some(0), Some(1)]);
    world.kill(1);
    world.run(ms(500));
    assert_eq!([world.owner_of(0), world.owner_of(1)], [Some(0), Some(0)]);
}
