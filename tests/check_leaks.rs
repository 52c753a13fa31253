//! Many runs of checks leave nothing behind. In a process of its own, where nobody else opens files or starts programs.
//!
//! `VIPD_CHECK_RUNS=10000` is how many in all; 2,000 where nobody says so.

#![cfg(feature = "agent")]
#![allow(clippy::disallowed_methods, reason = "programs live in real time")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use vipd::driver::checks::{Check, Probe, Running};
use vipd::driver::program::Program;
use vipd::engine::CheckOutcome;

/// So many run side by side.
const CHECKS: usize = 20;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Children of this process, dead or alive.
fn children() -> Vec<String> {
    let own = format!(" {} ", std::process::id());
    let stats = fs::read_dir("/proc").expect("there is /proc").flatten();
    let stats = stats.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    // `PID (NAME) STATE PARENT ...`
    stats
        .filter(|stat| {
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.get(2..).is_some_and(|it| it.starts_with(&own)))
        })
        .collect()
}

#[test]
fn thousands_of_runs_that_end_fail_hang_and_fork_leave_no_descriptor_and_no_process() {
    let runs = std::env::var("VIPD_CHECK_RUNS").map_or(2_000, |runs| runs.parse().expect("a number"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("leaks-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the target directory can be written to");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let ends = ["exit 0", "exit 1", "exec sleep 60", "sleep 60 & exit 0", "exec yes"];
    let programs: Vec<_> = (0..)
        .zip(ends)
        .map(|(number, lines)| {
            let path = folder.join(format!("program-{number}"));
            fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("it is ours");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
            path.display().to_string()
        })
        .collect();
    let before = descriptors();
    let start = Instant::now();
    let (to_test, results) = channel();
    let running: Vec<Running> = (0..CHECKS)
        .map(|number| {
            let command = vec![programs[number % programs.len()].clone()];
            let check = Check {
                name: number.to_string(),
                interval: Duration::from_millis(1),
                timeout: Duration::from_millis(20),
                probe: Probe::Exec(Program { command, user: None }),
            };
            let to_test = to_test.clone();
            Running::start(check, (0, 1), move |_, result| to_test.send(result.outcome).is_ok()).expect("it starts")
        })
        .collect();
    let (mut passed, mut failed, mut most) = (0, 0, 0);
    for (number, outcome) in results.iter().take(runs).enumerate() {
        match outcome {
            CheckOutcome::Passed(_) => passed += 1,
            CheckOutcome::Failed => failed += 1,
            CheckOutcome::Unable => panic!("nothing speaks against a run"),
        }
        if number % 100 == 0 {
            most = most.max(descriptors());
        }
    }
    drop(running);
    eprintln!("{runs} runs in {:?}: {passed} passed, {failed} failed, {most} descriptors at most", start.elapsed());
    assert!(failed > runs / 10, "{passed} and {failed}");
    // A check holds its timer and the pipe to end it; a run adds its own timer, a pipe, and what it takes to start a program.
    assert!(most <= before + CHECKS * 16, "{before}, then {most}");
    assert_eq!(descriptors(), before);
    assert_eq!(children(), Vec::<String>::new());
    fs::remove_dir_all(&folder).expect("it is ours");
}
