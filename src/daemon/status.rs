//! What the agent says of itself: the document that `vipd status --json` prints.
//!
//! Schema 1. Fields are added within a schema; one that goes or changes its meaning makes a new one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::alert_accounts::AlertStatus;
use super::journal::JournalStatus;
use super::lateness::Lateness;
use super::peers::SealStatus;
use super::sandbox::Level;
use super::votes::{GrantsStatus, QuorumStatus};
use crate::wire::advert::ChecksumForm;

mod describe;

pub(super) use describe::{Circumstances, status};

/// The version of the document's shape.
pub const SCHEMA: u32 = 1;

/// The whole agent at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When this was true, RFC 3339.
    pub at: String,
    /// The node's name.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// The agent's process.
    pub pid: u32,
    /// Seconds since the agent started.
    pub uptime_s: f64,
    /// Whether the loop runs under SCHED_FIFO.
    pub realtime: bool,
    /// Whether the agent's memory is locked.
    pub memory_locked: bool,
    /// Whether the kernel takes the addresses away from an agent that does not renew its lease, before a successor claims them.
    pub leases_enforced: bool,
    /// What enforces the leases: `netdev`, `inet+arp` or `lifetime`.
    #[serde(default)]
    pub lease_layer: String,
    /// Milliseconds for which a host may answer beyond its lease, at most, where its agent is dead or frozen.
    #[serde(default)]
    pub lease_resolution_ms: u64,
    /// What the process that hears the network is kept from.
    #[serde(default)]
    pub sandbox: Option<Level>,
    /// How late the loop woke.
    pub lateness: Lateness,
    /// The journal of events on disk.
    #[serde(default)]
    pub journal: JournalStatus,
    /// The messages of other nodes; none where there is no `[seal]`.
    #[serde(default)]
    pub seal: Option<SealStatus>,
    /// Who votes on the owners; none where there is no `[quorum]`.
    #[serde(default)]
    pub quorum: Option<QuorumStatus>,
    /// The other nodes, as they are heard on the second path.
    #[serde(default)]
    pub second_path: Vec<SecondPathStatus>,
    /// How the alerts get through, in the order of the configuration.
    #[serde(default)]
    pub alerts: Vec<AlertStatus>,
    /// The interfaces.
    pub links: Vec<LinkStatus>,
    /// The virtual IPs, in the order of the configuration.
    pub vips: Vec<VipStatus>,
}

/// Another node on the second path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SecondPathStatus {
    /// Its name.
    pub peer: String,
    /// Whether what it said last is believed still.
    pub heard: bool,
    /// Milliseconds since its last heartbeat; none where there was none.
    pub age_ms: Option<f64>,
    /// How often it speaks, milliseconds.
    pub interval_ms: Option<u64>,
    /// Heartbeats heard.
    pub received: u64,
    /// Where it is, the last heard first.
    pub paths: Vec<SocketAddr>,
}

/// Adverts that do not get through, though both nodes live.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlockedStatus {
    /// The node whose adverts are lost.
    pub from: String,
    /// The node that does not hear them.
    pub to: String,
    /// Milliseconds since that is known.
    pub age_ms: f64,
}

/// An interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// `missing`, `down` or `up`.
    pub state: String,
    /// The address that IPv4 adverts are sent from.
    pub ipv4: Option<IpAddr>,
    /// The address that IPv6 adverts are sent from.
    pub ipv6: Option<IpAddr>,
    /// What arrived there and concerned no virtual router, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// A virtual IP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VipStatus {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// 1..=255.
    pub vrid: u8,
    /// The VRRP version.
    pub vrrp_version: u8,
    /// `Initialize`, `Backup`, `Claiming`, `Active` or `Held`.
    pub state: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Seconds in this state.
    pub since_s: f64,
    /// Why it entered this state.
    pub cause: String,
    /// The owner as this node knows it.
    pub owner: Option<Owner>,
    /// This node's priority, as configured.
    pub priority: u8,
    /// What the checks make of it: this is advertised.
    #[serde(default)]
    pub effective_priority: u8,
    /// The interval in force, milliseconds.
    pub advert_interval_ms: u64,
    /// With prefix length.
    pub addresses: Vec<String>,
    /// The group that moves with it.
    #[serde(default)]
    pub group: Option<String>,
    /// The spread that shares it among the nodes.
    #[serde(default)]
    pub spread: Option<SpreadStatus>,
    /// Routes that are there while this node owns the addresses, as `ip route` writes them.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Rules, as `ip rule` writes them.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Milliseconds since the last advert was received.
    pub last_advert_age_ms: Option<f64>,
    /// Milliseconds for which the addresses may still be held.
    pub lease_left_ms: Option<f64>,
    /// How often the state changed.
    pub transitions: u64,
    /// Packets dropped, of all families and reasons.
    pub drops: u64,
    /// What keeps this node out, over restarts too.
    #[serde(default)]
    pub hold: Option<HoldStatus>,
    /// Other hosts that answer for this owner's addresses.
    #[serde(default)]
    pub conflicts: Vec<ConflictStatus>,
    /// The owner's adverts are not heard, but its address answers: this node waits.
    #[serde(default)]
    pub silent_owner: Option<SilentOwnerStatus>,
    /// What answers as long as this node is connected.
    #[serde(default)]
    pub references: Vec<ReferenceStatus>,
    /// No reference answers, and a claim waits for that.
    #[serde(default)]
    pub isolated: bool,
    /// What the voters grant of it; none where there is no `[quorum]`.
    #[serde(default)]
    pub grants: Option<GrantsStatus>,
    /// Between which nodes adverts are blocked.
    #[serde(default)]
    pub blocked: Vec<BlockedStatus>,
    /// Another group that uses the VRID.
    #[serde(default)]
    pub foreign_group: Option<ForeignGroupStatus>,
    /// The MAC address that the last owner beside this node announced.
    #[serde(default)]
    pub owner_mac: Option<String>,
    /// What it makes of its health, in the order of the configuration.
    #[serde(default)]
    pub checks: Vec<CheckStatus>,
    /// The hooks that were run, the last of each moment.
    #[serde(default)]
    pub hooks: Vec<HookStatus>,
    /// One a family.
    pub routers: Vec<RouterStatus>,
}

