//! Hosts, their segment and their neighbours on one virtual clock.
//!
//! What an engine wants is done here: adverts become bytes and travel, effects take their time, the kernel's lease
//! ends by the host's own clock. Nothing here knows how an owner is found; [`super::watch`] judges what comes of it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use vipd::engine::seals::Seals;
use vipd::engine::{
    Engine, Event, EventKind, HandoverDone, HandoverFailure, HookOrder, Input, LinkId, LinkState, Moment, Output,
    Prepared, RequestId, StateName, VipId,
};
use vipd::types::{Family, Priority};
use vipd::wire::handover::HandoverStep;
use vipd::wire::seal::Topic;

use super::clock::{MILLISECOND, Nanos};
use super::host::{AgentVip, Effect, Host, HostSpec, Life, Power};
use super::neighbours::Neighbours;
use super::network::{Network, Packet, Port};
use super::rng::Rng;
use super::voters::Witness;
use super::watch::Watch;

/// The interface of hosts that have one. Those that have more have them up and down together.
pub const LINK: LinkId = LinkId(0);

#[derive(Debug)]
pub struct World {
    pub now: Nanos,
    pub hosts: Vec<Host>,
    pub network: Network,
    /// That of the second path.
    pub second: Network,
    pub neighbours: Neighbours,
    pub watch: Watch,
    pub rng: Rng,
    /// Whether the kernels enforce the lease.
    pub gate: bool,
    /// What an enemy records, once there is one.
    pub tap: Option<Vec<Packet>>,
    /// Adverts that left a host.
    pub sent: Vec<Sent>,
    /// Heartbeats that left a host.
    pub beats: Vec<(Nanos, Port)>,
    /// Announcements that left a host: when, who, which vip.
    pub announced: Vec<(Nanos, Port, usize)>,
    /// Who asked for a vip's addresses, and when.
    pub asked: Vec<(Nanos, Port, usize)>,
    /// What the agents told.
    pub events: Vec<(Nanos, Port, Event)>,
    /// Who votes and owns nothing.
    pub witness: Option<Witness>,
    /// Messages about grants that were sent.
    pub votes_sent: u64,
    /// How long a fence agent takes, whether it does what it is to do, and what was done.
    pub fence_time: Nanos,
    pub fence_works: bool,
    pub fenced: Vec<(Nanos, Port, Port)>,
    /// How the handovers went that somebody ordered: when, by whom.
    pub outcomes: Vec<(Nanos, Port, Result<HandoverDone, HandoverFailure>)>,
    /// What was said of handovers: when, by whom.
    pub said: Vec<(Nanos, Port, HandoverStep)>,
    /// How long a hook takes, whether it fails, and what was run.
    pub hook_time: Nanos,
    pub hook_fails: bool,
    pub hooked: Vec<(Nanos, Port, Moment)>,
    /// Lines for a reader, where somebody asked for them.
    pub trace: Option<Vec<String>>,
    agenda: BinaryHeap<Reverse<(Nanos, u64, Entry)>>,
    serial: u64,
}

/// An advert that left a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub at: Nanos,
    pub by: Port,
    pub vip: usize,
    pub family: Family,
    pub priority: Priority,
}

/// What is on the world's agenda. The order among entries is never used: the serial decides before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    Deliver { to: Port, packet: PacketRef },
    Announcement { vip: usize, from: Port, addresses: Vec<IpAddr> },
    Question { to: Port, by: Port, vip: usize, addresses: Vec<IpAddr> },
    HostReply { to: Port, link: LinkId, address: IpAddr },
    Reply { to: Port, by: Port, vip: usize, address: IpAddr },
    Greet { host: Port, incarnation: u32 },
    Met { host: Port, incarnation: u32, other: Port },
    Sealed { to: Port, to_incarnation: u32, from: Port, from_incarnation: u32, topic: Topic, bytes: Vec<u8> },
    Wake { host: Port, incarnation: u32 },
    Apply { host: Port, incarnation: u32 },
    Answer { host: Port, incarnation: u32, failed: bool },
    Tell { host: Port, incarnation: u32, news: News },
    Lapse { host: Port, vip: usize },
    Vote { from: Port, to: Port, bytes: Vec<u8> },
    Fence { host: Port, incarnation: u32, request: RequestId, target: Port },
    Hook { host: Port, incarnation: u32, vip: VipId, request: RequestId, moment: Moment },
}

