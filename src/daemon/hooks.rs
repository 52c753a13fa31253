//! The hooks: a thread that knows what is to be run, tells each the facts, and has a queue for each vip that ran one.
//!
//! Not the loop's: to write the facts down takes time where a thousand vips fail over, and so does starting a thread.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::thread;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{self, Receiver, Sender, WeakSender};

use super::clock;
use super::log::Names;
use super::message::Message;
use super::record::Record;
use crate::config::Hook;
use crate::driver::program::Told;
use crate::driver::program::queue::{Job, Queue};
use crate::engine::hook::Reason;
use crate::engine::{EffectError, Event, HookOrder};

/// How many orders may wait for the thread: a thousand vips that give up and claim again are four thousand. Memory is taken as they come.
const QUEUE: usize = 4096;
/// The kernel takes no longer variable than twice this. All addresses are in the standard input.
const LONGEST_VARIABLE: usize = 64 * 1024;
/// The version of the document on the standard input. Fields are added; one that goes or changes its meaning makes a new one.
const SCHEMA: u32 = 1;

/// What the thread is told.
enum Entry {
    Run(Box<HookOrder>),
    Keep(Vec<Hook>),
    Names(Names),
}

/// The loop's end: never blocks.
#[derive(Debug)]
pub(super) struct Hooks {
    entries: Sender<Entry>,
    kept: Vec<Hook>,
}

impl Hooks {
    /// Starts the thread.
    pub(super) fn start(
        names: Names,
        hooks: Vec<Hook>,
        to_loop: &Sender<Message>,
    ) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (entries, waiting) = mpsc::channel(QUEUE);
        let thread = Thread {
            boot: clock::boot_id(),
            names,
            hooks: hooks.clone(),
            queues: BTreeMap::new(),
            // Weak: the loop ends when all other senders have.
            to_loop: to_loop.downgrade(),
        };
        let thread = thread::Builder::new().name("hooks".into()).spawn(move || thread.run(waiting))?;
        Ok((Self { entries, kept: hooks }, thread))
    }

    /// Has a hook run. The answer is a message.
    pub(super) fn run(&self, order: HookOrder) -> Result<(), EffectError> {
        let sent = self.entries.try_send(Entry::Run(Box::new(order)));
        sent.map_err(|_| EffectError::from("too many hooks wait"))
    }

    /// From now on these are run: the names of the vips that had others.
    pub(super) fn keep(&mut self, hooks: Vec<Hook>) -> Result<BTreeSet<String>, EffectError> {
        let sent = self.entries.try_send(Entry::Keep(hooks.clone()));
        sent.map_err(|_| EffectError::from("too many hooks wait"))?;
        let lacks = |all: &[Hook], hook: &Hook| !all.contains(hook);
        let gone = self.kept.iter().filter(|hook| lacks(&hooks, hook));
        let changed = hooks.iter().filter(|hook| lacks(&self.kept, hook)).chain(gone);
        let changed = changed.map(|hook| hook.vip.clone()).collect();
        self.kept = hooks;
        Ok(changed)
    }

    /// How vips, links and the node are called from now on.
    pub(super) fn rename(&self, names: Names) {
        // One that has no room has names that are good enough.
        self.entries.try_send(Entry::Names(names)).ok();
    }
}

struct Thread {
    boot: String,
    names: Names,
    hooks: Vec<Hook>,
    /// By the vip's name: one that goes and comes back finds its queue.
    queues: BTreeMap<String, Queue>,
    to_loop: WeakSender<Message>,
}

impl Thread {
    fn run(mut self, mut waiting: Receiver<Entry>) {
        while let Some(entry) = waiting.blocking_recv() {
            match entry {
                Entry::Run(order) => self.begin(&order),
                Entry::Keep(hooks) => self.keep(hooks),
                Entry::Names(names) => self.names.extend(names),
            }
        }
    }

    /// A vip that has gone runs those of its release still.
    fn keep(&mut self, new: Vec<Hook>) {
        self.hooks.retain(|hook| new.iter().all(|new| new.vip != hook.vip));
        self.hooks.extend(new);
    }

