//! `[quorum]`: who votes on the owners, so that a partition cannot make two.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use super::address;
use super::duration::{Short, duration};
use super::problem::{Findings, Kind, Problem};
use super::read::{Table, Value};
use crate::engine::election::PATIENCE;
use crate::engine::{QuorumSettings, VipSettings};
use crate::wire::grant::NAME_MAX;
use crate::wire::seal::is_name;

/// Each is asked with each advert. More than this many fail no more seldom together.
const MAX_VOTERS: usize = 9;
/// Enough for the default interval of either version of VRRP.
pub const DEFAULT_LONGEST_GRANT: Duration = Duration::from_secs(3);
/// Up to three of the longest interval that there is.
pub const LONGEST_GRANT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(765);

/// Where a voter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterAddress {
    /// Its name.
    pub name: Arc<str>,
    /// Its own address; the port is that of `[seal]`.
    pub address: IpAddr,
}

/// What `[quorum]` says.
pub(super) struct Quorum {
    /// `None` where something is wrong with the voters, which was reported then.
    pub(super) settings: Option<QuorumSettings>,
    pub(super) voters: Vec<VoterAddress>,
    longest_grant: Duration,
    at: Range<usize>,
}

/// Reads the table; `is_sealed`: there is a `[seal]`, be it right or wrong.
pub(super) fn quorum(mut table: Table<'_>, own: &str, is_sealed: bool, findings: &mut Findings) -> Quorum {
    let at = table.span();
    if !is_sealed {
        let remedy = "make a key with `vipd keygen`, the same on all nodes and the witness, and name its file: `[seal] key_file = \"/etc/vipd/key\"`";
        let problem =
            Problem::at(at.clone(), Kind::Conflict, "`[quorum]` needs a `[seal]`", "no vote would be believed", remedy);
        findings.refuse(problem);
    }
    let voters = table
        .required("voters", "[{ name = \"db-a\", address = \"10.20.0.11\" }]")
        .and_then(|value| voters(value, own, findings));
    let longest_grant = table.optional("longest_grant", DEFAULT_LONGEST_GRANT, findings, |value, findings| {
        duration(value, LONGEST_GRANT, "", "\"3s\"", findings)
    });
    let cluster = table.optional("cluster", None, findings, |value, findings| cluster(value, findings).map(Some));
    table.finish(findings);
    let names: Option<Vec<Arc<str>>> =
        voters.as_ref().map(|voters| voters.iter().map(|voter| Arc::clone(&voter.name)).collect());
    let settings = names.and_then(|voters| {
        let cluster = cluster.or_else(|| cluster_of(&voters)).or_else(|| {
            let remedy = "add `cluster = \"db\"`, the same on all nodes of the group, and another one for each group";
            let message = "the names of the voters are too long to name the group";
            findings.refuse(Problem::at(at.clone(), Kind::MissingKey, message, "", remedy));
            None
        })?;
        Some(QuorumSettings { own: own.into(), cluster, voters, longest_grant })
    });
    Quorum { settings, voters: voters.unwrap_or_default(), longest_grant, at }
}

impl Quorum {
    /// Reports what the vips ask of the voters in vain.
    pub(super) fn check(&self, vips: &[VipSettings], findings: &mut Findings) {
        let mut first = HashMap::new();
        for vip in vips {
            if let Some(other) = first.insert(vip.vrid, &vip.name) {
                let message = format!("`{other}` and `{}` have the same VRID {}", vip.name, vip.vrid);
                let remedy = "with `[quorum]` give each vip of a node its own `vrid`, on whichever interface it is";
                findings.refuse(Problem::at(self.at.clone(), Kind::Duplicate, message, "", remedy));
            }
        }
        let longest = self.longest_grant;
        let patience = |vip: &VipSettings| vip.interval.duration() * PATIENCE;
        if let Some(vip) = vips.iter().filter(|vip| patience(vip) > longest).max_by_key(|vip| patience(vip)) {
            let needed = Short(patience(vip));
            let message = format!("`{}` needs grants of {needed}, which is three of its intervals", vip.name);
            let remedy = format!(
                "write `longest_grant = \"{needed}\"` on all nodes, and `--longest-grant {needed}` at the witness"
            );
            findings.refuse(Problem::at(self.at.clone(), Kind::Conflict, message, "", remedy));
        }
    }
}

