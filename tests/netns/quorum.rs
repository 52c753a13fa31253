//! Two real agents and a real witness: no partition has two hosts answer, and the side of the majority has one that does.
//!
//! The client is on the network of the addresses, where the nodes are `eth0`; they vote on another one, where they and the witness are
//! `eth1`. So each way among the three can be cut while the client reaches both nodes, which is when two owners would be seen.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use vipd::lab::{Host, Measurement, Network, Probe, Process};

use crate::support::{
    Agent, CONTROL, KEY, MAC_A, MAC_B, Segment, V4, Vip, configure, ensure_calm, eventually, ip, vipd, write_keys,
};
use crate::{TwoOwners, support, trial};

/// No host has it.
const ASKER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 250);
/// Of node b, at priority 100 and 100 ms between adverts: 3 intervals and the skew time.
const BOUND: Duration = Duration::from_millis(361);
/// What a busy machine may add to it.
const BUSY: Duration = Duration::from_millis(500);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("no_partition_has_two_hosts_answer_and_a_majority_has_one_that_does", partitions),
        trial("an_owner_that_is_killed_or_frozen_is_succeeded_with_a_witness_as_without", deaths),
        trial("losing_the_witness_is_an_alarm_and_moves_nothing", lost_witness),
        trial("an_agent_that_stops_gives_its_grants_back_and_one_that_restarts_keeps_them", stop_and_restart),
        trial("nodes_and_witness_change_their_key_one_by_one_and_nobody_moves", change_of_keys),
        trial("voters_do_not_change_by_a_reload", reload),
    ]
}

struct Stage {
    segment: Segment,
    _votes: Network,
    witness: Host,
    voting: Process,
    a: Agent,
    b: Agent,
    probe: Probe,
}

fn node(name: &str, priority: u8) -> Vip {
    let voters = [("a", 1), ("b", 2), ("w", 5)]
        .map(|(name, number)| format!("{{ name = \"{name}\", address = \"10.8.0.{number}\" }}"));
    let tables = format!(
        "[node]\nname = \"{name}\"\n[seal]\nkey_file = \"{KEY}\"\n[quorum]\nvoters = [{}]\nlongest_grant = \"1s\"",
        voters.join(", ")
    );
    Vip::new(priority).with(&tables)
}

fn start_witness(host: &Host) -> Result<Process> {
    let mut command = host.command(env!("CARGO_BIN_EXE_vipd"));
    let listen = ["--listen", "10.8.0.5", "--name", "w", "--longest-grant", "1s"];
    Process::start(command.arg("witness").args(listen).args(["--key-file", KEY, "--log", "json"]))
}

impl Stage {
    /// Node a owns the addresses, and all three voters vote.
    fn new() -> Result<Self> {
        let segment = Segment::new()?;
        let votes = Network::new()?;
        let witness = Host::new("w")?;
        for (host, number) in [(&segment.a, 1), (&segment.b, 2), (&witness, 5)] {
            host.plug(&votes, "eth1", &[&format!("10.8.0.{number}/24")])?;
            write_keys(host, &[0x5a])?;
        }
        let voting = start_witness(&witness)?;
        let probe = Probe::start(&segment.client, "eth0", ip(V4), ASKER)?;
        let a = Agent::start(&segment.a, &[node("a", 200)])?;
        let b = Agent::start(&segment.b, &[node("b", 100)])?;
        let stage = Self { segment, _votes: votes, witness, voting, a, b, probe };
        stage.settled()?;
        Ok(stage)
    }

    /// Node a owns the addresses by three votes, and b hears it.
    fn settled(&self) -> Result<()> {
        self.a.await_state("Active")?;
        self.b.await_state("Backup")?;
        eventually("b hears a's adverts", || Ok(self.b.vip()?.owner))?;
        eventually("all vote for a", || Ok(self.a.vip()?.grants.filter(|it| it.granted == 3)))?;
        eventually("nobody is silent or just started", || {
            let all = [self.a.status()?, self.b.status()?].map(|status| status.quorum.map(|it| it.voters));
            let is_well = |voters: &Vec<vipd::daemon::votes::VoterStatus>| {
                voters.len() == 3 && voters.iter().all(|it| !it.silent && it.votes_in_ms == 0.0)
            };
            Ok(all.iter().flatten().all(is_well).then_some(()))
        })?;
        Ok(())
    }

