//! What the agent says of itself: the document that `vipd status --json` prints.
//!
//! Schema 1. Fields are added within a schema; one that goes or changes its meaning makes a new one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::alert_accounts::AlertStatus;
use super::clock::{self, rfc3339};
use super::enforcement::Enforcement;
use super::journal::JournalStatus;
use super::lateness::Lateness;
use super::log::{SILENT_OWNER_REMEDY, conflict_remedy};
use super::peers::SealStatus;
use super::second_path::SecondPath;
use super::votes::{GrantsStatus, QuorumStatus, grants_status};
use crate::engine::heartbeat::Peer;
use crate::engine::isolation::{Path, ReferenceState};
use crate::engine::{
    Blocked, Check, CheckEffect, CheckState, Conflict, Engine, Heard, Hold, HoldReason, HookRun, Instant, LinkState,
    Router, Vip, VipSettings,
};
use crate::types::Routing;
use crate::wire::advert::ChecksumForm;

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

impl Status {
    pub(super) fn heard_on_second_path(&mut self, engine: &Engine, paths: &SecondPath, now: Instant) {
        let status = |(name, peer): (&str, &Peer)| SecondPathStatus {
            peer: name.to_owned(),
            heard: peer.is_heard(now),
            age_ms: peer.heard_at().map(|at| age_ms(now, at)),
            interval_ms: peer.interval().map(milliseconds),
            received: peer.received(),
            paths: paths.paths(name).collect(),
        };
        self.second_path = engine.heartbeats().peers().map(status).collect();
    }
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

/// What the loop knows beside the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    pub(super) started_at: Instant,
    pub(super) realtime: bool,
    pub(super) memory_locked: bool,
    pub(super) enforcement: Enforcement,
}

/// Describes an engine.
pub(super) fn status(
    engine: &Engine,
    now: Instant,
    circumstances: Circumstances,
    lateness: &Lateness,
    journal: &JournalStatus,
) -> Status {
    Status {
        schema: SCHEMA,
        at: rfc3339(clock::wall()),
        node: engine.node().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: now.since(circumstances.started_at).as_secs_f64(),
        realtime: circumstances.realtime,
        memory_locked: circumstances.memory_locked,
        leases_enforced: circumstances.enforcement.is_in_time(),
        lease_layer: circumstances.enforcement.name().to_owned(),
        lease_resolution_ms: milliseconds(
            circumstances.enforcement.resolution(engine.vips().iter().map(Vip::settings)),
        ),
        lateness: lateness.clone(),
        journal: journal.clone(),
        seal: None,
        quorum: None,
        second_path: Vec::new(),
        alerts: Vec::new(),
        links: engine.links().iter().map(link_status).collect(),
        vips: engine.vips().iter().map(|vip| vip_status(engine, vip, now)).collect(),
    }
}

fn link_status(link: &crate::engine::Link) -> LinkStatus {
    let (state, ipv4, ipv6) = match link.state {
        LinkState::Missing => ("missing", None, None),
        LinkState::Down => ("down", None, None),
        LinkState::Up { ipv4, ipv6 } => ("up", ipv4.map(IpAddr::V4), ipv6.map(IpAddr::V6)),
    };
    LinkStatus {
        name: link.name.clone(),
        state: state.to_owned(),
        ipv4,
        ipv6,
        drops: by_reason(link.drops.by_reason()),
    }
}

fn vip_status(engine: &Engine, vip: &Vip, now: Instant) -> VipStatus {
    let settings = vip.settings();
    let in_state = now.since(vip.since());
    let last_advert = vip.routers().iter().filter_map(|router| router.heard()).map(|heard| heard.at).max();
    VipStatus {
        name: settings.name.clone(),
        interface: engine.links().get(usize::from(vip.link().0)).map(|link| link.name.clone()).unwrap_or_default(),
        vrid: settings.vrid.number(),
        vrrp_version: settings.version.number(),
        state: vip.state().to_string(),
        since: rfc3339(clock::wall_of(vip.since())),
        since_s: in_state.as_secs_f64(),
        cause: vip.cause().to_string(),
        owner: vip.owner().map(|owner| Owner {
            source: owner.source,
            priority: owner.priority.0,
            this_node: vip.routers().iter().any(|router| router.source() == Some(owner.source)),
        }),
        priority: settings.priority.0,
        effective_priority: vip.priority().0,
        advert_interval_ms: milliseconds(vip.interval().duration()),
        addresses: vip.addresses().iter().map(ToString::to_string).collect(),
        group: vip.group().map(str::to_owned),
        routes: routing(settings, |routing| matches!(routing, Routing::Route(_))),
        rules: routing(settings, |routing| matches!(routing, Routing::Rule(_))),
        last_advert_age_ms: last_advert.map(|at| age_ms(now, at)),
        lease_left_ms: vip.lease_until().map(|until| age_ms(until, now)),
        transitions: vip.transitions(),
        drops: vip.routers().iter().map(|router| router.drops().total()).sum(),
        hold: vip.held_by().map(|hold| hold_status(hold, now)),
        conflicts: vip.conflicts(now).map(|conflict| conflict_status(conflict, now)).collect(),
        silent_owner: vip.silent_owner().map(|owner| SilentOwnerStatus {
            address: owner.address,
            mac: owner.mac.to_string(),
            waits_ms: age_ms(now, owner.since),
            takes_in_ms: age_ms(owner.until, now),
            remedy: SILENT_OWNER_REMEDY.to_owned(),
        }),
        references: vip.references().iter().map(|state| reference_status(state, now)).collect(),
        isolated: vip.is_isolated(),
        grants: grants_status(vip, now),
        blocked: vip.blocked().iter().map(|blocked| blocked_status(engine, blocked, now)).collect(),
        foreign_group: vip.foreign_group(now).map(|group| ForeignGroupStatus {
            source: group.source,
            addresses: group.theirs.clone(),
            age_ms: age_ms(now, group.last_at),
        }),
        owner_mac: vip.owner_mac().map(|mac| mac.to_string()),
        checks: vip.checks().iter().map(|check| check_status(check, now)).collect(),
        hooks: vip.hook_runs().iter().map(|run| hook_status(run, now)).collect(),
        routers: vip.routers().iter().map(|router| router_status(router, now)).collect(),
    }
}

