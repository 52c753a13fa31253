//! A changed file under agents at work: what it changes, and that the rest does not notice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use vipd::lab::{Host, Network, Tap};

use crate::support::{
    Agent, CONFIG, CONTROL, MAC_A, MAC_B, Segment, V4, Vip, await_none, configure, ensure_calm, eventually, host,
    interfaces, learn, own_addresses, reload, vipd,
};
use crate::trial;

const MORE: &str = "10.9.0.150";
/// Of vips that must notice nothing. So long that an agent without real-time scheduling keeps its lease on a busy machine.
const INTERVAL_MS: u32 = 500;
/// How late an advert may be of an agent with real-time scheduling.
const LATE: Duration = Duration::from_millis(50);
/// And of one without, beside whatever else the machine does: half an interval, a sixth of what a takeover takes.
const LATE_WITHOUT_REALTIME: Duration = Duration::from_millis(250);
/// So long before an advert is due the file is read: what a reload holds up is that advert.
const BEFORE: Duration = Duration::from_millis(100);
/// The best of a few: that nothing is late is a property of the agent, not of a busy machine.
const ATTEMPTS: usize = 3;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_reload_without_a_change_moves_nothing_and_delays_no_advert", no_change),
        trial("a_reload_changes_priorities_and_intervals_in_place", in_place),
        trial("a_reload_adds_and_removes_addresses_under_an_owner", || addresses("")),
        trial("a_reload_adds_and_removes_addresses_on_a_virtual_mac", || addresses("mac = \"virtual\"")),
        trial("a_reload_adds_and_removes_vips_and_interfaces", vips),
        trial("a_reload_of_250_vips_moves_and_delays_none_that_stays", many),
        trial("a_reload_of_an_invalid_file_changes_nothing_and_says_why", invalid),
    ]
}

fn no_change() -> Result<()> {
    let segment = Segment::new()?;
    let vip = |priority| Vip::new(priority).every_ms(INTERVAL_MS);
    let vips = |priority| [vip(priority), vip(priority).named("two").vrid(52).addresses("[\"10.9.0.102/24\"]")];
    let agent_a = Agent::start(&segment.a, &vips(200))?;
    await_all_in(&agent_a, "Active", 2)?;
    let agent_b = Agent::start(&segment.b, &vips(100))?;
    await_all_in(&agent_b, "Backup", 2)?;
    let (count_a, count_b) = (agent_a.transitions().len(), agent_b.transitions().len());
    let installed = own_addresses(&segment.a)?;
    let mut priority = 200;
    ensure_undelayed(&segment.client, &agent_a, |adverts| {
        for _ in 0..3 {
            adverts.await_time_before_next()?;
            let said = reload(&segment.a)?;
            ensure!(said.contains("nothing changed; 2 vips go on"), "{said}");
            adverts.await_time_before_next()?;
            agent_a.process().signal(Signal::SIGHUP)?;
            agent_b.process().signal(Signal::SIGHUP)?;
        }
        // The other of the two changes.
        for _ in 0..3 {
            priority += 1;
            adverts.await_time_before_next()?;
            configure(&segment.a, &[vips(200)[0].clone(), vips(priority)[1].clone()])?;
            let said = reload(&segment.a)?;
            ensure!(said.contains(&format!("~ two: priority {} -> {priority}", priority - 1)), "{said}");
        }
        adverts.await_time_before_next()
    })?;
    agent_a.ensure_calm_since(count_a)?;
    agent_b.ensure_calm_since(count_b)?;
    ensure!(own_addresses(&segment.a)? == installed, "the addresses are not as they were");
    Ok(())
}

