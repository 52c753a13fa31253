//! Files on a host: programs that the agent runs, what they write, and keys.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use vipd::lab::Host;

/// Where a host's `[seal] key_file` is.
pub const KEY: &str = "/run/vipd/key";

/// A shell script that the agent may run.
pub fn write_program(host: &Host, path: &str, lines: &str) -> Result<()> {
    install_program(host, path, &format!("#!/bin/sh\n{lines}\n"))
}

/// A program that the agent may run, and perhaps runs already: it is there whole, or as it was. Installed by another
/// process: the kernel runs none that somebody may write to, and whatever this process has open a program that another
/// test is starting at that moment has open too.
pub fn install_program(host: &Host, path: &str, text: &str) -> Result<()> {
    let (written, installed) = (format!("{path}.text"), format!("{path}.new"));
    host.write_file(written.as_ref(), text)?;
    let mut install = host.command("/usr/bin/install");
    ensure!(install.args(["-m", "755", &written, &installed]).status()?.success(), "install: {path}");
    host.run_in(|| fs::rename(installed, path))?.with_context(|| path.to_owned())
}

/// Keys of one repeated byte each, a line each.
pub fn write_keys(host: &Host, keys: &[u8]) -> Result<()> {
    let lines: String = keys.iter().map(|key| format!("{key:02x}").repeat(32) + "\n").collect();
    host.write_file(KEY.as_ref(), &lines)?;
    set_mode(host, KEY, 0o640)
}

/// Who may do what with a file.
pub fn set_mode(host: &Host, path: &str, mode: u32) -> Result<()> {
    host.run_in(|| fs::set_permissions(path, Permissions::from_mode(mode)))?.with_context(|| path.to_owned())
}

/// The lines of a file; none where there is none.
pub fn lines_of(host: &Host, path: &str) -> Result<Vec<String>> {
    let text = host.run_in(|| fs::read_to_string(path).unwrap_or_default())?;
    Ok(text.lines().map(str::to_owned).collect())
}
