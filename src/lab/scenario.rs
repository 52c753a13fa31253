//! What can go wrong with the owner, one function a fault: do it, wait for what should follow, measure, heal, and see that all is
//! well again.
//!
//! node-a has the higher priority and is the owner at the begin and at the end of each.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::firewall::set_firewall;
use super::frames::Kind;

use super::measure::Measurement;
use super::pair::{INTERFACE, Pair, SECOND_INTERFACE, Watch};
use super::probe::Answer;
use super::software::vipd::CONTROL;
use super::stranger::{STRANGER_MAC, Stranger};
use crate::engine::announce::RIVAL_SPACING;
use crate::engine::silence::LONGEST_WAIT;

const A: usize = 0;
const B: usize = 1;

/// How long an agent is frozen.
const FREEZE: Duration = Duration::from_secs(5);

/// A host that takes an address announces it twice, so long apart (RFC 5227 §1.1, `ANNOUNCE_INTERVAL`).
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);

/// How long two owners, where there are two, are watched before the fault is healed.
const WATCH_DUAL: Duration = Duration::from_secs(2);

/// How long the return of a machine is watched at least: its first announcement would be repeated after a second.
const WATCH_RETURN: Duration = Duration::from_millis(1_200);

/// What is judged of a takeover that a peer asked for on the second path.
const ONCE_TOLD: Duration = Duration::from_millis(20);

/// What is judged of a takeover that an operator asked for: his program has to start.
const TOLD_TO: Duration = Duration::from_millis(200);

/// After so long of hearing each other, each node knows of the other that it is heard.
const TOLD_BOTH_WAYS: Duration = Duration::from_millis(250);

/// A busy machine may start a program late; no agent has this for an excuse.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The owner's machine loses power
    HostKill,
    /// The owner's agent is killed; its machine lives on
    AgentKill,
    /// The owner's agent hangs for 5 s, then goes on
    Freeze,
    /// The owner's machine stands still, as a paused virtual one does, until another has taken over; then it goes on
    Resume,
    /// The owner's agent is stopped in good order
    Stop,
    /// The owner is told to hand over (vipd handover); then to take it back. Two nodes that know each other by a second path
    Handover,
    /// The owner's network cable is pulled
    LinkDown,
    /// The nodes no longer hear each other; the client reaches both
    Partition,
    /// The dead owner comes back and takes the address again
    Failback,
    /// A third host configures the address by itself and announces it
    ArpConflict,
    /// A firewall on the backup drops the owner's adverts; the address still answers
    Firewall,
    /// The same, but the nodes hear each other on a second path
    OneWay,
    /// The owner hears neither the other node nor the witness; the client reaches it
    WitnessPartition,
}

/// What the standard promises, to stand beside what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The longest time from the fault to the successor's first answer.
    pub takeover: Duration,
    /// In the terms that it is made of.
    pub formula: &'static str,
}

/// One run of a scenario.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// When the fault was made.
    pub fault: Instant,
    /// What the client saw.
    pub measured: Measurement,
    /// For how long the kernels of both nodes had a lease on the address, by their own account; `None`: that cannot be seen.
    pub both_leased: Option<Duration>,
    /// Whether node-a alone answered at the end, once all was healed.
    pub healed: Result<(), String>,
    /// For how long the client reached a third host instead of the owner, where there was one.
    pub astray: Option<Duration>,
    /// Of a partition: how long after its end it took until node-a answered each question, and nobody else did.
    pub settled: Option<Duration>,
    /// What came of the return of a machine that had stood still.
    pub returned: Option<Return>,
}

/// A machine that had stood still goes on, and another has taken over meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// How often the other one's agent changed its state after that.
    pub transitions: usize,
    /// Announcements of the shared address that came from it.
    pub announcements: usize,
    /// Its answers to the client.
    pub answers: usize,
}

