//! The agent restricts itself, its programs are not restricted, and an end of either is the end of both.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Agent, CONFIG, Segment, Vip, eventually, lines_of, vipd, write_program};
use crate::trial;

/// Where a program says what holds for it.
const SAID: &str = "/run/vipd/said";
const PROGRAM: &str = "/run/vipd/says";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("every_thread_of_the_agent_is_restricted_and_no_program", restricted),
        trial("a_kill_of_the_agent_ends_the_process_that_starts_programs", killed),
        trial("an_agent_without_its_process_for_programs_gives_its_addresses_up", orphaned),
        trial("a_program_that_a_reload_brings_is_run_though_the_file_is_wrong_since", reloaded),
    ]
}

/// Kept by the kernel for a process or a thread.
fn field(status: &str, name: &str) -> Option<String> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned())
}

/// What is running of the programs' process, the child of an agent.
fn programs_of(agent: u32) -> Result<Option<i32>> {
    let threads = fs::read_dir(format!("/proc/{agent}/task"))?;
    for thread in threads {
        let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            if fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "vipd-programs") {
                return Ok(Some(child.parse()?));
            }
        }
    }
    Ok(None)
}

fn checked() -> Vip {
    Vip::new(200)
        .with(&format!("[[vip.check]]\nname = \"says\"\ninterval = \"100ms\"\nexec = [\"{PROGRAM}\"]\nweight = -10"))
}

fn start(segment: &Segment) -> Result<Agent> {
    write_program(&segment.a, PROGRAM, &format!("cat /proc/self/status > {SAID}.new; mv {SAID}.new {SAID}"))?;
    let agent = Agent::start(&segment.a, &[checked()])?;
    agent.await_state("Active")?;
    Ok(agent)
}

fn restricted() -> Result<()> {
    let segment = Segment::new()?;
    let agent = start(&segment)?;
    let status = agent.status()?;
    let (_, checked, _) = vipd(&segment.a, &["check", "--json", "--config", CONFIG])?;
    let promised = serde_json::from_str::<serde_json::Value>(&checked)?["sandbox"].take();
    ensure!(promised == serde_json::to_value(status.sandbox)?, "check promised {promised}: {:?}", status.sandbox);
    let level = status.sandbox.context("it is told")?;
    ensure!(level.seccomp, "{level:?}");
    let before = fs::read_to_string("/proc/self/status")?;
    let filters = |status: &str| field(status, "Seccomp_filters").map_or(Ok(0), |count| count.parse::<u32>());
    let of_test = filters(&before)?;
    let mut threads = Vec::new();
    for thread in fs::read_dir(format!("/proc/{}/task", status.pid))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let name = field(&status, "Name").context("a thread has a name")?;
        ensure!(field(&status, "Seccomp").as_deref() == Some("2"), "{name} makes any call");
        ensure!(field(&status, "NoNewPrivs").as_deref() == Some("1"), "{name} may gain privileges");
        ensure!(filters(&status)? == of_test + 2, "{name} has another filter");
        threads.push(name);
    }
    for expected in ["vipd", "control", "addresses", "journal", "memory", "hooks", "check db/says"] {
        ensure!(threads.iter().any(|name| name == expected), "no {expected} among {threads:?}");
    }
    // What it started is as the test is.
    let said = eventually("the check says what holds for it", || {
        Ok(lines_of(&segment.a, SAID).ok().filter(|lines| !lines.is_empty()))
    })?
    .join("\n");
    for name in ["Seccomp", "NoNewPrivs", "Seccomp_filters"] {
        ensure!(field(&said, name) == field(&before, name), "{name} is {:?}", field(&said, name));
    }
    ensure!(agent.stop()? == Some(0), "the exit code is not 0");
    Ok(())
}

fn killed() -> Result<()> {
    let segment = Segment::new()?;
    let agent = start(&segment)?;
    let pid = agent.status()?.pid;
    let programs = eventually("there is a process for programs", || programs_of(pid))?;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    eventually("it ends with its agent", || {
        let stat = fs::read_to_string(format!("/proc/{programs}/stat")).unwrap_or_default();
        Ok((stat.is_empty() || stat.contains(") Z ")).then_some(()))
    })
}

fn orphaned() -> Result<()> {
    let segment = Segment::new()?;
    let agent = start(&segment)?;
    let programs = eventually("there is a process for programs", || programs_of(agent.status()?.pid))?;
    // It is for the agent to end.
    kill(Pid::from_raw(programs), Signal::SIGTERM)?;
    fs::read_to_string(format!("/proc/{programs}/stat")).context("a signal is not its end")?;
    kill(Pid::from_raw(programs), Signal::SIGKILL)?;
    eventually("the agent gives up", || Ok(agent.status().is_err().then_some(())))?;
    crate::support::await_none(&segment.a)
}

fn reloaded() -> Result<()> {
    let segment = Segment::new()?;
    write_program(&segment.a, PROGRAM, &format!("echo hook >> {SAID}"))?;
    let agent = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent.await_state("Active")?;
    let hooked = Vip::new(200).with(&format!("[vip.hooks.after_release]\nexec = [\"{PROGRAM}\"]"));
    crate::support::configure(&segment.a, &[hooked])?;
    crate::support::reload(&segment.a)?;
    segment.a.write_file(crate::support::CONFIG.as_ref(), "nonsense")?;
    ensure!(agent.stop()? == Some(0), "the exit code is not 0");
    ensure!(lines_of(&segment.a, SAID)? == ["hook"]);
    Ok(())
}
