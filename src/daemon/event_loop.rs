//! The loop: one task that owns the engine, hands it what happens, and carries out what it says.
//!
//! Nothing in here blocks. What might is an order to another thread, and comes back as a [`Message`].

use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::clock;
use super::difference::Difference;
use super::handovers::Handovers;
use super::hooks::Hooks;
use super::journal::JournalStatus;
use super::kernel::Kernel;
use super::lateness::Lateness;
use super::leases::Leases;
use super::lifetimes::Lifetimes;
use super::links::{Interface, Links};
use super::log::{Entry, Log, Names};
use super::memory::{Changed, ChangedVip, Memory, Waiting};
use super::message::{HoldChange, Mailbox, Message};
use super::peers::{Heard, Peers, sealing_name};
use super::references::References;
use super::second_path::SecondPath;
use super::self_fence::SelfFence;
use super::sockets::Sockets;
use super::status::{self, Circumstances};
use super::supervisor::Supervisor;
use super::votes::Votes;
use super::watch::Watches;
use crate::config::{Config, Seal};
use crate::driver::fencing;
use crate::driver::links::LinkEvent;
use crate::driver::readiness::Readable;
use crate::driver::timer::Timer;
use crate::engine::seals::{Sealing, Seals};
use crate::engine::{
    AddressSet, EffectError, Engine, EventKind, FenceOrder, Hold, HoldReason, HookOrder, Input, Instant, LinkState,
    Output, Prepared, StateName, Vip, VipId,
};
use crate::types::MacMode;
use crate::wire::handover::HandoverMessage;
use crate::wire::heartbeat::Heartbeat;
use crate::wire::seal::Topic;

/// How many packets are heard before a deadline has its turn: the adverts of a thousand virtual routers, which take a few
/// milliseconds. A flood cannot hold up our own adverts for longer.
const PACKETS_IN_A_ROW: u32 = 1024;

/// Claims are fewer, and cost more.
const CLAIM_COUNTS_AS: u32 = 16;

/// How long a restart may be put off until the peers are patient. With [`STOP_PATIENCE`] less than what systemd gives a stop.
const HAND_ON_PATIENCE: Duration = Duration::from_secs(4);
/// How long a stopping agent waits for the kernel to take the addresses away.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How long who changes a hold waits for what comes of it.
const SETTLING: Duration = Duration::from_secs(1);

/// How long what must survive a restart may be known to the loop alone.
const SAVE_DELAY: Duration = Duration::from_millis(20);

/// All that the loop owns.
#[derive(Debug)]
pub(super) struct EventLoop {
    engine: Engine,
    timer: Readable<Timer>,
    packets_in_a_row: u32,
    /// What the timer is set to.
    armed: Option<Instant>,
    sockets: Sockets,
    watches: Watches,
    /// Where nodes have a key in common.
    peers: Option<Peers>,
    second_path: SecondPath,
    handovers: Handovers,
    votes: Votes,
    leases: Leases,
    lifetimes: Lifetimes,
    references: References,
    messages: mpsc::Receiver<Message>,
    to_loop: mpsc::WeakSender<Message>,
    kernel: Kernel,
    log: Log,
    supervisor: Supervisor,
    lateness: Lateness,
    circumstances: Circumstances,
    journal: JournalStatus,
    memory: Memory,
    hooks: Hooks,
    /// Hooks that were ordered and have not ended.
    hooks_under_way: usize,
    self_fence: SelfFence,
    /// Since when the memory may say something else than the engine.
    unsaved_since: Option<Instant>,
    /// Who waits until what he changed of a hold has come about, of one vip or of all.
    settling: Vec<(Option<VipId>, Instant, oneshot::Sender<Option<Changed>>)>,
    /// Who waits until it says the same.
    waiting: Vec<Waiting>,
    links: Links,
    /// Removals that were ordered and have not ended.
    removals: usize,
    stop: Option<Instant>,
    /// When what is owned is left to the next agent: the peers have been asked for patience.
    hand_on_at: Option<Instant>,
    /// Whether what is owned is left to the next agent.
    hands_on: bool,
}

/// By what the loop hears of the other threads, and has them act.
pub(super) struct Hands {
    pub mailbox: Mailbox,
    pub kernel: Kernel,
    pub leases: Leases,
    pub log: Log,
    pub memory: Memory,
    pub hooks: Hooks,
}

