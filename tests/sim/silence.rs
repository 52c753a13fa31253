//! A silent owner: succeeded without a delay where it is gone, waited for where its address answers.

use std::time::Duration;

use vipd::engine::silence::{ANSWER_MARGIN, LONGEST_WAIT, ROUND};
use vipd::engine::{
    Cause, ClaimKind, Engine, EventKind, Input, Instant, LinkState, OnSilentOwner, Output, Preempt, Settings,
    StateName, VipSettings, WaitEnd,
};
use vipd::types::MacAddr;

use super::build::{VIP_V4, addresses_v6, interval, ms, secs, vip, world};
use super::clock::{MILLISECOND, Nanos, nanos};
use super::world::{LINK, World, vip_id};

/// How long after the last advert of the first host the second one claimed.
fn claimed_after(world: &World) -> Nanos {
    let last = world.sent_by(0, 0).last().expect("it advertised").at;
    world.sent_by(1, last).first().expect("the other one claims").at - last
}

fn ends(world: &World, host: usize) -> Vec<WaitEnd> {
    let end = |kind: &&EventKind| match kind {
        EventKind::SilentOwnerEnds { end, .. } => Some(*end),
        _ => None,
    };
    world.told(host, 0).iter().filter_map(end).collect()
}

fn alarms(world: &World, host: usize) -> usize {
    world.told(host, 0).iter().filter(|kind| matches!(kind, EventKind::SilentOwner { .. })).count()
}

const INTERVALS: [u16; 3] = [10, 100, 1_000];

/// A backup that follows an owner of priority 255, so that each of its own is a backup's.
fn backup_of(priority: u8, every: u16, policy: OnSilentOwner) -> World {
    let it = |priority| VipSettings {
        preempt: Preempt::Off,
        interval: interval(every),
        on_silent_owner: policy,
        ..vip(priority)
    };
    let mut world = world([it(255), it(priority)]);
    world.run(secs(5));
    assert_eq!(world.owner(), Some(0));
    world
}

#[test]
fn a_killed_host_is_succeeded_as_if_nobody_had_asked() {
    for every in INTERVALS {
        for priority in [1, 100, 200, 254] {
            let claimed = [OnSilentOwner::Wait, OnSilentOwner::Take].map(|policy| {
                let mut world = backup_of(priority, every, policy);
                world.network.delay = (100_000, 100_000);
                world.run(ms(3 * u64::from(every)));
                world.kill(0);
                world.run(ms(5 * u64::from(every)));
                assert_eq!(world.owner(), Some(1));
                assert_eq!(world.asked.is_empty(), policy == OnSilentOwner::Take);
                claimed_after(&world)
            });
            assert_eq!(claimed[0], claimed[1], "at priority {priority} and {every} ms");
        }
    }
}

#[test]
fn a_dead_agent_whose_lease_lapses_is_succeeded_on_time_or_after_one_answer_would_have_come() {
    for every in INTERVALS {
        for priority in [1, 100, 200, 254] {
            for freezes in [false, true] {
                let mut world = backup_of(priority, every, OnSilentOwner::Wait);
                if freezes {
                    world.freeze(0);
                } else {
                    world.crash(0);
                }
                world.run(ms(5 * u64::from(every)));
                assert_eq!(world.owner(), Some(1), "at priority {priority} and {every} ms");
                let bound = world.hosts[1].active_down(0, u64::from(every) * MILLISECOND) + world.network.longest_way();
                // The way there and back is 0.4 ms at most.
                let answer = nanos(ANSWER_MARGIN) + 2 * 400_000;
                let late = claimed_after(&world).saturating_sub(bound);
                assert!(late <= answer, "{late} ns late at priority {priority} and {every} ms");
                assert!(late == 0 || priority == 254, "{late} ns late at priority {priority} and {every} ms");
                assert_eq!(alarms(&world, 1), 0);
            }
        }
    }
}

