//! The witness: a voter that owns nothing, for any number of groups that share a key with it.
//!
//! It keeps nothing on disk, and decides nothing that [`Voter`] does not.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::clock;
use super::peers::{Heard, Peers};
use super::sandbox::Sandbox;
use super::supervisor::Supervisor;
use super::{in_words, runtime};
use crate::config::{self, Short};
use crate::driver::datagrams::Path;
use crate::engine::seals::Sealing;
use crate::engine::{Instant, Voter};
use crate::wire::grant::{self, GrantMessage};
use crate::wire::seal::{Keys, Topic};

/// How often the supervisor is told that the loop turns, and what it does.
const TICK: Duration = Duration::from_secs(1);

/// A message that cannot be read is reported once in so long.
const REPORT_SPACING: Duration = Duration::from_secs(60);

/// How a witness is started.
#[derive(Clone, Debug)]
pub struct WitnessOptions {
    /// Its name, among the voters of each group.
    pub name: String,
    /// The address that it listens on; `None`: all of this host.
    pub address: Option<IpAddr>,
    /// The UDP port.
    pub port: u16,
    /// The file with the keys, read again at SIGHUP.
    pub key_file: PathBuf,
    /// It grants nothing for longer, and waits for so long before it votes.
    pub longest_grant: Duration,
}

/// Runs a witness until SIGTERM or SIGINT.
///
/// # Errors
///
/// What the system refuses, as text for an operator.
pub fn run(options: &WitnessOptions, keys: &Keys) -> io::Result<()> {
    // Before a stranger is heard.
    let sandbox = Sandbox::of_witness();
    sandbox.tell();
    runtime()?.block_on(async {
        let seal = config::Seal { keys: keys.clone(), adverts: Sealing::Off, port: options.port };
        let peers =
            Peers::open_at(&options.name, &seal, options.address).map_err(|error| in_words(&error, "witness"))?;
        let now = clock::now();
        let voter = Voter::new(now, options.longest_grant);
        let wait = Short(voter.wait(now));
        let version = env!("CARGO_PKG_VERSION");
        info!("vipd {version}: {} is a witness on UDP port {}, and votes in {wait}", options.name, options.port);
        Witness {
            options,
            seal,
            peers,
            voter,
            supervisor: Supervisor::of_environment(),
            told: (0, 0),
            reported_at: None,
        }
        .serve()
        .await
    })
}

struct Witness<'o> {
    options: &'o WitnessOptions,
    seal: config::Seal,
    peers: Peers,
    voter: Voter,
    supervisor: Supervisor,
    /// How many virtual routers and nodes the supervisor knows of.
    told: (usize, usize),
    reported_at: Option<Instant>,
}

impl Witness<'_> {
    async fn serve(mut self) -> io::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hangup = signal(SignalKind::hangup())?;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.supervisor.ready();
        loop {
            tokio::select! {
                heard = poll_fn(|context| self.peers.poll_receive(context)) => match heard {
                    Ok(heard) => self.on_heard(heard),
                    Err(error) => warn!("{error}"),
                },
                _ = ticks.tick() => self.on_tick(),
                _ = hangup.recv() => self.reload(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        self.supervisor.stopping();
        info!("the witness stops");
        Ok(())
    }

    fn on_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Message { sender, topic: Topic::Grant, payload, path } => match grant::parse(&payload) {
                Ok(messages) => self.answer(&sender, path, &messages),
                Err(error) => {
                    let now = clock::now();
                    if self.reported_at.is_none_or(|at| now.since(at) >= REPORT_SPACING) {
                        self.reported_at = Some(now);
                        warn!("what {sender} says about grants cannot be read: {error}");
                    }
                }
            },
            // For those that own something.
            Heard::Message { topic: Topic::Heartbeat | Topic::Handover, .. } => {}
            Heard::Session { peer, path } => info!("{peer} is heard, at {}", path.remote.ip()),
            Heard::Refused { path, error } => warn!("a message from {} is not believed: {error}", path.remote),
        }
    }

    /// Answers where it was asked from, in as few datagrams as hold it.
    fn answer(&mut self, sender: &str, path: Path, messages: &[GrantMessage]) {
        let now = clock::now();
        let room = self.peers.room(sender);
        let mut bytes = Vec::new();
        for message in messages {
            let Some(answer) = self.voter.answer(now, sender, message) else { continue };
            if !bytes.is_empty() && bytes.len() + answer.emitted_len() > room {
                self.send(sender, path, &bytes);
                bytes.clear();
            }
            answer.emit(&mut bytes);
        }
        if !bytes.is_empty() {
            self.send(sender, path, &bytes);
        }
    }

    /// An answer that cannot be sent is as good as lost: whoever asked asks again.
    fn send(&mut self, to: &str, path: Path, bytes: &[u8]) {
        self.peers.send_on(to, Path { ifindex: 0, ..path }, Topic::Grant, bytes).ok();
    }

    fn on_tick(&mut self) {
        let now = clock::now();
        self.supervisor.beat(now);
        let count = (self.voter.grants(now), self.peers.count());
        if count != self.told {
            self.told = count;
            self.supervisor.tell_status(&format!("{} virtual routers granted; {} nodes known", count.0, count.1));
        }
    }

    /// The keys may be others.
    fn reload(&mut self) {
        match config::read_keys(&self.options.key_file) {
            Ok(keys) => {
                self.seal.keys = keys;
                match self.peers.follow(&self.options.name, &self.seal) {
                    Ok(change) => info!("reloaded: {}", change.as_deref().unwrap_or("nothing changed")),
                    Err(error) => warn!("{error}"),
                }
            }
            Err(error) => warn!("not reloaded, the keys are as before: {error}"),
        }
    }
}
