//! Synthetic journals, and figures computed by hand.

use serde_json::{Value, json};

use super::*;

/// 2026-01-01T00:00:00Z.
const BEGIN_S: u64 = 1_767_225_600;
/// What the clock of the first boot showed by then.
const UP_FOR_MS: u64 = 5_000_000;

/// The journal of a node that is being written: each line at so many milliseconds.
struct Script {
    node: &'static str,
    boot: &'static str,
    records: Vec<Record>,
}

impl Script {
    fn of(node: &'static str) -> Self {
        Self { node, boot: "first", records: Vec::new() }
    }

    fn add(mut self, at_ms: u64, vip: Option<&str>, kind: &str, evidence: Value) -> Self {
        let evidence = evidence.as_object().expect("an object").clone();
        self.records.push(Record {
            at: rfc3339(at_ms),
            boot: self.boot.to_owned(),
            monotonic_ns: (UP_FOR_MS + at_ms) * 1_000_000,
            node: self.node.to_owned(),
            vip: vip.map(str::to_owned),
            kind: kind.to_owned(),
            cause: None,
            text: String::new(),
            evidence: evidence.into_iter().collect(),
        });
        self
    }

    fn agent(self, at_ms: u64, kind: &str) -> Self {
        self.add(at_ms, None, kind, json!({}))
    }

    /// An agent that finds the last trace of the one before.
    fn started_after(self, at_ms: u64, seen_ms: u64) -> Self {
        let before =
            json!({ "at": rfc3339(seen_ms), "boot": "first", "monotonic_ns": (UP_FOR_MS + seen_ms) * 1_000_000 });
        self.add(at_ms, None, "started", json!({ "before": before }))
    }

    fn goes(self, at_ms: u64, from: &str, to: &str, why: &str) -> Self {
        self.add(at_ms, Some("db"), "transition", json!({ "from": from, "to": to, "why": why }))
    }

    /// Claims, and is the owner after so long.
    fn takes_over(self, at_ms: u64, installs_ms: u64, why: &str, away_ms: Option<u64>) -> Self {
        let active_ms = at_ms + installs_ms;
        self.goes(at_ms, "Backup", "Claiming", why).goes(active_ms, "Claiming", "Active", "installed").add(
            active_ms,
            Some("db"),
            "took-over",
            json!({ "away_ms": away_ms }),
        )
    }
}

fn rfc3339(at_ms: u64) -> String {
    let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(BEGIN_S * 1_000 + at_ms);
    crate::daemon::clock::rfc3339(at)
}

fn at(at_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(BEGIN_S * 1_000 + at_ms)
}

fn accounts(scripts: &[&Script], until_ms: u64) -> Accounts {
    let records = scripts.iter().flat_map(|script| script.records.clone()).collect();
    let question = Question { until: Some(at(until_ms)), ..Question::default() };
    reckon(records, &question).expect("there are records")
}

/// Those of the only vip.
fn figures(scripts: &[&Script], until_ms: u64) -> VipFigures {
    let accounts = accounts(scripts, until_ms);
    let [vip] = accounts.vips.as_slice() else { panic!("{accounts:#?}") };
    vip.clone()
}

/// Up, down and unknown.
fn shares(vip: &VipFigures) -> [f64; 3] {
    [vip.up_ms, vip.down_ms, vip.unknown_ms]
}

/// db-b: succeeds a silent owner, yields to its return, succeeds one that resigned, is drained, comes back, and is stopped.
fn db_b() -> Script {
    Script::of("db-b")
        .agent(0, "started")
        .goes(1_000, "Initialize", "Backup", "link-ready")
        .takes_over(100_000, 10, "owner-silent", Some(360))
        .goes(700_000, "Active", "Backup", "peer-wins")
        .takes_over(1_000_000, 5, "peer-resigned", Some(65))
        .goes(1_300_005, "Active", "Held", "drained")
        .goes(1_400_000, "Held", "Backup", "undrained")
        .goes(1_600_000, "Backup", "Initialize", "shutdown")
        .agent(1_600_000, "stopped")
}

/// db-a: owns from the first moment, dies after 95 s, is there again at 150 s, preempts, is drained, comes back, and
/// succeeds db-b.
fn db_a() -> Script {
    Script::of("db-a")
        .agent(0, "started")
        .goes(500, "Initialize", "Backup", "link-ready")
        .takes_over(900, 10, "no-owner-heard", None)
        .started_after(150_000, 95_000)
        .goes(150_100, "Initialize", "Backup", "link-ready")
        .takes_over(699_998, 5, "preempts", Some(5))
        .goes(999_940, "Active", "Held", "drained")
        .goes(1_290_000, "Held", "Backup", "undrained")
        .takes_over(1_300_070, 5, "peer-resigned", Some(70))
        .agent(1_600_000, "running")
}