/// As many as one interface's VRIDs nearly allow; every fifth comes and goes.
fn many() -> Result<()> {
    let segment = Segment::new()?;
    let vips = |priority, all: bool| -> Vec<_> {
        let vip = |vrid: u8| {
            let addresses = format!("[\"10.9.1.{vrid}/24\"]");
            Vip::new(priority).every_ms(INTERVAL_MS).named(format!("vip-{vrid}")).vrid(vrid).addresses(addresses)
        };
        (1..=250).filter(|vrid| all || vrid % 5 != 0).map(vip).collect()
    };
    let agent_a = Agent::start(&segment.a, &vips(200, false))?;
    await_all_in(&agent_a, "Active", 200)?;
    let agent_b = Agent::start(&segment.b, &vips(100, false))?;
    await_all_in(&agent_b, "Backup", 200)?;
    eventually("a has all addresses", || Ok((own_addresses(&segment.a)?.len() == 200).then_some(())))?;
    let (count_a, count_b) = (agent_a.transitions().len(), agent_b.transitions().len());
    ensure_undelayed(&segment.client, &agent_a, |adverts| {
        for (all, vips_there) in [(true, 250), (false, 200)] {
            adverts.await_time_before_next()?;
            configure(&segment.a, &vips(200, all))?;
            let began = Instant::now();
            let said = reload(&segment.a)?;
            eprintln!("{}: {:?}", said.lines().next().unwrap_or_default(), began.elapsed());
            eventually("a has all addresses", || Ok((own_addresses(&segment.a)?.len() == vips_there).then_some(())))?;
        }
        adverts.await_time_before_next()
    })?;
    agent_b.ensure_calm_since(count_b)?;
    let stays = |name: &str| name.trim_start_matches("vip-").parse().is_ok_and(|vrid: u8| !vrid.is_multiple_of(5));
    let moved: Vec<_> = agent_a.transitions().into_iter().skip(count_a).filter(|moved| stays(&moved.vip)).collect();
    ensure!(moved.is_empty(), "{moved:?}");
    Ok(())
}

fn in_place() -> Result<()> {
    let segment = Segment::new()?;
    let [agent_a, agent_b] = segment.pair(Vip::new)?;
    for interval_ms in [1_000, 300, 900, 300] {
        configure(&segment.a, &[Vip::new(200).every_ms(interval_ms)])?;
        reload(&segment.a)?;
        ensure_calm(&[&agent_a, &agent_b], Duration::from_millis(1_300))?;
        let learned = agent_b.vip()?.advert_interval_ms;
        ensure!(learned == u64::from(interval_ms), "b keeps to {learned} ms");
        ensure!(learn(&segment.client, V4)? == MAC_A, "a does not answer");
    }
    let count = agent_a.transitions().len();
    configure(&segment.b, &[Vip::new(250)])?;
    let said = reload(&segment.b)?;
    ensure!(said.contains("~ db: priority 100 -> 250"), "{said}");
    agent_b.await_state("Active")?;
    agent_a.await_that("a yields", |seen| seen.get(count..)?.iter().find(|one| one.to == "Backup").cloned())?;
    eventually("b answers", || Ok((learn(&segment.client, V4)? == MAC_B).then_some(())))?;
    ensure!(agent_b.vip()?.cause.starts_with("preempts"), "{}", agent_b.vip()?.cause);
    Ok(())
}

fn addresses(mac: &str) -> Result<()> {
    let segment = Segment::new()?;
    let vip = |priority, addresses: &str| Vip::new(priority).addresses(addresses).with(mac);
    let (one, both) = (format!("[\"{V4}/24\"]"), format!("[\"{V4}/24\", \"{MORE}/24\", \"2001:db8::150/64\"]"));
    let [agent_a, agent_b] = segment.pair(|priority| vip(priority, &one))?;
    let (count_a, count_b) = (agent_a.transitions().len(), agent_b.transitions().len());
    let owner_mac = learn(&segment.client, V4)?;
    let macvlans = interfaces(&segment.a)?.len();

    for _ in 0..2 {
        for host in [&segment.b, &segment.a] {
            configure(host, &[vip(if host.name() == "a" { 200 } else { 100 }, &both)])?;
            let said = reload(host)?;
            ensure!(said.contains(&format!("+ {MORE}/24")), "{said}");
        }
        // IPv6 brings a link-local address with it.
        eventually("all are installed", || Ok((own_addresses(&segment.a)?.len() == 4).then_some(())))?;
        ensure!(learn(&segment.client, MORE)? == owner_mac, "{MORE} does not answer");
        ensure!(own_addresses(&segment.b)?.is_empty(), "b has addresses");
        thread::sleep(Duration::from_millis(400));

        for host in [&segment.a, &segment.b] {
            configure(host, &[vip(if host.name() == "a" { 200 } else { 100 }, &one)])?;
            let said = reload(host)?;
            ensure!(said.contains(&format!("- {MORE}/24")), "{said}");
        }
        eventually("the others are gone", || Ok((own_addresses(&segment.a)?.len() == 1).then_some(())))?;
        eventually("nor is their macvlan left", || Ok((interfaces(&segment.a)?.len() == macvlans).then_some(())))?;
        ensure!(learn(&segment.client, V4)? == owner_mac, "{V4} does not answer");
        thread::sleep(Duration::from_millis(400));
    }
    agent_a.ensure_calm_since(count_a)?;
    agent_b.ensure_calm_since(count_b)?;
    // It is no longer vipd's: if somebody else brings it there, it answers.
    segment.a.add_address("eth0", &format!("{MORE}/24"))?;
    let fresh = host(&segment.network, "fresh", 8)?;
    ensure!(learn(&fresh, MORE)? == MAC_A, "{MORE} is not at its interface");
    Ok(())
}

