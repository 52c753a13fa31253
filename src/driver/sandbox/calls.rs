//! Which system calls may be made, by seccomp: the list of what the agent needs. All others are refused with EPERM, and
//! the kernel's log has each refusal (`audit: type=1326`), by its number and the thread's name.
//!
//! Refused and not killed for it: a call that a later C library tries first is answered as by a kernel that forbids it,
//! which most can live with, and an agent that is killed would move the addresses. No call of the list starts a
//! program, looks into another process, loads code into the kernel, or enters a namespace.

#![allow(unsafe_code, reason = "seccomp has no safe wrapper that has refusals logged")]

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::io;

use libc::c_long;
use nix::errno::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Whatever their arguments are.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // Files. Which of them is a matter of Landlock, users and modes.
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_close, libc::SYS_read, libc::SYS_write, libc::SYS_readv,
    libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_lseek, libc::SYS_fstat, libc::SYS_newfstatat,
    libc::SYS_statx, libc::SYS_fstatfs, libc::SYS_statfs, libc::SYS_faccessat, libc::SYS_faccessat2,
    libc::SYS_readlinkat, libc::SYS_getdents64, libc::SYS_getcwd, libc::SYS_fcntl, libc::SYS_flock, libc::SYS_ftruncate,
    libc::SYS_fallocate, libc::SYS_fadvise64, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_fchmod, libc::SYS_mkdirat,
    libc::SYS_unlinkat, libc::SYS_renameat2, libc::SYS_dup, libc::SYS_dup3, libc::SYS_memfd_create, libc::SYS_umask,
    // Sockets, of the families below.
    libc::SYS_socketpair, libc::SYS_bind, libc::SYS_connect, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_setsockopt, libc::SYS_getsockopt, libc::SYS_sendto,
    libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // Waiting.
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_pipe2, libc::SYS_timerfd_create, libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime, libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep, libc::SYS_gettimeofday, libc::SYS_wait4, libc::SYS_waitid,
    // Memory.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk, libc::SYS_mlock, libc::SYS_mlock2,
    libc::SYS_munlock, libc::SYS_mlockall, libc::SYS_munlockall, libc::SYS_membarrier,
    // Threads, and how urgent they are.
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq, libc::SYS_set_tid_address,
    libc::SYS_gettid, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_sched_yield, libc::SYS_sched_getaffinity,
    libc::SYS_sched_getscheduler, libc::SYS_sched_setscheduler, libc::SYS_sched_getparam,
    libc::SYS_sched_get_priority_max, libc::SYS_sched_get_priority_min,
    // Signals that come, not such as go: see `tgkill`.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack, libc::SYS_restart_syscall,
    // Who and where.
    libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid,
    libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_uname, libc::SYS_sysinfo,
    libc::SYS_prlimit64, libc::SYS_getrusage, libc::SYS_getrandom, libc::SYS_getcpu, libc::SYS_capget,
    // Refused by the filter before this one.
    libc::SYS_clone3,
];

/// The same by their older names, which this architecture still has and its C libraries use.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_unlink,
    libc::SYS_rename, libc::SYS_renameat, libc::SYS_mkdir, libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_create,
    libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_pipe, libc::SYS_dup2, libc::SYS_getrlimit, libc::SYS_time,
];
/// Other architectures have but one older name: `renameat`, which the crate does not know of all of them.
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[38];

/// Which sockets: control socket and D-Bus, adverts and checks, addresses and nftables, ARP.
const FAMILIES: [libc::c_int; 5] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// Which controls of an open file: those of the standard library and the C libraries, and of a watchdog.
const CONTROLS: [u32; 9] = [
    0x5421,      // FIONBIO
    0x541b,      // FIONREAD
    0x5451,      // FIOCLEX
    0x5401,      // TCGETS
    0x5413,      // TIOCGWINSZ
    0x8910,      // SIOCGIFNAME
    0x8933,      // SIOCGIFINDEX
    0xc004_5706, // WDIOC_SETTIMEOUT
    0x8004_5707, // WDIOC_GETTIMEOUT
];

/// Names of threads, and of memory.
const PROCESS_CONTROLS: [libc::c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// Restricts the calling thread and all that it starts.
///
/// # Errors
///
/// What the system refuses; `Unsupported` where the kernel has no seccomp.
pub fn restrict() -> io::Result<()> {
    let (no_clone3, list) = (no_clone3().map_err(io::Error::other)?, list().map_err(io::Error::other)?);
    // SAFETY: takes numbers only, and lets this process gain nothing by a program that it starts, which it will not.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    install(&no_clone3, 0)?;
    install(&list, libc::SECCOMP_FILTER_FLAG_LOG)
}

/// What `clone3` would do stands in memory, where no filter looks: `ENOSYS` has the C library use `clone`.
fn no_clone3() -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let refusal = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture()?)?.try_into()
}

