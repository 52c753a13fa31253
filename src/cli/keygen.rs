//! `vipd keygen`: a key for nodes to share.

use std::io;

use super::Exit;
use super::output::{complain, print};
use crate::driver::random;

/// Print a new key for the file that `[seal] key_file` names
///
/// All nodes of a group, and its witness, have the same file. To change a key while all run: add the new one as the second
/// line everywhere, then make it the first everywhere, then remove the old one; with a `vipd reload` after each change.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: (umask 027; vipd keygen > /etc/vipd/key; chgrp vipd /etc/vipd/key)")]
pub(super) struct Args {}

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        match random::seed() {
            Ok(key) => {
                let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                print(&format!("{digits}\n"))?;
                Ok(Exit::Done)
            }
            Err(error) => {
                complain(&format!("vipd: {error}\n"));
                Ok(Exit::Refused)
            }
        }
    }
}
