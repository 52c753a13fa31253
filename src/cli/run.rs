//! `vipd run`: the agent itself.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::output::{complain, stderr_colour};
use super::{Exit, client};
use crate::config::{self, MissingInterface, System};
use crate::daemon::enforcement::Enforcement;
use crate::daemon::journald::JournalLayer;
use crate::daemon::{self, Failure, Options};
use crate::driver::state_dir;

/// Before an agent that could not start ends under systemd: so often it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Run the agent, in the foreground
///
/// Stops cleanly at SIGTERM and SIGINT: the addresses are removed, and the peers are told at once. Reads the
/// configuration anew at SIGHUP, as `vipd reload` has it do.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 stopped in good order, 2 usage, 3 the configuration is wrong, 5 not permitted, 6 the \
system refused. systemd starts the agent again after any but 2 and 3; one that could not start ends a second late, so \
that it is not tried without a pause."
)]
pub(super) struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Where the control socket is made
    #[arg(long, value_name = "PATH", default_value = client::DEFAULT_CONTROL)]
    control: PathBuf,
    /// Where the journal of events is kept, and what must survive a restart
    #[arg(long, value_name = "DIR", default_value = state_dir::DEFAULT_PATH)]
    state_dir: PathBuf,
    /// Where to log, and how; the variable RUST_LOG says how much (`debug`; default: `info`)
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    log: LogFormat,
    /// What enforces the leases: for tests of what other kernels have
    #[arg(long, value_name = "LAYER", hide = true)]
    enforcement: Option<Enforcement>,
}

/// Where the log goes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    /// `journal` under systemd, else `text`
    Auto,
    /// Lines on standard error
    Text,
    /// JSON lines on standard error
    Json,
    /// The journal, with fields
    Journal,
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        if let Err(exit) = start_log(self.log) {
            pause_under_systemd();
            return Ok(exit);
        }
        let config = match config::load(&self.config, &System::probe(MissingInterface::Note)) {
            Ok(config) => config,
            Err(report) => {
                complain(&report.render(stderr_colour()));
                return Ok(Exit::Configuration);
            }
        };
        for note in &config.notes {
            tracing::warn!("{}, line {}: {} ({})", self.config.display(), note.line, note.message, note.remedy);
        }
        let options = Options {
            control: self.control,
            config: self.config,
            state_dir: self.state_dir,
            enforcement: self.enforcement,
        };
        let Err(Failure { error, was_ready }) = daemon::run(config, &options) else { return Ok(Exit::Done) };
        let exit = ended(Err(error));
        if !was_ready {
            pause_under_systemd();
        }
        Ok(exit)
    }
}

/// systemd starts an agent again at once, which one needs that was an owner. One that cannot start would keep a processor
/// busy by that, and fill the journal.
#[allow(clippy::disallowed_methods, reason = "nothing is left that could be waited for")]
fn pause_under_systemd() {
    if ["NOTIFY_SOCKET", "INVOCATION_ID"].into_iter().any(|name| std::env::var_os(name).is_some()) {
        std::thread::sleep(PAUSE);
    }
}

/// Starts the log of what runs until it is stopped; or says why not.
pub(super) fn start_log(format: LogFormat) -> Result<(), Exit> {
    log_to(format).map_err(|error| {
        complain(&format!("vipd: no log: {error}\n"));
        Exit::Refused
    })
}

/// What becomes of the process with what runs until it is stopped.
pub(super) fn ended(outcome: io::Result<()>) -> Exit {
    let Err(error) = outcome else { return Exit::Done };
    complain(&format!("vipd: {error}\n"));
    match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        _ => Exit::Refused,
    }
}

fn log_to(format: LogFormat) -> io::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) => filter.parse::<Targets>().map_err(|error| io::Error::other(format!("RUST_LOG: {error}")))?,
        Err(_) => Targets::new().with_default(tracing::Level::INFO),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let stderr = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    // A person reads the message, which says all; the fields are for machines.
    let message = format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?}"),
        _ => Ok(()),
    });
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    match format {
        LogFormat::Auto if under_systemd => registry.with(JournalLayer::open()?).init(),
        LogFormat::Journal => registry.with(JournalLayer::open()?).init(),
        LogFormat::Json => registry.with(stderr.json()).init(),
        LogFormat::Auto | LogFormat::Text => {
            registry.with(stderr.with_ansi(io::stderr().is_terminal()).fmt_fields(message)).init();
        }
    }
    Ok(())
}
