//! What keeps the loop's thread running on a busy host: real-time scheduling, and memory that stays.
#![allow(unsafe_code)] // The C library's scheduler calls have no safe wrapper.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::time::Duration;
use std::{io, mem, thread};

use nix::sys::mman::{
    MapFlags, MlockAllFlags, MmapAdvise, ProtFlags, madvise, mlock, mlockall, mmap_anonymous, munlockall, munmap,
};
use nix::sys::resource::{Resource, getrlimit};

use super::error::context;

/// What a thread is urgent for. Both are above every ordinary thread, and below what the kernel runs at 50 (interrupt threads)
/// and above (migration, watchdogs): an advert cannot leave before the interrupt that carries it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// The loop: it works for microseconds.
    Loop,
    /// What the loop hands on because it may take longer: a thousand addresses keep a processor for milliseconds, in which
    /// no loop, be it another agent's, should have to wait.
    Worker,
}

impl Urgency {
    /// The priority of `SCHED_FIFO`.
    pub const fn priority(self) -> i32 {
        match self {
            Self::Loop => 40,
            Self::Worker => 30,
        }
    }
}

/// Gives the calling thread real-time scheduling (`SCHED_FIFO`). Its children, hooks and checks among them, do not inherit it.
///
/// # Errors
///
/// `PermissionDenied` without `CAP_SYS_NICE`, a high enough `RLIMIT_RTPRIO`, or in a user namespace.
pub fn run_in_real_time(urgency: Urgency) -> io::Result<()> {
    // SAFETY: all zeros is a priority of 0, and nothing more: with musl there are fields that the kernel does not know.
    let mut parameters: libc::sched_param = unsafe { mem::zeroed() };
    parameters.sched_priority = urgency.priority();
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads `parameters`, which outlives the call; 0 is the calling thread. The system call, because musl's
    // function of that name refuses to work on a thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    if result == 0 {
        return Ok(());
    }
    let tried = "run in real time (needs CAP_SYS_NICE, or LimitRTPRIO=40 or more; no user namespace has it)";
    Err(context(tried)(io::Error::last_os_error()))
}

/// Counts how often a task of a real-time thread is woken for nothing, and lets others run where that has no end.
///
/// The runtime's queues make no reader sleep while a writer is within them: it is woken, again and again, until the writer is done. One of
/// lower urgency on the same processor never is, as long as the reader does not sleep.
#[derive(Debug, Default)]
pub struct VainWakes {
    in_a_row: u32,
}

impl VainWakes {
    /// So many in a row happen by themselves. After each further one it rests.
    const MOST: u32 = 64;
    /// Enough for a thread to end what takes it some instructions.
    const REST: Duration = Duration::from_micros(50);

    /// The task was woken: for something, or in vain. Whether others were let run.
    #[expect(clippy::disallowed_methods, reason = "there is nothing that could be waited for")]
    pub fn note(&mut self, in_vain: bool) -> bool {
        self.in_a_row = if in_vain { self.in_a_row.saturating_add(1) } else { 0 };
        let rests = self.in_a_row > Self::MOST;
        if rests {
            thread::sleep(Self::REST);
        }
        rests
    }
}

/// Keeps all memory that the process uses, now or later, from being swapped out. What is reserved but never touched
/// costs nothing; but the code that an agent lives by is fetched at once, for a takeover on a host that is short of
/// memory cannot wait for its disk. What was read until now of the other code, of the libraries, and of the tables that
/// tell the loader where things are, is let go: most of it is needed at the start only, and what is not is fetched
/// again, and locked.
///
/// # Errors
///
/// Without `CAP_IPC_LOCK` and under a limit on locked memory; then nothing is locked: with a limit, some later allocation
/// would fail.
pub fn lock_memory() -> io::Result<()> {
    let tried = "lock memory (needs CAP_IPC_LOCK, or LimitMEMLOCK=infinity)";
    let code = Code::find()?;
    code.let_go();
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)
        .map_err(|error| context(tried)(error.into()))?;
    match exceed_limit().and_then(|()| lock(&code.needed)) {
        Ok(()) => Ok(()),
        Err(error) => {
            munlockall().map_err(|error| context("unlock memory again")(error.into()))?;
            Err(context(tried)(error))
        }
    }
}

