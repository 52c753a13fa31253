//! Bounds pinned from both sides, on the engine alone: nothing a nanosecond early, nothing a nanosecond late.

use std::net::IpAddr;
use std::time::Duration;

use vipd::engine::election::PATIENCE;
use vipd::engine::summons::{FIRST_ROUND, ROUND};
use vipd::engine::{
    Arrival, Cause, ClaimKind, Engine, EventKind, Input, Instant, LinkState, Output, Preempt, Settings, StateName,
    VipSettings,
};
use vipd::types::{Family, MacAddr, Priority};
use vipd::wire::advert::{Advert, ChecksumForm};

use super::build::{addresses_v6, advert, interval, ms, secs, vip};
use super::world::{LINK, vip_id};

/// An engine alone, driven by hand.
struct Alone {
    engine: Engine,
    settings: VipSettings,
}

const PEER: [u8; 4] = [10, 0, 0, 2];
/// Of priority 100 with an advert each 100 ms.
const SKEW: Duration = Duration::from_nanos(60_937_500);

impl Alone {
    /// Its interface is up at once.
    fn new(settings: VipSettings) -> Self {
        let all = Settings::of("a", vec![settings.clone()]);
        let mut alone = Self { engine: Engine::new(all, Instant::ZERO), settings };
        alone.link_up(Duration::ZERO);
        alone
    }

    /// One that finds what an earlier agent left, with a lease until then, and whose interface comes up afterwards.
    fn heir(settings: VipSettings, until: Duration, up: Duration) -> (Self, Vec<Output>) {
        let all = Settings::of("a", vec![settings.clone()]);
        let mut alone = Self { engine: Engine::new(all, Instant::ZERO), settings };
        let term = alone.settings.interval.duration() * PATIENCE;
        let until = Instant::ZERO + until;
        assert_eq!(alone.take(Duration::ZERO, Input::Inherited { vip: vip_id(0), until, term }), []);
        let outputs = alone.link_up(up);
        (alone, outputs)
    }

    fn link_up(&mut self, at: Duration) -> Vec<Output> {
        let has_ipv6 = self.settings.addresses_of(Family::V6).next().is_some();
        let ipv6 = has_ipv6.then(|| "fe80::1".parse().expect("an address"));
        let state = LinkState::Up { ipv4: Some([10, 0, 0, 1].into()), ipv6 };
        self.take(at, Input::Link { link: LINK, state })
    }

    /// One that has become the owner, and when.
    fn owner(settings: VipSettings) -> (Self, Duration) {
        let mut alone = Self::new(settings);
        let claimed = alone.claim_at();
        let outputs = alone.take(claimed, Input::Deadline);
        let request = outputs
            .iter()
            .find_map(|output| match output {
                Output::Install(set) => Some(set.request),
                _ => None,
            })
            .expect("it claims");
        alone.take(claimed, Input::Installed { request, vip: vip_id(0), result: Ok(()) });
        assert_eq!(alone.state(), StateName::Active);
        (alone, claimed)
    }

    fn take(&mut self, at: Duration, input: Input) -> Vec<Output> {
        self.engine.handle(Instant::ZERO + at, input);
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }

    fn hear(&mut self, at: Duration, priority: u8) -> Vec<Output> {
        self.hear_from(PEER, at, priority)
    }

    fn hear_from(&mut self, source: impl Into<IpAddr>, at: Duration, priority: u8) -> Vec<Output> {
        let source = source.into();
        let addresses = self.settings.addresses_of(Family::of(source)).map(|address| address.ip).collect();
        let arrival = Arrival {
            link: LINK,
            source,
            hop_limit: 255,
            advert: Advert { addresses, ..advert(&self.settings, priority) },
            checksum: ChecksumForm::Rfc9568,
        };
        self.take(at, Input::Advert(arrival))
    }

    fn deadline(&self) -> Duration {
        Duration::from_nanos(self.engine.next_deadline().expect("it waits for something").as_nanos())
    }

    /// When it claims, after all that it asks before.
    fn claim_at(&mut self) -> Duration {
        loop {
            let at = self.deadline();
            let mut ahead = self.engine.clone();
            ahead.handle(Instant::ZERO + at, Input::Deadline);
            while ahead.poll_output().is_some() {}
            if ahead.vips()[0].state() != StateName::Backup {
                return at;
            }
            let outputs = self.take(at, Input::Deadline);
            let asks_or_waits = |output: &Output| match output {
                Output::Event(event) => matches!(event.kind, EventKind::ClaimWaits { .. }),
                _ => matches!(output, Output::Ask(_)),
            };
            assert!(outputs.iter().all(asks_or_waits), "{outputs:?}");
        }
    }