/// What a kernel tells its agent after a moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    Link,
    /// One of several interfaces.
    OneLink(LinkId),
    /// The interface went. One that has come in its place by then is another, with another index.
    LinkLost,
    Gone {
        vip: usize,
        address: IpAddr,
    },
}

#[derive(Clone, Debug)]
pub struct PacketRef(pub Rc<Packet>);

impl PartialEq for PacketRef {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for PacketRef {}
impl PartialOrd for PacketRef {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for PacketRef {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.bytes.cmp(&other.0.bytes)
    }
}

impl World {
    /// The hosts are there, their agents are not yet started.
    pub fn new(seed: u64, network: Network, specs: Vec<HostSpec>) -> Self {
        let vips = specs.first().map_or(0, |spec| spec.settings.vips.len());
        Self {
            now: 0,
            watch: Watch::new(vips, specs.len()),
            hosts: specs.into_iter().map(Host::new).collect(),
            network,
            second: Network::quiet(),
            neighbours: Neighbours::default(),
            rng: Rng::new(seed),
            gate: true,
            sent: Vec::new(),
            beats: Vec::new(),
            tap: None,
            announced: Vec::new(),
            asked: Vec::new(),
            events: Vec::new(),
            witness: None,
            votes_sent: 0,
            fence_time: 2_000_000_000,
            fence_works: true,
            fenced: Vec::new(),
            outcomes: Vec::new(),
            said: Vec::new(),
            hook_time: 2_000_000_000,
            hook_fails: false,
            hooked: Vec::new(),
            trace: None,
            agenda: BinaryHeap::new(),
            serial: 0,
        }
    }

    /// Runs until so much later, or until something that must not happen has happened.
    pub fn run_unchecked(&mut self, time: Nanos) {
        let end = self.now + time;
        while self.watch.violation.is_none() {
            match self.agenda.peek() {
                Some(Reverse((at, _, _))) if *at <= end => {}
                _ => break,
            }
            let Some(Reverse((at, _, entry))) = self.agenda.pop() else { break };
            self.now = at;
            self.on_entry(entry);
        }
        if self.watch.violation.is_none() {
            self.now = end;
            self.look();
        }
    }

    pub fn push(&mut self, at: Nanos, entry: Entry) {
        self.serial += 1;
        self.agenda.push(Reverse((at.max(self.now), self.serial, entry)));
    }

