//! The number in a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{Failure, Unable};

/// More than any number has.
const MAX_BYTES: u64 = 64;

pub(super) fn inspect(path: &Path) -> Result<(), Unable> {
    read(path).map(drop).map_err(|error| Unable {
        problem: format!("`{}` cannot be read: {error}", path.display()),
        remedy: "create it with a number in it, and let the agent's user read it",
    })
}

pub(super) fn run(path: &Path) -> Result<String, Failure> {
    read(path).map_err(|error| Failure::Unable(format!("`{}` cannot be read: {error}", path.display())))
}

fn read(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
