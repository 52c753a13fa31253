//! All log lines of the loop's events, written by a thread of its own: a stalled log delays no advert.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tracing::{debug, error, info, warn};

use super::alerts::Alerts;
use super::clock::{self, rfc3339};
use super::journal::Journal;
use super::journald::about;
use super::milliseconds;
use super::record::{handover_reason, kind_of};
use super::status::checksum_name;
use crate::config::Alert;
use crate::engine::silence::LONGEST_WAIT;
use crate::engine::{
    Cause, ClaimKind, Direction, Engine, Event, EventKind, FenceAction, Instant, LinkId, Missing, StateName, VipId,
    WaitEnd,
};

/// How many events may wait for a log that is slow. A thousand vips fail over with two events each.
const QUEUE: usize = 4096;

/// What the thread writes.
#[derive(Debug)]
pub(super) enum Entry {
    /// The engine's.
    Event(Event),
    /// A driver's trouble that the engine does not hear of.
    Trouble(String),
    /// How the engine's vips and links are called from now on.
    Names(Names),
}

/// The loop's end: never blocks. What it is told of events goes into the journal too.
#[derive(Debug)]
pub(super) struct Log {
    entries: Sender<Entry>,
    lost: Arc<AtomicU64>,
    journal: Journal,
    alerts: Alerts,
}

