//! What becomes of the addresses of an agent that is killed or hangs, on kernels of each kind: with egress hooks, with hooks of IP and
//! ARP only, and without nftables.

use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use vipd::driver::addresses::{Addresses, InstallOptions};
use vipd::lab::{Host, Probe};
use vipd::types::VirtualAddress;

use crate::support::{
    Agent, CONFIG, CONTROL, MAC_A, MAC_B, Segment, V4, V6, Vip, await_all, await_none, ensure_calm, eventually, ip,
    lifetimes_left, own_addresses, vipd,
};
use crate::{TwoOwners, trial};

/// No host has it.
const ASKER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 250);

/// Longer than an address lives of which nobody renews the lifetime, and than a successor needs.
const LONG: Duration = Duration::from_secs(5);

/// What a busy machine may add to what is measured.
const NOISE: Duration = Duration::from_secs(1);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("netdev_never_lets_two_hosts_answer_when_the_owners_agent_is_killed", || killed("netdev")),
        trial("inet_and_arp_never_let_two_hosts_answer_when_the_owners_agent_is_killed", || killed("inet+arp")),
        trial("lifetimes_alone_end_a_killed_owner_within_their_resolution", || killed("lifetime")),
        trial("netdev_never_lets_two_hosts_answer_when_the_owners_agent_hangs", || frozen("netdev")),
        trial("inet_and_arp_never_let_two_hosts_answer_when_the_owners_agent_hangs", || frozen("inet+arp")),
        trial("lifetimes_alone_end_a_frozen_owner_within_their_resolution", || frozen("lifetime")),
        trial("lifetimes_alone_and_a_successor_that_asks_let_no_two_hosts_answer", asked),
        trial("a_lifetime_that_ends_under_an_owner_is_no_removal_by_another_program", expired),
        trial("an_agent_of_lifetimes_alone_gives_up_at_a_stop_and_starts_clean_after_a_kill", lifetimes_alone),
    ]
}

/// Two agents whose leases that layer enforces, and a client that asks.
struct Stage {
    segment: Segment,
    a: Agent,
    b: Agent,
    probe: Probe,
    resolution: Duration,
}

impl Stage {
    fn new(layer: &str) -> Result<Self> {
        // A successor that asks whether the address still answers would hide what the layer is worth.
        Self::with(layer, "on_silent_owner = \"take\"")
    }

    fn with(layer: &str, more: &str) -> Result<Self> {
        let segment = Segment::new()?;
        let arguments = ["--enforcement", layer];
        // Without preemption the thawed one has nothing to say for ever.
        let vip = |priority| [Vip::new(priority).with("preempt = false").with(more)];
        let a = Agent::start_with(&segment.a, &vip(200), &arguments)?;
        let b = Agent::start_with(&segment.b, &vip(100), &arguments)?;
        a.await_state("Active")?;
        b.await_state("Backup")?;
        await_all(&segment.a)?;
        let status = a.status()?;
        ensure!(status.lease_layer == layer, "it says {}", status.lease_layer);
        ensure!(status.leases_enforced == (layer != "lifetime"));
        let resolution = Duration::from_millis(status.lease_resolution_ms);
        ensure!((resolution > Duration::ZERO) == (layer == "lifetime"), "a resolution of {resolution:?}");
        let probe = Probe::start(&segment.client, "eth0", ip(V4), ASKER)?;
        // They live on, and nobody is told that one went.
        ensure_calm(&[&a, &b], LONG)?;
        await_all(&segment.a)?;
        Ok(Self { segment, a, b, probe, resolution })
    }

    /// Two hosts answered for no longer than the layer promises; and where it promises less than never, that is seen.
    fn judge(self, fault: Instant) -> Result<Self> {
        let record = self.probe.record();
        let measured = record.measure(fault, Instant::now(), &[MAC_B]);
        ensure!(record.owners_since(fault).contains(&MAC_B), "the successor never answered");
        eprintln!("{:?}: two hosts answered for {:?}", self.resolution, measured.dual);
        if self.resolution.is_zero() {
            TwoOwners::never(measured.dual)?;
        } else {
            ensure!(!measured.dual.is_zero(), "a promise that is too modest: {measured:?}");
            let until = measured.dual_until.context("two hosts answered")?;
            // The lease was renewed an interval before the fault at most.
            ensure!(until <= self.resolution + Duration::from_millis(300) + NOISE, "for too long: {measured:?}");
        }
        Ok(self)
    }

    /// Host a has what is its own, and nothing else.
    fn require_clean(&self) -> Result<()> {
        await_none(&self.segment.a)?;
        let left = self.segment.a.addresses("eth0")?;
        for own in ["10.9.0.1", "fd09::1"] {
            ensure!(left.contains(&ip(own)), "{own}, which is the host's own, is gone");
        }
        let routes = self.segment.a.run_in(|| fs::read_to_string("/proc/thread-self/net/ipv6_route"))??;
        ensure!(routes.contains("fd090000000000000000000000000000 40"), "the host's own route is gone:\n{routes}");
        Ok(())
    }
}

fn killed(layer: &str) -> Result<()> {
    let stage = Stage::new(layer)?;
    let fault = Instant::now();
    stage.a.process().kill()?;
    stage.b.await_state("Active")?;
    thread::sleep((fault + LONG).saturating_duration_since(Instant::now()));
    stage.require_clean()?;
    let stage = stage.judge(fault)?;
    ensure!(stage.a.process().lines_from(0).iter().all(|line| !line.text.contains("another program")));
    Ok(())
}

