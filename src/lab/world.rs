//! Where the lab's hosts may be made: a process that is root over network and mount namespaces of its own.
//!
//! Decides between the two ways there: a user namespace for an ordinary user, none for root. Refuses a process that
//! has threads already, and a kernel that forbids user namespaces; both errors say what to change.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Makes the calling process root of a network and a mount namespace of its own.
///
/// To be called first thing in `main`, while the process has one thread: the kernel gives no user namespace to a process
/// of many. Afterwards nothing that the process does to interfaces, addresses or `/run` is seen outside it, and all
/// of it vanishes with the last process inside.
///
/// # Errors
/// User namespaces are forbidden (the error names the setting), or the process has threads.
pub fn enter() -> Result<()> {
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
    let as_root = geteuid().is_root().then(|| unshare(own));
    match as_root {
        Some(Ok(())) => {}
        // Root of a container may lack CAP_SYS_ADMIN, and then is a user like any other.
        Some(Err(Errno::EPERM)) | None => enter_user_namespace(own)?,
        Some(Err(errno)) => return Err(errno).context("cannot make a network namespace"),
    }
    // Else a mount in here would be seen outside.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("cannot make the mounts private")?;
    mount_run().context("cannot mount a private /run")
}

/// Puts an empty file system of the namespace's own over `/run`.
pub(super) fn mount_run() -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), flags, Some("mode=755,size=64m"))
}

fn enter_user_namespace(own: CloneFlags) -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | own).map_err(explain)?;
    // user_namespaces(7): without CAP_SETGID outside, setgroups must be denied before gid_map may be written.
    fs::write("/proc/self/setgroups", "deny").map_err(|error| unmappable(&error))?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(|error| unmappable(&error))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(|error| unmappable(&error))?;
    Ok(())
}

/// The kernel's refusal of a user namespace, in terms of what to change.
fn explain(errno: Errno) -> anyhow::Error {
    let advice = match errno {
        Errno::EINVAL => "the process has more than one thread already",
        Errno::ENOSPC => "the limit of user namespaces is reached: raise it by `sysctl user.max_user_namespaces=1000`",
        _ if setting("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") => {
            "unprivileged user namespaces are off: `sysctl kernel.unprivileged_userns_clone=1`, or run as root"
        }
        _ if setting("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") => {
            "user namespaces are off: `sysctl user.max_user_namespaces=1000`, or run as root"
        }
        _ => return anyhow!(errno).context(restricted()),
    };
    anyhow!(errno).context(format!("cannot make a user namespace: {advice}"))
}

/// AppArmor lets the namespace be made, but gives no capability in it: then the first use of one fails.
fn unmappable(error: &std::io::Error) -> anyhow::Error {
    anyhow!("{error}").context(restricted())
}

fn restricted() -> String {
    let because = if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        "AppArmor restricts it: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run as root"
    } else {
        "is this a container that forbids it? Run outside it, or as root with CAP_SYS_ADMIN"
    };
    format!("cannot make a user namespace: {because}")
}

fn setting(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}
