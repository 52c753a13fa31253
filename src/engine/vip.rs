//! A virtual IP: the state that its virtual routers share, and what every state has in common.
//!
//! The transitions stand in [`super::backup`] and [`super::owner`], the interface in [`super::readiness`]; an input
//! that concerns no state (the end of a hold, a stop) is decided here.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::ahead::Ahead;
use super::backup::Backup;
use super::canvass::Canvass;
use super::election::{self, PATIENCE, Rank};
use super::fence::Fences;
use super::group::Membership;
use super::hand_on::Inheritance;
use super::handover::{Handover, Joints};
use super::health::Health;
use super::hold::Hold;
use super::hook::Hooks;
use super::input::{Arrival, LinkId, LinkState, RequestId};
use super::isolation::References;
use super::output::{AddressSet, Cause, Event, EventKind, Output, StateName, Transmit};
use super::owner::Ownership;
use super::quorum::{Quorum, QuorumSettings};
use super::rare::Rare;
use super::rival::Evidence;
use super::router::Router;
use super::second_path::SecondPath;
use super::settings::VipSettings;
use super::silence::Silence;
use super::stats::Reports;
use super::summons::Summons;
use super::time::Instant;
use super::voter::Voter;
use super::{VipId, router};
use crate::types::{AdvertInterval, Family, Priority, Routing, Version, VirtualAddress};
use crate::wire::DropReason;
use crate::wire::advert::{Advert, group};
use crate::wire::grant::RouterId;

/// A virtual IP of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    pub(super) id: VipId,
    pub(super) link: LinkId,
    pub(super) settings: VipSettings,
    pub(super) addresses: Arc<[VirtualAddress]>,
    pub(super) routing: Arc<[Routing]>,
    pub(super) routers: Vec<Router>,
    pub(super) state: State,
    since: Instant,
    pub(super) cause: Cause,
    transitions: u64,
    /// Claims in a row that the kernel refused.
    pub(super) refusals: u32,
    reports: Reports,
    pub(super) link_state: LinkState,
    pub(super) inherited: Option<Inheritance>,
    /// What keeps it out, whatever its state.
    pub(super) hold: Option<Hold>,
    pub(super) evidence: Rare<Evidence>,
    pub(super) silence: Option<Box<Silence>>,
    pub(super) summons: Option<Box<Summons>>,
    pub(super) health: Health,
    pub(super) references: Rare<References>,
    pub(super) second_path: SecondPath,
    pub(super) handover: Rare<Handover>,
    pub(super) ahead: Option<Ahead>,
    pub(super) membership: Option<Box<Membership>>,
    pub(super) hooks: Rare<Hooks>,
    /// The grants, where voters are configured, and this node's name among them.
    pub(super) quorum: Option<Box<Quorum>>,
    pub(super) own_name: Option<Arc<str>>,
    pub(super) canvass: Option<Canvass>,
}

/// What a vip is doing. Each variant owns what only that state needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Takes no part.
    Initialize,
    /// Listens.
    Backup(Backup),
    /// The kernel was asked for the addresses.
    Claiming { ownership: Ownership, request: RequestId },
    /// Owns the addresses.
    Active(Ownership),
    /// Keeps itself out until then; `None`: until an operator says otherwise.
    Held { until: Option<Instant> },
}

/// What a step works with beside the vip itself.
pub(super) struct Step<'a> {
    pub(super) now: Instant,
    pub(super) outputs: &'a mut VecDeque<Output>,
    pub(super) next_request: &'a mut u64,
    pub(super) fences: &'a mut Fences,
    pub(super) joints: &'a mut Joints,
    /// Where this node votes itself.
    pub(super) voter: Option<&'a mut Voter>,
}

impl Step<'_> {
    pub(super) fn request(&mut self) -> RequestId {
        *self.next_request = self.next_request.saturating_add(1);
        RequestId(*self.next_request)
    }

    fn event(&mut self, vip: VipId, kind: EventKind) {
        self.outputs.push_back(Output::Event(Event { at: self.now, vip: Some(vip), kind }));
    }
}

/// What a status shows.
impl Vip {
    /// Names this vip in inputs and outputs.
    pub const fn id(&self) -> VipId {
        self.id
    }

    /// The interface.
    pub const fn link(&self) -> LinkId {
        self.link
    }

    /// As configured.
    pub const fn settings(&self) -> &VipSettings {
        &self.settings
    }

    /// Both families' addresses, as installed.
    pub const fn addresses(&self) -> &Arc<[VirtualAddress]> {
        &self.addresses
    }

    /// One or two, IPv4 first.
    pub fn routers(&self) -> &[Router] {
        &self.routers
    }

