//! `[[vip]]`, without its checks and hooks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Duration, Hooks, Refresh, default};

/// A virtual IP: addresses that move between nodes together. It is one virtual router for each address family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vip {
    /// The name of this vip in commands, logs and metrics; unique in the file. 1 to 63 letters, digits, `-`, `_` and `.`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$"))]
    pub name: String,
    /// The interface that carries the addresses and the adverts, as `ip link` shows it. 1 to 15 bytes.
    /// It may be absent when the agent starts, and may come and go.
    #[schemars(length(min = 1, max = 15))]
    pub interface: String,
    /// The virtual router identifier, 1 to 255: the same on all nodes, and of no other vip of this family on the network.
    #[schemars(range(min = 1, max = 255))]
    pub vrid: u8,
    /// The addresses, of either family, at least one. If there are IPv6 addresses and none of them is link-local, one is
    /// derived from the VRID and added.
    #[schemars(length(min = 1))]
    pub addresses: Vec<Address>,
    /// Routes through the interface that are there while this node owns the addresses: installed after them, removed before them, put back
    /// when another program removes them. At most 64. Default: none.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub routes: Vec<Route>,
    /// Rules of policy routing, in the same way. At most 64. Default: none.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub rules: Vec<Rule>,
    /// The highest priority among the nodes that live owns the addresses. 1 to 254; 255 says that these are this
    /// node's own addresses, and it then starts as their owner. Default: 100.
    #[serde(default = "default::priority")]
    #[schemars(range(min = 1, max = 255))]
    pub priority: u8,
    /// How often the owner tells the others that it lives. They take over after 3 intervals and a part of one.
    /// Version 3: `10ms` to `40.95s` in steps of 10 ms, default `100ms`. Version 2: `1s` to `255s` in whole seconds,
    /// default `1s`.
    pub advert_interval: Option<Duration>,
    /// The version of VRRP. 3 is RFC 9568; 2 is RFC 3768, for routers that know nothing newer: IPv4 only, whole seconds.
    /// Default: 3.
    #[serde(default = "default::version")]
    #[schemars(range(min = 2, max = 3))]
    pub version: u8,
    /// Whether this node takes the addresses from an owner of lower priority: at once, never, or after it was heard for
    /// a time. Default: true.
    #[serde(default)]
    pub preempt: Preempt,
    /// The other nodes' own addresses, for unicast adverts. For each family of the vip, or none. At most 64.
    /// Default: none, which is multicast.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub peers: Vec<String>,
    /// Whether adverts that were routed are dropped (their TTL or hop limit is not 255). `false` only with `peers`.
    /// Default: true.
    #[serde(default = "default::yes")]
    pub check_hop_limit: bool,
    /// Which MAC address the addresses answer with: the interface's, or the virtual router's 00-00-5E-00-01-VRID
    /// (00-00-5E-00-02-VRID for IPv6) on a macvlan. Default: interface.
    #[serde(default)]
    pub mac: Mac,
    /// What the checksum of IPv4 adverts of version 3 covers. Both forms are accepted always; `auto` sends that of
    /// RFC 9568 until a peer is heard that uses the other. Default: auto.
    #[serde(default)]
    pub checksum: Checksum,
    /// What an owner does about another host that keeps answering for its addresses: `assert` tells the neighbours again, each time;
    /// `demote` does so too, and gives the addresses up for 30 s once that has gone on for 10 s. Whoever can send frames on the network
    /// can bring the latter about. Default: assert.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// What a backup does when no advert comes from the owner, but its addresses still answer: `wait` raises an alarm and waits
    /// while they do, for at most 3 s; `take` does not ask, for networks where somebody answers for every address (proxy ARP).
    /// An owner that is gone answers nothing, and is succeeded without a delay. Default: wait.
    #[serde(default)]
    pub on_silent_owner: OnSilentOwner,
    /// What answers as long as this node is connected: `"gateway"`, the next hop of the interface's default route, and addresses, such
    /// as a switch's. Asked by ARP or neighbour solicitation on the link, else by ICMP echo. At most 8. Default: none.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub references: Vec<String>,
    /// What a node does that none of its `references` answers to: `available`, nothing; `safe`, it gives the addresses up, and claims
    /// none until one answers. The same on all nodes. `safe` needs `references`. Default: available.
    #[serde(default)]
    pub prefer: Prefer,
    /// Version 2 only, 1 to 8 ASCII characters: the password that the peers are configured with. It is sent in clear
    /// text and is no security. Default: none.
    pub password: Option<Password>,
    /// When the neighbours are told again who owns the addresses.
    #[serde(default)]
    pub announce: Announce,
    /// Names of `[[check]]` tables that decide about this vip too. Default: none.
    #[serde(default)]
    pub checks: Vec<String>,
    /// Checks of this vip alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<Check>,
    /// Programs that are run when something becomes of this vip.
    pub hooks: Option<Hooks>,
}