    fn state(&self) -> StateName {
        self.engine.vips()[0].state()
    }

    /// Nothing happens a nanosecond before, something does at the moment.
    fn require_exactly(&mut self, at: Duration) -> Vec<Output> {
        if self.state() == StateName::Backup {
            assert_eq!(self.claim_at(), at);
        }
        self.exactly(at)
    }

    /// The same of what comes next, which need not be a claim.
    fn exactly(&mut self, at: Duration) -> Vec<Output> {
        assert_eq!(self.deadline(), at);
        assert_eq!(self.take(at - Duration::from_nanos(1), Input::Deadline), [], "early");
        let outputs = self.take(at, Input::Deadline);
        assert!(!outputs.is_empty(), "late");
        outputs
    }
}

fn adverts(outputs: &[Output]) -> Vec<u8> {
    let advert = |output: &Output| match output {
        Output::Transmit(transmit) => Some(transmit.advert.priority.0),
        _ => None,
    };
    outputs.iter().filter_map(advert).collect()
}

#[test]
fn active_down_fires_three_intervals_and_skew_after_the_last_advert_and_not_a_nanosecond_early() {
    for (centiseconds, priority, skew) in [(10, 100, 60_937_500), (1, 254, 78_125), (100, 1, 996_093_750)] {
        let mut alone = Alone::new(VipSettings { interval: interval(centiseconds * 10), ..vip(priority) });
        alone.hear(ms(7), 255);
        let at = ms(7) + ms(u64::from(centiseconds) * 30) + Duration::from_nanos(skew);
        let outputs = alone.require_exactly(at);
        assert_eq!(adverts(&outputs), [priority]);
    }
}

#[test]
fn a_start_without_peers_waits_as_long() {
    let mut alone = Alone::new(vip(100));
    alone.require_exactly(ms(300) + SKEW);
}

#[test]
fn a_resignation_is_succeeded_after_exactly_the_skew_time() {
    let mut alone = Alone::new(vip(100));
    alone.hear(ms(10), 200);
    alone.hear(ms(20), 0);
    let outputs = alone.require_exactly(ms(20) + SKEW);
    assert!(outputs.iter().any(|output| matches!(output, Output::Event(event) if matches!(
        event.kind, EventKind::Transition { cause: Cause::PeerResigned { .. }, .. }))));
}

#[test]
fn a_resignation_never_makes_the_wait_longer() {
    let mut alone = Alone::new(vip(100));
    alone.hear(ms(10), 200);
    alone.hear(ms(311), 0);
    assert_eq!(alone.claim_at(), ms(10) + ms(300) + SKEW);
}

#[test]
fn adverts_are_sent_exactly_one_interval_apart() {
    let (mut alone, claimed) = Alone::owner(vip(100));
    for n in 1..=9 {
        let outputs = alone.require_exactly(claimed + ms(100) * n);
        let until = Instant::ZERO + claimed + ms(100) * (n + 3);
        assert_eq!(outputs[1], Output::RenewLease { vip: vip_id(0), until }, "no lease outlives a peer's patience");
        assert_eq!(adverts(&outputs), [100]);
    }
}

#[test]
fn an_advert_sent_late_does_not_shift_the_next_one() {
    let (mut alone, claimed) = Alone::owner(vip(100));
    alone.take(claimed + ms(190), Input::Deadline);
    assert_eq!(alone.deadline(), claimed + ms(200));
    alone.take(claimed + ms(450), Input::Deadline);
    assert_eq!(alone.deadline(), claimed + ms(550), "what was missed is not made up for");
}

#[test]
fn an_owner_is_late_from_the_instant_at_which_its_lease_ends() {
    let (mut alone, claimed) = Alone::owner(vip(100));
    alone.take(claimed + ms(300) - Duration::from_nanos(1), Input::Deadline);
    assert_eq!(alone.state(), StateName::Active);
    let (mut alone, claimed) = Alone::owner(vip(100));
    let outputs = alone.take(claimed + ms(300), Input::Deadline);
    assert_eq!(alone.state(), StateName::Backup);
    assert_eq!(adverts(&outputs), [] as [u8; 0]);
    assert!(matches!(outputs[..2], [Output::EndLease { .. }, Output::Remove(_)]));
}

#[test]
fn a_late_owner_yields_before_it_answers() {
    let (mut alone, claimed) = Alone::owner(vip(100));
    let outputs = alone.hear(claimed + ms(300), 50);
    assert_eq!(alone.state(), StateName::Backup);
    assert_eq!(adverts(&outputs), [] as [u8; 0]);
}

