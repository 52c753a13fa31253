//! `vipd events`: what happened on this node, and on what evidence.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Exit;
use super::output::{complain, print_on};
use crate::daemon::clock;
use crate::daemon::journal_file::Reader;
use crate::daemon::record::Record;
use crate::driver::state_dir;

/// A follower looks again after so long even if the kernel tells of nothing, in milliseconds.
const LOOK_AGAIN_MS: u16 = 5_000;

/// Show what happened on this node, and why
///
/// One line an event, the oldest first: when, which virtual IP, and what. The journal outlives the agent: it is read from the
/// state directory, whether an agent runs or not. It keeps the last 1 to 2 MiB, which is some thousands of events.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done, 2 usage, 5 not permitted (it is for root and the agent's user), 6 the journal \
                        cannot be read.\n\nExamples:\n  \
                        vipd events --since 1h\n  \
                        vipd events --follow --vip postgres\n  \
                        vipd events --json | jq 'select(.kind == \"conflict\") | .evidence'"
)]
pub(super) struct Args {
    /// Only events of this virtual IP
    #[arg(long, value_name = "NAME")]
    vip: Option<String>,
    /// Only events since then: a time span before now, such as `90s`, `1h` or `2days`, or a time as RFC 3339
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// Go on with those that come
    #[arg(short, long)]
    follow: bool,
    /// Print each event as one JSON object on a line, with its evidence
    #[arg(long)]
    json: bool,
    /// Where the agent keeps its state
    #[arg(long, value_name = "DIR", default_value = state_dir::DEFAULT_PATH)]
    state_dir: PathBuf,
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        match self.show() {
            Ok(()) => Ok(Exit::Done),
            Err(Failure::Printing(error)) => Err(error),
            Err(Failure::Reading(error)) => Ok(unreadable(&error)),
        }
    }

    fn show(&self) -> Result<(), Failure> {
        let news = if self.follow { Some(watch(&self.state_dir)?) } else { None };
        let mut reader = Reader::open(&self.state_dir).map_err(Failure::Reading)?;
        let mut damaged = 0;
        loop {
            while let Some(record) = reader.next_record().map_err(Failure::Reading)? {
                if self.wants(&record) && !print_on(&self.line(&record)?).map_err(Failure::Printing)? {
                    return Ok(());
                }
            }
            if reader.damaged() > damaged {
                damaged = reader.damaged();
                complain(&format!("vipd: damaged lines of the journal were left out: {damaged}\n"));
            }
            match &news {
                Some(news) if wait(news)? => {}
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn wants(&self, record: &Record) -> bool {
        // That the agent still runs is for reckoning only.
        if record.kind == "running" && !self.json {
            return false;
        }
        let recent = self.since.is_none_or(|since| humantime::parse_rfc3339(&record.at).is_ok_and(|at| at >= since));
        recent && self.vip.as_ref().is_none_or(|vip| record.vip.as_ref() == Some(vip))
    }

    fn line(&self, record: &Record) -> Result<String, Failure> {
        if self.json {
            let json = serde_json::to_string(record).map_err(|error| Failure::Reading(error.into()))?;
            return Ok(format!("{json}\n"));
        }
        let vip = record.vip.as_deref().unwrap_or("-");
        // The file is the agent's alone, and a terminal is not to be trusted to it all the same.
        let text: String = record.text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        Ok(format!("{}  {vip}  {text}\n", record.at))
    }
}

enum Failure {
    Reading(io::Error),
    Printing(io::Error),
}

/// Says why a journal cannot be read, and what to do about it.
pub(super) fn unreadable(error: &io::Error) -> Exit {
    let (exit, remedy) = match error.kind() {
        io::ErrorKind::NotFound => (Exit::Refused, ": has an agent run here? --state-dir names another place"),
        io::ErrorKind::PermissionDenied => (Exit::NotPermitted, ": it is for root and the agent's user"),
        _ => (Exit::Refused, ""),
    };
    complain(&format!("vipd: {error}{remedy}\n"));
    exit
}

pub(super) fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(clock::wall().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| "neither a time span such as `1h` nor a time such as `2026-01-31T12:00:00Z`".to_owned())
}

fn watch(dir: &Path) -> Result<Inotify, Failure> {
    let watched = || {
        let news = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        news.add_watch(dir, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        Ok(news)
    };
    watched().map_err(|error: nix::Error| {
        let error = io::Error::from(error);
        Failure::Reading(io::Error::new(error.kind(), format!("cannot follow {}: {error}", dir.display())))
    })
}

/// Until something in the directory has changed. Whether anybody still reads what is printed.
fn wait(news: &Inotify) -> Result<bool, Failure> {
    let failed = |error: nix::Error| Failure::Reading(error.into());
    let out = io::stdout();
    // Of a pipe that nobody reads any more the kernel tells without being asked.
    let mut fds = [PollFd::new(news.as_fd(), PollFlags::POLLIN), PollFd::new(out.as_fd(), PollFlags::empty())];
    let changed = match poll(&mut fds, PollTimeout::from(LOOK_AGAIN_MS)) {
        Ok(0) | Err(nix::Error::EINTR) => return Ok(true),
        Ok(_) => news.read_events(),
        Err(error) => return Err(failed(error)),
    };
    match changed {
        Ok(_) | Err(nix::Error::EAGAIN) => {
            Ok(!fds[1].revents().is_some_and(|there| there.contains(PollFlags::POLLERR)))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn since_takes_spans_and_times() {
        assert!(since("1h").expect("a span") < since("1s").expect("a span"));
        let at = since("2026-01-31 12:00:00").expect("a time");
        assert_eq!(at, SystemTime::UNIX_EPOCH + Duration::from_secs(1_769_860_800));
        assert!(since("yesterday").is_err());
    }
}
