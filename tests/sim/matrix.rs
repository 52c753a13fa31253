//! The fault matrix: what a network, a host, an operator or a stranger can do to a pair, each done to the same pair and judged by
//! the same five sentences.
//!
//! (a) never two owners, outside a declared window; (b) an owner within a bound; (c) the neighbours believe the owner; (d) nothing is left
//! after the end; (e) each transition has a recorded cause. [`super::watch`] judges besides, as in every world.
//!
//! The faults are in `matrix/`: of hosts, of the network, of strangers, of operators.
//!
//! `tests/golden/fault-matrix.md` is the table for readers, with the tests that show the same to a real kernel;
//! `VIPD_BLESS=1 cargo test --test sim matrix` writes it anew. A test that it names and that is not there is a failure.

mod hosts;
mod network;
mod operators;
mod strangers;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use vipd::engine::Preempt;

use super::build::{VIP_V4, host, secs, vip};
use super::host::Life;
use super::network::Network;
use super::world::World;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/fault-matrix.md");

/// Three intervals, the skew time of priority 100, and a moment for the kernel.
const TAKEOVER: Duration = Duration::from_millis(365);

/// After the repair: long enough for a claim, its repeated announcement, and what might still go wrong.
const SETTLE: Duration = Duration::from_secs(3);

/// A row of the matrix.
struct Row {
    fault: &'static str,
    shown: Shown,
    /// Real agents on a real kernel, as `file: test`, below `tests/`.
    kernel: &'static [&'static str],
}