    fn measure(&self, fault: Instant, successor: [u8; 6]) -> Measurement {
        self.probe.record().measure(fault, Instant::now(), &[successor])
    }

    /// The nodes do not hear each other's adverts, and vote by the ways that are left. The client reaches both.
    fn part(&self, cut: &Cut) -> Result<()> {
        for host in [&self.segment.a, &self.segment.b] {
            host.port("eth0")?.set_isolated(cut.adverts)?;
            host.port("eth1")?.set_isolated(cut.pair)?;
        }
        for (host, is_cut) in [(&self.segment.a, cut.a), (&self.segment.b, cut.b), (&self.witness, cut.w)] {
            host.port("eth1")?.set_forwarding(!is_cut)?;
        }
        Ok(())
    }
}

/// What of the ways is cut.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    /// Between a and b, on the network of the addresses.
    adverts: bool,
    /// Between a and b, where they vote.
    pair: bool,
    /// Of one from all others, where they vote.
    a: bool,
    b: bool,
    w: bool,
}

fn partitions() -> Result<()> {
    let stage = Stage::new()?;
    let adverts = Cut { adverts: true, ..Cut::default() };
    let shapes = [
        // a keeps b's vote or the witness's.
        (Cut { pair: true, ..adverts }, Some(MAC_A)),
        (Cut { b: true, ..adverts }, Some(MAC_A)),
        (Cut { w: true, ..adverts }, Some(MAC_A)),
        (Cut { w: true, ..Cut::default() }, Some(MAC_A)),
        (adverts, Some(MAC_A)),
        // b has the witness.
        (Cut { a: true, ..adverts }, Some(MAC_B)),
        // Nobody has anybody.
        (Cut { pair: true, w: true, ..adverts }, None),
        (Cut { a: true, w: true, ..adverts }, None),
    ];
    for (cut, owner) in shapes {
        stage.settled()?;
        // After the announcements of the last shape.
        stage.probe.forget();
        let fault = Instant::now();
        stage.part(&cut)?;
        thread::sleep(3 * BOUND + BUSY);
        let calm = Instant::now();
        thread::sleep(Duration::from_millis(300));
        let record = stage.probe.record();
        let (measured, owners) = (stage.measure(fault, owner.unwrap_or(MAC_B)), record.owners_since(calm));
        eprintln!("{cut:?}: {owners:02x?}, {measured:?}");
        TwoOwners::never(measured.dual).with_context(|| format!("{cut:?}"))?;
        ensure!(owners == Vec::from_iter(owner), "{owners:02x?} answers, and not {owner:02x?}: {cut:?}");
        if owner == Some(MAC_B) {
            let takeover = measured.takeover.context("b answers")?;
            ensure!(takeover < BOUND * 12 / 10 + BUSY, "b answered after {takeover:?} only");
        }
        stage.part(&Cut::default())?;
    }
    stage.settled()
}

fn deaths() -> Result<()> {
    for freezes in [false, true] {
        let stage = Stage::new()?;
        let fault = Instant::now();
        stage.a.process().signal(if freezes { Signal::SIGSTOP } else { Signal::SIGKILL })?;
        stage.b.await_state("Active")?;
        thread::sleep(Duration::from_millis(500));
        if freezes {
            stage.a.process().signal(Signal::SIGCONT)?;
            stage.a.await_that("a is the owner again", |all| {
                (all.len() > 3 && all.last()?.to == "Active").then_some(())
            })?;
        }
        let measured = stage.measure(fault, MAC_B);
        let takeover = measured.takeover.context("b answers")?;
        eprintln!("frozen: {freezes}: b answered after {takeover:?}, both for {:?}", measured.dual);
        TwoOwners::never(measured.dual)?;
        ensure!(takeover < BOUND * 12 / 10 + BUSY, "b answered after {takeover:?} only");
    }
    Ok(())
}

