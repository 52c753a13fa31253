//! `vipd reload`: have the running agent read its configuration anew.

use std::io;

use hyper::{Method, StatusCode};

use super::Exit;
use super::client::{self, Answer};
use super::output::{complain, print};
use crate::daemon::reload::Reloaded;

/// Have the running agent read its configuration anew
///
/// The agent reads the file that it was started with, and changes what is different. A virtual IP that is the same in both
/// keeps its state and sends no advert late. Priority, interval, addresses, peers and the rest are changed in place;
/// another interface, VRID, version or mac is a removal and an addition. An invalid file changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 the agent keeps to the file, 3 the file is wrong and nothing changed, \
                        4 no agent answers, 5 not permitted.\n\nExamples:\n  \
                        vipd check && vipd reload\n  \
                        vipd reload --json | jq '.difference.changed[]'")]
pub(super) struct Args {
    #[command(flatten)]
    agent: client::Agent,
    /// Print what changed as one JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        let error = match client::request::<serde_json::Value>(&self.agent.control, Method::POST, "/v1/reload") {
            Ok(Answer::Document(document)) if self.json => {
                return print(&format!("{document:#}\n")).map(|()| Exit::Done);
            }
            Ok(Answer::Document(document)) => return show(document),
            Ok(Answer::Refusal(StatusCode::UNPROCESSABLE_ENTITY, report)) => {
                complain(&report);
                return Ok(Exit::Configuration);
            }
            Ok(Answer::Refusal(status, text)) => client::refused(&self.agent.control, status, &text),
            Err(error) => error,
        };
        complain(&format!("vipd: {error}\n"));
        Ok(error.exit())
    }
}

fn show(document: serde_json::Value) -> io::Result<Exit> {
    match serde_json::from_value::<Reloaded>(document) {
        Ok(Reloaded { file, difference, notes }) => {
            let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
            print(&format!("{file}: {difference}{notes}"))?;
        }
        Err(error) => complain(&format!("vipd: reloaded; the agent is of another version: {error}\n")),
    }
    Ok(Exit::Done)
}
