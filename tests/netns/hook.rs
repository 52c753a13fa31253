//! Hooks as real programs: what they are told, who waits for a slow one and who does not, and that a veto is one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use vipd::lab::{Host, Network};

use crate::support::{
    Agent, CONTROL, KEY, PATIENCE, Segment, V4, Vip, await_all, await_none, configure, ensure_calm, eventually,
    lines_of, set_mode, vipd, write_keys, write_program,
};
use crate::{support, trial};

const HOOK: &str = "/run/vipd/hook";
/// Where it writes what it was told.
const TOLD: &str = "/run/vipd/told";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("hooks_are_told_the_facts_in_their_order_at_a_stop_too", told),
        trial("a_hook_that_hangs_delays_no_other_vip_and_no_advert", hangs),
        trial("a_handover_and_a_stop_wait_for_the_hook_before_a_release", release),
        trial("a_hook_may_veto_a_claim", vetoes),
        trial("a_hook_that_others_can_change_is_an_error", open_to_others),
        trial("a_reload_changes_hooks_and_moves_nothing", reload),
    ]
}

/// All hooks, with these lines beside the program.
fn hooked(priority: u8, more: &str) -> Vip {
    let mut tables = String::new();
    for moment in ["before_claim", "after_claim", "before_release", "after_release", "fault", "split_brain"] {
        let policy = if moment == "before_claim" { "on_failure = \"veto\"\n" } else { "" };
        tables += &format!("[vip.hooks.{moment}]\nexec = [\"{HOOK}\", \"one argument\"]\n{policy}{more}\n");
    }
    Vip::new(priority).with(&tables)
}

/// Waits for so many runs, and gives the name of each.
fn runs(host: &Host, count: usize) -> Result<Vec<String>> {
    eventually(&format!("{count} runs of hooks"), || {
        let lines = lines_of(host, TOLD)?;
        Ok((lines.len() >= count).then_some(lines))
    })
}

fn told() -> Result<()> {
    let segment = Segment::new()?;
    write_program(
        &segment.a,
        HOOK,
        &format!("echo \"$VIPD_HOOK\" >> {TOLD}; env > {TOLD}.$VIPD_HOOK; cat > {TOLD}.json; echo \"$1\""),
    )?;
    let agent = Agent::start(&segment.a, &[hooked(200, "")])?;
    agent.await_state("Active")?;
    ensure!(runs(&segment.a, 2)? == ["before_claim", "after_claim"]);
    let done = eventually("the hook has ended", || {
        let hooks = agent.vip()?.hooks;
        Ok(hooks.into_iter().find(|hook| hook.hook == "after_claim" && hook.state != "running"))
    })?;
    ensure!((done.state.as_str(), done.output.as_str()) == ("done", "one argument"), "{done:?}");

    let environment = lines_of(&segment.a, &format!("{TOLD}.after_claim"))?;
    for expected in
        ["VIPD_VIP=db", "VIPD_INTERFACE=eth0", "VIPD_VRID=51", "VIPD_STATE=Active", "VIPD_CAUSE=addresses installed"]
    {
        ensure!(environment.iter().any(|line| line == expected), "no {expected} in {environment:?}");
    }
    ensure!(!environment.iter().any(|line| line.starts_with("CARGO") || line.starts_with("HOME")), "{environment:?}");
    let document: Value = serde_json::from_str(&lines_of(&segment.a, &format!("{TOLD}.json"))?.join("\n"))?;
    ensure!(document["schema"] == 1 && document["hook"] == "after_claim" && document["vip"] == "db", "{document}");
    ensure!(document["evidence"]["to"] == "Active" && document["state"] == "Active", "{document}");
    ensure!(document["addresses"][0] == "10.9.0.100/24", "{document}");

    // The agent ends when the hooks of its release have.
    ensure!(agent.stop()? == Some(0));
    let all = lines_of(&segment.a, TOLD)?;
    ensure!(all == ["before_claim", "after_claim", "before_release", "after_release"], "{all:?}");
    Ok(())
}

