//! The state × input table, as the engine itself has it, compared with `tests/golden/state-table.md`.
//!
//! `VIPD_BLESS=1 cargo test --test sim table` writes the file anew. Read the difference against RFC 9568 §6.4.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use vipd::engine::{
    Arrival, CheckEffect, CheckOutcome, CheckResult, CheckSettings, ClaimKind, Engine, Event, EventKind, Hold,
    HoldReason, Input, Instant, LinkState, Output, Preempt, RequestId, Settings, StateName, VipSettings,
};
use vipd::types::{Family, MacAddr, Prefix, Priority, Routing, Version, VirtualRoute, Vrid};
use vipd::wire::DropReason;
use vipd::wire::advert::{Advert, ChecksumForm};

use super::build::{STRANGER, VIP_V4, address, advert, interval, vip};
use super::world::{LINK, vip_id};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/state-table.md");

const HEAD: &str = "\
# What each state makes of each input

Written by `VIPD_BLESS=1 cargo test --test sim table` from the engine's own answers; the test fails where they differ from this file.

The node is 10.0.0.5 with priority 100, an advert each 100 ms (skew time 60.9 ms), preemption on, where the section does not say
otherwise. *Due* is when the engine wants to be called next, counted from the input. Outputs stand in their order; events that only
report are in brackets. An advert sent is `advert` with its priority.
";

#[test]
fn the_state_table_is_the_golden_one() {
    let table = table();
    if std::env::var_os("VIPD_BLESS").is_some() {
        std::fs::create_dir_all(Path::new(PATH).parent().expect("a file is in a directory")).expect("writable");
        std::fs::write(PATH, &table).expect("writable");
        return;
    }
    let golden = std::fs::read_to_string(PATH).expect("tests/golden/state-table.md is in the repository");
    for (number, (is, was)) in table.lines().zip(golden.lines()).enumerate() {
        assert_eq!(is, was, "line {} differs; VIPD_BLESS=1 takes what is", number + 1);
    }
    assert_eq!(table.lines().count(), golden.lines().count(), "VIPD_BLESS=1 takes what is");
}

/// An engine in a state, and the moment of the input.
#[derive(Clone)]
struct Case {
    engine: Engine,
    now: Duration,
    /// The claim that the kernel has not answered, or the last one.
    request: RequestId,
}

fn table() -> String {
    let mut text = String::from(HEAD);
    for (title, case) in states() {
        writeln!(text, "\n## {title}\n").expect("a string takes all");
        text.push_str("| input | next state | outputs | due |\n|---|---|---|---|\n");
        for (name, at, input) in inputs(&case) {
            let mut case = case.clone();
            text.push_str(&row(&mut case, name, at, input));
        }
    }
    text
}

fn row(case: &mut Case, name: &str, at: Duration, input: Input) -> String {
    case.now = at;
    let outputs = take(case, input);
    let next = outputs.iter().find_map(|output| match output {
        Output::Event(Event { kind: EventKind::Transition { to, cause, .. }, .. }) => {
            Some(format!("**{to}**: {cause}"))
        }
        _ => None,
    });
    let next = next.unwrap_or_else(|| "same".into());
    let outputs: Vec<String> = outputs.iter().filter_map(|output| shown(output, at)).collect();
    let outputs = if outputs.is_empty() { String::from("none") } else { outputs.join(", ") };
    let due = case.engine.next_deadline().map_or_else(|| String::from("never"), |due| after_input(due, at));
    format!("| {name} | {next} | {outputs} | {due} |\n")
}

fn after_input(instant: Instant, now: Duration) -> String {
    let ahead = instant.as_nanos().saturating_sub(u64::try_from(now.as_nanos()).expect("a short time"));
    format!("{}.{:01} ms", ahead / 1_000_000, ahead / 100_000 % 10)
}

