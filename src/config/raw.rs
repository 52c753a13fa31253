//! The shape of `vipd.toml` as types. The JSON schema and the reference are made of these and of their comments.
//!
//! The agent itself reads the file with `resolve`, which goes on after a mistake where a deserializer stops. A test
//! holds the two together: each key of this schema is read there, and each key that is read there is in this schema.
//!
//! The larger tables have a file each in `raw/`; the others are here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod alert;
mod check;
mod fence;
mod hook;
mod quorum;
mod vip;

pub use alert::{Alert, Severity};
pub use check::{Check, MaxLag};
pub use fence::{Fence, FenceAction, FencePeer, FenceSelf};
pub use hook::{BeforeClaim, Hook, Hooks, Ignored, OnHookFailure};
pub use quorum::{Quorum, Voter};
pub use vip::{
    Address, Announce, Checksum, Mac, OnConflict, OnSilentOwner, Password, Preempt, Prefer, Route, Rule, Vip,
};

/// The configuration of vipd, the virtual-IP failover agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "vipd.toml")]
pub struct File {
    /// This node.
    pub node: Option<Node>,
    /// How nodes prove to each other who they are. Default: none, and they send each other adverts only.
    pub seal: Option<Seal>,
    /// Checks that vips share: each is run once, and vips name it in their `checks`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<Check>,
    /// Who votes on the owners, so that a partition cannot make two. Needs `[seal]`. Default: nobody, and after a partition both sides may own.
    pub quorum: Option<Quorum>,
    /// What is done to an owner that fell silent, and to a host that may have been fenced.
    pub fence: Option<Fence>,
    /// Who is told of events that need somebody. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub alert: Vec<Alert>,
    /// The virtual IPs that this node takes part in, one table each; at least one.
    pub vip: Vec<Vip>,
    /// Vips that move together, one table each group; the same on all nodes. Default: none.
    #[serde(default)]
    pub group: Vec<Group>,
    /// Vips that are shared among the live nodes, one table each spread; the same on all nodes. Default: none.
    #[serde(default)]
    pub spread: Vec<Spread>,
}

/// Vips that move together: a node owns all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The name of this group in the status; unique in the file. 1 to 63 letters, digits, `-`, `_` and `.`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$"))]
    pub name: String,
    /// The names of its vips, 2 to 64, each in one group only. They have the same `priority` (below 255) and the same `preempt`. The first
    /// one's addresses break ties.
    #[schemars(length(min = 2, max = 64))]
    pub vips: Vec<String>,
}

/// Vips that are shared among the live nodes by weight, so that all of them serve at once. It ranks the nodes for each vip: a node has
/// the priority 240 where it is preferred, 220 where it is the next, and so on by 20.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The name of this spread in the status; unique in the file. 1 to 63 letters, digits, `-`, `_` and `.`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$"))]
    pub name: String,
    /// The names of its vips, 1 to 256, each in one spread only and in no group. They have no `priority` and no `preempt` of their own.
    #[schemars(length(min = 1, max = 256))]
    pub vips: Vec<String>,
    /// The names of its nodes and the weight of each, 0 to 100, such as `{ a = 2, b = 1, "c.example.net" = 1 }`; this node is one of them.
    /// At most 12. A node of weight 0 takes vips only where no other lives.
    #[schemars(length(min = 1, max = 12))]
    pub nodes: std::collections::BTreeMap<String, Weight>,
    /// How long a node that came back has to hear the others before it takes its share from them. `0s` to `24h`. Default: `30s`.
    #[serde(default = "default::spread_delay")]
    pub delay: Duration,
}

/// How much of a spread a node is to have, relative to the others. 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Weight(#[schemars(range(max = 100))] pub u8);

/// This node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The name under which this node is shown. 1 to 255 printable ASCII characters without spaces.
    /// Default: the host name.
    #[schemars(length(min = 1, max = 255))]
    pub name: Option<String>,
    /// Second paths to the other nodes, at most 8: ways beside the interfaces of the vips, on which nodes tell each other how they are. An owner
    /// whose interface dies hands over there at once; one whose adverts are blocked is left alone. Needs `[seal]`. Default: none.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub heartbeat: Vec<Heartbeat>,
    /// How often is spoken there at least, `10ms` to `10s`; it is at least twice an advert interval. Default: `100ms`.
    #[serde(default = "default::heartbeat_interval")]
    pub heartbeat_interval: Duration,
}

/// A second path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Heartbeat {
    /// All nodes on a link, which find each other there.
    Interface {
        /// As `ip link` shows it. 1 to 15 bytes.
        #[schemars(length(min = 1, max = 15))]
        interface: String,
    },
    /// One node, wherever the host's routes lead.
    Peer {
        /// Its own address, such as `"192.0.2.7"`.
        peer: String,
    },
}

/// How nodes prove to each other who they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The file with the key that all nodes of the group share, such as `"/etc/vipd/key"`: a line of 64 to 256 hexadecimal digits, or
    /// base64, as `vipd keygen` prints it. A second line is a key that is believed too, while one is changed for the other. Nobody but
    /// its owner and group may have access to the file.
    #[schemars(length(min = 1))]
    pub key_file: String,
    /// Seals on adverts, which only vipd understands: `off`; `receive` sends plain ones and believes both; `send` sends sealed ones and believes
    /// both; `require` believes sealed ones only. A group goes from one to the next, each on all nodes before the next on any. Default: off.
    #[serde(default)]
    pub adverts: SealedAdverts,
    /// The UDP port where nodes and witnesses hear each other, 1 to 65535; the same on all of them. Default: 3112.
    #[serde(default = "default::port")]
    #[schemars(range(min = 1))]
    pub port: u16,
}

/// What is done about seals on adverts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SealedAdverts {
    /// Adverts are plain.
    #[default]
    Off,
    /// Sent plain, and believed sealed as well.
    Receive,
    /// Sent sealed, and believed plain as well.
    Send,
    /// Sent sealed, and believed sealed only.
    Require,
}

/// A time with its unit, such as `100ms`, `1s` or `1m 30s`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Duration(#[schemars(regex(pattern = r"^\s*[0-9].*[a-z]\s*$"))] pub String);

/// The period of the announcements of an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Refresh {
    /// With this period.
    Every(Duration),
    /// `false`: not.
    Never(#[schemars(extend("const" = false))] bool),
}

/// What a key is where it is absent. A test compares these with what `resolve` does.
mod default {
    use super::{Duration, Refresh};

    pub(super) const fn priority() -> u8 {
        100
    }

    pub(super) const fn order() -> u16 {
        1000
    }

    pub(super) const fn port() -> u16 {
        3112
    }

    pub(super) const fn attempts() -> u8 {
        2
    }

    pub(super) fn heartbeat_interval() -> Duration {
        Duration("100ms".to_string())
    }

    pub(super) fn spread_delay() -> Duration {
        Duration("30s".to_string())
    }

    pub(super) const fn version() -> u8 {
        3
    }

    pub(super) const fn row() -> u8 {
        2
    }

    pub(super) const fn yes() -> bool {
        true
    }

    pub(super) fn repeat() -> Vec<Duration> {
        ["1s", "5s", "30s"].map(|time| Duration(time.to_string())).to_vec()
    }

    pub(super) fn refresh() -> Refresh {
        Refresh::Every(Duration("60s".to_string()))
    }
}
