//! What the other threads tell the loop.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::difference::Difference;
use super::handovers::{HandoverOutcome, HandoverRequest};
use super::journal::JournalStatus;
use super::memory::Changed;
use super::status::Status;
use crate::config::Config;
use crate::driver::links::LinkEvent;
use crate::engine::isolation::Path;
use crate::engine::{
    CheckResult, EffectError, FenceResult, HookResult, LinkId, Moment, Prepared, Reference, RequestId, VipId,
};

/// How many messages may wait for the loop. The kernel's news of a thousand addresses come in one burst; a sender that
/// finds the queue full waits, and loses nothing.
pub(super) const QUEUE: usize = 4096;

/// What an operator wants of a hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum HoldChange {
    /// Keep out, for so long.
    Drain { time: Option<Duration> },
    /// Take part again.
    Undrain,
}

/// The loop's own end of the queue, and the way into it for threads that the loop starts later. Weak: the loop ends
/// when all other senders have.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) to_loop: mpsc::WeakSender<Message>,
}

/// One of them. What is large is boxed: thousands wait where as many addresses come at once.
#[derive(Debug)]
pub(super) enum Message {
    /// News of interfaces and their addresses.
    Links(Vec<LinkEvent>),
    /// The addresses of a vip are installed, or were refused.
    Installed { request: RequestId, vip: VipId, result: Result<(), EffectError> },
    /// The addresses of a vip are installed before they are claimed, or were refused.
    Prepared { request: RequestId, vip: VipId, result: Result<Prepared, EffectError> },
    /// The addresses of a vip are removed, or were refused.
    Removed { request: RequestId, vip: VipId, result: Result<(), EffectError> },
    /// The interfaces, by index, whose settings the agent has changed by now, and has to restore.
    Spared(BTreeSet<u32>),
    /// The way to a reference is known, or is another one.
    ReferencePath { link: LinkId, reference: Reference, path: Option<Path> },
    /// Somebody asks for the status.
    Status(oneshot::Sender<Status>),
    /// A vip, or all of them, is to be kept out, or no longer. No answer: there is none of that name.
    Hold { vip: Option<String>, change: HoldChange, answer: oneshot::Sender<Option<Changed>> },
    /// An operator wants a vip to be handed over. No answer: there is none of that name.
    HandOver { request: Box<HandoverRequest>, answer: oneshot::Sender<Option<HandoverOutcome>> },
    /// A fencing has ended.
    Fenced { request: RequestId, result: FenceResult },
    /// A hook has ended, or could not be run.
    HookEnded { request: RequestId, vip: VipId, moment: Moment, result: HookResult },
    /// How the journal does from now on.
    Journal(Box<JournalStatus>),
    /// A check was run.
    Check { check: Box<str>, result: Box<CheckResult> },
    /// The configuration was read anew.
    Reload { config: Box<Config>, answer: oneshot::Sender<Difference> },
    /// SIGTERM or SIGINT. Whether another agent is about to be started here, which goes on with what is owned.
    Stop { is_restart: bool },
    /// A thread that the agent cannot do without has ended.
    Lost { thread: &'static str, error: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_little_memory() {
        assert!(size_of::<Message>() <= 56, "{} bytes", size_of::<Message>());
    }
}
