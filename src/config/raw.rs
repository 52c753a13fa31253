//! The shape of `vipd.toml` as types. The JSON schema and the reference are made of these and of their comments.
//!
//! The agent itself reads the file with `resolve`, which goes on after a mistake where a deserializer stops. A test
//! holds the two together: each key of this schema is read there, and each key that is read there is in this schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The configuration of vipd, the virtual-IP failover agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "vipd.toml")]
pub struct File {
    /// This node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Node")]
    pub node: Option<Node>,
    /// How nodes prove to each other who they are. Default: none, and they send each other adverts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Seal")]
    pub seal: Option<Seal>,
    /// Checks that vips share: each is run once, and vips name it in their `checks`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<Check>,
    /// Who votes on the owners, so that a partition cannot make two. Needs `[seal]`. Default: nobody, and after a partition both sides may own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Quorum")]
    pub quorum: Option<Quorum>,
    /// What is done to an owner that fell silent, and to a host that may have been fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Fence")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 255))]
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

/// Somebody who is told of events: by exactly one of `webhook`, `exec` and `journal`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its name in logs. 1 to 63 letters, digits, `-`, `_` and `.`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$"))]
    pub name: String,
    /// What matters less is not told: `error`, somebody has to do something; `warning`, something is not as it was, and the service goes on;
    /// `info`, all events. Default: error.
    #[serde(default)]
    pub severity: Severity,
    /// A page that gets each event as JSON by POST, such as `"https://alerts.example.com/vipd"`. Any status of 200 to 299 is thanks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub webhook: Option<String>,
    /// With `webhook`: a file with a token, which is sent as `Authorization: Bearer`. Nobody but its owner and group may read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub token_file: Option<String>,
    /// With `webhook` and https: a file with the certificates to believe, in PEM. Default: those that the system believes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub ca: Option<String>,
    /// A program that gets each event as JSON on standard input: its absolute path and its arguments. No shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub exec: Option<Vec<String>>,
    /// With `exec`: the user that the program is run as. Default: the agent's, without its capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub user: Option<String>,
    /// `true`: the journal of systemd, for an agent whose log goes elsewhere. A log that goes there has all events anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub journal: Option<bool>,
    /// How long one attempt may take. What fails is tried again after 1 s, then ever later, up to each minute, for an hour. `100ms` to `5m`.
    /// Default: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub timeout: Option<Duration>,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is good to know.
    Info,
    /// Something is not as it was, and the service goes on.
    Warning,
    /// Somebody has to do something.
    #[default]
    Error,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub longest_grant: Option<Duration>,
    /// What the voters call this group: the same on all its nodes, and on no others that have a voter in common with it. 1 to 255 printable ASCII
    /// characters without spaces. Default: the names of the voters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 255))]
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

/// What is done to an owner that fell silent, and to a host that may have been fenced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// Whether a silent owner's addresses are claimed only once it is confirmed to be fenced. Else it is fenced only where it
    /// falls silent and its addresses still answer. Default: false.
    #[serde(default)]
    pub require: bool,
    /// How long a node waits before it fences an owner against which it would lose the election, so that of two nodes which would fence
    /// each other the better one survives. `0s` to `60s`. Default: `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub delay: Option<Duration>,
    /// For how long a host that went down while it was the owner, without a stop, keeps itself out of the elections after it has booted:
    /// it may have been fenced. `1s` to `24h`, or `false`: not. Default: `10m`, where there is a `[[fence.peer]]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Refresh")]
    pub hold: Option<Refresh>,
    /// How each peer is fenced, one table each. At most 64.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub peer: Vec<FencePeer>,
    /// Has the hardware watchdog reset this host where it cannot give its addresses up. Default: not.
    #[serde(default, rename = "self", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "FenceSelf")]
    pub itself: Option<FenceSelf>,
}

/// The hardware watchdog of this host, armed while it owns addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceSelf {
    /// Its device. Nothing else may use it (`RuntimeWatchdogSec` of systemd does). Default: `/dev/watchdog`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub watchdog: Option<String>,
    /// How long the agent may be stuck before the host is reset. `2s` to `5m`, whole seconds. Default: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub timeout: Option<Duration>,
}