#[test]
fn an_answer_waits_for_10_ms_after_the_last_advert() {
    let (mut alone, claimed) = Alone::owner(vip(100));
    assert_eq!(adverts(&alone.hear(claimed + ms(10) - Duration::from_nanos(1), 50)), [] as [u8; 0]);
    let outputs = alone.require_exactly(claimed + ms(10));
    assert_eq!(adverts(&outputs), [100]);
    assert_eq!(adverts(&alone.hear(claimed + ms(20), 50)), [100]);
    assert_eq!(alone.deadline(), claimed + ms(120), "the next in turn counts from the answer");
}

/// The order of an owner that is preempted: advertised to, asked for, and only then succeeded.
#[test]
fn a_delay_of_preemption_ends_with_the_first_advert_after_it() {
    let mut alone = Alone::new(VipSettings { preempt: Preempt::After(secs(1)), ..vip(100) });
    for n in 0..10 {
        alone.hear(ms(5) + ms(100) * n, 50);
    }
    assert_eq!(alone.hear(ms(1_005) - Duration::from_nanos(1), 50), []);
    assert_eq!(adverts(&alone.hear(ms(1_005), 50)), [100]);
    assert_eq!(alone.state(), StateName::Backup, "it has told the owner to yield");
}

/// One that is about to preempt the owner that it hears, and when its timer is due.
fn preempting() -> (Alone, Duration) {
    let mut alone = Alone::new(vip(100));
    for n in 0..4 {
        alone.hear(ms(5) + ms(100) * n, 50);
    }
    let due = ms(300) + SKEW;
    let prepares = alone.deadline();
    assert_eq!(alone.take(prepares, Input::Deadline), [], "nobody is asked in advance");
    let outputs = alone.exactly(due);
    assert_eq!(adverts(&outputs), [100]);
    assert!(outputs.iter().all(|output| matches!(output, Output::Transmit(_))), "nothing else: {outputs:?}");
    (alone, due)
}

fn asks(outputs: &[Output]) -> bool {
    matches!(outputs, [Output::Ask(_)])
}

fn answer() -> Input {
    let (address, mac) = (super::build::VIP_V4, MacAddr(2, 0, 0, 0, 0, 2));
    Input::AddressClaimed { vip: vip_id(0), address, mac, kind: ClaimKind::Answer }
}

/// The owner's host answers by its own address.
fn life() -> Input {
    Input::HostAnswered { link: LINK, address: IpAddr::from(PEER) }
}

#[test]
fn an_owner_that_resigns_when_it_is_told_to_yield_is_succeeded_in_that_moment() {
    let (mut alone, due) = preempting();
    let outputs = alone.hear(due + ms(1), 0);
    assert_eq!((alone.state(), adverts(&outputs)), (StateName::Claiming, vec![100]));
}

#[test]
fn one_that_yields_without_a_word_is_asked_for_twice() {
    let (mut alone, due) = preempting();
    assert!(asks(&alone.exactly(due + FIRST_ROUND)));
    alone.take(due + FIRST_ROUND + ms(1), life());
    assert!(asks(&alone.exactly(due + FIRST_ROUND + ROUND)));
    alone.take(due + FIRST_ROUND + ROUND + ms(1), life());
    alone.exactly(due + FIRST_ROUND + ROUND * 2);
    assert_eq!(alone.state(), StateName::Claiming);
}

#[test]
fn the_silence_of_a_host_that_does_not_answer_at_all_is_none() {
    let (mut alone, due) = preempting();
    let last_heard = ms(305);
    while alone.deadline() < last_heard + ms(300) + SKEW {
        let at = alone.deadline();
        alone.take(at, Input::Deadline);
        assert_eq!(alone.state(), StateName::Backup, "at {at:?}");
    }
    let at = alone.deadline();
    alone.take(at, Input::Deadline);
    assert_eq!(alone.state(), StateName::Claiming);
    assert!(last_heard < due && at < last_heard + ms(300) + SKEW + ROUND);
}

#[test]
fn one_whose_address_answers_is_waited_for_until_its_lease_must_have_lapsed() {
    let (mut alone, due) = preempting();
    let mut advertised = Vec::new();
    while alone.deadline() < due + ms(300) + SKEW {
        let at = alone.deadline();
        let outputs = alone.take(at, Input::Deadline);
        if !adverts(&outputs).is_empty() {
            advertised.push(at - due);
        }
        assert!(outputs.iter().any(|output| matches!(output, Output::Ask(_))), "{outputs:?}");
        assert_eq!(alone.take(at + ms(1), answer()), []);
        // Its adverts come all the same: it does not hear this node.
        assert_eq!(alone.hear(at + ms(2), 50), []);
    }
    assert_eq!(advertised, [103, 203, 303].map(ms), "once an interval");
    let at = alone.deadline();
    alone.take(at, Input::Deadline);
    assert_eq!(alone.state(), StateName::Claiming);
    assert!(at < due + ms(300) + SKEW + ROUND);
}

