//! What nodes say to each other sealed: who is believed, and what a changed key does.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use vipd::config::Seal;
use vipd::daemon::peers::{Heard, Peers};
use vipd::daemon::status::Status;
use vipd::driver::datagrams::Path;
use vipd::engine::seals::Sealing;
use vipd::lab::{Host, Tap};
use vipd::wire::seal::{Key, Keys, Topic};

use crate::support::{
    Agent, CONFIG, CONTROL, KEY, PATIENCE, Segment, V4, Vip, configure, eventually, host, reload, set_mode, vipd,
    write_keys,
};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an_agent_believes_who_has_its_key_and_nobody_else", key),
        trial("a_key_is_changed_by_reloads_and_no_session_ends", change),
        trial("sealed_adverts_elect_and_a_replayer_and_a_plain_third_move_nobody", adverts),
        trial("sealed_adverts_of_a_dead_owner_do_not_keep_its_successor_away", replayed),
        trial("sealing_is_rolled_out_by_reloads_and_nobody_moves", roll_out),
        trial("a_key_that_everybody_can_read_is_refused_at_the_start", readable),
    ]
}

fn key() -> Result<()> {
    let segment = Segment::new()?;
    write_keys(&segment.a, &[1])?;
    let agent = Agent::start(&segment.a, &[sealed()])?;
    agent.await_state("Active")?;
    ensure!(status(&agent)?.peers.is_empty(), "somebody is known already");

    for (address, name) in [("10.9.0.1:3112", "tester-4"), ("[fd09::1]:3112", "tester-6")] {
        speak(&segment.b, name, 1, address)?;
        eventually("the agent believes", || {
            Ok(status(&agent)?
                .peers
                .iter()
                .any(|peer| peer.name == name && peer.believed && peer.believes_us)
                .then_some(()))
        })?;
    }
    let before = status(&agent)?;
    ensure!(before.refused.is_empty(), "{:?}", before.refused);
    let refused = say(&segment.b, "stranger", 2, "10.9.0.1:3112", 2);
    ensure!(refused.is_err(), "an agent answered to another key");
    let after = eventually("the agent counts", || {
        let status = status(&agent)?;
        Ok(status.refused.contains_key("unknown-key").then_some(status))
    })?;
    ensure!((after.peers.len(), after.accepted) == (2, before.accepted), "{after:?}");
    let told = |line: &str| line.contains("\"WARN\"") && line.contains("sealed with another key");
    ensure!(agent.process().lines_from(0).iter().any(|line| told(&line.text)), "it is not logged");
    Ok(())
}

fn change() -> Result<()> {
    let segment = Segment::new()?;
    write_keys(&segment.a, &[1])?;
    let agent = Agent::start(&segment.a, &[sealed()])?;
    agent.await_state("Active")?;
    speak(&segment.b, "old", 1, "10.9.0.1:3112")?;
    for (keys, refused) in [(&[1, 2][..], None), (&[2, 1], None), (&[2], Some(1))] {
        write_keys(&segment.a, keys)?;
        let said = reload(&segment.a)?;
        ensure!(said.contains("seal: sealed with"), "{said}");
        speak(&segment.b, &format!("step-{}", keys[0]), keys[0], "10.9.0.1:3112")?;
        if let Some(key) = refused {
            ensure!(say(&segment.b, "late", key, "10.9.0.1:3112", 2).is_err(), "{key} is believed still");
        }
        ensure!(status(&agent)?.peers.iter().any(|peer| peer.name == "old" && peer.believed), "a session has ended");
    }
    configure(&segment.a, &[Vip::new(200).with("[node]\nname = \"a\"")])?;
    let said = reload(&segment.a)?;
    ensure!(said.contains("seal: off") && agent.status()?.seal.is_none(), "{said}");
    Ok(())
}

fn adverts() -> Result<()> {
    let segment = Segment::new()?;
    let tap = Tap::open(&segment.client, "eth0", Duration::from_millis(20))?;
    let [agent_a, agent_b] = pair(&segment, "require")?;
    // The owner's second life must be believed as well as its first.
    ensure!(agent_a.stop()? == Some(0), "a does not stop");
    agent_b.await_state("Active")?;
    let agent_a = Agent::start(&segment.a, &[vip("a", 200, "require")])?;
    agent_b.await_state("Backup")?;
    agent_a.await_state("Active")?;
    let said = record(&tap, Duration::from_secs(1))?;
    ensure!(said.len() > 10, "{} adverts recorded", said.len());

    let plain = host(&segment.network, "plain", 3)?;
    let third = Agent::start(&plain, &[Vip::new(250).addresses(format!("[\"{V4}/24\"]"))])?;
    third.await_state("Active")?;
    let counts = [agent_a.transitions().len(), agent_b.transitions().len()];
    for frame in said.iter().cycle().take(1_000) {
        tap.send(frame)?;
        thread::sleep(Duration::from_millis(1));
    }
    for (agent, count) in [(&agent_a, counts[0]), (&agent_b, counts[1])] {
        agent.ensure_calm_since(count)?;
        ensure!(drops(agent, "not-sealed")? > 0, "the plain third is not counted");
    }
    ensure!(drops(&agent_b, "replayed")? > 100, "{} replays counted", drops(&agent_b, "replayed")?);
    ensure!(drops(&agent_b, "stale-epoch")? > 0, "the first life is not counted");
    let told = |line: &str| line.contains("\"WARN\"") && line.contains("somebody repeats adverts");
    ensure!(agent_b.process().lines_from(0).iter().any(|line| told(&line.text)), "it is not logged");
    ensure!(status(&agent_b)?.adverts == "require", "{:?}", status(&agent_b)?);
    third.stop().map(drop)
}

