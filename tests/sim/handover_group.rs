//! Handovers of a group: all of it moves in one step, or nothing does.

use std::time::Duration;

use vipd::engine::{
    Cause, EventKind, HandoverDone, HandoverFailure, HandoverOrder, Hold, HoldReason, HookSettings, Input, Moment,
    OnHookFailure, Preempt, RequestId, StateName, VipSettings,
};
use vipd::types::Priority;
use vipd::wire::handover::{HandoverReason, HandoverStep, Refusal};

use super::build::{interval, ms, secs};
use super::clock::{Clock, MICROSECOND, MILLISECOND, Nanos, nanos};
use super::group::{cause_of, gateway, group, owners, sides, states};
use super::handover::assert_seamless;
use super::host::HostSpec;
use super::network::{Network, Port};
use super::second_path::HEARTBEAT;
use super::voters::{WITNESS, Witness, quorum};
use super::world::{World, vip_id};

/// How long a host may have one of two only: the gates of an owner are closed, and those of a successor opened, one after the other.
const TORN: Nanos = MICROSECOND;

fn spec(place: u8, vips: Vec<VipSettings>) -> HostSpec {
    let mut spec = gateway(place, vips);
    spec.settings.heartbeat = Some(HEARTBEAT);
    spec
}

fn paced(every: u16, priority: u8) -> Vec<VipSettings> {
    sides(priority).into_iter().map(|side| VipSettings { interval: interval(every), ..side }).collect()
}

fn settled(every: u16, specs: Vec<HostSpec>) -> World {
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    world.run(5 * interval(every).duration() + secs(2));
    assert_eq!(owners(&world), [Some(0); 2]);
    world.watch.forget_silence();
    world.watch.together = Some((2, TORN));
    world
}

/// Gateways of these priorities, of which the first owns both sides.
fn world(every: u16, priorities: &[u8]) -> World {
    settled(every, (0..).zip(priorities).map(|(place, priority)| spec(place, paced(every, *priority))).collect())
}

fn order_of(world: &mut World, host: Port, vip: usize, to: Option<&str>, dry_run: bool) {
    let order = HandoverOrder { to: to.map(Into::into), reason: HandoverReason::Operator, dry_run };
    world.input(host, Input::HandOver { vip: vip_id(vip), request: RequestId(7), order });
}

fn drain(world: &mut World, host: Port, vip: Option<usize>) {
    let hold = Hold { reason: HoldReason::Drained, until: None };
    world.input(host, Input::Hold { vip: vip.map(vip_id), hold });
}

fn takes_over(peer: &str, reason: HandoverReason) -> Cause {
    Cause::TakesOver { peer: peer.into(), reason }
}

/// Both went to a host, from another, within one message each.
fn assert_moved(world: &World, from: Port, to: Port, reason: HandoverReason, what: &str) {
    assert_eq!(owners(world), [Some(to); 2], "{what}");
    for vip in 0..2 {
        assert_eq!(cause_of(world, to, vip), takes_over(&format!("host {from}"), reason), "{what}");
    }
    let claims = [0, 1].map(|vip| world.hosts[to].agent[vip].claimed.clone().expect("it claimed").0);
    assert_eq!(claims[0], claims[1], "{what}: in one step");
    let short = |kind: &&&EventKind| matches!(kind, EventKind::TookOver { away: Some(away) } if *away <= ms(1));
    assert!(world.told(to, 0).iter().filter(short).count() >= 2, "{what}");
    assert_seamless(world, what);
}

fn nothing_prepared(world: &World, host: Port) -> bool {
    world.hosts[host].kernel.iter().all(|kernel| kernel.installed.is_empty())
}

