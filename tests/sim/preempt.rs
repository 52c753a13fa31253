//! Whether and when a healthy owner of lower priority is replaced.

use std::time::Duration;

use vipd::engine::silence::LONGEST_WAIT;
use vipd::engine::summons::{FIRST_ROUND, ROUND};
use vipd::engine::{Cause, EventKind, Preempt, StateName, VipSettings};

use super::build::{interval, ms, secs, vip, world};
use super::world::World;

/// The second owns, the first comes back.
fn returning(preempt: Preempt) -> World {
    let mut world = world([VipSettings { preempt, ..vip(200) }, vip(100)]);
    world.run(secs(1));
    world.kill(0);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(1));
    world.start(0);
    world
}

#[test]
fn preemption_waits_for_a_silence_that_would_be_noticed() {
    let mut world = returning(Preempt::On);
    world.run(ms(320));
    assert_eq!(world.owner(), Some(1));
    world.run(ms(3));
    assert_eq!(world.owner(), Some(0));
    assert!(world.told(0, 0).iter().any(|kind| {
        matches!(kind, EventKind::Transition { cause: Cause::Preempts { priority, .. }, .. } if priority.0 == 100)
    }));
    assert!(matches!(world.cause(1), Cause::PeerWins { .. }));
}

/// The second owns, the first is back, and it is a while before that one's timer runs out. At 254 the skew time is next to nothing.
fn before_preemption(every: u16) -> World {
    let mut world = world([254, 100].map(|priority| VipSettings { interval: interval(every), ..vip(priority) }));
    world.run(ms(10 * u64::from(every)));
    world.stop(0);
    world.run(ms(10 * u64::from(every)));
    world.start(0);
    world.run(ms(2 * u64::from(every)));
    assert_eq!((world.owner(), world.state(0)), (Some(1), StateName::Backup));
    world
}

#[test]
fn a_healthy_owner_yields_first_and_nobody_answers_for_a_moment_only() {
    for every in [10, 100, 1_000] {
        let mut world = before_preemption(every);
        world.watch.forget_silence();
        world.run(ms(2 * u64::from(every)));
        assert_eq!((world.owner(), world.watch.overlapped), (Some(0), 0), "each {every} ms");
        let silence = world.watch.longest_silence(world.now);
        assert!(silence > 0 && silence < 2_000_000, "{silence} ns, each {every} ms");
    }
}

/// Whenever its agent freezes or dies: until its lease lapses it answers, and nobody else.
#[test]
fn an_owner_that_is_lost_as_it_is_preempted_never_answers_with_its_successor() {
    for every in [10, 100, 1_000] {
        for freezes in [false, true] {
            for step in 0..120 {
                let mut world = before_preemption(every);
                world.run(Duration::from_millis(u64::from(every)) * step / 100);
                if freezes {
                    world.freeze(1);
                } else {
                    world.crash(1);
                }
                world.run(ms(4 * u64::from(every)) + FIRST_ROUND + ROUND * 3);
                let what = format!("step {step}, adverts each {every} ms, it freezes: {freezes}");
                assert_eq!((world.owner(), world.watch.overlapped), (Some(0), 0), "{what}");
                world.thaw(1);
                world.run(ms(10 * u64::from(every)));
                assert_eq!((world.owner(), world.watch.overlapped), (Some(0), 0), "{what}");
            }
        }
    }
}

/// A paused virtual machine answers nothing; it goes on within its lease, or after it.
#[test]
fn an_owner_whose_host_stands_still_as_it_is_preempted_never_answers_with_its_successor() {
    for every in [10, 100, 1_000] {
        for step in 0..120 {
            for pause in [30, 100, 250, 400] {
                let mut world = before_preemption(every);
                world.run(Duration::from_millis(u64::from(every)) * step / 100);
                world.freeze_host(1);
                world.run(Duration::from_millis(u64::from(every)) * pause / 100);
                world.thaw(1);
                world.run(ms(10 * u64::from(every)));
                let what = format!("step {step}, adverts each {every} ms, it stands still for {pause} % of that");
                assert_eq!((world.owner(), world.watch.overlapped), (Some(0), 0), "{what}");
            }
        }
    }
}

