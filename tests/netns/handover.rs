//! Two real agents that hand an address over: by command, with its verification, and without.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use vipd::lab::{Kind, Probe};

use crate::second_path::{Both, LINK, all_are, both, both_with, of};
use crate::support::{
    Agent, MAC_A, MAC_B, V4, configure, eventually, ip, learn, lines_of, own_addresses, write_program,
};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_handover_is_asked_for_made_verified_and_made_back", there_and_back),
        trial("a_handover_that_cannot_be_verified_is_taken_back", not_verified),
        trial("nothing_is_handed_over_to_a_node_that_is_drained", refused),
        trial("a_drain_and_the_preemption_after_it_are_handovers", drained),
        trial("a_drill_goes_there_and_back", drill),
        trial("a_group_moves_as_one_by_any_of_its_names", group),
        trial("a_hook_that_takes_a_second_costs_no_outage_and_its_veto_is_named", hook),
    ]
}

fn state_is(agent: &Agent, state: &str) -> Result<()> {
    let reached = eventually(state, || Ok((agent.vip()?.state == state).then_some(())));
    reached.with_context(|| {
        let lines: Vec<_> = agent.process().lines_from(0).into_iter().map(|line| line.text).collect();
        format!("{state} was to be its state, and it said:\n{}", lines.join("\n"))
    })
}

/// Has `vipd` run on the host of an agent, with `--json`.
fn json(agent: &Agent, arguments: &[&str], code: i32) -> Result<Value> {
    let (exit, said, complaint) = agent.vipd(&[arguments, &["--json"]].concat())?;
    ensure!(exit == Some(code), "vipd {arguments:?}: {exit:?} {said} {complaint}");
    Ok(serde_json::from_str(&said)?)
}

fn cause(agent: &Agent) -> Result<String> {
    Ok(agent.vip()?.cause)
}

fn there_and_back() -> Result<()> {
    let both = both(&LINK)?;
    let Both { segment, a, b, .. } = &both;
    let name = a.vip()?.name;
    let asked = json(a, &["handover", &name, "--dry-run"], 0)?;
    ensure!(asked["done"] == true && asked["peer"] == "b" && asked["gap_ms"].is_null(), "{asked}");
    ensure!(a.vip()?.state == "Active" && b.vip()?.state == "Backup", "a question has moved something");

    let done = json(a, &["handover", &name, "--to", "b", "--verify"], 0)?;
    ensure!(done["done"] == true && done["verified"][0]["mac"] == "02:04:0a:09:00:02", "{done}");
    eprintln!("handed over, with adverts of 1 s: nobody answered for {} ms", done["gap_ms"]);
    state_is(b, "Active")?;
    ensure!(cause(b)? == "handover from a (by an operator)", "{}", cause(b)?);
    ensure!(learn(&segment.client, V4)? == MAC_B, "{V4} is not at b");

    // Run where it is wanted: that fetches it. And who does not own hands nothing over.
    let no = json(a, &["handover", &name], 1)?;
    ensure!(no["failure"] == "this node is not the owner, b is", "{no}");
    json(a, &["handover", &name, "--to", "a"], 0)?;
    state_is(a, "Active")?;
    ensure!(learn(&segment.client, V4)? == MAC_A, "{V4} is not at a");
    let (usage, _, _) = a.vipd(&["handover", &name, "--to", "a", "--verify"])?;
    ensure!(usage == Some(2), "{usage:?}");
    Ok(())
}

fn not_verified() -> Result<()> {
    let both = both(&LINK)?;
    let Both { a, b, .. } = &both;
    let name = a.vip()?.name;
    // Nobody listens on that port.
    let back = json(a, &["handover", &name, "--verify", "--connect", "9"], 1)?;
    ensure!(back["done"] == true && back["taken_back"] == true, "{back}");
    ensure!(back["not_verified"].as_str().is_some_and(|why| why.starts_with("port 9 of ")), "{back}");
    state_is(a, "Active")?;
    state_is(b, "Backup")
}

fn refused() -> Result<()> {
    let both = both(&LINK)?;
    let Both { a, b, .. } = &both;
    let name = a.vip()?.name;
    json(b, &["drain"], 0)?;
    let text = "b refuses: it takes no part now: drained, held, or its interface is not ready";
    eventually("a knows that b is drained", || {
        let no = json(a, &["handover", &name, "--to", "b", "--dry-run"], 1).ok();
        Ok(no.filter(|no| no["failure"] == text).map(drop))
    })?;
    for (to, why) in
        [(["--to", "b"].as_slice(), text), (&["--to", "c"], "c is not heard on the second path"), (&[], "")]
    {
        let no = json(a, &[&["handover", &name], to].concat(), 1)?;
        let failure = no["failure"].as_str().unwrap_or_default();
        ensure!(failure.starts_with(why) && no["moved"] == false, "{no}");
    }
    ensure!(a.vip()?.state == "Active", "it has moved");
    Ok(())
}