#[test]
fn a_stop_a_drain_and_an_order_for_any_member_move_all_within_one_message_at_any_interval() {
    for every in [10, 100, 1_000, 40_000] {
        for (reason, vip) in [
            (HandoverReason::Stop, 0),
            (HandoverReason::Drain, 0),
            (HandoverReason::Operator, 0),
            (HandoverReason::Operator, 1),
        ] {
            let mut world = world(every, &[200, 100]);
            let what = format!("{reason:?} by the vip {vip}, adverts each {every} ms");
            match reason {
                HandoverReason::Stop => world.stop(0),
                HandoverReason::Drain => drain(&mut world, 0, None),
                _ => order_of(&mut world, 0, vip, None, false),
            }
            world.run(ms(3));
            assert_moved(&world, 0, 1, reason, &what);
            if reason == HandoverReason::Operator {
                let [(_, 0, Ok(HandoverDone { peer, gap: Some(gap) }))] = world.outcomes.as_slice() else {
                    panic!("{what}: one order has one outcome: {:?}", world.outcomes)
                };
                assert!(peer == "host 1" && *gap <= ms(1), "{what}: {gap:?}");
            }
            assert!(!world.hosts[0].engine.as_ref().expect("it is there").hands_over(), "{what}");
            world.run(6 * interval(every).duration());
            assert_eq!(owners(&world), [Some(1); 2], "{what}: they stay there");
            assert!(!world.sent.iter().any(|sent| sent.priority == Priority::RESIGN), "{what}: nobody is invited");
        }
    }
}

#[test]
fn a_drain_of_one_takes_all_and_a_release_brings_all_back() {
    let mut world = world(100, &[200, 100]);
    drain(&mut world, 0, Some(1));
    world.run(ms(3));
    assert_moved(&world, 0, 1, HandoverReason::Drain, "one is drained");
    assert_eq!(states(&world, 0), [StateName::Initialize, StateName::Held]);
    world.input(0, Input::Release { vip: Some(vip_id(1)) });
    world.run(secs(2));
    assert_moved(&world, 1, 0, HandoverReason::Preempt, "one is released");
}

#[test]
fn a_release_of_one_while_the_successor_is_asked_leaves_the_drain_of_the_other_whole() {
    let hook = HookSettings { moment: Moment::BeforeRelease, on_failure: OnHookFailure::Ignore };
    for each_alone in [true, false] {
        let hooked = |side| VipSettings { hooks: vec![hook], ..side };
        let spec = |place, priority| spec(place, paced(100, priority).into_iter().map(hooked).collect());
        let mut world = World::new(1, Network::quiet(), vec![spec(0, 200), spec(1, 100)]);
        world.hook_time = nanos(secs(2));
        world.start_all();
        world.run(secs(5));
        world.watch.forget_silence();
        world.watch.together = Some((2, TORN));
        if each_alone {
            drain(&mut world, 0, Some(0));
            drain(&mut world, 0, Some(1));
        } else {
            drain(&mut world, 0, None);
        }
        world.run(secs(1));
        world.input(0, Input::Release { vip: Some(vip_id(0)) });
        world.run(ms(990));
        assert_eq!(owners(&world), [Some(0); 2], "the hooks have not ended");
        world.run(ms(20));
        assert_moved(&world, 0, 1, HandoverReason::Drain, "one of two is released");
        assert_eq!(states(&world, 0), [StateName::Initialize, StateName::Held]);
        let told = world.hooked.iter().filter(|(_, by, moment)| (*by, *moment) == (0, Moment::BeforeRelease)).count();
        assert_eq!(told, 2, "each hook is run, and once");
    }
}

#[test]
fn a_release_of_the_only_one_that_is_drained_keeps_all() {
    let mut world = world(100, &[200, 100]);
    // Its word cannot come.
    world.freeze(1);
    drain(&mut world, 0, Some(1));
    world.run(ms(50));
    world.input(0, Input::Release { vip: Some(vip_id(1)) });
    assert!(!world.hosts[0].engine.as_ref().expect("it is there").hands_over());
    world.run(secs(2));
    assert_eq!(owners(&world), [Some(0); 2]);
}

