//! The agent: real time, real sockets, real netlink around one engine.
//!
//! | file | is |
//! |---|---|
//! | `event_loop` | the one task that owns the engine |
//! | `sockets` | the advert sockets that it reads and writes |
//! | `watch` | who else says that he has our addresses |
//! | [`peers`] | what this node and others say to each other, sealed |
//! | `references` | the ways to what answers as long as this node is connected |
//! | [`votes`] | where the voters are, and what is said about grants |
//! | [`witness`] | the voter that owns nothing: a loop of its own |
//! | `second_path` | where the others are on the second paths |
//! | [`handovers`] | operators who wait for the end of a handover |
//! | `kernel` | the threads for what may take time: addresses, announcements, news of interfaces |
//! | `leases` | the leases, handed on to the kernel |
//! | [`enforcement`] | what enforces them, and what that is worth |
//! | `lifetimes`, `prolonging` | the addresses' own lifetimes: when they are renewed, and how |
//! | `inheritance` | what an agent before this one left |
//! | [`memory`] | what must survive a restart: holds, what this host owned, and what is to be restored |
//! | `links` | what it knows of its interfaces |
//! | `control`, [`status`] | the control socket, and the document that it serves |
//! | `log` | all log lines of events |
//! | `alerts`, `alert_accounts`, `severity` | who else is told of events, whether that gets through, and which |
//! | [`journald`] | the log in the journal of systemd |
//! | [`journal`], [`journal_file`], [`record`] | the events on disk: the thread that writes them, the files, a line |
//! | [`accounts`] | figures of a time, reckoned from what the journals of nodes say |
//! | `epoch` | which life of this node this is |
//! | [`reload`], [`difference`] | the configuration read anew, and what that changes |
//! | `self_fence` | the hardware watchdog |
//! | `restart` | whether a stop is half of a restart |
//! | `supervisor` | systemd's notifications and watchdog |
//! | `checks`, `hooks` | the threads of the checks, and of the hooks |
//! | `programs` | the process that starts what they run, and which that may be |
//! | [`sandbox`] | what this process may do, which starts none |
//! | [`clock`], [`milliseconds`] | the one clock reader, and how times are shown |

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

pub mod accounts;
pub mod alert_accounts;
mod alerts;
mod checks;
pub mod clock;
pub mod control;
pub mod difference;
pub mod enforcement;
mod epoch;
mod event_loop;
pub mod handovers;
mod hooks;
mod inheritance;
pub mod journal;
pub mod journal_file;
pub mod journald;
mod kernel;
pub mod lateness;
mod leases;
mod lifetimes;
mod links;
mod log;
pub mod memory;
mod message;
pub mod milliseconds;
pub mod peers;
mod programs;
mod prolonging;
pub mod record;
mod references;
pub mod reload;
mod restart;
pub mod sandbox;
mod second_path;
mod self_fence;
mod severity;
mod sockets;
pub mod status;
mod supervisor;
pub mod votes;
mod watch;
pub mod witness;

use alert_accounts::Accounts;
use alerts::Alerts;
use checks::Checks;
use control::ControlSocket;
use enforcement::Enforcement;
use event_loop::{EventLoop, Hands};
use hooks::Hooks;
use inheritance::Inheritance;
use journal::Journal;
use kernel::Kernel;
use leases::Leases;
use log::{Log, Names};
use memory::Memory;
use message::{Mailbox, Message};
use reload::Reloader;
use sandbox::Sandbox;
use second_path::SecondPath;
use status::Circumstances;
use votes::Votes;

use crate::config::{Config, Seal};
use crate::driver::schedule::{self, Urgency};
use crate::engine::seals::Seals;
use crate::engine::{Engine, Hold, HoldReason, Input, Vip, VipId};

/// How an agent is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the control socket is.
    pub control: PathBuf,
    /// The file that the settings came from, to be read again at a reload.
    pub config: PathBuf,
    /// Where what outlives the agent is kept.
    pub state_dir: PathBuf,
    /// What shall enforce the leases; `None`: the strongest that the kernel has.
    pub enforcement: Option<Enforcement>,
    /// Whether the process restricts itself.
    pub sandbox: bool,
}

/// Why an agent ended that was not told to.
#[derive(Debug)]
pub struct Failure {
    /// What the system refuses, as text for an operator; the kind tells a missing permission from the rest.
    pub error: io::Error,
    /// Whether it took part in elections, before.
    pub was_ready: bool,
}

