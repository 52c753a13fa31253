//! The process that starts programs: which it may start, and what becomes of an agent that has lost it.

use std::io;
use std::path::PathBuf;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::mpsc::Sender;

use super::message::Message;
use super::restart;
use crate::config::{self, Colour, Config, MissingInterface, System, Way};
use crate::driver::checks::Probe;
use crate::driver::program::Program;
use crate::driver::program::apart::{self, Apart};

/// Starts it, for the programs of this configuration, and of its file whenever that is reloaded.
pub(super) fn start(config: &Config, file: PathBuf) -> io::Result<Apart> {
    apart::start(named(config), move || match config::load(&file, &System::probe(MissingInterface::Note)) {
        Ok(config) => Ok(named(&config)),
        Err(report) => Err(report.render(Colour::Off)),
    })
}

/// Tells the loop when it has ended. Only the end of the agent ends this otherwise.
pub(super) async fn watch(way: std::os::unix::net::UnixStream, to_loop: Sender<Message>) -> io::Result<()> {
    let way = UnixStream::from_std(way)?;
    way.ready(Interest::READABLE).await?;
    // An agent that has ended knows.
    to_loop.send(Message::Lost { thread: "programs", error: "its process is gone".to_owned() }).await.ok();
    Ok(())
}

/// All that the agent may want to be started.
fn named(config: &Config) -> Vec<Program> {
    let checks = config.checks.iter().filter_map(|check| match &check.probe {
        Probe::Exec(program) | Probe::Lag(program) => Some(program.clone()),
        Probe::Tcp(_)
        | Probe::Http(_)
        | Probe::Ping(_)
        | Probe::Arp(_)
        | Probe::Postgres(_)
        | Probe::Systemd(_)
        | Probe::File(_)
        | Probe::Process(_)
        | Probe::Interface { .. }
        | Probe::Route(_) => None,
    });
    let hooks = config.hooks.iter().map(|hook| Program::clone(&hook.program));
    let alerts = config.alerts.iter().filter_map(|alert| match &alert.way {
        Way::Exec(program) => Some(Program::clone(program)),
        Way::Webhook(_) | Way::Journal => None,
    });
    let agents = config.settings.fence.peers.iter().map(|peer| crate::driver::fencing::agent(peer));
    checks.chain(hooks).chain(alerts).chain(agents).chain(restart::question()).collect()
}
