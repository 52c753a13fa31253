//! Runs a fence agent: any program of the ClusterLabs convention (FenceAgentAPI of fence-agents).
//!
//! It reads `key=value` lines from its standard input, `action` among them, and ends with 0 where that was done; `status` ends with 0 for
//! on, 2 for off, 1 for not known. A run that does not end in time has failed, and its whole process group is killed: a
//! timeout is a guess, and what is wanted is a proof. Blocks: it belongs on a thread of its own.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::engine::{FenceAction, FencePeer};

/// Where a fence agent finds the programs that it uses.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// `status` of a peer that is off.
const OFF: i32 = 2;
/// How much of what it prints is kept, in bytes: the end, where the error stands.
const KEPT: usize = 400;
/// How long its last words are waited for, once its process group is dead: a daemon that it began may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// The longest secret, in bytes.
const LONGEST_SECRET: u64 = 4096;

/// Fences a peer, and says what proves it.
///
/// # Errors
///
/// Why it may still live, in one line without a secret.
pub fn fence(peer: &FencePeer) -> Result<String, String> {
    let mut last = String::new();
    for attempt in 1..=peer.attempts.max(1) {
        let action = match peer.action {
            FenceAction::Reboot => "reboot",
            FenceAction::Off => "off",
        };
        let done = run(peer, action);
        match (&done, peer.action) {
            (Ok(Run { code: Some(0), .. }), FenceAction::Reboot) => {
                return Ok(format!("{} reports the reboot as done (attempt {attempt})", peer.program));
            }
            // What it says it did, and what failed but may have been done, is looked at.
            (Ok(_) | Err(_), FenceAction::Off | FenceAction::Reboot) => {}
        }
        let status = run(peer, "status");
        if let Ok(Run { code: Some(OFF), .. }) = status {
            return Ok(format!("{} reports that it is off (attempt {attempt})", peer.program));
        }
        let told = |run: &Result<Run, String>| match run {
            Ok(run) => run.to_string(),
            Err(error) => error.clone(),
        };
        last = format!("{action}: {}; status: {}", told(&done), told(&status));
    }
    Err(format!("{}: {last}", peer.program))
}

struct Run {
    code: Option<i32>,
    signal: Option<i32>,
    said: String,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, signal) => write!(f, "killed by signal {}", signal.unwrap_or(0))?,
        }
        if self.said.is_empty() { Ok(()) } else { write!(f, " ({})", self.said) }
    }
}

fn run(peer: &FencePeer, action: &str) -> Result<Run, String> {
    let input = input(peer, action)?;
    let mut child = Command::new(&peer.program)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot run it: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read is judged by how it ends. What it is told fits into a pipe.
        stdin.write_all(input.as_bytes()).ok();
    }
    let (last_words, words) = channel();
    if let Some(mut stderr) = child.stderr.take() {
        thread::spawn(move || last_words.send(end_of(&mut stderr)).ok());
    }
    let ended = wait(&mut child, peer.timeout).map_err(|error| format!("cannot wait for it: {error}"))?;
    let said = words.recv_timeout(LAST_WORDS).unwrap_or_default();
    match ended {
        Some(status) => Ok(Run { code: status.code(), signal: status.signal(), said }),
        None => Err(format!("did not end within {:?}, and was killed", peer.timeout)),
    }
}

/// `None` where it did not end in time. Nothing of its process group is left.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let (at_end, end) = channel();
    // It stays a zombie, so that its number is nobody else's until its group is killed.
    thread::spawn(move || at_end.send(waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).is_ok()).ok());
    let in_time = !matches!(end.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
    killpg(pid, Signal::SIGKILL).ok();
    let status = child.wait()?;
    Ok(in_time.then_some(status))
}

/// The last that it prints, in one line.
fn end_of(output: &mut impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = output.read(&mut buffer) {
        kept.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&kept);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect()
}

fn input(peer: &FencePeer, action: &str) -> Result<String, String> {
    let mut input = format!("nodename={}\naction={action}\n", peer.name);
    for (name, value) in &peer.options {
        input.push_str(&format!("{name}={value}\n"));
    }
    for (name, path) in &peer.secrets {
        let mut secret = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST_SECRET).read_to_string(&mut secret));
        read.map_err(|error| format!("cannot read {path}: {error}"))?;
        let secret = secret.strip_suffix('\n').unwrap_or(&secret);
        if secret.contains('\n') {
            return Err(format!("{path} has more than one line"));
        }
        input.push_str(&format!("{name}={secret}\n"));
    }
    Ok(input)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("vipd-fencing-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("it is ours");
            Self(path)
        }

        fn file(&self, name: &str, text: &str, mode: u32) -> String {
            let path = self.0.join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("it is ours");
            path.display().to_string()
        }

        fn peer(&self, script: &str) -> FencePeer {
            FencePeer {
                name: "db-b".into(),
                addresses: Vec::new(),
                program: self.file("fence_test", &format!("#!/bin/sh\ncd {}\n{script}", self.0.display()), 0o755),
                action: FenceAction::Off,
                options: vec![("ip".into(), "192.0.2.7".into())],
                secrets: vec![("password".into(), self.file("secret", "hunter2\n", 0o600))],
                timeout: Duration::from_secs(10),
                attempts: 2,
            }
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("it is ours");
        }
    }

    #[test]
    fn it_is_told_what_to_do_on_standard_input_and_believed_once_it_is_off() {
        let place = Place::new("told");
        let peer = place.peer("cat >> told; env >> env; grep -q action=status told && exit 2; exit 0");
        assert!(fence(&peer).expect("it is off").contains("reports that it is off (attempt 1)"));
        let told = std::fs::read_to_string(place.0.join("told")).expect("it ran");
        let one = |action: &str| format!("nodename=db-b\naction={action}\nip=192.0.2.7\npassword=hunter2\n");
        assert_eq!(told, one("off") + &one("status"));
        let env = std::fs::read_to_string(place.0.join("env")).expect("it ran");
        assert!(!env.contains("CARGO"), "{env}");
    }

    #[test]
    fn what_is_said_to_be_off_and_is_not_is_not_believed() {
        let place = Place::new("lies");
        let error = fence(&place.peer("echo run >> runs; echo 'no way' >&2; exit 0")).expect_err("it is on");
        assert!(error.contains("status: exit code 0 (no way)") && !error.contains("hunter2"), "{error}");
        assert_eq!(std::fs::read_to_string(place.0.join("runs")).expect("it ran").lines().count(), 4);
        let reboot = FencePeer { action: FenceAction::Reboot, ..place.peer("exit 0") };
        assert!(fence(&reboot).is_ok(), "of a reboot nothing is left to be seen");
        assert!(fence(&FencePeer { action: FenceAction::Reboot, ..place.peer("exit 1") }).is_err());
    }

    #[test]
    fn one_that_hangs_is_killed_with_all_that_it_began() {
        let place = Place::new("hangs");
        let mut peer = place.peer("sleep 1000 & echo $! > child; wait");
        (peer.timeout, peer.attempts) = (Duration::from_millis(300), 1);
        let error = fence(&peer).expect_err("it hangs");
        assert!(error.contains("did not end within 300ms"), "{error}");
        let child = std::fs::read_to_string(place.0.join("child")).expect("it ran");
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        // A killed process takes a moment to end.
        let (_open, never) = channel::<()>();
        let gone = (0..500).any(|_| {
            let state = state();
            state.is_empty() || state.contains(") Z ") || {
                never.recv_timeout(Duration::from_millis(10)).ok();
                false
            }
        });
        assert!(gone, "{}", state());
    }
}