#[test]
fn one_that_takes_it_again_has_not_yielded() {
    let (mut alone, due) = preempting();
    let until = alone.hear(due + ms(1), 50);
    assert_eq!((until, alone.deadline()), (vec![], due + FIRST_ROUND));
}

#[test]
fn a_resignation_that_is_read_late_says_nothing_of_now() {
    let (mut alone, due) = preempting();
    let outputs = alone.hear(due + FIRST_ROUND + ROUND, 0);
    assert_eq!((alone.state(), adverts(&outputs)), (StateName::Backup, vec![]));
}

#[test]
fn a_silence_that_this_node_slept_through_is_none() {
    let (mut alone, due) = preempting();
    assert!(asks(&alone.take(due + FIRST_ROUND, Input::Deadline)));
    alone.take(due + FIRST_ROUND + ms(1), life());
    let late = due + FIRST_ROUND + ROUND * 2;
    assert!(asks(&alone.take(late, Input::Deadline)));
    alone.take(late + ms(1), life());
    assert!(asks(&alone.exactly(late + ROUND)));
    alone.take(late + ROUND + ms(1), life());
    alone.exactly(late + ROUND * 2);
    assert_eq!(alone.state(), StateName::Claiming);
}

/// For the first time it listens once more. After another one it tells the owner anew, which may have taken it meanwhile.
#[test]
fn a_preemption_that_this_node_slept_through_begins_anew() {
    let (mut alone, due) = preempting();
    let woken = due + ms(500);
    alone.hear(woken, 50);
    assert_eq!(alone.take(woken, Input::Deadline), []);
    let told = loop {
        let at = alone.deadline();
        if adverts(&alone.take(at, Input::Deadline)) == [100] {
            break at;
        }
    };
    alone.hear(told + ms(500), 50);
    let outputs = alone.take(told + ms(500), Input::Deadline);
    assert_eq!((alone.state(), adverts(&outputs)), (StateName::Backup, vec![100]));
}

/// Two claimed together; who has lost resigns, and says nothing of the other one's lease.
#[test]
fn the_resignation_of_another_than_the_owner_before_does_not_end_its_lease() {
    const LOSER: [u8; 4] = [10, 0, 0, 3];
    for owner_resigns in [false, true] {
        let mut alone = Alone::new(vip(100));
        alone.hear(ms(5), 160);
        alone.hear_from(LOSER, ms(6), 150);
        if owner_resigns {
            alone.hear(ms(7), 0);
        }
        alone.hear_from(LOSER, ms(8), 0);
        let claims = alone.claim_at();
        assert_eq!(claims, if owner_resigns { ms(8) + SKEW } else { ms(305) + SKEW }, "{owner_resigns}");
    }
}

/// Two own that do not hear each other. One has resigned, and took it again before the other one yields.
#[test]
fn one_that_resigned_and_is_heard_again_is_waited_for() {
    const OTHER: [u8; 4] = [10, 0, 0, 3];
    for again in [false, true] {
        let mut alone = Alone::new(vip(100));
        alone.hear(ms(5), 50);
        alone.hear(ms(7), 0);
        if again {
            alone.hear(ms(8), 50);
        }
        alone.hear_from(OTHER, ms(9), 40);
        assert_eq!(alone.take(ms(9), Input::Deadline), [], "nobody is asked in advance");
        assert_eq!(adverts(&alone.exactly(ms(7) + SKEW)), [100], "it tells both to yield");
        alone.hear_from(OTHER, ms(8) + SKEW, 0);
        let claims = if again { ms(308) + SKEW } else { ms(8) + SKEW };
        assert_eq!(alone.state() == StateName::Backup, again);
        assert!(!again || alone.claim_at() == claims, "{:?}", alone.claim_at());
    }
}

/// Two own that do not hear each other, and what they send in both families comes mixed. Whoever resigns does so in both.
#[test]
fn one_of_two_owners_that_resigns_in_both_families_does_not_end_the_lease_of_the_other() {
    const DIES: [&str; 2] = ["10.0.0.2", "fe80::2"];
    const RESIGNS: [&str; 2] = ["10.0.0.3", "fe80::3"];
    let mut addresses = vip(100).addresses;
    addresses.extend(addresses_v6(0));
    let mut alone = Alone::new(VipSettings { addresses, ..vip(100) });
    let mut hear = |at: u64, source: &str, priority| {
        alone.hear_from(source.parse::<IpAddr>().expect("an address"), ms(at), priority);
    };
    hear(5, DIES[0], 160);
    hear(6, RESIGNS[1], 150);
    hear(7, DIES[1], 160);
    hear(8, RESIGNS[0], 150);
    hear(9, RESIGNS[0], 0);
    hear(9, RESIGNS[1], 0);
    assert!(alone.claim_at() > ms(305) + SKEW);
}

