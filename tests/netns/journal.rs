//! The journal of events on disk: what it keeps over a kill, and that nothing waits for it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use vipd::daemon::record::Record;
use vipd::lab::{Host, Process};

use crate::support::{Agent, CONTROL, PATIENCE, STATE_DIR, Segment, Vip, eventually, vipd};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the_journal_keeps_what_was_written_over_a_kill_and_garbage", kill),
        trial("the_journals_of_a_pair_account_for_a_failover_and_a_return", report),
        trial("a_follower_of_events_sees_them_as_they_come", follow),
        trial("an_owner_without_a_disk_raises_an_alarm_and_stays_owner", no_disk),
    ]
}

/// What `vipd events --json` prints.
pub fn events(host: &Host) -> Result<Vec<Record>> {
    let (code, out, said) = vipd(host, &["events", "--json", "--state-dir", STATE_DIR])?;
    ensure!(code == Some(0), "{code:?}: {said}");
    out.lines().map(|line| serde_json::from_str(line).context("a record")).collect()
}

/// Waits for an event in the journal.
pub fn await_event(host: &Host, what: &str, satisfies: impl Fn(&Record) -> bool) -> Result<Record> {
    eventually(what, || {
        let there = host.run_in(|| fs::exists(Path::new(STATE_DIR).join("events.jsonl")))??;
        Ok(if there { events(host)?.into_iter().rev().find(&satisfies) } else { None })
    })
}

fn kill() -> Result<()> {
    let segment = Segment::new()?;
    let became = |record: &Record| record.evidence.get("to").and_then(|to| to.as_str()) == Some("Active");
    let agent = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent.await_state("Active")?;
    let active = await_event(&segment.a, "the claim in the journal", became)?;
    agent.process().kill()?;
    ensure!(active.kind == "transition" && active.vip.as_deref() == Some("db"), "{active:?}");
    ensure!(active.cause.as_deref() == Some("addresses installed") && active.monotonic_ns > 0, "{active:?}");
    ensure!(active.boot == fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim(), "{active:?}");
    let before = events(&segment.a)?;

    segment.a.run_in(|| {
        let file = Path::new(STATE_DIR).join("events.jsonl");
        fs::OpenOptions::new().append(true).open(file)?.write_all(b"{\"at\":\"2026-\xff\0")
    })??;
    let agent = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent.await_state("Active")?;
    agent.stop()?;
    let after = events(&segment.a)?;
    ensure!(after.starts_with(&before), "events were lost");
    ensure!(after.last().is_some_and(|last| last.kind == "stopped"), "{after:?}");
    let (code, table, said) = vipd(&segment.a, &["events", "--vip", "db", "--since", "1h", "--state-dir", STATE_DIR])?;
    ensure!(code == Some(0) && said.contains("damaged lines of the journal were left out: 1"), "{code:?}: {said}");
    ensure!(
        table.contains("  db  Claiming -> Active: addresses installed\n") && !table.contains("vipd starts"),
        "{table}"
    );
    Ok(())
}