    /// Its state.
    pub const fn state(&self) -> StateName {
        match self.state {
            State::Initialize => StateName::Initialize,
            State::Backup(_) => StateName::Backup,
            State::Claiming { .. } => StateName::Claiming,
            State::Active(_) => StateName::Active,
            State::Held { .. } => StateName::Held,
        }
    }

    /// When it entered its state.
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// Why it is in its state; of an owner, why it claimed.
    pub const fn cause(&self) -> &Cause {
        &self.cause
    }

    /// How often it changed its state.
    pub const fn transitions(&self) -> u64 {
        self.transitions
    }

    /// The owner as this node knows it: itself, or the peer that it follows.
    pub fn owner(&self) -> Option<Rank> {
        match &self.state {
            State::Claiming { .. } | State::Active(_) => self.lead().and_then(|lead| lead.rank(self.priority())),
            State::Backup(backup) => {
                let owner = backup.owner()?;
                // Of a peer with two addresses the one in the family that leads, if it is heard there too.
                let lead = self.lead().and_then(Router::heard);
                let shown = lead.filter(|lead| owner.at.since(lead.at) < lead.interval.duration() * PATIENCE);
                let shown = shown.unwrap_or(owner);
                Some(Rank { priority: shown.priority, source: shown.source })
            }
            State::Initialize | State::Held { .. } => None,
        }
    }

    /// The interval in force: learned from the owner, else configured.
    pub fn interval(&self) -> AdvertInterval {
        match &self.state {
            State::Backup(backup) => backup.owner().map_or(self.settings.interval, |owner| owner.interval),
            State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => {
                self.settings.interval
            }
        }
    }

    /// Until when the addresses may be held.
    pub const fn lease_until(&self) -> Option<Instant> {
        match &self.state {
            State::Claiming { ownership, .. } | State::Active(ownership) => Some(ownership.lease().until()),
            State::Initialize | State::Backup(_) | State::Held { .. } => None,
        }
    }

    /// When it wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let effects = [self.handover.deadline(), self.hooks.deadline()];
        [self.deadline_of_state(), self.isolation_due_at()].into_iter().chain(effects).flatten().min()
    }

    fn deadline_of_state(&self) -> Option<Instant> {
        match &self.state {
            State::Initialize => self.hold.as_ref().and_then(|hold| hold.until),
            State::Backup(backup) => {
                let claim_at = backup.active_down_at();
                let before = [self.prepare_at(), self.ask_at(), self.canvass_at(), self.ahead_at()];
                before.into_iter().flatten().chain([claim_at]).min()
            }
            State::Claiming { ownership, .. } | State::Active(ownership) => {
                let deadline = ownership.deadline();
                // The grants may end long before the next advert.
                let deadline = if self.quorum.is_some() { deadline.min(ownership.lease().until()) } else { deadline };
                Some(self.judgement_at().map_or(deadline, |judgement| judgement.min(deadline)))
            }
            State::Held { until } => *until,
        }
    }
}

/// Inputs.
impl Vip {
    pub(super) fn new(
        id: VipId,
        link: LinkId,
        settings: VipSettings,
        quorum: Option<&QuorumSettings>,
        hold: Option<Hold>,
        now: Instant,
    ) -> Self {
        let mut routers: Vec<_> = Family::ALL.into_iter().filter_map(|family| Router::new(family, &settings)).collect();
        routers.shrink_to_fit();
        let addresses = by_family(&settings);
        let routing = settings.routing.as_slice().into();
        let vrid = settings.vrid;
        let grants = |quorum: &QuorumSettings| {
            Box::new(Quorum::new(now, RouterId { cluster: Arc::clone(&quorum.cluster), vrid }, &quorum.voters))
        };
        let health = Health::new(&settings, now);
        let mut vip = Self {
            id,
            link,
            settings,
            addresses,
            routing,
            routers,
            state: State::Initialize,
            since: now,
            cause: Cause::LinkMissing,
            transitions: 0,
            refusals: 0,
            reports: Reports::default(),
            link_state: LinkState::Missing,
            inherited: None,
            hold,
            evidence: Rare::BLANK,
            silence: None,
            summons: None,
            quorum: quorum.map(grants),
            own_name: quorum.map(|quorum| Arc::clone(&quorum.own)),
            canvass: None,
            health,
            references: Rare::BLANK,
            second_path: SecondPath::default(),
            handover: Rare::BLANK,
            ahead: None,
            membership: None,
            hooks: Rare::BLANK,
        };
        vip.follow_references(now);
        vip
    }

    /// After a step: what is as in most vips again takes no more memory than there.
    pub(super) fn shed(&mut self) {
        self.evidence.shed();
        self.references.shed();
        self.handover.shed();
        self.hooks.shed();
    }