#[test]
fn a_better_owner_that_is_heard_instead_is_followed() {
    let (mut alone, due) = preempting();
    assert_eq!(alone.hear(due + ms(1), 200), []);
    assert_eq!(alone.deadline(), due + ms(1) + ms(200) + SKEW, "when it asks what it asks before a claim");
}

#[test]
fn a_hold_ends_exactly() {
    let (mut alone, claimed) = Alone::owner(vip(100));
    let gone = || Input::AddressGone { vip: vip_id(0), address: super::build::VIP_V4 };
    for _ in 0..6 {
        for output in alone.take(claimed + ms(1), gone()) {
            if let Output::Install(set) = output {
                alone.take(claimed + ms(1), Input::Installed { request: set.request, vip: vip_id(0), result: Ok(()) });
            }
        }
    }
    assert_eq!(alone.state(), StateName::Held);
    alone.require_exactly(claimed + ms(30_001));
    assert_eq!(alone.state(), StateName::Backup);
}

#[test]
fn the_repeats_of_an_announcement_come_at_1_5_and_30_s_and_then_every_minute() {
    let (mut alone, claimed) = Alone::owner(VipSettings { interval: interval(1_000), ..vip(100) });
    let mut announced = Vec::new();
    while announced.len() < 5 {
        let at = alone.deadline();
        if alone.take(at, Input::Deadline).iter().any(|output| matches!(output, Output::Announce(_))) {
            announced.push((at - claimed).as_secs());
        }
    }
    assert_eq!(announced, [1, 5, 30, 90, 150]);
}

#[test]
fn the_priority_of_a_resignation_is_0_in_every_way_out() {
    type WayOut = fn(&mut Alone, Duration) -> Vec<Output>;
    let ways: [(&str, WayOut); 3] = [
        ("a stop", |alone, at| alone.take(at, Input::Shutdown)),
        ("a better peer", |alone, at| alone.hear(at, 200)),
        ("a dead interface", |alone, at| alone.take(at, Input::Link { link: LINK, state: LinkState::Down })),
    ];
    for (name, way) in ways {
        let (mut alone, claimed) = Alone::owner(vip(100));
        let outputs = way(&mut alone, claimed + ms(50));
        let sent = adverts(&outputs);
        // Without an interface there is no address to send from.
        let expected: &[u8] = if name == "a dead interface" { &[] } else { &[Priority::RESIGN.0] };
        assert_eq!(sent, expected, "{name}");
        assert!(matches!(outputs[..2], [Output::EndLease { .. }, Output::Remove(_)]), "{name}");
    }
}

#[test]
fn a_restarted_owner_goes_on_within_its_lease_and_tells_nobody_but_its_peers() {
    let (alone, outputs) = Alone::heir(vip(100), ms(40), ms(40) - Duration::from_nanos(1));
    assert_eq!(alone.state(), StateName::Active);
    assert!(matches!(outputs[..], [Output::Transmit(_), Output::RenewLease { .. }, Output::Event(_)]), "{outputs:?}");
    assert_eq!(adverts(&outputs), [100]);
}

#[test]
fn a_restarted_owner_whose_lease_is_over_removes_what_is_left_and_listens() {
    let (alone, outputs) = Alone::heir(vip(100), ms(40), ms(40));
    assert_eq!(alone.state(), StateName::Backup);
    assert!(matches!(outputs[..], [Output::EndLease { .. }, Output::Remove(_), Output::Event(_)]), "{outputs:?}");
}

#[test]
fn a_restart_sends_one_more_advert_and_takes_nothing_away() {
    let (mut alone, claimed) = Alone::owner(vip(100));
    let outputs = alone.take(claimed + ms(50), Input::HandOn);
    let until = Instant::ZERO + claimed + ms(50) + ms(300);
    assert_eq!(outputs[1], Output::RenewLease { vip: vip_id(0), until });
    assert!(matches!(outputs[..], [Output::Transmit(_), Output::RenewLease { .. }, Output::Event(_)]), "{outputs:?}");
    assert_eq!(adverts(&outputs), [100]);
    assert_eq!(alone.engine.next_deadline(), None);
}
