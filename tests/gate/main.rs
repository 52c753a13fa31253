//! The gate against the kernel that it runs on: a client asks every millisecond, and its packets are what is judged.
//! Each test has network namespaces of its own, so none needs root, and no test touches the host.

#![allow(clippy::disallowed_methods, reason = "it waits for real processes")]
#![allow(unreachable_pub)] // A test binary exports nothing.

mod cost;
mod exact;
mod frames;
#[path = "../harness/mod.rs"]
mod harness;
mod lifecycle;
mod prober;
mod scope;
#[path = "../driver/support.rs"]
#[allow(dead_code)] // Made for the other drivers' tests.
mod support;

use std::cell::Cell;

use libtest_mimic::Trial;
use vipd::driver::gate::{Gate, Layer};

/// They wait for most of the time.
const AT_ONCE: usize = 3;

fn main() -> std::process::ExitCode {
    support::enter_user_namespace();
    let trials = [exact::trials(), scope::trials(), lifecycle::trials(), cost::trials()];
    harness::run(AT_ONCE, trials.into_iter().flatten())
}

thread_local! {
    static LAYER: Cell<Layer> = const { Cell::new(Layer::Netdev) };
}

/// The layer that this test is about.
fn layer() -> Layer {
    LAYER.get()
}

/// A gate in that layer.
fn open_gate() -> Gate {
    Gate::open_in(layer()).expect("this kernel has nftables with all hooks")
}

/// A test of each layer.
fn both(name: &str, test: fn()) -> [Trial; 2] {
    let name = |layer: Layer| match layer {
        Layer::Netdev => format!("gate: {name}"),
        Layer::InetArp => format!("gate in {}: {name}", layer.name()),
    };
    Layer::ALL.map(|layer| trial_in(layer, &name(layer), test))
}

/// A test of the strongest layer.
fn trial(name: &str, test: fn()) -> Trial {
    trial_in(Layer::Netdev, name, test)
}

/// A test that runs on a thread in a new network namespace.
fn trial_in(layer: Layer, name: &str, test: fn()) -> Trial {
    harness::trial(name, move || {
        harness::panicking(move || {
            support::enter_network_namespace();
            LAYER.set(layer);
            test();
        })
    })
}
