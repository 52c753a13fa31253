//! How an engine, and what the loop knows beside it, become the document.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{
    AdvertStatus, BlockedStatus, CheckStatus, ConflictStatus, ForeignGroupStatus, HoldStatus, HookStatus, LinkStatus,
    Owner, ReferenceStatus, RouterStatus, SCHEMA, SecondPathStatus, SilentOwnerStatus, SpreadStatus, Status, VipStatus,
    checksum_name,
};
use crate::daemon::clock::{self, rfc3339};
use crate::daemon::enforcement::Enforcement;
use crate::daemon::journal::JournalStatus;
use crate::daemon::lateness::Lateness;
use crate::daemon::log::{SILENT_OWNER_REMEDY, conflict_remedy};
use crate::daemon::milliseconds;
use crate::daemon::sandbox::Level;
use crate::daemon::second_path::SecondPath;
use crate::daemon::votes::grants_status;
use crate::engine::heartbeat::Peer;
use crate::engine::isolation::{Path, ReferenceState};
use crate::engine::{
    Blocked, Check, CheckEffect, CheckState, Conflict, Engine, Heard, Hold, HoldReason, HookRun, Instant, Link,
    LinkState, Router, Vip, VipSettings,
};
use crate::types::Routing;

/// What the loop knows beside the engine.
#[derive(Clone, Copy, Debug)]
pub(in crate::daemon) struct Circumstances {
    pub(in crate::daemon) started_at: Instant,
    pub(in crate::daemon) realtime: bool,
    pub(in crate::daemon) memory_locked: bool,
    pub(in crate::daemon) enforcement: Enforcement,
    pub(in crate::daemon) sandbox: Level,
}

/// Describes an engine.
pub(in crate::daemon) fn status(
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
        lease_resolution_ms: milliseconds::whole(
            circumstances.enforcement.resolution(engine.vips().iter().map(Vip::settings)),
        ),
        sandbox: Some(circumstances.sandbox),
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

impl Status {
    pub(in crate::daemon) fn heard_on_second_path(&mut self, engine: &Engine, paths: &SecondPath, now: Instant) {
        let status = |(name, peer): (&str, &Peer)| SecondPathStatus {
            peer: name.to_owned(),
            heard: peer.is_heard(now),
            age_ms: peer.heard_at().map(|at| age_ms(now, at)),
            interval_ms: peer.interval().map(milliseconds::whole),
            received: peer.received(),
            paths: paths.paths(name).collect(),
        };
        self.second_path = engine.heartbeats().peers().map(status).collect();
    }
}

fn link_status(link: &Link) -> LinkStatus {
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
        advert_interval_ms: milliseconds::whole(vip.interval().duration()),
        addresses: vip.addresses().iter().map(ToString::to_string).collect(),
        group: vip.group().map(str::to_owned),
        spread: settings.spread.as_ref().map(|place| SpreadStatus {
            name: place.spread.clone(),
            order: place.order.clone(),
            place: place.of(engine.node()).map(|place| place + 1),
        }),
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
            interval_ms: milliseconds::whole(heard.interval.duration()),
            age_ms: age_ms(now, heard.at),
        }),
        drops: by_reason(router.drops().by_reason()),
    }
}

fn by_reason(drops: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    drops.map(|(reason, count)| (reason.to_owned(), count)).collect()
}

fn age_ms(now: Instant, at: Instant) -> f64 {
    milliseconds::exact(now.since(at))
}