    fn on_entry(&mut self, entry: Entry) {
        match entry {
            Entry::Deliver { to, packet } => self.deliver(to, &packet.0),
            Entry::Announcement { vip, from, addresses } => {
                for address in addresses {
                    self.neighbours.hear(self.now, vip, address, from);
                }
            }
            Entry::Question { to, by, vip, addresses } => self.answer(to, by, vip, addresses),
            Entry::HostReply { to, link, address } => self.hear_host(to, link, address),
            Entry::Reply { to, by, vip, address } => self.hear_reply(to, by, vip, address),
            Entry::Greet { host, incarnation } => self.greet(host, incarnation),
            Entry::Met { host, incarnation, other } => {
                if self.hosts[host].incarnation == incarnation {
                    let peer = self.hosts[other].spec.settings.node.clone();
                    self.input(host, Input::PeerMet { peer });
                }
            }
            Entry::Sealed { to, to_incarnation, from, from_incarnation, topic, bytes } => {
                self.deliver_sealed((to, to_incarnation), (from, from_incarnation), topic, &bytes);
            }
            Entry::Wake { host, incarnation } => {
                if self.hosts[host].incarnation == incarnation && self.hosts[host].wake_at == Some(self.now) {
                    self.hosts[host].wake_at = None;
                    self.input(host, Input::Deadline);
                }
            }
            Entry::Apply { host, incarnation } => {
                if self.hosts[host].power == Power::Paused {
                    self.push(self.now + MILLISECOND, Entry::Apply { host, incarnation });
                } else if self.hosts[host].incarnation == incarnation {
                    self.apply_effect(host);
                }
            }
            Entry::Answer { host, incarnation, failed } => {
                if self.hosts[host].incarnation == incarnation {
                    self.answer_effect(host, failed);
                }
            }
            Entry::Tell { host, incarnation, news } => {
                if self.hosts[host].incarnation == incarnation {
                    match news {
                        News::Link => self.tell_links(host, self.hosts[host].link_state()),
                        News::OneLink(link) => {
                            let state = self.state_of(host, link, self.hosts[host].link_state());
                            self.input(host, Input::Link { link, state });
                        }
                        News::LinkLost => {
                            self.tell_links(host, LinkState::Missing);
                            self.tell_links(host, self.hosts[host].link_state());
                        }
                        News::Gone { vip, address } => {
                            self.input(host, Input::AddressGone { vip: vip_id(vip), address });
                        }
                    }
                }
            }
            Entry::Hook { host, incarnation, vip, request, moment } => {
                if self.hosts[host].incarnation == incarnation {
                    let result = if self.hook_fails { Err("it fails".into()) } else { Ok("done".into()) };
                    self.input(host, Input::HookEnded { request, vip, moment, result });
                }
            }
            Entry::Vote { from, to, bytes } => self.deliver_vote(from, to, &bytes),
            Entry::Fence { host, incarnation, request, target } => {
                let works = self.fence_works;
                if works {
                    self.fenced.push((self.now, host, target));
                    self.kill(target);
                }
                if self.hosts[host].incarnation == incarnation {
                    let result = if works { Ok("off".into()) } else { Err("no answer".into()) };
                    self.input(host, Input::Fenced { request, result });
                }
            }
            Entry::Lapse { host, vip } => {
                self.hosts[host].kernel[vip].lapse_watched = false;
                self.watch_lapse(host, vip);
                self.look();
            }
        }
    }

    pub fn log(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>14.6} ms  {}", Duration::from_nanos(self.now).as_secs_f64() * 1e3, line()));
        }
    }

    /// Has what every host answers judged.
    pub fn look(&mut self) {
        self.watch.look(self.now, &self.hosts, &self.network, self.gate);
    }
}

/// The agent.
impl World {
    /// Starts an agent on a host, after whatever was there before has been cleaned away, as its driver does.
    pub fn start(&mut self, host: Port) {
        for kernel in &mut self.hosts[host].kernel {
            kernel.installed.clear();
            kernel.lease_until = None;
        }
        self.begin(host, &[]);
    }

    /// Starts an agent where another has just ended: it finds what that one left, as its driver does. What can be gone on with
    /// is kept, and the rest is cleaned away.
    pub fn restart(&mut self, host: Port) {
        let it = &mut self.hosts[host];
        let now = it.local(self.now);
        let mut inherited = Vec::new();
        for (place, settings) in it.spec.settings.vips.iter().enumerate() {
            let Some(kernel) = it.kernel.get_mut(place) else { continue };
            let wanted: BTreeSet<IpAddr> = settings.addresses.iter().map(|address| address.ip).collect();
            match kernel.lease_until {
                Some(until) if until > now && kernel.installed == wanted => {
                    inherited.push(Input::Inherited { vip: vip_id(place), until, term: kernel.term });
                }
                _ => {
                    kernel.installed.clear();
                    kernel.lease_until = None;
                }
            }
        }
        self.begin(host, &inherited);
    }

    fn begin(&mut self, host: Port, inherited: &[Input]) {
        let now = self.now;
        let it = &mut self.hosts[host];
        it.incarnation += 1;
        let epoch = Some(u64::from(it.incarnation));
        it.seals = it.sealing.map(|sealing| Seals::new(super::seals::keys(1), sealing, epoch));
        it.inbox.clear();
        it.effects.clear();
        it.effect_under_way = false;
        it.wake_at = None;
        it.life = Life::Running;
        it.power = Power::On;
        it.unanswered.clear();
        it.life_changed_at = now;
        it.agent.fill(AgentVip { state: StateName::Initialize, claimed: None });
        it.configured.clone_from(&it.spec.settings.vips);
        it.engine = Some(Engine::new(it.spec.settings.clone(), it.local(now)));
        let state = it.link_state();
        self.log(|| format!("host {host}: agent starts"));
        inherited.iter().for_each(|input| self.input(host, input.clone()));
        self.tell_links(host, state);
        self.start_greeting(host);
    }

