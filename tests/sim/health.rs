//! The address follows the service, as the checks see it.

use vipd::engine::{
    Cause, CheckEffect, CheckOutcome, CheckResult, CheckSettings, EventKind, Input, Preempt, StateName, VipSettings,
};

use super::build::{host, ms, secs, vip, world};
use super::host::Life;
use super::network::{Network, Port};
use super::seeds;
use super::world::World;

const PASSED: CheckOutcome = CheckOutcome::Passed(None);

pub fn checked(priority: u8, effect: CheckEffect) -> VipSettings {
    let checks = vec![CheckSettings { name: "service".into(), rise: 2, fall: 2, effect }];
    VipSettings { checks, ..vip(priority) }
}

pub fn give(world: &mut World, host: Port, outcome: CheckOutcome) {
    let result = CheckResult { outcome, output: "said so".into() };
    world.input(host, Input::CheckResult { check: "service".into(), result });
}

/// Two hosts whose checks have passed once; the first owns.
fn healthy(effect: CheckEffect) -> World {
    let mut world = world([checked(200, effect), checked(180, effect)]);
    give(&mut world, 0, PASSED);
    give(&mut world, 1, PASSED);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
    world
}

#[test]
fn nobody_claims_before_the_first_result() {
    let mut world = world([checked(200, CheckEffect::Fault)]);
    world.run(secs(5));
    assert_eq!(world.state(0), StateName::Initialize);
    assert!(matches!(world.cause(0), Cause::CheckPending { .. }));
    give(&mut world, 0, PASSED);
    world.run(ms(330));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn a_fault_hands_over_within_the_successors_skew_and_comes_back_after_rise() {
    let mut world = healthy(CheckEffect::Fault);
    give(&mut world, 0, CheckOutcome::Failed);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0), "one failure is not yet `fall`");
    give(&mut world, 0, CheckOutcome::Failed);
    // Priority 180: a skew of 29.7 ms.
    world.run(ms(32));
    assert_eq!(world.owner(), Some(1));
    let Cause::CheckFails { check, output } = world.cause(0) else { panic!("{:?}", world.cause(0)) };
    assert_eq!((check.as_str(), output.as_str()), ("service", "said so"));
    world.run(secs(2));
    give(&mut world, 0, PASSED);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(1), "one success is not yet `rise`");
    give(&mut world, 0, PASSED);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn both_in_fault_own_nothing_and_the_first_to_recover_owns() {
    let mut world = healthy(CheckEffect::Fault);
    for host in [0, 1, 0, 1] {
        give(&mut world, host, CheckOutcome::Failed);
    }
    world.run(secs(3));
    assert_eq!((world.owner(), world.state(0), world.state(1)), (None, StateName::Initialize, StateName::Initialize));
    give(&mut world, 1, PASSED);
    give(&mut world, 1, PASSED);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn a_weight_changes_the_owner_and_is_advertised_at_once() {
    let mut world = healthy(CheckEffect::Weight(-50));
    give(&mut world, 0, CheckOutcome::Failed);
    let since = world.now;
    give(&mut world, 0, CheckOutcome::Failed);
    world.run(ms(11));
    let sent = world.sent_by(0, since);
    assert!(sent.iter().any(|sent| sent.priority.0 == 150), "{sent:?}");
    assert!(
        world.told(0, since).iter().any(|kind| {
            matches!(kind, EventKind::PriorityChanged { from, to, .. } if (from.0, to.0) == (200, 150))
        })
    );
    world.run(ms(340));
    assert_eq!(world.owner(), Some(1), "180 is more than 150");
    world.run(secs(1));
    give(&mut world, 0, PASSED);
    give(&mut world, 0, PASSED);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn a_sick_owner_stays_where_the_other_is_no_better() {
    let mut world = healthy(CheckEffect::Weight(-50));
    for host in [0, 1, 0, 1] {
        give(&mut world, host, CheckOutcome::Failed);
    }
    let since = world.now;
    world.run(secs(10));
    assert_eq!(world.owner(), Some(0), "150 is more than 130");
    assert!(world.told(1, since).iter().all(|kind| !matches!(kind, EventKind::Transition { .. })));
}

#[test]
fn weights_stay_within_the_priorities_of_the_standard() {
    for (effect, expected) in [(CheckEffect::Weight(253), 254), (CheckEffect::Number, 1)] {
        let mut world = world([checked(200, effect)]);
        give(&mut world, 0, CheckOutcome::Passed(Some(-253)));
        world.run(secs(1));
        let sent = world.sent_by(0, 0);
        assert!(sent.last().is_some_and(|sent| sent.priority.0 == expected), "{sent:?}");
    }
}

pub fn lag(when_alone: bool) -> CheckEffect {
    CheckEffect::Lag { max_lag: 1_000, weight: 100, when_alone, fault: false }
}

#[test]
fn of_two_standbys_the_one_with_the_least_lag_wins() {
    // The configured priorities speak for the second.
    for (first, second, winner) in [(10, 800, 1), (800, 10, 2), (300, 600, 1)] {
        let mut world = world([vip(254), checked(100, lag(false)), checked(101, lag(false))]);
        give(&mut world, 1, CheckOutcome::Passed(Some(first)));
        give(&mut world, 2, CheckOutcome::Passed(Some(second)));
        world.run(secs(1));
        assert_eq!(world.owner(), Some(0));
        world.kill(0);
        world.run(secs(1));
        assert_eq!(world.owner(), Some(winner), "{first} and {second}");
    }
}

#[test]
fn a_stale_standby_claims_only_alone_and_only_where_the_policy_allows_it() {
    for when_alone in [false, true] {
        let mut world = world([vip(200), checked(100, lag(when_alone))]);
        give(&mut world, 1, CheckOutcome::Passed(Some(1_001)));
        world.run(secs(1));
        assert_eq!(world.owner(), Some(0));
        world.kill(0);
        world.run(secs(5));
        assert_eq!(world.owner(), when_alone.then_some(1), "{when_alone}");
        if when_alone {
            assert!(world.sent_by(1, 0).iter().all(|sent| sent.priority.0 == 1));
            continue;
        }
        // It has caught up; `rise` is 2.
        give(&mut world, 1, CheckOutcome::Passed(Some(5)));
        give(&mut world, 1, CheckOutcome::Passed(Some(5)));
        world.run(secs(1));
        assert_eq!(world.owner(), Some(1));
    }
}

#[test]
fn a_flapping_service_keeps_its_host_out_for_longer_each_time() {
    let mut world = healthy(CheckEffect::Fault);
    let start = world.now;
    for step in 0..600 {
        // Two seconds well, two seconds ill, four results a second.
        let outcome = if step / 8 % 2 == 0 { CheckOutcome::Failed } else { PASSED };
        give(&mut world, 0, outcome);
        world.run(ms(250));
    }
    let faults = world.told(0, start).iter().filter(|kind| matches!(kind, EventKind::CheckFails { .. })).count();
    assert!((3..=8).contains(&faults), "{faults} moves in 150 s, of 37 flaps");
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn a_check_that_a_reload_adds_moves_nothing_until_it_fails() {
    let mut world = world([vip(200), vip(100)]);
    world.run(secs(1));
    let mut settings = world.hosts[0].spec.settings.clone();
    settings.vips = vec![VipSettings { preempt: Preempt::On, ..checked(200, CheckEffect::Fault) }];
    world.reload(0, settings);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0));
    give(&mut world, 0, CheckOutcome::Failed);
    give(&mut world, 0, CheckOutcome::Unable);
    world.run(ms(100));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn a_lag_that_nobody_knows_is_a_fault_where_that_is_wanted() {
    for (fault, state) in [(false, StateName::Active), (true, StateName::Initialize)] {
        let effect = CheckEffect::Lag { max_lag: 1_000, weight: 100, when_alone: false, fault };
        let mut world = world([checked(200, effect)]);
        give(&mut world, 0, CheckOutcome::Passed(Some(0)));
        world.run(secs(1));
        assert_eq!(world.owner(), Some(0));
        give(&mut world, 0, CheckOutcome::Failed);
        give(&mut world, 0, CheckOutcome::Failed);
        world.run(secs(1));
        assert_eq!(world.state(0), state, "{fault}");
    }
}

#[test]
fn a_number_that_swings_moves_the_address_ever_less_often() {
    let mut world = healthy(CheckEffect::Number);
    let start = world.now;
    for step in 0..600 {
        let number = if step / 8 % 2 == 0 { -100 } else { 0 };
        give(&mut world, 0, CheckOutcome::Passed(Some(number)));
        world.run(ms(250));
    }
    let moves = world.told(0, start).iter().filter(|kind| matches!(kind, EventKind::PriorityChanged { .. })).count();
    assert!((5..=14).contains(&moves), "{moves} changes in 150 s, of 75 swings");
}

/// Safety first: whatever checks say and hosts suffer, never two owners. Then all is well again, and the best one owns.
#[test]
fn no_seed_of_results_makes_two_owners_and_the_best_owns_in_the_end() {
    // Three hosts each, and six minutes.
    let seeds = seeds::number(20, 100);
    let Some(moves) = seeds::each("no_seed_of_results", seeds, of_results) else { return };
    let moves: usize = moves.into_iter().sum();
    assert!(moves as u64 > seeds * 3, "worlds in which nothing moves prove nothing: {moves}");
}

/// One world, and how often a host became the owner in it.
fn of_results(seed: u64, trace: bool) -> (Result<usize, String>, World) {
    let effects =
        [CheckEffect::Fault, CheckEffect::Weight(-120), CheckEffect::Weight(60), CheckEffect::Number, lag(true)];
    let effect = effects[usize::try_from(seed).unwrap() % effects.len()];
    let hosts = (0..).zip([200, 150, 100]).map(|(place, priority)| host(place, vec![checked(priority, effect)]));
    let mut world = World::new(seed, Network::quiet(), hosts.collect());
    world.trace = trace.then(Vec::new);
    world.start_all();
    for _ in 0..60 {
        let at = world.rng.index(3);
        match world.rng.within(0, 9) {
            0 => world.freeze(at),
            1 if world.hosts[at].life == Life::Frozen => world.thaw(at),
            1 => world.crash(at),
            2 if matches!(world.hosts[at].life, Life::Crashed | Life::Stopped) => world.start(at),
            2 | 3 => say(&mut world, at, CheckOutcome::Failed),
            4 => say(&mut world, at, CheckOutcome::Unable),
            5 => {
                let number = i64::try_from(world.rng.within(0, 1_500)).unwrap() - 200;
                say(&mut world, at, CheckOutcome::Passed(Some(number)));
            }
            _ => say(&mut world, at, CheckOutcome::Passed(Some(0))),
        }
        let pause = world.rng.within(0, 900_000_000);
        world.run_unchecked(pause);
        if let Some(violation) = &world.watch.violation {
            return (Err(violation.clone()), world);
        }
    }
    for at in 0..3 {
        match world.hosts[at].life {
            Life::Frozen => world.thaw(at),
            Life::Crashed | Life::Stopped => world.start(at),
            Life::Running => {}
        }
    }
    // Longer than what can have failed in such a time is held for.
    for _ in 0..35 {
        world.run_unchecked(10_000_000_000);
        (0..3).for_each(|at| say(&mut world, at, CheckOutcome::Passed(Some(0))));
    }
    world.run_unchecked(3_000_000_000);
    let moved = |kind: &&EventKind| matches!(kind, EventKind::Transition { to: StateName::Active, .. });
    let moves = (0..3).map(|at| world.told(at, 0).iter().filter(|kind| moved(kind)).count()).sum();
    let result = match (&world.watch.violation, world.owner()) {
        (Some(violation), _) => Err(violation.clone()),
        (None, Some(0)) => Ok(moves),
        (None, owner) => Err(format!("all is well, and the owner is {owner:?}")),
    };
    (result, world)
}

/// Only an agent that runs hears of a result.
fn say(world: &mut World, host: Port, outcome: CheckOutcome) {
    if world.hosts[host].life == Life::Running {
        give(world, host, outcome);
    }
}
