//! Reads the configuration anew, off the loop, and hands the loop what it says: at SIGHUP, and when `vipd reload` asks.
//!
//! An invalid file changes nothing. One reload at a time: the file that was read last is the one that holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{error, info, warn};

use super::checks::Checks;
use super::difference::Difference;
use super::message::Message;
use crate::config::{self, Colour, MissingInterface, Report, System};
use crate::driver::program::apart;
use crate::engine::QuorumSettings;

/// How long the loop may take. It needs milliseconds for a thousand vips.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a reload did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// The file.
    pub file: String,
    /// What it changed.
    pub difference: Difference,
    /// What is legal but may surprise.
    pub notes: Vec<String>,
}

/// Why nothing changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The file is wrong.
    #[error("{}", .0.render(Colour::Off))]
    Invalid(Box<Report>),
    /// Grants were given by the voters that there were, and asked of them.
    #[error(
        "the voters changed, or this node's name among them: stop vipd on all nodes of the group, and start it again; the file's `[quorum]` holds from then on"
    )]
    OtherVoters,
    /// It is too late.
    #[error("the agent is stopping")]
    Stopping,
    /// The loop is stuck, or will do it later.
    #[error("the loop did not answer within {PATIENCE:?}")]
    NoAnswer,
}

/// Whoever wants a reload asks here.
#[derive(Clone, Debug)]
pub(super) struct Reloader {
    config: PathBuf,
    to_loop: mpsc::Sender<Message>,
    checks: Checks,
    /// What no reload changes.
    quorum: Option<QuorumSettings>,
    turn: Arc<Mutex<()>>,
}

impl Reloader {
    /// Of the file that the agent was started with.
    pub(super) fn new(
        config: PathBuf,
        to_loop: mpsc::Sender<Message>,
        checks: Checks,
        quorum: Option<QuorumSettings>,
    ) -> Self {
        Self { config, to_loop, checks, quorum, turn: Arc::default() }
    }

    /// Reads the file and has the loop keep to it. Logs what came of it.
    pub(super) async fn reload(&self) -> Result<Reloaded, Refusal> {
        let turn = self.turn.lock().await;
        let outcome = self.read_and_hand_on().await;
        drop(turn);
        match &outcome {
            Ok(reloaded) => {
                info!("reloaded {}: {}", reloaded.file, reloaded.difference.to_string().trim_end());
                reloaded.notes.iter().for_each(|note| warn!("{}, {note}", reloaded.file));
            }
            Err(refusal) => error!("not reloaded, all goes on as before: {refusal}"),
        }
        outcome
    }

    async fn read_and_hand_on(&self) -> Result<Reloaded, Refusal> {
        let path = self.config.clone();
        let read = tokio::task::spawn_blocking(move || config::load(&path, &System::probe(MissingInterface::Note)));
        let config = match read.await {
            Ok(config) => config.map_err(Refusal::Invalid)?,
            // The runtime ends.
            Err(_) => return Err(Refusal::Stopping),
        };
        // At once: later the file may be another again.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(apart::learn).await {
            warn!("programs that are new in {} are not started: {error}", self.config.display());
        }
        if config.settings.quorum != self.quorum {
            return Err(Refusal::OtherVoters);
        }
        let (answer, answered) = oneshot::channel();
        let wanted = config.checks.clone();
        let notes = config.notes.iter().map(|note| format!("line {}: {} ({})", note.line, note.message, note.remedy));
        let notes = notes.collect();
        let asked = async {
            self.to_loop.send(Message::Reload { config: Box::new(config), answer }).await.ok()?;
            answered.await.ok()
        };
        let mut difference = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(difference)) => difference,
            Ok(None) => return Err(Refusal::Stopping),
            Err(_) => return Err(Refusal::NoAnswer),
        };
        // After the engine has heard of them: a result of one that it does not know is nobody's.
        let checks = self.checks.clone();
        let changed = tokio::task::spawn_blocking(move || checks.keep(wanted)).await.unwrap_or_default();
        difference.others.extend(changed.into_iter().map(|check| format!("~ check {check}")));
        Ok(Reloaded { file: self.config.display().to_string(), difference, notes })
    }
}