/// What a spread makes of a vip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpreadStatus {
    /// Its name.
    pub name: String,
    /// Its nodes, the one first that is to have the vip while it lives.
    pub order: Vec<String>,
    /// The place of this node in it, from 1.
    pub place: Option<usize>,
}

/// What keeps a vip out of the election.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HoldStatus {
    /// `drained`, or `host-died`: the host went down while it was the owner, and may have been fenced.
    pub reason: String,
    /// When it ends by itself, RFC 3339; else an operator ends it.
    pub until: Option<String>,
    /// Seconds until then.
    pub left_s: Option<f64>,
}

/// A check of a vip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Its name; `VIP/NAME` of one that is the vip's own.
    pub name: String,
    /// `unknown`: there was no result yet. `presumed`: nor was there, but the vip was healthy by then. `passing`, `failing`.
    pub state: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Seconds in this state.
    pub since_s: f64,
    /// What the last run said.
    pub output: String,
    /// `fault`, `weight`, `number` or `lag`.
    pub effect: String,
    /// What it adds to the priority now.
    pub weight: i64,
    /// The number that counts, of a check that gives one.
    pub number: Option<i64>,
    /// Whether the data is too old for a claim, or nobody knows how old it is.
    pub stale: bool,
    /// Seconds for which it stays failed, whatever it finds.
    pub held_s: Option<f64>,
}

/// A hook that was run, or runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HookStatus {
    /// Its name in the configuration, such as `before_claim`.
    pub hook: String,
    /// When it was ordered, RFC 3339.
    pub at: String,
    /// Seconds since then.
    pub age_s: f64,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// What it said, or why it failed.
    pub output: String,
}

/// Who owns the addresses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// The address that its adverts come from.
    pub source: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// Whether it is this node.
    pub this_node: bool,
}

/// A virtual router: one family of a vip.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouterStatus {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// The address that adverts are sent from.
    pub source: Option<IpAddr>,
    /// The IPv4 checksum form in use: `rfc9568` or `rfc5798`.
    pub checksum: String,
    /// Adverts sent.
    pub sent: u64,
    /// Adverts accepted.
    pub received: u64,
    /// The last advert accepted.
    pub last_advert: Option<AdvertStatus>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// An advert that was received.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdvertStatus {
    /// The sender.
    pub source: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// What it promised, milliseconds.
    pub interval_ms: u64,
    /// Milliseconds ago.
    pub age_ms: f64,
}

/// Another host that answers for an address of this owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConflictStatus {
    /// The address.
    pub address: IpAddr,
    /// The other host's MAC address.
    pub mac: String,
    /// How often it was heard.
    pub claims: u64,
    /// When it was heard first, RFC 3339.
    pub first_seen: String,
    /// When it was heard last, RFC 3339.
    pub last_seen: String,
    /// Milliseconds since it was heard last.
    pub age_ms: f64,
    /// Whether it goes on and on: an alarm.
    pub persistent: bool,
    /// Whether it was the owner before this node.
    pub former_owner: bool,
    /// What it means, and what to do.
    pub remedy: String,
}

/// An owner that is not heard, and whose address answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SilentOwnerStatus {
    /// The address.
    pub address: IpAddr,
    /// The MAC address that answered last.
    pub mac: String,
    /// For how long this node has waited, milliseconds.
    pub waits_ms: f64,
    /// After how many more milliseconds it takes the addresses, whatever answers.
    pub takes_in_ms: f64,
    /// What it means, and what to do.
    pub remedy: String,
}

/// What answers as long as this node is connected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReferenceStatus {
    /// As configured.
    pub reference: String,
    /// Its address, where a way to it is known.
    pub address: Option<IpAddr>,
    /// `neighbour` (asked by ARP or neighbour solicitation), `routed` (by ICMP echo) or `none`.
    pub path: String,
    /// Milliseconds since it answered last.
    pub last_answer_age_ms: Option<f64>,
    /// Whether it has not answered for a while.
    pub lost: bool,
}

/// Another group that uses the same VRID.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForeignGroupStatus {
    /// Who advertises.
    pub source: IpAddr,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Milliseconds since it was heard last.
    pub age_ms: f64,
}

/// The name of a checksum form in configuration and status.
pub const fn checksum_name(form: ChecksumForm) -> &'static str {
    match form {
        ChecksumForm::Rfc9568 => "rfc9568",
        ChecksumForm::Rfc5798 => "rfc5798",
    }
}
