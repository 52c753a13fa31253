//! A node that is kept out owns nothing, whatever befalls its interface, its file or its agent; and its peer takes over at once.

use vipd::engine::{Hold, HoldReason, Input, Instant, StateName};

use super::build::{ms, secs, vip, world};
use super::host::Wire;
use super::world::{World, vip_id};

fn drain(world: &mut World, host: usize, seconds: Option<u64>) {
    let now = world.hosts[host].spec.clock.shows(world.now);
    let until = seconds.map(|seconds| now + secs(seconds));
    world.input(host, Input::Hold { vip: Some(vip_id(0)), hold: Hold { reason: HoldReason::Drained, until } });
}

#[test]
fn a_drained_owner_hands_over_within_its_peers_skew_time() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    assert_eq!(world.state(0), StateName::Active);
    drain(&mut world, 0, None);
    assert_eq!(world.state(0), StateName::Held);
    // (256 - 100) / 256 of 100 ms, and what a kernel needs.
    world.run(ms(70));
    assert_eq!(world.state(1), StateName::Active);
    world.run(secs(600));
    assert_eq!((world.state(0), world.state(1)), (StateName::Held, StateName::Active));
    world.input(0, Input::Release { vip: None });
    world.run(secs(1));
    assert_eq!((world.state(0), world.state(1)), (StateName::Active, StateName::Backup));
}

#[test]
fn a_drained_node_claims_nothing_even_when_it_is_alone() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    drain(&mut world, 1, None);
    world.kill(0);
    world.run(secs(60));
    assert_eq!(world.state(1), StateName::Held);
    world.input(1, Input::Release { vip: Some(vip_id(0)) });
    world.run(secs(1));
    assert_eq!(world.state(1), StateName::Active);
}

#[test]
fn a_hold_outlasts_an_interface_that_goes_and_comes_and_ends_in_time() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    drain(&mut world, 0, Some(30));
    for wire in [Wire::Missing, Wire::Up, Wire::Down, Wire::Up] {
        world.set_wire(0, wire);
        world.run(secs(5));
        assert_ne!(world.state(0), StateName::Active);
    }
    assert_eq!(world.state(0), StateName::Held);
    world.run(secs(9));
    assert_eq!(world.state(0), StateName::Held);
    world.run(secs(2));
    assert_eq!(world.state(0), StateName::Active);
}

#[test]
fn a_hold_that_ends_while_there_is_no_interface_is_forgotten() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    drain(&mut world, 0, Some(10));
    world.set_wire(0, Wire::Missing);
    world.run(secs(20));
    let engine = world.hosts[0].engine.as_ref().expect("it runs");
    assert_eq!(engine.vips()[0].held_by(), None);
    world.set_wire(0, Wire::Up);
    world.run(secs(2));
    assert_eq!(world.state(0), StateName::Active);
}

#[test]
fn a_hold_outlasts_a_reload_that_makes_it_another_virtual_router() {
    let mut world = world([vip(200)]);
    world.run(secs(2));
    drain(&mut world, 0, None);
    let mut settings = world.hosts[0].spec.settings.clone();
    settings.vips[0].vrid = vipd::types::Vrid::new(52).expect("52 is one");
    world.reload(0, settings);
    world.run(secs(5));
    let engine = world.hosts[0].engine.as_ref().expect("it runs");
    assert_eq!(engine.vips()[0].state(), StateName::Held);
}

#[test]
fn a_hold_on_the_node_is_one_on_vips_to_come() {
    let mut world = world([vip(200)]);
    world.run(secs(2));
    world.input(0, Input::Hold { vip: None, hold: Hold { reason: HoldReason::HostDied, until: None } });
    let mut settings = world.hosts[0].spec.settings.clone();
    let mut more = settings.vips[0].clone();
    more.name = "more".into();
    more.vrid = vipd::types::Vrid::new(52).expect("52 is one");
    more.addresses = vec![super::build::address([10, 0, 0, 101].into())];
    settings.vips.push(more);
    world.reload(0, settings);
    world.run(secs(5));
    let engine = world.hosts[0].engine.as_ref().expect("it runs");
    assert!(engine.vips().iter().all(|vip| vip.state() == StateName::Held));
}

#[test]
fn what_an_earlier_agent_left_is_given_up_where_a_hold_says_so() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(2));
    let engine = vipd::engine::Engine::new(world.hosts[0].spec.settings.clone(), Instant::ZERO);
    let mut engine = engine;
    let now = Instant::ZERO + secs(1);
    engine.handle(now, Input::Hold { vip: None, hold: Hold { reason: HoldReason::Drained, until: None } });
    engine.handle(now, Input::Inherited { vip: vip_id(0), until: now + secs(1), term: secs(1) });
    let state = vipd::engine::LinkState::Up { ipv4: Some([10, 0, 0, 1].into()), ipv6: None };
    engine.handle(now, Input::Link { link: super::world::LINK, state });
    let outputs: Vec<_> = std::iter::from_fn(|| engine.poll_output()).collect();
    let said = |what: fn(&vipd::engine::Output) -> bool| outputs.iter().any(what);
    assert!(said(|output| matches!(output, vipd::engine::Output::Remove(_))), "{outputs:?}");
    assert!(said(|output| matches!(output, vipd::engine::Output::Transmit(it) if it.advert.priority.0 == 0)));
    assert_eq!(engine.vips()[0].state(), StateName::Held);
}