impl Return {
    /// Nobody noticed.
    pub const fn is_silent(self) -> bool {
        self.transitions == 0 && self.announcements == 0 && self.answers == 0
    }
}

impl Scenario {
    /// All, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::HostKill,
        Self::AgentKill,
        Self::Freeze,
        Self::Resume,
        Self::Stop,
        Self::Handover,
        Self::LinkDown,
        Self::Partition,
        Self::Failback,
        Self::ArpConflict,
        Self::Firewall,
        Self::OneWay,
        Self::WitnessPartition,
    ];

    /// Whether the nodes have a witness in it.
    pub fn has_witness(self) -> bool {
        self == Self::WitnessPartition
    }

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostKill => "host-kill",
            Self::AgentKill => "agent-kill",
            Self::Freeze => "freeze",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Handover => "handover",
            Self::LinkDown => "link-down",
            Self::Partition => "partition",
            Self::Failback => "failback",
            Self::ArpConflict => "arp-conflict",
            Self::Firewall => "firewall",
            Self::OneWay => "one-way",
            Self::WitnessPartition => "witness-partition",
        }
    }

    /// Whether the nodes know each other by a second path in it, too: as was asked for, unless it is about that.
    pub const fn has_second_path(self, asked_for: bool) -> bool {
        match self {
            Self::OneWay | Self::Handover => true,
            // About nodes that know each other by adverts alone: with a second path nobody would take over.
            Self::Partition | Self::Firewall => false,
            Self::HostKill
            | Self::AgentKill
            | Self::Freeze
            | Self::Resume
            | Self::Stop
            | Self::LinkDown
            | Self::Failback
            | Self::ArpConflict
            | Self::WitnessPartition => asked_for,
        }
    }

    /// What happens, in words.
    pub const fn fault(self) -> &'static str {
        match self {
            Self::HostKill => "node-a loses power",
            Self::AgentKill => "the agent on node-a is killed (SIGKILL); the machine lives on",
            Self::Freeze => "the agent on node-a hangs (SIGSTOP) for 5 s",
            Self::Resume => "node-a stands still as a whole, until node-b has taken over; then it goes on",
            Self::Stop => "the agent on node-a is stopped in good order (SIGTERM)",
            Self::Handover => "the agent on node-a is told to hand over (vipd handover)",
            Self::LinkDown => "the network cable of node-a is pulled",
            Self::Partition => "node-a and node-b no longer hear each other; the client reaches both",
            Self::Failback => "node-a, which was dead, comes back",
            Self::Firewall => "a firewall on node-b drops the adverts of node-a; all else passes",
            Self::OneWay => "adverts from node-a to node-b are lost; on a second path the nodes hear each other",
            Self::ArpConflict => "a third host configures the address by itself, and announces it twice",
            Self::WitnessPartition => "node-a hears neither node-b nor the witness; the client reaches both nodes",
        }
    }

    /// What RFC 9568 §6.1 gives for a pair.
    pub fn bound(self, pair: &Pair) -> Bound {
        let [a, b] = [pair.nodes[A].router(), pair.nodes[B].router()];
        match self {
            Self::OneWay => Bound { takeover: Duration::ZERO, formula: "none: node-a goes on" },
            Self::Stop | Self::LinkDown if pair.options().second_path => {
                Bound { takeover: ONCE_TOLD, formula: "said on the second path, and heard" }
            }
            Self::WitnessPartition => Bound {
                takeover: b.active_down() * 12 / 10,
                formula: "1.2 × (3 × interval + (256 − priority) / 256 × interval)",
            },
            Self::Handover => {
                Bound { takeover: TOLD_TO, formula: "a program's start, and what it tells the agents to say" }
            }
            Self::HostKill | Self::AgentKill | Self::Freeze | Self::Resume | Self::LinkDown | Self::Partition => {
                Bound { takeover: b.active_down(), formula: "3 × interval + (256 − priority) / 256 × interval" }
            }
            Self::Stop => Bound { takeover: b.skew(), formula: "(256 − priority) / 256 × interval" },
            // The owner answers when it is asked, so the backup waits.
            Self::Firewall => Bound {
                takeover: b.active_down() + LONGEST_WAIT,
                formula: "3 × interval + (256 − priority) / 256 × interval, and 3 s while the address answers",
            },
            // While the third host lives, it is the client's belief that is fought for: the owner answers each second at most.
            Self::ArpConflict => {
                Bound { takeover: RIVAL_SPACING, formula: "the spacing of announcements against a rival" }
            }
            Self::Failback => {
                Bound { takeover: a.active_down(), formula: "3 × interval + (256 − priority) / 256 × interval" }
            }
        }
    }

    /// Runs it once on a pair. Agents that do not run are started. node-a owns the address before and afterwards. The fault is made so long
    /// after one of the owner's adverts, which is less than an interval: its successor waits so much less.
    ///
    /// # Errors
    /// The lab failed. An agent that fails is an outcome, not an error, once the fault was made.
    pub fn run(self, pair: &mut Pair, phase: Duration, watch: &mut dyn Watch) -> Result<Outcome> {
        let (fault, measured) = self.strike(pair, phase, watch)?;
        let (returned, measured) = if self == Self::Resume {
            let returned = come_back(pair, watch)?;
            // Its return is part of what is measured.
            (Some(returned), pair.probe().record().measure(fault, Instant::now(), &pair.nodes[B].macs()))
        } else {
            (None, measured)
        };
        let astray = (self == Self::ArpConflict).then(|| pair.probe().record().answered_by(fault, STRANGER_MAC));
        let both_leased = pair.both_leased(fault);
        let heal = Instant::now();
        let healed = self.heal(pair, watch).map_err(|error| format!("{error:#}"));
        let is_settled = self == Self::Partition && healed.is_ok();
        let settled = is_settled.then(|| pair.probe().record().settled(heal, Instant::now(), &pair.nodes[A].macs()));
        Ok(Outcome { fault, measured, both_leased, healed, astray, settled, returned })
    }

    /// Like [`run`](Self::run), but leaves it broken: gives when the fault was made, and what the client saw of it.
    ///
    /// # Errors
    /// The lab failed.
    pub fn strike(self, pair: &mut Pair, phase: Duration, watch: &mut dyn Watch) -> Result<(Instant, Measurement)> {
        pair.probe().forget();
        if self == Self::Resume {
            begin_without_preemption(pair, watch)?;
        }
        begin(pair, watch)?;
        let successor = if matches!(self, Self::Failback | Self::ArpConflict | Self::OneWay) { A } else { B };
        if self == Self::Failback {
            watch.note(Instant::now(), "lab", "first, node-a loses power and node-b takes over");
            pair.nodes[A].host.kill()?;
            pair.wait_for_owner(B, patience(pair), watch)?;
            pair.reboot(A)?;
        }
        let bound = self.bound(pair).takeover;
        wait_for_phase(pair, phase, watch)?;
        let seen = pair.probe().count();
        let fault = match self {
            Self::HostKill => pair.nodes[A].host.kill()?,
            Self::AgentKill => timed(|| agent(pair)?.kill())?,
            Self::Freeze => timed(|| agent(pair)?.signal(Signal::SIGSTOP))?,
            Self::Resume => timed(|| {
                // A machine that stands still does not answer, and what is sent to it is not waiting for it either.
                pair.nodes[A].host.port(INTERFACE)?.set_forwarding(false)?;
                agent(pair)?.signal(Signal::SIGSTOP)
            })?,
            Self::Stop => timed(|| agent(pair)?.signal(Signal::SIGTERM))?,
            Self::Handover => timed(|| hand_over(pair, "node-b"))?,
            Self::LinkDown => {
                let port = pair.nodes[A].host.port(INTERFACE)?;
                timed(|| port.set_cable(false))?
            }
            Self::Partition => timed(|| isolate(pair, true))?,
            Self::WitnessPartition => timed(|| isolate_from_voters(pair, true))?,
            Self::Failback => {
                let at = Instant::now();
                pair.start(A)?;
                at
            }
            Self::Firewall | Self::OneWay => timed(|| set_firewall(&pair.nodes[B].host, INTERFACE, true))?,
            Self::ArpConflict => {
                let stranger = pair.new_stranger()?;
                let at = stranger.take(INTERFACE)?;
                pair.stranger = Some(stranger);
                at
            }
        };
        watch.note(fault, "fault", self.fault());
        if self == Self::Firewall {
            note_told(pair, B, fault, bound, " still answers at ", watch)?;
        }
        if self == Self::OneWay {
            let patience = pair.nodes[B].router().active_down() + pair.options().interval;
            note_told(pair, B, fault, patience, " are blocked", watch)?;
        }
        self.await_successor(pair, watch, seen, successor)?;
        match self {
            Self::HostKill | Self::Resume | Self::Stop | Self::Handover | Self::LinkDown | Self::Failback => {
                pair.wait(pair.options().interval.max(Duration::from_millis(200)), watch)?;
            }
            Self::AgentKill | Self::Partition | Self::Firewall | Self::WitnessPartition => {
                pair.wait(WATCH_DUAL, watch)?
            }
            // Longer than a backup waits for an address that answers and for nothing else.
            Self::OneWay => pair.wait(LONGEST_WAIT + WATCH_DUAL, watch)?,
            Self::Freeze => {
                pair.wait(FREEZE.saturating_sub(fault.elapsed()), watch)?;
                watch.note(Instant::now(), "lab", "the agent on node-a goes on (SIGCONT)");
                agent(pair)?.signal(Signal::SIGCONT)?;
                // Its return is part of what is measured.
                pair.wait(2 * bound, watch)?;
            }
            Self::ArpConflict => {
                note_told(pair, A, fault, RIVAL_SPACING, " also answers for ", watch)?;
                pair.wait(ANNOUNCE_INTERVAL.saturating_sub(fault.elapsed()), watch)?;
                if let Some(stranger) = &pair.stranger {
                    watch.note(stranger.announce()?, "lab", "the third host announces the address again");
                }
                pair.wait(RIVAL_SPACING, watch)?;
            }
        }
        let measured = pair.probe().record().measure(fault, Instant::now(), &pair.nodes[successor].macs());
        Ok((fault, measured))
    }

    /// Waits until the successor answers the client's ordinary way or, where the old owner may do so too, at all.
    fn await_successor(self, pair: &mut Pair, watch: &mut dyn Watch, seen: usize, successor: usize) -> Result<()> {
        let mut index = seen;
        let mut first = None;
        pair.wait_until(patience(pair), watch, |pair| {
            let answers = pair.probe().answers_from(index);
            index += answers.len();
            let node = &pair.nodes[successor];
            let its = |answer: &&Answer| {
                let kind = match self {
                    Self::Partition | Self::AgentKill | Self::Freeze | Self::Firewall | Self::WitnessPartition => {
                        answer.kind != Kind::Announcement
                    }
                    _ => matches!(answer.kind, Kind::Echo(_)),
                };
                node.answers_from(answer.from) && kind
            };
            first = answers.iter().find(its).copied();
            Ok(first.is_some())
        })?;
        let name = pair.nodes[successor].host.name().to_owned();
        match first {
            Some(answer) => watch.note(answer.at, "client", &format!("{name} answers")),
            None => watch.note(Instant::now(), "client", &format!("{name} does not answer")),
        }
        Ok(())
    }

    fn heal(self, pair: &mut Pair, watch: &mut dyn Watch) -> Result<()> {
        match self {
            Self::HostKill => {
                watch.note(Instant::now(), "lab", "node-a boots again");
                pair.reboot(A)?;
                pair.start(A)?;
            }
            Self::AgentKill | Self::Stop => {
                // An agent that is stopped may take its time; a service manager waits for it, too.
                pair.wait_until(START_PATIENCE, watch, |pair| Ok(agent(pair)?.ensure_running().is_err()))?;
                watch.note(Instant::now(), "lab", "the agent on node-a is started again");
                pair.start(A)?;
            }
            Self::LinkDown => {
                watch.note(Instant::now(), "lab", "the cable of node-a is back");
                pair.nodes[A].host.port(INTERFACE)?.set_cable(true)?;
            }
            Self::Partition => {
                watch.note(Instant::now(), "lab", "the nodes hear each other again");
                isolate(pair, false)?;
            }
            Self::WitnessPartition => {
                watch.note(Instant::now(), "lab", "all hear each other again");
                isolate_from_voters(pair, false)?;
            }
            Self::Firewall | Self::OneWay => {
                watch.note(Instant::now(), "lab", "the firewall of node-b lets adverts pass again");
                set_firewall(&pair.nodes[B].host, INTERFACE, false)?;
            }
            Self::ArpConflict => {
                watch.note(Instant::now(), "lab", "the third host is switched off");
                pair.stranger.take().map_or(Ok(()), Stranger::remove)?;
            }
            Self::Resume => {
                watch.note(Instant::now(), "lab", "the agent on node-a is started again, and may preempt");
                pair.nodes[A].set_preempt(true);
                pair.start(A)?;
            }
            Self::Handover => {
                watch.note(Instant::now(), "lab", "node-a is told to take it back");
                hand_over(pair, "node-a")?;
            }
            Self::Freeze | Self::Failback => {}
        }
        pair.wait_for_owner(A, patience(pair), watch)
    }
}

