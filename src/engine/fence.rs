//! Fencing: an owner that fell silent is made sure to be dead before its addresses are claimed.
//!
//! | a claim is about to come, because | `require = false` | `require = true` |
//! |---|---|---|
//! | the owner fell silent | claimed | fenced; claimed once that is confirmed |
//! | the owner fell silent, and its address has answered for the longest wait ([`super::silence`]) | fenced; then claimed, confirmed or not | as above |
//! | the owner resigned, is preempted, or none was heard since the agent started | claimed | claimed |
//!
//! One fencing a peer, however many vips it owned. Whoever would lose the election against the silent owner waits
//! [`FenceSettings::delay`] first: where two nodes hold each other for a silent owner, the better one is the one that survives. An owner
//! fences nobody. An owner that is heard again during the delay is not fenced. A confirmation holds until the peer is heard again.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::election::{Comparison, Rank, compare};
use super::input::{EffectError, RequestId};
use super::output::{Cause, Event, EventKind, Output};
use super::router::Heard;
use super::stats::REPORT_SPACING;
use super::time::Instant;
use super::vip::{State, Step, Vip};
use super::{Engine, VipId};

/// How long after a fencing that failed it is tried again, where a claim needs it.
pub const RETRY_AFTER: Duration = Duration::from_secs(30);
/// While a fencing runs, a claim looks at it this often; its end wakes the claim by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// `[fence]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceSettings {
    /// Whether a silent owner's addresses are claimed after a confirmed fencing only.
    pub require: bool,
    /// How long the one that would lose the election waits before it fences.
    pub delay: Duration,
    /// For how long a host that went down as the owner keeps itself out; `None`: not.
    pub hold: Option<Duration>,
    /// How each peer is fenced. Names unique.
    pub peers: Vec<Arc<FencePeer>>,
    /// What resets this host where it cannot give its addresses up. The driver's business alone.
    pub watchdog: Option<WatchdogSettings>,
}

/// `[fence.self]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogSettings {
    /// The watchdog's device.
    pub path: String,
    /// How long it may be without food. Whole seconds.
    pub timeout: Duration,
}

impl Default for FenceSettings {
    fn default() -> Self {
        Self {
            require: false,
            delay: Duration::from_secs(1),
            hold: Some(Duration::from_secs(600)),
            peers: Vec::new(),
            watchdog: None,
        }
    }
}

/// `[[fence.peer]]`: a program of the ClusterLabs convention, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FencePeer {
    /// The peer's name, for people; the program is told it as `nodename`.
    pub name: String,
    /// The addresses that its adverts come from; none: whoever is not another's.
    pub addresses: Vec<IpAddr>,
    /// The program's path.
    pub program: String,
    /// What it is to do.
    pub action: FenceAction,
    /// What it is told beside that.
    pub options: Vec<(String, String)>,
    /// The same, each value in a file of its own.
    pub secrets: Vec<(String, String)>,
    /// How long one run of it may take.
    pub timeout: Duration,
    /// How often it is tried.
    pub attempts: u8,
}

/// What a fence program is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceAction {
    /// Off, and on again.
    Reboot,
    /// Off, until somebody turns it on.
    Off,
}

/// A peer to be fenced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceOrder {
    /// Ties the answer to this output.
    pub request: RequestId,
    /// Whom, and how.
    pub peer: Arc<FencePeer>,
}

/// What became of it.
pub type FenceResult = Result<String, EffectError>;

/// All fencing of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Fences {
    pub(super) settings: FenceSettings,
    by_peer: BTreeMap<String, Fencing>,
    missing_reported_at: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fencing {
    /// Of a silence from before.
    began: Instant,
    target: IpAddr,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Delayed { until: Instant },
    Running { request: RequestId },
    Confirmed { at: Instant },
    Failed { retry_at: Instant },
}

impl Fencing {
    /// Whether it is about a silence that began then.
    fn concerns(&self, silent_since: Instant) -> bool {
        match self.stage {
            Stage::Delayed { .. } | Stage::Running { .. } | Stage::Failed { .. } => self.began >= silent_since,
            Stage::Confirmed { at } => at >= silent_since,
        }
    }
}