fn shown(output: &Output, now: Duration) -> Option<String> {
    Some(match output {
        Output::Transmit(transmit) => format!("advert {}", transmit.advert.priority),
        Output::RenewLease { until, .. } => format!("renew lease for {}", after_input(*until, now)),
        Output::EndLease { .. } => "end lease".into(),
        Output::LetGo { .. } => "let go".into(),
        Output::Prepare(_) => "prepare".into(),
        Output::SendHandover { .. } => "handover".into(),
        Output::HandoverEnded { .. } => "handover ended".into(),
        Output::Install(_) => "install".into(),
        Output::Remove(_) => "remove".into(),
        Output::Trim(_) => "trim".into(),
        Output::Announce(_) => "announce".into(),
        Output::Vote { to, .. } => format!("vote to {to}"),
        Output::Ask(_) => "ask".into(),
        Output::Fence(_) => "fence".into(),
        Output::RunHook(order) => format!("hook {}", order.moment),
        Output::KeepHolds => "keep holds".into(),
        Output::Echo(_) => "echo".into(),
        Output::SendHeartbeat { .. } => "heartbeat".into(),
        Output::Event(Event { kind, .. }) => match kind {
            // In the column before.
            EventKind::Transition { .. } => return None,
            EventKind::Rival { .. } => "[rival]".into(),
            EventKind::ReferenceLost { .. } => "[reference lost]".into(),
            EventKind::ReferenceBack { .. } => "[reference back]".into(),
            EventKind::IsolatedFromReferences => "[isolated]".into(),
            EventKind::SilentOwner { .. } => "[silent owner answers]".into(),
            EventKind::SilentOwnerEnds { .. } => "[wait for a silent owner ends]".into(),
            EventKind::AddressRestored { count, .. } => format!("[address restored, {count}]"),
            EventKind::RoutingRestored { count, .. } => format!("[route restored, {count}]"),
            EventKind::IntervalLearned { .. } => "[interval learned]".into(),
            EventKind::ChecksumFollowed { .. } => "[checksum form followed]".into(),
            EventKind::AddressesDiffer { .. } => "[addresses differ]".into(),
            EventKind::Dropped { reason, .. } => format!("[dropped: {}]", reason.label()),
            EventKind::Conflict { former_owner, .. } => {
                (if *former_owner { "[conflict with the former owner]" } else { "[conflict]" }).into()
            }
            EventKind::ConflictPersists { .. } => "[conflict persists]".into(),
            EventKind::ClonedHost { .. } => "[cloned host]".into(),
            EventKind::ForeignGroup { .. } => "[foreign group]".into(),
            EventKind::CheckFails { .. } => "[check fails]".into(),
            EventKind::CheckPasses { .. } => "[check passes]".into(),
            EventKind::PriorityChanged { from, to, .. } => format!("[priority {from} to {to}]"),
            EventKind::PeerHeard { .. } => "[peer heard]".into(),
            EventKind::PeerSilent { .. } => "[peer silent]".into(),
            EventKind::AdvertsBlocked { .. } => "[adverts blocked]".into(),
            EventKind::AdvertsThrough { .. } => "[adverts through]".into(),
            EventKind::SecondOwner { .. } => "[second owner]".into(),
            EventKind::Fencing { .. } => "[fencing]".into(),
            EventKind::Fenced { .. } => "[fenced]".into(),
            EventKind::FenceFailed { .. } => "[fencing failed]".into(),
            EventKind::FenceMissing { .. } => "[fencing impossible]".into(),
            EventKind::HandedOver { .. } => "[handed over]".into(),
            EventKind::HandoverFailed { .. } => "[handover failed]".into(),
            EventKind::TookOver { .. } => "[took over]".into(),
            EventKind::ClaimWaits { .. } => "[claim waits]".into(),
            EventKind::OwnerBack { .. } => "[owner back]".into(),
            EventKind::HookDone { moment, .. } => format!("[hook {moment} done]"),
            EventKind::HookFailed { moment, vetoes: true, .. } => format!("[hook {moment} vetoes]"),
            EventKind::HookFailed { moment, vetoes: false, .. } => format!("[hook {moment} failed]"),
            EventKind::RemoveFailed(_) => "[removal failed]".into(),
            EventKind::NoMajority { .. } => "[no majority]".into(),
            EventKind::VoterSilent { .. } => "[voter silent]".into(),
            EventKind::VoterAnswers { .. } => "[voter answers]".into(),
        },
    })
}

const CHECK: &str = "service";
const LARGER: [u8; 4] = [10, 0, 0, 9];
const FOREIGN: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);
const SMALLER: [u8; 4] = [10, 0, 0, 1];

