//! The commands and their exit codes as the program has them, in its help, in its manual page and in the book.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use vipd::cli::Exit;

use crate::{VIPD, root};

pub fn are_the_same() -> Result<()> {
    let codes =
        [Exit::Done, Exit::No, Exit::Usage, Exit::Configuration, Exit::NoAgent, Exit::NotPermitted, Exit::Refused];
    let help = output(&["--help"])?;
    let manual = output(&["man"])?.replace("\\-", "-");
    let book = fs::read_to_string(root().join("docs/src/commands.md"))?;
    for exit in codes {
        let code = exit as u8;
        // What the help says of it is what the others say.
        let start = format!("  {code}  ");
        let meaning =
            help.lines().find_map(|line| line.strip_prefix(&start)).with_context(|| format!("{exit:?} in the help"))?;
        ensure!(manual.lines().any(|line| line.trim() == format!("{code}  {meaning}")), "{exit:?} in the manual page");
        ensure!(book.contains(&format!("| {code} | {meaning} |")), "{exit:?} in the book: {meaning:?}");
    }
    let last = format!("| {} |", codes.len());
    ensure!(!book.contains(&last), "more codes are explained than there are");
    Ok(())
}

/// Those of the book are there.
pub fn commands_are_there() -> Result<()> {
    let book = fs::read_to_string(root().join("docs/src/commands.md"))?;
    let cells = book.lines().filter_map(|line| line.strip_prefix("| `vipd ")?.split(" |").next());
    let commands: Vec<&str> = cells.flat_map(|cell| cell.trim_end_matches('`').split("`, `vipd ")).collect();
    ensure!(commands.len() > 10, "{commands:?}");
    for command in commands {
        output(&[command, "--help"])?;
    }
    Ok(())
}

fn output(arguments: &[&str]) -> Result<String> {
    let output = Command::new(VIPD).args(arguments).output()?;
    ensure!(output.status.success(), "{arguments:?}: {:?}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
