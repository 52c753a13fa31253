//! One vip of 1,000 addresses: how far apart the first and the last of them come back when the owner's machine dies.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use vipd::lab::{Host, INTERFACE, Network, Router, Software};

use super::listen::Listener;
use super::report::{head, ms, row};

const COUNT: u16 = 1000;
const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);

/// Of so many addresses one is asked for, and the last: to ask for all of them at once takes as long as what is measured,
/// and the processor from it.
const SAMPLED: usize = 10;

/// The time between two rounds of questions.
const ROUND: Duration = Duration::from_millis(1);

pub(crate) fn measure(both: &[Software; 2], repeats: usize) -> Result<()> {
    head(
        "One vip of 1,000 addresses, adverts of 100 ms: its owner's machine dies; times from the first sign of the new owner; each tenth is asked for",
    );
    let mut answers = [Vec::new(), Vec::new()];
    let mut announcements = [Vec::new(), Vec::new()];
    for _ in 0..repeats {
        for (index, software) in both.iter().enumerate() {
            let [answered, announced] = once(software).with_context(|| software.name())?;
            answers[index].push(ms(answered));
            announcements[index].push(ms(announced));
        }
    }
    row("the last address answers", "ms", &answers);
    row("the last address is announced", "ms", &announcements);
    Ok(())
}

fn once(software: &Software) -> Result<[Duration; 2]> {
    let network = Network::new()?;
    let client = Host::new("client")?;
    client.plug(&network, INTERFACE, &["10.77.0.9/16"])?;
    let addresses: Vec<IpAddr> =
        (0..COUNT).map(|n| IpAddr::from([10, 77, 16 + n.to_be_bytes()[0], n.to_be_bytes()[1]])).collect();
    let node = |last: u8, priority: u8| -> Result<_> {
        let host = Host::new(if last == 1 { "node-a" } else { "node-b" })?;
        host.plug(&network, INTERFACE, &[&format!("10.77.0.{last}/16")])?;
        let router = Router {
            name: "shared".to_owned(),
            vrid: 51,
            priority,
            interval: INTERVAL,
            version: 3,
            interface: INTERFACE.to_owned(),
            addresses: addresses.iter().map(|address| format!("{address}/32")).collect(),
            preempt: true,
            unicast: None,
            second_path: None,
            voters: Vec::new(),
        };
        let agent = software.start(&host, &[router])?;
        Ok((host, agent))
    };
    let listener = Listener::start(&client, &[INTERFACE.to_owned()])?;
    let (a, _agent_a) = node(1, 200)?;
    listener.wait(&addresses, PATIENCE, |first| first.announced).context("at the start")?;
    let (_b, agent_b) = node(2, 100)?;
    // Long enough for node-b to have started and heard node-a, and for announcements that are still queued.
    thread::sleep(Duration::from_secs(2));
    agent_b.ensure_running()?;

    listener.forget();
    let fault = a.kill()?;
    let until = fault + PATIENCE;
    let sample: Vec<IpAddr> = addresses.iter().step_by(SAMPLED).chain(addresses.last()).copied().collect();
    let answer = |asked: &[IpAddr]| asked.iter().all(|address| listener.of(*address).answered.is_some());
    let has_begun = || listener.span(&addresses, |first| first.answered.or(first.announced)).is_some();
    ask_until(&listener, &sample[..1], until, has_begun)?;
    ask_until(&listener, &sample, until, || answer(&sample))?;
    ask_until(&listener, &addresses, until, || answer(&addresses))?;
    listener.wait(&addresses, PATIENCE, |first| first.announced)?;
    let (first, last) = listener.span(&sample, |first| first.answered).context("no answer")?;
    let (first_announced, announced) = listener.span(&addresses, |first| first.announced).context("no announcement")?;
    let begin = first.min(first_announced);
    Ok([last - begin, announced - begin])
}

fn ask_until(listener: &Listener, addresses: &[IpAddr], until: Instant, is_over: impl Fn() -> bool) -> Result<()> {
    while !is_over() {
        ensure!(Instant::now() < until, "no takeover, or some addresses never answer");
        listener.ask(addresses)?;
        thread::sleep(ROUND);
    }
    Ok(())
}