fn inputs(case: &Case) -> Vec<(&'static str, Duration, Input)> {
    let own = &case.engine.vips()[0].settings().clone();
    let from = |source: [u8; 4], priority: u8| arrival(source, advert(own, priority));
    let routed = Arrival { hop_limit: 254, ..arrival(LARGER, advert(own, 200)) };
    let other_version = Advert { version: Version::V2, interval: interval(1_000), ..advert(own, 200) };
    let foreign = Advert { vrid: Vrid::new(99).expect("not 0"), ..advert(own, 200) };
    let other_group = Advert { addresses: vec![IpAddr::from([10, 0, 0, 77])], ..advert(own, 200) };
    let slower = Advert { interval: interval(500), ..advert(own, 200) };
    let malformed = DropReason::BadChecksum { found: 1, expected: 2 };
    let up = |ipv4: Option<[u8; 4]>| LinkState::Up { ipv4: ipv4.map(Into::into), ipv6: None };
    let link = |state| Input::Link { link: LINK, state };
    let vip = vip_id(0);
    let refused = || Err("Operation not permitted".into());
    let settings = |vips| Input::Settings(Settings::of("a", vips));
    let (one, more) = (address(VIP_V4), address([10, 0, 0, 101].into()));
    let check = |outcome| Input::CheckResult {
        check: CHECK.into(),
        result: CheckResult { outcome, output: "no answer".into() },
    };
    let mut inputs = vec![
        ("advert, priority 200", Input::Advert(from(LARGER, 200))),
        ("advert, priority 200, interval 500 ms", Input::Advert(arrival(LARGER, slower))),
        ("advert, own priority, larger address", Input::Advert(from(LARGER, own.priority.0))),
        ("advert, own priority, smaller address", Input::Advert(from(SMALLER, own.priority.0))),
        ("advert, priority 50", Input::Advert(from(LARGER, 50))),
        ("advert, priority 0 from 10.0.0.9", Input::Advert(from(LARGER, 0))),
        ("advert, priority 0 from another", Input::Advert(from(SMALLER, 0))),
        ("advert, TTL 254", Input::Advert(routed)),
        ("advert, own source address", Input::Advert(from([10, 0, 0, 5], 200))),
        ("advert, own source address and priority", Input::Advert(from([10, 0, 0, 5], own.priority.0))),
        ("advert, priority 200, of other addresses", Input::Advert(arrival(LARGER, other_group))),
        ("advert, other version", Input::Advert(arrival(LARGER, other_version))),
        ("advert, VRID not configured", Input::Advert(arrival(LARGER, foreign))),
        (
            "malformed packet",
            Input::Dropped { link: LINK, family: Family::V4, source: LARGER.into(), reason: malformed },
        ),
        ("interface up", link(up(Some([10, 0, 0, 5])))),
        ("interface up without address", link(up(None))),
        ("interface down", link(LinkState::Down)),
        ("interface missing", link(LinkState::Missing)),
        ("address gone", Input::AddressGone { vip, address: VIP_V4 }),
        ("route gone", Input::RoutingGone { vip, routing: route() }),
        (
            "address claimed by another MAC",
            Input::AddressClaimed { vip, address: VIP_V4, mac: FOREIGN, kind: ClaimKind::Answer },
        ),
        ("installed", Input::Installed { request: case.request, vip, result: Ok(()) }),
        ("installation refused", Input::Installed { request: case.request, vip, result: refused() }),
        ("installed, of an earlier claim", Input::Installed { request: RequestId(0), vip, result: Ok(()) }),
        ("removed", Input::Removed { request: RequestId(0), vip, result: Ok(()) }),
        ("removal refused", Input::Removed { request: RequestId(0), vip, result: refused() }),
        ("lease ended by the kernel", Input::LeaseLapsed { vip }),
        ("drained", Input::Hold { vip: Some(vip), hold: drain(None) }),
        ("undrained", Input::Release { vip: None }),
        ("restart of the agent", Input::HandOn),
        ("check passes", check(CheckOutcome::Passed(None))),
        ("check fails", check(CheckOutcome::Failed)),
        ("settings as they are", settings(vec![own.clone()])),
        ("settings, priority 50", settings(vec![VipSettings { priority: Priority(50), ..own.clone() }])),
        ("settings, preemption off", settings(vec![VipSettings { preempt: Preempt::Off, ..own.clone() }])),
        ("settings, interval 20 ms", settings(vec![VipSettings { interval: interval(20), ..own.clone() }])),
        ("settings, interval 500 ms", settings(vec![VipSettings { interval: interval(500), ..own.clone() }])),
        (
            "settings, an address more",
            settings(vec![VipSettings { addresses: vec![one, more.clone()], ..own.clone() }]),
        ),
        ("settings, another address", settings(vec![VipSettings { addresses: vec![more], ..own.clone() }])),
        ("settings, a route more", settings(vec![VipSettings { routing: vec![route()], ..own.clone() }])),
        ("settings without the vip", settings(vec![])),
        ("shutdown", Input::Shutdown),
    ]
    .into_iter()
    .map(|(name, input)| (name, case.now, input))
    .collect::<Vec<_>>();
    if let Some(due) = case.engine.next_deadline() {
        let due = Duration::from_nanos(due.as_nanos());
        inputs.push(("deadline, 1 ns before it is due", due - Duration::from_nanos(1), Input::Deadline));
        inputs.push(("deadline, due", due, Input::Deadline));
    }
    if let Some(until) = case.engine.vips()[0].lease_until() {
        let until = Duration::from_nanos(until.as_nanos());
        inputs.push(("deadline, as the lease ends", until, Input::Deadline));
        inputs.push(("advert, priority 50, as the lease ends", until, Input::Advert(from(LARGER, 50))));
    }
    inputs
}

