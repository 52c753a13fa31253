//! What outlives the agent beside the journal: holds, which addresses this host owned, and what is to be restored. One small
//! file, written whole.
//!
//! Written by a thread of its own: a slow disk delays nobody but who asked for a hold. A time is kept twice, by the clock of this boot and
//! by the wall clock; the latter counts after a reboot only.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tracing::error;

use super::clock::{self, rfc3339};
use super::journal::Ended;
use crate::driver::state_dir::StateDir;
use crate::engine::{Engine, Hold, HoldReason, Instant, StateName, Vip};

const FILE: &str = "state.json";
/// Ten thousand vips with a hold each take less, in bytes.
const LIMIT: u64 = 4 * 1024 * 1024;
/// How many orders may wait for a slow disk: the last of them says all.
const QUEUE: usize = 256;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The boot of the host by whose clock its times are.
    boot: String,
    /// The hold on all vips.
    all: Option<Kept>,
    /// Holds by the names of vips.
    vips: BTreeMap<String, Kept>,
    /// The vips that this host owned.
    owned: BTreeSet<String>,
    /// The interfaces, by index, whose settings were changed and are to be restored.
    #[serde(default)]
    spared: BTreeSet<u32>,
}

/// A hold in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    reason: KeptReason,
    until: Option<Until>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Until {
    wall: String,
    monotonic_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeptReason {
    Drained,
    HostDied,
}

impl State {
    /// As an engine has it now, and what is to be restored.
    fn of(engine: &Engine, spared: &BTreeSet<u32>) -> Self {
        let (all, vips) = engine.holds();
        let owns = |state| matches!(state, StateName::Claiming | StateName::Active);
        let mut owned = BTreeSet::new();
        // Not collected: that sorts them, by code that is let go when the agent runs.
        owned.extend(engine.vips().iter().filter(|vip| owns(vip.state())).map(|vip| vip.settings().name.clone()));
        Self {
            boot: clock::boot_id(),
            all: all.map(Kept::of),
            vips: vips.map(|(name, hold)| (name.to_owned(), Kept::of(hold))).collect(),
            owned,
            spared: spared.clone(),
        }
    }

    /// The holds that still run; `None` names all vips.
    pub(super) fn holds(&self) -> Vec<(Option<&str>, Hold)> {
        let is_this_boot = self.boot == clock::boot_id();
        let all = self.all.iter().map(|kept| (None, kept));
        let kept = all.chain(self.vips.iter().map(|(name, kept)| (Some(name.as_str()), kept)));
        kept.filter_map(|(name, kept)| Some((name, kept.hold(is_this_boot)?))).collect()
    }

    /// What this host owned when it went down without a stop; nothing where only the agent did.
    pub(super) fn owned_at_death(&self) -> impl Iterator<Item = &str> {
        let rebooted = self.boot != clock::boot_id();
        self.owned.iter().filter(move |_| rebooted).map(String::as_str)
    }

    /// The interfaces, by index, that are still to be restored: none after a reboot, when indexes are given anew.
    pub(super) fn spared(&self) -> BTreeSet<u32> {
        if self.boot == clock::boot_id() { self.spared.clone() } else { BTreeSet::new() }
    }
}

impl Kept {
    fn of(hold: Hold) -> Self {
        let reason = match hold.reason {
            HoldReason::Drained => KeptReason::Drained,
            HoldReason::HostDied => KeptReason::HostDied,
        };
        let until = |until: Instant| Until { wall: rfc3339(clock::wall_at(until)), monotonic_ns: until.as_nanos() };
        Self { reason, until: hold.until.map(until) }
    }

    fn hold(&self, is_this_boot: bool) -> Option<Hold> {
        let reason = match self.reason {
            KeptReason::Drained => HoldReason::Drained,
            KeptReason::HostDied => HoldReason::HostDied,
        };
        let Some(until) = &self.until else { return Some(Hold { reason, until: None }) };
        let now = clock::now();
        let until = if is_this_boot {
            Instant::from_nanos(until.monotonic_ns)
        } else {
            // A time that nobody can read keeps it out until an operator looks.
            match humantime::parse_rfc3339(&until.wall) {
                Ok(wall) => now + wall.duration_since(clock::wall()).unwrap_or_default(),
                Err(_) => return Some(Hold { reason, until: None }),
            }
        };
        (until > now).then_some(Hold { reason, until: Some(until) })
    }
}

/// What a command that changed a hold is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The vips it concerned, each with its state now.
    pub vips: Vec<ChangedVip>,
    /// Why the change will not survive a restart of the agent, if it will not.
    pub not_saved: Option<String>,
}

/// A vip whose hold was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedVip {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: String,
    /// Until when it is kept out, RFC 3339.
    pub until: Option<String>,
    /// Whether this node owns it until another one is ready to take it.
    #[serde(default)]
    pub leaving: bool,
}

impl ChangedVip {
    pub(super) fn of(vip: &Vip) -> Self {
        let until = vip.held_by().and_then(|hold| hold.until).map(clock::wall_at);
        let (name, state) = (vip.settings().name.clone(), vip.state().to_string());
        Self { name, state, until: until.map(rfc3339), leaving: vip.is_leaving() }
    }
}