/// `voters`: an odd number of them.
fn voters(value: Value<'_>, own: &str, findings: &mut Findings) -> Option<Vec<VoterAddress>> {
    let elements = value.array("[{ name = \"db-a\", address = \"10.20.0.11\" }]", findings)?;
    let mut voters: Vec<VoterAddress> = Vec::new();
    let mut complete = true;
    for element in elements.iter().take(MAX_VOTERS) {
        let table = element.table("voters", "{ name = \"db-a\", address = \"10.20.0.11\" }", findings);
        let Some(voter) = table.and_then(|table| voter(table, findings)) else {
            complete = false;
            continue;
        };
        if voters.iter().any(|known| known.name == voter.name || known.address == voter.address) {
            let message = "two voters have the same name or address";
            element.refuse(Kind::Duplicate, message, "again", "list each voter once", findings);
            complete = false;
        }
        voters.push(voter);
    }
    let count = elements.len();
    if !(3..=MAX_VOTERS).contains(&count) || count.is_multiple_of(2) {
        let remedy = "list three, five, seven or nine: of a pair both nodes and a witness (`vipd witness`)";
        value.refuse(Kind::OutOfRange, "`voters` are no odd number from 3 to 9", count.to_string(), remedy, findings);
        complete = false;
    }
    if complete && !voters.iter().any(|voter| &*voter.name == own) {
        let message = format!("this node, `{own}`, is none of the voters");
        findings.note(value.span(), message, "if it is to vote, list it under the `name` that [node] or the host has");
    }
    complete.then_some(voters)
}

fn voter(mut table: Table<'_>, findings: &mut Findings) -> Option<VoterAddress> {
    let name = table.required("name", "\"db-a\"").and_then(|value| name(value, findings));
    let address = table.required("address", "\"10.20.0.11\"").and_then(|value| own_address(value, findings));
    table.finish(findings);
    Some(VoterAddress { name: name?, address: address? })
}

fn name(value: Value<'_>, findings: &mut Findings) -> Option<Arc<str>> {
    let name = value.text("\"db-a\"", findings)?;
    let legal = is_name(name);
    if !legal {
        let remedy = "write the name that the voter has: `[node] name` of a node, `--name` of a witness, or the host's";
        value.refuse(Kind::Invalid, "`name` is no node name", "", remedy, findings);
    }
    legal.then(|| name.into())
}

fn cluster(value: Value<'_>, findings: &mut Findings) -> Option<Arc<str>> {
    let name = value.text("\"db\"", findings)?;
    let legal = is_name(name);
    if !legal {
        let remedy = "write 1 to 255 printable ASCII characters without spaces, as in \"db\"";
        value.refuse(Kind::Invalid, "`cluster` is no name", "", remedy, findings);
    }
    legal.then(|| name.into())
}

fn own_address(value: Value<'_>, findings: &mut Findings) -> Option<IpAddr> {
    let remedy = "write the voter's own address, which is reached by the host's routes, as in \"10.20.0.11\"";
    address::of_node(value, "\"10.20.0.11\"", [remedy; 2], findings)
}

/// The name of a group that was given none: that of its voters, in whichever order a node lists them.
fn cluster_of(voters: &[Arc<str>]) -> Option<Arc<str>> {
    let mut names: Vec<&str> = voters.iter().map(AsRef::as_ref).collect();
    names.sort_unstable();
    let cluster = names.join("+");
    (cluster.len() <= NAME_MAX).then(|| cluster.into())
}
