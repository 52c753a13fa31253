//! The journal of events on disk: what it keeps over a kill, and that nothing waits for it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::mount::{MsFlags, mount};
use vipd::daemon::record::Record;
use vipd::lab::Host;

use crate::support::{Agent, STATE_DIR, Segment, Vip, eventually, vipd};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the_journal_keeps_what_was_written_over_a_kill_and_garbage", kill),
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
    ensure!(code == Some(0) && said.contains("1 lines of the journal are damaged"), "{code:?}: {said}");
    ensure!(
        table.contains("  db  Claiming -> Active: addresses installed\n") && !table.contains("vipd starts"),
        "{table}"
    );
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
