//! The namespaces of one host: network, mounts with a private `/run`, and host name.
//!
//! Held by file descriptors alone: when the last one is closed and the last process inside has ended, the kernel
//! takes everything away. So there is nothing to clean up, even after a SIGKILL.
#![allow(unsafe_code)] // `Command::pre_exec`, to enter the namespaces between fork and exec.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::{env, fs, io, thread};

use anyhow::{Context as _, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid, setpgid};

use super::world::mount_run;

/// Namespaces to run threads and programs in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Namespace {
    files: Arc<Files>,
}

#[derive(Debug)]
struct Files {
    net: File,
    mounts: File,
    name: File,
}

impl Namespace {
    /// New ones, with a loopback interface that is still down, and an empty `/run`.
    ///
    /// # Errors
    /// The process is not root over its namespaces: see [`enter`](super::enter).
    pub fn new(name: &str) -> Result<Self> {
        let made = thread::scope(|scope| scope.spawn(|| Self::of_this_thread(name)).join());
        made.map_err(|_| anyhow!("the thread that makes namespaces panicked"))?
            .with_context(|| format!("namespaces of {name}"))
    }

    /// Leaves the calling thread in the new namespaces, so it has to be a thread that ends.
    fn of_this_thread(name: &str) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
        nix::unistd::sethostname(name)?;
        mount_run().context("/run")?;
        // /sys/class/net shows the interfaces of the namespace that mounted it. Some containers refuse; programs that
        // look there then see the lab's own interfaces, which are none.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).ok();
        // An address is usable at once: a lab of seconds has no time for duplicate detection. Where /proc/sys is
        // read-only (some containers) IPv6 only comes up later.
        for file in ["all/accept_dad", "default/accept_dad", "default/dad_transmits"] {
            fs::write(Path::new("/proc/sys/net/ipv6/conf").join(file), "0").ok();
        }
        let open = |kind: &str| File::open(format!("/proc/thread-self/ns/{kind}"));
        Ok(Self { files: Arc::new(Files { net: open("net")?, mounts: open("mnt")?, name: open("uts")? }) })
    }

    /// Runs a function on a thread of its own in the namespaces, and waits for it. Sockets that it makes stay there.
    ///
    /// # Errors
    /// The namespaces cannot be entered.
    ///
    /// # Panics
    /// Where the function does.
    pub fn run_in<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T> {
        let files = Arc::clone(&self.files);
        let ran = thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // A thread shares its working directory with the process, and such a thread may not change mounts.
                unshare(CloneFlags::CLONE_FS)?;
                files.join()?;
                Ok::<T, io::Error>(function())
            });
            thread.join()
        });
        match ran {
            Ok(result) => result.context("cannot enter a host's namespaces"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A program to be run in the namespaces, in a process group of its own.
    ///
    /// It is killed when the *thread* that spawns it ends, however that comes about (PDEATHSIG): spawn from one that
    /// lives as long as the lab. A relative path is meant from the working directory of now.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(absolute(Path::new(program.as_ref())));
        let files = Arc::clone(&self.files);
        let parent = Pid::this();
        let enter = move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have ended before the line above.
            if getppid() != parent {
                return Err(io::Error::other("the lab has ended"));
            }
            // So that a terminal's Ctrl-C reaches the lab only, and a whole agent is killed at once.
            setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            files.join()
        };
        // SAFETY: between fork and exec the closure only makes system calls (prctl, getppid, setpgid, setns) on
        // descriptors that the Arc keeps open; it neither allocates nor takes a lock on its way to success.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// The inode that tells this network namespace from others, as `/proc/PID/ns/net` shows it.
    ///
    /// # Errors
    /// The descriptor cannot be asked.
    pub(super) fn net_inode(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        Ok(self.files.net.metadata().context("network namespace")?.ino())
    }

    /// The network namespace itself, to move an interface into it.
    pub(super) fn net(&self) -> &File {
        &self.files.net
    }
}

impl Files {
    fn join(&self) -> io::Result<()> {
        setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
        setns(&self.name, CloneFlags::CLONE_NEWUTS)?;
        setns(&self.net, CloneFlags::CLONE_NEWNET)?;
        Ok(())
    }
}

/// Entering a mount namespace changes the working directory to its root.
fn absolute(program: &Path) -> PathBuf {
    if program.is_relative() && program.components().count() > 1 {
        env::current_dir().map_or_else(|_| program.to_owned(), |directory| directory.join(program))
    } else {
        program.to_owned()
    }
}