#[test]
fn an_owner_whose_host_dies_as_it_is_preempted_is_succeeded_when_its_lease_has_lapsed() {
    let mut world = before_preemption(1_000);
    while world.sent_by(0, 0).last().is_none_or(|sent| sent.at + 2_000_000_000 < world.now) {
        world.run(Duration::from_micros(10));
    }
    world.watch.forget_silence();
    world.kill(1);
    world.run(secs(4));
    assert_eq!(world.owner(), Some(0));
    let silence = world.watch.longest_silence(world.now);
    assert!((2_000_000_000..3_050_000_000).contains(&silence), "{silence} ns");
}

/// Whoever tells an owner to yield is heard as an owner, and may be gone before it is one. Its interval may be a shorter one.
#[test]
fn the_lease_of_an_owner_that_stands_still_is_waited_for_when_who_preempted_it_is_gone() {
    for third in [50, 150] {
        let of = |every, priority| VipSettings { interval: interval(every), ..vip(priority) };
        let mut world = world([of(100, 200), of(1_000, 100), of(100, third)]);
        world.stop(0);
        world.stop(2);
        world.run(secs(5));
        assert_eq!(world.owner(), Some(1));
        world.start(2);
        world.start(0);
        let began = world.now;
        while world.sent_by(0, began).is_empty() && world.sent_by(2, began).is_empty() {
            world.run(Duration::from_micros(10));
        }
        world.freeze_host(1);
        world.run(ms(50));
        let first = if world.sent_by(0, began).is_empty() { 2 } else { 0 };
        world.kill(first);
        world.run(secs(10));
        assert_eq!((world.owner(), world.watch.overlapped), (Some(2 - first), 0), "third: {third}");
        world.thaw(1);
        world.run(secs(5));
    }
}

/// The second and the third own, for they do not hear each other; the first hears both, and is the best.
fn before_preemption_of_two() -> World {
    let mut world = world([254, 100, 150].map(vip));
    world.stop(0);
    world.part(1, 2);
    world.run(secs(1));
    assert_eq!([1, 2].map(|host| world.state(host)), [StateName::Active; 2]);
    world.start(0);
    world
}

#[test]
fn two_that_own_without_hearing_each_other_yield_to_one_that_hears_both() {
    let mut world = before_preemption_of_two();
    world.run(ms(310));
    assert_eq!([0, 1, 2].map(|host| world.state(host).is_owner()), [true, false, false]);
    let yielded = world.now;
    world.run(secs(5));
    assert_eq!(world.owner(), Some(0));
    assert!(world.told(0, yielded).is_empty(), "{:?}", world.told(0, yielded));
}

/// The lease of one that dies runs on, whatever the other one says and does: it yields, or its agent stops.
#[test]
fn an_owner_that_dies_is_waited_for_though_another_yields_or_resigns() {
    type Act = fn(&mut World, usize);
    let deaths: [(&str, Act); 2] = [("crash", World::crash), ("freeze", World::freeze_host)];
    // It has heard each of them by the first, and tells them to yield after 301 ms.
    let moments = (105_000..350_000).step_by(5_000).chain((300_900..302_500).step_by(20));
    for moment in moments.map(Duration::from_micros) {
        for (name, die, dies) in deaths.iter().flat_map(|(name, die)| [(name, die, 1), (name, die, 2)]) {
            for stops in [false, true] {
                let mut world = before_preemption_of_two();
                world.run(moment);
                die(&mut world, dies);
                if stops {
                    world.stop(3 - dies);
                }
                world.run(ms(650));
                let (owner, other_owns) = (world.owner(), world.state(3 - dies).is_owner());
                let what = format!("{name} of {dies} at {moment:?}, the other one stops: {stops}");
                assert_eq!((owner, other_owns), (Some(0), false), "{what}");
            }
        }
    }
}

/// A kernel without the gate lets a dead agent's addresses answer for ever: whoever would have them waits as for any silent owner.
#[test]
fn a_preempted_owner_that_dies_where_no_lease_is_enforced_is_waited_for() {
    let mut world = before_preemption(100);
    world.gate = false;
    world.crash(1);
    world.run(ms(500));
    let engine = world.hosts[0].engine.as_ref().expect("it runs");
    assert!(engine.vips()[0].silent_owner().is_some(), "{:?}", engine.vips()[0].cause());
    assert_eq!(world.owner(), Some(1));
    world.run(LONGEST_WAIT);
    assert_eq!(world.state(0), StateName::Active);
}