/// Waits until an agent has said something of that kind, and shows in which words it did.
fn note_told(
    pair: &mut Pair,
    node: usize,
    since: Instant,
    patience: Duration,
    words: &str,
    watch: &mut dyn Watch,
) -> Result<()> {
    pair.wait_until(patience, watch, |pair| Ok(told(pair, node, Some(since), words)?.is_some()))?;
    let name = pair.nodes[node].host.name().to_owned();
    match told(pair, node, Some(since), words)? {
        Some((at, text)) => watch.note(at, &name, &text),
        None => watch.note(Instant::now(), &name, "has not noticed"),
    }
    Ok(())
}

/// What an agent has said first with these words in it: when, and all of it.
fn told(pair: &Pair, node: usize, since: Option<Instant>, words: &str) -> Result<Option<(Instant, String)>> {
    let agent = pair.nodes[node].agent.as_ref().context("no agent runs there")?;
    let lines = agent.processes().iter().flat_map(|process| process.lines_from(0));
    let mut told = lines.filter(|line| since.is_none_or(|since| line.at >= since) && line.text.contains(words));
    Ok(told.find_map(|line| {
        let document: serde_json::Value = serde_json::from_str(&line.text).ok()?;
        Some((line.at, document["fields"]["message"].as_str()?.to_owned()))
    }))
}