#[test]
fn one_journal_gives_the_figures_computed_by_hand() {
    let vip = figures(&[&db_b()], 1_600_000);
    // Heard another owner: from 1,000 to the last advert, 360 ms before 100,010                98,650
    // Owned: from 100,010 to 700,000                                                          599,990
    // Heard another: from 700,000 to 65 ms before 1,000,005                                   299,940
    // Owned: from 1,000,005 to 1,300,005                                                      300,000
    // Heard another: from 1,400,000 to 1,600,000                                              200,000
    //                                                                                       1,498,580
    // Down: 360 + 65                                                                              425
    // Unknown: 1,000 at the start, and while it was drained 1,400,000 - 1,300,005             100,995
    assert_eq!(shares(&vip), [1_498_580.0, 425.0, 100_995.0]);
    // 1,498,580 / (1,498,580 + 425)
    assert_eq!(vip.availability, Some(1_498_580.0 / 1_499_005.0));
    // All that is unknown down: 1,498,580 / 1,600,000; or up: 1,599,575 / 1,600,000.
    assert_eq!(vip.availability_bounds, [0.936_612_5, 0.999_734_375]);
    // 1,498,580 / 2 and 425 / 2
    assert_eq!((vip.outages.len(), vip.mtbf_ms, vip.mttr_ms), (2, Some(749_290.0), Some(212.5)));
    // Of 65 and 360.
    let failovers = Takeovers { count: 2, gap_unknown: 0, gap_median_ms: Some(212.5), gap_slowest_ms: Some(360.0) };
    assert_eq!(vip.failovers, failovers);
    let slowest = |cause: &str| vip.takeovers_by_cause[cause].gap_slowest_ms;
    assert_eq!((slowest("owner-silent"), slowest("peer-resigned")), (Some(360.0), Some(65.0)));
    let ended: Vec<_> = vip.ownerships_ended.iter().map(|(cause, count)| (cause.as_str(), *count)).collect();
    assert_eq!(ended, [("drained", 1), ("peer-wins", 1)]);
    let outages: Vec<_> =
        vip.outages.iter().map(|outage| (outage.since.as_str(), outage.ms, outage.at_least)).collect();
    assert_eq!(outages, [("2026-01-01T00:01:39.650000Z", 360.0, false), ("2026-01-01T00:16:39.940000Z", 65.0, false)]);
}

#[test]
fn the_journals_of_both_nodes_leave_nothing_unknown() {
    let vip = figures(&[&db_a(), &db_b()], 1_600_000);
    // Down: until db-a is the owner for the first time, both have just been started               910
    // db-b hears db-a until 99,650, though db-a's own last trace is of 95,000                    360
    // db-b gives up at 700,000 as db-a preempts, which has the addresses at 700,003                 3
    // db-a is drained at 999,940, db-b the owner at 1,000,005                                      65
    // db-b is drained at 1,300,005, db-a the owner at 1,300,075                                    70
    //                                                                                           1,408
    // Up: 1,600,000 - 1,408
    assert_eq!(shares(&vip), [1_598_592.0, 1_408.0, 0.0]);
    // 1,598,592 / 5 and 1,408 / 5
    assert_eq!((vip.outages.len(), vip.mtbf_ms, vip.mttr_ms), (5, Some(319_718.4), Some(281.6)));
    // Of 3, 65, 70, 360: (65 + 70) / 2. The first start, 910, was no failover.
    let failovers = Takeovers { count: 4, gap_unknown: 0, gap_median_ms: Some(67.5), gap_slowest_ms: Some(360.0) };
    assert_eq!(vip.failovers, failovers);
    assert_eq!(vip.takeovers_by_cause["no-owner-heard"].gap_slowest_ms, Some(910.0));
    assert_eq!(vip.takeovers_by_cause["preempts"].gap_slowest_ms, Some(3.0));
    // What came before the first record may have been a part of the first.
    assert_eq!(
        vip.outages.iter().map(|outage| outage.at_least).collect::<Vec<_>>(),
        [true, false, false, false, false]
    );
    assert_eq!(vip.two_owners_ms, 0.0);
    // The order of the files says nothing, and one that is named twice counts once.
    assert_eq!(figures(&[&db_b(), &db_a(), &db_b()], 1_600_000), vip);
}

