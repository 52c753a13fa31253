//! The judge can fail: worlds that are broken on purpose are caught, each by the sentence that is meant for it.

use vipd::engine::{Input, Instant, OnSilentOwner, Output, StateName, VipSettings, Voter};

use super::build::{VIP_V4, host, ms, secs, vip, world};
use super::clock::{Clock, nanos};
use super::network::Network;
use super::world::World;

/// One that does not ask whether the address still answers, which would save many a broken world.
fn bold(priority: u8) -> VipSettings {
    VipSettings { on_silent_owner: OnSilentOwner::Take, ..vip(priority) }
}

fn violation_in(world: &mut World, time: std::time::Duration) -> String {
    world.run_unchecked(nanos(time));
    world.watch.violation.clone().expect("this world is broken, and nobody saw it")
}

#[test]
fn without_the_lease_in_the_kernel_a_frozen_owner_is_caught() {
    let mut world = world([bold(200), bold(100)]);
    world.gate = false;
    world.run(secs(2));
    world.freeze(0);
    let violation = violation_in(&mut world, secs(1));
    assert!(violation.contains("while the lease of host 0, which is Frozen"), "{violation}");
}

#[test]
fn without_the_lease_in_the_kernel_a_crashed_owner_is_caught() {
    let mut world = world([bold(200), bold(100)]);
    world.gate = false;
    world.run(secs(2));
    world.crash(0);
    let violation = violation_in(&mut world, secs(1));
    assert!(violation.contains("which is Crashed"), "{violation}");
}

#[test]
fn a_lease_longer_than_the_patience_is_caught() {
    let mut world = world([bold(200), bold(100)]);
    world.run(secs(2));
    world.freeze(0);
    world.hosts[0].kernel[0].lease_until = Some(world.hosts[0].local(world.now + nanos(ms(370))));
    let violation = violation_in(&mut world, secs(1));
    assert!(violation.contains("two owners"), "{violation}");
}

#[test]
fn a_clock_that_is_far_too_slow_overlaps() {
    // At priority 254 the skew time is 1/128 interval, 0.26 % of the lease. 2 % are more than that.
    let mut specs = vec![host(0, vec![bold(100)]), host(1, vec![bold(254)])];
    specs[0].clock = Clock { offset: 0, ppm: -20_000 };
    specs[1].settings.vips[0].preempt = vipd::engine::Preempt::Off;
    let mut world = World::new(1, Network::quiet(), specs);
    world.start(0);
    world.run(secs(2));
    world.start(1);
    world.run(secs(1));
    world.freeze(0);
    world.run(secs(1));
    assert!(world.watch.overlapped > 0);
}

#[test]
fn two_live_owners_that_can_talk_are_caught() {
    let mut world = world([bold(200), bold(100)]);
    world.run(secs(2));
    // What an agent would be that ignores adverts.
    let it = &mut world.hosts[1].kernel[0];
    it.installed.insert(VIP_V4);
    it.lease_until = Some(Instant::from_nanos(u64::MAX));
    let violation = violation_in(&mut world, ms(400));
    assert!(violation.contains("both alive"), "{violation}");
}

#[test]
fn a_witness_that_votes_anew_without_waiting_is_caught() {
    let mut world = super::quorum::voting([vip(200), vip(100)]);
    // The other node has its own vote, and wants this one.
    world.cut(0, 1);
    world.run(secs(1));
    // Whoever asks first gets it.
    for _ in 0..20 {
        let witness = world.witness.as_mut().expect("it has one");
        witness.voter = Some(Voter::new(Instant::ZERO, witness.longest_grant));
        world.run_unchecked(nanos(ms(37)));
    }
    let violation = violation_in(&mut world, ms(1));
    assert!(violation.contains("in spite of voters"), "{violation}");
}

#[test]
fn a_settled_vip_that_moves_is_caught() {
    let mut world = world([bold(200), bold(100)]);
    world.run(secs(2));
    world.watch.settled = Some(vec![0]);
    world.kill(0);
    let violation = violation_in(&mut world, secs(1));
    assert!(violation.contains("was settled on host 0, now [] answer"), "{violation}");
}

#[test]
fn a_transition_that_nobody_told_of_is_caught() {
    let mut world = world([bold(200), bold(100)]);
    world.run(secs(2));
    world.hosts[0].agent[0].state = StateName::Held;
    world.stop(0);
    let violation = violation_in(&mut world, ms(1));
    assert!(violation.contains("was Held, tells of a transition from Active to Initialize"), "{violation}");
}

#[test]
fn an_advert_without_a_lease_is_caught() {
    let mut world = world([vip(200)]);
    world.run(secs(2));
    // The renewal is lost between the engine and the kernel.
    let engine = world.hosts[0].engine.as_mut().expect("it runs");
    let due = engine.next_deadline().expect("it advertises");
    engine.handle(due, Input::Deadline);
    let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
    assert!(matches!(outputs[..], [Output::Transmit(_), Output::RenewLease { .. }]));
    world.replay(0, outputs.into_iter().take(1).collect());
    let violation = violation_in(&mut world, ms(1));
    assert!(violation.contains("without a lease renewed"), "{violation}");
}