/// Gives back the memory of code that was run until now, as [`lock_memory`] does: reading a configuration takes much of
/// it. What is needed again is fetched again.
pub fn let_go_of_code() {
    if let Ok(code) = Code::find() {
        code.let_go();
    }
}

/// The code of the program and of its libraries, by addresses of whole pages; none where the linker was told no order,
/// as for tests.
struct Code {
    /// What an agent lives by, as far as `link/text.ld` knows.
    needed: Range<usize>,
    /// Mappings of files that nothing ever writes to, the program's code among them.
    unwritten: Vec<Range<usize>>,
}

impl Code {
    fn let_go(&self) {
        self.unwritten.iter().for_each(let_go);
    }

    #[cfg(not(ordered_code))]
    #[allow(clippy::unnecessary_wraps)] // As below.
    const fn find() -> io::Result<Self> {
        Ok(Self { needed: 0..0, unwritten: Vec::new() })
    }

    #[cfg(ordered_code)]
    fn find() -> io::Result<Self> {
        let end = seldom_begins as extern "C" fn() as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").map_err(context("read /proc/self/maps"))?;
        let unwritten: Vec<_> = maps.lines().filter_map(unwritten).collect();
        let own = unwritten.iter().find(|mapping| mapping.contains(&end)).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { needed: own.start..end, unwritten })
    }
}

/// The mapping that a line of `/proc/self/maps` is about, if nobody ever writes there: code, or the beginning of a
/// program or library. What the loader has to write to, once, is data behind those.
#[cfg(ordered_code)]
fn unwritten(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, offset, file) = (fields.next()?, fields.next()?, fields.nth(2)?);
    let is_unwritten = permissions == "r-xp" || (permissions == "r--p" && offset.bytes().all(|digit| digit == b'0'));
    let mapping = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
    (is_unwritten && file.starts_with('/')).then_some(mapping)
}

/// The linker puts it where the code begins that is not needed.
#[cfg(ordered_code)]
#[unsafe(link_section = ".text.vipd_seldom_begins")]
#[inline(never)]
const extern "C" fn seldom_begins() {}

/// Has pages of code in memory, and keeps them there.
fn lock(code: &Range<usize>) -> io::Result<()> {
    match NonNull::new(code.start as *mut c_void) {
        // SAFETY: pages of the program's code, which nobody unmaps.
        Some(start) => Ok(unsafe { mlock(start, code.len()) }?),
        None => Ok(()),
    }
}

/// Has pages that were never written mapped anew when they are needed again. Where the kernel does not, they stay.
fn let_go(code: &Range<usize>) {
    if let Some(start) = NonNull::new(code.start as *mut c_void) {
        // SAFETY: the file has all that is in these pages.
        unsafe { madvise(start, code.len(), MmapAdvise::MADV_DONTNEED) }.ok();
    }
}