#[test]
fn a_part_of_the_time_has_figures_of_its_own() {
    let records = db_b().records;
    let question = Question { since: Some(at(99_900)), until: Some(at(200_000)), vip: Some("db".into()) };
    let accounts = reckon(records, &question).expect("there are records");
    let vip = &accounts.vips[0];
    // Down from 99,900 to 100,010, and owned from then on.
    assert_eq!(shares(vip), [99_990.0, 110.0, 0.0]);
    assert!(vip.outages[0].at_least);
    let other = Question { vip: Some("web".into()), ..question };
    assert!(reckon(db_b().records, &other).expect("there are records").vips.is_empty());
    assert_eq!(reckon(Vec::new(), &Question::default()), None);
}

#[test]
fn an_agent_that_is_killed_and_adopts_was_the_owner_all_the_time() {
    let begins = || {
        Script::of("db-a").agent(0, "started").goes(0, "Initialize", "Backup", "link-ready").takes_over(
            400,
            10,
            "no-owner-heard",
            None,
        )
    };
    let adopts = begins()
        .started_after(60_200, 55_000)
        .goes(60_210, "Initialize", "Active", "adopted")
        .agent(100_000, "running");
    assert_eq!(shares(&figures(&[&adopts], 100_000)), [99_590.0, 410.0, 0.0]);
    // One that finds its lease lapsed does not; what was between the last trace and its claim nobody knows.
    let listens = begins()
        .started_after(70_000, 55_000)
        .goes(70_010, "Initialize", "Backup", "link-ready")
        .takes_over(70_410, 10, "no-owner-heard", None)
        .agent(100_000, "running");
    // Up: 55,000 - 410, and 100,000 - 70,420. Down: 410, and 70,420 - 70,010.
    assert_eq!(shares(&figures(&[&listens], 100_000)), [84_170.0, 820.0, 15_010.0]);
    let handed_on = begins()
        .goes(50_000, "Active", "Initialize", "handed-on")
        .agent(50_001, "stopped")
        .started_after(50_100, 50_001)
        .goes(50_120, "Initialize", "Active", "adopted")
        .agent(100_000, "running");
    let vip = figures(&[&handed_on], 100_000);
    assert_eq!((shares(&vip), vip.ownerships_ended.len()), ([99_590.0, 410.0, 0.0], 0));
}

#[test]
fn what_was_lost_is_unknown_until_something_is_recorded_again() {
    let active = || {
        Script::of("db-a").agent(0, "started").goes(0, "Initialize", "Backup", "link-ready").takes_over(
            400,
            10,
            "no-owner-heard",
            None,
        )
    };
    // From the last record before it: 410.
    let lost =
        active().agent(20_000, "events-lost").goes(30_000, "Active", "Backup", "peer-wins").agent(40_000, "running");
    assert_eq!(shares(&figures(&[&lost], 40_000)), [10_000.0, 410.0, 29_590.0]);
    let states = json!({ "states": { "db": "Active" } });
    let told =
        active().agent(20_000, "events-lost").add(20_000, None, "running", states.clone()).agent(40_000, "running");
    assert_eq!(shares(&figures(&[&told], 40_000)), [20_000.0, 410.0, 19_590.0]);
    // A journal whose beginning is no longer there tells the states first.
    let rotated = Script::of("db-a").add(5_000, None, "running", states).agent(40_000, "running");
    assert_eq!(shares(&figures(&[&rotated], 50_000)), [35_000.0, 0.0, 10_000.0]);
}

#[test]
fn a_frozen_agent_knows_nothing_of_the_time() {
    let late = json!({ "from": "Active", "to": "Backup", "why": "late", "late_ms": 3_000 });
    let owner = Script::of("db-a")
        .agent(0, "started")
        .goes(0, "Initialize", "Backup", "link-ready")
        .takes_over(400, 10, "no-owner-heard", None)
        .add(20_000, Some("db"), "transition", late)
        .agent(40_000, "running");
    // Owned from 410 to 17,000, and a listener from 20,000 on.
    assert_eq!(shares(&figures(&[&owner], 40_000)), [36_590.0, 410.0, 3_000.0]);
    let listener = Script::of("db-b")
        .agent(0, "started")
        .goes(0, "Initialize", "Backup", "link-ready")
        .add(30_000, None, "stalled", json!({ "ms": 25_000 }))
        .agent(40_000, "running");
    assert_eq!(shares(&figures(&[&listener], 40_000)), [15_000.0, 0.0, 25_000.0]);
}