enum Shown {
    /// Here.
    Here(Scenario),
    /// By another test of the simulator, for this reason.
    There(&'static str, &'static str),
    /// Not by the simulator, for this reason.
    NotHere(&'static str),
    /// Not at all yet: what it is about is not there.
    NotYet(&'static str),
}

/// What is done to the pair, and undone.
struct Scenario {
    strike: fn(&mut World),
    lasts: Duration,
    heal: fn(&mut World),
    /// For how long two may own while it lasts.
    two: Duration,
    /// For how long nobody may own.
    nobody: Duration,
}

impl Shown {
    /// One owner goes, and another comes.
    const fn taken_over(strike: fn(&mut World), lasts: Duration, heal: fn(&mut World)) -> Self {
        Self::Here(Scenario { strike, lasts, heal, two: Duration::ZERO, nobody: TAKEOVER })
    }

    /// The two cannot hear each other, or hear somebody else, and own both meanwhile.
    const fn two_owners(strike: fn(&mut World), lasts: Duration, heal: fn(&mut World)) -> Self {
        Self::Here(Scenario { strike, lasts, heal, two: lasts.saturating_add(TAKEOVER), nobody: TAKEOVER })
    }

    /// There may be nobody who could own for a while.
    const fn nobody_for(nobody: Duration, strike: fn(&mut World), lasts: Duration, heal: fn(&mut World)) -> Self {
        Self::Here(Scenario { strike, lasts, heal, two: Duration::ZERO, nobody })
    }
}

const fn nothing(_: &mut World) {}

const fn row(fault: &'static str, shown: Shown, kernel: &'static [&'static str]) -> Row {
    Row { fault, shown, kernel }
}

/// In the order in which faults come to mind.
fn matrix() -> Vec<Row> {
    [hosts::rows(), network::rows(), strangers::rows(), operators::rows()].into_iter().flatten().collect()
}

#[test]
fn every_fault_of_the_matrix_keeps_the_five_invariants() {
    let mut failures = Vec::new();
    for row in matrix() {
        if let Shown::Here(scenario) = &row.shown
            && let Err(why) = judge(scenario)
        {
            failures.push(format!("{}: {why}", row.fault));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_matrix_is_the_golden_one_and_names_tests_that_are_there() {
    let mut text = String::from(
        "# The fault matrix\n\nWritten by `VIPD_BLESS=1 cargo test --test sim matrix` from `tests/sim/matrix.rs`; the test fails where they \
         differ, and where a test that is named does not exist.\n\n| fault | in the simulator | against a kernel |\n|---|---|---|\n",
    );
    for row in matrix() {
        let simulated = match &row.shown {
            Shown::Here(Scenario { two, nobody, .. }) => {
                let two = if two.is_zero() {
                    "never two owners".to_owned()
                } else {
                    format!("two owners for {two:?} at most")
                };
                let nobody =
                    if nobody.is_zero() { "always one".to_owned() } else { format!("none for {nobody:?} at most") };
                format!("{two}, {nobody}")
            }
            Shown::There(file, test) => {
                require(&format!("sim/{file}"), &format!("fn {test}("));
                format!("`{test}`")
            }
            Shown::NotHere(why) => format!("no: {why}"),
            Shown::NotYet(why) => format!("**not yet**: {why}"),
        };
        let kernel: Vec<String> = row
            .kernel
            .iter()
            .map(|place| {
                let (file, test) = place.split_once(": ").expect("written as FILE: TEST");
                require(file, &format!("\"{test}\""));
                format!("`{test}`")
            })
            .collect();
        writeln!(text, "| {} | {simulated} | {} |", row.fault, kernel.join(", ")).expect("a string takes all");
    }
    if std::env::var_os("VIPD_BLESS").is_some() {
        std::fs::write(PATH, &text).expect("writable");
        return;
    }
    let golden = std::fs::read_to_string(PATH).expect("tests/golden/fault-matrix.md is in the repository");
    for (is, was) in text.lines().zip(golden.lines()) {
        assert_eq!(is, was, "VIPD_BLESS=1 takes what is");
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "VIPD_BLESS=1 takes what is");
}

/// A test that is named exists.
fn require(file: &str, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.contains(name), "no test {name} in {}", path.display());
}

/// The matrix is judged by a judge that can fail.
#[test]
fn a_pair_without_the_kernels_lease_does_not_pass() {
    let scenario = Scenario {
        strike: |world| {
            world.gate = false;
            world.watch.forgiving = true;
            world.freeze(0);
        },
        // A backup that asks waits for 3 s while the address answers.
        lasts: secs(6),
        heal: |world| world.thaw(0),
        two: Duration::ZERO,
        nobody: TAKEOVER,
    };
    let why = judge(&scenario).expect_err("two hosts answer");
    assert!(why.contains("two owners"), "{why}");
}

fn judge(scenario: &Scenario) -> Result<(), String> {
    let settings = |priority| {
        let mut vip = vip(priority);
        // A return that takes the address back is another's matter: here whoever has it keeps it.
        vip.preempt = Preempt::Off;
        vec![vip]
    };
    let mut world = World::new(1, Network::quiet(), vec![host(0, settings(200)), host(1, settings(100))]);
    world.start_all();
    step(&mut world, secs(2))?;
    if world.owner() != Some(0) {
        return Err("the better host does not own to begin with".into());
    }
    let overlapped = world.watch.overlapped;
    world.watch.forget_silence();
    (scenario.strike)(&mut world);
    step(&mut world, scenario.lasts)?;
    (scenario.heal)(&mut world);
    step(&mut world, SETTLE)?;

    let two = Duration::from_nanos(world.watch.overlapped - overlapped);
    if two > scenario.two {
        return Err(format!("(a) two owners for {two:?}"));
    }
    let nobody = Duration::from_nanos(world.watch.longest_silence(world.now));
    if nobody > scenario.nobody {
        return Err(format!("(b) nobody owned for {nobody:?}"));
    }
    let Some(owner) = world.owner() else { return Err("(b) not one owner in the end".into()) };
    let believed = world.neighbours.believes(0, VIP_V4);
    if believed != Some(owner) {
        return Err(format!("(c) the neighbours believe {believed:?}, the owner is {owner}"));
    }
    for (place, host) in world.hosts.iter().enumerate() {
        let real = host.engine.as_ref().map(|engine| engine.vips()[0].state());
        if real.is_some_and(|real| real != host.agent[0].state) {
            return Err(format!("(e) host {place} is {real:?}, and told of {:?}", host.agent[0].state));
        }
    }
    for place in 0..world.hosts.len() {
        if world.hosts[place].life == Life::Running {
            world.stop(place);
        }
    }
    step(&mut world, secs(2))?;
    let left = world.hosts.iter().position(|host| !host.kernel[0].installed.is_empty());
    left.map_or(Ok(()), |host| Err(format!("(d) an address is left on host {host}")))
}

/// Runs, and gives what must never happen in any world.
fn step(world: &mut World, time: Duration) -> Result<(), String> {
    world.run_unchecked(super::clock::nanos(time));
    world.watch.violation.clone().map_or(Ok(()), Err)
}
