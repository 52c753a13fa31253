//! The book in `docs/` says what is so: its commands are run, its links lead somewhere, its reference is that of the schema, and the messages
//! that it explains are those that the program prints.
//!
//! | a block is marked | and is |
//! |---|---|
//! | `console,runnable` | run, on the host that the prompt names; what is printed below a command is what comes, with `…` for what differs |
//! | `console,not-in-ci` | not run: it needs real hosts, a package manager or systemd. The text says so |
//! | `toml,file=PATH@HOST` | the file that the commands after it find there |
//! | `toml,valid` | a whole configuration, which `vipd check` takes |
//! | `toml,fragment` | a part of one |
//! | `text` | shown |
//!
//! `BLESS=1` writes the reference anew.

#![allow(clippy::disallowed_methods, reason = "processes live in real time")]
#![allow(unreachable_pub, reason = "a test is a crate of its own")]

mod blocks;
mod exit_codes;
#[path = "../harness/mod.rs"]
mod harness;
mod links;
mod messages;
mod reference;
mod run;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use vipd::lab;

use harness::trial;

/// They wait for most of the time.
const AT_ONCE: usize = 2;

fn main() -> ExitCode {
    if let Err(error) = lab::enter() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let mut trials = vec![
        trial("the_configuration_reference_is_that_of_the_schema", reference::is_up_to_date),
        trial("links_lead_somewhere_and_no_chapter_is_lost", links::lead_somewhere),
        trial("each_block_says_what_it_is", blocks::are_marked),
        trial("configurations_in_the_book_are_valid", blocks::are_valid),
        trial("messages_in_the_book_are_those_of_the_program", messages::are_printed),
        trial("printed_lines_are_compared_strictly", run::ensure_that_matching_matches),
        trial("exit_codes_are_the_same_everywhere", exit_codes::are_the_same),
        trial("commands_in_the_book_are_there", exit_codes::commands_are_there),
    ];
    match chapters() {
        Ok(chapters) => trials.extend(chapters.into_iter().filter(Chapter::has_commands).map(|chapter| {
            let name = format!("commands_of_{}", chapter.name.replace('-', "_"));
            trial(&name, move || run::chapter(&chapter))
        })),
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    harness::run(AT_ONCE, trials)
}

/// A file of the book.
pub struct Chapter {
    /// Without the ending.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

impl Chapter {
    fn has_commands(&self) -> bool {
        blocks::of(&self.text).iter().any(|block| block.info == blocks::RUNNABLE)
    }
}

/// The program under test.
pub const VIPD: &str = env!("CARGO_BIN_EXE_vipd");

/// The top of the tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the book, but for its table of contents.
pub fn chapters() -> Result<Vec<Chapter>> {
    let folder = root().join("docs/src");
    let mut chapters = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_some_and(|ending| ending == "md") && name != "SUMMARY" {
            chapters.push(Chapter { name, text: fs::read_to_string(&path)?, path });
        }
    }
    chapters.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(chapters)
}
