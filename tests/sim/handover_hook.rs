//! Handovers to a node whose hook is asked before it claims: it is asked while the owner goes on.

use std::time::Duration;

use vipd::engine::hook::RETRY_AFTER_VETO;
use vipd::engine::{
    Cause, HandoverFailure, HookSettings, Input, Moment, OnHookFailure, Preempt, StateName, VipSettings,
};
use vipd::wire::handover::{HandoverReason, Refusal};

use super::build::{interval, ms, secs, vip};
use super::clock::{MILLISECOND, Nanos, nanos};
use super::group::{gateway, owners, sides};
use super::handover::{assert_seamless, drain, order, spec};
use super::host::HostSpec;
use super::network::{Network, Port};
use super::second_path::HEARTBEAT;
use super::world::World;

const BEFORE: HookSettings = HookSettings { moment: Moment::BeforeClaim, on_failure: OnHookFailure::Veto };
const AFTER: HookSettings = HookSettings { moment: Moment::AfterClaim, on_failure: OnHookFailure::Ignore };

fn hooked(vip: VipSettings) -> VipSettings {
    VipSettings { hooks: vec![BEFORE, AFTER], ..vip }
}

fn settled(specs: Vec<HostSpec>, hook_time: Duration) -> World {
    let mut world = World::new(1, Network::quiet(), specs);
    world.hook_time = nanos(hook_time);
    world.start_all();
    world.run(secs(8) + hook_time);
    assert_eq!(world.owner(), Some(0));
    world.watch.forget_silence();
    world.watch.overlapped = 0;
    world.hooked.clear();
    world
}

/// Hosts of these priorities with hooks that take so long, of which the first owns.
fn world(every: u16, priorities: &[u8], hook_time: Duration) -> World {
    let vip = |priority| hooked(VipSettings { interval: interval(every), ..vip(priority) });
    settled((0..).zip(priorities).map(|(place, priority)| spec(place, vip(*priority))).collect(), hook_time)
}

fn run_by(world: &World, host: Port, since: Nanos) -> Vec<Moment> {
    world.hooked.iter().filter(|(at, by, _)| *at >= since && *by == host).map(|(_, _, moment)| *moment).collect()
}

fn outcome(world: &mut World) -> Result<String, HandoverFailure> {
    let (_, _, outcome) = world.outcomes.pop().expect("an outcome");
    outcome.map(|done| done.peer)
}

fn vetoed(peer: &str) -> HandoverFailure {
    HandoverFailure::Refused { peer: peer.into(), refusal: Refusal::Vetoed }
}