impl Log {
    /// Starts the thread.
    pub(super) fn start(
        mut names: Names,
        journal: Journal,
        alerts: Alerts,
    ) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let lost = Arc::new(AtomicU64::new(0));
        let (entries, waiting) = mpsc::channel(QUEUE);
        let lost_there = Arc::clone(&lost);
        let thread =
            thread::Builder::new().name("log".into()).spawn(move || write(waiting, &mut names, &lost_there))?;
        Ok((Self { entries, lost, journal, alerts }, thread))
    }

    /// When the journal is to be told that the loop runs.
    pub(super) const fn next_beat(&self) -> Instant {
        self.journal.next_beat()
    }

    /// Tells it, where it is time.
    pub(super) fn beat(&mut self, now: Instant) {
        self.journal.beat(now);
    }

    /// Writes an entry, or counts it as lost where the log is too slow.
    pub(super) fn write(&self, entry: Entry) {
        match &entry {
            Entry::Event(event) => {
                self.journal.record(event.clone());
                self.alerts.tell(event);
            }
            Entry::Names(names) => {
                self.journal.rename(names.clone());
                self.alerts.rename(names);
            }
            Entry::Trouble(_) => {}
        }
        if self.entries.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whom else the loop's events are told.
impl Log {
    /// See [`Alerts::keep`].
    pub(super) fn keep_alerts(&mut self, alerts: Vec<Alert>) -> Option<Vec<String>> {
        self.alerts.keep(alerts)
    }
}

/// How the node, its vips and its links are called. Each thread that writes has them: clones share what is large.
#[derive(Clone, Debug)]
pub(super) struct Names {
    node: String,
    vips: Arc<BTreeMap<VipId, Arc<str>>>,
    links: Vec<String>,
}

impl Names {
    pub(super) fn of(engine: &Engine) -> Self {
        Self {
            node: engine.node().to_owned(),
            vips: Arc::new(engine.vips().iter().map(|vip| (vip.id(), vip.settings().name.as_str().into())).collect()),
            links: engine.links().iter().map(|link| link.name.clone()).collect(),
        }
    }

    /// What is still told of a vip that has gone is told by its name.
    pub(super) fn extend(&mut self, new: Self) {
        self.node = new.node;
        if self.vips.keys().all(|vip| new.vips.contains_key(vip)) {
            self.vips = new.vips;
        } else {
            let new = new.vips.iter().map(|(vip, name)| (*vip, Arc::clone(name)));
            Arc::make_mut(&mut self.vips).extend(new);
        }
        self.links = new.links;
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn vip(&self, vip: Option<VipId>) -> &str {
        vip.and_then(|vip| self.vips.get(&vip)).map_or("-", |name| name)
    }

    /// The name of a vip for who keeps it.
    pub(super) fn shared(&self, vip: VipId) -> Option<Arc<str>> {
        self.vips.get(&vip).cloned()
    }

    pub(super) fn link(&self, link: LinkId) -> &str {
        self.links.get(usize::from(link.0)).map_or("-", String::as_str)
    }

    /// Which way adverts go: on which interface, from whom, to whom.
    pub(super) fn way<'n>(&'n self, link: LinkId, direction: Direction, peer: &'n str) -> (&'n str, &'n str, &'n str) {
        let (from, to) = direction.between(peer, &self.node);
        (self.link(link), from, to)
    }
}

fn write(mut waiting: Receiver<Entry>, names: &mut Names, lost: &AtomicU64) {
    while let Some(entry) = waiting.blocking_recv() {
        match entry {
            Entry::Event(event) => about(kind_of(&event.kind, names), || write_event(&event, names)),
            Entry::Trouble(trouble) => warn!("{trouble}"),
            Entry::Names(new) => names.extend(new),
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!(lost, "the log was too slow: {lost} lines are missing");
        }
    }
}

/// Each line carries the moment of its event: its own may be later, on a host that has no time for logs.
fn write_event(event: &Event, names: &Names) {
    let vip = names.vip(event.vip);
    let at = rfc3339(clock::wall_of(event.at));
    match &event.kind {
        EventKind::Transition { from, to, cause } => write_transition(vip, &at, *from, *to, cause),
        EventKind::Rival { source, priority } => {
            warn!(at, vip, %source, %priority, "{vip}: {source} advertises itself as owner too, with priority {priority}");
        }
        EventKind::AddressRestored { address, count } => {
            warn!(at, vip, %address, count, "{vip}: another program removed {address}: put back ({count} times)");
        }
        EventKind::RoutingRestored { routing, count } => {
            warn!(at, vip, %routing, count, "{vip}: \"{routing}\" was removed, not by this agent: put back ({count} times)");
        }
        EventKind::ChecksumFollowed { source, form } => {
            let form = checksum_name(*form);
            info!(at, vip, %source, form, "{vip}: {source} uses the checksum form {form}: now used here too");
        }
        EventKind::IntervalLearned { source, interval } => {
            let interval = interval.duration();
            info!(at, vip, %source, ?interval, "{vip}: the owner {source} advertises every {interval:?}: used here too");
        }
        EventKind::AddressesDiffer { source, theirs } => {
            warn!(at, vip, %source, ?theirs, "{vip}: {source} advertises other addresses than this node: {theirs:?}");
        }
        EventKind::Dropped { link, family, source, reason } => {
            let (interface, label) = (names.link(*link), reason.label());
            warn!(at, vip, interface, %source, reason = label, "{interface}: dropped an {family} packet from {source}: {reason}");
        }
        EventKind::Conflict { .. }
        | EventKind::ConflictPersists { .. }
        | EventKind::ClonedHost { .. }
        | EventKind::SilentOwner { .. }
        | EventKind::SilentOwnerEnds { .. }
        | EventKind::ForeignGroup { .. } => write_evidence(vip, &at, &event.kind),
        EventKind::NoMajority { .. } | EventKind::VoterSilent { .. } | EventKind::VoterAnswers { .. } => {
            write_voters(vip, &at, &event.kind);
        }
        EventKind::CheckFails { .. } | EventKind::CheckPasses { .. } | EventKind::PriorityChanged { .. } => {
            write_health(vip, &at, &event.kind);
        }
        EventKind::ReferenceLost { reference, address } => {
            let of = address.map(|address| format!(" ({address})")).unwrap_or_default();
            warn!(at, vip, %reference, "{vip}: the reference {reference}{of} answers no more");
        }
        EventKind::ReferenceBack { reference, address } => {
            info!(at, vip, %reference, %address, "{vip}: the reference {reference} ({address}) answers again");
        }
        EventKind::IsolatedFromReferences => {
            error!(
                at,
                vip, "{vip}: no owner is heard, and no reference answers: this node does not claim (prefer = \"safe\")"
            );
        }
        EventKind::PeerHeard { .. }
        | EventKind::PeerSilent { .. }
        | EventKind::AdvertsBlocked { .. }
        | EventKind::AdvertsThrough { .. }
        | EventKind::SecondOwner { .. } => write_second_path(vip, &at, &event.kind, names),
        EventKind::Fencing { .. }
        | EventKind::Fenced { .. }
        | EventKind::FenceFailed { .. }
        | EventKind::FenceMissing { .. } => write_fencing(&at, &event.kind),
        EventKind::HandedOver { peer, reason, gap } => {
            let (gap, why) = (milliseconds::shown(*gap), handover_reason(*reason));
            info!(at, vip, peer, why, gap, "{vip}: {peer} took over ({reason}), {gap} after this node let go");
        }
        EventKind::HandoverFailed { reason, failure } => {
            let why = handover_reason(*reason);
            warn!(at, vip, why, "{vip}: no handover ({reason}): {failure}");
        }
        EventKind::TookOver { away: Some(away) } => {
            let ms = away.as_millis();
            info!(at, vip, away_ms = ms, "{vip}: taken over; the addresses were away for at most {ms} ms");
        }
        EventKind::TookOver { away: None } => info!(at, vip, "{vip}: taken over; no owner was heard before"),
        // What speaks against the claim has a line of its own.
        EventKind::ClaimWaits { .. } => debug!(at, vip, "{vip}: no owner is heard, and the claim waits"),
        EventKind::OwnerBack { source } => info!(at, vip, %source, "{vip}: the owner {source} is heard again"),
        EventKind::HookDone { moment, said } => {
            info!(at, vip, hook = moment.name(), said, "{vip}: hook {moment} done: {said}");
        }
        EventKind::HookFailed { moment, error, vetoes } => {
            let then = if *vetoes { "this node does not claim, and asks again in 10 s" } else { "all goes on" };
            error!(at, vip, hook = moment.name(), %error, vetoes, "{vip}: hook {moment} failed: {error}: {then}");
        }
        EventKind::RemoveFailed(error) => {
            warn!(at, vip, %error, "{vip}: addresses could not be removed: {error}");
        }
    }
}

/// A second owner: who it is, and what to do about it.
fn write_evidence(vip: &str, at: &str, kind: &EventKind) {
    match kind {
        EventKind::Conflict { address, mac, kind, count, former_owner } => {
            let (by, remedy) = (claim_name(*kind), conflict_remedy(*former_owner));
            warn!(at, vip, %address, %mac, by, count, "{vip}: {mac} also answers for {address}: {remedy}; the neighbours were told again");
        }
        EventKind::ConflictPersists { address, mac, count, lasts, former_owner } => {
            let remedy = conflict_remedy(*former_owner);
            let seconds = lasts.as_secs();
            error!(at, vip, %address, %mac, count, seconds, "{vip}: {mac} has been answering for {address} for {seconds} s ({count} times): {remedy}; clients may reach the wrong host");
        }
        EventKind::ClonedHost { source, priority } => {
            error!(at, vip, %source, %priority, "{vip}: another host advertises from this node's own address {source}: it is a copy of this one, or has its address; give one of the two another");
        }
        EventKind::SilentOwner { address, mac, silence } => {
            let (heard, limit) = (silence_text(*silence), LONGEST_WAIT.as_secs());
            error!(at, vip, %address, %mac, "{vip}: {heard}, but {address} still answers at {mac}: this node waits, for at most {limit} s; {SILENT_OWNER_REMEDY}");
        }
        EventKind::SilentOwnerEnds { address, mac, waited, end } => {
            let seconds = format!("{:.1}", waited.as_secs_f64());
            match end {
                WaitEnd::FellSilent => {
                    warn!(at, vip, %address, %mac, seconds, "{vip}: {address} answers no more at {mac}, after {seconds} s: taking over");
                }
                WaitEnd::HeardAgain => {
                    info!(at, vip, %address, %mac, seconds, "{vip}: an owner's adverts are heard again, after {seconds} s of waiting");
                }
                WaitEnd::NoMajority => {
                    info!(at, vip, %address, %mac, seconds, "{vip}: no longer waits for {address} at {mac}, after {seconds} s: no majority of the voters grants the claim any more");
                }
                WaitEnd::Overruled => {
                    error!(at, vip, %address, %mac, seconds, "{vip}: {address} still answers at {mac} after {seconds} s without an advert: taking over all the same, two hosts may answer now; {SILENT_OWNER_REMEDY}");
                }
            }
        }
        EventKind::ForeignGroup { source, theirs } => {
            warn!(at, vip, %source, ?theirs, "{vip}: {source} uses this VRID for other addresses, {theirs:?}: not heeded; give one of the two groups another vrid");
        }
        _ => {}
    }
}

/// Voters that are missing, and such as are there again.
fn write_voters(vip: &str, at: &str, kind: &EventKind) {
    match kind {
        EventKind::NoMajority { missing } => {
            let missing = list(missing);
            warn!(at, vip, missing, "{vip}: does not claim: no majority of the voters: without {missing}");
        }
        EventKind::VoterSilent { voter, silence } => {
            let ms = silence.as_millis();
            error!(at, %voter, ms, "voter {voter} has not answered for {ms} ms: one more that is lost may take the majority; look at its host, its agent, and the way to it");
        }
        EventKind::VoterAnswers { voter, silence } => {
            let ms = silence.as_millis();
            info!(at, %voter, ms, "voter {voter} answers again, after {ms} ms");
        }
        _ => {}
    }
}

/// What the checks found.
fn write_health(vip: &str, at: &str, kind: &EventKind) {
    match kind {
        EventKind::CheckFails { check, output, unable, stay } => {
            let what = if *unable { "cannot be run" } else { "fails" };
            let seconds = stay.as_secs();
            error!(
                at,
                vip, check, output, unable, seconds, "{vip}: check {check} {what}: {output} (for {seconds} s at least)"
            );
        }
        EventKind::CheckPasses { check, output } => {
            info!(at, vip, check, output, "{vip}: check {check} passes: {output}");
        }
        EventKind::PriorityChanged { from, to, check } => {
            warn!(at, vip, %from, %to, check, "{vip}: effective priority {from} -> {to} (check {check})");
        }
        _ => {}
    }
}

/// What is known by the second path.
fn write_second_path(vip: &str, at: &str, kind: &EventKind, names: &Names) {
    match kind {
        EventKind::PeerHeard { peer } => info!(at, peer, "{peer} is heard on the second path"),
        EventKind::PeerSilent { peer, silence } => {
            warn!(at, peer, ?silence, "{peer} is no longer heard on the second path, since {silence:?}");
        }
        EventKind::AdvertsBlocked { peer, link, direction, lasts } => {
            let (interface, from, to) = names.way(*link, *direction, peer);
            let seconds = lasts.as_secs();
            let what = match direction {
                Direction::FromPeer => "it says on the second path that it is Active, so this node does not claim",
                Direction::ToPeer => "it says on the second path that it hears no owner, and waits",
            };
            error!(
                at,
                vip,
                peer,
                interface,
                blocked_from = from,
                blocked_to = to,
                seconds,
                "{vip}: adverts from {from} to {to} on {interface} are blocked: {what}; look for a firewall or a switch that drops IP protocol 112 there"
            );
        }
        EventKind::AdvertsThrough { peer, link, direction } => {
            let (interface, from, to) = names.way(*link, *direction, peer);
            info!(
                at,
                vip,
                peer,
                interface,
                blocked_from = from,
                blocked_to = to,
                "{vip}: adverts from {from} to {to} on {interface} get through again"
            );
        }
        EventKind::SecondOwner { peer, priority, yields } => {
            let verdict = if *yields {
                "this node yields"
            } else {
                "it is told again who the owner is, and so are the neighbours"
            };
            warn!(at, vip, peer, %priority, yields, "{vip}: {peer} says on the second path that it is Active too, with priority {priority}: {verdict}");
        }
        _ => {}
    }
}

/// One after another, with commas.
pub(super) fn list(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn write_fencing(at: &str, kind: &EventKind) {
    match kind {
        EventKind::Fencing { peer, target, action } => {
            warn!(at, peer, %target, "{target} fell silent: fencing {peer} ({})", action_name(*action));
        }
        EventKind::Fenced { peer, target, proof } => {
            warn!(at, peer, %target, proof, "{peer} ({target}) is fenced: {proof}");
        }
        EventKind::FenceFailed { peer, target, error, claims } => {
            let then = if *claims {
                "its addresses are claimed all the same"
            } else {
                "its addresses are NOT claimed, it is tried again"
            };
            error!(at, peer, %target, %error, "{peer} ({target}) could not be fenced: {then} ({error})");
        }
        EventKind::FenceMissing { target } => {
            error!(at, %target, "{target} fell silent and must be fenced, but no [[fence.peer]] is for it: its addresses are NOT claimed; add one with this address");
        }
        _ => {}
    }
}

pub(super) const fn action_name(action: FenceAction) -> &'static str {
    match action {
        FenceAction::Reboot => "reboot",
        FenceAction::Off => "off",
    }
}

/// What to do about a host that answers for an address, for someone who is woken by it.
pub(super) const fn conflict_remedy(former_owner: bool) -> &'static str {
    if former_owner {
        "it owned the address before and still has it; stop or restart its agent, and remove the address there"
    } else {
        "another host has this address configured; remove it there"
    }
}