fn vips() -> Result<()> {
    let segment = Segment::new()?;
    let vip = |priority| Vip::new(priority).every_ms(INTERVAL_MS);
    let other = |priority: u8| vip(priority).named("two").vrid(52).addresses("[\"10.9.0.102/24\"]");
    let late = vip(100).named("late").on("eth1").vrid(53).addresses("[\"10.8.0.100/24\"]");
    let agent_a = Agent::start(&segment.a, &[vip(200)])?;
    let agent_b = Agent::start(&segment.b, &[vip(100), other(100)])?;
    agent_a.await_state("Active")?;
    agent_b.await_that("b owns the other", |seen| {
        seen.iter().find(|one| one.vip == "two" && one.to == "Active").cloned()
    })?;

    configure(&segment.a, &[late, other(200), vip(200)])?;
    let said = reload(&segment.a)?;
    ensure!(said.contains("2 added, 0 removed, 0 replaced, 0 changed, 1 as before"), "{said}");
    ensure!(said.contains("note: ") && said.contains("eth1"), "{said}");
    agent_a.await_that("a preempts", |seen| seen.iter().find(|one| one.vip == "two" && one.to == "Active").cloned())?;
    ensure!(learn(&segment.client, "10.9.0.102")? == MAC_A, "a does not answer for what was added");
    let names: Vec<_> = agent_a.status()?.vips.into_iter().map(|vip| vip.name).collect();
    ensure!(names == ["late", "two", "db"], "{names:?}");

    // An interface that the agent did not know at its start, and that comes after the reload.
    segment.a.plug(&Network::new()?, "eth1", &["10.8.0.1/24"])?;
    agent_a.await_that("the late one is Active", |seen| {
        seen.iter().find(|one| one.vip == "late" && one.to == "Active").cloned()
    })?;

    configure(&segment.a, &[vip(200)])?;
    let said = reload(&segment.a)?;
    ensure!(said.contains("- late\n") && said.contains("- two\n"), "{said}");
    let count = |vip: &str, to: &str, agent: &Agent| {
        agent.transitions().iter().filter(|one| one.vip == vip && one.to == to).count()
    };
    eventually("b is its owner again", || Ok((count("two", "Active", &agent_b) == 2).then_some(())))?;
    eventually("a keeps the one", || Ok((own_addresses(&segment.a)?.len() == 3).then_some(())))?;
    eventually("b answers", || Ok((learn(&segment.client, "10.9.0.102")? == MAC_B).then_some(())))?;
    ensure!(count("db", "Active", &agent_a) == 1 && agent_a.vip()?.state == "Active", "the one that stayed moved");

    // As another virtual router, and back.
    configure(&segment.a, &[vip(200).vrid(60)])?;
    let said = reload(&segment.a)?;
    ensure!(said.contains("1 replaced"), "{said}");
    await_none(&segment.a)?;
    eventually("b is the owner", || Ok((count("db", "Active", &agent_b) >= 1).then_some(())))?;
    configure(&segment.a, &[vip(200)])?;
    reload(&segment.a)?;
    eventually("a is the owner", || Ok((learn(&segment.client, V4)? == MAC_A).then_some(())))?;
    ensure!(agent_a.stop()? == Some(0), "the exit code is not 0");
    await_none(&segment.a)
}

