//! The hook before a release: an owner that leaves in good order lets go when it has ended, and one that does not waits for nothing.

use std::time::Duration;

use vipd::engine::hook::LONGEST_AT_STOP;
use vipd::engine::{
    Cause, EventKind, HandoverOrder, Hold, HoldReason, HookSettings, Input, LinkId, Moment, OnHookFailure, RequestId,
    StateName, VipSettings,
};
use vipd::wire::handover::HandoverReason;

use super::build::{host, interval, ms, secs, vip};
use super::clock::{MILLISECOND, nanos};
use super::group;
use super::handover::{assert_seamless, drain};
use super::host::HostSpec;
use super::network::Network;
use super::second_path::HEARTBEAT;
use super::world::{World, vip_id};

/// Longer than a question for a successor, or of one, is asked.
const HOOK: Duration = Duration::from_secs(2);
/// Till its successor owns: a few messages.
const SOON: Duration = Duration::from_millis(5);

fn hooks() -> Vec<HookSettings> {
    let moments = [Moment::AfterClaim, Moment::BeforeRelease, Moment::AfterRelease];
    moments.map(|moment| HookSettings { moment, on_failure: OnHookFailure::Ignore }).to_vec()
}

fn spec(place: u8, priority: u8, every: u16, knows: bool) -> HostSpec {
    let vip = VipSettings { interval: interval(every), hooks: hooks(), ..vip(priority) };
    let mut spec = host(place, vec![vip]);
    spec.settings.heartbeat = knows.then_some(HEARTBEAT);
    spec
}

/// Two hosts with hooks of two seconds, of which the first is the owner. Whether they know each other by a second path.
fn pair(every: u16, knows: bool) -> World {
    let specs = vec![spec(0, 200, every, knows), spec(1, 100, every, knows)];
    let mut world = World::new(1, Network::quiet(), specs);
    world.hook_time = nanos(HOOK);
    world.start_all();
    world.run(5 * interval(every).duration() + secs(4));
    assert_eq!(world.owner(), Some(0));
    world.watch.forget_silence();
    world
}

fn run_by(world: &World, host: usize, since: u64) -> Vec<Moment> {
    world.hooked.iter().filter(|(at, by, _)| *at >= since && *by == host).map(|(_, _, moment)| *moment).collect()
}

fn order(world: &mut World) {
    let order = HandoverOrder { to: None, reason: HandoverReason::Operator, dry_run: false };
    world.input(0, Input::HandOver { vip: vip_id(0), request: RequestId(7), order });
}

fn leave(world: &mut World, reason: HandoverReason) {
    match reason {
        HandoverReason::Stop => world.stop(0),
        HandoverReason::Drain => drain(world, 0),
        _ => order(world),
    }
}

#[test]
fn a_handover_waits_for_the_hook_of_the_owner_and_has_no_longer_gap_for_it() {
    for every in [10, 100, 1_000] {
        for reason in [HandoverReason::Stop, HandoverReason::Drain, HandoverReason::Operator] {
            for fails in [false, true] {
                let mut world = pair(every, true);
                let what = format!("{reason:?}, adverts each {every} ms, the hook fails: {fails}");
                let began = world.now;
                world.hook_fails = fails;
                leave(&mut world, reason);
                world.run(HOOK - ms(1));
                assert_eq!((world.owner(), run_by(&world, 0, began)), (Some(0), vec![Moment::BeforeRelease]), "{what}");
                world.run(ms(1) + SOON);
                assert_eq!(world.owner(), Some(1), "{what}");
                assert_eq!(world.cause(1), Cause::TakesOver { peer: "host 0".into(), reason }, "{what}");
                world.run(secs(5));
                assert_eq!(run_by(&world, 0, began), [Moment::BeforeRelease, Moment::AfterRelease], "{what}");
                assert_seamless(&world, &what);
            }
        }
    }
}