#[test]
fn a_preemption_moves_all_at_once() {
    for every in [10, 100, 1_000] {
        for preempt in [Preempt::On, Preempt::After(secs(1))] {
            let mut world = world(every, &[200, 100]);
            for host in 0..2 {
                let mut settings = world.hosts[host].spec.settings.clone();
                settings.vips.iter_mut().for_each(|vip| vip.preempt = preempt);
                world.reload(host, settings);
            }
            world.stop(0);
            world.run(secs(1));
            world.start(0);
            world.run(8 * interval(every).duration() + secs(2));
            assert_moved(&world, 1, 0, HandoverReason::Preempt, &format!("{preempt:?}, each {every} ms"));
        }
    }
}

#[test]
fn an_operator_can_fetch_all_by_one() {
    for vip in 0..2 {
        let mut world = world(100, &[200, 100]);
        order_of(&mut world, 1, vip, Some("host 1"), false);
        world.run(ms(5));
        assert_moved(&world, 0, 1, HandoverReason::Operator, "fetched");
        assert!(matches!(world.outcomes.as_slice(), [(_, 1, Ok(done))] if done.peer == "host 0"));
        world.run(secs(10));
        assert_eq!(owners(&world), [Some(1); 2], "and it is left there");
    }
}

#[test]
fn a_question_for_one_is_a_question_for_all_and_moves_nothing() {
    let mut world = world(100, &[200, 100]);
    world.watch.settled = Some(vec![0, 0]);
    order_of(&mut world, 0, 1, None, true);
    world.run(ms(5));
    assert!(matches!(world.outcomes.as_slice(), [(_, 0, Ok(done))] if done.peer == "host 1" && done.gap.is_none()));
    assert!(nothing_prepared(&world, 1));
    // It would not have both.
    world.hosts[1].refusals = 1;
    order_of(&mut world, 0, 0, None, true);
    world.run(ms(5));
    let refused = HandoverFailure::Refused { peer: "host 1".into(), refusal: Refusal::NotInstalled };
    assert_eq!(world.outcomes.pop().map(|(_, _, outcome)| outcome), Some(Err(refused)));
    assert!(nothing_prepared(&world, 1));
}

#[test]
fn nothing_moves_where_the_successor_is_not_ready_for_one() {
    let mut world = world(100, &[200, 100]);
    world.watch.settled = Some(vec![0, 0]);
    // Its kernel takes the addresses of one only.
    world.hosts[1].refusals = 1;
    order_of(&mut world, 0, 0, None, false);
    world.run(ms(50));
    let refused = HandoverFailure::Refused { peer: "host 1".into(), refusal: Refusal::NotInstalled };
    assert_eq!(world.outcomes.pop().map(|(_, _, outcome)| outcome), Some(Err(refused)));
    assert!(nothing_prepared(&world, 1));
    let failed = |kind: &&&EventKind| matches!(kind, EventKind::HandoverFailed { .. });
    assert_eq!(world.told(0, 0).iter().filter(failed).count(), 2, "each of them was to move");
    world.run(secs(5));

    // It takes part on one side only.
    drain(&mut world, 1, Some(1));
    world.run(ms(50));
    for to in [Some("host 1"), None] {
        order_of(&mut world, 0, 0, to, false);
        world.run(ms(1));
        let expected = match to {
            Some(peer) => HandoverFailure::Refused { peer: peer.into(), refusal: Refusal::NotListening },
            None => HandoverFailure::NoSuccessor,
        };
        assert_eq!(world.outcomes.pop().map(|(_, _, outcome)| outcome), Some(Err(expected)));
    }
    world.run(secs(5));
}

#[test]
fn of_several_the_best_that_is_ready_for_all_has_all() {
    let mut world = world(1_000, &[200, 50, 150, 100]);
    world.hosts[2].refusals = 1;
    order_of(&mut world, 0, 0, None, false);
    world.run(ms(10));
    assert_moved(&world, 0, 3, HandoverReason::Operator, "the kernel of the best refuses one");
    assert!(nothing_prepared(&world, 2));
}

