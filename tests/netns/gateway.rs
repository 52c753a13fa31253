//! The recipe for a pair of gateways, as it is shipped: a client inside pings a host outside all the time, while one gateway after the
//! other fails.
//!
//! `cargo test --test netns gateway -- --nocapture` prints how long the pings were away.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use libtest_mimic::Trial;
use socket2::{Domain, Protocol, Socket, Type};
use vipd::driver::ipv4_conf::{self, Setting};
use vipd::driver::netlink::Netlink;
use vipd::driver::routing::RoutingTables;
use vipd::lab::{Host, Network};
use vipd::types::{Family, Prefix, Routing, VirtualRoute};
use vipd::wire::echo::{self, Echo};

use crate::support::Agent;
use crate::trial;

/// A ping so often.
const SPACING: Duration = Duration::from_millis(5);
/// Outside, behind the router that the recipe names.
const TARGET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Three intervals of 100 ms and the skew are 361 ms; the rest is for a machine that is busy.
const LONGEST_GAP: Duration = Duration::from_millis(1_500);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the_gateway_recipe_outlives_a_host_an_interface_and_an_agent", faults),
        trial("a_gateway_without_one_side_is_none", one_side),
    ]
}

/// The networks inside and outside, and who is on them.
struct World {
    inside: Network,
    outside: Network,
    client: Host,
    /// The router outside, which knows no way inside.
    _router: Host,
}

impl World {
    fn new() -> Result<Self> {
        let (inside, outside) = (Network::new()?, Network::new()?);
        let client = Host::new("client")?;
        client.plug(&inside, "eth0", &["192.168.10.50/24"])?;
        route(&client, "eth0", Ipv4Addr::new(192, 168, 10, 1))?;
        let router = Host::new("router")?;
        router.plug(&outside, "eth0", &["203.0.113.254/24"])?;
        router.add_address("lo", &format!("{TARGET}/32"))?;
        Ok(Self { inside, outside, client, _router: router })
    }

    /// A machine as the recipe has it, with its interfaces and its firewall.
    fn gateway(&self, name: &str, number: u8) -> Result<(Host, Agent)> {
        let host = Host::new(name)?;
        for (network, interface, prefix) in [(&self.inside, "eno1", "192.168.10"), (&self.outside, "eno2", "203.0.113")]
        {
            host.plug(network, interface, &[&format!("{prefix}.{number}/24")])?;
            let index = host.link(interface)?.index;
            host.run_in(|| ipv4_conf::write(&mut Netlink::open()?, index, Setting::Forwarding, 1))??;
        }
        let mut nft = host.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("nft")?;
        let rules = fs::read(recipe("gateway.nft"))?;
        nft.stdin.take().context("nft reads")?.write_all(&rules)?;
        ensure!(nft.wait()?.success(), "nft does not take gateway.nft");
        let agent = Agent::start_with_file(&host, &fs::read_to_string(recipe(&format!("{name}.toml")))?)?;
        Ok((host, agent))
    }
}

fn recipe(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/gateway-pair").join(file)
}

/// A default route, as an administrator would configure it.
fn route(host: &Host, interface: &str, via: Ipv4Addr) -> Result<()> {
    let index = host.link(interface)?.index;
    let to = Prefix::everything(Family::V4);
    let route = VirtualRoute { to, via: Some(via.into()), source: None, table: VirtualRoute::MAIN, metric: 0 };
    host.run_in(|| anyhow::Ok(RoutingTables::open()?.install(index, &[Routing::Route(route)])?))?
}

fn faults() -> Result<()> {
    let world = World::new()?;
    let (gw_a, agent_a) = world.gateway("gw-a", 2)?;
    await_both(&agent_a, "Active")?;
    let (gw_b, agent_b) = world.gateway("gw-b", 3)?;
    await_both(&agent_b, "Backup")?;
    let pings = Pings::start(&world.client)?;
    pings.await_answer()?;

    let killed_at = gw_a.kill()?;
    report("the owner's host is killed", pings.gap(killed_at)?)?;
    await_both(&agent_b, "Active")?;

    // It comes back, and waits for its delay; then the other loses the side that it does not ask its pings on.
    let (_gw_a, agent_a) = world.gateway("gw-a", 2)?;
    await_both(&agent_a, "Backup")?;
    let down_at = Instant::now();
    gw_b.set_up("eno2", false)?;
    report("the owner's interface outside goes down", pings.gap(down_at)?)?;
    await_both(&agent_a, "Active")?;
    await_both(&agent_b, "Initialize")?;
    gw_b.set_up("eno2", true)?;
    await_both(&agent_b, "Backup")?;

    let stopped_at = Instant::now();
    ensure!(agent_a.stop()? == Some(0), "it does not stop properly");
    report("the owner's agent is stopped", pings.gap(stopped_at)?)?;
    await_both(&agent_b, "Active")?;
    pings.stop()
}