    fn tell_links(&mut self, host: Port, state: LinkState) {
        let links = self.hosts[host].engine.as_ref().map_or(0, |engine| engine.links().len());
        for link in (0..u16::try_from(links).expect("few")).map(LinkId) {
            let state = self.state_of(host, link, state);
            self.input(host, Input::Link { link, state });
        }
    }

    fn state_of(&self, host: Port, link: LinkId, state: LinkState) -> LinkState {
        match state {
            LinkState::Up { .. } if self.hosts[host].down.contains(&link) => LinkState::Down,
            state => state,
        }
    }

    pub fn start_all(&mut self) {
        (0..self.hosts.len()).for_each(|host| self.start(host));
    }

    /// Something happens to an agent; it waits while that is frozen.
    pub fn input(&mut self, host: Port, input: Input) {
        let it = &mut self.hosts[host];
        match it.life {
            Life::Running | Life::Stopped => self.handle(host, input),
            // A deadline does not wait: it is looked for after the thaw.
            Life::Frozen if input == Input::Deadline => {}
            Life::Frozen => it.inbox.push_back(input),
            Life::Crashed => {}
        }
    }

    fn handle(&mut self, host: Port, input: Input) {
        let it = &mut self.hosts[host];
        let now = it.local(self.now);
        let Some(engine) = &mut it.engine else { return };
        let is_deadline = input == Input::Deadline;
        let reloads = matches!(input, Input::Settings(_));
        engine.handle(now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
        if is_deadline && engine.next_deadline().is_some_and(|at| at <= now) {
            self.watch.fail(self.now, format!("host {host}: its deadline does not move: the agent would spin"));
        }
        if reloads {
            self.follow_settings(host);
        }
        self.replay(host, outputs);
        self.wake(host);
        self.look();
    }

    /// Does what an engine wanted in one step.
    pub fn replay(&mut self, host: Port, outputs: Vec<Output>) {
        let mut advertised = BTreeSet::new();
        for output in outputs {
            self.output(host, output, &mut advertised);
        }
        // A Backup that tells an owner to yield has no lease, and answers nobody.
        let engine = self.hosts[host].engine.as_ref();
        let is_backup = |vip: &usize| {
            engine.and_then(|it| it.vip(vip_id(*vip))).is_some_and(|vip| vip.state() == StateName::Backup)
        };
        for vip in advertised.into_iter().filter(|vip| !is_backup(vip)).collect::<Vec<_>>() {
            self.watch.fail(self.now, format!("host {host}: an advert of vip {vip} without a lease renewed after it"));
        }
    }

    /// Puts the agent's deadline on the agenda.
    fn wake(&mut self, host: Port) {
        let it = &self.hosts[host];
        let Some(at) = it.engine.as_ref().and_then(Engine::next_deadline) else {
            self.hosts[host].wake_at = None;
            return;
        };
        let (clock, lateness, incarnation) = (it.spec.clock, it.spec.lateness, it.incarnation);
        let due = clock.when(at);
        // One that stands is kept where it is right: its lateness has been drawn.
        if it.wake_at.is_some_and(|wake| wake >= due && wake <= due + lateness.1) {
            return;
        }
        let drawn = due.max(self.now) + self.rng.within(lateness.0, lateness.1);
        // Nor is what is overdue put off by each message that comes meanwhile.
        let at = it.wake_at.filter(|wake| *wake >= due).map_or(drawn, |wake| wake.min(drawn));
        self.hosts[host].wake_at = Some(at);
        self.push(at, Entry::Wake { host, incarnation });
    }

    fn output(&mut self, host: Port, output: Output, advertised: &mut BTreeSet<usize>) {
        match output {
            Output::Transmit(transmit) => self.transmit(host, transmit, advertised),
            Output::RenewLease { vip, until } => {
                let vip = place(vip);
                // What a majority grants may make it longer between two adverts.
                let voted = self.hosts[host].spec.settings.quorum.is_some();
                if !advertised.remove(&vip) && !voted {
                    self.watch.fail(self.now, format!("host {host}: a lease of vip {vip} without an advert before it"));
                }
                let term = until.since(self.hosts[host].local(self.now));
                let kernel = &mut self.hosts[host].kernel[vip];
                (kernel.lease_until, kernel.term) = (Some(until), term);
                self.watch_lapse(host, vip);
            }
            Output::EndLease { vip } => {
                self.hosts[host].kernel[place(vip)].lease_until = None;
                self.log(|| format!("host {host}: lease of vip {} ends", vip.0));
                // What comes after may invite a successor: judged at once.
                self.look();
            }
            Output::LetGo { vip } => {
                self.hosts[host].kernel[place(vip)].lease_until = None;
                self.log(|| format!("host {host}: lets go of vip {}", vip.0));
                self.look();
                self.input(host, Input::LetGo { vip, closed: self.gate });
            }
            Output::Prepare(set) if self.gate => self.queue_effect(host, Effect::Prepare(set)),
            Output::Prepare(set) => {
                let (request, vip) = (set.request, set.vip);
                self.input(host, Input::Prepared { request, vip, result: Ok(Prepared::Later) });
            }
            Output::Install(set) => self.queue_effect(host, Effect::Install(set)),
            Output::Remove(set) | Output::Trim(set) => self.queue_effect(host, Effect::Remove(set)),
            Output::Announce(set) => self.announce(host, &set),
            Output::Vote { to, message } => self.vote(host, &to, &message),
            Output::Ask(question) => self.ask(host, &question),
            // No scenario restarts a held agent.
            Output::Fence(order) => self.fence(host, order.request, &order.peer.name),
            Output::RunHook(order) => self.hook(host, &order),
            Output::KeepHolds => {}
            Output::Echo(question) => {
                self.watch.fail(self.now, format!("host {host}: nothing is routed: {question:?}"))
            }
            Output::SendHeartbeat { peer, heartbeat } => self.send_heartbeat(host, &peer, &heartbeat),
            Output::SendHandover { peer, message } => self.send_handover(host, &peer, &message),
            Output::HandoverEnded { outcome, .. } => {
                self.log(|| format!("host {host}: {outcome:?}"));
                self.outcomes.push((self.now, host, outcome));
            }
            Output::Event(event) => self.on_event(host, event),
        }
    }

    /// The name says which host: "host 1".
    fn fence(&mut self, host: Port, request: RequestId, name: &str) {
        self.log(|| format!("host {host}: fences {name}"));
        let target = name.strip_prefix("host ").and_then(|place| place.parse().ok()).expect("a host's name");
        let incarnation = self.hosts[host].incarnation;
        self.push(self.now + self.fence_time, Entry::Fence { host, incarnation, request, target });
    }

    fn hook(&mut self, host: Port, order: &HookOrder) {
        let HookOrder { request, vip, moment, .. } = *order;
        self.log(|| format!("host {host}: runs hook {moment}"));
        self.hooked.push((self.now, host, moment));
        let incarnation = self.hosts[host].incarnation;
        self.push(self.now + self.hook_time, Entry::Hook { host, incarnation, vip, request, moment });
    }

    fn on_event(&mut self, host: Port, event: Event) {
        self.log(|| format!("host {host}: {:?}", event.kind));
        if let (EventKind::Transition { from, to, cause }, Some(vip)) = (&event.kind, event.vip) {
            let agent = &mut self.hosts[host].agent[place(vip)];
            let known = agent.state;
            agent.state = *to;
            if *to == StateName::Claiming {
                agent.claimed = Some((self.now, cause.clone()));
            }
            if known != *from || from == to {
                let text = format!("host {host}: was {known}, tells of a transition from {from} to {to}");
                self.watch.fail(self.now, text);
            }
            let real = self.hosts[host].engine.as_ref().and_then(|engine| engine.vip(vip));
            if *to == StateName::Claiming && real.is_some_and(|vip| vip.cause() != cause) {
                self.watch.fail(self.now, format!("host {host}: shows another cause than it told"));
            }
        }
        self.events.push((self.now, host, event));
    }
}

pub fn place(vip: VipId) -> usize {
    usize::try_from(vip.0).expect("a place fits")
}

pub fn vip_id(place: usize) -> VipId {
    VipId(u32::try_from(place).expect("a world has few vips"))
}
