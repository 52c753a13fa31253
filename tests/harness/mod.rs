//! How the trials that need real kernels and processes are run: several at once, as they wait most of the time; and one that failed
//! once more, while no other runs.
//!
//! They live in real time on a machine that may be small and busy: a host that stands still for half a second is deposed, as it should
//! be, but not for the cause that a trial is about. What fails again alone is a failure. What no busy machine excuses, [`TwoOwners`], is one
//! at once.

#![allow(dead_code, unreachable_pub, reason = "a part of several crates, and not each needs all of it")]

use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

/// Held for writing by a trial that runs alone, and by the others for reading.
static MACHINE: RwLock<()> = RwLock::new(());

/// Two hosts answered for an address.
#[derive(Debug, thiserror::Error)]
#[error("two hosts answered for {0:?}")]
pub struct TwoOwners(pub Duration);

impl TwoOwners {
    /// An error unless the time is zero.
    ///
    /// # Errors
    /// Two hosts answered for so long.
    pub fn never(time: Duration) -> Result<(), Self> {
        if time.is_zero() { Ok(()) } else { Err(Self(time)) }
    }
}

/// Runs trials, so many at once unless the command line says otherwise.
pub fn run(at_once: usize, trials: impl IntoIterator<Item = Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_once);
    libtest_mimic::run(&arguments, trials.into_iter().collect()).exit_code()
}

/// A trial that runs beside others.
pub fn trial(name: &str, test: impl Fn() -> Result<()> + Send + 'static) -> Trial {
    let told = name.to_owned();
    Trial::test(name, move || {
        let beside_others = || {
            let _guard = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
            test()
        };
        tried(&told, beside_others, || alone(&test)).map_err(failed)
    })
}

/// Once, and once more where that failed otherwise than by two owners.
pub fn tried(name: &str, beside_others: impl FnOnce() -> Result<()>, alone: impl FnOnce() -> Result<()>) -> Result<()> {
    match beside_others() {
        Err(error) if !error.is::<TwoOwners>() => {
            eprintln!("{name}: failed, and is tried once more, alone: {error:#}");
            alone()
        }
        result => result,
    }
}

/// A trial that takes the whole machine.
pub fn lone_trial(name: &str, test: impl Fn() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || alone(&test).map_err(failed))
}

/// The same of a test that panics where it fails.
pub fn panicking(test: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::spawn(test).join().map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        anyhow::Error::msg(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned())
    })
}

fn alone(test: &impl Fn() -> Result<()>) -> Result<()> {
    let _guard = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    test()
}

fn failed(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}
