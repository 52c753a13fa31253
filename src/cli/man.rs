//! `vipd man`: the manual, made from the same text as `--help`.

use std::io;
use std::path::PathBuf;

use super::Exit;
use super::output::{complain, print};

/// Print the manual page, or write all pages to a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  vipd man | man -l -\n  vipd man --dir /usr/share/man/man8")]
pub(super) struct Args {
    /// Write vipd.8 and a page for each command to this directory, which must exist
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// System administration commands.
const SECTION: &str = "8";

impl Args {
    pub(super) fn run(self) -> io::Result<Exit> {
        let Some(dir) = self.dir else {
            print(&page(super::command())?)?;
            return Ok(Exit::Done);
        };
        for (name, text) in pages()? {
            let path = dir.join(format!("{name}.{SECTION}"));
            if let Err(error) = std::fs::write(&path, text) {
                complain(&format!("vipd: cannot write {}: {error}\n", path.display()));
                return Ok(match error.kind() {
                    io::ErrorKind::PermissionDenied => Exit::NotPermitted,
                    _ => Exit::Refused,
                });
            }
        }
        Ok(Exit::Done)
    }
}

/// The name and the text of each page: `vipd`, `vipd-check`, ...
fn pages() -> io::Result<Vec<(String, String)>> {
    let mut whole = super::command();
    whole.build();
    let mut pages = vec![("vipd".to_string(), page(super::command())?)];
    for command in whole.get_subcommands().filter(|command| !command.is_hide_set()) {
        // A page is found, and calls itself, by its name with a hyphen, which `build` has set.
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        pages.push((name.to_string(), page(command.clone())?));
    }
    Ok(pages)
}

fn page(command: clap::Command) -> io::Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).section(SECTION).manual("vipd").render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let pages = pages().expect("writing to memory does not fail");
        for name in ["vipd", "vipd-check", "vipd-completions", "vipd-man"] {
            let (_, text) = pages.iter().find(|(page, _)| page == name).expect(name);
            assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH DESCRIPTION"), "{name}");
        }
    }
}
