//! Two nodes that share an address, and a client that asks for it: the set-up of every scenario.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::host::Host;
use super::leases::LeaseRecord;
use super::network::Network;
use super::probe::Probe;
use super::process::Process;
use super::software::{Agent, AgentEvent, Router, Software, vipd};
use super::stranger::Stranger;

/// The interface of every host.
pub const INTERFACE: &str = "eth0";
/// That of the second path, on the nodes.
pub(super) const SECOND_INTERFACE: &str = "eth1";
/// A host that votes.
const WITNESS: &str = "witness";

/// No host has it.
const ASKER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 250);

/// How often a waiting scenario looks.
const LOOK_PERIOD: Duration = Duration::from_millis(5);

/// What kind of pair.
#[derive(Clone, Debug)]
pub struct PairOptions {
    /// What node-a and node-b run.
    pub software: [Software; 2],
    /// Of node-a and node-b.
    pub priority: [u8; 2],
    /// At least 10 ms in version 3, whole seconds in version 2.
    pub interval: Duration,
    /// 2 or 3.
    pub version: u8,
    /// Whether the shared address is one of IPv6.
    pub ipv6: bool,
    /// Adverts by unicast instead of multicast.
    pub unicast: bool,
    /// Whether the nodes have a second link, which the client is not on, for heartbeats. Of vipd's use only.
    pub second_path: bool,
    /// Whether a third host votes with the nodes, on a second link that the client is not on. Of vipd's use only.
    pub witness: bool,
}

/// The set-up. All of it vanishes when dropped.
pub struct Pair {
    options: PairOptions,
    network: Network,
    second: Option<Network>,
    /// Keeps the witness.
    _witness: Option<(Host, Process)>,
    client: Host,
    /// node-a and node-b.
    pub nodes: [Node; 2],
    probe: Probe,
    /// A third host that has the shared address, too.
    pub(super) stranger: Option<Stranger>,
}

/// A machine of the pair.
pub struct Node {
    /// The machine.
    pub host: Host,
    /// What it runs; `None`: it was killed or has not been started.
    pub agent: Option<Agent>,
    router: Router,
    software: Software,
    /// Of vipd only: which leases it had.
    leases: Option<LeaseRecord>,
    /// How many of the agent's events have been shown.
    shown: usize,
}

/// Told what happens while it happens.
pub trait Watch {
    /// An agent said something of itself.
    fn event(&mut self, node: &str, event: &AgentEvent);
    /// The lab does or sees something.
    fn note(&mut self, at: Instant, who: &str, text: &str);
    /// Called every few milliseconds.
    fn look(&mut self, pair: &Pair);
}