#[test]
fn a_preemption_between_nodes_that_know_each_other_waits_for_the_hook() {
    for every in [10, 100, 1_000] {
        let mut world = World::new(1, Network::quiet(), vec![spec(0, 200, every, true), spec(1, 100, every, true)]);
        world.hook_time = nanos(HOOK);
        world.start(1);
        world.run(5 * interval(every).duration() + secs(3));
        world.watch.forget_silence();
        let began = world.now;
        world.start(0);
        // It listens first, for as long as a dead owner would be waited for.
        world.run(5 * interval(every).duration() + HOOK + secs(1));
        assert_eq!(world.owner(), Some(0));
        assert_eq!(world.cause(0), Cause::TakesOver { peer: "host 1".into(), reason: HandoverReason::Preempt });
        let told = world.hooked.iter().find(|(at, ..)| *at >= began).expect("a hook was run");
        assert_eq!((told.1, told.2), (1, Moment::BeforeRelease));
        let claimed = world.hosts[0].agent[0].claimed.clone().expect("it claimed").0;
        assert!(claimed >= told.0 + nanos(HOOK), "it claimed before the hook had ended");
        assert_seamless(&world, "a preemption");
    }
}

#[test]
fn where_nobody_is_to_be_asked_a_drain_and_a_stop_wait_all_the_same() {
    for reason in [HandoverReason::Stop, HandoverReason::Drain] {
        let mut world = pair(100, false);
        let began = world.now;
        leave(&mut world, reason);
        world.run(HOOK - ms(1));
        assert_eq!((world.owner(), run_by(&world, 0, began)), (Some(0), vec![Moment::BeforeRelease]));
        // The skew time of the other.
        world.run(ms(100));
        assert_eq!(world.owner(), Some(1));
        world.run(secs(5));
        assert_eq!(run_by(&world, 0, began), [Moment::BeforeRelease, Moment::AfterRelease]);
        assert_eq!(world.watch.overlapped, 0);
    }
}

#[test]
fn a_stop_waits_for_a_hook_that_hangs_only_so_long() {
    for knows in [true, false] {
        for drained_before in [None, Some(secs(1)), Some(secs(30))] {
            let mut world = pair(100, knows);
            world.hook_time = nanos(secs(60));
            let began = world.now;
            if let Some(before) = drained_before {
                drain(&mut world, 0);
                world.run(before);
            }
            world.stop(0);
            world.run(LONGEST_AT_STOP - ms(10));
            assert_eq!(world.owner(), Some(0), "{knows} {drained_before:?}");
            world.run(ms(150));
            assert_eq!(world.owner(), Some(1), "{knows} {drained_before:?}");
            assert!(!world.hosts[0].engine.as_ref().is_some_and(|engine| engine.hands_over()));
            let given_up = |kind: &EventKind| matches!(kind, EventKind::HookFailed { .. });
            assert!(world.told(0, began).into_iter().any(given_up), "{knows} {drained_before:?}");
            let moments = run_by(&world, 0, began);
            assert_eq!(moments, [Moment::BeforeRelease, Moment::AfterRelease], "{knows} {drained_before:?}");
        }
    }
}

#[test]
fn a_fault_does_not_wait_for_the_hook_whether_it_runs_or_not() {
    for is_leaving in [false, true] {
        let mut world = pair(100, true);
        world.hook_time = nanos(secs(60));
        let began = world.now;
        if is_leaving {
            drain(&mut world, 0);
            world.run(secs(1));
            assert_eq!(world.owner(), Some(0));
        }
        world.set_link(0, LinkId(0), false);
        world.run(ms(500));
        assert_eq!(world.owner(), Some(1), "{is_leaving}");
        assert_eq!(run_by(&world, 0, began), [Moment::BeforeRelease, Moment::AfterRelease], "{is_leaving}");
    }
}