fn one_side() -> Result<()> {
    let world = World::new()?;
    let (gw_a, agent_a) = world.gateway("gw-a", 2)?;
    await_both(&agent_a, "Active")?;
    gw_a.set_up("eno1", false)?;
    await_both(&agent_a, "Initialize")?;
    let causes: Vec<_> = agent_a.status()?.vips.into_iter().map(|vip| vip.cause).collect();
    ensure!(causes[1] == "inside of the same group: interface down or without carrier", "{causes:?}");
    ensure!(gw_a.addresses("eno2")?.len() == 2, "only its own, of either family: {:?}", gw_a.addresses("eno2")?);
    let left = gw_a.run_in(|| anyhow::Ok(RoutingTables::open()?.own()?))??;
    ensure!(left.is_empty(), "{left:?}");
    gw_a.set_up("eno1", true)?;
    await_both(&agent_a, "Active")
}

fn await_both(agent: &Agent, state: &str) -> Result<()> {
    crate::support::eventually(&format!("both sides are {state}"), || {
        let Ok(status) = agent.status() else { return Ok(None) };
        ensure!(status.vips.iter().all(|vip| vip.group.as_deref() == Some("gateway")), "they are no group");
        Ok(status.vips.iter().all(|vip| vip.state == state).then_some(()))
    })
}

fn report(what: &str, gap: Duration) -> Result<()> {
    eprintln!("gateway: {what}: the client's pings were away for {} ms", gap.as_millis());
    ensure!(gap <= LONGEST_GAP, "{what}: {gap:?}");
    Ok(())
}

/// A client that pings all the time.
struct Pings {
    /// When each ping that was answered was sent, by its number.
    answered: Arc<Mutex<Vec<Instant>>>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Pings {
    fn start(client: &Host) -> Result<Self> {
        let socket = client.run_in(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))??;
        socket.set_read_timeout(Some(SPACING))?;
        let (answered, ended) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (answers, end) = (Arc::clone(&answered), Arc::clone(&ended));
        let thread = thread::spawn(move || ping(&socket, &answers, &end));
        Ok(Self { answered, ended, thread })
    }

    fn sent_and_answered(&self) -> Vec<Instant> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn await_answer(&self) -> Result<()> {
        crate::support::eventually("a ping is answered", || Ok((!self.sent_and_answered().is_empty()).then_some(())))
    }

    /// The longest time between two pings that were answered, since just before a fault; once they are answered for a second.
    fn gap(&self, fault: Instant) -> Result<Duration> {
        crate::support::eventually("pings are answered again", || {
            let sent = self.sent_and_answered();
            let before = sent.iter().rev().find(|at| **at < fault).copied();
            let since: Vec<Instant> = before.into_iter().chain(sent.into_iter().filter(|at| *at >= fault)).collect();
            let longest = since.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
            let calm = since.last().is_some_and(|last| *last > fault + longest + Duration::from_secs(1));
            Ok(calm.then_some(longest))
        })
    }

    fn stop(self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the client panicked"))?.context("the client")
    }
}

fn ping(mut socket: &Socket, answered: &Mutex<Vec<Instant>>, ended: &AtomicBool) -> io::Result<()> {
    const IDENTIFIER: u16 = 0x7670;
    let target = SocketAddrV4::new(TARGET, 0).into();
    let mut sent: Vec<Instant> = Vec::new();
    let mut packet = [0; 256];
    while !ended.load(Ordering::Relaxed) {
        let now = Instant::now();
        if sent.last().is_none_or(|last| now >= *last + SPACING) {
            let sequence = u16::try_from(sent.len()).expect("a test pings for less than five minutes");
            sent.push(now);
            // While nobody has the gateway's address this may fail, and is a ping without an answer.
            socket.send_to(&Echo { family: Family::V4, identifier: IDENTIFIER, sequence }.request(), &target).ok();
        }
        let Ok(length) = socket.read(&mut packet) else { continue };
        let bytes = &packet[..length];
        if echo::answer(Family::V4, bytes) != Some(IDENTIFIER) {
            continue;
        }
        // Behind the IP header, which has no options here, and the identifier.
        let sequence = bytes.get(26..28).and_then(|bytes| bytes.first_chunk()).map(|bytes| u16::from_be_bytes(*bytes));
        let at = sequence.and_then(|sequence| sent.get(usize::from(sequence)));
        answered.lock().unwrap_or_else(PoisonError::into_inner).extend(at);
    }
    Ok(())
}
