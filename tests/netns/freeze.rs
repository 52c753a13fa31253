//! An agent that cannot run, or hardly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use nix::unistd::{SysconfVar, sysconf};
use vipd::lab::{Host, Process, Tap};

use crate::support::{Agent, MAC_A, Segment, Vip, await_none, ensure_calm};
use crate::{lone_trial, trial};

/// Longer than the 361 ms after which the other takes over.
const FREEZE: Duration = Duration::from_secs(2);
/// Loops, their seconds, and the milliseconds of the advert interval; another load is `VIPD_BUSY="16 30 10"`.
const BUSY: &str = "4 5 100";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_thawed_owner_counts_itself_deposed_before_it_speaks", thaw),
        lone_trial("busy_processors_move_nobody", busy),
    ]
}

fn thaw() -> Result<()> {
    let segment = Segment::new()?;
    // Without preemption the thawed one has nothing to say for ever.
    let agent_a = Agent::start(&segment.a, &[Vip::new(200).with("preempt = false")])?;
    agent_a.await_state("Active")?;
    let agent_b = Agent::start(&segment.b, &[Vip::new(100)])?;
    agent_b.await_state("Backup")?;
    let frozen = Instant::now();
    agent_a.process().signal(Signal::SIGSTOP)?;
    agent_b.await_state("Active")?;
    thread::sleep((frozen + FREEZE).saturating_duration_since(Instant::now()));

    let listener = Listener::start(&segment.client)?;
    agent_a.process().signal(Signal::SIGCONT)?;
    let deposed = agent_a.await_state("Backup")?;
    ensure!(
        deposed.cause.starts_with("could not run for") && deposed.cause.ends_with("the lease lapsed"),
        "it stepped back because {:?}",
        deposed.cause
    );
    await_none(&segment.a)?;
    ensure_calm(&[&agent_a, &agent_b], Duration::from_secs(1))?;
    let (adverts_of_a, adverts_of_others) = listener.stop()?;
    ensure!(adverts_of_others > 0, "the listener is deaf");
    ensure!(adverts_of_a == 0, "the thawed agent sent {adverts_of_a} adverts");
    Ok(())
}

fn busy() -> Result<()> {
    let load = std::env::var("VIPD_BUSY").unwrap_or_else(|_| BUSY.to_owned());
    let load = load.split(' ').map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    let [loops, seconds, interval_ms] = load[..] else {
        return Err(anyhow!("VIPD_BUSY is {load:?}, and not LOOPS SECONDS MILLISECONDS"));
    };
    let vip = |priority| Vip::new(priority).every_ms(interval_ms);
    let segment = Segment::new()?;
    let [agent_a, agent_b] = segment.pair(vip)?;
    let _loops = (0..loops).map(|_| busy_loop(&segment.client)).collect::<Result<Vec<_>>>()?;
    let before = stolen()?;
    let calm = ensure_calm(&[&agent_a, &agent_b], Duration::from_secs(seconds.into()));
    let withheld = format!("meanwhile a hypervisor withheld the processors for {:?}", stolen()?.saturating_sub(before));
    for agent in [&agent_a, &agent_b] {
        let status = agent.status()?;
        eprintln!("real-time scheduling {}: lateness {:?}", status.realtime, status.lateness);
    }
    eprintln!("{withheld}");
    calm.context(withheld)
}

/// For how long a hypervisor, since the start, did not let this machine's processors run, all together (proc_stat(5), `steal`). No scheduling
/// helps against that, and an owner that stood still for its lease is deposed rightly.
fn stolen() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let ticks = stat.split_ascii_whitespace().nth(8).context("/proc/stat has no steal")?.parse::<u64>()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?.cast_unsigned();
    Ok(Duration::from_millis(ticks * 1_000 / per_second))
}

/// A process that takes a processor, and is ended by its handle, its parent's end, or 60 s of processor time.
fn busy_loop(host: &Host) -> Result<Process> {
    Process::start(host.command("/bin/sh").args(["-c", "ulimit -t 60; while :; do :; done"]))
}

/// Counts adverts on the link: those from node a, and the others.
struct Listener {
    stopping: Arc<AtomicBool>,
    counts: Arc<[AtomicUsize; 2]>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Listener {
    fn start(host: &Host) -> Result<Self> {
        let tap = Tap::open(host, "eth0", Duration::from_millis(20))?;
        let stopping = Arc::<AtomicBool>::default();
        let counts = Arc::<[AtomicUsize; 2]>::default();
        let (stopping_there, counts_there) = (Arc::clone(&stopping), Arc::clone(&counts));
        let thread = thread::spawn(move || {
            let mut frame = [0; 2_048];
            while !stopping_there.load(Ordering::Relaxed) {
                let Some((_, length)) = tap.recv(&mut frame)? else { continue };
                if is_advert(&frame[..length]) {
                    let from_a = frame[6..12] == MAC_A;
                    counts_there[usize::from(!from_a)].fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        Ok(Self { stopping, counts, thread })
    }

    /// Those from node a, and the others.
    fn stop(self) -> Result<(usize, usize)> {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the listener panicked"))??;
        let [from_a, others] = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        Ok((from_a, others))
    }
}

/// Protocol 112 over either family.
fn is_advert(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23) == Some(&112),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&112),
        _ => false,
    }
}