/// Both agents run, and node-a is the owner.
fn begin(pair: &mut Pair, watch: &mut dyn Watch) -> Result<()> {
    for node in [A, B] {
        if pair.nodes[node].agent.is_none() {
            pair.start(node)?;
        }
    }
    pair.wait_for_owner(A, patience(pair), watch)?;
    let name = pair.nodes[A].host.name().to_owned();
    watch.note(Instant::now(), "client", &format!("{name} answers at {}", pair.address()));
    if pair.options().second_path {
        let heard = |pair: &Pair, node| {
            Ok::<_, anyhow::Error>(told(pair, node, None, "is heard on the second path")?.is_some())
        };
        pair.wait_until(START_PATIENCE, watch, |pair| Ok(heard(pair, A)? && heard(pair, B)?))?;
        pair.wait(TOLD_BOTH_WAYS, watch)?;
    }
    // Else what node-b has not yet heard would be measured.
    pair.wait(2 * pair.options().interval, watch)
}

/// node-a is the owner, and would not take the address from node-b, so that it has nothing to say once it was deposed.
fn begin_without_preemption(pair: &mut Pair, watch: &mut dyn Watch) -> Result<()> {
    pair.nodes.iter_mut().for_each(|node| node.agent = None);
    pair.nodes[A].set_preempt(false);
    pair.start(A)?;
    pair.wait_for_owner(A, patience(pair), watch)
}

