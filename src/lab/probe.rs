//! Asks for an address every millisecond, from a client, and writes down who answered when.
//!
//! Two questions a millisecond: an ICMP echo request by the client's ordinary way, so that its neighbour cache takes part as
//! any program's would; and "who has the address?" in the name of a host that does not exist, which shows every host that holds
//! the address. Answers carry the kernel's time of receipt, and name their sender by its MAC address. Whoever holds the address may
//! be measured; nothing here knows of VRRP.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::prctl::set_timerslack;

use super::frames::{self, Kind};
use super::host::Host;
use super::tap::{Tap, echo_socket};

/// The time between two questions of a kind.
pub const PROBE_PERIOD: Duration = Duration::from_millis(1);

/// One hour of answers of two hosts. A probe that is forgotten must not fill the memory.
const MOST_ANSWERS: usize = 4 * 3600 * 1000;

/// How long the receiver sleeps when nothing answers, and so how long the end of a probe may take.
const RECEIVE_PATIENCE: Duration = Duration::from_millis(20);

/// Tells this probe's echo requests from others'.
const IDENTIFIER: u16 = 0x7669;

/// A probe at work. It ends with [`stop`](Self::stop) or when dropped.
pub struct Probe {
    record: Arc<Mutex<Record>>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// What a probe has written down.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// When "who has the address?" was asked, ascending.
    pub asked: Vec<Instant>,
    /// When each echo request was sent, ascending, and its sequence number.
    pub echoes_asked: Vec<(Instant, u16)>,
    /// The answers, and the announcements that nobody had asked for, in the order of their receipt.
    pub answers: Vec<Answer>,
    /// The last VRRP advert by multicast: when, and from which MAC address.
    pub last_advert: Option<(Instant, [u8; 6])>,
}

/// A frame that concerns the probed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When the client's kernel had it.
    pub at: Instant,
    /// The MAC address that it came from.
    pub from: [u8; 6],
    /// What it is.
    pub kind: Kind,
}

impl Probe {
    /// Begins to ask from an interface of a client. `asker` is an IPv4 address of the same network that no host has; it is not
    /// used for an IPv6 target.
    ///
    /// # Errors
    /// No such interface, no route to the target, or the kernel's refusal.
    pub fn start(client: &Host, interface: &str, target: IpAddr, asker: Ipv4Addr) -> Result<Self> {
        let tap = Arc::new(Tap::open(client, interface, RECEIVE_PATIENCE)?);
        let echo = echo_socket(client, target)?;
        let record = Arc::<Mutex<Record>>::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let asking = {
            let (tap, record, stopping) = (Arc::clone(&tap), Arc::clone(&record), Arc::clone(&stopping));
            let who_has = frames::who_has(target, asker);
            move || {
                // The default lets a sleep end 50 µs late.
                set_timerslack(1).context("timer slack")?;
                let mut sequence = 0_u16;
                let mut due = Instant::now();
                while !stopping.load(Ordering::Relaxed) {
                    // What cannot be sent is not answered, which is what is measured. So errors need no other record.
                    let echo_asked = Instant::now();
                    echo.send(&frames::echo_request(target, IDENTIFIER, sequence)).ok();
                    let asked = Instant::now();
                    let has_asked = tap.send(&who_has).is_ok();
                    {
                        let mut record = lock(&record);
                        record.echoes_asked.push((echo_asked, sequence));
                        if has_asked {
                            record.asked.push(asked);
                        }
                    }
                    sequence = sequence.wrapping_add(1);
                    due = next_deadline(due);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                Ok(())
            }
        };
        let receiving = {
            let (record, stopping) = (Arc::clone(&record), Arc::clone(&stopping));
            move || {
                let mut frame = [0; 2048];
                while !stopping.load(Ordering::Relaxed) {
                    let Some((at, length)) = tap.recv(&mut frame)? else { continue };
                    let frame = frame.get(..length).unwrap_or_default();
                    let Some((from, kind, address)) = frames::read(frame, IDENTIFIER) else {
                        if let Some(from) = frames::advert(frame) {
                            lock(&record).last_advert = Some((at, from));
                        }
                        continue;
                    };
                    if address == target {
                        let mut record = lock(&record);
                        if record.answers.len() == MOST_ANSWERS {
                            bail!("the probe was forgotten for an hour");
                        }
                        record.answers.push(Answer { at, from, kind });
                    }
                }
                Ok(())
            }
        };
        Ok(Self { record, stopping, threads: vec![thread::spawn(asking), thread::spawn(receiving)] })
    }

    /// Ends it and gives what it has written down.
    ///
    /// # Errors
    /// The interface vanished while it was at work.
    pub fn stop(mut self) -> Result<Record> {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a thread of the probe panicked"))??;
        }
        Ok(std::mem::take(&mut *lock(&self.record)))
    }

    /// All that is written down so far.
    pub fn record(&self) -> Record {
        lock(&self.record).clone()
    }

    /// The answers so far, from that of an index on.
    pub fn answers_from(&self, index: usize) -> Vec<Answer> {
        lock(&self.record).answers.get(index..).unwrap_or_default().to_vec()
    }

    /// Forgets all that is written down: a long record takes long to be copied, and meanwhile nothing is written down.
    pub fn forget(&self) {
        let mut record = lock(&self.record);
        record.asked.clear();
        record.echoes_asked.clear();
        record.answers.clear();
    }

    /// The last VRRP advert so far: when, and from which MAC address.
    pub fn last_advert(&self) -> Option<(Instant, [u8; 6])> {
        lock(&self.record).last_advert
    }

    /// How many answers there are so far.
    pub fn count(&self) -> usize {
        lock(&self.record).answers.len()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// The next multiple of the period. Those that were missed are left out: a burst would measure nothing.
fn next_deadline(due: Instant) -> Instant {
    let next = due + PROBE_PERIOD;
    if next > Instant::now() { next } else { Instant::now() + PROBE_PERIOD }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
