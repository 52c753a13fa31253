//! vipd and keepalived side by side, in the same lab and run, alternating.
//!
//! `cargo bench --bench keepalived` does all of it in some 12 minutes; `-- --quick` in 3. `-- failover load addresses routers` picks parts.
//! keepalived comes from `$PATH` or `VIPD_TEST_KEEPALIVED`.

#![allow(clippy::disallowed_methods, reason = "it measures what others do, in real time")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use vipd::lab::{self, Software, find_program};

mod addresses;
mod failover;
mod listen;
mod load;
mod report;
mod routers;

/// Measures vipd and keepalived side by side.
#[derive(Debug, Parser)]
struct Options {
    /// What to measure; default: all
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// How often each failover is measured; default: 10, and 5 at adverts of 1 s
    #[arg(long)]
    repeat: Option<usize>,
    /// For how long CPU time is counted, in seconds
    #[arg(long, default_value = "30")]
    seconds: u64,
    /// Fewer repeats and shorter times, for a first look
    #[arg(long)]
    quick: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// host-kill and stop at adverts of 10 ms, 100 ms and 1 s
    Failover,
    /// CPU and memory with 1, 50, 250 and 1,000 virtual routers
    Load,
    /// Takeover of a vip with 1,000 addresses
    Addresses,
    /// 1,000 virtual routers on 4 interfaces: start and takeover
    Routers,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match lab::enter().and_then(|()| measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    let named = std::env::var_os("VIPD_TEST_KEEPALIVED").map(PathBuf::from);
    let keepalived = named.or_else(|| find_program("keepalived", &[])).context("keepalived is not installed")?;
    let both = [Software::Vipd(PathBuf::from(env!("CARGO_BIN_EXE_vipd"))), Software::Keepalived(keepalived)];
    let wanted = |part| options.parts.is_empty() || options.parts.contains(&part);
    let repeats = |usual| options.repeat.unwrap_or(if options.quick { 3 } else { usual });
    println!("Priorities 200 and 100. RATIO is vipd's figure over keepalived's: below 1.00, vipd is better.");
    if wanted(Part::Failover) {
        failover::measure(&both, repeats)?;
    }
    if wanted(Part::Addresses) {
        addresses::measure(&both, repeats(5))?;
    }
    if wanted(Part::Routers) {
        routers::measure(&both, repeats(3).min(3))?;
    }
    if wanted(Part::Load) {
        load::measure(&both, Duration::from_secs(if options.quick { 10 } else { options.seconds }))?;
    }
    Ok(())
}