fn drain(until: Option<Instant>) -> Hold {
    Hold { reason: HoldReason::Drained, until }
}

fn arrival(source: [u8; 4], advert: Advert) -> Arrival {
    Arrival { link: LINK, source: IpAddr::from(source), hop_limit: 255, advert, checksum: ChecksumForm::Rfc9568 }
}

/// Every state, reached by the inputs that lead there.
fn states() -> Vec<(&'static str, Case)> {
    let heard = |mut case: Case, priority: u8| {
        case.now += Duration::from_millis(10);
        let own = case.engine.vips()[0].settings().clone();
        take(&mut case, Input::Advert(arrival(LARGER, advert(&own, priority))));
        case
    };
    let later = |mut case: Case| {
        // Well after the last advert, so that an answer is not put off.
        case.now += Duration::from_millis(50);
        case
    };
    let off = VipSettings { preempt: Preempt::Off, ..vip(100) };
    let delayed = VipSettings { preempt: Preempt::After(Duration::from_secs(30)), ..vip(100) };
    vec![
        ("Initialize (interface missing)", missing(vip(100))),
        ("Initialize (interface missing), priority 255", missing(vip(255))),
        ("Backup, no owner known", listening(vip(100))),
        ("Backup, following 10.0.0.9 of priority 200", later(heard(listening(vip(100)), 200))),
        ("Backup, about to preempt 10.0.0.9 of priority 50", later(heard(listening(vip(100)), 50))),
        ("Backup, having told 10.0.0.9 of priority 50 to yield", {
            let mut case = heard(listening(vip(100)), 50);
            for _what in ["what is asked in advance", "the timer"] {
                case.now = Duration::from_nanos(case.engine.next_deadline().expect("it has one").as_nanos());
                take(&mut case, Input::Deadline);
            }
            case.now += Duration::from_millis(1);
            case
        }),
        ("Backup, following 10.0.0.9 of priority 50, preemption off", later(heard(listening(off), 50))),
        ("Backup, hearing 10.0.0.9 of priority 50, preemption after 30 s", later(heard(listening(delayed), 50))),
        ("Backup, no owner known, both questions asked", prepared(vip(100))),
        ("Backup, waiting for a silent owner", waiting(vip(100))),
        ("Claiming", later(claiming(vip(100)))),
        ("Active, for ten seconds", later(long_active(vip(100)))),
        ("Active, 1 ms after its last advert", {
            let mut case = active(vip(100));
            case.now += Duration::from_millis(1);
            case
        }),
        ("Active, for ten seconds, with a check of weight -60 that passes", {
            let mut case = missing(checked(CheckEffect::Weight(-60)));
            pass(&mut case);
            later(owning(case))
        }),
        ("Active, for ten seconds, with a check that is a fault and passes", {
            let mut case = missing(checked(CheckEffect::Fault));
            pass(&mut case);
            later(owning(case))
        }),
        ("Initialize (no result of a check that is a fault)", listening(checked(CheckEffect::Fault))),
        ("Active, for ten seconds, priority 255", later(long_active(vip(255)))),
        ("Held, for 5 s after a refusal", later(held())),
        ("Held, drained for 1 s", {
            let mut case = active(vip(100));
            let until = Instant::ZERO + case.now + Duration::from_secs(1);
            take(&mut case, Input::Hold { vip: None, hold: drain(Some(until)) });
            later(case)
        }),
        ("Stopped", {
            let mut case = active(vip(100));
            take(&mut case, Input::Shutdown);
            later(case)
        }),
    ]
}

