//! Hooks: what is run when, that a claim waits for one of them or is vetoed by it, and that nothing else waits for any.

use std::time::Duration;

use vipd::engine::hook::RETRY_AFTER_VETO;
use vipd::engine::{
    Cause, EventKind, HookSettings, LinkId, Moment, OnHookFailure, Preempt, Settings, StateName, VipSettings,
};

use super::build::{ms, secs, vip};
use super::clock::{MILLISECOND, nanos};
use super::world::World;

fn hooks(on_failure: OnHookFailure) -> Vec<HookSettings> {
    let of = |moment| match moment {
        Moment::BeforeClaim => HookSettings { moment, on_failure },
        _ => HookSettings { moment, on_failure: OnHookFailure::Ignore },
    };
    Moment::ALL.map(of).to_vec()
}

/// Both have all hooks, of which each takes this long.
fn pair(hook_time: Duration, on_failure: OnHookFailure) -> World {
    let vips = [200, 100].map(|priority| VipSettings { hooks: hooks(on_failure), ..vip(priority) });
    let mut world = super::build::world(vips);
    world.hook_time = nanos(hook_time);
    world.run(secs(4) + hook_time);
    assert_eq!((world.state(0), world.state(1)), (StateName::Active, StateName::Backup));
    world
}

fn run_by(world: &World, host: usize, since: u64) -> Vec<Moment> {
    world.hooked.iter().filter(|(at, by, _)| *at >= since && *by == host).map(|(_, _, moment)| *moment).collect()
}

#[test]
fn a_takeover_runs_the_hooks_of_both_in_their_order() {
    let mut world = pair(ms(50), OnHookFailure::Veto);
    assert_eq!(run_by(&world, 0, 0), [Moment::BeforeClaim, Moment::AfterClaim]);
    let began = world.now;
    world.stop(0);
    world.run(secs(2));
    assert_eq!(run_by(&world, 0, began), [Moment::BeforeRelease, Moment::AfterRelease]);
    assert_eq!(run_by(&world, 1, began), [Moment::BeforeClaim, Moment::AfterClaim]);
    assert_eq!(world.state(1), StateName::Active);
}

#[test]
fn a_claim_waits_for_its_hook_and_for_no_longer() {
    let mut world = pair(secs(2), OnHookFailure::Veto);
    let began = world.now;
    world.kill(0);
    // 3 intervals and the skew, and then nearly the 2 s that the hook takes.
    world.run(ms(2_200));
    assert_eq!((world.state(1), run_by(&world, 1, began)), (StateName::Backup, vec![Moment::BeforeClaim]));
    world.run(ms(200));
    assert_eq!(world.state(1), StateName::Active);
    // The hook that follows takes as long, and nothing waits for it.
    assert_eq!(run_by(&world, 1, began), [Moment::BeforeClaim, Moment::AfterClaim]);
}

#[test]
fn an_owner_that_is_heard_while_the_hook_runs_makes_it_void() {
    let mut world = pair(secs(2), OnHookFailure::Veto);
    let began = world.now;
    world.part(0, 1);
    world.run(ms(1_000));
    world.heal();
    world.run(secs(5));
    assert_eq!((world.state(0), world.state(1)), (StateName::Active, StateName::Backup));
    world.kill(0);
    world.run(secs(5));
    assert_eq!(world.state(1), StateName::Active);
    assert_eq!(run_by(&world, 1, began), [Moment::BeforeClaim, Moment::BeforeClaim, Moment::AfterClaim]);
}

#[test]
fn a_veto_keeps_a_node_from_claiming_until_the_hook_permits_it() {
    let mut world = pair(ms(100), OnHookFailure::Veto);
    world.hook_fails = true;
    let began = world.now;
    world.kill(0);
    world.run(RETRY_AFTER_VETO * 3);
    assert_eq!(world.state(1), StateName::Backup);
    assert_eq!(run_by(&world, 1, began), [Moment::BeforeClaim; 3]);
    let vetoes = |kind: &&&EventKind| matches!(kind, EventKind::HookFailed { vetoes: true, .. });
    assert_eq!(world.told(1, began).iter().filter(vetoes).count(), 3);
    world.hook_fails = false;
    world.run(RETRY_AFTER_VETO);
    assert_eq!(world.state(1), StateName::Active);
}

