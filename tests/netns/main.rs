//! The real agent, as processes on hosts that are network namespaces: what only a kernel can show.
//!
//! Each test makes a network of its own, so they run side by side; they wait most of the time. Runs as root or as an ordinary
//! user, where there is no real-time scheduling. Bounds of time are generous: the machine may be busy. What the bounds are about
//! is printed with `--nocapture`.
//!
//! `VIPD_FLOOD_PACKETS=100000` makes the flood of `hostile` larger.

#![allow(clippy::disallowed_methods, reason = "processes and kernels live in real time")]
#![allow(unreachable_pub, reason = "a test is a crate of its own")]

mod alert;
mod commands;
mod conflict;
mod fence;
mod freeze;
mod gateway;
mod handover;
mod health;
mod holds;
mod hook;
mod hostile;
mod isolation;
mod journal;
mod layers;
mod links;
mod many;
mod peers;
mod postgres;
mod quorum;
mod recipes;
mod reload;
mod restore;
mod routes;
mod sandbox;
mod sealed;
mod second_path;
mod silence;
mod spread;
mod stop;
mod support;
mod takeover;
mod virtual_mac;

use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use vipd::lab;

/// How many tests run at once unless the command line says otherwise. They sleep most of the time.
const AT_ONCE: usize = 4;

/// Held for writing by a test that takes all processors, and by the others for reading.
static PROCESSORS: RwLock<()> = RwLock::new(());

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(AT_ONCE));
    if let Err(error) = lab::enter() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&arguments, trials()).exit_code()
}

/// The longest first, so that none is left for the end; the one that takes all processors last.
fn trials() -> Vec<Trial> {
    let modules = [
        peers::trials(),
        many::trials(),
        quorum::trials(),
        layers::trials(),
        health::trials(),
        postgres::trials(),
        recipes::trials(),
        spread::trials(),
        hostile::trials(),
        second_path::trials(),
        handover::trials(),
        silence::trials(),
        isolation::trials(),
        takeover::trials(),
        links::trials(),
        reload::trials(),
        restore::trials(),
        gateway::trials(),
        routes::trials(),
        sealed::trials(),
        conflict::trials(),
        virtual_mac::trials(),
        stop::trials(),
        commands::trials(),
        sandbox::trials(),
        journal::trials(),
        holds::trials(),
        fence::trials(),
        hook::trials(),
        alert::trials(),
        freeze::trials(),
    ];
    modules.into_iter().flatten().collect()
}

/// A test that runs beside others.
fn trial(name: &str, test: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || {
        let _guard = PROCESSORS.read().unwrap_or_else(PoisonError::into_inner);
        test().map_err(|error| format!("{error:#}").into())
    })
}

/// A test that runs alone.
fn lone_trial(name: &str, test: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || {
        let _guard = PROCESSORS.write().unwrap_or_else(PoisonError::into_inner);
        test().map_err(|error| format!("{error:#}").into())
    })
}
