//! `vipd drain` and `vipd undrain`: have this node own nothing, and let it take part again.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use hyper::StatusCode;

use super::Exit;
use super::client::{self, Answer};
use super::output::{complain, print};
use crate::daemon::control::HoldRequest;
use crate::daemon::memory::Changed;
use crate::daemon::milliseconds;

/// Have this node own nothing, until it is undrained
///
/// The addresses are handed over to a node that is ready to take them, where one is known by a second path. Else they are given up at once, and
/// the peer takes over within its skew time, as at a clean stop; where there is no peer, no host has them. The agent goes on listening.
/// While a `before_claim` hook of the next owner runs, this node goes on as the owner; the command does not wait for that. It holds over restarts, reloads and reboots, and `vipd status` shows it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done, 1 there is no such virtual IP, 4 no agent answers, 5 not permitted, \
                        6 done, but it will not survive a restart.\n\nExamples:\n  \
                        vipd drain --for 2h        # before maintenance of this host\n  \
                        vipd drain postgres        # one virtual IP, until `vipd undrain postgres`")]
pub(super) struct Drain {
    /// Which virtual IP. Default: all
    #[arg(value_name = "VIP")]
    vip: Option<String>,
    /// End it by itself after so long, such as `30m` or `2h`
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    #[command(flatten)]
    agent: client::Agent,
    /// Print the answer as one JSON document
    #[arg(long)]
    json: bool,
}

/// Let this node take part again
///
/// Ends what keeps it out: a drain, the hold of a host that may have been fenced, and the pause after addresses that were refused. It
/// listens first, and claims what it should own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done, 1 there is no such virtual IP, 4 no agent answers, 5 not permitted, \
                        6 done, but it will not survive a restart.")]
pub(super) struct Undrain {
    /// Which virtual IP. Default: all
    #[arg(value_name = "VIP")]
    vip: Option<String>,
    #[command(flatten)]
    agent: client::Agent,
    /// Print the answer as one JSON document
    #[arg(long)]
    json: bool,
}

impl Drain {
    pub(super) fn run(self) -> io::Result<Exit> {
        let time_ms = self.time.map(milliseconds::whole);
        let request = HoldRequest { vip: self.vip, time_ms };
        ask(&self.agent.control, "/v1/drain", &request, self.json)
    }
}

impl Undrain {
    pub(super) fn run(self) -> io::Result<Exit> {
        ask(&self.agent.control, "/v1/undrain", &HoldRequest { vip: self.vip, time_ms: None }, self.json)
    }
}

fn ask(control: &std::path::Path, route: &str, request: &HoldRequest, json: bool) -> io::Result<Exit> {
    let body = serde_json::to_vec(request).map_err(io::Error::other)?;
    let error = match client::post::<Changed>(control, route, body) {
        Ok(Answer::Document(changed)) => {
            if json {
                print(&format!("{:#}\n", serde_json::json!(changed)))?;
            } else {
                print(&shown(&changed))?;
            }
            let Some(error) = changed.not_saved else { return Ok(Exit::Done) };
            complain(&format!("vipd: done, but it will not survive a restart of the agent: {error}\n"));
            return Ok(Exit::Refused);
        }
        Ok(Answer::Refusal(StatusCode::NOT_FOUND, text)) => {
            complain(&format!("vipd: {text}\n"));
            return Ok(Exit::No);
        }
        Ok(Answer::Refusal(status, text)) => client::refused(control, status, &text),
        Err(error) => error,
    };
    complain(&format!("vipd: {error}\n"));
    Ok(error.exit())
}

fn shown(changed: &Changed) -> String {
    let mut out = String::new();
    for vip in &changed.vips {
        let until = vip.until.as_ref().map(|until| format!(" until {until}")).unwrap_or_default();
        let leaving = if vip.leaving { ", until the next owner is ready, or refuses" } else { "" };
        writeln!(out, "{}: {}{until}{leaving}", vip.name, vip.state).expect("a String takes all");
    }
    out
}