fn hangs() -> Result<()> {
    let segment = Segment::new()?;
    write_program(
        &segment.a,
        HOOK,
        &format!("echo \"$VIPD_HOOK\" >> {TOLD}; [ \"$VIPD_HOOK\" = before_claim ] || exec sleep 1000"),
    )?;
    let other = Vip::new(200).named("other").vrid(52).addresses("[\"10.9.0.101/24\"]");
    let agent_a = Agent::start(&segment.a, &[hooked(200, "timeout = \"3s\""), other.clone()])?;
    agent_a.await_state("Active")?;
    let agent_b = Agent::start(&segment.b, &[Vip::new(100), other])?;
    agent_b.await_state("Backup")?;
    ensure_calm(&[&agent_a, &agent_b], Duration::from_secs(1))?;
    let failed = eventually("the deadline of the hook", || {
        Ok(agent_a.vip()?.hooks.into_iter().find(|hook| hook.state == "failed"))
    })?;
    ensure!(failed.output.contains("within 3s"), "{failed:?}");
    let (_, table, _) = vipd(&segment.a, &["status", "--control", CONTROL])?;
    ensure!(table.contains("hook after_claim failed"), "{table}");

    // A fault waits for no hook: the next owner is there long before the deadline of its first one.
    let began = Instant::now();
    segment.a.set_up("eth0", false)?;
    agent_b.await_that("b owns db", |all| all.iter().find(|it| it.vip == "db" && it.to == "Active").cloned())?;
    let took = began.elapsed();
    ensure!(took < Duration::from_millis(2_500), "{took:?}");
    eprintln!("a lost link with hooks of 3 s each: the other Active after {took:?}");
    // Neither does an agent that stops, for more than five seconds.
    let began = Instant::now();
    ensure!(agent_a.stop()? == Some(0));
    ensure!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    await_none(&segment.a)
}

/// Two that know each other by a second path. The hook of a takes its time, and writes down whether the address is there at its end.
fn release() -> Result<()> {
    let segment = Segment::new()?;
    let second = Network::new()?;
    for (host, number) in [(&segment.a, 1), (&segment.b, 2)] {
        host.plug(&second, "eth1", &[&format!("10.8.0.{number}/24")])?;
        write_keys(host, &[0x5a])?;
    }
    let script = format!("echo begun >> {TOLD}; sleep 1.5; ip -o address show | grep -c '{V4}/' >> {TOLD}; exit 1");
    write_program(&segment.a, HOOK, &script)?;
    let of = |name: &str, priority, hook: &str| {
        let node = format!("[node]\nname = \"{name}\"\nheartbeat = [{{ interface = \"eth1\" }}]");
        Vip::new(priority).with(hook).with(&node).with(&format!("[seal]\nkey_file = \"{KEY}\""))
    };
    let hook = format!("[vip.hooks.before_release]\nexec = [\"{HOOK}\"]");
    let agent_a = Agent::start(&segment.a, &[of("a", 200, &hook)])?;
    agent_a.await_state("Active")?;
    let agent_b = Agent::start(&segment.b, &[of("b", 100, "")])?;
    agent_b.await_state("Backup")?;
    eventually("b is ready", || Ok((agent_a.vipd(&["handover", "db", "--dry-run"])?.0 == Some(0)).then_some(())))?;
    ensure!(lines_of(&segment.a, TOLD)?.is_empty(), "a question runs a hook");

    let (code, said, complaint) = agent_a.vipd(&["handover", "db", "--json"])?;
    ensure!(code == Some(0), "{said}{complaint}");
    ensure!(lines_of(&segment.a, TOLD)? == ["begun", "1"], "{:?}", lines_of(&segment.a, TOLD));
    agent_b.await_state("Active")?;
    let done: Value = serde_json::from_str(&said)?;
    eprintln!("handed over after a hook of 1.5 s: nobody answered for {} ms", done["gap_ms"]);
    ensure!(done["gap_ms"].as_f64().is_some_and(|gap| gap < 500.0), "{done}");
    // That it failed is known, and changed nothing.
    let failed = agent_a.vip()?.hooks.into_iter().find(|hook| hook.hook == "before_release").context("a hook")?;
    ensure!(failed.state == "failed" && failed.output.contains("exit code 1"), "{failed:?}");

    // Back, and the agent is stopped while its hook hangs.
    write_program(&segment.a, HOOK, &format!("echo hangs >> {TOLD}; exec sleep 1000"))?;
    ensure!(agent_a.vipd(&["handover", "db", "--to", "a"])?.0 == Some(0), "it is not fetched");
    agent_a.await_state("Active")?;
    let calm = agent_b.transitions().len();
    let began = Instant::now();
    agent_a.process().signal(Signal::SIGTERM)?;
    eventually("the hook runs", || Ok(lines_of(&segment.a, TOLD)?.contains(&"hangs".to_owned()).then_some(())))?;
    agent_b.await_that("b owns", |all| all.get(calm..)?.iter().find(|it| it.to == "Active").cloned())?;
    let took = began.elapsed();
    ensure!(took > Duration::from_millis(2_900) && took < Duration::from_secs(6), "{took:?}");
    let ended = agent_a.process().wait(PATIENCE)?.context("it stops")?;
    ensure!(ended.code() == Some(0), "{ended}");
    await_none(&segment.a)
}