fn list() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.iter().chain(OLD).map(|call| (*call, Vec::new())).collect();
    let equal = |argument, value: u64| condition(argument, SeccompCmpOp::Eq, value);
    let among = |argument, values: &[u32]| {
        values.iter().map(|value| SeccompRule::new(vec![equal(argument, (*value).into())?])).collect::<Result<_, _>>()
    };
    rules.insert(libc::SYS_socket, among(0, &FAMILIES.map(i32::unsigned_abs))?);
    rules.insert(libc::SYS_ioctl, among(1, &CONTROLS)?);
    rules.insert(libc::SYS_prctl, among(0, &PROCESS_CONTROLS.map(i32::unsigned_abs))?);
    // Threads, not processes.
    let thread = libc::CLONE_THREAD.unsigned_abs();
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![masked(0, thread, thread)?])?]);
    // Memory is written or run: what is both was put there by a stranger. A library that a resolver needs is mapped to
    // run.
    let (write, run) = (libc::PROT_WRITE.unsigned_abs(), libc::PROT_EXEC.unsigned_abs());
    let not_both = [0, write, run].map(|wanted| SeccompRule::new(vec![masked(2, write | run, wanted)?]));
    rules.insert(libc::SYS_mmap, not_both.into_iter().collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![masked(2, run, 0)?])?]);
    // To itself alone: the end of one that panics.
    let own = vec![SeccompRule::new(vec![equal(0, std::process::id().into())?])?];
    rules.insert(libc::SYS_tgkill, own);
    #[cfg(target_env = "musl")]
    rules.insert(libc::SYS_tkill, Vec::new());
    let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, refusal, SeccompAction::Allow, architecture()?)?.try_into()
}

fn architecture() -> Result<TargetArch, seccompiler::BackendError> {
    ARCH.try_into()
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

fn masked(argument: u8, mask: u32, wanted: u32) -> Result<SeccompCondition, seccompiler::BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(mask.into()), wanted.into())
}

fn install(filter: &BpfProgram, flags: libc::c_ulong) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies the program, which outlives the call, and has the layout of `sock_filter` in both
    // crates.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match Errno::result(done) {
        Ok(_) => Ok(()),
        Err(Errno::ENOSYS | Errno::EINVAL) => Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel has none")),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream, ToSocketAddrs};
    use std::process::Command;
    use std::thread;

    use super::*;

    /// On a thread of its own: it is never taken back.
    fn restricted(test: impl FnOnce() + Send + 'static) {
        let restricted = thread::spawn(|| match restrict() {
            Ok(()) => test(),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}"),
        });
        restricted.join().expect("no panic");
    }

    /// With arguments that no kernel accepts: it says something else, unless it is not asked at all.
    fn refusal(call: c_long) -> Errno {
        // SAFETY: the kernel finds nothing at these addresses.
        let result = unsafe { libc::syscall(call, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) };
        Errno::result(result).expect_err("no kernel takes such arguments")
    }

    #[test]
    fn no_program_is_started_and_no_other_process_is_touched() {
        restricted(|| {
            assert_eq!(refusal(libc::SYS_execve), Errno::EPERM);
            assert_eq!(refusal(libc::SYS_execveat), Errno::EPERM);
            let started = Command::new("/bin/true").status().expect_err("it cannot be started");
            assert_eq!(started.raw_os_error(), Some(libc::EPERM), "{started}");
            for call in [libc::SYS_ptrace, libc::SYS_process_vm_writev, libc::SYS_kill, libc::SYS_pidfd_open] {
                assert_eq!(refusal(call), Errno::EPERM, "{call}");
            }
        });
    }

    #[test]
    fn no_kernel_is_changed_and_no_namespace_entered() {
        restricted(|| {
            let calls = [
                libc::SYS_bpf,
                libc::SYS_finit_module,
                libc::SYS_kexec_load,
                libc::SYS_keyctl,
                libc::SYS_perf_event_open,
                libc::SYS_io_uring_setup,
                libc::SYS_userfaultfd,
                libc::SYS_mount,
                libc::SYS_chroot,
                libc::SYS_setns,
                libc::SYS_setuid,
                libc::SYS_seccomp,
            ];
            for call in calls {
                assert_eq!(refusal(call), Errno::EPERM, "{call}");
            }
            // SAFETY: takes numbers only; and were it granted, it were this thread's alone.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, -1);
            assert_eq!(Errno::last(), Errno::EPERM);
        });
    }

    #[test]
    fn arguments_matter() {
        restricted(|| {
            let refused = |result: libc::c_int| {
                assert_eq!(result, -1);
                assert_eq!(Errno::last(), Errno::EPERM);
            };
            // SAFETY: takes numbers only.
            refused(unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0) });
            // SAFETY: sends nothing, to a process that is not this one.
            refused(unsafe { libc::syscall(libc::SYS_tgkill, 1, 1, 0) } as libc::c_int);
            // SAFETY: takes numbers only.
            refused(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) });
            let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let (private, none) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, std::ptr::null_mut());
            // SAFETY: a new mapping, which nothing refers to.
            assert_eq!(unsafe { libc::mmap(none, 4096, all, private, -1, 0) }, libc::MAP_FAILED);
            // SAFETY: as above.
            let written = unsafe { libc::mmap(none, 4096, libc::PROT_READ | libc::PROT_WRITE, private, -1, 0) };
            assert_ne!(written, libc::MAP_FAILED);
            // SAFETY: exactly the mapping that was just made.
            refused(unsafe { libc::mprotect(written, 4096, libc::PROT_READ | libc::PROT_EXEC) });
        });
    }

    #[test]
    fn what_an_agent_does_goes_on() {
        restricted(|| {
            thread::spawn(|| File::open("/proc/self/maps").expect("it can be read")).join().expect("a thread");
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("it has one").port();
            // A name is looked up by the C library, which may load others.
            assert!(("localhost", port).to_socket_addrs().is_ok_and(|mut found| found.next().is_some()));
            TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            assert!(vec![1_u8; 1 << 24].iter().all(|byte| *byte == 1));
        });
    }

    #[test]
    fn no_call_stands_twice() {
        let mut all: Vec<_> = ALLOWED.iter().chain(OLD).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
