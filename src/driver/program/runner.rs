//! Runs programs one after the other, each with a deadline and without the agent's capabilities.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::apart::Connection;
use super::run::{self, Ended, Leftover};
use super::{Program, Told};
use crate::driver::attempt::{Failure, one_line};
use crate::driver::patience::Patience;

/// Runs one program after the other on the thread that it was made on, or has them run by the process apart.
#[derive(Debug)]
pub struct Runner(Hands);

#[derive(Debug)]
enum Hands {
    Own { leftover: Option<Leftover>, dropped: io::Result<()> },
    Apart(Option<Connection>),
}

impl Runner {
    /// From now on programs get none of the agent's capabilities.
    pub fn on_this_thread() -> Self {
        if super::apart::is_there() { Self(Hands::Apart(None)) } else { Self::of_this_process() }
    }

    /// As [`Self::on_this_thread`], where there is no process apart, or this is it.
    pub(super) fn of_this_process() -> Self {
        Self(Hands::Own { leftover: None, dropped: run::drop_ambient_capabilities() })
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
        let said = self.try_run(program, told, timeout, stop).and_then(Ended::passed);
        said.map(|said| one_line(&said)).map_err(in_one_line)
    }

    /// The end of all that it said, if it ended with 0.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn output(
        &mut self,
        program: &Program,
        timeout: Duration,
        stop: BorrowedFd<'_>,
    ) -> Result<String, Option<String>> {
        self.try_run(program, &Told::default(), timeout, stop).and_then(Ended::passed_with_all).map_err(in_one_line)
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
        match &mut self.0 {
            Hands::Own { leftover, dropped: Ok(()) } => run::run(program, told, patience, leftover),
            Hands::Own { leftover: _, dropped: Err(error) } => {
                Err(Failure::Unable(format!("the agent's capabilities cannot be dropped: {error}")))
            }
            Hands::Apart(connection) => Connection::run(connection, program, told, patience),
        }
    }
}

fn in_one_line(failure: Failure) -> Option<String> {
    match failure {
        Failure::Ill(why) | Failure::Unable(why) => Some(one_line(&why)),
        Failure::Stopped => None,
    }
}
