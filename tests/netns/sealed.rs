//! What nodes say to each other sealed: who is believed, and what a changed key does.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use vipd::config::Seal;
use vipd::daemon::peers::{Heard, Peers};
use vipd::daemon::status::Status;
use vipd::driver::datagrams::Path;
use vipd::lab::Host;
use vipd::wire::seal::{Key, Keys, Topic};

use crate::support::{Agent, CONFIG, CONTROL, PATIENCE, Segment, Vip, configure, eventually, vipd};
use crate::trial;

const KEY: &str = "/run/vipd/key";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an_agent_believes_who_has_its_key_and_nobody_else", key),
        trial("a_key_is_changed_by_reloads_and_no_session_ends", change),
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

fn readable() -> Result<()> {
    let segment = Segment::new()?;
    write_keys(&segment.a, &[1])?;
    chmod(&segment.a, "644")?;
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

fn reload(host: &Host) -> Result<String> {
    let (code, said, complaint) = vipd(host, &["reload", "--control", CONTROL])?;
    ensure!(code == Some(0), "vipd reload: {code:?} {complaint}");
    Ok(said)
}

fn write_keys(host: &Host, keys: &[u8]) -> Result<()> {
    let lines: String = keys.iter().map(|key| format!("{key:02x}").repeat(32) + "\n").collect();
    host.write_file(KEY.as_ref(), &lines)?;
    chmod(host, "640")
}

fn chmod(host: &Host, mode: &str) -> Result<()> {
    ensure!(host.command("chmod").args([mode, KEY]).status()?.success(), "chmod {mode} {KEY}");
    Ok(())
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
            let mut peers = Peers::open(name, &Seal { keys, port: 3112 })?;
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
