//! What this process may do from its start on: see [`crate::driver::sandbox`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::Options;
use crate::config::Config;
use crate::driver::sandbox::calls;
use crate::driver::sandbox::files::{self, Places, Restricted};
use crate::driver::state_dir::StateDir;

/// Where an interface's settings are, those of IPv6: what `mac = "virtual"` sets.
const INTERFACE_SETTINGS: &str = "/proc/sys/net";
/// Where hardware watchdogs are: a reload may name another one.
const DEVICES: &str = "/dev";
/// What their names begin with.
const WATCHDOG: &str = "watchdog";

/// What holds, and must be kept for it to hold.
#[derive(Debug)]
pub(super) struct Sandbox {
    files: Result<Restricted, String>,
    calls: Result<(), String>,
}

/// What holds of it, as `vipd status` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Level {
    /// The version of Landlock that keeps the process from files that it does not write; 0: nothing does.
    pub landlock: u32,
    /// Whether seccomp keeps it from system calls that it does not make.
    pub seccomp: bool,
}

impl Level {
    /// What would hold of an agent on this host: put on a thread that ends, and found out so.
    pub fn possible() -> Self {
        std::thread::spawn(|| Sandbox::put_on(&Places::default()).level()).join().unwrap_or_default()
    }
}

impl Sandbox {
    /// Restricts the agent. Without what this kernel has not, it goes on.
    pub(super) fn of_agent(config: &Config, options: &Options) -> Self {
        // What is made later could not be named. Whoever needs it says what is wrong with it.
        StateDir::open(&options.state_dir).ok();
        let watchdog = config.settings.fence.watchdog.iter().map(|watchdog| PathBuf::from(&watchdog.path));
        Self::put_on(&Places {
            kept: vec![options.state_dir.clone()],
            cleared: vec![folder_of(&options.control)],
            written: vec![INTERFACE_SETTINGS.into()],
            devices: watchdog.chain(watchdogs()).collect(),
        })
    }

    /// Restricts a witness, which writes no file.
    pub(super) fn of_witness() -> Self {
        Self::put_on(&Places::default())
    }

    /// Somebody wants to see what goes on.
    pub(super) fn none() -> Self {
        let unwanted = || "--no-sandbox".to_owned();
        Self { files: Err(unwanted()), calls: Err(unwanted()) }
    }

    fn put_on(places: &Places) -> Self {
        let files = match files::restrict(places) {
            Ok(Some(restricted)) => Ok(restricted),
            Ok(None) => Err("this kernel has no Landlock, or it is not switched on".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        // Last: it refuses Landlock's own calls.
        Self { files, calls: calls::restrict().map_err(|error| error.to_string()) }
    }

    pub(super) fn level(&self) -> Level {
        Level { landlock: self.files.as_ref().map_or(0, |files| files.abi), seccomp: self.calls.is_ok() }
    }

    pub(super) fn tell(&self) {
        match &self.files {
            Ok(Restricted { abi, .. }) => info!("files that it does not write are closed to it: Landlock, ABI {abi}"),
            Err(why) => warn!("files that it does not write are open to it as to any process of its user: {why}"),
        }
        match &self.calls {
            Ok(()) => info!("system calls that it does not make are closed to it: seccomp"),
            Err(why) => warn!("all system calls are open to it: {why}"),
        }
    }
}

fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new(".")).to_owned()
}

fn watchdogs() -> impl Iterator<Item = PathBuf> {
    let devices = std::fs::read_dir(DEVICES).into_iter().flatten().flatten();
    let named = devices.filter(|device| device.file_name().to_str().is_some_and(|name| name.starts_with(WATCHDOG)));
    named.map(|device| device.path())
}