impl Pair {
    /// Makes the machines and starts the probe. No agent runs yet.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn new(options: PairOptions) -> Result<Self> {
        let network = Network::new()?;
        let client = Host::new("client")?;
        client.plug(&network, INTERFACE, &["10.77.0.9/24", "fd77::9/64"])?;
        let second = if options.second_path || options.witness { Some(Network::new()?) } else { None };
        let nodes = [0, 1].map(|number| Node::new(&options, number, &network, second.as_ref()));
        let [a, b] = nodes;
        let nodes = [a?, b?];
        let witness = match (&second, options.witness, &options.software[0]) {
            (Some(second), true, Software::Vipd(program)) => {
                let host = Host::new(WITNESS)?;
                host.plug(second, SECOND_INTERFACE, &["10.78.0.5/24"])?;
                let process = vipd::witness(program, &host, vipd::longest_grant(nodes[0].router()))?;
                Some((host, process))
            }
            _ => None,
        };
        let probe = Probe::start(&client, INTERFACE, address(&options), ASKER)?;
        Ok(Self { options, network, second, _witness: witness, client, nodes, probe, stranger: None })
    }

    /// What it was made of.
    pub const fn options(&self) -> &PairOptions {
        &self.options
    }

    /// The client.
    pub const fn client(&self) -> &Host {
        &self.client
    }

    /// The shared address.
    pub fn address(&self) -> IpAddr {
        address(&self.options)
    }

    /// The probe at work.
    pub const fn probe(&self) -> &Probe {
        &self.probe
    }

    /// For how long the kernels of both nodes have had a lease on it since an instant. `None`: that cannot be seen.
    pub fn both_leased(&self, since: Instant) -> Option<Duration> {
        let [a, b] = &self.nodes;
        a.leases.as_ref()?.both(b.leases.as_ref()?, since)
    }

    /// Starts the agent of a node, 0 or 1, anew.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self, node: usize) -> Result<()> {
        let Node { host, agent, router, software, shown, .. } = &mut self.nodes[node];
        // What is left of an earlier one ends here, before its successor finds it.
        *agent = None;
        *agent = Some(software.start(host, std::slice::from_ref(router))?);
        *shown = 0;
        Ok(())
    }

    /// The machine of a node, 0 or 1, is switched off and on again: nothing of it is left but its MAC address.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn reboot(&mut self, node: usize) -> Result<()> {
        self.nodes[node].host.kill()?;
        self.nodes[node] = Node::new(&self.options, node, &self.network, self.second.as_ref())?;
        Ok(())
    }

    /// A third host on the network, which does not yet have the shared address.
    pub(super) fn new_stranger(&self) -> Result<Stranger> {
        Stranger::new(&self.network, INTERFACE, self.address())
    }

    /// Waits, and shows what the agents say meanwhile, until a condition holds that is looked at every few milliseconds. `false`: it does not
    /// after so long.
    ///
    /// # Errors
    /// That of the condition.
    pub fn wait_until(
        &mut self,
        patience: Duration,
        watch: &mut dyn Watch,
        mut condition: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<bool> {
        let until = Instant::now() + patience;
        loop {
            self.show_events(watch);
            watch.look(self);
            if condition(self)? {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            thread::sleep(LOOK_PERIOD);
        }
    }

    /// Waits for so long.
    ///
    /// # Errors
    /// None of its own.
    pub fn wait(&mut self, time: Duration, watch: &mut dyn Watch) -> Result<()> {
        self.wait_until(time, watch, |_| Ok(false)).map(drop)
    }

    /// Waits until a node, 0 or 1, and no other has answered all questions for a while: it is the owner.
    ///
    /// # Errors
    /// It is not after so long, or its agent has ended.
    pub fn wait_for_owner(&mut self, node: usize, patience: Duration, watch: &mut dyn Watch) -> Result<()> {
        /// Long enough that some of its answers are echo replies of the client's ordinary way.
        const CALM: usize = 50;
        let (mut seen, mut run, mut other) = (self.probe.count(), 0, None);
        let calm = self.wait_until(patience, watch, |pair| {
            let owner = &pair.nodes[node];
            owner.agent.as_ref().map_or(Ok(()), Agent::ensure_running)?;
            let answers = pair.probe.answers_from(seen);
            seen += answers.len();
            for answer in answers {
                let its = owner.answers_from(answer.from);
                run = if its { run + 1 } else { 0 };
                if !its {
                    other = Some(answer.from);
                }
            }
            Ok(run >= CALM)
        })?;
        if !calm {
            let logs: Vec<_> = self.nodes.iter().map(Node::last_words).collect();
            let other = other.map_or_else(|| "no one else".to_owned(), |mac| format!("{mac:02x?}"));
            let name = self.nodes[node].host.name();
            bail!("{name} is not the only owner after {patience:?}; {other} answered last.\n{}", logs.join("\n"));
        }
        Ok(())
    }

    /// Ends the probe, and with it the set-up.
    ///
    /// # Errors
    /// The probe's.
    pub fn finish(self) -> Result<super::probe::Record> {
        self.probe.stop().context("probe")
    }

    fn show_events(&mut self, watch: &mut dyn Watch) {
        let mut new = Vec::new();
        for node in &mut self.nodes {
            let events = node.agent.as_ref().map(Agent::events).unwrap_or_default();
            for event in events.iter().skip(node.shown) {
                new.push((node.host.name().to_owned(), event.clone()));
            }
            node.shown = node.shown.max(events.len());
        }
        new.sort_by_key(|(_, event)| event.at);
        for (node, event) in &new {
            watch.event(node, event);
        }
    }
}

impl Node {
    fn new(options: &PairOptions, number: usize, network: &Network, second: Option<&Network>) -> Result<Self> {
        let host = Host::new(["node-a", "node-b"][number])?;
        let last = number + 1;
        host.plug(network, INTERFACE, &[&format!("10.77.0.{last}/24"), &format!("fd77::{last}/64")])?;
        if let Some(second) = second {
            host.plug(second, SECOND_INTERFACE, &[&format!("10.78.0.{last}/24")])?;
        }
        let router = router(options, number, &host)?;
        let software = options.software[number].clone();
        let leases = match software {
            // Without netfilter there are none.
            Software::Vipd(_) => LeaseRecord::start(&host, INTERFACE, address(options)).ok(),
            Software::Frr(_) | Software::Keepalived(_) => None,
        };
        Ok(Self { host, agent: None, router, software, leases, shown: 0 })
    }

    /// From its agent's next start on it takes the addresses from an owner of lower priority, or does not.
    pub(super) const fn set_preempt(&mut self, preempt: bool) {
        self.router.preempt = preempt;
    }

    /// Its part in the virtual router.
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// The program that it runs, if that is vipd.
    pub(super) fn vipd(&self) -> Option<&Path> {
        match &self.software {
            Software::Vipd(program) => Some(program),
            Software::Frr(_) | Software::Keepalived(_) => None,
        }
    }

    /// Whether an answer from that MAC address is one of this node.
    pub fn answers_from(&self, mac: [u8; 6]) -> bool {
        self.macs().contains(&mac)
    }

    /// The MAC addresses that answers from here bear: the interface's own and, of FRR, the virtual one. FRR's answers to ARP come from
    /// the latter, its other packets from the former.
    pub fn macs(&self) -> Vec<[u8; 6]> {
        let last = if self.host.name() == "node-a" { 1 } else { 2 };
        let own = [2, 4, 10, 77, 0, last];
        match self.software {
            Software::Frr(_) => vec![own, [0, 0, 0x5e, 0, if self.router.is_ipv6() { 2 } else { 1 }, self.router.vrid]],
            Software::Vipd(_) | Software::Keepalived(_) => vec![own],
        }
    }

    fn last_words(&self) -> String {
        let lines = self.agent.iter().flat_map(Agent::processes).flat_map(|process| process.lines_from(0));
        let text: Vec<_> = lines.map(|line| format!("  {}", line.text)).collect();
        format!("{} says:\n{}", self.host.name(), text[text.len().saturating_sub(25)..].join("\n"))
    }
}

fn voters() -> Vec<(String, IpAddr)> {
    let voter = |(name, last): (&str, u8)| (name.to_owned(), IpAddr::from([10, 78, 0, last]));
    [("node-a", 1), ("node-b", 2), (WITNESS, 5)].map(voter).into()
}

fn address(options: &PairOptions) -> IpAddr {
    if options.ipv6 { IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, 0x100]) } else { IpAddr::from([10, 77, 0, 100]) }
}