#[test]
fn an_owner_that_stays_after_all_is_told_so_by_the_hook_after_a_claim() {
    // Its successor dies while the hook runs.
    let mut world = pair(100, true);
    let began = world.now;
    order(&mut world);
    world.run(secs(1));
    world.kill(1);
    world.run(secs(5));
    assert_eq!((world.owner(), run_by(&world, 0, began)), (Some(0), vec![Moment::BeforeRelease, Moment::AfterClaim]));
    assert_eq!(world.outcomes.len(), 1);
    assert!(world.outcomes[0].2.is_err(), "{:?}", world.outcomes);

    // The operator changes his mind, and then again.
    for knows in [true, false] {
        let mut world = pair(100, knows);
        let began = world.now;
        drain(&mut world, 0);
        world.run(secs(1));
        world.input(0, Input::Release { vip: None });
        world.run(secs(5));
        let staying = vec![Moment::BeforeRelease, Moment::AfterClaim];
        assert_eq!((world.owner(), run_by(&world, 0, began)), (Some(0), staying), "{knows}");
        let again = world.now;
        drain(&mut world, 0);
        world.run(secs(3));
        assert_eq!(world.owner(), Some(1), "{knows}");
        assert_eq!(run_by(&world, 0, again), [Moment::BeforeRelease, Moment::AfterRelease], "{knows}");
    }
}

#[test]
fn a_question_runs_no_hook() {
    let mut world = pair(100, true);
    let began = world.now;
    let order = HandoverOrder { to: None, reason: HandoverReason::Operator, dry_run: true };
    world.input(0, Input::HandOver { vip: vip_id(0), request: RequestId(7), order });
    world.run(secs(1));
    assert!(world.outcomes[0].2.is_ok(), "{:?}", world.outcomes);
    assert!(run_by(&world, 0, began).is_empty() && world.state(0) == StateName::Active);
}

/// Two gateways, of which the first owns both sides; the hooks are those of the outside alone, and take two seconds.
fn gateways(knows: bool) -> World {
    let gateways = (0..).zip([200, 100]).map(|(place, priority)| {
        let mut sides = group::sides(priority);
        sides[1].hooks = hooks();
        let mut spec = group::gateway(place, sides);
        spec.settings.heartbeat = knows.then_some(HEARTBEAT);
        spec
    });
    let mut world = World::new(1, Network::quiet(), gateways.collect());
    world.hook_time = nanos(HOOK);
    world.start_all();
    world.run(secs(6));
    assert_eq!(group::owners(&world), [Some(0); 2]);
    world.watch.forget_silence();
    world.watch.together = Some((2, MILLISECOND));
    world
}

#[test]
fn a_group_goes_when_the_hooks_of_all_have_ended() {
    let mut world = gateways(true);
    order(&mut world);
    world.run(HOOK - ms(1));
    assert_eq!(group::owners(&world), [Some(0); 2]);
    world.run(ms(1) + SOON);
    assert_eq!(group::owners(&world), [Some(1); 2]);
    assert_seamless(&world, "a group");
}

/// How an owner leaves that nobody succeeds by a handover.
#[derive(Clone, Copy, Debug)]
enum Alone {
    Stop,
    Drain,
    /// Of the one side that has hooks, and of the one that has none.
    DrainOf(usize),
}

const ALONE: [Alone; 4] = [Alone::Stop, Alone::Drain, Alone::DrainOf(0), Alone::DrainOf(1)];

fn leave_alone(world: &mut World, how: Alone) {
    match how {
        Alone::Stop => world.stop(0),
        Alone::Drain => drain(world, 0),
        Alone::DrainOf(side) => {
            let hold = Hold { reason: HoldReason::Drained, until: None };
            world.input(0, Input::Hold { vip: Some(vip_id(side)), hold });
        }
    }
}

