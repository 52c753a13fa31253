//! The real agent, as processes on hosts that are network namespaces: what only a kernel can show.
//!
//! Each test makes a network of its own, so they run side by side; they wait most of the time. Runs as root or as an ordinary
//! user, where there is no real-time scheduling. Bounds of time are generous: the machine may be busy. What the bounds are about
//! is printed with `--nocapture`.
//!
//! `VIPD_FLOOD_PACKETS=100000` makes the flood of `hostile` larger, `VIPD_LATENESS_ROUNDS=60` the comparison of `health` longer.

#![allow(clippy::disallowed_methods, reason = "processes and kernels live in real time")]
#![allow(unreachable_pub, reason = "a test is a crate of its own")]

mod alert;
mod commands;
mod conflict;
mod fence;
mod freeze;
mod gateway;
mod handover;
#[path = "../harness/mod.rs"]
mod harness;
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

use harness::{TwoOwners, lone_trial, trial};
use libtest_mimic::Trial;
use vipd::lab;

/// How many tests run at once unless the command line says otherwise. They sleep most of the time.
const AT_ONCE: usize = 6;

fn main() -> ExitCode {
    if let Err(error) = lab::enter() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    harness::run(AT_ONCE, trials())
}

/// The longest first, so that none is left for the end; one that takes all processors last.
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