fn replayed() -> Result<()> {
    let segment = Segment::new()?;
    let tap = Tap::open(&segment.client, "eth0", Duration::from_millis(20))?;
    let [_agent_a, agent_b] = pair(&segment, "require")?;
    let said = record(&tap, Duration::from_secs(1))?;
    segment.a.kill()?;
    let mut frames = said.iter().cycle();
    eventually("b is Active while the adverts of the dead owner are said again", || {
        tap.send(frames.next().context("adverts were recorded")?)?;
        Ok(agent_b.transitions().last().is_some_and(|last| last.to == "Active").then_some(()))
    })?;
    let active = agent_b.await_state("Active")?;
    ensure!(active.cause.contains("addresses installed"), "{}", active.cause);
    let claim = agent_b.transitions().into_iter().rfind(|transition| transition.to == "Claiming");
    let cause = claim.context("no claim")?.cause;
    ensure!(cause.starts_with("no advert for "), "{cause}");
    ensure!(drops(&agent_b, "replayed")? > 0, "nothing was repeated");
    Ok(())
}

fn roll_out() -> Result<()> {
    let segment = Segment::new()?;
    let agents = pair(&segment, "off")?;
    let counts = agents.each_ref().map(|agent| agent.transitions().len());
    let steps = ["off", "receive", "send", "require"];
    for step in steps.windows(2) {
        for (host, name, priority) in [(&segment.b, "b", 100), (&segment.a, "a", 200)] {
            configure(host, &[vip(name, priority, step[1])])?;
            let said = reload(host)?;
            ensure!(said.contains(&format!("adverts {} -> {}", step[0], step[1])), "{said}");
            thread::sleep(Duration::from_millis(600));
        }
    }
    for (agent, count) in agents.iter().zip(counts) {
        agent.ensure_calm_since(count)?;
    }
    let received = |agent: &Agent| Ok::<_, anyhow::Error>(agent.vip()?.routers[0].received);
    let before = received(&agents[1])?;
    eventually("b hears sealed adverts", || Ok((received(&agents[1])? > before + 3).then_some(())))
}

/// a owns, b follows.
fn pair(segment: &Segment, adverts: &str) -> Result<[Agent; 2]> {
    for host in [&segment.a, &segment.b] {
        write_keys(host, &[1])?;
    }
    let agent_a = Agent::start(&segment.a, &[vip("a", 200, adverts)])?;
    agent_a.await_state("Active")?;
    let agent_b = Agent::start(&segment.b, &[vip("b", 100, adverts)])?;
    agent_b.await_state("Backup")?;
    eventually("b hears a", || Ok(agent_b.vip()?.owner.filter(|owner| owner.priority == 200)))?;
    Ok([agent_a, agent_b])
}

fn vip(node: &str, priority: u8, adverts: &str) -> Vip {
    let tables = format!("[node]\nname = \"{node}\"\n[seal]\nkey_file = \"{KEY}\"\nadverts = \"{adverts}\"");
    Vip::new(priority).addresses(format!("[\"{V4}/24\"]")).with(&tables)
}

/// The adverts of IPv4 that pass, as frames.
fn record(tap: &Tap, time: Duration) -> Result<Vec<Vec<u8>>> {
    let (began, mut seen, mut buffer) = (Instant::now(), Vec::new(), vec![0; 2048]);
    while began.elapsed() < time {
        let Some((_, len)) = tap.recv(&mut buffer)? else { continue };
        let frame = &buffer[..len];
        // Ethernet, an IPv4 header, protocol 112.
        if frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&112) {
            seen.push(frame.to_vec());
        }
    }
    Ok(seen)
}

/// What an agent has dropped on its interfaces for a reason.
fn drops(agent: &Agent, reason: &str) -> Result<u64> {
    Ok(agent.status()?.links.iter().filter_map(|link| link.drops.get(reason)).sum())
}

fn readable() -> Result<()> {
    let segment = Segment::new()?;
    write_keys(&segment.a, &[1])?;
    set_mode(&segment.a, KEY, 0o644)?;
    configure(&segment.a, &[sealed()])?;
    let (code, _, said) = vipd(&segment.a, &["run", "--config", CONFIG, "--control", CONTROL])?;
    ensure!(code == Some(3) && said.contains("chmod o= /run/vipd/key"), "{code:?} {said}");
    Ok(())
}

fn sealed() -> Vip {
    Vip::new(200).with("[node]\nname = \"a\"\n[seal]\nkey_file = \"/run/vipd/key\"")
}

fn status(agent: &Agent) -> Result<vipd::daemon::peers::SealStatus> {
    let Status { seal, .. } = agent.status()?;
    seal.context("a status without the sealed messages")
}

/// Asks an agent for a session from another host, and says something in it.
fn speak(host: &Host, name: &str, key: u8, to: &str) -> Result<()> {
    say(host, name, key, to, 2 * PATIENCE.as_secs())
}

/// The same, trying so often.
fn say(host: &Host, name: &str, key: u8, to: &str, tries: u64) -> Result<()> {
    let keys = Keys::new(Key::new(&[key; 32])?, None);
    let remote: SocketAddr = to.parse()?;
    host.run_in(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut peers = Peers::open(name, &Seal { keys, port: 3112, adverts: Sealing::Off })?;
            for _ in 0..tries {
                peers.greet(Path { ifindex: 0, remote })?;
                let heard = poll_fn(|context| peers.poll_receive(context));
                match tokio::time::timeout(Duration::from_millis(500), heard).await {
                    Ok(Ok(Heard::Session { peer, .. })) => return Ok(peers.send(&peer, Topic::Heartbeat, b"here")?),
                    Ok(Ok(heard @ (Heard::Message { .. } | Heard::Refused { .. }))) => bail!("{heard:?}"),
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => {}
                }
            }
            bail!("no answer")
        })
    })?
}