    pub(super) fn on_advert(&mut self, step: &mut Step<'_>, arrival: &Arrival) {
        self.depose_if_late(step);
        let family = Family::of(arrival.source);
        let priority = self.priority();
        let Some(router) = self.routers.iter_mut().find(|router| router.family() == family) else { return };
        if let Err(reason) = router.check(arrival, &self.settings) {
            let due = router.drops_mut().count(step.now, &reason);
            let told = self.report_evidence(step, &reason, arrival.advert.priority, &arrival.advert.addresses, due);
            if due && !told {
                let kind = EventKind::Dropped { link: self.link, family, source: arrival.source, reason };
                step.event(self.id, kind);
            }
            if let DropReason::AddressOwner { source } = reason {
                self.address_owner_on_advert(step, Rank { priority: arrival.advert.priority, source });
            }
            return;
        }
        let learned = router.note(step.now, arrival, &self.settings);
        let own = router.rank(priority);
        self.report(step, arrival.source, learned);
        self.on_advert_through(step, arrival.source);
        self.handover_on_advert(step, arrival.source, arrival.advert.priority);
        // Without a source address the vip is in Initialize, and takes no part.
        let Some(own) = own else { return };
        if self.is_advert_of_before(step.now, arrival.source) {
            return;
        }
        let sender = Rank { priority: arrival.advert.priority, source: arrival.source };
        let comparison = election::compare(sender, own);
        match &self.state {
            State::Initialize | State::Held { .. } => {}
            State::Backup(_) => self.backup_on_advert(step, sender, comparison, arrival.advert.interval),
            State::Claiming { .. } | State::Active(_) => {
                self.owner_on_advert(step, sender, comparison, arrival.advert.interval);
            }
        }
    }

    pub(super) fn on_deadline(&mut self, step: &mut Step<'_>) {
        self.depose_if_late(step);
        self.expire_hold(step);
        self.isolation_on_deadline(step);
        self.handover_on_deadline(step);
        match &self.state {
            State::Initialize => {}
            State::Backup(_) => self.backup_on_deadline(step),
            State::Claiming { .. } | State::Active(_) => {
                self.owner_on_deadline(step);
                self.judge(step);
            }
            State::Held { until } if until.is_some_and(|until| step.now >= until) => match self.unready() {
                None => self.start(step, Cause::HoldOver),
                Some(cause) => self.enter(step, State::Initialize, cause),
            },
            State::Held { .. } => {}
        }
    }

    /// Gives up whatever it has, for good.
    pub(super) fn leave(&mut self, step: &mut Step<'_>, cause: Cause) {
        self.depose_if_late(step);
        match &self.state {
            State::Initialize => {}
            State::Backup(_) | State::Held { .. } => self.enter(step, State::Initialize, cause),
            State::Claiming { .. } | State::Active(_) => {
                self.give_up(step);
                self.enter(step, State::Initialize, cause);
            }
        }
    }
}

/// What the transitions share.
impl Vip {
    /// RFC 9568 §6.4.1: the address owner goes Active, everybody else listens first; but an owner whose agent was
    /// started anew within its lease is one still.
    pub(super) fn start(&mut self, step: &mut Step<'_>, cause: Cause) {
        self.expire_hold(step);
        self.count_references_from(step.now);
        if let Some(hold) = self.hold {
            if self.inherited.take().is_some() {
                self.give_up(step);
            }
            self.keep_out(step, hold);
            return;
        }
        if self.take_up_inheritance(step) {
            return;
        }
        if self.settings.priority == Priority::OWNER {
            self.seek(step, Cause::AddressOwner);
        } else {
            let backup = Backup::listening(step.now + self.active_down_interval(self.settings.interval));
            self.enter(step, State::Backup(backup), cause);
        }
    }

    pub(super) fn enter(&mut self, step: &mut Step<'_>, state: State, cause: Cause) {
        let from = self.state();
        self.follow_grants(step, &state, &cause);
        let asks_on = match &state {
            State::Backup(backup) => backup.is_prepared(),
            State::Claiming { .. } => true,
            State::Initialize | State::Active(_) | State::Held { .. } => false,
        };
        if !asks_on {
            self.silence = None;
        }
        if !matches!(state, State::Claiming { .. }) {
            self.summons = None;
        }
        self.state = state;
        self.since = step.now;
        self.transitions = self.transitions.saturating_add(1);
        self.note_transition();
        let (was_owner, is_owner) = (from.is_owner(), self.state().is_owner());
        if was_owner != is_owner {
            self.forget_blocked();
        }
        // That the kernel obeyed is no reason: what made this node claim stays the reason why it is Active.
        if cause != Cause::Installed {
            self.cause = cause.clone();
        }
        if !matches!(self.state, State::Backup(_)) {
            self.drop_ahead(step);
        }
        let void = self.handover_on_transition(step, &cause);
        step.event(self.id, EventKind::Transition { from, to: self.state(), cause });
        if let Some(then) = void {
            self.leave_all_the_same(step, then);
        }
    }

