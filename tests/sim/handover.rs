//! Handovers: nobody waits, nobody overlaps, and whatever breaks in between leaves one owner.

use vipd::engine::hook::RETRY_AFTER_VETO;
use vipd::engine::{
    Cause, EventKind, HandoverFailure, HandoverOrder, Hold, HoldReason, HookSettings, Input, Moment, OnHookFailure,
    Preempt, RequestId, StateName, VipSettings,
};
use vipd::types::{MacMode, Priority};
use vipd::wire::advert::ChecksumForm;
use vipd::wire::handover::{HandoverReason, HandoverStep, Refusal};

use super::build::{STRANGER, VIP_V4, advert, forge, host, interval, ms, secs, vip};
use super::clock::{MILLISECOND, Nanos, nanos};
use super::host::{AgentVip, HostSpec, KernelVip, Life, Wire};
use super::network::{Network, Port};
use super::second_path::HEARTBEAT;
use super::seeds;
use super::world::{World, vip_id};

const INTERVALS: [u16; 4] = [10, 100, 1_000, 40_000];

pub fn spec(place: u8, vip: VipSettings) -> HostSpec {
    let mut spec = host(place, vec![vip]);
    spec.settings.heartbeat = Some(HEARTBEAT);
    spec
}

/// Hosts with one vip each, an advert so often, of these priorities; the best is the owner.
fn world(every: u16, priorities: &[u8]) -> World {
    let vip = |priority| VipSettings { interval: interval(every), ..vip(priority) };
    let specs = (0..).zip(priorities).map(|(place, priority)| spec(place, vip(*priority)));
    let mut world = World::new(1, Network::quiet(), specs.collect());
    world.start_all();
    world.run(5 * interval(every).duration() + secs(2));
    world.watch.forget_silence();
    world
}

pub fn order(world: &mut World, host: Port, to: Option<&str>, dry_run: bool) {
    let order = HandoverOrder { to: to.map(Into::into), reason: HandoverReason::Operator, dry_run };
    world.input(host, Input::HandOver { vip: vip_id(0), request: RequestId(7), order });
}

pub fn drain(world: &mut World, host: Port) {
    let hold = Hold { reason: HoldReason::Drained, until: None };
    world.input(host, Input::Hold { vip: None, hold });
}

fn takes_over(peer: &str, reason: HandoverReason) -> Cause {
    Cause::TakesOver { peer: peer.into(), reason }
}

/// A way there, and what else takes time: a message and the kernel's gate.
const GAP: Nanos = MILLISECOND / 2;

pub fn assert_seamless(world: &World, what: &str) {
    assert_eq!(world.watch.overlapped, 0, "{what}");
    let gap = world.watch.longest_silence(world.now);
    assert!(gap <= GAP, "{what}: nobody answered for {gap} ns");
}

#[test]
fn a_stop_a_drain_and_an_order_hand_over_within_one_message_at_any_interval() {
    for every in INTERVALS {
        for reason in [HandoverReason::Stop, HandoverReason::Drain, HandoverReason::Operator] {
            let mut world = world(every, &[200, 100]);
            let what = format!("{reason:?}, adverts each {every} ms");
            match reason {
                HandoverReason::Stop => world.stop(0),
                HandoverReason::Drain => drain(&mut world, 0),
                _ => order(&mut world, 0, None, false),
            }
            world.run(ms(3));
            assert_eq!(world.owner(), Some(1), "{what}");
            assert_eq!(world.cause(1), takes_over("host 0", reason));
            assert_eq!(world.neighbours.believes(0, VIP_V4), Some(1), "{what}");
            assert!(!world.hosts[0].engine.as_ref().expect("it is there").hands_over(), "{what}");
            let away = |kind: &EventKind| matches!(kind, EventKind::TookOver { away: Some(away) } if *away <= ms(1));
            assert!(world.told(1, 0).into_iter().any(away), "{what}: how long the addresses were away is told");
            world.run(6 * interval(every).duration());
            assert_eq!(world.owner(), Some(1), "{what}: it stays there");
            assert_seamless(&world, &what);
            let resigned = |sent: &super::world::Sent| sent.priority == Priority::RESIGN;
            assert!(!world.sent.iter().any(resigned), "{what}: nobody is invited");
        }
    }
}