fn routing(settings: &VipSettings, wanted: fn(&Routing) -> bool) -> Vec<String> {
    settings.routing.iter().filter(|routing| wanted(routing)).map(ToString::to_string).collect()
}

fn hold_status(hold: &Hold, now: Instant) -> HoldStatus {
    let reason = match hold.reason {
        HoldReason::Drained => "drained",
        HoldReason::HostDied => "host-died",
    };
    HoldStatus {
        reason: reason.to_owned(),
        until: hold.until.map(|until| rfc3339(clock::wall_at(until))),
        left_s: hold.until.map(|until| until.since(now).as_secs_f64()),
    }
}

fn check_status(check: &Check, now: Instant) -> CheckStatus {
    let state = match check.state() {
        CheckState::Unknown => "unknown",
        CheckState::Presumed => "presumed",
        CheckState::Passing => "passing",
        CheckState::Failing => "failing",
    };
    let effect = match check.settings().effect {
        CheckEffect::Fault => "fault",
        CheckEffect::Weight(_) => "weight",
        CheckEffect::Number => "number",
        CheckEffect::Lag { .. } => "lag",
    };
    CheckStatus {
        name: check.settings().name.clone(),
        state: state.to_owned(),
        since: rfc3339(clock::wall_of(check.since())),
        since_s: now.since(check.since()).as_secs_f64(),
        output: check.output().to_owned(),
        effect: effect.to_owned(),
        weight: check.weight(),
        number: check.number(),
        stale: check.is_stale(),
        held_s: check.held_until().filter(|until| now < *until).map(|until| until.since(now).as_secs_f64()),
    }
}

fn hook_status(run: &HookRun, now: Instant) -> HookStatus {
    let (state, output) = match &run.result {
        None => ("running", String::new()),
        Some(Ok(said)) => ("done", said.clone()),
        Some(Err(error)) => ("failed", error.0.clone()),
    };
    HookStatus {
        hook: run.moment.to_string(),
        at: rfc3339(clock::wall_of(run.at)),
        age_s: now.since(run.at).as_secs_f64(),
        state: state.to_owned(),
        output,
    }
}

fn conflict_status(conflict: &Conflict, now: Instant) -> ConflictStatus {
    ConflictStatus {
        address: conflict.address,
        mac: conflict.mac.to_string(),
        claims: conflict.count,
        first_seen: rfc3339(clock::wall_of(conflict.first_at)),
        last_seen: rfc3339(clock::wall_of(conflict.last_at)),
        age_ms: age_ms(now, conflict.last_at),
        persistent: conflict.persistent,
        former_owner: conflict.former_owner,
        remedy: conflict_remedy(conflict.former_owner).to_owned(),
    }
}

fn reference_status(state: &ReferenceState, now: Instant) -> ReferenceStatus {
    let path = match state.path {
        Some(Path::Neighbour(_)) => "neighbour",
        Some(Path::Routed(_)) => "routed",
        None => "none",
    };
    ReferenceStatus {
        reference: state.reference.to_string(),
        address: state.path.map(Path::address),
        path: path.to_owned(),
        last_answer_age_ms: state.answered_at.map(|at| age_ms(now, at)),
        lost: state.lost,
    }
}

fn blocked_status(engine: &Engine, blocked: &Blocked, now: Instant) -> BlockedStatus {
    let (from, to) = blocked.direction.between(&blocked.peer, engine.node());
    BlockedStatus { from: from.to_owned(), to: to.to_owned(), age_ms: age_ms(now, blocked.since) }
}

fn router_status(router: &Router, now: Instant) -> RouterStatus {
    RouterStatus {
        family: router.family().to_string(),
        source: router.source(),
        checksum: checksum_name(router.checksum()).to_owned(),
        sent: router.sent(),
        received: router.received(),
        last_advert: router.heard().map(|heard: &Heard| AdvertStatus {
            source: heard.source,
            priority: heard.priority.0,
            interval_ms: milliseconds(heard.interval.duration()),
            age_ms: age_ms(now, heard.at),
        }),
        drops: by_reason(router.drops().by_reason()),
    }
}

/// The name of a checksum form in configuration and status.
pub const fn checksum_name(form: ChecksumForm) -> &'static str {
    match form {
        ChecksumForm::Rfc9568 => "rfc9568",
        ChecksumForm::Rfc5798 => "rfc5798",
    }
}

fn by_reason(drops: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    drops.map(|(reason, count)| (reason.to_owned(), count)).collect()
}

fn age_ms(now: Instant, at: Instant) -> f64 {
    now.since(at).as_secs_f64() * 1e3
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
