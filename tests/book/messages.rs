//! What the book tells to look for is what the program says. In its chapter on troubleshooting, a line that begins with `> ` quotes a line of
//! the log, the status or a command, with `…` for what differs: each part between two of those is looked for in the source.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::{chapters, root};

/// Shorter pieces, such as `: `, are found anywhere.
const SHORTEST: usize = 6;

pub fn are_printed() -> Result<()> {
    let chapter =
        chapters()?.into_iter().find(|chapter| chapter.name == "troubleshooting").context("no such chapter")?;
    let mut source = String::new();
    read(&root().join("src"), &mut source)?;
    // A literal that is broken over lines is one text.
    let source: String = source.split("\\\n").map(str::trim_start).collect::<String>().replace("\\\"", "\"");
    let (mut quotes, mut unknown) = (0, Vec::new());
    for line in chapter.text.lines().filter_map(|line| line.strip_prefix("> ")) {
        quotes += 1;
        let pieces: Vec<&str> = line.split('…').map(str::trim).filter(|piece| piece.len() >= SHORTEST).collect();
        ensure!(!pieces.is_empty(), "nothing of {line:?} can be looked for");
        let missing = pieces.into_iter().filter(|piece| !source.contains(piece));
        unknown.extend(missing.map(|piece| format!("{piece:?} of {line:?}")));
    }
    // Words that machines read, in tables: the first cell of a row.
    let cells = chapter.text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    for word in cells.flat_map(|cell| cell.split("`, `")).map(|word| word.trim_end_matches('`')) {
        if !source.contains(&format!("\"{word}\"")) {
            unknown.push(format!("the word {word:?}"));
        }
    }
    ensure!(unknown.is_empty(), "the program does not say\n{}", unknown.join("\n"));
    ensure!(quotes > 15, "only {quotes} messages are quoted");
    Ok(())
}

fn read(folder: &Path, into: &mut String) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, into)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}
