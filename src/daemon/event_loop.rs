//! The loop: one task that owns the engine, hands it what happens, and carries out what it says.
//!
//! | file | is |
//! |---|---|
//! | `inputs` | what happens |
//! | `outputs` | what is to be done |
//! | `holds` | drains, and who waits for them |
//! | `reload` | new settings |
//!
//! Nothing in here blocks. What might is an order to another thread, and comes back as a [`Message`].

use std::future::poll_fn;
use std::io;
use std::mem;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Failure;
use super::clock;
use super::handovers::Handovers;
use super::hooks::Hooks;
use super::journal::JournalStatus;
use super::kernel::Kernel;
use super::lateness::Lateness;
use super::leases::Leases;
use super::lifetimes::Lifetimes;
use super::links::Links;
use super::log::{Entry, Log};
use super::memory::{Changed, Memory, Waiting};
use super::message::{Mailbox, Message};
use super::peers::{Heard, Peers};
use super::references::References;
use super::second_path::SecondPath;
use super::self_fence::SelfFence;
use super::sockets::Sockets;
use super::status::Circumstances;
use super::supervisor::Supervisor;
use super::votes::Votes;
use super::watch::Watches;
use crate::config::Seal;
use crate::driver::readiness::Readable;
use crate::driver::schedule::VainWakes;
use crate::driver::timer::Timer;
use crate::engine::seals::Seals;
use crate::engine::{Engine, Input, Instant, VipId};

mod holds;
mod inputs;
mod outputs;
mod reload;

/// How many packets are heard before a deadline has its turn: the adverts of a thousand virtual routers, which take a few
/// milliseconds. A flood cannot hold up our own adverts for longer.
const PACKETS_IN_A_ROW: u32 = 1024;

/// Claims are fewer, and cost more.
const CLAIM_COUNTS_AS: u32 = 16;

/// How long what must survive a restart may be known to the loop alone.
const SAVE_DELAY: Duration = Duration::from_millis(20);

/// All that the loop owns.
#[derive(Debug)]
pub(super) struct EventLoop {
    engine: Engine,
    timer: Readable<Timer>,
    packets_in_a_row: u32,
    vain_wakes: VainWakes,
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
    /// Leases to be renewed, once no more adverts are to be sent.
    renewals: Vec<(VipId, Instant)>,
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
            vain_wakes: VainWakes::default(),
            armed: None,
            sockets,
            watches,
            peers,
            second_path,
            handovers: Handovers::default(),
            votes,
            leases,
            renewals: Vec::new(),
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

    /// Whether memory is locked by now.
    pub(super) const fn note_memory(&mut self, locked: bool) {
        self.circumstances.memory_locked = locked;
    }

    /// Runs until a stop is complete.
    ///
    /// # Errors
    ///
    /// What the agent cannot live without was lost. The addresses have been given up.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let mut failure = None;
        while !self.stopped() {
            self.arm().map_err(|error| self.failure(error))?;
            let wake = poll_fn(|context| {
                let wake = self.poll_wake(context);
                self.vain_wakes.note(wake.is_pending());
                wake
            })
            .await;
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
        failure.map_or(Ok(()), |error| Err(self.failure(error)))
    }

    const fn failure(&self, error: io::Error) -> Failure {
        Failure { error, was_ready: self.supervisor.is_ready() }
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
