//! Programs that the agent runs: checks, hooks, alerts and fence agents.
//!
//! | file | is |
//! |---|---|
//! | `run` | one run: told what it must know and nothing else, and killed at its deadline |
//! | `runner` | one run after the other |
//! | [`apart`] | the process that starts the agent's, which may not start any itself |
//! | [`queue`] | programs that wait for each other, on a thread of their own |
//!
//! No program gets the agent's capabilities, and none is run that others could replace ([`Program::inspect`]).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::attempt::Unable;
use super::trust::Trusted;

pub mod apart;
pub mod queue;
mod run;
mod runner;

pub(super) use run::Ended;
pub use runner::Runner;

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program's absolute path, and its arguments.
    pub command: Vec<String>,
    /// As whom; `None`: as the agent, without its capabilities.
    pub user: Option<User>,
}

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

impl User {
    /// Who has this name here.
    pub fn named(name: &str) -> Option<Self> {
        let user = nix::unistd::User::from_name(name).ok()??;
        Some(Self { name: name.to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }
}

/// What a program is told beside its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Variables, with their values.
    pub environment: Vec<(String, String)>,
    /// Its standard input.
    pub input: Vec<u8>,
}

impl Program {
    fn path(&self) -> &Path {
        Path::new(self.command.first().map_or("", String::as_str))
    }

    /// Whether it can be run, and whether only those can change it who may.
    ///
    /// # Errors
    ///
    /// What is in the way, and the remedy.
    pub fn inspect(&self) -> Result<(), Unable> {
        let path = self.path();
        let shown = path.display();
        let missing = |error: io::Error| Unable {
            problem: format!("`{shown}` cannot be run: {error}"),
            remedy: "install it, or write its absolute path",
        };
        let real = path.canonicalize().map_err(missing)?;
        let metadata = fs::metadata(&real).map_err(missing)?;
        if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
            let problem = format!("`{shown}` is no program");
            return Err(Unable { problem, remedy: "write the path of an executable file" });
        }
        if let Some(open) = Trusted::and(self.user.as_ref().map(|user| user.uid)).open_part(path, &real) {
            let problem = if open == real {
                format!("`{shown}` can be changed by others")
            } else {
                format!("the folder `{}` of `{shown}` can be changed by others", open.display())
            };
            let remedy = "have it and its folders belong to root, and be writable by root only (chmod go-w)";
            return Err(Unable { problem, remedy });
        }
        if self.user.as_ref().is_some_and(|user| user.uid != geteuid().as_raw()) && !may_change_user() {
            let problem = format!("the agent may not run `{shown}` as another user");
            let remedy = "leave `user` out, or run the agent as root, or with CAP_SETUID, CAP_SETGID and CAP_KILL";
            return Err(Unable { problem, remedy });
        }
        Ok(())
    }
}

/// What the kernel says this process may (CAP_SETGID is bit 6, CAP_SETUID bit 7).
fn may_change_user() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    effective & 0b1100_0000 == 0b1100_0000
}
