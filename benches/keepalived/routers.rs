//! 1,000 virtual routers on 4 interfaces: how long until all are up, and how far apart they are taken over when their owner's
//! machine dies.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use vipd::lab::{Host, Network, Router, Software};

use super::listen::Listener;
use super::report::{head, ms, row};

const INTERFACES: u8 = 4;
const PER_INTERFACE: u8 = 250;
const INTERVAL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn measure(both: &[Software; 2], repeats: usize) -> Result<()> {
    head("1,000 virtual routers on 4 interfaces, adverts of 1 s (in parentheses: 3 intervals and the skew, in ms)");
    let mut figures: [[Vec<f64>; 2]; 3] = Default::default();
    for _ in 0..repeats {
        for (index, software) in both.iter().enumerate() {
            let measured = once(software).with_context(|| software.name())?;
            for (figure, duration) in figures.iter_mut().zip(measured) {
                figure[index].push(ms(duration));
            }
        }
    }
    let [start, takeover, apart] = &figures;
    row("alone: start to last Active (3219)", "ms", start);
    row("owner dies: last takeover (3609)", "ms", takeover);
    row("owner dies: first to last takeover", "ms", apart);
    Ok(())
}

/// The virtual routers of a node: on each interface, number 1 to 250.
pub(crate) fn routers(count: usize, priority: u8) -> Vec<Router> {
    let all = (0..INTERFACES).flat_map(|interface| (1..=PER_INTERFACE).map(move |vrid| (interface, vrid)));
    all.take(count)
        .map(|(interface, vrid)| Router {
            name: format!("r{interface}-{vrid}"),
            vrid,
            priority,
            interval: INTERVAL,
            version: 3,
            interface: format!("eth{interface}"),
            addresses: vec![format!("{}/32", address(interface, vrid))],
            preempt: true,
            unicast: None,
            second_path: None,
            voters: Vec::new(),
        })
        .collect()
}

/// The interfaces of a host: `eth0` to `eth3`.
pub(crate) fn interfaces() -> Vec<String> {
    (0..INTERFACES).map(|interface| format!("eth{interface}")).collect()
}

/// A host on all four networks.
pub(crate) fn host(name: &str, last: u8, networks: &[Network]) -> Result<Host> {
    let host = Host::new(name)?;
    for (interface, network) in (0..INTERFACES).zip(networks) {
        host.plug(network, &format!("eth{interface}"), &[&format!("10.{}.0.{last}/24", 80 + interface)])?;
    }
    Ok(host)
}

/// Four networks.
pub(crate) fn networks() -> Result<Vec<Network>> {
    (0..INTERFACES).map(|_| Network::new()).collect()
}

fn address(interface: u8, vrid: u8) -> IpAddr {
    IpAddr::from([10, 80 + interface, 1, vrid])
}

fn once(software: &Software) -> Result<[Duration; 3]> {
    let networks = networks()?;
    let client = host("client", 9, &networks)?;
    let (a, b) = (host("node-a", 1, &networks)?, host("node-b", 2, &networks)?);
    let listener = Listener::start(&client, &interfaces())?;
    let addresses: Vec<_> =
        (0..INTERFACES).flat_map(|interface| (1..=PER_INTERFACE).map(move |vrid| address(interface, vrid))).collect();

    let started = Instant::now();
    let _agent_a = software.start(&a, &routers(addresses.len(), 200))?;
    listener.wait(&addresses, PATIENCE, |first| first.announced).context("at the start")?;
    let (_, up) = listener.span(&addresses, |first| first.announced).context("no announcement")?;
    let agent_b = software.start(&b, &routers(addresses.len(), 100))?;
    // node-b starts and hears node-a, and announcements that are still queued or repeated go out: keepalived's come after 5 s.
    thread::sleep(Duration::from_secs(8));
    agent_b.ensure_running()?;

    listener.forget();
    let fault = a.kill()?;
    listener.wait(&addresses, PATIENCE, |first| first.announced).context("after the fault")?;
    let (first, last) = listener.span(&addresses, |first| first.announced).context("no announcement")?;
    Ok([up - started, last - fault, last - first])
}