#[test]
fn an_owner_whose_adverts_are_stopped_is_waited_for_and_then_replaced() {
    for every in INTERVALS {
        let mut world = backup_of(100, every, OnSilentOwner::Wait);
        world.watch.forgiving = true;
        world.network.filter(0, 1);
        world.run(ms(4 * u64::from(every)) + LONGEST_WAIT - ms(50 + u64::from(every)));
        assert_eq!(world.owner(), Some(0), "alone");
        assert_eq!((alarms(&world, 1), ends(&world, 1)), (1, vec![]));
        let engine = world.hosts[1].engine.as_ref().expect("it runs");
        let silent = engine.vips()[0].silent_owner().expect("it waits");
        assert_eq!((silent.address, silent.mac), (VIP_V4, MacAddr(2, 0, 0, 0, 0, 0)));
        world.run(ms(50 + 2 * u64::from(every)));
        assert_eq!(world.state(1), StateName::Active);
        assert_eq!((alarms(&world, 1), ends(&world, 1)), (1, vec![WaitEnd::Overruled]));
        assert!(matches!(world.cause(1), Cause::ActiveDown { silence: Some(_) }));
    }
}

#[test]
fn adverts_that_come_again_end_the_wait_and_there_were_never_two() {
    let mut world = backup_of(100, 100, OnSilentOwner::Wait);
    world.network.filter(0, 1);
    world.run(secs(2));
    world.heal();
    world.run(secs(5));
    assert_eq!((world.owner(), world.watch.overlapped), (Some(0), 0));
    assert_eq!((alarms(&world, 1), ends(&world, 1)), (1, vec![WaitEnd::HeardAgain]));
    assert_eq!(world.sent_by(1, 0), [], "nor did the backup speak");
}

#[test]
fn a_silent_owner_that_dies_is_succeeded_within_three_rounds_of_its_lease() {
    let mut world = backup_of(100, 100, OnSilentOwner::Wait);
    world.network.filter(0, 1);
    world.run(secs(1));
    world.crash(0);
    let died_at = world.now;
    world.run(secs(1));
    assert_eq!((world.owner(), world.watch.overlapped), (Some(1), 0));
    assert_eq!(ends(&world, 1), [WaitEnd::FellSilent]);
    let claimed = world.sent_by(1, died_at)[0].at;
    assert!(claimed - died_at <= nanos(ms(300) + 3 * ROUND), "{} us", (claimed - died_at) / 1_000);
}

#[test]
fn a_resignation_and_a_preemption_ask_nobody() {
    let mut world = world([vip(100), vip(200)]);
    world.run(secs(2));
    world.asked.clear();
    world.stop(1);
    world.run(secs(1));
    assert_eq!(world.owner(), Some(0));
    world.start(1);
    world.run(secs(1));
    assert_eq!((world.owner(), &world.asked[..]), (Some(1), &[][..]));
}

#[test]
fn under_loss_a_live_owner_is_replaced_much_less_often() {
    let takeovers = [OnSilentOwner::Wait, OnSilentOwner::Take].map(|policy| {
        let mut world = backup_of(100, 10, policy);
        world.network.lost_permille = 300;
        world.run(secs(60));
        world
            .told(1, 0)
            .iter()
            .filter(|kind| matches!(kind, EventKind::Transition { to: StateName::Active, .. }))
            .count()
    });
    assert!(takeovers[0] * 2 < takeovers[1], "{takeovers:?}");
}

/// A backup alone, of priority 254, that has heard nobody: its timer is due 3 intervals and 78 us per 10 ms after its start.
struct Alone(Engine);

impl Alone {
    fn new(settings: VipSettings) -> Self {
        let mut engine = Engine::new(Settings::of("a", vec![settings]), Instant::ZERO);
        let state = LinkState::Up { ipv4: Some([10, 0, 0, 1].into()), ipv6: Some("fe80::1".parse().expect("one")) };
        engine.handle(Instant::ZERO, Input::Link { link: LINK, state });
        while engine.poll_output().is_some() {}
        Self(engine)
    }

    fn take(&mut self, at: Duration, input: Input) -> Vec<Output> {
        self.0.handle(Instant::ZERO + at, input);
        std::iter::from_fn(|| self.0.poll_output()).collect()
    }

    fn due(&mut self) -> (Duration, Vec<Output>) {
        let at = Duration::from_nanos(self.0.next_deadline().expect("it waits").as_nanos());
        (at, self.take(at, Input::Deadline))
    }