fn vetoes() -> Result<()> {
    let segment = Segment::new()?;
    write_program(&segment.b, HOOK, "echo not ready >&2; exit 3")?;
    let agent_a = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent_a.await_state("Active")?;
    let agent_b = Agent::start(&segment.b, &[hooked(100, "")])?;
    agent_b.await_state("Backup")?;
    eventually("b hears a", || Ok(agent_b.vip()?.owner))?;
    ensure!(agent_a.stop()? == Some(0));
    let veto = eventually("a veto", || Ok(agent_b.vip()?.hooks.into_iter().find(|hook| hook.state == "failed")))?;
    ensure!(veto.output == "exit code 3: not ready", "{veto:?}");
    ensure!(agent_b.vip()?.state == "Backup");
    write_program(&segment.b, HOOK, "exit 0")?;
    agent_b.await_state("Active")?;
    await_all(&segment.b)
}

fn open_to_others() -> Result<()> {
    let segment = Segment::new()?;
    write_program(&segment.a, HOOK, "exit 0")?;
    set_mode(&segment.a, HOOK, 0o777)?;
    configure(&segment.a, &[hooked(200, "")])?;
    let (code, _, said) = vipd(&segment.a, &["check", "--config", crate::support::CONFIG])?;
    ensure!(code == Some(3) && said.contains("can be changed by others"), "{code:?} {said}");
    Ok(())
}

fn reload() -> Result<()> {
    let segment = Segment::new()?;
    write_program(&segment.a, HOOK, &format!("echo \"$VIPD_HOOK $1\" >> {TOLD}"))?;
    let agent = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent.await_state("Active")?;
    let calm = agent.transitions().len();
    configure(&segment.a, &[hooked(200, "")])?;
    let said = support::reload(&segment.a)?;
    ensure!(said.contains("~ hooks of db"), "{said}");
    agent.ensure_calm_since(calm)?;
    // One that goes runs the hooks of its release.
    configure(&segment.a, &[Vip::new(200).named("other").vrid(52).addresses("[\"10.9.0.101/24\"]")])?;
    support::reload(&segment.a)?;
    let all = runs(&segment.a, 2)?;
    ensure!(all == ["before_release one argument", "after_release one argument"], "{all:?}");
    let first = agent.transitions().into_iter().next().context("a transition")?;
    ensure!(first.vip == "db");
    Ok(())
}