#[test]
fn a_preemption_is_a_handover() {
    for every in INTERVALS {
        for preempt in [Preempt::On, Preempt::After(secs(1))] {
            let vip = |priority| VipSettings { interval: interval(every), preempt, ..vip(priority) };
            let mut world = World::new(1, Network::quiet(), vec![spec(0, vip(200)), spec(1, vip(100))]);
            world.start(1);
            world.run(5 * interval(every).duration());
            assert_eq!(world.owner(), Some(1));
            world.watch.forget_silence();
            world.start(0);
            world.run(6 * interval(every).duration() + secs(2));
            assert_eq!(world.owner(), Some(0));
            assert_eq!(world.cause(0), takes_over("host 1", HandoverReason::Preempt));
            assert_seamless(&world, &format!("{preempt:?}, adverts each {every} ms"));
        }
    }
}

/// The owner is busy with one when the other asks.
#[test]
fn two_that_would_have_it_together_are_served_one_after_the_other() {
    for every in INTERVALS {
        let mut world = world(every, &[229, 227, 200]);
        // By the standard the owner's host is the only one that remains.
        world.crash(0);
        world.crash(1);
        world.run(8 * interval(every).duration() + secs(2));
        assert_eq!(world.owner(), Some(2));
        world.watch.forget_silence();
        world.start(1);
        world.start(0);
        world.run(6 * interval(every).duration() + secs(2));
        assert_eq!(world.owner(), Some(0));
        let cause = world.cause(0);
        assert!(matches!(cause, Cause::TakesOver { .. }), "adverts each {every} ms: {cause:?}");
        assert_seamless(&world, &format!("adverts each {every} ms"));
    }
}

#[test]
fn where_nothing_keeps_prepared_addresses_silent_they_come_after_the_owners_went() {
    for mac in [MacMode::Interface, MacMode::Virtual] {
        let mut world = world(100, &[200, 100]);
        world.gate = false;
        world.hosts.iter_mut().for_each(|host| host.spec.settings.vips[0].mac = mac);
        world.stop(0);
        world.run(ms(5));
        assert_eq!(world.owner(), Some(1));
        assert_eq!(world.cause(1), takes_over("host 0", HandoverReason::Stop));
        assert_eq!(world.watch.overlapped, 0);
    }
}

#[test]
fn of_several_the_best_that_is_ready_has_it() {
    let mut world = world(1_000, &[200, 50, 150, 100]);
    world.hosts[2].refusals = 1;
    order(&mut world, 0, None, false);
    world.run(ms(10));
    assert_eq!(world.owner(), Some(3), "the kernel of the best refuses");
    assert!(world.hosts[2].kernel[0].installed.is_empty());
    assert_seamless(&world, "the second best");
}

#[test]
fn a_question_moves_nothing_and_leaves_nothing() {
    let mut world = world(100, &[200, 100]);
    order(&mut world, 0, None, true);
    world.run(ms(5));
    assert!(matches!(world.outcomes.as_slice(), [(_, 0, Ok(done))] if done.peer == "host 1" && done.gap.is_none()));
    assert_eq!(world.owner(), Some(0));
    assert!(world.hosts[1].kernel[0].installed.is_empty());
}

#[test]
fn nothing_goes_to_a_node_that_cannot_have_it() {
    let mut world = world(100, &[200, 100, 50]);
    drain(&mut world, 1);
    world.set_wire(2, Wire::Down);
    world.run(ms(50));
    for (to, name) in [(Some("host 1"), "host 1"), (Some("host 2"), "host 2"), (Some("nobody"), "nobody"), (None, "")] {
        order(&mut world, 0, to, false);
        world.run(ms(1));
        let (_, _, outcome) = world.outcomes.pop().expect("an outcome");
        let peer = name.to_owned();
        let refused = HandoverFailure::Refused { peer: peer.clone(), refusal: Refusal::NotListening };
        let expected = match name {
            "nobody" => HandoverFailure::Unknown { peer },
            "" => HandoverFailure::NoSuccessor,
            _ => refused,
        };
        assert_eq!(outcome, Err(expected));
        assert_eq!(world.owner(), Some(0));
    }
    order(&mut world, 2, None, false);
    world.run(ms(1));
    assert!(matches!(world.outcomes.pop(), Some((_, 2, Err(HandoverFailure::NotOwner { .. })))));
    order(&mut world, 0, Some("host 0"), false);
    world.run(ms(1));
    assert!(matches!(world.outcomes.pop(), Some((_, 0, Err(HandoverFailure::OwnerAlready)))));
}