type RemovalOrder = fn(&Kernel, Interface, AddressSet) -> Result<(), EffectError>;

enum Wake {
    Deadline,
    Trouble(io::Error),
    Message(Option<Message>),
    Packet(Input),
    Heard(Heard),
}

impl EventLoop {
    pub(super) fn new(
        engine: Engine,
        seal: Option<(&Seal, Seals)>,
        second_path: SecondPath,
        votes: Votes,
        Hands { mailbox: Mailbox { messages, to_loop }, kernel, leases, log, memory, hooks }: Hands,
        circumstances: Circumstances,
    ) -> io::Result<Self> {
        let links = Links::of(&engine);
        let self_fence = SelfFence::new(engine.fence_settings().watchdog.clone(), clock::now(), &log);
        let mut sockets = Sockets::new(&engine)?;
        let watches = Watches::of(&engine);
        let peers = match seal {
            Some((seal, seals)) => {
                sockets.seal(Some(seals));
                Some(Peers::open(engine.node(), seal)?)
            }
            None => None,
        };
        let lifetimes = Lifetimes::of(&engine);
        Ok(Self {
            engine,
            timer: Readable::new(Timer::open()?)?,
            packets_in_a_row: 0,
            armed: None,
            sockets,
            watches,
            peers,
            second_path,
            handovers: Handovers::default(),
            votes,
            leases,
            lifetimes,
            references: References::new(to_loop.clone()),
            messages,
            to_loop,
            kernel,
            log,
            supervisor: Supervisor::of_environment(),
            lateness: Lateness::default(),
            circumstances,
            journal: JournalStatus::default(),
            memory,
            hooks,
            hooks_under_way: 0,
            self_fence,
            unsaved_since: Some(clock::now()),
            settling: Vec::new(),
            waiting: Vec::new(),
            links,
            removals: 0,
            stop: None,
            hands_on: false,
            hand_on_at: None,
        })
    }

