//! The agent's process: its configuration, its log, its status.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;
use vipd::daemon::status::{Status, VipStatus};
use vipd::lab::{Host, Namespace, Process};

use super::{PATIENCE, V4, V6, eventually};

/// The program under test.
const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
/// Where a host's configuration is.
pub const CONFIG: &str = "/run/vipd/vipd.toml";
/// Where a host's agent answers.
pub const CONTROL: &str = "/run/vipd/control.sock";

/// What outlives a host's agent.
pub const STATE_DIR: &str = "/run/vipd/state";

/// A `[[vip]]` table.
#[derive(Clone)]
pub struct Vip {
    name: String,
    interface: &'static str,
    vrid: u8,
    priority: u8,
    interval_ms: u32,
    addresses: String,
    more: String,
}

impl Vip {
    /// On `eth0`, with VRID 51, an address of each family, and an advert every 100 ms.
    pub fn new(priority: u8) -> Self {
        Self {
            name: "db".into(),
            interface: "eth0",
            vrid: 51,
            priority,
            interval_ms: 100,
            addresses: format!("[\"{V4}/24\", \"{V6}/64\"]"),
            more: String::new(),
        }
    }

    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    pub fn on(mut self, interface: &'static str) -> Self {
        self.interface = interface;
        self
    }

    pub fn vrid(mut self, vrid: u8) -> Self {
        self.vrid = vrid;
        self
    }

    pub fn every_ms(mut self, interval_ms: u32) -> Self {
        self.interval_ms = interval_ms;
        self
    }

    /// As TOML has it, brackets included.
    pub fn addresses(mut self, toml: impl Into<String>) -> Self {
        self.addresses = toml.into();
        self
    }

    /// More lines of the table.
    pub fn with(mut self, toml: &str) -> Self {
        self.more.push_str(toml);
        self.more.push('\n');
        self
    }

    /// Without those that were added.
    pub fn alone(self) -> Self {
        Self { more: String::new(), ..self }
    }

    fn table(&self) -> String {
        let Self { name, interface, vrid, priority, interval_ms, addresses, more } = self;
        format!(
            "[[vip]]\nname = \"{name}\"\ninterface = \"{interface}\"\nvrid = {vrid}\npriority = {priority}\n\
             advert_interval = \"{interval_ms}ms\"\naddresses = {addresses}\n{more}\n"
        )
    }
}

/// An agent on a host. Killed on drop.
pub struct Agent {
    name: String,
    namespace: Namespace,
    process: Process,
}

/// A transition as the log tells it.
#[derive(Clone, Debug)]
pub struct Transition {
    /// When it was read.
    pub at: Instant,
    /// When it was written.
    pub written: SystemTime,
    pub vip: String,
    pub to: String,
    pub cause: String,
}

impl Agent {
    /// Starts one.
    pub fn start(host: &Host, vips: &[Vip]) -> Result<Self> {
        Self::start_with(host, vips, &[])
    }

    /// Starts one with more arguments.
    pub fn start_with(host: &Host, vips: &[Vip], arguments: &[&str]) -> Result<Self> {
        Self::start_as(host, vips, STATE_DIR, arguments)
    }

    /// Starts one that keeps its state in a directory of its own.
    pub fn start_with_state(host: &Host, vips: &[Vip], state_dir: &str) -> Result<Self> {
        Self::start_as(host, vips, state_dir, &[])
    }

    fn start_as(host: &Host, vips: &[Vip], state_dir: &str, arguments: &[&str]) -> Result<Self> {
        configure(host, vips)?;
        Self::start_configured(host, state_dir, arguments)
    }

    /// Starts one with a whole file.
    pub fn start_with_file(host: &Host, file: &str) -> Result<Self> {
        host.write_file(CONFIG.as_ref(), file)?;
        Self::start_configured(host, STATE_DIR, &[])
    }