#[test]
fn what_an_operator_gave_away_is_not_taken_back_for_the_priority_but_when_it_is_lost() {
    let mut world = world(100, &[200, 100]);
    order(&mut world, 0, Some("host 1"), false);
    world.run(secs(30));
    assert_eq!(world.owner(), Some(1));
    assert_eq!(world.state(0), StateName::Backup);
    order(&mut world, 1, Some("host 0"), false);
    world.run(ms(5));
    assert_eq!(world.owner(), Some(0), "there and back");
    order(&mut world, 0, None, false);
    world.run(secs(1));
    world.kill(1);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
    world.start(1);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
    order(&mut world, 0, None, false);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(1));
    world.input(0, Input::Release { vip: None });
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0), "an operator who lets it take part again has it take part as ever");
}

#[test]
fn an_operator_can_fetch_it() {
    let mut world = world(100, &[200, 100]);
    order(&mut world, 1, Some("host 1"), false);
    world.run(ms(5));
    assert_eq!(world.owner(), Some(1));
    assert!(matches!(world.outcomes.as_slice(), [(_, 1, Ok(done))] if done.peer == "host 0"));
    assert_seamless(&world, "fetched");
}

#[test]
fn other_speakers_see_a_resignation_and_wait_their_turn() {
    // Host 1 has no second path.
    let mut specs = vec![spec(0, vip(200)), spec(1, vip(100))];
    specs[1].settings.heartbeat = None;
    let mut world = World::new(1, Network::quiet(), specs);
    world.start_all();
    world.run(secs(2));
    world.stop(0);
    world.run(ms(60));
    assert_eq!(world.owner(), None);
    world.run(ms(3));
    assert_eq!(world.owner(), Some(1));
    assert!(matches!(world.cause(1), Cause::PeerResigned { .. }));
    assert!(world.said.is_empty());
}

#[test]
fn a_successor_that_does_not_answer_delays_a_stop_but_changes_nothing_before() {
    let mut world = world(100, &[200, 100]);
    world.freeze(1);
    world.stop(0);
    world.run(ms(290));
    assert_eq!(world.owner(), Some(0));
    world.thaw(1);
    world.run(ms(100));
    assert_eq!(world.owner(), Some(1));
    assert_eq!(world.watch.overlapped, 0);
}

#[test]
fn a_stop_and_a_drain_go_on_when_a_rival_takes_the_role_while_the_successor_is_asked() {
    for (reason, end) in [(HandoverReason::Stop, StateName::Initialize), (HandoverReason::Drain, StateName::Held)] {
        let mut world = world(100, &[200, 100]);
        world.freeze(1);
        match reason {
            HandoverReason::Stop => world.stop(0),
            _ => drain(&mut world, 0),
        }
        world.run(ms(50));
        forge(&mut world, STRANGER, &advert(&vip(254), 254), ChecksumForm::Rfc9568);
        world.run(ms(2));
        assert_eq!(world.hosts[0].agent[0].state, end, "{reason:?}");
        // The rival was heard once only: nobody else is there who could keep this node from claiming anew.
        world.run(secs(5));
        assert_eq!(world.hosts[0].agent[0].state, end, "{reason:?}");
        assert!(!world.hosts[0].answers(0, world.now, true), "{reason:?}");
    }
}

#[test]
fn a_word_that_comes_too_late_is_not_believed() {
    let mut world = world(10, &[200, 200]);
    let owner = world.owner().expect("one owner");
    let heir = 1 - owner;
    let overlapped = world.watch.overlapped;
    // From the moment on at which the successor says that it is ready, it hears nothing for long.
    order(&mut world, owner, None, false);
    while !world.said.iter().any(|(_, _, step)| *step == HandoverStep::Ready) {
        world.run(ms(1) / 100);
    }
    world.second.delay = (16 * MILLISECOND, 16 * MILLISECOND);
    world.run(ms(25));
    assert!(world.said.iter().any(|(_, _, step)| *step == HandoverStep::LetGo));
    assert!(!matches!(world.cause(heir), Cause::TakesOver { .. }));
    assert!(matches!(world.outcomes.as_slice(), [(_, _, Err(HandoverFailure::NotTaken { .. }))]));
    world.run(secs(1));
    assert!(world.owner().is_some());
    assert_eq!(world.watch.overlapped, overlapped, "not more than when the two equals met");
}

#[test]
fn an_owner_whose_successor_is_slow_to_answer_keeps_what_it_has() {
    let mut world = world(10, &[200, 100]);
    world.second.delay = (5 * MILLISECOND, 5 * MILLISECOND);
    order(&mut world, 0, None, false);
    world.run(ms(400));
    assert_eq!(world.owner(), Some(0));
    assert!(matches!(world.outcomes.as_slice(), [(_, 0, Err(HandoverFailure::NoAnswer { .. }))]));
    assert_eq!(world.watch.longest_silence(world.now), 0);
    assert!(world.hosts[1].kernel[0].installed.is_empty());
}