/// Reserves more memory than the limit on locked memory allows, for a moment.
fn exceed_limit() -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if limit == libc::RLIM_INFINITY {
        return Ok(());
    }
    let len = usize::try_from(limit).ok().and_then(|limit| NonZeroUsize::new(limit.saturating_add(1)));
    let Some(len) = len else { return Ok(()) };
    // SAFETY: a new mapping at a place of the kernel's choice, which nothing refers to and nothing can be read from or written to.
    let probe = unsafe { mmap_anonymous(None, len, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE) }?;
    // SAFETY: exactly the mapping that was just made.
    Ok(unsafe { munmap(probe, len.get()) }?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake, Waker};
    use std::time::Instant;

    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn real_time_is_had_or_the_permission_is_named() {
        let thread = std::thread::spawn(|| {
            let result = run_in_real_time(Urgency::Loop);
            // SAFETY: no memory is passed; 0 is the calling thread.
            let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
            (result, policy)
        });
        let (result, policy) = thread.join().expect("no panic");
        match result {
            Ok(()) => assert_eq!(policy, i64::from(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK)),
            Err(error) => {
                assert_eq!(policy, 0);
                assert!(error.kind() == io::ErrorKind::PermissionDenied && error.to_string().contains("CAP_SYS_NICE"));
            }
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a rest takes time")]
    fn whoever_is_woken_for_nothing_too_often_in_a_row_rests() {
        let mut wakes = VainWakes::default();
        for _ in 0..=VainWakes::MOST {
            assert!(!wakes.note(true) && !wakes.note(false));
        }
        for _ in 0..VainWakes::MOST {
            assert!(!wakes.note(true));
        }
        for _ in 0..2 {
            let before = Instant::now();
            assert!(wakes.note(true) && before.elapsed() >= VainWakes::REST);
        }
        assert!(!wakes.note(false));
    }

    /// The reader comes while a writer, which is less urgent and has the same processor, is somewhere within the runtime's
    /// queue: where that wakes the reader for nothing, it is the reader who lets the writer go on. Where real time is not
    /// permitted the two take turns, and there is nothing to be seen.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the writer has the processor meanwhile")]
    fn a_reader_that_its_queue_wakes_for_nothing_lets_the_writer_go_on() {
        const TIMES: u32 = 10;
        /// Without a rest there are millions, until the kernel stops what is urgent for a while.
        const MOST_WAKES: u32 = 20_000;

        let (sender, mut messages) = mpsc::channel(1 << 16);
        let reads = AtomicBool::new(true);
        let (is_urgent, held_up, most) = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                keep_to_one_processor();
                scope.spawn(|| {
                    while reads.load(Ordering::Relaxed) {
                        // Where it is full there is nothing to be done.
                        let _taken = sender.try_send(()).is_ok();
                    }
                });
                let is_urgent = run_in_real_time(Urgency::Loop).is_ok();
                let woken = Arc::new(Woken(AtomicBool::new(false)));
                let waker = Waker::from(Arc::clone(&woken));
                let mut context = Context::from_waker(&waker);
                let mut wakes = VainWakes::default();
                let (mut held_up, mut most) = (0, 0);
                let mut rounds = if is_urgent { 200_000 } else { 0 };
                while rounds > 0 && held_up < TIMES {
                    rounds -= 1;
                    thread::sleep(Duration::from_micros(20));
                    wakes.note(false);
                    let mut in_vain = 0;
                    let mut is_woken = true;
                    while is_woken {
                        let mut any = false;
                        while messages.poll_recv(&mut context).is_ready() {
                            any = true;
                        }
                        in_vain = if any { 0 } else { in_vain + 1 };
                        most = most.max(in_vain);
                        held_up += u32::from(wakes.note(!any));
                        is_woken = woken.0.swap(false, Ordering::Relaxed);
                    }
                }
                reads.store(false, Ordering::Relaxed);
                (is_urgent, held_up, most)
            });
            reader.join().expect("no panic")
        });
        assert!(held_up >= TIMES || !is_urgent, "the writer was never within the queue");
        assert!(most < MOST_WAKES, "woken for nothing {most} times in a row");
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn keep_to_one_processor() {
        let may = sched_getaffinity(Pid::from_raw(0)).expect("a thread has processors");
        let first = (0..CpuSet::count()).find(|cpu| may.is_set(*cpu).is_ok_and(|may| may)).expect("one at least");
        let mut one = CpuSet::new();
        one.set(first).expect("it is one");
        sched_setaffinity(Pid::from_raw(0), &one).expect("it may run there");
    }

    #[test]
    fn memory_is_locked_or_the_permission_is_named() {
        match lock_memory() {
            Ok(()) => {
                let large = vec![1_u8; 1 << 20];
                assert!(large.iter().all(|byte| *byte == 1));
                munlockall().expect("memory can be unlocked");
            }
            Err(error) => assert!(error.to_string().contains("CAP_IPC_LOCK"), "{error}"),
        }
    }
}
