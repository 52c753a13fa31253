//! A fence agent as a real program: what it is told, and that a claim waits for it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use vipd::lab::Host;

use crate::journal::{await_event, events};
use crate::support::{
    Agent, CONFIG, CONTROL, PATIENCE, Segment, Vip, await_all, await_none, ensure_calm, eventually, install_program,
    set_mode, vipd,
};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_frozen_owner_is_fenced_before_the_claim", fenced),
        trial("a_fencing_that_fails_keeps_the_claim_back", fails),
        trial("the_watchdog_is_fed_by_an_owner_that_runs_and_disarmed_by_one_that_gives_up", watchdog),
        trial("a_program_that_others_can_change_is_refused_at_the_start", refused),
    ]
}

const PROGRAM: &str = "/run/vipd/fence_test";

/// A fence agent that kills one process, the peer's agent, and says so at `status`.
fn fence_agent(host: &Host, victim: u32, works: bool) -> Result<String> {
    let off =
        if works { format!("kill -KILL {victim} || exit 1; echo 1 > /run/vipd/off; exit 0") } else { "exit 1".into() };
    let script = format!(
        "#!/bin/sh\nset -f\nread_action() {{ while IFS= read -r line; do echo \"$line\" >> /run/vipd/told; \
         case $line in action=*) action=${{line#action=}};; esac; done; }}\nread_action\ncase $action in\n\
         off) sleep 1; {off};;\nstatus) test -e /run/vipd/off && exit 2; exit 0;;\nesac\nexit 1\n"
    );
    install_program(host, PROGRAM, &script)?;
    host.write_file("/run/vipd/secret".as_ref(), "hunter2\n")?;
    set_mode(host, "/run/vipd/secret", 0o600)?;
    Ok(format!(
        "[fence]\nrequire = true\ndelay = \"0s\"\n[[fence.peer]]\nname = \"a\"\nprogram = \"{PROGRAM}\"\naction = \"off\"\n\
         attempts = 1\noptions = {{ ip = \"192.0.2.7\" }}\nsecrets = {{ password = \"/run/vipd/secret\" }}\n"
    ))
}

fn fenced() -> Result<()> {
    let segment = Segment::new()?;
    let agent_a = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent_a.await_state("Active")?;
    let fence = fence_agent(&segment.b, agent_a.process().pid(), true)?;
    let agent_b = Agent::start(&segment.b, &[Vip::new(100).with(&fence)])?;
    agent_b.await_state("Backup")?;
    ensure_calm(&[&agent_b], Duration::from_millis(500))?;

    agent_a.process().signal(Signal::SIGSTOP)?;
    let active = agent_b.await_state("Active")?;
    // It was killed before `status` said so, and its end takes a moment.
    agent_a.process().wait(PATIENCE)?.context("b claimed, and a lives")?;
    await_all(&segment.b)?;
    let told = segment.b.run_in(|| fs::read_to_string("/run/vipd/told"))??;
    ensure!(told.starts_with("nodename=a\naction=off\nip=192.0.2.7\npassword=hunter2\n"), "{told}");
    let fenced = await_event(&segment.b, "the fencing in the journal", |record| record.kind == "fenced")?;
    ensure!(fenced.evidence.get("peer").and_then(|peer| peer.as_str()) == Some("a"), "{fenced:?}");
    ensure!(!format!("{:?}", events(&segment.b)?).contains("hunter2"), "the journal has the secret");
    ensure!(active.written > humantime::parse_rfc3339(&fenced.at)?, "b claimed before a was fenced");
    eprintln!("Active {:?} after it was fenced: {}", active.cause, fenced.text);
    Ok(())
}

fn fails() -> Result<()> {
    let segment = Segment::new()?;
    let agent_a = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent_a.await_state("Active")?;
    let fence = fence_agent(&segment.b, agent_a.process().pid(), false)?;
    let agent_b = Agent::start(&segment.b, &[Vip::new(100).with(&fence)])?;
    agent_b.await_state("Backup")?;
    ensure_calm(&[&agent_b], Duration::from_millis(500))?;
    agent_a.process().kill()?;
    let failed = await_event(&segment.b, "the failure in the journal", |record| record.kind == "fence-failed")?;
    ensure!(failed.text.contains("off: exit code 1; status: exit code 0"), "{failed:?}");
    ensure!(failed.evidence.get("claims").context("no evidence")? == false, "{failed:?}");
    ensure_calm(&[&agent_b], Duration::from_millis(1_000))?;
    await_none(&segment.b)
}

fn watchdog() -> Result<()> {
    const DEVICE: &str = "/run/vipd/watchdog";
    let segment = Segment::new()?;
    segment.a.write_file(DEVICE.as_ref(), "")?;
    let fence = format!("[fence.self]\nwatchdog = \"{DEVICE}\"\ntimeout = \"2s\"\n");
    let fed = || Ok::<_, anyhow::Error>(segment.a.run_in(|| fs::read_to_string(DEVICE))??);
    let agent_a = Agent::start(&segment.a, &[Vip::new(200).with(&fence)])?;
    agent_a.await_state("Active")?;
    let begun = fed()?.len();
    eventually("it is fed again", || Ok((fed()?.len() >= begun + 2).then_some(())))?;
    ensure!(!fed()?.trim_start_matches('V').ends_with('V'), "an owner has disarmed it: {:?}", fed()?);

    agent_a.process().signal(Signal::SIGSTOP)?;
    let stat = format!("/proc/{}/stat", agent_a.process().pid());
    eventually("it stands still", || Ok(fs::read_to_string(&stat)?.contains(") T ").then_some(())))?;
    let frozen = fed()?;
    std::thread::sleep(Duration::from_millis(2_500));
    ensure!(fed()? == frozen, "a frozen agent fed it");
    agent_a.process().signal(Signal::SIGCONT)?;
    eventually("it is fed again", || Ok((fed()?.len() > frozen.len()).then_some(())))?;

    let drained = vipd(&segment.a, &["drain", "--control", CONTROL])?;
    ensure!(drained.0 == Some(0), "{drained:?}");
    eventually("it is disarmed", || Ok(fed()?.ends_with('V').then_some(())))?;
    let (code, ..) = vipd(&segment.a, &["undrain", "--control", CONTROL])?;
    ensure!(code == Some(0), "{code:?}");
    eventually("it is armed again", || Ok(fed()?.ends_with('.').then_some(())))?;
    agent_a.stop()?;
    ensure!(fed()?.ends_with('V'), "a clean stop leaves it armed: {:?}", fed()?);

    // One that is killed leaves it armed.
    let agent_a = Agent::start(&segment.a, &[Vip::new(200).with(&fence)])?;
    agent_a.await_state("Active")?;
    agent_a.process().kill()?;
    ensure!(fed()?.ends_with('.'), "a kill disarmed it");
    Ok(())
}

fn refused() -> Result<()> {
    let host = Host::new("a")?;
    let fence = fence_agent(&host, 0, true)?;
    crate::support::configure(&host, &[Vip::new(100).with(&fence)])?;
    set_mode(&host, PROGRAM, 0o777)?;
    set_mode(&host, "/run/vipd/secret", 0o644)?;
    let (code, _, said) =
        vipd(&host, &["run", "--config", CONFIG, "--control", CONTROL, "--state-dir", "/run/vipd/state"])?;
    ensure!(code == Some(3), "{code:?}: {said}");
    ensure!(
        said.contains("`/run/vipd/fence_test` can be changed by others") && said.contains("can be read by everybody"),
        "{said}"
    );
    Ok(())
}
