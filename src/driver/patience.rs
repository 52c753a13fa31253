//! Waiting with a deadline: a timer of the kernel's and a pipe that is closed when nobody wants to know any more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::attempt::Failure;

/// A beat. A beat that was missed is not made up for.
#[derive(Debug)]
pub(super) struct Period(TimerFd);

impl Period {
    /// The first one after `first`, then each `interval`.
    pub(super) fn new(first: Duration, interval: Duration) -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        // None at all would disarm it.
        let first = first.max(Duration::from_nanos(1));
        let beats = Expiration::IntervalDelayed(TimeSpec::from_duration(first), TimeSpec::from_duration(interval));
        timer.set(beats, TimerSetTimeFlags::empty())?;
        Ok(Self(timer))
    }

    /// Waits for the next beat. False: nobody wants to know any more.
    pub(super) fn wait(&self, stop: BorrowedFd<'_>) -> bool {
        loop {
            match poll_all(&mut [readable(self.0.as_fd()), readable(stop)]).as_deref() {
                Ok([_, true, ..]) | Err(_) => return false,
                Ok([true, ..]) => return self.0.wait().is_ok(),
                Ok(_) => {}
            }
        }
    }
}

/// What one run may take.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    timer: TimerFd,
    timeout: Duration,
    stop: BorrowedFd<'a>,
}

impl<'a> Patience<'a> {
    /// From now on.
    pub(super) fn new(timeout: Duration, stop: BorrowedFd<'a>) -> Result<Self, Failure> {
        let set = || {
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
            timer.set(Expiration::OneShot(TimeSpec::from_duration(timeout)), TimerSetTimeFlags::empty())?;
            Ok(timer)
        };
        let timer = set().map_err(|error: Errno| Failure::Unable(error.to_string()))?;
        Ok(Self { timer, timeout, stop })
    }

    /// From now on, and so much longer.
    pub(super) fn longer(&self, more: Duration) -> Result<Self, Failure> {
        Self::new(self.timeout.saturating_add(more), self.stop)
    }

    /// All of it.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits until one of these is ready, and says which are.
    pub(super) fn wait<'f>(&'f self, wanted: impl IntoIterator<Item = PollFd<'f>>) -> Result<Vec<bool>, Failure> {
        let mut all = vec![readable(self.stop), readable(self.timer.as_fd())];
        all.extend(wanted);
        loop {
            let ready = poll_all(&mut all).map_err(|error| Failure::Unable(error.to_string()))?;
            match ready.split_at_checked(2) {
                Some(([true, _], _)) => return Err(Failure::Stopped),
                Some(([_, true], _)) => return Err(Failure::Ill(format!("no answer within {:?}", self.timeout))),
                Some((_, wanted)) if wanted.contains(&true) => return Ok(wanted.to_vec()),
                Some(_) | None => {}
            }
        }
    }
}

/// To wait for something to read, or for the end.
pub(super) fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

/// To wait for room to write, or for a connection.
pub(super) fn writable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLOUT)
}

fn poll_all(fds: &mut [PollFd<'_>]) -> io::Result<Vec<bool>> {
    loop {
        match poll(fds, PollTimeout::NONE) {
            Ok(_) => return Ok(fds.iter().map(|fd| fd.any().unwrap_or(true)).collect()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