fn router(options: &PairOptions, number: usize, host: &Host) -> Result<Router> {
    const VRID: u8 = 51;
    let addresses = if options.ipv6 {
        // RFC 9568 §5.2.9 wants a link-local address first; this is the one that vipd derives by itself.
        vec![format!("fe80::200:5eff:fe00:2{VRID:02x}/64"), format!("{}/64", address(options))]
    } else {
        vec![format!("{}/24", address(options))]
    };
    let own = |number: usize| -> Result<IpAddr> {
        // VRRP for IPv6 is spoken between link-local addresses, which the kernel makes from the MAC addresses.
        let last = number + 1;
        let text = if options.ipv6 { format!("fe80::4:aff:fe4d:{last}") } else { format!("10.77.0.{last}") };
        text.parse().with_context(|| format!("{} of {}", text, host.name()))
    };
    let unicast = if options.unicast { Some((own(number)?, vec![own(1 - number)?])) } else { None };
    Ok(Router {
        name: "shared".to_owned(),
        vrid: VRID,
        priority: options.priority[number],
        interval: options.interval,
        version: options.version,
        interface: INTERFACE.to_owned(),
        addresses,
        preempt: true,
        unicast,
        second_path: options.second_path.then(|| SECOND_INTERFACE.to_owned()),
        voters: if options.witness { voters() } else { Vec::new() },
    })
}