/// node-a goes on. Watches what comes of it, for longer than it listens before it might speak.
fn come_back(pair: &mut Pair, watch: &mut dyn Watch) -> Result<Return> {
    let seen = pair.probe().count();
    let at = Instant::now();
    pair.nodes[A].host.port(INTERFACE)?.set_forwarding(true)?;
    agent(pair)?.signal(Signal::SIGCONT)?;
    watch.note(at, "lab", "node-a goes on");
    let listens = pair.nodes[A].router().active_down() + pair.nodes[B].router().active_down();
    pair.wait(listens.max(WATCH_RETURN), watch)?;
    let answers = pair.probe().answers_from(seen);
    let (announcements, answers): (Vec<&Answer>, Vec<&Answer>) = answers
        .iter()
        .filter(|answer| answer.at >= at && pair.nodes[A].answers_from(answer.from))
        .partition(|answer| answer.kind == Kind::Announcement);
    let moved = |agent: &super::software::Agent| agent.events().iter().filter(|event| event.at >= at).count();
    Ok(Return {
        transitions: pair.nodes[B].agent.as_ref().map_or(0, moved),
        announcements: announcements.len(),
        answers: answers.len(),
    })
}

/// Waits until so long after an advert. Of unicast adverts the client sees nothing; then any moment is as good.
fn wait_for_phase(pair: &mut Pair, phase: Duration, watch: &mut dyn Watch) -> Result<()> {
    let before = pair.probe().last_advert();
    let interval = pair.options().interval;
    pair.wait_until(2 * interval, watch, |pair| Ok(pair.probe().last_advert() != before))?;
    if let Some((advert, _)) = pair.probe().last_advert() {
        // What is shown now would come too late: the wait is shorter than an interval.
        let mut due = advert + phase;
        while due < Instant::now() {
            due += interval;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Longer than any agent should take for anything.
fn patience(pair: &Pair) -> Duration {
    2 * pair.nodes[B].router().active_down() + START_PATIENCE
}

fn isolate(pair: &Pair, isolated: bool) -> Result<()> {
    pair.nodes.iter().try_for_each(|node| node.host.port(INTERFACE)?.set_isolated(isolated))
}

/// The owner is on its own, but for the client.
fn isolate_from_voters(pair: &Pair, isolated: bool) -> Result<()> {
    pair.nodes[A].host.port(SECOND_INTERFACE)?.set_forwarding(!isolated)?;
    isolate(pair, isolated)
}

/// Has the agent of node-a hand over, or fetch what it handed over.
fn hand_over(pair: &Pair, to: &str) -> Result<()> {
    let node = &pair.nodes[A];
    let program = node.vipd().context("node-a does not run vipd")?;
    let said = node
        .host
        .command(program)
        .args(["handover", &node.router().name, "--to", to, "--control", CONTROL])
        .output()?;
    anyhow::ensure!(
        said.status.success(),
        "vipd handover --to {to}: {}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    Ok(())
}

fn agent(pair: &Pair) -> Result<&super::software::Agent> {
    pair.nodes[A].agent.as_ref().context("no agent runs on node-a")
}

fn timed(function: impl FnOnce() -> Result<()>) -> Result<Instant> {
    let at = Instant::now();
    function()?;
    Ok(at)
}
