//! Many addresses at once: when each was first announced, and when it first answered.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use vipd::lab::frames::{Kind, read, who_has};
use vipd::lab::{Host, Tap};

/// No host has it.
const ASKER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 250);

/// To be woken for each of thousands of frames would take the processor from those who are measured. The kernel notes when
/// it had each.
const REST: Duration = Duration::from_micros(500);

/// When something was first heard of an address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct First {
    pub(crate) announced: Option<Instant>,
    pub(crate) answered: Option<Instant>,
}

type Heard = Arc<Mutex<HashMap<IpAddr, First>>>;

/// Listens on some interfaces of a client, until dropped.
pub(crate) struct Listener {
    taps: Vec<Arc<Tap>>,
    heard: Heard,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Listener {
    pub(crate) fn start(client: &Host, interfaces: &[String]) -> Result<Self> {
        let mut this =
            Self { taps: Vec::new(), heard: Heard::default(), stopping: Arc::default(), threads: Vec::new() };
        for interface in interfaces {
            let tap = Arc::new(Tap::open(client, interface, Duration::from_millis(20))?);
            let (listening, heard, stopping) = (Arc::clone(&tap), Arc::clone(&this.heard), Arc::clone(&this.stopping));
            this.threads.push(thread::spawn(move || listen(&listening, &heard, &stopping)));
            this.taps.push(tap);
        }
        Ok(this)
    }

    /// Forgets what was heard so far.
    pub(crate) fn forget(&self) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What was heard of an address.
    pub(crate) fn of(&self, address: IpAddr) -> First {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(&address).copied().unwrap_or_default()
    }

    /// Asks on the first interface for each address that has not answered yet.
    pub(crate) fn ask(&self, addresses: &[IpAddr]) -> Result<()> {
        let tap = self.taps.first().ok_or_else(|| anyhow!("no interface"))?;
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let has_answered = |address: &&IpAddr| heard.get(address).is_some_and(|first| first.answered.is_some());
        let questions: Vec<_> =
            addresses.iter().filter(|it| !has_answered(it)).map(|address| who_has(*address, ASKER)).collect();
        drop(heard);
        Ok(questions.iter().try_for_each(|question| tap.send(question))?)
    }

    /// Waits until all of these have what is looked for.
    pub(crate) fn wait(
        &self,
        addresses: &[IpAddr],
        patience: Duration,
        has: impl Fn(First) -> Option<Instant>,
    ) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            let missing = addresses.iter().filter(|address| has(self.of(**address)).is_none()).count();
            if missing == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "after {patience:?}, {missing} of {} addresses are missing",
                addresses.len()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The first and the last of these instants over all addresses.
    pub(crate) fn span(
        &self,
        addresses: &[IpAddr],
        has: impl Fn(First) -> Option<Instant>,
    ) -> Option<(Instant, Instant)> {
        let all: Vec<_> = addresses.iter().filter_map(|address| has(self.of(*address))).collect();
        Some((*all.iter().min()?, *all.iter().max()?))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A listener that panicked has shown itself by then.
            thread.join().ok();
        }
    }
}

fn listen(tap: &Tap, heard: &Heard, stopping: &AtomicBool) {
    let mut frame = [0; 2048];
    while !stopping.load(Ordering::Relaxed) {
        let mut received = tap.recv(&mut frame);
        while let Ok(Some((at, length))) = received {
            if let Some((_, kind, address)) = frame.get(..length).and_then(|frame| read(frame, 0)) {
                note(&mut heard.lock().unwrap_or_else(PoisonError::into_inner), at, kind, address);
            }
            received = tap.try_recv(&mut frame);
        }
        thread::sleep(REST);
    }
}

fn note(heard: &mut HashMap<IpAddr, First>, at: Instant, kind: Kind, address: IpAddr) {
    let first = heard.entry(address).or_default();
    let slot = match kind {
        Kind::Announcement => &mut first.announced,
        Kind::Neighbour => &mut first.answered,
        Kind::Echo(_) => return,
    };
    slot.get_or_insert(at);
}