/// How a peer is fenced: by a fence agent of the ClusterLabs convention, such as `fence_ipmilan` or `fence_redfish`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FencePeer {
    /// The peer's name, unique; the fence agent is told it as `nodename`.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// The addresses that the peer's adverts come from. Default: none, which is any peer that no other table names.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub addresses: Vec<String>,
    /// The fence agent's absolute path. Nobody but root and the agent's user may be able to change it.
    pub program: String,
    /// `reboot`: off and on again; `off`: off, which is verified by `status`. Default: reboot.
    #[serde(default)]
    pub action: FenceAction,
    /// What the fence agent is told beside that, such as `{ ip = "192.0.2.7", username = "vipd" }`.
    #[serde(default)]
    pub options: std::collections::BTreeMap<String, String>,
    /// The same, each value in a file of its own that not everybody can read, such as `{ password = "/etc/vipd/ipmi.pass" }`.
    #[serde(default)]
    pub secrets: std::collections::BTreeMap<String, String>,
    /// How long one run of the fence agent may take. `1s` to `10m`. Default: `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub timeout: Option<Duration>,
    /// How often it is tried. 1 to 10. Default: 2.
    #[serde(default = "default::attempts")]
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u8,
}

/// What a fence agent is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FenceAction {
    /// Off and on again.
    #[default]
    Reboot,
    /// Off.
    Off,
}

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Password")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Hooks")]
    pub hooks: Option<Hooks>,
}

/// Programs that are run when something becomes of a vip, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// This node is about to claim, and all else permits it. The claim waits for this program. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BeforeClaim")]
    pub before_claim: Option<BeforeClaim>,
    /// This node owns the addresses; also when an agent that was started anew goes on as their owner. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Hook")]
    pub after_claim: Option<Hook>,
    /// This node gives the addresses up, which does not wait for this program. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Hook")]
    pub before_release: Option<Hook>,
    /// It has given them up, and they are taken off. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Hook")]
    pub after_release: Option<Hook>,
    /// This node cannot take part any more: a check fails, the interface is down, the kernel refuses, it was too late. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Hook")]
    pub fault: Option<Hook>,
    /// Another host may own the addresses too. Once a minute at most. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Hook")]
    pub split_brain: Option<Hook>,
}

/// A program that a claim waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BeforeClaim {
    /// Its absolute path and its arguments. No shell, in `/`; it is told what happens in its environment and, as JSON, on standard input.
    #[schemars(length(min = 1))]
    pub exec: Vec<String>,
    /// The user that it is run as. Default: the agent's, without its capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub user: Option<String>,
    /// How long it may take; then it is killed, and has failed. `10ms` to `10m`. Default: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub timeout: Option<Duration>,
    /// What becomes of the claim where it fails: `ignore`, it is made; `veto`, it is not, and the program is run again after 10 s.
    pub on_failure: OnHookFailure,
}

/// A program that nothing waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Its absolute path and its arguments. No shell, in `/`; it is told what happens in its environment and, as JSON, on standard input.
    #[schemars(length(min = 1))]
    pub exec: Vec<String>,
    /// The user that it is run as. Default: the agent's, without its capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub user: Option<String>,
    /// How long it may take; then it is killed, and has failed. `10ms` to `10m`. Default: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub timeout: Option<Duration>,
    /// That it failed is recorded, and nothing else becomes of it: `ignore`, the only word here. Default: ignore.
    #[serde(default)]
    pub on_failure: Ignored,
}

/// What becomes of a claim whose hook failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnHookFailure {
    /// It is made.
    Ignore,
    /// It is not made.
    Veto,
}

/// What becomes of a failure that nothing depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ignored {
    /// Nothing.
    #[default]
    Ignore,
}

