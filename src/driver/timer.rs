//! One deadline, exact to microseconds: what a runtime's timer wheel, which counts in milliseconds, cannot give.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::error::context;

/// A timer on `CLOCK_BOOTTIME`. Its descriptor is readable from the deadline on, until it is cleared. Never blocks.
#[derive(Debug)]
pub struct Timer {
    timer: TimerFd,
}

impl Timer {
    /// A timer without a deadline.
    ///
    /// # Errors
    ///
    /// Where the kernel gives none.
    pub fn open() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
            .map_err(|error| context("make a timer")(error.into()))?;
        Ok(Self { timer })
    }

    /// Replaces the deadline, in nanoseconds of `CLOCK_BOOTTIME`. One that has passed is due at once; `None`: never.
    /// An expiry that was not cleared is forgotten.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn set(&self, deadline_ns: Option<u64>) -> io::Result<()> {
        match deadline_ns {
            // To the kernel, 0 is never.
            Some(deadline) => self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(deadline.max(1)))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            ),
            None => self.timer.unset(),
        }
        .map_err(|error| context("set a timer")(error.into()))
    }

    /// Whether the deadline has come since this was last asked.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn clear(&self) -> io::Result<bool> {
        match self.timer.wait() {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(error) => Err(context("read a timer")(error.into())),
        }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, poll};
    use nix::time::{ClockId, clock_gettime};

    use super::*;

    fn now_ns() -> u64 {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the clock runs"));
        u64::try_from(now.as_nanos()).expect("centuries")
    }

    fn is_due_within(timer: &Timer, ms: u16) -> bool {
        let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, ms).expect("a timer can be polled") == 1
    }

    #[test]
    fn fires_at_its_deadline_and_not_before() {
        let timer = Timer::open().expect("a timer");
        assert!(!timer.clear().expect("readable"), "it has no deadline yet");
        let deadline = now_ns() + 20_000_000;
        timer.set(Some(deadline)).expect("set");
        assert!(!timer.clear().expect("readable"));
        assert!(is_due_within(&timer, 5_000));
        assert!(now_ns() >= deadline);
        assert!(timer.clear().expect("readable"));
        assert!(!timer.clear().expect("readable"), "once");
    }

    #[test]
    fn a_deadline_that_has_passed_is_due_at_once() {
        let timer = Timer::open().expect("a timer");
        for past in [0, 1, now_ns() - 1] {
            timer.set(Some(past)).expect("set");
            assert!(is_due_within(&timer, 5_000), "{past}");
            assert!(timer.clear().expect("readable"));
        }
    }

    #[test]
    fn a_withdrawn_deadline_never_comes() {
        let timer = Timer::open().expect("a timer");
        timer.set(Some(1)).expect("set");
        timer.set(None).expect("set");
        assert!(!is_due_within(&timer, 0) && !timer.clear().expect("readable"));
        timer.set(Some(u64::MAX)).expect("set");
        assert!(!is_due_within(&timer, 0));
    }
}