impl Fences {
    pub(super) fn new(settings: FenceSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    fn peer(&self, address: IpAddr) -> Option<Arc<FencePeer>> {
        let named = self.settings.peers.iter().find(|peer| peer.addresses.contains(&address));
        named.or_else(|| self.settings.peers.iter().find(|peer| peer.addresses.is_empty())).cloned()
    }
}

impl Engine {
    pub(super) fn on_fenced(&mut self, now: Instant, request: RequestId, result: FenceResult) {
        let require = self.fences.settings.require;
        let running = |fencing: &Fencing| fencing.stage == Stage::Running { request };
        let Some((name, fencing)) = self.fences.by_peer.iter_mut().find(|(_, fencing)| running(fencing)) else {
            return;
        };
        let (peer, target) = (name.clone(), fencing.target);
        let (stage, kind) = match result {
            Ok(proof) => (Stage::Confirmed { at: now }, EventKind::Fenced { peer, target, proof }),
            Err(error) => {
                let retry_at = now + RETRY_AFTER;
                (Stage::Failed { retry_at }, EventKind::FenceFailed { peer, target, error, claims: !require })
            }
        };
        fencing.stage = stage;
        self.outputs.push_back(Output::Event(Event { at: now, vip: None, kind }));
        for vip in self.vips.iter().map(Vip::id).collect::<Vec<VipId>>() {
            self.step(now, vip, Vip::on_fenced);
        }
    }
}

impl Vip {
    /// When to ask again whether to claim, where the owner has to be fenced first.
    pub(super) fn object_until_fenced(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Instant> {
        let Cause::ActiveDown { .. } = cause else { return None };
        let require = step.fences.settings.require;
        let target = if self.answered_too_long() { self.last_heard() } else { self.followed().filter(|_| require) }?;
        let again = self.fence(step, target);
        if let State::Backup(backup) = &mut self.state {
            backup.awaits_fence = again.is_some();
        }
        // What the voters granted is kept from no other node for longer than a fencing that may succeed.
        match again {
            Some(until) if until > step.now + LOOK_AGAIN => Some(self.put_off_canvass(step, until)),
            soon_or_never => soon_or_never,
        }
    }

    /// A fencing has ended: a claim that waits for it waits no longer.
    fn on_fenced(&mut self, step: &mut Step<'_>) {
        if let State::Backup(backup) = &mut self.state
            && backup.awaits_fence
        {
            backup.put_off(step.now);
            self.backup_on_deadline(step);
        }
    }

    fn followed(&self) -> Option<Heard> {
        match &self.state {
            State::Backup(backup) => backup.owner().copied(),
            State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => None,
        }
    }

    pub(super) fn last_heard(&self) -> Option<Heard> {
        self.followed()
            .or_else(|| self.routers.iter().filter_map(|router| router.heard()).max_by_key(|it| it.at).copied())
    }

    fn loses_against(&self, owner: Heard) -> bool {
        let sender = Rank { priority: owner.priority, source: owner.source };
        let own = self.routers.iter().find_map(|router| router.rank(self.priority()));
        own.is_some_and(|own| match compare(sender, own) {
            Comparison::Higher | Comparison::WinsTie => true,
            Comparison::Resigns | Comparison::LosesTie | Comparison::Lower => false,
        })
    }

    /// Has a silent owner fenced. When to ask again; `None`: nothing stands in the way of the claim.
    fn fence(&self, step: &mut Step<'_>, owner: Heard) -> Option<Instant> {
        let now = step.now;
        let require = step.fences.settings.require;
        let Some(peer) = step.fences.peer(owner.source) else {
            return require.then(|| self.report_missing(step, owner.source));
        };
        let known = step.fences.by_peer.get(&peer.name).filter(|fencing| fencing.concerns(owner.at));
        let (began, starts) = match known.map(|fencing| (fencing.began, &fencing.stage)) {
            Some((_, Stage::Confirmed { .. })) => return None,
            Some((_, Stage::Running { .. })) => return Some(now + LOOK_AGAIN),
            Some((_, Stage::Delayed { until })) if now < *until => return Some(*until),
            Some((began, Stage::Delayed { .. })) => (began, true),
            Some((_, Stage::Failed { .. })) if !require => return None,
            Some((_, Stage::Failed { retry_at })) if now < *retry_at => return Some(*retry_at),
            Some((_, Stage::Failed { .. })) => (now, true),
            None => (now, !self.loses_against(owner) || step.fences.settings.delay.is_zero()),
        };
        let (stage, again) = if starts {
            let request = step.request();
            let (name, target) = (peer.name.clone(), owner.source);
            let kind = EventKind::Fencing { peer: name, target, action: peer.action };
            step.outputs.push_back(Output::Event(Event { at: now, vip: None, kind }));
            step.outputs.push_back(Output::Fence(FenceOrder { request, peer: Arc::clone(&peer) }));
            (Stage::Running { request }, now + LOOK_AGAIN)
        } else {
            let until = now + step.fences.settings.delay;
            (Stage::Delayed { until }, until)
        };
        step.fences.by_peer.insert(peer.name.clone(), Fencing { began, target: owner.source, stage });
        Some(again)
    }

    fn report_missing(&self, step: &mut Step<'_>, target: IpAddr) -> Instant {
        let now = step.now;
        if step.fences.missing_reported_at.is_none_or(|at| now.since(at) >= REPORT_SPACING) {
            step.fences.missing_reported_at = Some(now);
            let kind = EventKind::FenceMissing { target };
            step.outputs.push_back(Output::Event(Event { at: now, vip: Some(self.id), kind }));
        }
        now + LOOK_AGAIN
    }
}