/// Something that is looked at again and again, and what becomes of the vip by it. Exactly one of `exec`,
/// `replication`, `tcp`, `http`, `ping`, `arp`, `file`, `process`, `systemd`, `interface`, `route` and `postgres`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name in logs and in the status. 1 to 63 letters, digits, `-`, `_` and `.`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$"))]
    pub name: String,
    /// Passes while this program ends with exit code 0: its absolute path and its arguments. No shell, an empty environment, in `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub exec: Option<Vec<String>>,
    /// A program as with `exec`, whose last line is a whole number: how far this node's data is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub replication: Option<Vec<String>>,
    /// With `exec` and `replication`: the user that the program is run as. Default: the agent's, without its capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub user: Option<String>,
    /// Passes while connections are accepted there: an IP address or a name, with a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub tcp: Option<String>,
    /// Passes while this page is answered as it should be: `http://HOST:PORT/PATH`, or with `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub http: Option<String>,
    /// With `http`: the name of the host that is asked for, and that its certificate must be for. Default: that of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub host: Option<String>,
    /// With `http`: the status code that is well. Default: 200 to 299.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// With `http`: what the body must contain within its first 64 KiB. Default: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub body: Option<String>,
    /// With `http` and https: a file with the certificates of those who may vouch for the server, or its own. Default: the system's list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub ca: Option<String>,
    /// With `http` and https: whether the server must prove who it is. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub verify: Option<bool>,
    /// Passes while the host of this IP address answers to an ICMP echo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub ping: Option<String>,
    /// Passes while a neighbour answers to the question who has this address, by ARP or neighbour solicitation; needs `interface`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub arp: Option<String>,
    /// Adds the whole number in this file to the priority, -253 to 253. Without a number the vip takes no part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub file: Option<String>,
    /// Passes while a process of this name runs, as `ps -o comm` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub process: Option<String>,
    /// Passes while this unit of systemd's is active; `.service` may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub systemd: Option<String>,
    /// Passes while this PostgreSQL server answers, as what it should be: `host=/run/postgresql user=vipd dbname=postgres`. No TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub postgres: Option<String>,
    /// With `postgres`: `"primary"`, `"standby"` or `"any"`. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub role: Option<String>,
    /// With `postgres`: the servers of the other nodes. A primary fails while one of them is primary on a later timeline. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>")]
    pub peers: Option<Vec<String>>,
    /// Passes while this interface has a carrier. With `ping` and `arp`: the interface that they use; `ping` by default the routes'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub interface: Option<String>,
    /// With `interface`: and at least this many Mbit/s. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 10_000_000))]
    pub speed: Option<u32>,
    /// Passes while the main routing table has this route: `default`, or a network such as `10.0.0.0/8` or `::/0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub route: Option<String>,
    /// How often it is run, from start to start. `50ms` to `1h`. Default: `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub interval: Option<Duration>,
    /// How long one run may take before it counts as failed, and is killed. `10ms` to `5m`. Default: `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub timeout: Option<Duration>,
    /// How many successes in a row make it pass again. 1 to 100. Default: 2.
    #[serde(default = "default::row")]
    #[schemars(range(min = 1, max = 100))]
    pub rise: u8,
    /// How many failures in a row make it fail. 1 to 100. Default: 2.
    #[serde(default = "default::row")]
    #[schemars(range(min = 1, max = 100))]
    pub fall: u8,
    /// While it fails this node gives the addresses up and does not claim them; with `max_lag`: while the lag is unknown. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub fault: Option<bool>,
    /// Positive: added to the priority while it passes. Negative: taken off while it fails. With `max_lag`: taken off at `max_lag`, and in
    /// proportion below; default -100 there. -253 to 253.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i16", range(min = -253, max = 253))]
    pub weight: Option<i16>,
    /// With `replication`, and needed there, in what the program counts in; with `postgres` a time such as `10s`: beyond it this
    /// node does not claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MaxLag")]
    pub max_lag: Option<MaxLag>,
    /// With `max_lag`: whether it claims all the same, last of all, when nobody else does. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub when_alone: Option<bool>,
}

/// The lag that a node may have and claim all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MaxLag {
    /// In what a program counts in.
    Number(#[schemars(range(min = 1))] i64),
    /// A time.
    Time(Duration),
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String", length(min = 1, max = 15))]
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String")]
        via: Option<String>,
        /// The address of the vip from which this host speaks to the network. Default: the kernel chooses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String")]
        source: Option<String>,
        /// The table, 1 to 4294967295 without 255. Default: 254, the main one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "u32", range(min = 1))]
        table: Option<u32>,
        /// The lowest of several routes to a network is used; 0 to 4294967295, IPv6 without 0. Default: 0, and 1024 of IPv6.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "u32")]
        metric: Option<u32>,
    },
}

/// A rule of policy routing that moves with the addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Packets from this address or network, such as `"10.20.0.100"`. At least one of `from` and `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub from: Option<String>,
    /// Packets to this address or network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub to: Option<String>,
    /// The table that is asked for them, 1 to 4294967295.
    #[schemars(range(min = 1))]
    pub table: u32,
    /// The lowest is asked first; the main table has 32766. 1 to 32765. Default: 1000.
    #[serde(default = "default::order")]
    #[schemars(range(min = 1, max = 32765))]
    pub order: u16,
}

/// A time with its unit, such as `100ms`, `1s` or `1m 30s`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Duration(#[schemars(regex(pattern = r"^\s*[0-9].*[a-z]\s*$"))] pub String);

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

/// The period of the announcements of an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Refresh {
    /// With this period.
    Every(Duration),
    /// `false`: not.
    Never(#[schemars(extend("const" = false))] bool),
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