#[test]
fn a_hook_delays_a_handover_for_as_long_as_it_takes_and_nobody_waits_for_an_answer() {
    // The longest where an advert is rare.
    for (every, longest) in [(10, secs(1)), (100, secs(20)), (1_000, secs(600))] {
        for time in [ms(1), ms(350), longest] {
            for reason in [HandoverReason::Operator, HandoverReason::Drain] {
                let mut world = world(every, &[200, 100], time);
                let what = format!("{reason:?}, a hook of {time:?}, adverts each {every} ms");
                let began = world.now;
                match reason {
                    HandoverReason::Drain => drain(&mut world, 0),
                    _ => order(&mut world, 0, None, false),
                }
                world.run(time - ms(1));
                assert_eq!(world.owner(), Some(0), "{what}");
                world.run(ms(10));
                assert_eq!(world.owner(), Some(1), "{what}");
                let expected = Cause::TakesOver { peer: "host 0".into(), reason };
                assert_eq!(world.cause(1), expected, "{what}");
                assert_eq!(run_by(&world, 1, began), [Moment::BeforeClaim, Moment::AfterClaim], "{what}");
                assert_seamless(&world, &what);
                if reason == HandoverReason::Operator {
                    assert_eq!(outcome(&mut world), Ok("host 1".into()), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_stop_waits_for_a_hook_of_a_second_and_not_for_one_of_a_minute() {
    for (time, reason) in [(secs(1), true), (secs(60), false)] {
        let mut world = world(100, &[200, 100], time);
        world.stop(0);
        world.run(ms(900));
        assert_eq!(world.owner(), Some(0));
        world.run(ms(2_200));
        assert_eq!(world.owner().is_some(), reason, "after 3.1 s, a hook of {time:?}");
        assert!(!world.hosts[0].engine.as_ref().expect("it is there").hands_over());
        if reason {
            assert_seamless(&world, "a stop");
        } else {
            // It has run since, and is not run again.
            world.run(secs(57));
            assert_eq!(world.owner(), Some(1));
            assert_eq!(run_by(&world, 1, 0), [Moment::BeforeClaim, Moment::AfterClaim]);
        }
    }
}

#[test]
fn a_preemption_asks_the_hook_of_who_preempts_and_leaves_the_owner_alone_meanwhile() {
    for preempt in [Preempt::On, Preempt::After(secs(1))] {
        let vip = |priority| hooked(VipSettings { preempt, ..vip(priority) });
        let mut world = settled(vec![spec(0, vip(200)), spec(1, vip(100))], secs(2));
        world.stop(0);
        world.run(secs(6));
        assert_eq!(world.owner(), Some(1));
        world.watch.forget_silence();
        let began = world.now;
        world.hook_fails = true;
        world.start(0);
        world.run(RETRY_AFTER_VETO * 2);
        assert_eq!(world.owner(), Some(1), "{preempt:?}");
        assert_eq!(run_by(&world, 0, began), [Moment::BeforeClaim; 2], "{preempt:?}");
        world.hook_fails = false;
        world.run(secs(20));
        assert_eq!(world.owner(), Some(0), "{preempt:?}");
        let expected = Cause::TakesOver { peer: "host 1".into(), reason: HandoverReason::Preempt };
        assert_eq!(world.cause(0), expected, "{preempt:?}");
        assert_seamless(&world, "a preemption");
    }
}

#[test]
fn a_veto_is_a_refusal_that_is_named_and_nothing_moves() {
    let mut world = world(100, &[200, 100], ms(500));
    world.watch.settled = Some(vec![0]);
    world.hook_fails = true;
    order(&mut world, 0, None, false);
    world.run(ms(510));
    assert_eq!(outcome(&mut world), Err(vetoed("host 1")));
    assert!(world.hosts[1].kernel[0].installed.is_empty());
    world.run(secs(2));
    assert_eq!(run_by(&world, 1, 0), [Moment::BeforeClaim], "it is not asked again for what was refused");

    // And where it is fetched; at once, where that is tried again at once.
    order(&mut world, 1, Some("host 1"), false);
    world.run(ms(510));
    assert_eq!(outcome(&mut world), Err(vetoed("this node")));
    order(&mut world, 1, Some("host 1"), false);
    world.run(ms(5));
    assert_eq!(outcome(&mut world), Err(vetoed("this node")));
    world.run(secs(2));
    assert_eq!(run_by(&world, 1, 0), [Moment::BeforeClaim; 2]);
    world.watch.settled = None;
    world.hook_fails = false;
    order(&mut world, 1, Some("host 1"), false);
    world.run(ms(510));
    assert_eq!(outcome(&mut world), Ok("host 0".into()));
    assert_eq!(world.owner(), Some(1));
    assert_seamless(&world, "fetched");
}

#[test]
fn a_failure_that_is_ignored_is_none() {
    let ignored = HookSettings { on_failure: OnHookFailure::Ignore, ..BEFORE };
    let vip = |priority| VipSettings { hooks: vec![ignored], ..vip(priority) };
    let mut world = settled(vec![spec(0, vip(200)), spec(1, vip(100))], ms(500));
    world.hook_fails = true;
    order(&mut world, 0, None, false);
    world.run(ms(510));
    assert_eq!(outcome(&mut world), Ok("host 1".into()));
    assert_seamless(&world, "ignored");
}

#[test]
fn where_the_best_vetoes_the_next_has_it() {
    let plain = VipSettings { priority: vipd::types::Priority(50), ..vip(50) };
    let specs = vec![spec(0, hooked(vip(200))), spec(1, hooked(vip(100))), spec(2, plain)];
    let mut world = settled(specs, ms(500));
    world.hook_fails = true;
    drain(&mut world, 0);
    world.run(ms(510));
    assert_eq!(world.owner(), Some(2));
    assert_seamless(&world, "the second best");
}

#[test]
fn a_drain_that_is_vetoed_follows_the_standard() {
    let mut world = world(100, &[200, 100], ms(500));
    world.hook_fails = true;
    drain(&mut world, 0);
    world.run(ms(600));
    assert_eq!((world.owner(), world.state(0)), (None, StateName::Held));
    world.hook_fails = false;
    world.run(RETRY_AFTER_VETO + secs(1));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn a_question_runs_no_hook() {
    let mut world = world(100, &[200, 100], secs(5));
    order(&mut world, 0, None, true);
    world.run(ms(5));
    assert_eq!(outcome(&mut world), Ok("host 1".into()));
    assert!(run_by(&world, 1, 0).is_empty());
    // Nor does an answer to it count for what follows.
    world.freeze(1);
    order(&mut world, 0, None, true);
    world.run(ms(100));
    drain(&mut world, 0);
    world.thaw(1);
    world.run(secs(4));
    assert_eq!((world.owner(), run_by(&world, 1, 0)), (Some(0), vec![Moment::BeforeClaim]));
    world.run(ms(1_500));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn an_owner_that_dies_while_the_hook_runs_is_succeeded_without_another() {
    for time in [ms(100), secs(2)] {
        let mut world = world(100, &[200, 100], time);
        order(&mut world, 0, None, false);
        world.run(ms(50));
        world.kill(0);
        world.run(ms(400) + time);
        assert_eq!(world.owner(), Some(1), "{time:?}");
        assert_eq!(world.watch.overlapped, 0);
        let before = run_by(&world, 1, 0).into_iter().filter(|moment| *moment == Moment::BeforeClaim).count();
        assert_eq!(before, 1, "{time:?}");
    }
}

#[test]
fn a_node_that_falls_silent_while_its_hook_runs_is_not_waited_for() {
    let mut world = world(100, &[200, 100], secs(5));
    world.watch.settled = Some(vec![0]);
    order(&mut world, 0, None, false);
    world.run(secs(1));
    world.freeze(1);
    world.run(ms(350));
    assert_eq!(outcome(&mut world), Err(HandoverFailure::NoAnswer { peer: "host 1".into() }));
    world.thaw(1);
    world.run(secs(10));
    assert!(world.hosts[1].kernel[0].installed.is_empty());
}

#[test]
fn an_operator_who_thinks_better_of_a_drain_ends_it_while_the_hook_runs() {
    let mut world = world(100, &[200, 100], secs(5));
    world.watch.settled = Some(vec![0]);
    drain(&mut world, 0);
    world.run(secs(1));
    world.input(0, Input::Release { vip: None });
    assert!(!world.hosts[0].engine.as_ref().expect("it is there").hands_over());
    world.run(secs(10));
    assert!(world.hosts[1].kernel[0].installed.is_empty());
}

#[test]
fn a_group_waits_for_the_hooks_of_all_and_one_veto_keeps_all() {
    // One of the two asks a hook.
    let gateway = |place: u8, priority: u8| {
        let mut sides = sides(priority);
        sides[1].hooks = vec![BEFORE];
        let mut spec = gateway(place, sides);
        spec.settings.heartbeat = Some(HEARTBEAT);
        spec
    };
    let mut world = settled(vec![gateway(0, 200), gateway(1, 100)], secs(2));
    world.watch.together = Some((2, MILLISECOND / 1_000));
    order(&mut world, 0, None, false);
    world.run(ms(1_990));
    assert_eq!(owners(&world), [Some(0); 2]);
    world.run(ms(20));
    assert_eq!(owners(&world), [Some(1); 2]);
    assert_eq!(outcome(&mut world), Ok("host 1".into()));
    assert_seamless(&world, "a group");

    world.watch.settled = Some(vec![1, 1]);
    world.hook_fails = true;
    order(&mut world, 1, None, false);
    world.run(ms(2_010));
    assert_eq!(outcome(&mut world), Err(vetoed("host 0")));
    world.run(secs(5));
    assert!(world.hosts[0].kernel.iter().all(|kernel| kernel.installed.is_empty()));
}

#[test]
fn a_group_waits_for_one_hook_of_a_node_that_has_no_such_group() {
    let spec = |place: u8, priority: u8| {
        let mut sides = sides(priority);
        sides[1].hooks = vec![BEFORE];
        let mut spec = gateway(place, sides);
        spec.settings.heartbeat = Some(HEARTBEAT);
        spec
    };
    let mut specs = vec![spec(0, 200), spec(1, 100)];
    specs[1].settings.groups.clear();
    let mut world = settled(specs, secs(2));
    order(&mut world, 0, None, false);
    world.run(ms(1_990));
    assert_eq!(owners(&world), [Some(0); 2]);
    world.run(ms(20));
    assert_eq!(owners(&world), [Some(1); 2]);
    assert_seamless(&world, "a group");
}

#[test]
fn the_successors_hook_comes_before_the_owners_and_a_stop_waits_for_both_only_so_long() {
    let release = HookSettings { moment: Moment::BeforeRelease, on_failure: OnHookFailure::Ignore };
    let vip = |priority| VipSettings { hooks: vec![BEFORE, release], ..vip(priority) };
    let mut world = settled(vec![spec(0, vip(200)), spec(1, vip(100))], secs(2));
    order(&mut world, 0, None, false);
    world.run(ms(1_990));
    assert!(run_by(&world, 0, 0).is_empty(), "its service is needed until another is ready");
    world.run(secs(2));
    assert_eq!((world.owner(), run_by(&world, 0, 0)), (Some(0), vec![Moment::BeforeRelease]));
    world.run(ms(50));
    assert_eq!(world.owner(), Some(1));
    assert_eq!(run_by(&world, 1, 0), [Moment::BeforeClaim]);
    assert_seamless(&world, "both hooks");

    let mut world = settled(vec![spec(0, vip(200)), spec(1, vip(100))], ms(2_800));
    world.stop(0);
    world.run(ms(4_000));
    assert!(!world.hosts[0].engine.as_ref().expect("it is there").hands_over());
    assert_eq!(world.owner(), Some(1));
    assert_seamless(&world, "a stop");
}
