//! Which kernel lets its host have an address, by its own account: the lease that its agent keeps there, read each millisecond.
//!
//! What a client sees of two owners depends on who answers it, and when. This does not: where the leases of two kernels never run at the
//! same time, no two hosts could have answered anybody. What is shorter than the time between two looks goes unseen.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::host::Host;
use crate::driver::gate::{Layer, Onlooker};

/// The time between two looks, and so what a span may be shorter than the lease was, at either end.
const PERIOD: Duration = Duration::from_millis(1);

/// From the end of the first look that found the address open to the begin of the last one: surely open all the time.
type Span = (Instant, Instant);

/// The leases of one host on one address. It ends when dropped.
#[derive(Debug)]
pub struct LeaseRecord {
    looks: Arc<Mutex<Looks>>,
    stopping: Arc<AtomicBool>,
}

/// What was seen.
#[derive(Debug, Default)]
struct Looks {
    spans: Vec<Span>,
    /// The kernel did not answer, and was not asked any more.
    failed: bool,
}

impl LeaseRecord {
    /// Begins to look.
    ///
    /// # Errors
    /// The host's namespaces cannot be entered, or its kernel has no netfilter.
    pub fn start(host: &Host, interface: &str, address: IpAddr) -> Result<Self> {
        let mut onlooker = host.run_in(Onlooker::open)??;
        let looks = Arc::<Mutex<Looks>>::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let interface = interface.to_owned();
        thread::spawn({
            let (looks, stopping) = (Arc::clone(&looks), Arc::clone(&stopping));
            move || {
                let mut was_open = false;
                while !stopping.load(Ordering::Relaxed) {
                    let before = Instant::now();
                    let Some(is_open) = is_open(&mut onlooker, &interface, address) else {
                        lock(&looks).failed = true;
                        return;
                    };
                    if is_open {
                        note(&mut lock(&looks).spans, was_open, before, Instant::now());
                    }
                    was_open = is_open;
                    thread::sleep(PERIOD.saturating_sub(before.elapsed()));
                }
            }
        });
        Ok(Self { looks, stopping })
    }

    /// For how long both had a lease, from an instant on. `None` where that was not to be seen: one kernel did not answer, or neither
    /// has ever had a lease, as without nftables.
    pub fn both(&self, other: &Self, since: Instant) -> Option<Duration> {
        // One after the other: both locks at once could be taken in two orders.
        let spans = |record: &Self| {
            let looks = lock(&record.looks);
            (!looks.failed).then(|| looks.spans.clone())
        };
        let (own, others) = (spans(self)?, spans(other)?);
        (!own.is_empty() || !others.is_empty()).then(|| overlap(&own, &others, since))
    }
}

impl Drop for LeaseRecord {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// In whichever layer. `None`: the kernel does not say of any.
fn is_open(onlooker: &mut Onlooker, interface: &str, address: IpAddr) -> Option<bool> {
    let layers = Layer::ALL.into_iter().filter_map(|layer| onlooker.leases(layer, interface).ok());
    layers.map(|leases| leases.iter().any(|lease| lease.address == address)).reduce(|one, other| one || other)
}

/// A look that found the address open, as the one before it did or not.
fn note(spans: &mut Vec<Span>, was_open: bool, before: Instant, after: Instant) {
    match spans.last_mut() {
        Some((_, last)) if was_open => *last = before,
        _ => spans.push((after, before)),
    }
}

fn overlap(one: &[Span], other: &[Span], since: Instant) -> Duration {
    let common = |(begin, end): &Span, (others_begin, others_end): &Span| {
        end.min(others_end).saturating_duration_since(*begin.max(others_begin).max(&since))
    };
    one.iter().flat_map(|own| other.iter().map(move |others| common(own, others))).sum()
}

fn lock(looks: &Mutex<Looks>) -> MutexGuard<'_, Looks> {
    looks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Looks that take half a millisecond, and find the address open from each first millisecond to before the second.
    fn spans(epoch: Instant, open: &[(u32, u32)]) -> Vec<Span> {
        let mut spans = Vec::new();
        for (begin, end) in open {
            for ms in *begin..*end {
                note(&mut spans, ms > *begin, epoch + MS * ms, epoch + MS * ms + MS / 2);
            }
        }
        spans
    }

    #[test]
    fn leases_that_follow_each_other_do_not_overlap() {
        let epoch = Instant::now();
        let [one, other] = [spans(epoch, &[(0, 10), (20, 30)]), spans(epoch, &[(10, 20)])];
        assert_eq!(overlap(&one, &other, epoch), Duration::ZERO);
        assert_eq!(overlap(&one, &[], epoch), Duration::ZERO);
    }

    #[test]
    fn what_is_surely_common_counts_and_no_more() {
        let epoch = Instant::now();
        let [one, other] = [spans(epoch, &[(0, 10), (20, 30)]), spans(epoch, &[(5, 25)])];
        // From the end of the look at 5 ms to the begin of that at 9 ms, and the same from 20 to 24.
        assert_eq!(overlap(&one, &other, epoch), MS * 7);
        assert_eq!(overlap(&other, &one, epoch + MS * 15), MS * 7 / 2);
    }
}