fn checked(effect: CheckEffect) -> VipSettings {
    VipSettings { checks: vec![CheckSettings { name: CHECK.into(), rise: 1, fall: 1, effect }], ..vip(100) }
}

fn pass(case: &mut Case) {
    let result = CheckResult { outcome: CheckOutcome::Passed(None), output: String::new() };
    take(case, Input::CheckResult { check: CHECK.into(), result });
}

fn missing(settings: VipSettings) -> Case {
    let settings = Settings::of("a", vec![settings]);
    let engine = Engine::new(settings, Instant::ZERO);
    Case { engine, now: Duration::from_secs(1), request: RequestId(u64::MAX) }
}

fn listening(settings: VipSettings) -> Case {
    up(missing(settings))
}

fn up(mut case: Case) -> Case {
    let state = LinkState::Up { ipv4: Some([10, 0, 0, 5].into()), ipv6: None };
    take(&mut case, Input::Link { link: LINK, state });
    case
}

fn claiming(settings: VipSettings) -> Case {
    claim(listening(settings))
}

fn claim(mut case: Case) -> Case {
    if case.engine.vips()[0].settings().priority != Priority::OWNER {
        while case.engine.vips()[0].state() == StateName::Backup {
            due(&mut case);
        }
    }
    case
}

/// What is due next.
fn due(case: &mut Case) {
    case.now = Duration::from_nanos(case.engine.next_deadline().expect("it waits for something").as_nanos());
    take(case, Input::Deadline);
}

/// The owner is silent since a moment ago, and what is to be asked before a claim has been.
fn prepared(settings: VipSettings) -> Case {
    let mut case = listening(settings);
    due(&mut case);
    due(&mut case);
    case
}

/// The owner is silent, and its address answers.
fn waiting(settings: VipSettings) -> Case {
    let mut case = prepared(settings);
    case.now += Duration::from_millis(1);
    let mac = MacAddr(2, 0, 0, 0, 0, 9);
    take(&mut case, Input::AddressClaimed { vip: vip_id(0), address: VIP_V4, mac, kind: ClaimKind::Answer });
    due(&mut case);
    assert!(case.engine.vips()[0].silent_owner().is_some());
    case
}

fn active(settings: VipSettings) -> Case {
    own(claiming(settings))
}

fn own(mut case: Case) -> Case {
    let request = case.request;
    take(&mut case, Input::Installed { request, vip: vip_id(0), result: Ok(()) });
    assert_eq!(case.engine.vips()[0].state(), StateName::Active);
    case
}

/// Long enough that the last announcement is no reason to put the next one off.
fn long_active(settings: VipSettings) -> Case {
    long(active(settings))
}

fn owning(case: Case) -> Case {
    long(own(claim(up(case))))
}

fn long(mut case: Case) -> Case {
    let end = case.now + Duration::from_secs(10);
    while case.now < end {
        case.now = Duration::from_nanos(case.engine.next_deadline().expect("it advertises").as_nanos());
        take(&mut case, Input::Deadline);
    }
    case
}

fn held() -> Case {
    let mut case = claiming(vip(100));
    let request = case.request;
    take(&mut case, Input::Installed { request, vip: vip_id(0), result: Err("Operation not permitted".into()) });
    case
}

fn take(case: &mut Case, input: Input) -> Vec<Output> {
    case.engine.handle(Instant::ZERO + case.now, input);
    let outputs: Vec<Output> = std::iter::from_fn(|| case.engine.poll_output()).collect();
    for output in &outputs {
        if let Output::Install(set) = output {
            case.request = set.request;
        }
    }
    outputs
}

/// A route of a vip that has none.
fn route() -> Routing {
    let to = Prefix { ip: IpAddr::from([10, 50, 0, 0]), len: 16 };
    let metric = VirtualRoute::default_metric(to.family());
    Routing::Route(VirtualRoute { to, via: Some(STRANGER), source: None, table: VirtualRoute::MAIN, metric })
}