/// An address with the prefix length that it is installed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Address {
    /// `"IP/PREFIX"`, such as `"10.20.0.100/24"` or `"2001:db8:20::100/64"`.
    Plain(String),
    /// The same with a label.
    Labelled {
        /// `"IP/PREFIX"`, such as `"10.20.0.100/24"`.
        address: String,
        /// The label that `ip address` shows, IPv4 only, such as `"eno1:db"`. 1 to 15 bytes. Default: the interface's name.
        #[schemars(length(min = 1, max = 15))]
        label: Option<String>,
    },
}

/// A route that moves with the addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Route {
    /// `"NETWORK via ROUTER"`, such as `"10.50.0.0/16 via 10.20.0.254"` or `"default via 10.20.0.254"`; without `via` the network is on the link.
    Plain(String),
    /// The same with more.
    Table {
        /// The network, such as `"10.50.0.0/16"` or `"default"`, of a family of the vip's addresses.
        to: String,
        /// The next hop. Default: none, the network is on the link.
        via: Option<String>,
        /// The address of the vip from which this host speaks to the network. Default: the kernel chooses.
        source: Option<String>,
        /// The table, 1 to 4294967295 without 255. Default: 254, the main one.
        #[schemars(range(min = 1))]
        table: Option<u32>,
        /// The lowest of several routes to a network is used; 0 to 4294967295, IPv6 without 0. Default: 0, and 1024 of IPv6.
        metric: Option<u32>,
    },
}

/// A rule of policy routing that moves with the addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Packets from this address or network, such as `"10.20.0.100"`. At least one of `from` and `to`.
    pub from: Option<String>,
    /// Packets to this address or network.
    pub to: Option<String>,
    /// The table that is asked for them, 1 to 4294967295.
    #[schemars(range(min = 1))]
    pub table: u32,
    /// The lowest is asked first; the main table has 32766. 1 to 32765. Default: 1000.
    #[serde(default = "default::order")]
    #[schemars(range(min = 1, max = 32765))]
    pub order: u16,
}

/// Whether a healthy owner of lower priority is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Preempt {
    /// At once, or never.
    Switch(bool),
    /// After a time.
    Delayed {
        /// For how long the owner of lower priority must have been heard. `0s` to `24h`.
        delay: Duration,
    },
}

/// Which MAC address the addresses answer with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mac {
    /// The interface's own.
    #[default]
    Interface,
    /// The virtual router's.
    Virtual,
}

/// The form of the IPv4 checksum of version 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// As the peers do.
    #[default]
    Auto,
    /// Over the message alone.
    Rfc9568,
    /// Over a pseudo-header as well.
    Rfc5798,
}

/// What an owner does about another host that keeps answering for its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Goes on, and tells the neighbours again.
    #[default]
    Assert,
    /// Gives up.
    Demote,
}

/// What a backup does about an owner that is not heard, and whose addresses still answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnSilentOwner {
    /// Waits, for at most 3 s.
    #[default]
    Wait,
    /// Takes the addresses.
    Take,
}

/// What a node does that none of its references answers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// Nothing else.
    #[default]
    Available,
    /// Gives the addresses up, and claims none.
    Safe,
}

/// A password that no debug output shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Password(#[schemars(length(min = 1, max = 8))] pub String);

/// When the neighbours are told again who owns the addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// Times after the claim, ascending. At most 16, each `10ms` to `1h`. Default: `["1s", "5s", "30s"]`.
    #[serde(default = "default::repeat")]
    #[schemars(length(max = 16))]
    pub repeat: Vec<Duration>,
    /// And then for ever with this period, `1s` to `24h`; `false`: not. Default: `60s`.
    #[serde(default = "default::refresh")]
    pub refresh: Refresh,
}

impl Default for Preempt {
    fn default() -> Self {
        Self::Switch(true)
    }
}

impl Default for Announce {
    fn default() -> Self {
        Self { repeat: default::repeat(), refresh: default::refresh() }
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}