    /// Runs until a stop is complete.
    ///
    /// # Errors
    ///
    /// What the agent cannot live without was lost. The addresses have been given up.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut failure = None;
        while !self.stopped() {
            self.arm()?;
            let wake = poll_fn(|context| self.poll_wake(context)).await;
            let now = clock::now();
            match wake {
                Wake::Deadline => self.on_deadline(now),
                Wake::Packet(input) => self.engine.handle(now, input),
                Wake::Heard(heard) => self.on_heard(now, heard),
                Wake::Trouble(error) => self.log.write(Entry::Trouble(error.to_string())),
                Wake::Message(Some(Message::Lost { thread, error })) => {
                    failure = Some(io::Error::other(format!("the thread {thread:?} has ended: {error}")));
                    self.on_stop(now);
                }
                Wake::Message(Some(message)) => self.on_message(now, message),
                Wake::Message(None) => self.on_stop(now),
            }
            self.carry_out(now);
        }
        self.save(clock::now());
        if let Some(spared) = self.kernel.finish() {
            self.memory.keep_spared(spared);
            self.save(clock::now());
        }
        // Addresses that are left behind are left to the next agent, to the gate, or to the watchdog.
        if self.removals == 0 || self.hands_on {
            self.self_fence.disarm(&self.log);
        }
        // Addresses that could not be taken away stay behind closed gates.
        if self.removals == 0 && !self.hands_on {
            self.leases.remove_all(&self.log);
        }
        failure.map_or(Ok(()), Err)
    }

    fn poll_wake(&mut self, context: &mut Context<'_>) -> Poll<Wake> {
        // What has arrived is heard before a deadline is: an agent that could not run for a while would take for silence
        // what it has not read yet.
        if self.packets_in_a_row < PACKETS_IN_A_ROW
            && let Poll::Ready(received) = self.sockets.poll_receive(context)
        {
            self.packets_in_a_row += 1;
            return Poll::Ready(received.map_or_else(Wake::Trouble, Wake::Packet));
        }
        // A claim that is due may wait for an answer that is here already. An advert says why its sender announces itself, and goes first.
        if self.packets_in_a_row < PACKETS_IN_A_ROW
            && let Poll::Ready(claim) = self.poll_claim(context)
        {
            self.packets_in_a_row += CLAIM_COUNTS_AS;
            return Poll::Ready(claim.map_or_else(Wake::Trouble, Wake::Packet));
        }
        if self.packets_in_a_row < PACKETS_IN_A_ROW
            && let Some(peers) = &mut self.peers
            && let Poll::Ready(heard) = peers.poll_receive(context)
        {
            self.packets_in_a_row += 1;
            return Poll::Ready(heard.map_or_else(Wake::Trouble, Wake::Heard));
        }
        self.packets_in_a_row = 0;
        if let Poll::Ready(message) = self.messages.poll_recv(context) {
            return Poll::Ready(Wake::Message(message));
        }
        let expired = self.timer.poll_take(context, |timer| Ok(timer.clear()?.then_some(())));
        if let Poll::Ready(expired) = expired {
            return Poll::Ready(expired.map_or_else(Wake::Trouble, |()| Wake::Deadline));
        }
        if let Poll::Ready(received) = self.sockets.poll_receive(context) {
            return Poll::Ready(received.map_or_else(Wake::Trouble, Wake::Packet));
        }
        if let Some(peers) = &mut self.peers
            && let Poll::Ready(heard) = peers.poll_receive(context)
        {
            return Poll::Ready(heard.map_or_else(Wake::Trouble, Wake::Heard));
        }
        // Last of all: no other claim is urgent.
        self.poll_claim(context).map(|claim| claim.map_or_else(Wake::Trouble, Wake::Packet))
    }

    /// Who says that he has an address of ours, or is there.
    fn poll_claim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Input>> {
        match self.watches.poll_claim(context) {
            Poll::Pending => self.references.poll_answer(context),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn arm(&mut self) -> io::Result<()> {
        let greeting = self.peers.as_ref().and_then(|_| self.second_path.next_at());
        let deadlines = [
            self.engine.next_deadline(),
            self.supervisor.next_beat(),
            self.save_at(),
            self.self_fence.next_feed(),
            self.stop,
            self.hand_on_at,
            greeting,
            Some(self.log.next_beat()),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        if self.armed != deadline {
            self.timer.get_ref().set(deadline.map(Instant::as_nanos))?;
            self.armed = deadline;
        }
        Ok(())
    }

    /// When the memory is to be told: a thousand vips that fail over are one change to it.
    fn save_at(&self) -> Option<Instant> {
        self.unsaved_since.map(|since| since + SAVE_DELAY)
    }

    fn save(&mut self, now: Instant) {
        let saved = self.memory.save(&self.engine, mem::take(&mut self.waiting));
        self.unsaved_since = (!saved).then_some(now);
    }

    fn stopped(&self) -> bool {
        // The next agent has but a lease's length to begin: it runs the hooks of an owner anew.
        let ended = self.removals == 0 && (self.hooks_under_way == 0 || self.hands_on);
        let is_done = ended && !self.engine.hands_over();
        self.stop.is_some_and(|latest| is_done || clock::now() >= latest)
    }
}

/// What happens.
impl EventLoop {
    fn on_deadline(&mut self, now: Instant) {
        self.armed = None;
        if let Some(deadline) = self.engine.next_deadline().filter(|deadline| *deadline <= now) {
            self.lateness.record(now.since(deadline));
            self.engine.handle(now, Input::Deadline);
        }
        if self.hand_on_at.is_some_and(|at| at <= now) {
            self.hand_on(now);
        }
        self.supervisor.beat(now);
        self.log.beat(now);
        if let Some(peers) = &mut self.peers {
            self.second_path.greet(peers, now);
        }
        self.self_fence.feed(now, &self.log);
    }

    fn on_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Links(events) => {
                // An interface that is gone explains why its addresses are, so it is heard of first.
                let (states, addresses): (Vec<_>, Vec<_>) =
                    events.into_iter().partition(|event| matches!(event, LinkEvent::State { .. }));
                states.into_iter().chain(addresses).for_each(|event| self.on_link_event(now, event));
            }
            Message::Installed { request, vip, result } => {
                self.engine.handle(now, Input::Installed { request, vip, result });
            }
            Message::Prepared { request, vip, result } => {
                self.engine.handle(now, Input::Prepared { request, vip, result });
            }
            Message::Removed { request, vip, result } => {
                self.removals = self.removals.saturating_sub(1);
                self.leases.on_removed(request, result.is_ok(), &self.log);
                if result.is_err() && !self.circumstances.enforcement.is_in_time() {
                    self.self_fence.starve(&self.log);
                }
                self.engine.handle(now, Input::Removed { request, vip, result });
                self.follow_ownership(now);
            }
            Message::Spared(spared) => {
                self.memory.keep_spared(spared);
                self.unsaved_since = self.unsaved_since.or(Some(now));
            }
            Message::ReferencePath { link, reference, path } => {
                self.engine.handle(now, Input::ReferencePath { link, reference, path });
                self.watches.reload(&self.engine, &self.log);
            }
            Message::Check { check, result } => self.engine.handle(now, Input::CheckResult { check, result }),
            Message::Status(answer) => {
                let mut status = status::status(&self.engine, now, self.circumstances, &self.lateness, &self.journal);
                status.heard_on_second_path(&self.engine, &self.second_path, now);
                status.quorum = self.votes.status(&self.engine, now);
                status.seal = self.peers.as_ref().map(|peers| peers.status(now, self.sockets.sealing()));
                if answer.send(status).is_err() {
                    self.log.write(Entry::Trouble("a control client left before its answer".to_owned()));
                }
            }
            Message::Fenced { request, result } => self.engine.handle(now, Input::Fenced { request, result }),
            Message::HookEnded { request, vip, moment, result } => {
                self.hooks_under_way = self.hooks_under_way.saturating_sub(1);
                self.engine.handle(now, Input::HookEnded { request, vip, moment, result });
            }
            Message::Journal(status) => self.journal = status,
            Message::Hold { vip, change, answer } => self.on_hold_change(now, vip.as_deref(), change, answer),
            Message::HandOver { request, answer } => {
                match request.first(&self.engine) {
                    Some(vip) => {
                        let order = request.order();
                        let request = self.handovers.wait(request.vip, answer);
                        self.engine.handle(now, Input::HandOver { vip, request, order });
                    }
                    // One that has left does not want to know.
                    None => drop(answer.send(None)),
                }
            }
            Message::Stop { is_restart: false } => self.on_stop(now),
            Message::Stop { is_restart: true } => self.on_restart(now),
            // One that is stopping drops the question, which is an answer too.
            Message::Reload { config, answer } if self.stop.is_none() && self.hand_on_at.is_none() => {
                let difference = self.on_reload(now, *config);
                if answer.send(difference).is_err() {
                    self.log.write(Entry::Trouble("a control client left before its answer".to_owned()));
                }
            }
            Message::Reload { .. } => {}
            Message::Lost { thread, error } => unreachable!("{thread} is handled by the loop: {error}"),
        }
    }

    fn on_heard(&mut self, now: Instant, heard: Heard) {
        match heard {
            Heard::Message { sender, topic: Topic::Heartbeat, payload, path } => {
                self.second_path.note(now, &sender, path);
                match Heartbeat::parse(&payload) {
                    Ok(heartbeat) => self.engine.handle(now, Input::Heartbeat { peer: sender, heartbeat }),
                    Err(error) if self.second_path.is_worth_a_line(now) => {
                        self.log.write(Entry::Trouble(format!("a heartbeat of {sender} cannot be read: {error}")));
                    }
                    Err(_) => {}
                }
            }
            Heard::Message { sender, topic: Topic::Handover, payload, path } => {
                self.second_path.note(now, &sender, path);
                match HandoverMessage::parse(&payload) {
                    Ok(message) => self.engine.handle(now, Input::Handover { peer: sender, message }),
                    Err(error) if self.second_path.is_worth_a_line(now) => {
                        self.log
                            .write(Entry::Trouble(format!("what {sender} says of a handover cannot be read: {error}")));
                    }
                    Err(_) => {}
                }
            }
            Heard::Message { sender, topic: Topic::Grant, payload, path: _ } => match self.votes.read(now, &payload) {
                Ok(messages) => {
                    let from: Arc<str> = sender.into();
                    for message in messages {
                        self.engine.handle(now, Input::Grant { from: Arc::clone(&from), message });
                    }
                }
                Err(Some(error)) => {
                    let text = format!("what {sender} says about grants cannot be read: {error}");
                    self.log.write(Entry::Trouble(text));
                }
                Err(None) => {}
            },
            Heard::Session { peer, path } => {
                if self.second_path.note(now, &peer, path) {
                    self.engine.handle(now, Input::PeerMet { peer });
                }
            }
            Heard::Refused { path, error } => {
                let from = path.remote;
                self.log.write(Entry::Trouble(format!("a sealed message from {from} is not believed: {error}")));
            }
        }
    }

    fn on_link_event(&mut self, now: Instant, event: LinkEvent) {
        match event {
            LinkEvent::State { name, ifindex, mac, state, mtu: _ } => {
                let Some(link) = self.links.find(&name) else { return };
                // What was there has gone, or has another name now, with our addresses on it: they are taken from it
                // before it is forgotten, even where another interface has come in its place meanwhile.
                if self.links.interface(link).is_some_and(|known| Some(known.ifindex) != ifindex) {
                    self.engine.handle(now, Input::Link { link, state: LinkState::Missing });
                    self.carry_out(now);
                }
                self.links.hear(link, ifindex, mac);
                self.watches.follow(link, ifindex, mac, &self.log);
                if self.sockets.follow(link, &name, ifindex, &self.log) {
                    self.leases.follow(link, &self.log);
                }
                self.references.follow(&self.engine, &self.links, &self.log);
                self.engine.handle(now, Input::Link { link, state });
                if self.links.all_heard() {
                    self.supervisor.ready();
                }
            }
            LinkEvent::AddressGone { ifindex, ip, by_port, expired } => {
                let ours = by_port == self.kernel.address_port();
                let Some(vip) = self.links.vip_of(ifindex, ip).filter(|_| !ours) else { return };
                if expired {
                    self.on_expired(now, vip, ip);
                } else {
                    self.engine.handle(now, Input::AddressGone { vip, address: ip });
                }
            }
            LinkEvent::RoutingGone { ifindex, routing, by_port } => {
                let ours = by_port == self.kernel.routing_port();
                let owner = self.links.vip_routing(&self.engine, ifindex, routing).filter(|_| !ours);
                if let Some(vip) = owner {
                    self.engine.handle(now, Input::RoutingGone { vip, routing });
                }
            }
        }
    }

    fn on_hold_change(
        &mut self,
        now: Instant,
        name: Option<&str>,
        change: HoldChange,
        answer: oneshot::Sender<Option<Changed>>,
    ) {
        let known = self.engine.vips().iter().find(|vip| Some(vip.settings().name.as_str()) == name).map(Vip::id);
        if name.is_some() && known.is_none() {
            // One that has left does not want to know.
            answer.send(None).ok();
            return;
        }
        let input = match change {
            HoldChange::Drain { time } => {
                let hold = Hold { reason: HoldReason::Drained, until: time.map(|time| now + time) };
                Input::Hold { vip: known, hold }
            }
            HoldChange::Undrain => Input::Release { vip: known },
        };
        self.engine.handle(now, input);
        self.settling.push((known, now + SETTLING, answer));
    }

    /// Who changed a hold is answered when it is clear what came of it: a drain may be a handover first. For one that waits for a hook of
    /// the successor he does not wait.
    fn answer_settled(&mut self) {
        let now = clock::now();
        for (known, latest, answer) in mem::take(&mut self.settling) {
            let concerned = || self.engine.vips().iter().filter(|vip| known.is_none_or(|known| known == vip.id()));
            if now < latest && concerned().any(Vip::is_leaving) {
                self.settling.push((known, latest, answer));
            } else {
                let vips = concerned().map(ChangedVip::of).collect();
                self.waiting.push(Waiting { answer, changed: Changed { vips, not_saved: None } });
            }
        }
    }

    /// The kernel took an address away for its age: no other program did. It goes with the lease, or comes back with it.
    fn on_expired(&mut self, now: Instant, vip: VipId, ip: IpAddr) {
        let Some(owner) = self.engine.vip(vip).filter(|vip| vip.lease_until().is_some_and(|until| now < until)) else {
            return;
        };
        let name = &owner.settings().name;
        let text = format!("{name}: this host was too busy to renew the lifetime of {ip} in time: put back");
        self.log.write(Entry::Trouble(text));
        self.lifetimes.expired(vip);
        self.renew_lifetimes(now, vip);
    }

    /// Leaves what is owned to the next agent, as soon as that has a longer lease than usual to begin within.
    fn on_restart(&mut self, now: Instant) {
        if self.stop.is_none() && self.hand_on_at.is_none() {
            self.supervisor.stopping();
            self.engine.handle(now, Input::PrepareHandOn);
            match self.engine.may_hand_on_at() {
                Some(at) => self.hand_on_at = Some(at.min(now + HAND_ON_PATIENCE)),
                None => self.hand_on(now),
            }
        }
    }

    /// Ends. The next agent has the length of a lease to begin.
    fn hand_on(&mut self, now: Instant) {
        self.hand_on_at = None;
        if self.stop.is_none() {
            self.stop = Some(now + STOP_PATIENCE);
            self.hands_on = true;
            self.engine.handle(now, Input::HandOn);
        }
    }

    /// What is new is made ready before the engine's orders are carried out, and what is needed no longer is taken down after.
    fn on_reload(&mut self, now: Instant, config: Config) -> Difference {
        let Config { settings, seal, checks: _, hooks, alerts, heartbeat, voters, notes: _ } = config;
        let mut difference = Difference::between(&self.engine, &settings);
        difference.others.extend(self.reload_seal(&settings.node, seal.as_ref()));
        difference.others.extend(self.second_path.follow(heartbeat, self.peers.as_mut(), now));
        match self.log.keep_alerts(alerts) {
            Some(changed) => difference.others.extend(changed.into_iter().map(|name| format!("~ alert {name}"))),
            None => {
                self.log.write(Entry::Trouble("the alerts are those from before the reload: too many wait".to_owned()))
            }
        }
        difference.others.extend(self.votes.follow(voters));
        // Before the engine can ask for one that is new.
        match self.hooks.keep(hooks) {
            Ok(changed) => difference.others.extend(changed.into_iter().map(|vip| format!("~ hooks of {vip}"))),
            Err(error) => {
                self.log.write(Entry::Trouble(format!("the hooks are those from before the reload: {error}")))
            }
        }
        if difference.is_none() {
            return difference;
        }
        let watchdog = settings.fence.watchdog.clone();
        self.engine.handle(now, Input::Settings(settings));
        self.self_fence.reload(watchdog, self.owns(), now, &self.log);
        let names = Names::of(&self.engine);
        self.hooks.rename(names.clone());
        self.log.write(Entry::Names(names));
        self.links.reload(&self.engine);
        self.sockets.extend(&self.engine, &self.log);
        self.leases.reload(&self.engine, &self.log);
        self.lifetimes.reload(&self.engine);
        self.watches.reload(&self.engine, &self.log);
        self.references.follow(&self.engine, &self.links, &self.log);
        self.carry_out(now);
        self.sockets.close_unwanted();
        self.leases.release_retired(&self.log);
        if let Err(error) = self.kernel.watch(&self.engine) {
            self.log.write(Entry::Trouble(error.to_string()));
        }
        difference
    }

    /// What changes in how nodes believe each other.
    fn reload_seal(&mut self, node: &str, seal: Option<&Seal>) -> Option<String> {
        let adverts = self.reload_seals(seal);
        let opened = match (&mut self.peers, seal) {
            (None, None) => return adverts,
            (peers @ Some(_), None) => {
                *peers = None;
                return Some("seal: off".to_owned());
            }
            (None, Some(seal)) => Peers::open(node, seal).map(|peers| {
                self.peers = Some(peers);
                Some("seal: on".to_owned())
            }),
            (Some(peers), Some(seal)) => peers.follow(node, seal),
        };
        let change = opened.unwrap_or_else(|error| {
            self.log.write(Entry::Trouble(error.to_string()));
            Some(format!("seal: {error}"))
        });
        match (change, adverts) {
            (Some(change), Some(adverts)) => Some(format!("{change}; {adverts}")),
            (change, adverts) => change.or(adverts),
        }
    }

    /// What changes in the seals of adverts. They need an epoch from the disk, for which the loop does not wait.
    fn reload_seals(&mut self, seal: Option<&Seal>) -> Option<String> {
        let to = seal.map_or(Sealing::Off, |seal| seal.adverts);
        let later = "adverts are sealed after a restart only";
        let Some(seals) = self.sockets.seals_mut() else {
            let keys = seal.filter(|_| to != Sealing::Off)?.keys.clone();
            if to.sends() {
                return Some(later.to_owned());
            }
            self.sockets.seal(Some(Seals::new(keys, to, None)));
            return Some(format!("adverts off -> {}", sealing_name(to)));
        };
        let from = seals.sealing();
        let keys = seal.map_or_else(|| seals.keys().clone(), |seal| seal.keys.clone());
        if !seals.follow(keys, to) {
            return Some(later.to_owned());
        }
        let [from, to] = [from, to].map(sealing_name);
        (from != to).then(|| format!("adverts {from} -> {to}"))
    }

    fn on_stop(&mut self, now: Instant) {
        if self.stop.is_none() {
            self.stop = Some(now + STOP_PATIENCE);
            self.supervisor.stopping();
            self.engine.handle(now, Input::Shutdown);
        }
    }
}