/// The address answers for seconds after the lease; who asks before it takes it waits for that.
fn asked() -> Result<()> {
    let stage = Stage::with("lifetime", "on_silent_owner = \"wait\"")?;
    let fault = Instant::now();
    stage.a.process().kill()?;
    stage.b.await_state("Active")?;
    thread::sleep(NOISE);
    let measured = stage.probe.record().measure(fault, Instant::now(), &[MAC_B]);
    // A lifetime is ended by a work queue, which a busy machine may run later than the successor waits.
    ensure!(measured.dual.is_zero(), "two hosts answered: {measured:?}");
    ensure!(measured.takeover.is_some(), "the successor never answered");
    eprintln!("took over after {:?}", measured.takeover);
    stage.require_clean()
}

fn frozen(layer: &str) -> Result<()> {
    let stage = Stage::new(layer)?;
    let fault = Instant::now();
    stage.a.process().signal(Signal::SIGSTOP)?;
    stage.b.await_state("Active")?;
    thread::sleep((fault + LONG).saturating_duration_since(Instant::now()));
    stage.require_clean()?;
    let before = stage.b.transitions().len();
    let thawed = Instant::now();
    stage.a.process().signal(Signal::SIGCONT)?;
    let deposed = stage.a.await_state("Backup")?;
    ensure!(deposed.cause.ends_with("the lease lapsed"), "it stepped back because {:?}", deposed.cause);
    ensure_calm(&[&stage.a, &stage.b], Duration::from_secs(1))?;
    stage.b.ensure_calm_since(before)?;
    let owners = stage.probe.record().owners_since(thawed);
    ensure!(!owners.contains(&MAC_A), "the thawed host answered: {owners:02x?}");
    stage.require_clean()?;
    let stage = stage.judge(fault)?;
    let lines = stage.a.process().lines_from(0);
    let told: Vec<_> =
        lines.iter().filter(|line| line.text.contains("removed") || line.text.contains("put back")).collect();
    ensure!(told.is_empty(), "what the kernel did was laid to another: {told:?}");
    Ok(())
}

/// As on a host that is too busy for a while: somebody else shortens the lifetimes between two renewals.
fn expired() -> Result<()> {
    let segment = Segment::new()?;
    let agent = Agent::start(&segment.a, &[Vip::new(200).every_ms(2_000)])?;
    agent.await_state("Active")?;
    await_all(&segment.a)?;
    let count = agent.transitions().len();
    let renewed = next_renewal(&segment.a)?;
    eprintln!("renewed {:?} ago", renewed.elapsed());
    let vips = [(V4, 24), (V6, 64)].map(|(ip_, prefix_len)| VirtualAddress { ip: ip(ip_), prefix_len, label: None });
    let second = InstallOptions { valid_lifetime: Some(Duration::from_secs(1)), ..InstallOptions::default() };
    let index = segment.a.link("eth0")?.index;
    segment.a.run_in(|| Addresses::open()?.install(index, &vips, second).map_err(std::io::Error::other))??;
    eventually("the agent says that it was too busy", || {
        let lines = agent.process().lines_from(0);
        Ok(lines.iter().any(|line| line.text.contains("was too busy to renew the lifetime")).then_some(()))
    })?;
    await_all(&segment.a)?;
    agent.ensure_calm_since(count)?;
    let lines = agent.process().lines_from(0);
    ensure!(lines.iter().all(|line| !line.text.contains("another program removed")), "it blames another program");
    Ok(())
}

/// Waits until the agent on a host has just renewed its addresses' lifetimes.
fn next_renewal(host: &Host) -> Result<Instant> {
    let left = || -> Result<u32> { lifetimes_left(host)?.into_iter().max().context("an address with a lifetime") };
    let mut before = left()?;
    eventually("a renewal", || {
        let now = left()?;
        let renewed = now > before;
        before = now;
        Ok(renewed.then(Instant::now))
    })
}

fn lifetimes_alone() -> Result<()> {
    let segment = Segment::new()?;
    let start = || Agent::start_with(&segment.a, &[Vip::new(200)], &["--enforcement", "lifetime"]);
    let agent = start()?;
    agent.await_state("Active")?;
    await_all(&segment.a)?;
    let said = agent.has_said("lifetimes ALONE");
    ensure!(said, "its log does not say so");
    let (_, table, _) = vipd(&segment.a, &["status", "--control", CONTROL])?;
    ensure!(
        table.contains("lifetimes ALONE") && table.contains("for up to 3.0 s"),
        "the status does not say so:\n{table}"
    );
    let (_, checked, _) = vipd(&segment.a, &["check", "--config", CONFIG])?;
    ensure!(
        checked.contains("at the interface (nftables, netdev)"),
        "check does not say what this kernel has:\n{checked}"
    );
    ensure!(agent.stop()? == Some(0));
    ensure!(own_addresses(&segment.a)?.is_empty(), "{:?}", own_addresses(&segment.a)?);
    let agent = start()?;
    agent.await_state("Active")?;
    agent.process().kill()?;
    // Nobody can tell the next one how long the lease was: it takes nothing over.
    let agent = start()?;
    let first = agent.await_that("the first state", |transitions| transitions.first().cloned())?;
    ensure!(first.to == "Backup", "it went on as {first:?}");
    agent.await_state("Active")?;
    Ok(())
}