    fn start_configured(host: &Host, state_dir: &str, arguments: &[&str]) -> Result<Self> {
        let namespace = host.namespace().clone();
        let mut command = namespace.command(VIPD);
        command.args(["run", "--config", CONFIG, "--control", CONTROL, "--state-dir", state_dir, "--log", "json"]);
        let process = Process::start(command.args(arguments))?;
        Ok(Self { name: host.name().to_owned(), namespace, process })
    }

    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// What `vipd status --json` says.
    pub fn status(&self) -> Result<Status> {
        let output = self.namespace.command(VIPD).args(["status", "--json", "--control", CONTROL]).output()?;
        ensure!(output.status.success(), "vipd status on {}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("vipd status --json")
    }

    /// Has a command run on the agent's host, for this agent: exit code, what it said, and what it complained of.
    pub fn vipd(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
        said_by(self.namespace.command(VIPD).args(arguments).args(["--control", CONTROL]))
    }

    /// The status of the first vip.
    pub fn vip(&self) -> Result<VipStatus> {
        self.status()?.vips.into_iter().next().context("an agent without a vip")
    }

    /// What the first vip has dropped for a reason, over both families.
    pub fn drops(&self, reason: &str) -> Result<u64> {
        Ok(self.vip()?.routers.iter().filter_map(|router| router.drops.get(reason)).sum())
    }

    /// All transitions so far.
    pub fn transitions(&self) -> Vec<Transition> {
        self.process.lines_from(0).iter().filter_map(|line| transition(line.at, &line.text)).collect()
    }

    /// Whether its log has such a line.
    pub fn has_said(&self, text: &str) -> bool {
        self.process.lines_from(0).iter().any(|line| line.text.contains(text))
    }

    /// Waits until the first vip has entered a state and is in it.
    pub fn await_state(&self, state: &str) -> Result<Transition> {
        self.await_that(&format!("{} enters {state}", self.name), |transitions| {
            transitions.last().filter(|last| last.to == state).cloned()
        })
    }

    /// Waits until the transitions are as they should be.
    pub fn await_that<T>(&self, what: &str, satisfied: impl Fn(&[Transition]) -> Option<T>) -> Result<T> {
        let answer = eventually(what, || match (satisfied(&self.transitions()), self.process.ended()?) {
            (None, Some(status)) => Err(anyhow!("the agent has ended: {status}")),
            (answer, _) => Ok(answer),
        });
        answer.with_context(|| format!("the log of {}:\n{}", self.name, self.last_words()))
    }

    /// Fails where a vip has changed its state since there were so many transitions.
    pub fn ensure_calm_since(&self, count: usize) -> Result<()> {
        let transitions = self.transitions();
        match transitions.get(count..) {
            Some([]) => Ok(()),
            since => bail!("{} moved: {since:?}", self.name),
        }
    }

    /// SIGTERM, and the exit code.
    pub fn stop(&self) -> Result<Option<i32>> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(PATIENCE)?.with_context(|| format!("{} does not stop", self.name))?;
        Ok(status.code())
    }

    fn last_words(&self) -> String {
        let lines = self.process.lines_from(0);
        let last: Vec<_> = lines.iter().rev().take(20).rev().map(|line| line.text.as_str()).collect();
        last.join("\n")
    }
}

/// Writes a host's configuration.
pub fn configure(host: &Host, vips: &[Vip]) -> Result<()> {
    let tables = vips.iter().fold(String::new(), |mut text, vip| {
        write!(text, "{}", vip.table()).expect("a String takes all");
        text
    });
    host.write_file(CONFIG.as_ref(), &tables)
}

/// Has a host's agent read its file anew: what changed by that.
pub fn reload(host: &Host) -> Result<String> {
    let (code, said, complaint) = vipd(host, &["reload", "--control", CONTROL])?;
    ensure!(code == Some(0), "vipd reload: {code:?}: {complaint}");
    Ok(said)
}

/// Runs a command on a host: its exit code, and what it said on standard output and standard error.
pub fn vipd(host: &Host, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    said_by(host.command(VIPD).args(arguments))
}

fn said_by(command: &mut std::process::Command) -> Result<(Option<i32>, String, String)> {
    let output = command.output().context("vipd")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

/// Watches agents for a time, in which nothing may move.
pub fn ensure_calm(agents: &[&Agent], time: Duration) -> Result<()> {
    let counts: Vec<_> = agents.iter().map(|agent| agent.transitions().len()).collect();
    std::thread::sleep(time);
    agents.iter().zip(counts).try_for_each(|(agent, count)| agent.ensure_calm_since(count))
}

#[derive(Deserialize)]
struct Logged {
    timestamp: String,
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    vip: String,
    to: String,
    cause: String,
}

fn transition(at: Instant, line: &str) -> Option<Transition> {
    let Logged { timestamp, fields: Fields { vip, to, cause } } = serde_json::from_str(line).ok()?;
    let written = humantime::parse_rfc3339(&timestamp).ok()?;
    Some(Transition { at, written, vip, to, cause })
}