    fn begin(&mut self, order: &HookOrder) {
        let (request, vip, moment) = (order.request, order.vip, order.moment);
        let to_loop = self.to_loop.clone();
        let report = move |result: Result<String, String>| {
            let result = result.map_err(EffectError);
            // An agent that has ended claims nothing.
            if let Some(to_loop) = to_loop.upgrade() {
                to_loop.blocking_send(Message::HookEnded { request, vip, moment, result }).ok();
            }
        };
        if let Err(error) = self.enqueue(order, report.clone()) {
            report(Err(error));
        }
    }

    fn enqueue(
        &mut self,
        order: &HookOrder,
        report: impl FnOnce(Result<String, String>) + Send + 'static,
    ) -> Result<(), String> {
        let (name, moment) = (&order.settings.name, order.moment);
        let hook = self.hooks.iter().find(|hook| hook.vip == *name && hook.moment == moment);
        let hook = hook.ok_or("it is no longer in the configuration")?;
        let job = Job {
            program: Arc::clone(&hook.program),
            timeout: hook.timeout,
            told: facts(order, &self.boot, &self.names),
            report: Box::new(report),
        };
        let queue = match self.queues.get(name) {
            Some(queue) => queue,
            None => {
                let queue = Queue::start(&format!("hook {name}")).map_err(|error| error.to_string())?;
                self.queues.entry(name.clone()).or_insert(queue)
            }
        };
        queue.push(job)
    }
}

/// What a hook is told: the same in its environment and, with all that is known of the event, on its standard input.
fn facts(order: &HookOrder, boot: &str, names: &Names) -> Told {
    let HookOrder { request: _, vip, at, moment, settings, state, priority, why } = order;
    let record = match why {
        Reason::Event(kind) => Record::of_event(&Event { at: *at, vip: Some(*vip), kind: kind.clone() }, boot, names),
        Reason::Claim(cause) => {
            let text = format!("about to claim: {cause}");
            let record = Record::of_agent("claim", text, boot, names);
            Record { cause: Some(cause.to_string()), ..record }
        }
        Reason::Release(why) => {
            let record = Record::of_agent("release", format!("about to release: {why}"), boot, names);
            Record { cause: Some(why.to_string()), ..record }
        }
        Reason::Stays => Record::of_agent("stays", "the release is not made: it stays the owner", boot, names),
        Reason::Removed(Ok(())) => Record::of_agent("removed", "the addresses are removed", boot, names),
        Reason::Removed(Err(error)) => {
            let text = format!("the addresses could not be removed: {error}");
            Record { cause: Some(error.to_string()), ..Record::of_agent("remove-failed", text, boot, names) }
        }
    };
    let addresses: Vec<String> = settings.addresses.iter().map(ToString::to_string).collect();
    let cause = record.cause.clone().unwrap_or_else(|| record.text.clone());
    let environment = [
        ("VIPD_HOOK", moment.to_string()),
        ("VIPD_NODE", names.node().to_owned()),
        ("VIPD_VIP", settings.name.clone()),
        ("VIPD_INTERFACE", settings.interface.clone()),
        ("VIPD_VRID", settings.vrid.number().to_string()),
        ("VIPD_ADDRESSES", addresses.join(" ")),
        ("VIPD_STATE", state.to_string()),
        ("VIPD_PRIORITY", priority.0.to_string()),
        ("VIPD_CAUSE", cause),
        ("VIPD_AT", record.at.clone()),
    ];
    let environment = environment.into_iter().filter(|(_, value)| value.len() <= LONGEST_VARIABLE);
    let mut document = match serde_json::to_value(&record) {
        Ok(Value::Object(document)) => document,
        Ok(_) | Err(_) => Map::new(),
    };
    let more = [
        ("schema", json!(SCHEMA)),
        ("hook", json!(moment.name())),
        ("vip", json!(settings.name)),
        ("interface", json!(settings.interface)),
        ("vrid", json!(settings.vrid.number())),
        ("addresses", json!(addresses)),
        ("state", json!(state.to_string())),
        ("priority", json!(priority.0)),
    ];
    document.extend(more.map(|(name, value)| (name.to_owned(), value)));
    let mut input = Value::Object(document).to_string();
    input.push('\n');
    Told {
        environment: environment.map(|(name, value)| (name.to_owned(), printable(&value))).collect(),
        input: input.into_bytes(),
    }
}

/// A cause may contain what a check said; a variable is one line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
