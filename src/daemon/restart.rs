//! Whether a stop is only half of a restart: then what is owned is left for the next agent to go on with.
//!
//! systemd sends the same signal for both, and tells by its list of jobs which of them is under way.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::driver::program::{Program, Runner};

/// How long systemd may take to answer. A stop that takes longer than this to begin would be felt; without an answer it
/// is one.
const PATIENCE: Duration = Duration::from_millis(500);
/// Where it may be.
const SYSTEMCTL: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];

/// Asks systemd. No, where the agent is not its service or it does not answer.
pub(super) async fn is_under_way() -> bool {
    let Some(unit) = own_unit() else { return false };
    match spawn_blocking(jobs).await {
        Ok(Ok(jobs)) => restarts(&jobs, &unit),
        Ok(Err(error)) => {
            tracing::warn!("systemd does not say whether this is a restart: stopping ({error})");
            false
        }
        // The runtime ends.
        Err(_) => false,
    }
}

/// What systemd is asked by, where it is installed.
pub(super) fn question() -> Option<Program> {
    let systemctl = SYSTEMCTL.iter().find(|place| Path::new(place).exists())?;
    let command = [systemctl, "list-jobs", "--full", "--no-legend", "--no-pager", "--plain"];
    Some(Program { command: command.map(str::to_owned).to_vec(), user: None })
}

fn jobs() -> Result<String, String> {
    let program = question().ok_or("there is no systemctl")?;
    // Nobody calls it back.
    let (stop, _stopper) = io::pipe().map_err(|error| error.to_string())?;
    let jobs = Runner::on_this_thread().output(&program, PATIENCE, stop.as_fd());
    jobs.map_err(|why| why.unwrap_or_else(|| "it was stopped".to_owned()))
}

/// The service that this process is, where systemd started it.
fn own_unit() -> Option<String> {
    std::env::var_os("INVOCATION_ID")?;
    unit_of(&std::fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The last part of the control group's path, in either version's format.
fn unit_of(cgroups: &str) -> Option<String> {
    let units = cgroups.lines().filter_map(|line| line.rsplit('/').next());
    units.into_iter().find(|unit| unit.ends_with(".service")).map(str::to_owned)
}

/// Whether a list of jobs (number, unit, type, state) has a restart of the unit.
fn restarts(jobs: &str, unit: &str) -> bool {
    jobs.lines().any(|job| {
        let mut fields = job.split_whitespace().skip(1);
        (fields.next(), fields.next()) == (Some(unit), Some("restart"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_of_this_unit_is_told_from_other_jobs() {
        let jobs = "7 ssh.service restart waiting\n8 vipd.service restart running\n";
        assert!(restarts(jobs, "vipd.service"));
        assert!(!restarts(jobs, "vipd2.service"));
        assert!(!restarts("8 vipd.service stop running\n", "vipd.service"));
        assert!(!restarts("", "vipd.service"));
    }

    #[test]
    fn the_unit_stands_in_the_control_group() {
        assert_eq!(unit_of("0::/system.slice/vipd.service\n").as_deref(), Some("vipd.service"));
        assert_eq!(unit_of("1:name=systemd:/system.slice/vipd.service\n0::/\n").as_deref(), Some("vipd.service"));
        assert_eq!(unit_of("0::/user.slice/session-1.scope\n"), None);
    }
}
