//! Two real agents that hand an address over: by command, with its verification, and without.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use vipd::lab::{Kind, Probe};

use crate::second_path::{Both, LINK, all_are, both, both_with};
use crate::support::{Agent, MAC_A, MAC_B, V4, eventually, ip, learn};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_handover_is_asked_for_made_verified_and_made_back", there_and_back),
        trial("a_handover_that_cannot_be_verified_is_taken_back", not_verified),
        trial("nothing_is_handed_over_to_a_node_that_is_drained", refused),
        trial("a_drain_and_the_preemption_after_it_are_handovers", drained),
        trial("a_drill_goes_there_and_back", drill),
        trial("a_group_moves_as_one_by_any_of_its_names", group),
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
        let probes = Probes::start(segment)?;
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

/// A client that asks for both addresses of the group each millisecond.
struct Probes([(Probe, Instant); 2]);

impl Probes {
    fn start(segment: &crate::support::Segment) -> Result<Self> {
        let probe = |address: &str, asker: u8| -> Result<(Probe, Instant)> {
            learn(&segment.client, address)?;
            let probe = Probe::start(&segment.client, "eth0", ip(address), Ipv4Addr::new(10, 9, 0, asker))?;
            eventually("the owner answers", || Ok((probe.count() > 50).then_some(())))?;
            Ok((probe, Instant::now()))
        };
        Ok(Self([probe(V4, 200)?, probe(OTHER, 201)?]))
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
        let apart = moved[0].max(moved[1]) - moved[0].min(moved[1]);
        ensure!(apart < LONGEST_GAP, "one went {apart:?} after the other");
        Ok(format!("{}; {apart:?} apart", told.join("; ")))
    }
}
