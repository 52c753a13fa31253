//! Runs a fence agent: any program of the ClusterLabs convention (FenceAgentAPI of fence-agents).
//!
//! It reads `key=value` lines from its standard input, `action` among them, and ends with 0 where that was done;
//! `status` ends with 0 for on, 2 for off, 1 for not known. A run that does not end in time has failed, and its whole
//! process group is killed: a timeout is a guess, and what is wanted is a proof. Blocks: it belongs on a thread of its
//! own.

use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;

use super::attempt::{Failure, one_line};
use super::program::{Ended, Program, Runner, Told};
use crate::engine::{FenceAction, FencePeer};

/// `status` of a peer that is off.
const OFF: i32 = 2;
/// The longest secret, in bytes.
const LONGEST_SECRET: u64 = 4096;

/// Fences a peer, and says what proves it.
///
/// # Errors
///
/// Why it may still live, in one line without a secret.
pub fn fence(peer: &FencePeer) -> Result<String, String> {
    // Nobody calls it back: what has begun may have been done.
    let (stop, _stopper) = io::pipe().map_err(|error| error.to_string())?;
    let mut agent = Agent {
        program: Program { command: vec![peer.program.clone()], user: None },
        runner: Runner::on_this_thread(),
        stop,
    };
    let mut last = String::new();
    for attempt in 1..=peer.attempts.max(1) {
        let action = match peer.action {
            FenceAction::Reboot => "reboot",
            FenceAction::Off => "off",
        };
        let done = agent.run(peer, action);
        match (done.as_ref().map(Ended::code), peer.action) {
            (Ok(Some(0)), FenceAction::Reboot) => {
                return Ok(format!("{} reports the reboot as done (attempt {attempt})", peer.program));
            }
            // What it says it did, and what failed but may have been done, is looked at.
            (Ok(_) | Err(_), FenceAction::Off | FenceAction::Reboot) => {}
        }
        let status = agent.run(peer, "status");
        if status.as_ref().is_ok_and(|ended| ended.code() == Some(OFF)) {
            return Ok(format!("{} reports that it is off (attempt {attempt})", peer.program));
        }
        let told = |run: Result<Ended, String>| one_line(&run.map_or_else(|error| error, |ended| ended.to_string()));
        last = format!("{action}: {}; status: {}", told(done), told(status));
    }
    Err(format!("{}: {last}", peer.program))
}

struct Agent {
    program: Program,
    runner: Runner,
    stop: PipeReader,
}

impl Agent {
    fn run(&mut self, peer: &FencePeer, action: &str) -> Result<Ended, String> {
        let told = Told { environment: Vec::new(), input: input(peer, action)?.into_bytes() };
        self.runner.try_run(&self.program, &told, peer.timeout, self.stop.as_fd()).map_err(|failure| match failure {
            Failure::Ill(why) | Failure::Unable(why) => why,
            Failure::Stopped => "nobody waited for it".to_owned(),
        })
    }
}

fn input(peer: &FencePeer, action: &str) -> Result<String, String> {
    let mut input = format!("nodename={}\naction={action}\n", peer.name);
    for (name, value) in &peer.options {
        input.push_str(&format!("{name}={value}\n"));
    }
    for (name, path) in &peer.secrets {
        let mut secret = String::new();
        let read = File::open(path).and_then(|file| file.take(LONGEST_SECRET).read_to_string(&mut secret));
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
    use std::path::PathBuf;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::scratch::Scratch;

    struct Place(Scratch);

    impl Place {
        fn new(name: &str) -> Self {
            Self(Scratch::new(&format!("fencing-{name}")))
        }

        fn peer(&self, script: &str) -> FencePeer {
            FencePeer {
                name: "db-b".into(),
                addresses: Vec::new(),
                program: shown(
                    self.0.program("fence_test", &format!("#!/bin/sh\ncd {}\n{script}", self.0.path().display())),
                ),
                action: FenceAction::Off,
                options: vec![("ip".into(), "192.0.2.7".into())],
                secrets: vec![("password".into(), shown(self.0.file("secret", "hunter2\n", 0o600)))],
                timeout: Duration::from_secs(10),
                attempts: 2,
            }
        }
    }

    fn shown(path: PathBuf) -> String {
        path.display().to_string()
    }

    #[test]
    fn it_is_told_what_to_do_on_standard_input_and_believed_once_it_is_off() {
        let place = Place::new("told");
        let peer = place.peer("cat >> told; env >> env; grep -q action=status told && exit 2; exit 0");
        assert!(fence(&peer).expect("it is off").contains("reports that it is off (attempt 1)"));
        let told = std::fs::read_to_string(place.0.path().join("told")).expect("it ran");
        let one = |action: &str| format!("nodename=db-b\naction={action}\nip=192.0.2.7\npassword=hunter2\n");
        assert_eq!(told, one("off") + &one("status"));
        let env = std::fs::read_to_string(place.0.path().join("env")).expect("it ran");
        assert!(!env.contains("CARGO"), "{env}");
    }

    #[test]
    fn what_is_said_to_be_off_and_is_not_is_not_believed() {
        let place = Place::new("lies");
        let error = fence(&place.peer("echo run >> runs; echo 'no way' >&2; exit 0")).expect_err("it is on");
        assert!(error.contains("status: exit code 0: no way") && !error.contains("hunter2"), "{error}");
        assert_eq!(std::fs::read_to_string(place.0.path().join("runs")).expect("it ran").lines().count(), 4);
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
        assert!(error.contains("no answer within 300ms"), "{error}");
        let child = std::fs::read_to_string(place.0.path().join("child")).expect("it ran");
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
