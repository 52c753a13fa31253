//! The `vipd` binary: everything is in the library, see `vipd::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vipd::cli::main()
}
