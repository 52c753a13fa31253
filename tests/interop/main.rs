//! vipd beside keepalived and FRR, in namespaces, with no option for compatibility on either side: exactly one owner, failover both
//! ways after a kill, and failback.
//!
//! The peers' programs come from `$PATH` and `/usr/lib/frr`, or from `VIPD_TEST_KEEPALIVED` (a program) and `VIPD_TEST_FRR_DIR` (the
//! directory of `zebra` and `vrrpd`). Where there are none, the tests are ignored; with `CI=true` or `VIPD_REQUIRE_PEERS=1` they fail instead.

#![allow(clippy::disallowed_methods, reason = "it waits for real processes")]

#[path = "../harness/mod.rs"]
mod harness;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use libtest_mimic::{Failed, Trial};
use vipd::lab::{self, Agent, AgentEvent, Pair, PairOptions, Software, Watch, find_program};

fn main() -> ExitCode {
    if let Err(error) = lab::enter() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    // Each waits for most of its time; more at once would disturb each other's timers.
    harness::run(8, trials())
}

fn trials() -> Vec<Trial> {
    let vipd = Some(Software::Vipd(PathBuf::from(env!("CARGO_BIN_EXE_vipd"))));
    let keepalived = keepalived();
    let frr = frr();
    let mut trials = Vec::new();
    for case in cases() {
        for (peer, found) in [("keepalived", &keepalived), ("frr", &frr)] {
            if case.unicast && peer == "frr" {
                // FRR has no unicast adverts.
                continue;
            }
            trials.push(trial(&format!("vipd_over_{peer}"), case, [vipd.clone(), found.clone()]));
            trials.push(trial(&format!("{peer}_over_vipd"), case, [found.clone(), vipd.clone()]));
        }
        // If these fail, it is the harness or the peer, not vipd.
        trials.push(trial("control_keepalived_over_keepalived", case, [keepalived.clone(), keepalived.clone()]));
    }
    trials
}

#[derive(Clone, Copy)]
struct Case {
    version: u8,
    ipv6: bool,
    unicast: bool,
}

/// Version 2 knows IPv4 only.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (version, ipv6) in [(2, false), (3, false), (3, true)] {
        for unicast in [false, true] {
            cases.push(Case { version, ipv6, unicast });
        }
    }
    cases
}

fn trial(who: &str, case: Case, software: [Option<Software>; 2]) -> Trial {
    let family = if case.ipv6 { "ipv6" } else { "ipv4" };
    let delivery = if case.unicast { "unicast" } else { "multicast" };
    let name = format!("v{}_{family}_{delivery}_{who}", case.version);
    let [Some(high), Some(low)] = software else {
        let required = env::var("CI").is_ok_and(|value| value == "true") || env::var_os("VIPD_REQUIRE_PEERS").is_some();
        return if required {
            Trial::test(name, || Err(Failed::from("the peer's program is missing; see tests/interop/main.rs")))
        } else {
            Trial::test(name, || Ok(())).with_ignored_flag(true).with_kind("peer's program is missing")
        };
    };
    harness::trial(&name, move || run(case, [high.clone(), low.clone()]))
}

fn keepalived() -> Option<Software> {
    let named = env::var_os("VIPD_TEST_KEEPALIVED").map(PathBuf::from);
    named.or_else(|| find_program("keepalived", &[])).map(Software::Keepalived)
}

fn frr() -> Option<Software> {
    let named = env::var_os("VIPD_TEST_FRR_DIR").map(PathBuf::from);
    let directory = named.unwrap_or_else(|| PathBuf::from("/usr/lib/frr"));
    ["zebra", "vrrpd"].iter().all(|program| directory.join(program).is_file()).then_some(Software::Frr(directory))
}