fn lost_witness() -> Result<()> {
    let stage = Stage::new()?;
    stage.voting.signal(Signal::SIGKILL)?;
    for agent in [&stage.a, &stage.b] {
        eventually("the silence of the witness is told", || {
            let lines = agent.process().lines_from(0);
            Ok(lines.iter().any(|line| line.text.contains("voter w has not answered for")).then_some(()))
        })?;
        let voters = agent.status()?.quorum.context("it has voters")?.voters;
        ensure!(voters.iter().filter(|it| it.silent).map(|it| it.name.as_str()).eq(["w"]), "{voters:?}");
    }
    let (_, table, _) = vipd(&stage.segment.a, &["status", "--control", CONTROL])?;
    ensure!(table.contains("voter w SILENT for"), "{table}");
    let (_, events, _) = vipd(&stage.segment.a, &["events", "--state-dir", crate::support::STATE_DIR])?;
    ensure!(events.contains("voter w has not answered"), "{events}");
    ensure_calm(&[&stage.a, &stage.b], Duration::from_secs(1))?;
    // The votes of a and b are a majority.
    let grants = stage.a.vip()?.grants.context("it has voters")?;
    ensure!(grants.granted == 2 && grants.missing == ["w (no answer)"], "{grants:?}");
    let _voting = start_witness(&stage.witness)?;
    stage.settled()
}

fn stop_and_restart() -> Result<()> {
    let mut stage = Stage::new()?;
    // Within the lease: nothing moves, and the grants that it has not given back are its own.
    let before = stage.b.transitions().len();
    stage.a.process().kill()?;
    let began = Instant::now();
    let again = Agent::start(&stage.segment.a, &[node("a", 200)])?;
    let first = again.await_that("a goes on", |all| all.first().cloned())?;
    if began.elapsed() < Duration::from_millis(250) {
        ensure!(first.to == "Active" && first.cause.contains("lease"), "{first:?}");
        stage.b.ensure_calm_since(before)?;
    }
    stage.a = again;
    stage.settled()?;

    let fault = Instant::now();
    ensure!(stage.a.stop()? == Some(0), "a did not stop in good order");
    stage.b.await_state("Active")?;
    eventually("b answers", || Ok(stage.measure(fault, MAC_B).takeover))?;
    let measured = stage.measure(fault, MAC_B);
    let takeover = measured.takeover.context("b answers")?;
    eprintln!("b answered {takeover:?} after a was told to stop");
    TwoOwners::never(measured.dual)?;
    // Not after the 300 ms for which a had the grants: after the skew time.
    ensure!(takeover < Duration::from_millis(61) + BUSY, "b answered after {takeover:?} only");
    Ok(())
}

/// The order of `vipd keygen --help`: each step at all of them before the next at any.
fn change_of_keys() -> Result<()> {
    let stage = Stage::new()?;
    let counts = [&stage.a, &stage.b].map(|agent| agent.transitions().len());
    for keys in [&[0x5a, 0x6b][..], &[0x6b, 0x5a], &[0x6b]] {
        for host in [&stage.witness, &stage.segment.a, &stage.segment.b] {
            write_keys(host, keys)?;
            if host.name() == "w" {
                stage.voting.signal(Signal::SIGHUP)?;
                eventually("the witness has read its keys", || {
                    let reloads = stage.voting.lines_from(0);
                    let said = reloads.iter().rfind(|line| line.text.contains("reloaded: seal"));
                    Ok(said.filter(|line| line.at.elapsed() < Duration::from_secs(2)).map(drop))
                })?;
            } else {
                support::reload(host)?;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
    thread::sleep(Duration::from_millis(500));
    stage.a.ensure_calm_since(counts[0])?;
    stage.b.ensure_calm_since(counts[1])?;
    stage.settled()
}

fn reload() -> Result<()> {
    let stage = Stage::new()?;
    let counts = [&stage.a, &stage.b].map(|agent| agent.transitions().len());
    configure(&stage.segment.a, &[node("another", 200)])?;
    let (code, _, error) = vipd(&stage.segment.a, &["reload", "--control", CONTROL])?;
    ensure!(code == Some(3) && error.contains("the voters changed"), "{code:?} {error}");
    // The rest does.
    configure(&stage.segment.a, &[node("a", 210)])?;
    let said = support::reload(&stage.segment.a)?;
    ensure!(said.contains("priority 200 -> 210"), "{said}");
    stage.a.ensure_calm_since(counts[0])?;
    stage.b.ensure_calm_since(counts[1])?;
    stage.settled()
}
