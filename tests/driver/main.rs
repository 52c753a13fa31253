//! The drivers against the kernel they run on. Each test has network namespaces of its own, so it needs no root.

#![allow(unreachable_pub)] // A test binary exports nothing.
#![allow(clippy::disallowed_methods, reason = "the kernel keeps real time")]

mod addresses;
mod adverts;
mod announce;
mod links;
mod routing;
mod support;
mod virtual_mac;
mod watch;

use libtest_mimic::{Arguments, Trial};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    support::enter_user_namespace();
    let trials = [
        addresses::trials(),
        adverts::trials(),
        announce::trials(),
        links::trials(),
        routing::trials(),
        virtual_mac::trials(),
        watch::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test that runs on a thread in a new network namespace.
fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name.to_owned(), move || {
        std::thread::spawn(move || {
            support::enter_network_namespace();
            test();
        })
        .join()
        .map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").into()
        })
    })
}