fn drained() -> Result<()> {
    let both = both(&LINK)?;
    let Both { a, b, .. } = &both;
    let said = json(a, &["drain"], 0)?;
    ensure!(said["vips"][0]["state"] == "Held", "answered before it was clear what came of it: {said}");
    state_is(b, "Active")?;
    ensure!(cause(b)? == "handover from a (it is drained)", "{}", cause(b)?);
    json(a, &["undrain"], 0)?;
    state_is(a, "Active")?;
    ensure!(cause(a)? == "handover from b (preempted)", "{}", cause(a)?);
    state_is(b, "Backup")
}

fn drill() -> Result<()> {
    let both = both(&LINK)?;
    let Both { a, b, .. } = &both;
    let (exit, said, complaint) = a.vipd(&["drill", "--stay", "50ms"])?;
    ensure!(exit == Some(0), "vipd drill: {exit:?} {said} {complaint}");
    ensure!(
        said.contains(": b has it") && said.contains("02:04:0a:09:00:02") && said.contains("taken over from b"),
        "{said}"
    );
    state_is(a, "Active")?;
    let (exit, said, _) = b.vipd(&["drill"])?;
    ensure!((exit, said.as_str()) == (Some(0), ""), "b, which owns nothing: {exit:?} {said}");
    json(b, &["drain"], 0)?;
    eventually("nobody can take it", || {
        let (exit, _, _) = a.vipd(&["drill", "--stay", "0s"])?;
        Ok((exit == Some(1)).then_some(()))
    })?;
    state_is(a, "Active")
}

/// The address of the other vip of the group.
const OTHER: &str = "10.9.0.101";
/// What a machine that is busy may do to a handover within a millisecond.
const LONGEST_GAP: Duration = Duration::from_millis(500);

fn group() -> Result<()> {
    let both = both_with(&LINK, |vip| {
        let other = vip.clone().named("outside").vrid(52).addresses(format!("[\"{OTHER}/24\"]")).alone();
        vec![vip.named("inside").with("[[group]]\nname = \"gateway\"\nvips = [\"inside\", \"outside\"]"), other]
    })?;
    let Both { segment, a, b, .. } = &both;
    let asked = json(a, &["handover", "gateway", "--dry-run"], 0)?;
    ensure!(asked["done"] == true && asked["vips"] == serde_json::json!(["inside", "outside"]), "{asked}");
    all_are(a, "Active")?;

    for (name, on, to) in [("gateway", a, "b"), ("outside", b, "a"), ("inside", b, "b"), ("gateway", a, "a")] {
        let probes = Probes::start(segment, &[V4, OTHER])?;
        let done = json(on, &["handover", name, "--to", to], 0)?;
        ensure!(done["done"] == true, "{done}");
        let (owner, other) = if to == "a" { (a, b) } else { (b, a) };
        all_are(owner, "Active")?;
        all_are(other, "Backup")?;
        let fetched = if done["gap_ms"].is_null() { "fetched" } else { "given" };
        eprintln!("the group is {fetched} by {name:?}, with adverts of 1 s: {}", probes.stop(to)?);
    }
    let verified = json(a, &["handover", "outside", "--verify"], 0)?;
    ensure!(verified["verified"].as_array().is_some_and(|seen| seen.len() == 4), "all addresses of both: {verified}");
    let no = json(a, &["handover", "nonsense"], 1);
    ensure!(no.is_err(), "there is none of that name");
    // And back: the two are preempted as one.
    json(b, &["drain", "outside"], 0)?;
    all_are(a, "Active")?;
    ensure!(cause(a)? == "handover from b (it is drained)", "{}", cause(a)?);
    Ok(())
}

const HOOK: &str = "/run/vipd/hook";
const RUNS: &str = "/run/vipd/runs";
/// While it is there, the hook forbids a claim.
const VETO: &str = "/run/vipd/veto";