/// Each takes the other's advert for an owner's; were both to stand back, nobody would own.
#[test]
fn two_equals_that_preempt_together_leave_one_that_does() {
    let mut world = world([200, 200, 100].map(vip));
    for host in [0, 1] {
        world.stop(host);
    }
    world.run(secs(1));
    assert_eq!(world.owner(), Some(2));
    for host in [0, 1] {
        world.start(host);
    }
    world.watch.forget_silence();
    world.run(ms(400));
    assert_eq!((world.owner(), world.watch.overlapped), (Some(1), 0));
    assert!(world.watch.longest_silence(world.now) < 30_000_000, "{} ns", world.watch.longest_silence(world.now));
}

/// RFC 9568 §6.4.2: it claims by its own timer, whatever it hears.
#[test]
fn an_owner_that_does_not_hear_is_preempted_after_all() {
    let mut world = before_preemption(100);
    world.watch.forgiving = true;
    world.network.filter(0, 1);
    world.run(ms(400));
    assert_eq!((world.owner(), world.state(0)), (Some(1), StateName::Backup));
    world.run(ms(120));
    assert_eq!(world.state(0), StateName::Active);
}

#[test]
fn no_preemption_leaves_a_healthy_owner_alone_and_replaces_a_dead_one() {
    let mut world = returning(Preempt::Off);
    world.run(secs(600));
    assert_eq!(world.owner(), Some(1));
    assert_eq!(world.state(0), StateName::Backup);
    world.kill(1);
    world.run(ms(330));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn no_preemption_takes_a_resignation() {
    let mut world = returning(Preempt::Off);
    world.run(secs(2));
    world.stop(1);
    world.run(ms(23));
    assert_eq!(world.owner(), Some(0));
}

#[test]
fn delayed_preemption_comes_after_the_delay_and_not_before() {
    let mut world = returning(Preempt::After(secs(30)));
    let started_at = world.now;
    world.run(secs(30));
    assert_eq!(world.owner(), Some(1));
    world.run(ms(201));
    assert_eq!(world.owner(), Some(0));
    let claimed_at = world.hosts[0].agent[0].claimed.as_ref().map(|(at, _)| at - started_at);
    assert!(claimed_at.is_some_and(|after| after >= 30_000_000_000));
}

#[test]
fn delayed_preemption_does_not_delay_the_replacement_of_a_dead_owner() {
    let mut world = returning(Preempt::After(secs(30)));
    world.run(secs(5));
    world.kill(1);
    world.run(ms(330));
    assert_eq!(world.owner(), Some(0));
    assert!(
        world.told(0, 0).iter().any(|kind| {
            matches!(kind, EventKind::Transition { cause: Cause::ActiveDown { silence: Some(_) }, .. })
        })
    );
}

#[test]
fn equal_priorities_do_not_preempt_each_other() {
    let mut world = world([vip(100), vip(100)]);
    world.stop(1);
    world.run(secs(2));
    world.start(1);
    world.run(secs(60));
    assert_eq!(world.owner(), Some(0), "though 10.0.0.2 is the larger address");
}

#[test]
fn two_owners_of_equal_priority_leave_the_larger_address() {
    let mut world = world([vip(100), vip(100)]);
    world.part(0, 1);
    world.run(secs(2));
    world.heal();
    world.run(ms(110));
    assert_eq!(world.owner(), Some(1));
}

#[test]
fn a_backup_learns_the_owners_interval() {
    let mut world = world([vip(200), VipSettings { interval: interval(10), ..vip(100) }]);
    world.run(secs(2));
    assert_eq!(world.owner(), Some(0));
    let settled_at = world.now;
    world.run(secs(20));
    assert!(world.sent_by(1, settled_at).is_empty(), "though its own patience would be 36 ms");
    let engine = world.hosts[1].engine.as_ref().expect("it runs");
    assert_eq!(engine.vips()[0].interval(), interval(100));
    world.kill(0);
    world.run(ms(362));
    assert_eq!(world.owner(), Some(1), "three of the owner's intervals and skew");
}

#[test]
fn a_new_owner_advertises_its_own_interval_and_the_others_learn_it() {
    let mut world = world([vip(200), VipSettings { interval: interval(10), ..vip(150) }, vip(100)]);
    world.run(secs(2));
    world.kill(0);
    let killed_at = world.now;
    world.run(secs(2));
    assert_eq!(world.owner(), Some(1));
    world.kill(1);
    world.run(ms(37));
    assert_eq!(world.owner(), Some(2), "three intervals of 10 ms and skew");
    let learned =
        world.told(2, killed_at).iter().filter(|kind| matches!(kind, EventKind::IntervalLearned { .. })).count();
    assert_eq!(learned, 1);
}
