//! A file with a secret that the configuration names: looked at, unless the file is for another machine.

use std::path::PathBuf;

use super::probe::absolute;
use super::problem::{Findings, Kind};
use super::read::Value;
use super::system::{MissingInterface, System};
use crate::driver::trust::inspect_secret;

/// The file of a key's value, if it is a secret one. What stands in its place may be the secret itself: no message quotes it.
pub(super) fn secret_file(value: &Value<'_>, path: &str, system: &System, findings: &mut Findings) -> Option<PathBuf> {
    let path = absolute(value, path, findings)?;
    if system.missing_interface != MissingInterface::Ignore
        && let Err(why) = inspect_secret(&path)
    {
        let message = format!("the file that `{}` names {why}", value.key());
        let remedy = "name a file that root owns and the group vipd reads: chown root:vipd, chmod 640";
        value.refuse(Kind::Invalid, message, "", remedy, findings);
        return None;
    }
    Some(path)
}