impl From<io::Error> for Failure {
    /// Of the start.
    fn from(error: io::Error) -> Self {
        Self { error, was_ready: false }
    }
}

/// Runs an agent until SIGTERM or SIGINT. Call it on the main thread, before there are others.
///
/// # Errors
///
/// What the system refuses.
pub fn run(config: Config, options: &Options) -> Result<(), Failure> {
    // First: it has nothing of what comes, and ends last.
    let programs = programs::start(&config, options.config.clone())?;
    let control = ControlSocket::bind(&options.control)
        .map_err(|error| in_words(&error, &format!("control socket {}", options.control.display())))?;
    let socket_file = RemovedOnDrop(control.path().to_owned());
    // Before there are threads, which it holds for, and before a stranger is heard.
    let sandbox = if options.sandbox { Sandbox::of_agent(&config, options) } else { Sandbox::none() };
    let Config {
        settings,
        seal,
        spreads: _,
        checks: wanted_checks,
        hooks: wanted_hooks,
        alerts,
        heartbeat,
        voters,
        notes: _,
    } = config;
    // Before anything is sent: a life that peers take for the one before it would be silence to them.
    let seals = seal.as_ref().map(|seal| seals(seal, &options.state_dir)).transpose()?;
    let mut engine = Engine::new(settings, clock::now());
    schedule::let_go_of_code();
    info!(node = engine.node(), vips = engine.vips().len(), "vipd {} starts", env!("CARGO_PKG_VERSION"));
    sandbox.tell();

    let (to_loop, messages) = mpsc::channel(message::QUEUE);
    let names = Names::of(&engine);
    let (journal, journal_end) = Journal::start(&options.state_dir, names.clone(), to_loop.clone())?;
    let (hooks, hooks_thread) = Hooks::start(names.clone(), wanted_hooks, &to_loop)?;
    let accounts = Accounts::default();
    let (alerts, alerts_thread) = Alerts::start(names.clone(), alerts, accounts.clone())?;
    let (log, log_thread) = Log::start(names, journal, alerts)?;
    let before = Memory::recall(&options.state_dir);
    for (vip, hold) in before.holds() {
        let id = vip.map(|name| engine.vips().iter().find(|vip| vip.settings().name == name).map(Vip::id));
        // A vip that is configured no longer is forgotten.
        if id != Some(None) {
            engine.handle(clock::now(), Input::Hold { vip: id.flatten(), hold });
        }
    }
    for (vip, hold) in holds_after_death(&engine, &before) {
        warn!("this host went down while it owned addresses, without a stop: it was fenced, or crashed, and keeps out");
        engine.handle(clock::now(), Input::Hold { vip: Some(vip), hold });
    }
    let (memory, memory_end) = Memory::start(&options.state_dir, before.spared())?;
    let checks = Checks::new(to_loop.clone());
    let quorum = engine.quorum_settings().cloned();
    let reloader = Reloader::new(options.config.clone(), to_loop.clone(), checks.clone(), quorum);
    spawn_control(control, to_loop.clone(), reloader, accounts, programs.watch()?)?;

    // The threads of the kernel's side ask for the same themselves: scheduling is not inherited.
    let (enforcement, mut gate) = Enforcement::open(options.enforcement);
    enforcement.tell(enforcement.resolution(engine.vips().iter().map(Vip::settings)));
    let inherited = inheritance::take_over(&engine, gate.as_mut()).map_err(io::Error::other)?;
    for Inheritance { vip, until, term } in inherited {
        engine.handle(clock::now(), Input::Inherited { vip, until, term });
    }
    let leases = Leases::new(gate, &engine, &log);
    let circumstances = Circumstances {
        started_at: clock::now(),
        realtime: granted("real-time scheduling", schedule::run_in_real_time(Urgency::Loop)),
        enforcement,
        memory_locked: false,
        sandbox: sandbox.level(),
    };
    let kernel = Kernel::start(&engine, before.spared(), &to_loop)?;
    let mailbox = Mailbox { messages, to_loop: to_loop.downgrade() };
    drop(to_loop);
    checks.keep(wanted_checks);

    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let second_path = SecondPath::new(heartbeat, clock::now());
        let seal = seal.as_ref().zip(seals);
        let hands = Hands { mailbox, kernel, leases, log, memory, hooks };
        let votes = Votes::new(voters);
        let mut event_loop = EventLoop::new(engine, seal, second_path, votes, hands, circumstances)?;
        // Last of all: what was needed to get here is needed no more.
        event_loop.note_memory(granted("locked memory", schedule::lock_memory()));
        event_loop.run().await
    });
    drop(socket_file);
    checks.finish();
    // Nor are there hooks that run on: the loop has waited for those that may.
    if hooks_thread.join().is_err() {
        warn!("the thread of the hooks panicked");
    }
    // The loop has dropped its end of the log: what it wrote is written out before the agent ends.
    if log_thread.join().is_err() {
        warn!("the thread of the log panicked");
    }
    if alerts_thread.join().is_err() {
        warn!("the thread of the alerts panicked");
    }
    journal_end.wait();
    memory_end.wait();
    drop(programs);
    info!("vipd stops");
    outcome
}