#[test]
fn a_claim_that_waits_says_nothing_of_an_owner() {
    let waits = Script::of("db-b")
        .agent(0, "started")
        .goes(0, "Initialize", "Backup", "link-ready")
        .add(10_000, Some("db"), "claim-waits", json!({ "silence_ms": 400 }))
        .add(25_000, Some("db"), "owner-back", json!({}))
        .agent(40_000, "running");
    assert_eq!(shares(&figures(&[&waits], 40_000)), [24_600.0, 0.0, 15_400.0]);
    // What takes over in the end was without an owner since the last advert.
    let claims = Script::of("db-b")
        .agent(0, "started")
        .goes(0, "Initialize", "Backup", "link-ready")
        .add(10_000, Some("db"), "claim-waits", json!({ "silence_ms": 400 }))
        .takes_over(30_000, 10, "owner-silent", Some(20_410))
        .agent(40_000, "running");
    assert_eq!(shares(&figures(&[&claims], 40_000)), [9_600.0 + 9_990.0, 20_410.0, 0.0]);
}

#[test]
fn a_third_node_that_listens_does_not_hide_a_gap_and_two_owners_are_counted() {
    let third =
        Script::of("db-c").agent(0, "started").goes(0, "Initialize", "Backup", "link-ready").agent(40_000, "running");
    let second = |yields| {
        Script::of("db-b")
            .agent(0, "started")
            .goes(0, "Initialize", "Backup", "link-ready")
            .takes_over(10_000, 10, "owner-silent", Some(350))
            .goes(yields, "Active", "Backup", "peer-wins")
            .agent(40_000, "running")
    };
    let vip = figures(&[&second(20_000), &third], 40_000);
    assert_eq!((shares(&vip), vip.failovers.gap_slowest_ms), ([39_650.0, 350.0, 0.0], Some(350.0)));
    let first = Script::of("db-a")
        .agent(0, "started")
        .goes(0, "Initialize", "Active", "adopted")
        .add(15_000, Some("db"), "rival", json!({}))
        .agent(40_000, "running");
    // db-b did not hear db-a, which was there all the time: two owners from 10,010 to 20,000.
    let vip = figures(&[&first, &second(20_000)], 40_000);
    assert_eq!((shares(&vip), vip.two_owners_ms, vip.second_owner_signs), ([40_000.0, 0.0, 0.0], 9_990.0, 1));
}

#[test]
fn a_step_of_the_wall_clock_changes_no_time_span_and_is_noted() {
    let mut script = db_b();
    // The first four were written by a clock that was an hour behind.
    for record in &mut script.records[..4] {
        record.at = crate::daemon::clock::rfc3339(
            humantime::parse_rfc3339(&record.at).expect("ours") - std::time::Duration::from_secs(3_600),
        );
    }
    let stepped = accounts(&[&script], 1_600_000);
    let straight = accounts(&[&db_b()], 1_600_000);
    assert_eq!((&stepped.since, &stepped.vips), (&straight.since, &straight.vips));
    assert!(stepped.notes.iter().any(|note| note.contains("stepped by 3600 s")), "{:?}", stepped.notes);
}

#[test]
fn nodes_that_are_stopped_are_down_together_and_unknown_alone() {
    let stopped = |node| {
        Script::of(node)
            .agent(0, "started")
            .goes(0, "Initialize", "Backup", "link-ready")
            .goes(10_000, "Backup", "Initialize", "shutdown")
            .agent(10_000, "stopped")
    };
    assert_eq!(shares(&figures(&[&stopped("db-a")], 30_000)), [10_000.0, 0.0, 20_000.0]);
    assert_eq!(shares(&figures(&[&stopped("db-a"), &stopped("db-b")], 30_000)), [10_000.0, 20_000.0, 0.0]);
}

#[test]
fn drills_are_listed() {
    let script = db_b()
        .add(1_100_000, Some("db"), "handover", json!({ "reason": "operator", "gap_us": 900 }))
        .add(1_200_000, Some("db"), "handover", json!({ "reason": "drill", "gap_us": 1_250 }))
        .add(1_500_000, Some("db"), "handover-failed", json!({ "reason": "drill" }));
    let drills = accounts(&[&script], 1_600_000).drills;
    let drills: Vec<_> = drills.iter().map(|drill| (drill.vip.as_deref(), drill.done, drill.gap_ms)).collect();
    assert_eq!(drills, [(Some("db"), true, Some(1.25)), (Some("db"), false, None)]);
}
