//! `[seal]`: the key that proves who speaks, and the port where nodes speak to each other.

use std::path::PathBuf;

use super::key_file;
use super::problem::{Findings, Kind};
use super::read::Table;
use super::system::{MissingInterface, System};
use crate::wire::seal::Keys;

/// Where nodes and witnesses hear each other: not assigned by IANA to anything that is in use, and 112 is VRRP's.
const DEFAULT_PORT: u16 = 3112;

/// What nodes share to believe each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// What `key_file` says.
    pub keys: Keys,
    /// The UDP port of this node and of its peers.
    pub port: u16,
}

/// The table; `None` where it is wrong, or the file is for another machine, whose keys are not here.
pub(super) fn seal(mut table: Table<'_>, system: &System, findings: &mut Findings) -> Option<Seal> {
    let keys = table.required("key_file", "\"/etc/vipd/key\"").and_then(|value| {
        let path = PathBuf::from(value.text("\"/etc/vipd/key\"", findings)?);
        if !path.is_absolute() {
            let remedy = "write the whole path, such as \"/etc/vipd/key\"";
            value.refuse(Kind::Invalid, "`key_file` is no absolute path", "", remedy, findings);
            return None;
        }
        if system.missing_interface == MissingInterface::Ignore {
            return None;
        }
        match key_file::read(&path) {
            Ok(keys) => Some(keys),
            Err(unusable) => {
                value.refuse(Kind::Invalid, unusable.message, "", unusable.remedy, findings);
                None
            }
        }
    });
    let port = table.optional("port", DEFAULT_PORT, findings, |value, findings| {
        u16::try_from(value.integer(1..=i64::from(u16::MAX), "3112", findings)?).ok()
    });
    table.finish(findings);
    Some(Seal { keys: keys?, port })
}
