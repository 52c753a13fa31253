//! Blocks of code in the book, and their marks.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{VIPD, chapters};

pub const RUNNABLE: &str = "console,runnable";
const NOT_IN_CI: &str = "console,not-in-ci";

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Of its first line in the file, from 1.
    pub line: usize,
    /// What stands behind the fence.
    pub info: String,
    pub body: String,
}

impl Block {
    /// The path and the host of a file that is to be written.
    pub fn file(&self) -> Option<(&str, &str)> {
        self.info.strip_prefix("toml,file=")?.split_once('@')
    }
}

/// All of a text.
pub fn of(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.as_mut()) {
            (Some(info), None) => {
                open = Some(Block { line: index + 2, info: info.to_owned(), body: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.body.push_str(line);
                block.body.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

pub fn are_marked() -> Result<()> {
    let mut runnable = 0;
    for chapter in chapters()? {
        for block in of(&chapter.text) {
            let known = [RUNNABLE, NOT_IN_CI, "toml,valid", "toml,fragment", "text"];
            let is_known = known.contains(&block.info.as_str()) || block.file().is_some();
            ensure!(is_known, "{}:{}: a block of the kind {:?}", chapter.name, block.line, block.info);
            runnable += usize::from(block.info == RUNNABLE);
        }
    }
    ensure!(runnable > 5, "only {runnable} blocks are run");
    Ok(())
}

pub fn are_valid() -> Result<()> {
    let file = std::env::temp_dir().join(format!("vipd-book-{}.toml", std::process::id()));
    for chapter in chapters()? {
        for block in of(&chapter.text) {
            let at = format!("{}:{}", chapter.name, block.line);
            if block.info == "toml,fragment" {
                toml::from_str::<toml::Table>(&block.body).with_context(|| at.clone())?;
            }
            if block.info == "toml,valid" || block.file().is_some_and(|(path, _)| path.ends_with("vipd.toml")) {
                fs::write(&file, &block.body)?;
                let output = Command::new(VIPD).args(["check", "--offline", "--config"]).arg(&file).output()?;
                let said = String::from_utf8_lossy(&output.stderr);
                // A key that the text has made is not there.
                let only_key = said.contains("key_file") && said.matches("error").count() <= 1;
                ensure!(output.status.success() || only_key, "{at}: {said}");
            }
        }
    }
    fs::remove_file(&file)
        .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    Ok(())
}