    /// Gives up what an owner has: the addresses, and then the role (an advert of priority 0, RFC 9568 §6.4.3).
    ///
    /// DEVIATION: the standard sends that advert only at a shutdown. An owner that yields to a rival sends it too,
    /// so that the rival learns that there were two, and announces itself once more as the last one to do so.
    pub(super) fn give_up(&mut self, step: &mut Step<'_>) {
        self.withdraw(step);
        self.transmit(step, Priority::RESIGN);
    }

    /// Gives up the addresses, and says so to nobody.
    pub(super) fn withdraw(&mut self, step: &mut Step<'_>) {
        step.outputs.push_back(Output::EndLease { vip: self.id });
        let set = self.address_set(step);
        self.note_removal(set.request);
        step.outputs.push_back(Output::Remove(set));
    }

    /// Sends an advert by every virtual router that can.
    pub(super) fn transmit(&mut self, step: &mut Step<'_>, priority: Priority) {
        let Self { routers, settings, id, link, .. } = self;
        for router in routers {
            let Some(source) = router.source() else { continue };
            let family = router.family();
            let advert = router.advert(settings, priority);
            let mut send = |destination: IpAddr, advert: Advert| {
                step.outputs.push_back(Output::Transmit(Transmit {
                    vip: *id,
                    link: *link,
                    source,
                    destination,
                    mac: settings.mac,
                    advert,
                    checksum: router.checksum(),
                }));
            };
            if settings.peers.is_empty() {
                send(group(family), advert);
            } else {
                let peers = settings.peers.iter().filter(|peer| Family::of(**peer) == family);
                peers.for_each(|peer| send(*peer, advert.clone()));
            }
        }
    }

    pub(super) fn address_set(&self, step: &mut Step<'_>) -> AddressSet {
        self.set_of(step, Arc::clone(&self.addresses), Arc::clone(&self.routing))
    }

    pub(super) fn set_of(
        &self,
        step: &mut Step<'_>,
        addresses: Arc<[VirtualAddress]>,
        routing: Arc<[Routing]>,
    ) -> AddressSet {
        AddressSet {
            request: step.request(),
            vip: self.id,
            link: self.link,
            mac: self.settings.mac,
            vrid: self.settings.vrid,
            addresses,
            routing,
        }
    }

    pub(super) fn event(&self, step: &mut Step<'_>, kind: EventKind) {
        step.event(self.id, kind);
    }

    /// An event that a packet caused: whoever can forge packets can cause any number of them.
    pub(super) fn event_of_packet(&mut self, step: &mut Step<'_>, kind: EventKind) {
        if self.reports.permit(step.now) {
            step.event(self.id, kind);
        }
    }

    /// How long an owner with this interval may be silent (RFC 9568 §6.1, `Active_Down_Interval`).
    pub(super) fn active_down_interval(&self, interval: AdvertInterval) -> Duration {
        interval.duration() * PATIENCE + self.skew_time(interval)
    }

    pub(super) fn skew_time(&self, interval: AdvertInterval) -> Duration {
        match self.settings.version {
            Version::V2 => election::skew_time_v2(self.priority()),
            Version::V3 => election::skew_time(interval, self.priority()),
        }
    }

    /// The virtual router whose addresses break ties for the whole vip.
    ///
    /// Were each family to break its own, two nodes could each win one, and both yield.
    pub(super) fn lead(&self) -> Option<&Router> {
        self.routers.first()
    }

    fn report(&mut self, step: &mut Step<'_>, source: IpAddr, learned: router::Learned) {
        if let Some(form) = learned.checksum {
            self.event_of_packet(step, EventKind::ChecksumFollowed { source, form });
        }
        if let Some(theirs) = learned.addresses {
            self.event_of_packet(step, EventKind::AddressesDiffer { source, theirs });
        }
    }
}

/// The addresses as they are installed: both families', IPv4 first.
pub(super) fn by_family(settings: &VipSettings) -> Arc<[VirtualAddress]> {
    let mut addresses = settings.addresses.clone();
    addresses.sort_by_key(VirtualAddress::family);
    addresses.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_takes_little_memory() {
        // A node may have a thousand. What few of them need, or all of them seldom, is boxed.
        assert!(size_of::<Vip>() <= 960, "{} bytes", size_of::<Vip>());
    }
}