#[test]
fn a_kernel_that_is_slow_to_install_delays_a_handover_and_not_the_gap() {
    let mut world = world(10, &[200, 100]);
    world.hosts[1].spec.effect_time = (30 * MILLISECOND, 30 * MILLISECOND);
    order(&mut world, 0, None, false);
    world.run(ms(60));
    assert_eq!(world.owner(), Some(1));
    assert_seamless(&world, "installed before");
}

/// What it had is being taken off still as it prepares to have it again, and its link dies once more.
#[test]
fn who_says_that_it_has_given_up_has_nothing_left_of_an_offer_either() {
    let mut world = world(100, &[200, 100]);
    world.hosts[0].spec.effect_time = (800 * MILLISECOND, 800 * MILLISECOND);
    world.set_wire(0, Wire::Down);
    world.run(ms(5));
    world.set_wire(0, Wire::Up);
    world.run(ms(400));
    assert_eq!((world.state(0), world.owner()), (StateName::Backup, Some(1)));
    order(&mut world, 1, Some("host 0"), false);
    world.run(ms(5));
    world.set_wire(0, Wire::Down);
    world.run(secs(3));
    assert_eq!(world.owner(), Some(1));
    assert!(world.hosts[0].kernel[0].installed.is_empty());
}

/// So many worlds are run where nobody says how many: about 10 s on two idle cores, without optimisation.
const SEEDS: u64 = 300;

/// Whatever breaks between any two steps, of whichever host: two never answer, and when all is well again one does.
#[test]
fn whatever_breaks_in_a_handover_there_are_never_two_owners_and_one_in_the_end() {
    // Each is a long world.
    let seeds = seeds::number(SEEDS, 10);
    let Some(counted) = seeds::each("whatever_breaks", seeds, broken) else { return };
    // Worlds in which every handover works, or none, prove nothing.
    let (moved, failed) = counted.iter().fold((0, 0), |(moved, failed), it| (moved + it.0, failed + it.1));
    let fewest = usize::try_from(seeds / 4).expect("few");
    assert!(moved > fewest && failed > fewest, "{moved} were handed over, and {failed} were not");
}

/// How often the vip was handed over, and how often that failed; or what must not happen.
type Counted = Result<(usize, usize), String>;

/// Whether two hosts' timers ran out before either could hear of the other's claim, which has nothing to do with a handover.
fn tied(world: &World) -> bool {
    let by_timer = |host: &super::host::Host| {
        let claimed = host.agent[0].claimed.as_ref();
        claimed.filter(|(_, cause)| matches!(cause, Cause::ActiveDown { .. })).map(|(at, _)| *at)
    };
    let mut claims: Vec<Nanos> = world.hosts.iter().filter_map(by_timer).collect();
    claims.sort_unstable();
    claims.windows(2).any(|pair| pair[1] - pair[0] <= world.network.longest_way())
}