/// How adverts are sealed. An epoch is needed by those that seal; the others do without where the disk refuses.
fn seals(seal: &Seal, state_dir: &Path) -> io::Result<Seals> {
    let epoch = match epoch::begin(state_dir) {
        Ok(epoch) => Some(epoch),
        Err(error) if seal.adverts.sends() => {
            let message = format!("adverts cannot be sealed, [seal] adverts needs a state directory: {error}");
            return Err(io::Error::new(error.kind(), message));
        }
        Err(error) => {
            warn!("adverts could not be sealed in this life of the agent: {error}");
            None
        }
    };
    Ok(Seals::new(seal.keys.clone(), seal.adverts, epoch))
}

/// What this host owned when it went down may be owned by who fenced it; where nothing fences, the election alone decides.
fn holds_after_death(engine: &Engine, before: &memory::State) -> Vec<(VipId, Hold)> {
    let settings = engine.fence_settings();
    let Some(time) = settings.hold.filter(|_| !settings.peers.is_empty() || settings.watchdog.is_some()) else {
        return Vec::new();
    };
    let hold = Hold { reason: HoldReason::HostDied, until: Some(clock::now() + time) };
    let owned: Vec<&str> = before.owned_at_death().collect();
    let vips =
        engine.vips().iter().filter(|vip| owned.contains(&vip.settings().name.as_str()) && vip.held_by().is_none());
    vips.map(|vip| (vip.id(), hold)).collect()
}

fn spawn_control(
    control: ControlSocket,
    to_loop: mpsc::Sender<Message>,
    reloader: Reloader,
    alerts: Accounts,
    programs: UnixStream,
) -> io::Result<()> {
    let runtime = runtime()?;
    let (serves, is_served) = std::sync::mpsc::channel();
    thread::Builder::new().name("control".into()).spawn(move || {
        let signals = (to_loop.clone(), reloader.clone());
        let loses = to_loop.clone();
        let served = runtime.block_on(async {
            tokio::try_join!(
                control.serve(to_loop, reloader, alerts),
                pass_on_stops(signals.0),
                reload_at_signals(signals.1),
                programs::watch(programs, loses),
                // Last: the others have begun.
                async { serves.send(()).map_err(io::Error::other) }
            )
            .map(|_| ())
        });
        if let Err(error) = served {
            warn!("the control socket is no longer served: {error}");
        }
    })?;
    // It needs much code for its beginning, which is let go before memory is locked. Where it has failed it has said
    // so.
    is_served.recv().ok();
    Ok(())
}

async fn reload_at_signals(reloader: Reloader) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        // It logs what came of it, which is all that a signal can be answered.
        reloader.reload().await.ok();
    }
    Ok(())
}

async fn pass_on_stops(to_loop: mpsc::Sender<Message>) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        let is_restart = tokio::select! {
            _ = terminate.recv() => restart::is_under_way().await,
            _ = interrupt.recv() => false,
        };
        if to_loop.send(Message::Stop { is_restart }).await.is_err() {
            return Ok(());
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().build()
}

/// Says what is missing, and goes on without it.
fn granted(what: &str, asked: io::Result<()>) -> bool {
    match asked {
        Ok(()) => {
            info!("{what}: yes");
            true
        }
        Err(error) => {
            warn!("{what}: no ({error}); a busy host may delay adverts");
            false
        }
    }
}

fn in_words(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// A file that an agent leaves behind only where it is killed.
struct RemovedOnDrop(PathBuf);

impl Drop for RemovedOnDrop {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            warn!("remove {}: {error}", self.0.display());
        }
    }
}
