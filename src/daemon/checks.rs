//! The checks that run, each on a thread of its own: their results are [`Message`]s.
//!
//! Not the loop's: to start a thread and to end a program takes time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::Sender;
use tracing::error;

use super::message::Message;
use crate::driver::checks::{Check, Running};

/// All of them. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Checks {
    running: Arc<Mutex<BTreeMap<String, Running>>>,
    to_loop: Sender<Message>,
}

impl Checks {
    /// None yet.
    pub(super) fn new(to_loop: Sender<Message>) -> Self {
        Self { running: Arc::default(), to_loop }
    }

    /// From now on these run: the names of those that are not as before. One that is the same goes on; one that goes
    /// ends with what it is running.
    pub(super) fn keep(&self, checks: Vec<Check>) -> Vec<String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed: BTreeSet<String> = BTreeSet::new();
        running.retain(|name, running| {
            let stays = checks.contains(running.check());
            if !stays {
                changed.insert(name.clone());
            }
            stays
        });
        let new: Vec<Check> = checks.into_iter().filter(|check| !running.contains_key(&check.name)).collect();
        let turns = u32::try_from(new.len()).unwrap_or(u32::MAX);
        for (turn, check) in (0..).zip(new) {
            let name = check.name.clone();
            changed.insert(name.clone());
            match self.start(check, (turn, turns)) {
                Ok(started) => drop(running.insert(name, started)),
                // Its vips wait for its first result, and say so.
                Err(error) => error!(check = name, "check {name} cannot be started: {error}"),
            }
        }
        changed.into_iter().collect()
    }

    /// Ends all, with what they are running.
    pub(super) fn finish(&self) {
        self.keep(Vec::new());
    }

    fn start(&self, check: Check, turn: (u32, u32)) -> io::Result<Running> {
        let to_loop = self.to_loop.clone();
        Running::start(check, turn, move |check, result| {
            to_loop.blocking_send(Message::Check { check: check.into(), result: Box::new(result) }).is_ok()
        })
    }
}
