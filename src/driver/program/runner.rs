//! Runs programs one after the other, each with a deadline and without the agent's capabilities.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::run::{self, Ended, Leftover};
use super::{Program, Told};
use crate::driver::attempt::{Failure, one_line};
use crate::driver::patience::Patience;

/// Runs one program after the other on the thread that it was made on.
#[derive(Debug)]
pub struct Runner {
    leftover: Option<Leftover>,
    dropped: io::Result<()>,
}

impl Runner {
    /// From now on programs get none of the agent's capabilities.
    pub fn on_this_thread() -> Self {
        Self { leftover: None, dropped: run::drop_ambient_capabilities() }
    }

    /// The last line that it said, if it ended with 0.
    ///
    /// # Errors
    ///
    /// What was wrong, in one line; `None`: nobody wanted to wait for it any longer, and it was killed.
    pub fn run(
        &mut self,
        program: &Program,
        told: &Told,
        timeout: Duration,
        stop: BorrowedFd<'_>,
    ) -> Result<String, Option<String>> {
        match self.try_run(program, told, timeout, stop).and_then(Ended::passed) {
            Ok(said) => Ok(one_line(&said)),
            Err(Failure::Ill(why) | Failure::Unable(why)) => Err(Some(one_line(&why))),
            Err(Failure::Stopped) => Err(None),
        }
    }

    /// As [`Self::run`], for whom other exit codes than 0 mean something.
    pub(in crate::driver) fn try_run(
        &mut self,
        program: &Program,
        told: &Told,
        timeout: Duration,
        stop: BorrowedFd<'_>,
    ) -> Result<Ended, Failure> {
        self.run_within(program, told, &Patience::new(timeout, stop)?)
    }

    /// As [`Self::try_run`], for what has begun already.
    pub(in crate::driver) fn run_within(
        &mut self,
        program: &Program,
        told: &Told,
        patience: &Patience<'_>,
    ) -> Result<Ended, Failure> {
        let Self { leftover, dropped } = self;
        match dropped {
            Ok(()) => run::run(program, told, patience, leftover),
            Err(error) => Err(Failure::Unable(format!("the agent's capabilities cannot be dropped: {error}"))),
        }
    }
}