#[test]
fn a_stop_and_a_drain_of_what_nobody_takes_follow_the_standard() {
    for reason in [HandoverReason::Stop, HandoverReason::Drain] {
        let mut world = world(100, &[200, 100]);
        // A dead host's vips go one after the other.
        world.watch.together = None;
        world.hosts[1].refusals = 1;
        match reason {
            HandoverReason::Stop => world.stop(0),
            _ => drain(&mut world, 0, None),
        }
        world.run(secs(1));
        assert_eq!(owners(&world), [Some(1); 2], "{reason:?}");
        let cause = cause_of(&world, 1, 0);
        assert!(matches!(cause, Cause::GivenUp { .. }), "{reason:?}: {cause}");
        assert_eq!(world.watch.overlapped, 0);
    }
}

#[test]
fn an_operator_who_lets_one_stay_lets_all_stay() {
    let mut world = world(100, &[200, 100]);
    world.watch.settled = Some(vec![0, 0]);
    world.freeze(1);
    order_of(&mut world, 0, 0, None, false);
    world.run(ms(50));
    world.input(0, Input::Release { vip: Some(vip_id(1)) });
    assert!(!world.hosts[0].engine.as_ref().expect("it is there").hands_over());
    world.run(ms(50));
    world.thaw(1);
    world.run(secs(5));
    assert!(matches!(world.outcomes.as_slice(), [(_, 0, Err(HandoverFailure::Overtaken))]));
    assert!(nothing_prepared(&world, 1));
}

#[test]
fn a_stop_goes_on_with_what_an_operator_began() {
    let mut world = world(100, &[200, 100]);
    world.freeze(1);
    order_of(&mut world, 0, 0, None, true);
    world.run(ms(50));
    world.stop(0);
    world.run(ms(50));
    assert!(matches!(world.outcomes.as_slice(), [(_, 0, Err(HandoverFailure::Overtaken))]));
    assert_eq!(owners(&world), [Some(0); 2]);
    world.thaw(1);
    world.run(ms(100));
    assert_eq!(owners(&world), [Some(1); 2]);
    assert_eq!(cause_of(&world, 1, 1), takes_over("host 0", HandoverReason::Stop));
}

#[test]
fn one_that_is_lost_while_the_successor_is_asked_ends_it_for_all() {
    let mut world = world(100, &[200, 100]);
    world.watch.together = Some((2, super::group::TORN_ALIVE));
    world.freeze(1);
    order_of(&mut world, 0, 0, None, false);
    world.run(ms(50));
    world.set_link(0, super::group::OUTSIDE, false);
    world.run(ms(5));
    assert_eq!(states(&world, 0), [StateName::Initialize; 2]);
    assert!(matches!(world.outcomes.as_slice(), [(_, 0, Err(HandoverFailure::Overtaken))]));
    world.thaw(1);
    world.run(secs(1));
    assert_eq!(owners(&world), [Some(1); 2]);
    assert_eq!(world.watch.overlapped, 0);
}

#[test]
fn words_that_are_lost_tear_no_group() {
    // What follows any of the messages is lost, in either direction.
    for after in 0..12 {
        let mut world = world(100, &[200, 100]);
        order_of(&mut world, 0, 0, None, false);
        for _ in 0..400 {
            if world.said.len() > after {
                break;
            }
            world.run(Duration::from_micros(10));
        }
        world.second.cut(0, 1);
        world.second.cut(1, 0);
        world.run(ms(2));
        world.second.heal();
        world.run(ms(400));
        let at = owners(&world);
        assert!(at == [Some(0); 2] || at == [Some(1); 2], "after {after} messages: {at:?}");
        assert_eq!(world.watch.overlapped, 0, "after {after} messages");
    }
}

