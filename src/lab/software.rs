//! The agents that the lab can run: vipd, and the two that it is measured against and has to get along with.
//!
//! One description of a virtual router becomes each one's configuration, and each one's log becomes the same events.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::host::Host;
use super::process::{Line, Process};

mod frr;
mod keepalived;
pub(super) mod vipd;

/// An agent's program.
#[derive(Clone, Debug)]
pub enum Software {
    /// This one: the path of the program.
    Vipd(PathBuf),
    /// keepalived: the path of the program.
    Keepalived(PathBuf),
    /// FRR: the directory of `zebra` and `vrrpd`.
    Frr(PathBuf),
}

/// A virtual router as one node takes part in it. All addresses of a family.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its name in configurations and logs.
    pub name: String,
    /// 1..=255.
    pub vrid: u8,
    /// 1..=255.
    pub priority: u8,
    /// At least 10 ms in version 3, whole seconds in version 2.
    pub interval: Duration,
    /// 2 or 3.
    pub version: u8,
    /// The interface's name.
    pub interface: String,
    /// Each as `IP/PREFIX`, IPv6 with a link-local one first.
    pub addresses: Vec<String>,
    /// Whether it takes the addresses from an owner of lower priority.
    pub preempt: bool,
    /// This node's own address for unicast, and its peers; `None`: multicast.
    pub unicast: Option<(IpAddr, Vec<IpAddr>)>,
    /// The interface of a second path, which only vipd makes use of.
    pub second_path: Option<String>,
    /// Who votes, by name and address, which only vipd makes use of; empty: nobody.
    pub voters: Vec<(String, IpAddr)>,
}

/// An agent at work on a host. Killed on drop.
#[derive(Debug)]
pub struct Agent {
    software: Software,
    processes: Vec<Process>,
}

/// Something that an agent said of itself.
#[derive(Clone, Debug)]
pub struct AgentEvent {
    /// When it was read, some 0.1 ms after it was written.
    pub at: Instant,
    /// Of which virtual router.
    pub router: String,
    /// The state it left, where it says so.
    pub from: Option<String>,
    /// The state it entered, in RFC 9568's words.
    pub to: String,
    /// Why, where it says so.
    pub cause: Option<String>,
}

impl Router {
    /// Whether it is one for IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.addresses.first().is_some_and(|address| address.contains(':'))
    }

    /// (256 − priority) / 256 of the interval (RFC 9568 §6.1).
    pub fn skew(&self) -> Duration {
        // In version 2 the unit is the second, whatever the interval (RFC 3768 §6.1).
        let unit = if self.version == 2 { Duration::from_secs(1) } else { self.interval };
        unit * (256 - u32::from(self.priority)) / 256
    }

    /// Three intervals and the skew: the longest silence that it bears as Backup.
    pub fn active_down(&self) -> Duration {
        3 * self.interval + self.skew()
    }
}

impl Software {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Vipd(_) => "vipd",
            Self::Keepalived(_) => "keepalived",
            Self::Frr(_) => "frr",
        }
    }

    /// Starts it on a host with these virtual routers. Its files are below the host's private `/run`.
    ///
    /// # Errors
    /// It cannot be started, or cannot do what is asked of it.
    pub fn start(&self, host: &Host, routers: &[Router]) -> Result<Agent> {
        let commands = match self {
            Self::Vipd(program) => vipd::commands(program, host, routers)?,
            Self::Keepalived(program) => keepalived::commands(program, host, routers)?,
            Self::Frr(directory) => frr::commands(directory, host, routers)?,
        };
        let start = |mut command: Command| Process::start(&mut command);
        let processes = commands.into_iter().map(start).collect::<Result<Vec<_>>>()?;
        Ok(Agent { software: self.clone(), processes })
    }
}

impl Agent {
    /// SIGKILL to all its processes, and waits for their end.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn kill(&self) -> Result<()> {
        // All before the first is waited for: they might notice each other's end.
        self.processes.iter().try_for_each(|process| process.signal(Signal::SIGKILL))?;
        self.processes.iter().try_for_each(|process| process.kill().map(drop))
    }

    /// SIGTERM, SIGSTOP or SIGCONT to all its processes.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.processes.iter().try_for_each(|process| process.signal(signal))
    }

    /// Fails with its last words when it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn ensure_running(&self) -> Result<()> {
        for process in &self.processes {
            if let Some(status) = process.ended()? {
                let lines = process.lines_from(0);
                let last: Vec<_> = lines.iter().rev().take(10).rev().map(|line| line.text.as_str()).collect();
                bail!("{} has ended ({status}): {}", self.software.name(), last.join("\n"));
            }
        }
        Ok(())
    }

    /// Its processes, in the order of their start.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// All that it has said so far of its virtual routers' states.
    pub fn events(&self) -> Vec<AgentEvent> {
        let read: fn(&Line) -> Option<AgentEvent> = match self.software {
            Software::Vipd(_) => vipd::event,
            Software::Keepalived(_) => keepalived::event,
            Software::Frr(_) => frr::event,
        };
        self.processes.iter().flat_map(|process| process.lines_from(0)).filter_map(|line| read(&line)).collect()
    }
}

/// The first of the places that has a program, else one of `$PATH`.
pub fn find_program(name: &str, places: &[&Path]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<_> = std::env::split_paths(&path).collect();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let all = places.iter().map(PathBuf::from).chain(on_path).chain(system);
    all.map(|directory| directory.join(name)).find(|program| program.is_file())
}