/// What is to be done.
impl EventLoop {
    fn carry_out(&mut self, now: Instant) {
        let mut owner_may_be_new = false;
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Transmit(transmit) => {
                    if let Err(error) = self.sockets.send(&transmit) {
                        self.log.write(Entry::Trouble(error.to_string()));
                    }
                }
                Output::RenewLease { vip, until } => {
                    if self.leases.renew(vip, until, &self.log) {
                        self.lifetimes.hold(vip, until);
                        self.renew_lifetimes(now, vip);
                    } else {
                        self.engine.handle(now, Input::LeaseLapsed { vip });
                    }
                }
                Output::EndLease { vip } => {
                    self.lifetimes.end(vip);
                    self.leases.end(vip, &self.log);
                }
                Output::LetGo { vip } => {
                    let closed = self.leases.let_go(vip, &self.log);
                    self.lifetimes.end(vip);
                    self.engine.handle(now, Input::LetGo { vip, closed });
                }
                Output::Prepare(set) => self.prepare(now, set),
                Output::Install(set) => self.install(now, set),
                Output::Remove(set) => self.remove(now, set, Kernel::remove),
                Output::Trim(set) => self.remove(now, set, Kernel::trim),
                Output::Announce(set) => {
                    if let Some(interface) = self.links.interface(set.link)
                        && let Err(error) = self.kernel.announce(interface, set.clone(), self.lifetimes.right(set.vip))
                    {
                        self.log.write(Entry::Trouble(error.to_string()));
                    }
                }
                Output::Vote { to, message } => {
                    if let Some(peers) = &mut self.peers {
                        self.votes.put(peers, &to, &message);
                    }
                }
                Output::Ask(question) => {
                    if let Some(interface) = self.links.interface(question.link)
                        && let Err(error) = self.sockets.ask(interface, &question)
                    {
                        self.log.write(Entry::Trouble(error.to_string()));
                    }
                }
                Output::Echo(question) => self.references.ask(&self.engine, &self.links, &question, &self.log),
                Output::SendHeartbeat { peer, heartbeat } => {
                    if let Some(peers) = &mut self.peers {
                        self.second_path.send(peers, &peer, &heartbeat);
                    }
                }
                Output::SendHandover { peer, message } => {
                    if let Some(peers) = &mut self.peers {
                        self.second_path.send_handover(peers, &peer, &message);
                    }
                }
                Output::HandoverEnded { request, outcome } => self.handovers.on_ended(request, outcome),
                Output::Fence(order) => self.fence(now, order),
                Output::RunHook(order) => self.run_hook(now, order),
                Output::KeepHolds => self.unsaved_since = self.unsaved_since.or(Some(now)),
                Output::Event(event) => {
                    if matches!(event.kind, EventKind::Transition { .. }) {
                        self.unsaved_since = self.unsaved_since.or(Some(now));
                        owner_may_be_new = true;
                    }
                    self.log.write(Entry::Event(event));
                }
            }
        }
        if let Some(peers) = &mut self.peers {
            self.votes.flush(peers);
        }
        if owner_may_be_new {
            self.follow_ownership(now);
        }
        self.answer_settled();
        if !self.waiting.is_empty() || self.save_at().is_some_and(|at| now >= at) {
            self.save(now);
        }
    }

    /// Off the loop, once nothing more urgent is to be done.
    fn renew_lifetimes(&mut self, now: Instant, vip: VipId) {
        let link = self.engine.vip(vip).map(|vip| vip.link());
        let Some(interface) = link.and_then(|link| self.links.interface(link)) else { return };
        let Self { lifetimes, kernel, .. } = self;
        lifetimes.renew(vip, now, |what| kernel.prolong(interface, what));
    }

    /// Has the watchdog armed while anything is owned, or is still there.
    fn follow_ownership(&mut self, now: Instant) {
        if self.self_fence.is_configured() {
            self.self_fence.follow(self.owns(), now, &self.log);
        }
    }

    fn owns(&self) -> bool {
        let owns = |vip: &Vip| matches!(vip.state(), StateName::Claiming | StateName::Active);
        self.removals > 0 || self.engine.vips().iter().any(owns)
    }

    /// On a thread of its own, which may take minutes.
    fn fence(&mut self, now: Instant, FenceOrder { request, peer }: FenceOrder) {
        let to_loop = self.to_loop.clone();
        let spawned = thread::Builder::new().name("fence".into()).spawn(move || {
            let result = fencing::fence(&peer).map_err(EffectError);
            // An agent that has ended claims nothing.
            if let Some(to_loop) = to_loop.upgrade() {
                to_loop.blocking_send(Message::Fenced { request, result }).ok();
            }
        });
        if let Err(error) = spawned {
            let result = Err(EffectError(format!("no thread for it: {error}")));
            self.engine.handle(now, Input::Fenced { request, result });
        }
    }

    fn run_hook(&mut self, now: Instant, order: HookOrder) {
        let (request, vip, moment) = (order.request, order.vip, order.moment);
        match self.hooks.run(order) {
            Ok(()) => self.hooks_under_way += 1,
            Err(error) => self.engine.handle(now, Input::HookEnded { request, vip, moment, result: Err(error) }),
        }
    }

    fn install(&mut self, now: Instant, set: AddressSet) {
        let (request, vip) = (set.request, set.vip);
        // The order may be carried out before the lease is renewed, which comes next.
        if let Some(until) = self.engine.vip(vip).and_then(|vip| vip.lease_until()) {
            self.lifetimes.hold(vip, until);
        }
        let ordered = match self.links.interface(set.link) {
            Some(interface) => {
                let (lifetime, right) = (self.lifetimes.install(vip, now), self.lifetimes.right(vip));
                self.kernel.install(interface, set, lifetime, right)
            }
            None => Err(EffectError::from("the interface is missing")),
        };
        if ordered.is_err() {
            self.engine.handle(now, Input::Installed { request, vip, result: ordered });
        }
    }

    /// Behind a gate that is closed. Where there is none, or where a switch would learn of the virtual MAC address at once, it waits for the claim.
    fn prepare(&mut self, now: Instant, set: AddressSet) {
        let (request, vip) = (set.request, set.vip);
        let can = self.circumstances.enforcement.is_in_time() && set.mac == MacMode::Interface;
        let ordered = match self.links.interface(set.link).filter(|_| can) {
            Some(interface) => {
                let lifetime = self.lifetimes.install(vip, now);
                match self.kernel.prepare(interface, set, lifetime) {
                    Ok(()) => return,
                    Err(error) => Err(error),
                }
            }
            None => Ok(Prepared::Later),
        };
        self.engine.handle(now, Input::Prepared { request, vip, result: ordered });
    }

    /// An interface that is gone has no addresses, which the thread of the addresses finds out.
    fn remove(&mut self, now: Instant, set: AddressSet, order: RemovalOrder) {
        let (request, vip) = (set.request, set.vip);
        let Some(interface) = self.links.interface(set.link) else {
            self.engine.handle(now, Input::Removed { request, vip, result: Ok(()) });
            return;
        };
        self.leases.on_remove(&set);
        match order(&self.kernel, interface, set) {
            Ok(()) => self.removals += 1,
            Err(error) => {
                self.leases.on_removed(request, false, &self.log);
                self.engine.handle(now, Input::Removed { request, vip, result: Err(error) });
            }
        }
    }
}
