//! When the gate closes: by itself, on demand, and not while it is renewed.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::time::{ClockId, clock_getres};
use vipd::driver::gate::{Gate, LeaseId, Managed, Renewal, Wanted};

use crate::frames::{End, Mac};
use crate::prober::{Plan, Prober, Record, ask_for, ping};
use crate::support::{Host, PATIENCE, add_address, await_no_tentative_address, ip, pair};
use crate::{both, open_gate, trial};

pub const VIP: &str = "10.0.0.100";
pub const VIP6: &str = "2001:db8::100";

pub fn trials() -> Vec<Trial> {
    let both = [
        both("a lease of 30 ms ends in time", || ends_in_time(Duration::from_millis(30), 20)),
        both("a lease of 300 ms ends in time", || ends_in_time(Duration::from_millis(300), 10)),
        both("renewals in place lose nothing", || renewals_lose_nothing(true)),
        both("renewals by replacement lose nothing", || renewals_lose_nothing(false)),
        both("the end is immediate", the_end_is_immediate),
        both("a renewal that comes too late opens nothing", a_late_renewal_opens_nothing),
        both("of several renewals the late one opens nothing", the_late_one_of_several_opens_nothing),
    ];
    let long = trial("gate: a lease of 3 s ends in time", || ends_in_time(Duration::from_secs(3), 1));
    both.into_iter().flatten().chain([long]).collect()
}

/// A host and a client on one cable, both with addresses of both families; the host with two vips as well.
pub struct Stage {
    pub client: Arc<Host>,
    pub vips: Vec<IpAddr>,
    plan: Plan,
}

impl Stage {
    pub fn new() -> Self {
        let client = Arc::new(pair());
        add_address("eth0", "2001:db8::1", 64);
        client.run(|| add_address("eth0", "2001:db8::2", 64));
        add_address("eth0", VIP, 24);
        add_address("eth0", VIP6, 64);
        await_no_tentative_address();
        client.run(await_no_tentative_address);
        Self::again(client)
    }

    /// The same with a client whose cable was made anew.
    pub fn again(client: Arc<Host>) -> Self {
        Self { plan: plan(&client, mac("eth0")), client, vips: vec![ip(VIP), ip(VIP6)] }
    }

    /// The client asks for the vips.
    pub fn probe(&self) -> Prober {
        self.probe_for(&self.vips)
    }

    /// The client asks for these.
    pub fn probe_for(&self, addresses: &[IpAddr]) -> Prober {
        Prober::start(&self.client, Plan { questions: ask_for(addresses), ..self.plan.clone() })
    }

    /// The client asks for the vips during all of that time.
    pub fn probe_during(&self, time: Duration) -> Record {
        let prober = self.probe();
        std::thread::sleep(time);
        prober.stop()
    }

    /// The client asks for the vips at another MAC during all of that time.
    pub fn probe_at(&self, to: Mac, time: Duration) -> Record {
        let prober = Prober::start(&self.client, Plan { to, questions: ask_for(&self.vips), ..self.plan.clone() });
        std::thread::sleep(time);
        prober.stop()
    }
}

fn plan(client: &Host, to: Mac) -> Plan {
    let mac = client.run(|| mac("eth0"));
    Plan {
        from: End { mac, ip: "10.0.0.2".parse().unwrap() },
        from6: "2001:db8::2".parse().unwrap(),
        to,
        questions: Vec::new(),
    }
}

/// The MAC address of an interface of the calling thread's namespace.
pub fn mac(interface: &str) -> Mac {
    let addresses = nix::ifaddrs::getifaddrs().expect("interfaces can be listed");
    let link = addresses.filter(|it| it.interface_name == interface).find_map(|it| it.address?.as_link_addr()?.addr());
    link.expect("an Ethernet interface has a MAC")
}

/// That of the vips, unless a test gives each its own.
pub const VIPS: LeaseId = numbered(1);

/// A lease.
pub const fn numbered(number: u32) -> LeaseId {
    LeaseId(NonZeroU32::new(number).expect("leases are numbered from 1"))
}

/// Addresses of one lease.
pub fn by(lease: LeaseId, addresses: &[IpAddr]) -> Vec<Managed> {
    addresses.iter().map(|address| Managed { address: *address, lease: Some(lease) }).collect()
}

/// A gate that is closed to the vips.
pub fn closed_gate(stage: &Stage) -> Gate {
    let mut gate = open_gate();
    gate.manage("eth0", &by(VIPS, &stage.vips)).expect("eth0 exists");
    gate
}

/// The same with a lease for each.
pub fn closed_gate_with_two_leases(stage: &Stage) -> (Gate, [LeaseId; 2]) {
    let mut gate = open_gate();
    let leases = [2, 3].map(numbered);
    let managed: Vec<_> = leases.iter().zip(&stage.vips).flat_map(|(lease, vip)| by(*lease, &[*vip])).collect();
    gate.manage("eth0", &managed).expect("eth0 exists");
    (gate, leases)
}

/// Opens the gate to the vips for so long.
pub fn lease(gate: &mut Gate, lease: Duration) -> Instant {
    let until = Instant::now() + lease;
    assert_eq!(gate.renew("eth0", VIPS, until).expect("the gate stands"), Renewal::Open);
    until
}

fn tick() -> Duration {
    Duration::from(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).expect("Linux has a coarse clock"))
}

