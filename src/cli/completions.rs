//! `vipd completions`: a completion script for a shell.

use std::io;

use super::Exit;
use super::output::print;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: vipd completions bash > /usr/share/bash-completion/completions/vipd")]
pub(super) struct Args {
    /// Which shell
    shell: clap_complete::Shell,
}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "vipd", &mut script);
        print(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Done)
    }
}