/// Somebody who waits until a change is on disk.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) answer: oneshot::Sender<Option<Changed>>,
    pub(super) changed: Changed,
}

#[derive(Debug)]
struct Order {
    state: Arc<State>,
    waiting: Vec<Waiting>,
}

/// The loop's end: never blocks.
#[derive(Debug)]
pub(super) struct Memory {
    orders: Sender<Order>,
    last: Option<Arc<State>>,
    spared: BTreeSet<u32>,
}

impl Memory {
    /// What an agent before this one left there. A file that cannot be read is an alarm, and as none.
    pub(super) fn recall(dir: &Path) -> State {
        let read = || match StateDir::open(dir)?.read(FILE, LIMIT)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
            None => Ok(State::default()),
        };
        read().unwrap_or_else(|error: io::Error| {
            error!("holds from before this start are NOT known: {error}; see {}", dir.join(FILE).display());
            State::default()
        })
    }

    /// Starts the thread. `spared` is what an earlier agent left to be restored.
    pub(super) fn start(dir: &Path, spared: BTreeSet<u32>) -> io::Result<(Self, Ended)> {
        let (orders, waiting) = mpsc::channel(QUEUE);
        let (at_end, ended) = Ended::pair("memory");
        let dir = dir.to_owned();
        thread::Builder::new().name("memory".into()).spawn(move || {
            write(waiting, dir);
            drop(at_end);
        })?;
        Ok((Self { orders, last: None, spared }, ended))
    }

    /// The file is to say from its next writing on that these interfaces are to be restored.
    pub(super) fn keep_spared(&mut self, spared: BTreeSet<u32>) {
        self.spared = spared;
    }

    /// Has the file say what the engine says. Whether it was ordered: a full queue is tried again with the next change.
    pub(super) fn save(&mut self, engine: &Engine, waiting: Vec<Waiting>) -> bool {
        let state = Arc::new(State::of(engine, &self.spared));
        if waiting.is_empty() && self.last.as_ref() == Some(&state) {
            return true;
        }
        let ordered = self.orders.try_send(Order { state: Arc::clone(&state), waiting }).is_ok();
        self.last = ordered.then_some(state);
        ordered
    }
}

fn write(mut orders: Receiver<Order>, dir: PathBuf) {
    while let Some(Order { mut state, mut waiting }) = orders.blocking_recv() {
        while let Ok(newer) = orders.try_recv() {
            state = newer.state;
            waiting.extend(newer.waiting);
        }
        let written = serde_json::to_vec_pretty(&*state)
            .map_err(io::Error::other)
            .and_then(|bytes| StateDir::open(&dir)?.replace(FILE, &bytes));
        if let Err(error) = &written {
            error!("holds will NOT survive a restart: {error}");
        }
        for Waiting { answer, mut changed } in waiting {
            changed.not_saved = written.as_ref().err().map(ToString::to_string);
            // One that has left does not want to know.
            answer.send(Some(changed)).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_hold_survives_a_restart_and_a_reboot_and_ends_in_time() {
        let until =
            |seconds| Hold { reason: HoldReason::Drained, until: Some(clock::now() + Duration::from_secs(seconds)) };
        let forever = Hold { reason: HoldReason::HostDied, until: None };
        for is_this_boot in [true, false] {
            let hour = Kept::of(until(3_600)).hold(is_this_boot).expect("it runs");
            let left = hour.until.expect("it ends").since(clock::now());
            assert!((3_590..=3_600).contains(&left.as_secs()), "{left:?}");
            assert_eq!(Kept::of(until(0)).hold(is_this_boot), None);
            assert_eq!(Kept::of(forever).hold(is_this_boot), Some(forever));
        }
        let unreadable = Until { wall: "soon".into(), monotonic_ns: 0 };
        let kept = Kept { reason: KeptReason::Drained, until: Some(unreadable) };
        assert_eq!(kept.hold(false), Some(Hold { reason: HoldReason::Drained, until: None }));
        assert_eq!(kept.hold(true), None);
    }

    #[test]
    fn what_was_owned_counts_after_a_reboot_only() {
        let mut state = State { owned: ["db".to_owned()].into(), boot: clock::boot_id(), ..State::default() };
        assert_eq!(state.owned_at_death().count(), 0);
        state.boot = "another".into();
        assert_eq!(state.owned_at_death().collect::<Vec<_>>(), ["db"]);
    }

    #[test]
    fn what_was_changed_is_restored_in_the_same_boot_only() {
        // As it was written before there was anything to restore.
        let text = format!(r#"{{ "boot": "{}", "all": null, "vips": {{}}, "owned": [] }}"#, clock::boot_id());
        let mut state: State = serde_json::from_str(&text).expect("an older file");
        assert_eq!(state.spared(), BTreeSet::new());
        state.spared = [7].into();
        assert_eq!(state.spared(), [7].into());
        state.boot = "another".into();
        assert_eq!(state.spared(), BTreeSet::new());
    }
}