#[test]
fn a_group_that_nobody_is_ready_for_goes_when_the_hooks_of_all_have_ended() {
    for how in ALONE {
        for refused in [false, true] {
            let mut world = gateways(refused);
            // Its successor would have to be listened to on both sides.
            if refused {
                world.set_link(1, LinkId(0), false);
                world.run(ms(500));
            }
            let began = world.now;
            leave_alone(&mut world, how);
            world.run(HOOK - ms(1));
            let told = run_by(&world, 0, began);
            assert_eq!((group::owners(&world), told), ([Some(0); 2], vec![Moment::BeforeRelease]), "{how:?} {refused}");
            world.run(ms(2));
            assert_eq!(group::owners(&world), [None; 2], "{how:?} {refused}");
            assert!(!world.hosts[0].engine.as_ref().is_some_and(|engine| engine.hands_over()), "{how:?} {refused}");
            if refused {
                world.set_link(1, LinkId(0), true);
            }
            world.run(secs(5));
            assert_eq!(group::owners(&world), [Some(1); 2], "{how:?} {refused}");
            let moments = run_by(&world, 0, began);
            assert_eq!(moments, [Moment::BeforeRelease, Moment::AfterRelease], "{how:?} {refused}");
            assert_eq!(world.watch.overlapped, 0, "{how:?} {refused}");
        }
    }
}

#[test]
fn a_group_waits_for_its_hooks_also_where_its_successor_does_not_take_it() {
    for how in ALONE {
        let mut world = gateways(true);
        world.hook_time = nanos(secs(1));
        let began = world.now;
        // It is asked, and does not answer.
        world.freeze(1);
        leave_alone(&mut world, how);
        world.run(ms(900));
        assert_eq!(group::owners(&world), [Some(0); 2], "{how:?}");
        world.run(secs(2));
        world.thaw(1);
        world.run(secs(4));
        assert_eq!(group::owners(&world), [Some(1); 2], "{how:?}");
        let moments = run_by(&world, 0, began);
        assert_eq!(moments, [Moment::BeforeRelease, Moment::AfterRelease], "{how:?}");
        assert_eq!(world.watch.overlapped, 0, "{how:?}");
    }
}

#[test]
fn a_stop_of_a_group_waits_for_a_hook_that_hangs_only_so_long() {
    for drained_before in [None, Some(Alone::Drain), Some(Alone::DrainOf(0)), Some(Alone::DrainOf(1))] {
        let mut world = gateways(false);
        world.hook_time = nanos(secs(60));
        if let Some(how) = drained_before {
            leave_alone(&mut world, how);
            world.run(secs(10));
            assert_eq!(group::owners(&world), [Some(0); 2], "{drained_before:?}");
        }
        world.stop(0);
        world.run(LONGEST_AT_STOP - ms(10));
        assert_eq!(group::owners(&world), [Some(0); 2], "{drained_before:?}");
        world.run(ms(150));
        assert_eq!(group::owners(&world), [Some(1); 2], "{drained_before:?}");
        assert!(!world.hosts[0].engine.as_ref().is_some_and(|engine| engine.hands_over()));
    }
}

#[test]
fn a_group_that_waits_for_its_hooks_stays_where_the_operator_wants_it_to_and_goes_at_a_fault() {
    for how in [Alone::Drain, Alone::DrainOf(0), Alone::DrainOf(1)] {
        let mut world = gateways(false);
        let began = world.now;
        leave_alone(&mut world, how);
        world.run(secs(1));
        world.input(0, Input::Release { vip: None });
        world.run(secs(5));
        let staying = vec![Moment::BeforeRelease, Moment::AfterClaim];
        assert_eq!((group::owners(&world), run_by(&world, 0, began)), ([Some(0); 2], staying), "{how:?}");
        assert!(!world.hosts[0].engine.as_ref().is_some_and(|engine| engine.hands_over()), "{how:?}");

        let again = world.now;
        world.hook_time = nanos(secs(60));
        leave_alone(&mut world, how);
        world.run(secs(1));
        assert_eq!(group::owners(&world), [Some(0); 2], "{how:?}");
        world.set_link(0, LinkId(0), false);
        world.run(ms(500));
        assert_eq!(group::owners(&world), [Some(1); 2], "{how:?}");
        assert_eq!(run_by(&world, 0, again), [Moment::BeforeRelease, Moment::AfterRelease], "{how:?}");
    }
}
