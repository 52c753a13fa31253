//! The drivers against the kernel they run on. Each test has network namespaces of its own, so it needs no root.

#![allow(unreachable_pub)] // A test binary exports nothing.
#![allow(clippy::disallowed_methods, reason = "the kernel keeps real time")]

mod addresses;
mod adverts;
mod announce;
#[path = "../harness/mod.rs"]
mod harness;
mod links;
mod routing;
mod support;
mod virtual_mac;
mod watch;

use libtest_mimic::Trial;

/// They wait for most of the time.
const AT_ONCE: usize = 2;

fn main() -> std::process::ExitCode {
    support::enter_user_namespace();
    let trials = [
        addresses::trials(),
        adverts::trials(),
        announce::trials(),
        links::trials(),
        routing::trials(),
        virtual_mac::trials(),
        watch::trials(),
    ];
    harness::run(AT_ONCE, trials.into_iter().flatten())
}

/// A test that runs on a thread in a new network namespace.
fn trial(name: &str, test: fn()) -> Trial {
    harness::trial(name, move || {
        harness::panicking(move || {
            support::enter_network_namespace();
            test();
        })
    })
}