fn ends_in_time(term: Duration, runs: u32) {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    let mut worst = (Duration::ZERO, Duration::ZERO);
    for _ in 0..runs {
        let prober = stage.probe();
        let until = lease(&mut gate, term);
        std::thread::sleep(until.saturating_duration_since(Instant::now()) + Duration::from_millis(20));
        let record = prober.stop();
        for question in ask_for(&stage.vips) {
            let last = record.last_answer(question).expect("an open gate lets answers pass");
            assert!(last <= until, "{question:?} answered {:?} after the lease", last - until);
        }
        for vip in &stage.vips {
            let (at_most, at_least) = earliness(&record, ping(*vip), until);
            assert!(at_least <= tick() * 2, "{vip}: closed at least {at_least:?} early");
            worst = (worst.0.max(at_least), worst.1.max(at_most));
        }
        gate.end("eth0", VIPS).expect("the gate stands");
    }
    println!("lease of {term:?}, {runs} runs: early by at least {:?}, at most {:?}", worst.0, worst.1);
}

/// How early the gate closed: at most, by the last answered ping, and at least, by the first that was not.
fn earliness(record: &Record, question: crate::frames::Question, until: Instant) -> (Duration, Duration) {
    let rounds = record.answered_rounds(question);
    let last = rounds.iter().rposition(|answered| *answered).expect("an open gate lets answers pass");
    let closed_by = record.rounds.get(last + 1).map_or(until, |(_, after)| *after);
    let last_answer = record.last_answer(question).expect("there was one");
    (until - last_answer, until.saturating_duration_since(closed_by))
}

fn renewals_lose_nothing(in_place: bool) {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    if !in_place {
        gate.refresh_by_replacement();
    }
    println!("refresh in place: {}", gate.refreshes_in_place());
    for (term, period) in [(60, 5), (300, 100)] {
        let term = Duration::from_millis(term);
        // A client may take long to start.
        lease(&mut gate, PATIENCE);
        let prober = stage.probe();
        for _ in 0..1000 / period {
            std::thread::sleep(Duration::from_millis(period));
            lease(&mut gate, term);
        }
        let record = prober.stop();
        let answers: Vec<_> = ask_for(&stage.vips).iter().map(|question| record.answers(*question)).collect();
        println!("lease of {term:?}, renewed every {period} ms: {} rounds, {answers:?} answers", record.len());
        record.assert_lossless(&ask_for(&stage.vips));
        gate.end("eth0", VIPS).expect("the gate stands");
    }
}

fn the_end_is_immediate() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    for _ in 0..20 {
        lease(&mut gate, Duration::from_secs(60));
        let prober = stage.probe();
        std::thread::sleep(Duration::from_millis(20));
        let start = Instant::now();
        gate.end("eth0", VIPS).expect("the gate stands");
        let end = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        let record = prober.stop();
        for vip in &stage.vips {
            record.assert_silent_after(end, ping(*vip));
            let last = record.last_answer(ping(*vip)).expect("the gate was open");
            assert!(last > start - Duration::from_millis(10), "the gate closed before its end");
        }
        assert_eq!(gate.owned("eth0").expect("the gate stands"), []);
    }
}

fn a_late_renewal_opens_nothing() {
    let stage = Stage::new();
    let mut gate = closed_gate(&stage);
    for in_place in [true, false] {
        if !in_place {
            gate.refresh_by_replacement();
        }
        let until = lease(&mut gate, Duration::from_millis(50));
        std::thread::sleep(until - Instant::now());
        let prober = stage.probe();
        let later = Instant::now() + Duration::from_secs(60);
        for _ in 0..3 {
            assert_eq!(gate.renew("eth0", VIPS, later).expect("the gate stands"), Renewal::Lapsed);
        }
        prober.stop().assert_silent();
        // A new claim may open it, and one whose time is over may not.
        gate.end("eth0", VIPS).expect("the gate stands");
        assert_eq!(gate.renew("eth0", VIPS, Instant::now()).expect("the gate stands"), Renewal::Lapsed);
        assert_eq!(gate.owned("eth0").expect("the gate stands"), []);
        gate.end("eth0", VIPS).expect("the gate stands");
        lease(&mut gate, Duration::from_secs(60));
        stage.probe_during(Duration::from_millis(20)).assert_lossless(&ask_for(&stage.vips));
        gate.end("eth0", VIPS).expect("the gate stands");
    }
}

fn the_late_one_of_several_opens_nothing() {
    let stage = Stage::new();
    let (mut gate, leases) = closed_gate_with_two_leases(&stage);
    for in_place in [true, false] {
        if !in_place {
            gate.refresh_by_replacement();
        }
        for (late, in_time) in [(0, 1), (1, 0)] {
            let [late_lease, lease_in_time] = [late, in_time].map(|place| leases[place]);
            let [late, in_time] = [late, in_time].map(|place| stage.vips[place]);
            let renew_both = |gate: &mut Gate, terms: [Duration; 2]| {
                let now = Instant::now();
                let all = [(late_lease, terms[0]), (lease_in_time, terms[1])];
                let all = all.map(|(lease, term)| Wanted { interface: "eth0", lease, until: now + term });
                gate.renew_all(&all).into_iter().map(|outcome| outcome.expect("the gate stands")).collect::<Vec<_>>()
            };
            let (short, long) = (Duration::from_millis(50), Duration::from_secs(60));
            assert_eq!(renew_both(&mut gate, [short, long]), [Renewal::Open, Renewal::Open]);
            let end = Instant::now() + short;
            std::thread::sleep(short);
            for _ in 0..3 {
                let probers = [late, in_time].map(|vip| stage.probe_for(&[vip]));
                assert_eq!(renew_both(&mut gate, [long, long]), [Renewal::Lapsed, Renewal::Open]);
                std::thread::sleep(Duration::from_millis(20));
                let [silent, lossless] = probers.map(Prober::stop);
                silent.assert_silent_after(end, ping(late));
                lossless.assert_lossless(&ask_for(&[in_time]));
            }
            leases.iter().for_each(|lease| gate.end("eth0", *lease).expect("the gate stands"));
        }
    }
}
