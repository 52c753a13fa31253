//! The recipe `config/dns-trio` with three real agents: each serves its share, a killed one's is spread over the others, and one that
//! comes back takes its own after the delay.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use vipd::lab::{Host, Network};

use crate::support::{Agent, CONFIG, PATIENCE, Transition, eventually, reload};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("of_a_spread_only_what_a_dead_host_had_moves_and_comes_back_after_the_delay", trio)]
}

const HOSTS: [&str; 3] = ["ns-a", "ns-b", "ns-c"];
/// Instead of the recipe's 30 s.
const DELAY: Duration = Duration::from_secs(3);

/// Something answers on the port of a name server.
fn serve(host: &Host) -> Result<()> {
    let listener = host.run_in(|| TcpListener::bind("0.0.0.0:53"))?.context("port 53")?;
    // It ends with the tests.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    Ok(())
}

/// Which host has each vip, where exactly one has it.
fn owners(agents: &BTreeMap<&'static str, Agent>) -> Result<BTreeMap<String, &'static str>> {
    let mut owners = BTreeMap::new();
    for (name, agent) in agents {
        for vip in agent.status()?.vips.into_iter().filter(|vip| vip.state == "Active") {
            if owners.insert(vip.name.clone(), *name).is_some() {
                owners.remove(&vip.name);
            }
        }
    }
    Ok(owners)
}

fn await_owners(agents: &BTreeMap<&'static str, Agent>, wanted: &BTreeMap<String, &'static str>) -> Result<()> {
    let found = eventually("all is where it should be", || {
        // One that has just been started does not answer yet.
        Ok(owners(agents).ok().filter(|found| found == wanted))
    });
    found.map(drop).with_context(|| format!("{:?} instead of {wanted:?}", owners(agents)))
}

/// As the order of each vip says, while these live.
fn computed(live: &[&'static str]) -> BTreeMap<String, &'static str> {
    let orders = [
        ("dns1", ["ns-c", "ns-a", "ns-b"]),
        ("dns2", ["ns-b", "ns-a", "ns-c"]),
        ("dns3", ["ns-a", "ns-c", "ns-b"]),
        ("dns4", ["ns-a", "ns-b", "ns-c"]),
    ];
    let first = |(vip, order): (&str, [&'static str; 3])| {
        Some((vip.to_owned(), order.into_iter().find(|host| live.contains(host))?))
    };
    orders.into_iter().filter_map(first).collect()
}

fn recipe() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/dns-trio/vipd.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    ensure!(text.contains("delay = \"30s\""), "{text}");
    Ok(text.replace("delay = \"30s\"", "delay = \"3s\""))
}

/// What moved on a host since it had so many transitions.
fn moved(agent: &Agent, since: usize) -> Vec<Transition> {
    agent.transitions().split_off(since)
}

fn trio() -> Result<()> {
    let network = Network::new()?;
    let mut hosts = BTreeMap::new();
    for (name, number) in HOSTS.into_iter().zip(11..) {
        let host = Host::new(name)?;
        host.plug(&network, "eno1", &[&format!("10.20.0.{number}/24")])?;
        serve(&host)?;
        hosts.insert(name, host);
    }
    let client = Host::new("client")?;
    client.plug(&network, "eno1", &["10.20.0.9/24"])?;
    let all_answer = || {
        client.run_in(|| {
            let mut vips = (61..=64).map(|last| SocketAddr::from(([10, 20, 0, last], 53)));
            vips.all(|vip| TcpStream::connect_timeout(&vip, Duration::from_millis(500)).is_ok())
        })
    };
    let file = recipe()?;
    let mut agents = BTreeMap::new();
    for name in HOSTS {
        agents.insert(name, Agent::start_with_file(&hosts[name], &file)?);
    }
    await_owners(&agents, &computed(&HOSTS))?;
    ensure!(all_answer()?, "from the start");
    let (_, shown, _) = agents["ns-b"].vipd(&["status"])?;
    let shown: BTreeSet<String> =
        shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "SPREAD VIP STATE THIS NODE IS ORDER",
        "dns dns2 Active 1 of 3 ns-b ns-a ns-c",
        "dns dns3 Backup 3 of 3 ns-a ns-c ns-b",
    ] {
        ensure!(shown.contains(line), "`{line}` is not in {shown:#?}");
    }

    let share: BTreeSet<String> =
        computed(&HOSTS).into_iter().filter(|(_, host)| *host == "ns-a").map(|(vip, _)| vip).collect();
    ensure!(share.len() == 2, "{share:?}");
    let others = ["ns-b", "ns-c"];
    let before = others.map(|name| agents[name].transitions().len());
    let dead = agents.remove("ns-a").context("it was started")?;
    let killed = Instant::now();
    dead.process().signal(Signal::SIGKILL)?;
    dead.process().wait(PATIENCE)?.context("a killed agent ends")?;
    await_owners(&agents, &computed(&others))?;
    println!("dns-trio: one was killed, and its addresses were elsewhere after {:?}", killed.elapsed());
    ensure!(all_answer()?, "without the first host");
    for (name, since) in others.into_iter().zip(before) {
        let moved = moved(&agents[name], since);
        ensure!(moved.iter().all(|it| share.contains(&it.vip)), "{name}: {moved:?}");
    }

    let before = others.map(|name| agents[name].transitions().len());
    let started = Instant::now();
    agents.insert("ns-a", Agent::start_with_file(&hosts["ns-a"], &file)?);
    await_owners(&agents, &computed(&HOSTS))?;
    let claims = agents["ns-a"].transitions().into_iter().filter(|it| it.to == "Active");
    let first = claims.map(|it| it.at - started).min().context("it owns some")?;
    println!("dns-trio: it came back, and took its share after {first:?}");
    ensure!(first >= DELAY, "before the delay: {first:?}");
    ensure!(all_answer()?, "with the first host again");
    for (name, since) in others.into_iter().zip(before) {
        let moved = moved(&agents[name], since);
        ensure!(moved.iter().all(|it| share.contains(&it.vip)), "{name}: {moved:?}");
    }

    let other_weights = file.replace("ns-a = 2, ns-b = 1", "ns-a = 0, ns-b = 3");
    ensure!(other_weights != file, "{file}");
    let mut said = String::new();
    for name in HOSTS {
        hosts[name].write_file(CONFIG.as_ref(), &other_weights)?;
        said = reload(&hosts[name])?;
    }
    ensure!(
        said.contains("~ dns4: priority 200 -> ") && said.contains(", spread dns (ns-a ns-b ns-c) -> dns ("),
        "{said}"
    );
    eventually("the third keeps one of four, and the first none", || {
        let owners = owners(&agents)?;
        let has = |name: &str| owners.values().filter(|owner| **owner == name).count();
        Ok((HOSTS.map(has) == [0, 3, 1]).then_some(()))
    })
}