fn run(case: Case, software: [Software; 2]) -> Result<()> {
    const HIGH: usize = 0;
    const LOW: usize = 1;
    // The shortest that each version has here; keepalived takes 10 ms, but the point is the protocol, not the speed.
    let interval = Duration::from_millis(if case.version == 2 { 1000 } else { 100 });
    let preempts = matches!(software[HIGH], Software::Vipd(_));
    let mut pair = Pair::new(PairOptions {
        software,
        priority: [200, 100],
        interval,
        version: case.version,
        ipv6: case.ipv6,
        second_path: false,
        witness: false,
        unicast: case.unicast,
    })?;
    let mut history = History::default();
    // Programs that start, and then three intervals and the skew.
    let patience = Duration::from_secs(15) + 8 * interval;

    // The lower one comes first, so that it has something to give up.
    pair.start(LOW)?;
    let mut step = |what: &str, pair: &mut Pair, owner: usize| -> Result<()> {
        history.note(Instant::now(), "test", what);
        pair.wait_for_owner(owner, patience, &mut history)
            .with_context(|| format!("{what}\n{}", history.0.join("\n")))?;
        only_owner(pair, owner, interval, &mut history).with_context(|| what.to_owned())?;
        no_conflict(pair).with_context(|| what.to_owned())
    };
    step("the lower one alone", &mut pair, LOW)?;
    pair.start(HIGH)?;
    step("the higher one preempts", &mut pair, HIGH)?;
    pair.nodes[HIGH].host.kill()?;
    step("the higher one is killed", &mut pair, LOW)?;
    pair.reboot(HIGH)?;
    pair.start(HIGH)?;
    step("the higher one is back", &mut pair, HIGH)?;
    pair.nodes[LOW].host.kill()?;
    step("the lower one is killed", &mut pair, HIGH)?;
    pair.reboot(LOW)?;
    pair.start(LOW)?;
    step("the lower one is back", &mut pair, HIGH)?;
    if preempts {
        preempted_at_once(&history)?;
    }
    pair.finish().map(drop)
}

/// For a while longer than an active-down interval no one else answers.
fn only_owner(pair: &mut Pair, owner: usize, interval: Duration, history: &mut History) -> Result<()> {
    let since = Instant::now();
    let seen = pair.probe().count();
    pair.wait(5 * interval, history)?;
    let answers = pair.probe().answers_from(seen);
    let (own, others): (Vec<lab::Answer>, Vec<_>) = answers
        .into_iter()
        .filter(|answer| answer.at >= since && answer.kind != lab::Kind::Announcement)
        .partition(|answer| pair.nodes[owner].answers_from(answer.from));
    let last = others.last().copied();
    let (own, others) = (own.len(), others.len());
    if others > 0 || own < 100 {
        bail!("{own} answers are the owner's, and {others} another host's: {last:?}\n{}", history.0.join("\n"));
    }
    Ok(())
}

/// An owner of another make yields without a word. It is not waited for as one that fell silent.
fn preempted_at_once(history: &History) -> Result<()> {
    let claims: Vec<&String> = history.0.iter().filter(|line| line.contains(" -> Claiming ")).collect();
    if claims.len() != 2 || !claims.iter().all(|claim| claim.contains("preempts")) {
        bail!("not preempted twice, but {claims:?}\n{}", history.0.join("\n"));
    }
    Ok(())
}

/// A peer of another make is neither a stranger nor another group.
fn no_conflict(pair: &Pair) -> Result<()> {
    let processes = pair.nodes.iter().flat_map(|node| node.agent.iter().flat_map(Agent::processes));
    let mut lines = processes.flat_map(|process| process.lines_from(0));
    let evidence = ["also answers for", "answering for", "uses this VRID", "copy of this one"];
    match lines.find(|line| evidence.iter().any(|text| line.text.contains(text))) {
        Some(line) => bail!("a failover was taken for a conflict: {}", line.text),
        None => Ok(()),
    }
}

/// What happened so far, for a failure's report.
#[derive(Default)]
struct History(Vec<String>);

impl Watch for History {
    fn event(&mut self, node: &str, event: &AgentEvent) {
        self.0.push(format!("  {node}: {:?} -> {} ({:?})", event.from, event.to, event.cause));
    }

    fn note(&mut self, _: Instant, who: &str, text: &str) {
        self.0.push(format!("  {who}: {text}"));
    }

    fn look(&mut self, _: &Pair) {}
}
