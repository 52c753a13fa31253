//! `[seal]`: the key that proves who speaks, and the port where nodes speak to each other.

use std::ops::Range;
use std::path::PathBuf;

use super::key_file;
use super::problem::{Findings, Kind, Problem};
use super::read::Table;
use super::system::{MissingInterface, System};
use crate::engine::VipSettings;
use crate::engine::seals::Sealing;
use crate::types::Family;
use crate::wire::seal::Keys;
use crate::wire::sealed_advert::MAX_LISTED_V6;

/// Where nodes and witnesses hear each other: not assigned by IANA to anything that is in use, and 112 is VRRP's.
pub const DEFAULT_PORT: u16 = 3112;

/// What nodes share to believe each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// What `key_file` says.
    pub keys: Keys,
    /// What is done about seals on adverts.
    pub adverts: Sealing,
    /// The UDP port of this node and of its peers.
    pub port: u16,
}

/// Reports vips whose adverts have no room for a seal.
pub(super) fn check_room(seal: &Seal, at: Range<usize>, vips: &[VipSettings], findings: &mut Findings) {
    let full = |vip: &&VipSettings| vip.addresses_of(Family::V6).count() > MAX_LISTED_V6;
    if let Some(vip) = vips.iter().filter(|_| seal.adverts.sends()).find(full) {
        let message = format!("the adverts of `{}` have no room for a seal", vip.name);
        let remedy = format!("leave at most {MAX_LISTED_V6} IPv6 addresses in a vip, and make another one of the rest");
        findings.refuse(Problem::at(at, Kind::Conflict, message, "", remedy));
    }
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
    let adverts = table.optional("adverts", Sealing::Off, findings, |value, findings| {
        let words = [
            ("off", Sealing::Off),
            ("receive", Sealing::Receive),
            ("send", Sealing::Send),
            ("require", Sealing::Require),
        ];
        value.word(&words, findings)
    });
    table.finish(findings);
    Some(Seal { keys: keys?, port, adverts })
}