#[test]
fn a_node_that_has_them_in_a_group_takes_none_alone_from_one_that_has_not() {
    let mut specs = vec![spec(0, sides(200)), spec(1, sides(100))];
    specs[0].settings.groups.clear();
    let mut world = settled(100, specs);
    world.watch.settled = Some(vec![0, 0]);
    order_of(&mut world, 0, 0, None, false);
    world.run(ms(200));
    let refused = HandoverFailure::Refused { peer: "host 1".into(), refusal: Refusal::InGroup };
    assert_eq!(world.outcomes.pop().map(|(_, _, outcome)| outcome), Some(Err(refused)));
    assert!(nothing_prepared(&world, 1));
    // All at once it takes.
    world.watch.settled = None;
    world.stop(0);
    world.run(ms(5));
    assert_moved(&world, 0, 1, HandoverReason::Stop, "both are given");
}

#[test]
fn a_node_that_has_them_alone_takes_both_from_one_that_has_them_in_a_group() {
    let mut specs = vec![spec(0, sides(200)), spec(1, sides(100))];
    specs[1].settings.groups.clear();
    let mut world = settled(100, specs);
    // It takes each as it is told, and the words for the two travel on their own.
    world.watch.together = Some((2, MILLISECOND / 2));
    order_of(&mut world, 0, 1, None, false);
    world.run(ms(5));
    assert_eq!(owners(&world), [Some(1); 2]);
    assert_eq!(world.watch.overlapped, 0);
}

#[test]
fn a_group_that_new_settings_change_stays() {
    let mut world = world(100, &[200, 100]);
    world.watch.settled = Some(vec![0, 0]);
    world.freeze(1);
    order_of(&mut world, 0, 0, None, false);
    world.run(ms(50));
    let mut settings = world.hosts[0].spec.settings.clone();
    settings.groups.clear();
    world.reload(0, settings.clone());
    world.run(ms(1));
    assert!(matches!(world.outcomes.as_slice(), [(_, 0, Err(HandoverFailure::Overtaken))]), "{:?}", world.outcomes);
    settings.groups = group();
    world.reload(0, settings);
    world.thaw(1);
    world.run(secs(10));
}

#[test]
fn where_nothing_keeps_prepared_addresses_silent_both_come_after_both_went() {
    let mut world = world(100, &[200, 100]);
    world.gate = false;
    world.watch.together = None;
    world.stop(0);
    world.run(ms(5));
    assert_eq!(owners(&world), [Some(1); 2]);
    assert_eq!(cause_of(&world, 1, 1), takes_over("host 0", HandoverReason::Stop));
    assert_eq!(world.watch.overlapped, 0);
}

#[test]
fn the_voters_grant_all_that_is_handed_over() {
    let voting = |place: u8, priority| {
        let mut spec = spec(place, sides(priority));
        spec.settings.quorum = Some(quorum(usize::from(place), 2, true, secs(3)));
        spec
    };
    let mut world = World::new(1, Network::quiet(), vec![voting(0, 200), voting(1, 100)]);
    world.watch.exclusive = true;
    world.witness = Some(Witness { clock: Clock { offset: 99, ppm: 0 }, longest_grant: secs(3), voter: None });
    world.start_witness();
    world.start_all();
    world.run(secs(8));
    assert_eq!(owners(&world), [Some(0); 2]);
    assert!(world.hosts.len() < WITNESS);
    world.watch.forget_silence();
    order_of(&mut world, 0, 0, None, false);
    world.run(ms(40));
    assert_eq!(owners(&world), [Some(1); 2]);
    assert_eq!(cause_of(&world, 1, 1), takes_over("host 0", HandoverReason::Operator));
    assert!(world.said.iter().any(|(_, by, step)| (*by, *step) == (1, HandoverStep::Taken)));
    let gap = world.watch.longest_silence(world.now);
    assert!(gap <= 15 * MILLISECOND, "nobody answered for {gap} ns");
}