/// One world.
fn broken(seed: u64, trace: bool) -> (Counted, World) {
    let mut rng = super::rng::Rng::new(seed);
    let pick = |rng: &mut super::rng::Rng, of: u64| rng.within(0, of - 1);
    let every = [10, 100, 1_000][pick(&mut rng, 3) as usize];
    let hosts = 2 + pick(&mut rng, 2) as u8;
    let (grouped, hooked) = (seed.is_multiple_of(3), seed.is_multiple_of(5));
    // A preemption that is refused follows the standard, with the overlap that this has.
    let specs = (0..hosts).map(|place| {
        let with = |vip| VipSettings { interval: interval(every), preempt: Preempt::Off, ..vip };
        let priority = 200 - 50 * place;
        let mut spec = spec(place, with(vip(priority)));
        if grouped {
            spec.settings.vips = super::group::sides(priority).into_iter().map(with).collect();
            spec.settings.groups = super::group::group();
        }
        if hooked {
            let hook = |moment, on_failure| HookSettings { moment, on_failure };
            let before = hook(Moment::BeforeClaim, OnHookFailure::Veto);
            let others = [Moment::AfterClaim, Moment::BeforeRelease].map(|it| hook(it, OnHookFailure::Ignore));
            let before = (seed.is_multiple_of(10)).then_some(before);
            spec.settings.vips.iter_mut().for_each(|vip| vip.hooks = before.into_iter().chain(others).collect());
        }
        spec.effect_time = (20_000, [80_000, 3 * MILLISECOND][usize::from(seed.is_multiple_of(2))]);
        spec.lateness = (0, 100_000);
        spec
    });
    let mut world = World::new(seed, Network::quiet(), specs.collect());
    world.trace = trace.then(Vec::new);
    world.gate = pick(&mut rng, 8) != 0;
    let hook_times = [MILLISECOND, 250 * MILLISECOND, 900 * MILLISECOND, 4_000 * MILLISECOND];
    if hooked {
        world.hook_time = hook_times[pick(&mut rng, 4) as usize];
    }
    if grouped && world.gate {
        // The leases of a dead host's vips end within an interval of each other.
        world.watch.together = Some((2, nanos(interval(every).duration()) + super::group::TORN_ALIVE));
    }
    world.start_all();
    world.run_unchecked(nanos(5 * interval(every).duration() + secs(if hooked { 8 } else { 2 })));
    world.second.lost_permille = [0, 0, 200, 500][pick(&mut rng, 4) as usize];
    (world.second.late_permille, world.second.late_by) = [(0, 0), (200, 60 * MILLISECOND)][pick(&mut rng, 2) as usize];
    let result = (|| {
        for _ in 0..4 {
            let Some(owner) = world.owner() else { break };
            world.hook_fails = hooked && pick(&mut rng, 4) == 0;
            match pick(&mut rng, 4) {
                0 if hosts > 2 => world.stop(owner),
                1 => drain(&mut world, owner),
                _ => order(&mut world, owner, None, false),
            }
            // Somewhere among its steps, which take about a millisecond with all that may be lost and late.
            for _ in 0..1 + pick(&mut rng, 3) {
                let soon = [700_000, 5 * MILLISECOND, 400 * MILLISECOND][pick(&mut rng, 3) as usize];
                world.run_unchecked(rng.within(0, soon));
                let victim = pick(&mut rng, u64::from(hosts)) as Port;
                let other = (victim + 1) % usize::from(hosts);
                match pick(&mut rng, 9) {
                    0 | 1 => world.freeze(victim),
                    2 => world.thaw(victim),
                    3 => world.crash(victim),
                    4 => world.kill(victim),
                    5 => world.second.cut(victim, other),
                    6 => {
                        world.second.cut(victim, other);
                        world.second.cut(other, victim);
                    }
                    7 => world.second.heal(),
                    _ => {}
                }
            }
            world.run_unchecked(rng.within(0, nanos(interval(every).duration() * 6)));
            if let Some(violation) = &world.watch.violation {
                return Err(violation.clone());
            }
            // Without a gate a dead agent's addresses stay.
            let overlapped = std::mem::take(&mut world.watch.overlapped);
            if overlapped > 0 && world.gate && !tied(&world) {
                return Err(format!("two answered for {overlapped} ns"));
            }
            world.second.heal();
            for host in 0..usize::from(hosts) {
                world.thaw(host);
                if matches!(world.hosts[host].life, Life::Crashed | Life::Stopped) {
                    world.start(host);
                }
                world.input(host, Input::Release { vip: None });
            }
            (world.second.lost_permille, world.second.late_permille) = (0, 0);
            world.hook_fails = false;
            // A veto is asked for again, and the hook takes its time.
            let for_hooks = if hooked { RETRY_AFTER_VETO + secs(6) } else { secs(0) };
            world.run_unchecked(nanos(12 * interval(every).duration() + secs(4) + for_hooks));
            if world.owner().is_none() {
                let states: Vec<_> = world.hosts.iter().map(|host| host.agent[0].state).collect();
                return Err(format!("no single owner after all is well: {states:?}"));
            }
            if grouped && world.owner_of(1) != world.owner() {
                return Err(format!("the group is torn after all is well: {:?}", super::group::owners(&world)));
            }
            let leavings =
                world.hosts.iter().filter(|host| host.engine.as_ref().is_some_and(|engine| engine.hands_over()));
            if leavings.count() > 0 {
                return Err("a handover has no end".into());
            }
            let kept = (0..usize::from(hosts)).find(|host| {
                let it = &world.hosts[*host];
                let kept = |(agent, kernel): (&AgentVip, &KernelVip)| {
                    agent.state != StateName::Active && !kernel.installed.is_empty()
                };
                it.agent.iter().zip(&it.kernel).any(kept)
            });
            if let Some(host) = kept {
                return Err(format!("host {host} kept what it had prepared"));
            }
        }
        let count = |is: fn(&EventKind) -> bool| world.events.iter().filter(|(_, _, event)| is(&event.kind)).count();
        let moved = count(|kind| matches!(kind, EventKind::HandedOver { .. }));
        Ok((moved, count(|kind| matches!(kind, EventKind::HandoverFailed { .. }))))
    })();
    (result, world)
}