    fn answer(&mut self, at: Duration) -> Vec<Output> {
        let (mac, kind) = (MacAddr(2, 0, 0, 0, 0, 9), ClaimKind::Answer);
        self.take(at, Input::AddressClaimed { vip: vip_id(0), address: VIP_V4, mac, kind })
    }

    fn state(&self) -> StateName {
        self.0.vips()[0].state()
    }
}

fn us(microseconds: u64) -> Duration {
    Duration::from_micros(microseconds)
}

#[test]
fn the_questions_are_asked_an_interval_before_the_claim_and_as_the_lease_has_lapsed() {
    let addresses = [vip(1).addresses, addresses_v6(0)].concat();
    let mut alone = Alone::new(VipSettings { interval: interval(10), addresses, ..vip(254) });
    for asked_at in [ms(20) + Duration::from_nanos(78_125), ms(30)] {
        let (at, outputs) = alone.due();
        let [Output::Ask(question)] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(at, asked_at);
        assert_eq!((question.addresses.len(), question.addresses[0]), (3, VIP_V4));
        assert_eq!(question.sources, [None, Some("fe80::1".parse().expect("one"))]);
    }
    let (at, _) = alone.due();
    assert_eq!((at, alone.state()), (ms(30) + Duration::from_nanos(78_125), StateName::Claiming));
}

#[test]
fn with_time_enough_for_the_second_answer_there_is_no_first_question() {
    let mut alone = Alone::new(vip(100));
    assert_eq!(alone.due(), (ms(260) + Duration::from_nanos(937_500), vec![]));
    let (at, outputs) = alone.due();
    assert_eq!(at, ms(300));
    assert!(matches!(outputs[..], [Output::Ask(_)]));
}

#[test]
fn where_the_first_question_was_answered_the_second_one_has_its_time() {
    let mut alone = Alone::new(VipSettings { interval: interval(10), ..vip(254) });
    let (first, _) = alone.due();
    alone.answer(first + us(200));
    let (second, _) = alone.due();
    assert_eq!(second, ms(30));
    let (timer, outputs) = alone.due();
    assert_eq!((timer - second, outputs), (Duration::from_nanos(78_125), vec![]));
    // No answer: the lease has lapsed.
    let (claimed, _) = alone.due();
    assert_eq!((claimed - second, alone.state()), (us(400) + ANSWER_MARGIN, StateName::Claiming));
}

#[test]
fn an_answer_to_the_second_question_alone_is_evidence() {
    let mut alone = Alone::new(VipSettings { interval: interval(10), ..vip(254) });
    let (first, _) = alone.due();
    alone.answer(first + us(200));
    let (second, _) = alone.due();
    alone.answer(second + us(300));
    let (_, outputs) = alone.due();
    let told =
        |output: &Output| matches!(output, Output::Event(event) if matches!(event.kind, EventKind::SilentOwner { .. }));
    assert!(outputs.iter().any(told), "{outputs:?}");
    assert_eq!(alone.state(), StateName::Backup);
}

#[test]
fn an_answer_that_overtakes_the_kernel_withdraws_the_claim_before_anybody_was_told() {
    let mut alone = Alone::new(VipSettings { interval: interval(10), ..vip(254) });
    alone.due();
    alone.due();
    alone.due();
    assert_eq!(alone.state(), StateName::Claiming);
    let outputs = alone.answer(ms(30) + us(200));
    assert_eq!(alone.state(), StateName::Backup);
    assert!(matches!(outputs[..3], [Output::EndLease { .. }, Output::Remove(_), Output::Event(_)]), "{outputs:?}");
    assert!(!outputs.iter().any(|output| matches!(output, Output::Transmit(_))), "a resignation invites others");
    // It waits its 3 s as from the begin, and is not withdrawn again.
    let mut at = ms(30);
    while alone.state() == StateName::Backup {
        alone.answer(at + us(300));
        at = alone.due().0;
    }
    assert_eq!(at, ms(30) + us(200) + LONGEST_WAIT);
    alone.answer(at + us(100));
    assert_eq!(alone.state(), StateName::Claiming);
}