/// What to do about an owner that answers, and whose adverts do not arrive.
pub(super) const SILENT_OWNER_REMEDY: &str = "the owner's host lives: look for what stops its VRRP adverts on the way (a firewall, IP protocol 112, the multicast groups), or for a dead agent";

pub(super) fn silence_text(silence: Option<std::time::Duration>) -> String {
    match silence {
        Some(silence) => format!("no advert for {} ms", silence.as_millis()),
        None => "no advert was ever heard".to_owned(),
    }
}

pub(super) const fn claim_name(kind: ClaimKind) -> &'static str {
    match kind {
        ClaimKind::Announcement => "announcement",
        ClaimKind::Question => "question",
        ClaimKind::Answer => "answer",
    }
}

fn write_transition(vip: &str, at: &str, from: StateName, to: StateName, cause: &Cause) {
    let (from_name, to_name, text) = (from.to_string(), to.to_string(), cause.to_string());
    let bad = matches!(
        cause,
        Cause::Late { .. }
            | Cause::LeaseEnded
            | Cause::MajorityLost { .. }
            | Cause::AddressAnswers { .. }
            | Cause::Isolated
            | Cause::InstallRefused(_)
            | Cause::AddressesKeepVanishing
            | Cause::AddressInUse { .. }
            | Cause::HostDied
            | Cause::CheckFails { .. }
            | Cause::LinkDown
            | Cause::GroupFault { .. }
            | Cause::GroupYields { .. }
            | Cause::LinkMissing
    );
    if bad {
        warn!(at, vip, from = from_name, to = to_name, cause = text, "{vip}: {from} -> {to}: {cause}");
    } else {
        info!(at, vip, from = from_name, to = to_name, cause = text, "{vip}: {from} -> {to}: {cause}");
    }
}