fn invalid() -> Result<()> {
    let segment = Segment::new()?;
    let (code, _, said) = vipd(&segment.a, &["reload", "--control", CONTROL])?;
    ensure!(code == Some(4) && said.contains("no agent answers"), "{code:?}: {said}");
    let agent = Agent::start(&segment.a, &[Vip::new(200)])?;
    agent.await_state("Active")?;
    let before = own_addresses(&segment.a)?;
    let count = agent.transitions().len();

    configure(&segment.a, &[Vip::new(100).with("prioritty = 5").with("nonsense = true"), Vip::new(1)])?;
    let (_, _, checked) = vipd(&segment.a, &["check", "--config", CONFIG])?;
    let (code, out, said) = vipd(&segment.a, &["reload", "--control", CONTROL])?;
    ensure!(code == Some(3) && out.is_empty(), "{code:?}: {out}");
    ensure!(said == checked && said.contains("prioritty"), "reload says\n{said}\ncheck says\n{checked}");
    agent.process().signal(Signal::SIGHUP)?;
    let refused = |line: &str| line.contains("not reloaded") && line.contains("prioritty");
    for _ in 0..2 {
        ensure!(agent.process().wait_for_line(Duration::from_secs(5), refused).is_some(), "nothing is logged");
    }
    ensure_calm(&[&agent], Duration::from_millis(500))?;
    ensure!(agent.vip()?.priority == 200 && own_addresses(&segment.a)? == before, "something changed");
    agent.ensure_calm_since(count)?;

    // And once it is right, a signal is enough.
    configure(&segment.a, &[Vip::new(150)])?;
    agent.process().signal(Signal::SIGHUP)?;
    eventually("the priority is another", || Ok((agent.vip()?.priority == 150).then_some(())))?;
    agent.ensure_calm_since(count)
}

/// Waits until so many vips are in a state.
fn await_all_in(agent: &Agent, state: &str, count: usize) -> Result<()> {
    agent.await_that(&format!("{count} vips are {state}"), |seen| {
        let states: BTreeMap<&str, &str> = seen.iter().map(|one| (one.vip.as_str(), one.to.as_str())).collect();
        (states.values().filter(|to| **to == state).count() == count).then_some(())
    })
}

/// No advert of VRID 51 is late while something is done at its owner.
fn ensure_undelayed(client: &Host, owner: &Agent, mut what: impl FnMut(&Adverts) -> Result<()>) -> Result<()> {
    let late = if owner.status()?.realtime { LATE } else { LATE_WITHOUT_REALTIME };
    let mut best = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let adverts = Adverts::watch(client, 51)?;
        what(&adverts)?;
        let gap = adverts.longest_gap()?;
        eprintln!("the longest gap between two adverts of {INTERVAL_MS} ms: {gap:?}");
        best = best.min(gap);
        if best < Duration::from_millis(INTERVAL_MS.into()) + late {
            return Ok(());
        }
    }
    bail!("an advert was {best:?} after the one before")
}

/// Writes down when the adverts of a virtual router pass a client.
struct Adverts {
    seen: Arc<Mutex<Vec<Instant>>>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Adverts {
    fn watch(client: &Host, vrid: u8) -> Result<Self> {
        let tap = Tap::open(client, "eth0", Duration::from_millis(20))?;
        let (seen, stopping) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (all, stop) = (Arc::clone(&seen), Arc::clone(&stopping));
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 2048];
            while !stop.load(Ordering::Relaxed) {
                let Some((at, len)) = tap.recv(&mut buffer)? else { continue };
                // Ethernet, an IPv4 header without options, protocol 112, the VRID in the second byte.
                let frame = &buffer[..len];
                if frame.get(12..15) == Some(&[8, 0, 0x45])
                    && frame.get(23) == Some(&112)
                    && frame.get(35) == Some(&vrid)
                {
                    lock(&all).push(at);
                }
            }
            Ok(())
        });
        Ok(Self { seen, stopping, thread })
    }

    /// Waits for an advert, and then until the next is nearly due.
    fn await_time_before_next(&self) -> Result<()> {
        let before = lock(&self.seen).len();
        let last = eventually("the next advert", || Ok(lock(&self.seen).get(before).copied()))?;
        let due = last + Duration::from_millis(INTERVAL_MS.into());
        thread::sleep((due - BEFORE).saturating_duration_since(Instant::now()));
        Ok(())
    }

    fn longest_gap(self) -> Result<Duration> {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the tap panicked"))??;
        let seen = lock(&self.seen);
        ensure!(seen.len() > 3, "{} adverts seen", seen.len());
        seen.windows(2).map(|pair| pair[1] - pair[0]).max().context("adverts")
    }
}

fn lock(seen: &Mutex<Vec<Instant>>) -> MutexGuard<'_, Vec<Instant>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