#[test]
fn a_failure_that_is_ignored_only_costs_its_time() {
    let mut world = pair(ms(100), OnHookFailure::Ignore);
    world.hook_fails = true;
    world.kill(0);
    world.run(ms(500));
    assert_eq!(world.state(1), StateName::Active);
}

#[test]
fn who_preempts_leaves_the_owner_alone_while_its_hook_runs_or_vetoes() {
    let mut world = pair(secs(1), OnHookFailure::Veto);
    world.stop(0);
    world.run(secs(4));
    assert_eq!(world.owner(), Some(1));
    world.hook_fails = true;
    world.start(0);
    let began = world.now;
    world.run(RETRY_AFTER_VETO * 2);
    assert_eq!((world.owner(), run_by(&world, 0, began)), (Some(1), vec![Moment::BeforeClaim; 2]));
    assert!(run_by(&world, 1, began).is_empty(), "it was not disturbed");
    world.hook_fails = false;
    world.run(secs(5));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn a_delayed_preemption_asks_its_hook_once() {
    let delayed =
        |priority| VipSettings { preempt: Preempt::After(secs(2)), hooks: hooks(OnHookFailure::Veto), ..vip(priority) };
    let mut world = super::build::world([delayed(200), delayed(100)]);
    world.hook_time = nanos(secs(1));
    world.run(secs(5));
    world.stop(0);
    world.run(secs(5));
    assert_eq!(world.owner(), Some(1));
    let began = world.now;
    world.start(0);
    world.run(secs(10));
    assert_eq!(world.owner(), Some(0));
    assert_eq!(run_by(&world, 0, began), [Moment::BeforeClaim, Moment::AfterClaim]);
}

#[test]
fn the_lease_of_an_owner_does_not_know_that_there_are_hooks() {
    let mut with = pair(secs(60), OnHookFailure::Veto);
    let began = with.now;
    with.set_link(0, LinkId(0), false);
    // The hooks of the release have a minute to go.
    with.run(ms(1));
    assert_eq!(with.hosts[0].kernel[0].lease_until, None);
    with.run(secs(1));
    assert_eq!(run_by(&with, 0, began), [Moment::BeforeRelease, Moment::Fault, Moment::AfterRelease]);
}

#[test]
fn an_adoption_runs_the_hook_after_a_claim_again_and_no_other() {
    let mut world = pair(ms(100), OnHookFailure::Veto);
    let began = world.now;
    world.hand_on(0);
    world.restart(0);
    world.run(secs(2));
    assert_eq!(world.cause(0), Cause::Adopted);
    assert_eq!(run_by(&world, 0, began), [Moment::AfterClaim]);
}

#[test]
fn a_vip_that_a_reload_removes_runs_the_hooks_of_a_release() {
    let mut world = pair(ms(100), OnHookFailure::Veto);
    let began = world.now;
    let node = world.hosts[0].spec.settings.node.clone();
    world.reload(0, Settings::of(&node, Vec::new()));
    world.run(secs(1));
    assert_eq!(run_by(&world, 0, began), [Moment::BeforeRelease, Moment::AfterRelease]);
}

#[test]
fn a_fault_and_a_second_owner_are_told() {
    let mut world = pair(ms(100), OnHookFailure::Ignore);
    let began = world.now;
    world.part(0, 1);
    world.run(secs(5));
    world.heal();
    // Who hears whom first decides what they make of it.
    world.cut(0, 1);
    world.run(secs(1));
    world.heal();
    world.run(secs(5));
    assert_eq!(world.owner(), Some(0));
    assert!(run_by(&world, 0, began).contains(&Moment::SplitBrain), "{:?}", world.hooked);
    let began = world.now;
    world.freeze(0);
    world.run(secs(2));
    world.thaw(0);
    world.run(ms(200));
    let after_thaw = [Moment::BeforeRelease, Moment::Fault, Moment::AfterRelease];
    assert_eq!(run_by(&world, 0, began), after_thaw);
    assert!(world.now > began + 1_000 * MILLISECOND);
}