fn hook() -> Result<()> {
    let both = both(&LINK)?;
    let Both { segment, a, b, .. } = &both;
    let table = format!("[vip.hooks.before_claim]\nexec = [\"{HOOK}\"]\non_failure = \"veto\"");
    for (agent, host, vip) in [(a, &segment.a, of("a", 200, LINK[0])), (b, &segment.b, of("b", 100, LINK[1]))] {
        write_program(host, HOOK, &format!("echo run >> {RUNS}; sleep 1; [ ! -e {VETO} ]"))?;
        configure(host, &[vip.with(&table)])?;
        json(agent, &["reload"], 0)?;
    }
    let name = a.vip()?.name;
    let asked = json(a, &["handover", &name, "--dry-run"], 0)?;
    ensure!(asked["peer"] == "b" && lines_of(&segment.b, RUNS)?.is_empty(), "a question has run a hook: {asked}");

    for (on, host, to) in [(a, &segment.b, "b"), (b, &segment.a, "a"), (b, &segment.b, "b"), (b, &segment.a, "a")] {
        let (before, began) = (lines_of(host, RUNS)?.len(), Instant::now());
        let probes = Probes::start(segment, &[V4])?;
        json(on, &["handover", &name, "--to", to], 0)?;
        let took = began.elapsed();
        ensure!(took >= Duration::from_secs(1), "it was not waited for: {took:?}");
        ensure!(lines_of(host, RUNS)?.len() == before + 1, "the hook is run once: {:?}", lines_of(host, RUNS)?);
        eprintln!("handed over after a hook of 1 s, with adverts of 1 s: {}", probes.stop(to)?);
    }

    segment.b.write_file(VETO.as_ref(), "")?;
    let no = json(a, &["handover", &name, "--to", "b"], 1)?;
    ensure!(no["failure"] == "b refuses: its `before_claim` hook forbids it" && no["moved"] == false, "{no}");
    let no = json(b, &["handover", &name, "--to", "b"], 1)?;
    ensure!(no["failure"] == "this node refuses: its `before_claim` hook forbids it", "{no}");
    ensure!(a.vip()?.state == "Active" && learn(&segment.client, V4)? == MAC_A, "it has moved");
    ensure!(own_addresses(&segment.b)?.is_empty(), "b keeps what it had prepared");
    Ok(())
}

/// A client that asks for addresses each millisecond.
struct Probes(Vec<(Probe, Instant)>);

impl Probes {
    fn start(segment: &crate::support::Segment, addresses: &[&str]) -> Result<Self> {
        let probe = |(asker, address): (u8, &&str)| -> Result<(Probe, Instant)> {
            learn(&segment.client, address)?;
            let probe = Probe::start(&segment.client, "eth0", ip(address), Ipv4Addr::new(10, 9, 0, asker))?;
            eventually("the owner answers", || Ok((probe.count() > 50).then_some(())))?;
            Ok((probe, Instant::now()))
        };
        Ok(Self((200..).zip(addresses).map(probe).collect::<Result<_>>()?))
    }

    /// What the client lost, once the new owner answers for both; an error where two answered, or the two did not go together.
    fn stop(self, to: &str) -> Result<String> {
        let (old, new) = if to == "a" { (MAC_B, MAC_A) } else { (MAC_A, MAC_B) };
        let mut moved = Vec::new();
        let mut told = Vec::new();
        for (probe, from) in self.0 {
            eventually("the new owner answers", || {
                let answers = probe.record().answers;
                Ok((answers.iter().filter(|it| it.from == new && matches!(it.kind, Kind::Echo(_))).count() > 50)
                    .then_some(()))
            })?;
            let record = probe.stop()?;
            let last = record.answers.iter().filter(|it| it.from == new).map(|it| it.at).max().unwrap_or(from);
            let answers = record.answers.iter().filter(|it| it.kind != Kind::Announcement);
            let ended = answers.clone().filter(|it| it.from == old).map(|it| it.at).max().context("the old owner")?;
            let began = answers.filter(|it| it.from == new).map(|it| it.at).min().context("the new owner")?;
            ensure!(began + Duration::from_millis(2) > ended, "both answered for {:?}", ended - began);
            let gap = began.saturating_duration_since(ended);
            ensure!(gap < LONGEST_GAP, "nobody answered for {gap:?}");
            let answered = |number: u16| record.answers.iter().any(|it| it.kind == Kind::Echo(number));
            // The last ones are on their way.
            let echoes = record.echoes_asked.iter().filter(|(at, _)| *at > from && *at + LONGEST_GAP / 20 < last);
            let lost = echoes.filter(|(_, number)| !answered(*number)).count();
            told.push(format!("{lost} echoes lost, {gap:?} between two answers"));
            moved.push(began);
        }
        let apart = moved.iter().max().zip(moved.iter().min()).map(|(last, first)| *last - *first);
        let apart = apart.unwrap_or_default();
        ensure!(apart < LONGEST_GAP, "one went {apart:?} after the other");
        let apart = (moved.len() > 1).then(|| format!("; {apart:?} apart"));
        Ok(told.join("; ") + &apart.unwrap_or_default())
    }
}