fn report() -> Result<()> {
    let segment = Segment::new()?;
    let owner = Agent::start(&segment.a, &[Vip::new(200)])?;
    // Started together, on a busy machine the other one may be first.
    owner.await_state("Active")?;
    let backup = Agent::start(&segment.b, &[Vip::new(100)])?;
    backup.await_state("Backup")?;
    eventually("b hears a", || Ok(backup.vip()?.owner))?;
    owner.process().kill()?;
    backup.await_state("Active")?;
    let owner = Agent::start(&segment.a, &[Vip::new(200)])?;
    owner.await_state("Active")?;
    backup.await_state("Backup")?;
    await_event(&segment.a, "the takeover in the journal", |record| {
        record.kind == "took-over" && record.text.contains("away for at most")
    })?;
    ensure!(backup.stop()? == Some(0), "b does not stop cleanly");

    // As an operator does it: `ssh b vipd events --json > b.jsonl`.
    let (code, journal, said) = vipd(&segment.b, &["events", "--json", "--state-dir", STATE_DIR])?;
    ensure!(code == Some(0), "{said}");
    segment.a.write_file("/run/b.jsonl".as_ref(), &journal)?;
    let (code, json, said) = vipd(&segment.a, &["report", "--since", "1h", "--json", "/run/b.jsonl", STATE_DIR])?;
    ensure!(code == Some(0), "{said}");
    let accounts: serde_json::Value = serde_json::from_str(&json)?;
    ensure!(accounts["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2), "{json}");
    let vip = &accounts["vips"][0];
    let gap = |cause: &str| vip["takeovers_by_cause"][cause]["gap_slowest_ms"].as_f64();
    // Three intervals and the skew time of priority 100, at least; a busy machine may add to it, but not seconds.
    ensure!(gap("owner-silent").is_some_and(|ms| (360.0..3_000.0).contains(&ms)), "{json}");
    ensure!(gap("preempts").is_some_and(|ms| ms < 1_000.0), "{json}");
    ensure!(vip["failovers"]["count"] == 2 && vip["takeovers_by_cause"]["no-owner-heard"]["count"] == 1, "{json}");
    ensure!(vip["ownerships_ended"]["peer-wins"] == 1, "{json}");
    ensure!(vip["mttr_ms"].as_f64() > Some(0.0) && vip["availability"].as_f64() > Some(0.0), "{json}");

    let (code, table, said) = vipd(&segment.a, &["report", "--state-dir", STATE_DIR])?;
    ensure!(code == Some(0) && table.contains("availability: up / (up + down)"), "{code:?} {said} {table}");
    ensure!(table.contains("note: of one node's journal"), "{table}");
    // The agent runs, and has said so: there is no unknown time at the end. Before its death's last trace, and after, it is.
    let json = vipd(&segment.a, &["report", "--json", "--state-dir", STATE_DIR])?.1;
    let alone: serde_json::Value = serde_json::from_str(&json)?;
    ensure!(alone["vips"][0]["up_ms"].as_f64() > Some(0.0), "{json}");
    let (code, out, said) = vipd(&segment.client, &["report", "--state-dir", "/run/none"])?;
    ensure!(code == Some(6) && out.is_empty() && said.contains("/run/none"), "{code:?} {said}");
    Ok(())
}

fn follow() -> Result<()> {
    let segment = Segment::new()?;
    let agent = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent.await_state("Active")?;
    let follower = |arguments: &[&str]| {
        let mut command = segment.a.command(env!("CARGO_BIN_EXE_vipd"));
        Process::start(command.args(["events", "--follow", "--state-dir", STATE_DIR]).args(arguments))
    };
    let (all, one, none) = (follower(&[])?, follower(&["--vip", "db", "--json"])?, follower(&["--vip", "web"])?);
    let shown = |process: &Process, part: &str| {
        process.wait_for_line(PATIENCE, |line| line.contains(part)).with_context(|| format!("nobody shows {part:?}"))
    };
    // What was there.
    shown(&all, "Claiming -> Active: addresses installed")?;
    shown(&one, "\"to\":\"Active\"")?;
    // What comes: a drain, the end of the agent, and another agent.
    ensure!(vipd(&segment.a, &["drain", "--control", CONTROL])?.0 == Some(0), "it is not drained");
    shown(&all, "Active -> Held: drained by an operator")?;
    shown(&one, "\"why\":\"drained\"")?;
    agent.stop()?;
    shown(&all, "vipd stops")?;
    let agent = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent.await_state("Held")?;
    shown(&all, "-> Held: drained by an operator")?;
    agent.stop()?;
    ensure!(none.ended()?.is_none() && none.lines_from(0).is_empty(), "{:?}", none.lines_from(0));
    let starts = all.lines_from(0).iter().filter(|line| line.text.contains(" starts")).count();
    ensure!(starts == 2, "{:?}", all.lines_from(0));
    // As `| head -n 1` goes away: it ends without another event.
    let mut command = segment.a.command(env!("CARGO_BIN_EXE_vipd"));
    command.args(["events", "--follow", "--state-dir", STATE_DIR]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut left = command.spawn()?;
    let mut line = String::new();
    BufReader::new(left.stdout.take().context("a pipe")?).read_line(&mut line)?;
    ensure!(line.contains(" starts"), "{line}");
    let code = eventually("the end of a follower that nobody reads", || Ok(left.try_wait()?))?.code();
    ensure!(code == Some(0), "{code:?}");
    // SIGINT would do as well, but a background job of a shell ignores it, and so do the children of such a test.
    all.signal(Signal::SIGTERM)?;
    ensure!(all.wait(PATIENCE)?.is_some(), "it goes on");
    Ok(())
}

fn no_disk() -> Result<()> {
    let segment = Segment::new()?;
    let full = Path::new("/run/full");
    let (victim, link) = (Path::new("/run/victim"), Path::new("/run/link"));
    segment.a.run_in(|| {
        fs::create_dir(full)?;
        mount(Some("tmpfs"), full, Some("tmpfs"), MsFlags::empty(), Some("size=4k"))?;
        fs::write(full.join("filler"), [0; 4096])?;
        fs::create_dir(victim)?;
        symlink(victim, link)
    })??;
    for (dir, trouble) in [("/proc/vipd", "No such file"), ("/run/full", "No space left"), ("/run/link", "directory")] {
        let agent = Agent::start_with_state(&segment.a, &[Vip::new(200)], dir)?;
        agent.await_state("Active")?;
        let journal = eventually("the alarm", || {
            Ok(Some(agent.status()?.journal).filter(|journal| journal.trouble.is_some() && journal.lost >= 3))
        })?;
        ensure!(journal.trouble.as_ref().is_some_and(|text| text.contains(trouble)), "{journal:?}");
        ensure!(agent.vip()?.state == "Active", "it is no longer the owner");
        ensure!(agent.stop()? == Some(0), "it does not stop cleanly");
    }
    ensure!(segment.a.run_in(|| fs::read_dir(victim).map(Iterator::count))?? == 0, "a link was followed");
    Ok(())
}
