//! `[quorum]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// Who votes on the owners. An owner holds the addresses only as long as a majority of the voters grants them to it, and each voter grants
/// them to one node at a time. Changed by a restart, not by a reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    /// The voters, three, five, seven or nine, and the same on all nodes: of a pair both nodes and a witness (`vipd witness`). Whoever changes
    /// them stops all nodes of the group first.
    #[schemars(length(min = 3, max = 9))]
    pub voters: Vec<Voter>,
    /// The longest time for which a voter grants an address: at least three of the longest `advert_interval`. A voter that starts waits for so long
    /// before it votes. The same at all voters; whoever makes it shorter stops all of them for the former time first. `100ms` to `765s`.
    /// Default: `3s`.
    pub longest_grant: Option<Duration>,
    /// What the voters call this group: the same on all its nodes, and on no others that have a voter in common with it. 1 to 255 printable ASCII
    /// characters without spaces. Default: the names of the voters.
    #[schemars(length(min = 1, max = 255))]
    pub cluster: Option<String>,
}

/// One that votes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Voter {
    /// `[node] name` of a node, `--name` of a witness; the host name where that is not set.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Its own address, on whichever network; asked on the UDP port of `[seal]`. That of this node itself is not used.
    pub address: String,
}
