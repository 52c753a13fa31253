//! Being an owner, in Claiming and Active: holds the addresses by a lease, advertises, and yields to the better (RFC 9568 §6.4.3).

use alloc::sync::Arc;
use core::net::IpAddr;
use core::time::Duration;

use super::announce::{AnnouncePlan, RIVAL_SPACING};
use super::backup::Backup;
use super::election::{Comparison, PATIENCE, Rank};
use super::input::{EffectError, RequestId};
use super::lease::Lease;
use super::lease::Stretch;
use super::output::{Cause, EventKind, Output};
use super::restore::{Restorations, Verdict};
use super::router::Heard;
use super::settings::VipSettings;
use super::time::Instant;
use super::vip::{State, Step, Vip};
use crate::types::{AdvertInterval, Family, Priority, Routing};

/// The shortest time between an advert and an answer to a rival's, so that a forger cannot make us flood the link;
/// a quarter of the advert interval where that is shorter.
const ANSWER_SPACING: Duration = Duration::from_millis(10);
/// How long a node stays out after the kernel refused the addresses for the first time: long enough for another node to take
/// over, short enough that a node without peers tries again. Doubled with each further refusal, because a node of
/// higher priority takes the addresses from a healthy owner each time that it tries.
const HOLD_AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// See [`HOLD_AFTER_REFUSAL`].
const LONGEST_HOLD: Duration = Duration::from_secs(300);
/// How long a node stays out after another program kept removing the addresses.
const HOLD_AFTER_VANISHING: Duration = Duration::from_secs(30);

/// What an owner has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ownership {
    lease: Lease,
    last_advert_at: Instant,
    next_advert_at: Instant,
    /// While some peer may still wait by a shorter interval than the settings'.
    stretch: Option<Stretch>,
    /// Once the addresses are there.
    announcements: Option<AnnouncePlan>,
    restorations: Restorations,
    rival: Option<Rival>,
}

/// Another node that advertised itself as owner while we were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rival {
    last_at: Instant,
    /// Since when it wins a tie in a family that does not lead, while it is not heard in the one that does.
    wins_aside_since: Option<Instant>,
}

impl Ownership {
    /// An owner that has just sent its first advert.
    pub(super) fn begun(
        now: Instant,
        lease: Lease,
        interval: AdvertInterval,
        restorations: Restorations,
        announcements: Option<AnnouncePlan>,
    ) -> Self {
        Self {
            lease,
            last_advert_at: now,
            next_advert_at: now + interval.duration(),
            stretch: None,
            announcements,
            restorations,
            rival: None,
        }
    }

    /// When its interval is the longer one that it promises.
    pub(super) fn lengthens_at(&self) -> Option<Instant> {
        self.stretch.map(Stretch::until)
    }

    /// One that keeps to a shorter pace for a time.
    pub(super) fn stretched(self, stretch: Option<Stretch>) -> Self {
        Self { stretch, ..self }
    }

    /// An installation has ended; see [`Restorations::ended`].
    pub(super) fn restored(&mut self, request: RequestId) -> Option<bool> {
        self.restorations.ended(request)
    }

    pub(super) const fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) fn deadline(&self) -> Instant {
        let announce_at = self.announcements.as_ref().and_then(AnnouncePlan::next_at);
        announce_at.map_or(self.next_advert_at, |at| at.min(self.next_advert_at))
    }
}

/// Being an owner.
impl Vip {
    pub(super) fn owner_on_deadline(&mut self, step: &mut Step<'_>) {
        let (State::Claiming { ownership, .. } | State::Active(ownership)) = &self.state else { return };
        if step.now >= ownership.next_advert_at {
            self.advertise(step);
        }
        let State::Active(ownership) = &mut self.state else { return };
        let Some(plan) = ownership.announcements.as_mut() else { return };
        if plan.next_at().is_some_and(|at| step.now >= at) {
            plan.advance(step.now, &self.settings.announce);
            self.announce(step);
        }
    }

    pub(super) fn owner_on_advert(
        &mut self,
        step: &mut Step<'_>,
        sender: Rank,
        comparison: Comparison,
        interval: AdvertInterval,
    ) {
        match comparison {
            // RFC 9568 §6.4.3: answered at once, so that those who wait their turn hear that there is an owner.
            Comparison::Resigns => {
                self.answer(step);
                self.announce_against_advert(step);
            }
            Comparison::Higher => self.yield_to(step, sender, interval),
            Comparison::WinsTie if self.leads(sender.source) => self.yield_to(step, sender, interval),
            Comparison::WinsTie => self.on_tie_lost_aside(step, sender, interval),
            Comparison::LosesTie | Comparison::Lower => {
                self.note_rival(step, sender);
                self.answer(step);
                self.announce_against_advert(step);
            }
        }
    }

    /// RFC 9568 §7.1: the address owner discards every advert.
    ///
    /// DEVIATION: it stays deaf to what a rival says, but not to that there is one. Other hosts wait for an answer as after any
    /// other owner's, and the neighbours may have heard the rival announce itself. Two address owners are not made
    /// to answer each other for ever.
    pub(super) fn address_owner_on_advert(&mut self, step: &mut Step<'_>, sender: Rank) {
        let (State::Claiming { .. } | State::Active(_)) = &self.state else { return };
        if sender.priority == Priority::OWNER {
            return;
        }
        if sender.priority != Priority::RESIGN {
            self.note_rival(step, sender);
        }
        self.answer(step);
        self.announce_against_advert(step);
    }

    pub(super) fn on_address_gone(&mut self, step: &mut Step<'_>, address: IpAddr) {
        self.on_gone(step, |count| EventKind::AddressRestored { address, count });
    }

    pub(super) fn on_routing_gone(&mut self, step: &mut Step<'_>, routing: Routing) {
        self.on_gone(step, |count| EventKind::RoutingRestored { routing, count });
    }

    fn on_gone(&mut self, step: &mut Step<'_>, event: impl FnOnce(u8) -> EventKind) {
        self.depose_if_late(step);
        let (State::Claiming { ownership, .. } | State::Active(ownership)) = &mut self.state else {
            self.note_gone_ahead();
            return;
        };
        match ownership.restorations.on_gone(step.now) {
            Verdict::Restore(count) => {
                self.event(step, event(count));
                self.install_again(step);
            }
            Verdict::Pending => {}
            Verdict::HandOver => self.hold(step, HOLD_AFTER_VANISHING, Cause::AddressesKeepVanishing),
        }
    }

    /// An owner that could not run for the length of its lease has been replaced by now, or may be any moment. It speaks
    /// to nobody, and listens as one that has just started.
    pub(super) fn depose_if_late(&mut self, step: &mut Step<'_>) {
        let (State::Claiming { ownership, .. } | State::Active(ownership)) = &self.state else { return };
        let Some(by) = ownership.lease.lapsed(step.now) else { return };
        match self.lost_majority(step.now).filter(|_| by < self.pace().duration() * PATIENCE) {
            None => self.depose(step, Cause::Late { by }),
            Some(missing) => {
                self.depose(step, Cause::MajorityLost { missing });
                self.transmit(step, Priority::RESIGN);
            }
        }
    }

    /// The kernel did not take the renewal: it came too late. The advert before it is taken back, so that its hearers do not wait
    /// for another.
    pub(super) fn on_lease_lapsed(&mut self, step: &mut Step<'_>) {
        if let State::Claiming { .. } | State::Active(_) = &self.state {
            self.depose(step, Cause::LeaseEnded);
            self.transmit(step, Priority::RESIGN);
        }
    }

    fn depose(&mut self, step: &mut Step<'_>, cause: Cause) {
        self.withdraw(step);
        let backup = Backup::listening(step.now + self.active_down_interval(self.settings.interval));
        self.enter(step, State::Backup(backup), cause);
    }

    /// Follows the advert that it rests on: an agent that is killed between the two has a lease that is too short, and not
    /// one that its peers know nothing of. Counted from before the advert was sent.
    pub(super) fn renew_lease(&self, step: &mut Step<'_>) -> Lease {
        self.renew_lease_for(step, self.pace())
    }

    /// See [`Self::renew_lease`]; for an interval that is not yet known to the state.
    pub(super) fn renew_lease_for(&self, step: &mut Step<'_>, interval: AdvertInterval) -> Lease {
        let lease = Lease::renewed(step.now, interval);
        self.order_lease(step, lease.ending_by(self.limited_by_grants(lease.until())))
    }

    /// The lease of an owner whose lease ends by then, whatever it promises.
    pub(super) fn keep_lease(&self, step: &mut Step<'_>, interval: AdvertInterval, until: Instant) -> Lease {
        self.order_lease(step, Lease::renewed(step.now, interval).ending_by(until))
    }

    fn order_lease(&self, step: &mut Step<'_>, lease: Lease) -> Lease {
        step.outputs.push_back(Output::RenewLease { vip: self.id, until: lease.until() });
        lease
    }

    /// A majority grants more than the lease has: up to what the last advert promised.
    pub(super) fn lengthen_lease(&mut self, step: &mut Step<'_>) {
        let (State::Claiming { ownership, .. } | State::Active(ownership)) = &self.state else { return };
        let before = ownership.lease;
        let full = Lease::renewed(ownership.last_advert_at, self.pace());
        let lease = full.ending_by(self.limited_by_grants(full.until()));
        if lease.until() > before.until() {
            self.order_lease(step, lease);
            if let State::Claiming { ownership, .. } | State::Active(ownership) = &mut self.state {
                ownership.lease = lease;
            }
        }
    }

    pub(super) fn advertise(&mut self, step: &mut Step<'_>) {
        if let State::Claiming { ownership, .. } | State::Active(ownership) = &mut self.state {
            ownership.stretch.take_if(|stretch| stretch.is_over(step.now));
        }
        self.transmit(step, self.priority());
        self.ask_to_stay(step);
        let lease = self.renew_lease(step);
        let interval = self.pace().duration();
        if let State::Claiming { ownership, .. } | State::Active(ownership) = &mut self.state {
            ownership.lease = lease;
            ownership.last_advert_at = step.now;
            // The period is kept where it can be; what was missed is not made up for.
            let in_step = ownership.next_advert_at + interval;
            ownership.next_advert_at = if in_step > step.now { in_step } else { step.now + interval };
        }
    }

    /// When the others heard an owner last, if that is this one.
    pub(super) const fn last_advert_at(&self) -> Option<Instant> {
        match &self.state {
            State::Claiming { ownership, .. } | State::Active(ownership) => Some(ownership.last_advert_at),
            State::Initialize | State::Backup(_) | State::Held { .. } => None,
        }
    }

    /// Sends an advert out of turn, now or as soon as the spacing allows.
    pub(super) fn answer(&mut self, step: &mut Step<'_>) {
        let interval = self.pace().duration();
        let spacing = ANSWER_SPACING.min(interval / 4);
        let (State::Claiming { ownership, .. } | State::Active(ownership)) = &mut self.state else { return };
        let allowed_at = ownership.last_advert_at + spacing;
        if step.now < allowed_at {
            ownership.next_advert_at = ownership.next_advert_at.min(allowed_at);
        } else {
            ownership.next_advert_at = step.now;
            self.advertise(step);
        }
    }

    /// The interval of its adverts and its lease: that of the settings, unless a peer may still wait by a shorter one.
    pub(super) fn pace(&self) -> AdvertInterval {
        let stretch = match &self.state {
            State::Claiming { ownership, .. } | State::Active(ownership) => ownership.stretch,
            State::Initialize | State::Backup(_) | State::Held { .. } => None,
        };
        stretch.map_or(self.settings.interval, |stretch| stretch.pace())
    }

    fn yield_to(&mut self, step: &mut Step<'_>, sender: Rank, interval: AdvertInterval) {
        self.give_up(step);
        let heard = Heard { at: step.now, source: sender.source, priority: sender.priority, interval };
        let backup = Backup::following(heard, step.now + self.active_down_interval(interval));
        let cause = Cause::PeerWins { source: sender.source, priority: sender.priority };
        self.enter(step, State::Backup(backup), cause);
    }

    pub(super) fn hold_after_refusal(&mut self, step: &mut Step<'_>, error: EffectError) {
        let time = HOLD_AFTER_REFUSAL.saturating_mul(1_u32.checked_shl(self.refusals).unwrap_or(u32::MAX));
        self.refusals = self.refusals.saturating_add(1);
        self.hold(step, time.min(LONGEST_HOLD), Cause::InstallRefused(error));
    }

    /// Steps out of the election for a while.
    pub(super) fn hold(&mut self, step: &mut Step<'_>, time: Duration, cause: Cause) {
        self.give_up(step);
        self.enter(step, State::Held { until: Some(step.now + time) }, cause);
    }
}

/// Rivals.
impl Vip {
    /// Whether a sender's family is the one that breaks ties, and this vip is the one of its group.
    fn leads(&self, sender: IpAddr) -> bool {
        !self.ties_are_broken_by_lead() && self.lead().is_none_or(|lead| lead.family() == Family::of(sender))
    }

    /// A tie is lost in the family that does not lead. The leading one decides, unless the rival is not there at all:
    /// a peer that runs the families on their own would otherwise stay a second owner of this one.
    fn on_tie_lost_aside(&mut self, step: &mut Step<'_>, sender: Rank, interval: AdvertInterval) {
        let patience = self.active_down_interval(interval);
        let lead_heard_at = if self.ties_are_broken_by_lead() {
            self.lead_of_group_heard_at()
        } else {
            self.lead().and_then(|lead| lead.heard()).map(|heard| heard.at)
        };
        let lead_heard = lead_heard_at.is_some_and(|at| step.now.since(at) < patience);
        let episode = self.rival().filter(|rival| step.now.since(rival.last_at) < patience);
        let since = episode.and_then(|rival| rival.wins_aside_since).unwrap_or(step.now);
        if !lead_heard && step.now.since(since) >= patience {
            self.yield_to(step, sender, interval);
            return;
        }
        self.note_rival(step, sender);
        if let State::Claiming { ownership, .. } | State::Active(ownership) = &mut self.state
            && let Some(rival) = &mut ownership.rival
        {
            rival.wins_aside_since = Some(since);
        }
    }

    /// Records a rival once an episode: a rival that was silent for long is a new one.
    fn note_rival(&mut self, step: &mut Step<'_>, sender: Rank) {
        let patience = self.active_down_interval(self.settings.interval);
        let known = self.rival().filter(|rival| step.now.since(rival.last_at) < patience);
        if known.is_none() {
            self.event_of_packet(step, EventKind::Rival { source: sender.source, priority: sender.priority });
        }
        let wins_aside_since = known.and_then(|rival| rival.wins_aside_since);
        if let State::Claiming { ownership, .. } | State::Active(ownership) = &mut self.state {
            ownership.rival = Some(Rival { last_at: step.now, wins_aside_since });
        }
    }

    const fn rival(&self) -> Option<Rival> {
        match &self.state {
            State::Claiming { ownership, .. } | State::Active(ownership) => ownership.rival,
            State::Initialize | State::Backup(_) | State::Held { .. } => None,
        }
    }
}

/// Other settings.
impl Vip {
    /// They hold from now on. What an advert promises, and what it lists, is said at once: the lease follows it.
    pub(super) fn owner_on_settings(&mut self, step: &mut Step<'_>, before: &VipSettings) {
        let interval = self.settings.interval;
        if let State::Claiming { ownership, .. } | State::Active(ownership) = &mut self.state
            && before.interval != interval
        {
            let earlier = ownership.stretch;
            let pace = earlier.map_or(before.interval, Stretch::pace);
            ownership.stretch = Stretch::new(step.now, pace, interval).map(|stretch| stretch.no_shorter_than(earlier));
        }
        if before.interval != interval || before.addresses != self.settings.addresses {
            if let State::Claiming { ownership, .. } | State::Active(ownership) = &mut self.state {
                ownership.next_advert_at = step.now;
            }
            self.advertise(step);
        }
        let is_new = self.settings.addresses.iter().any(|address| !before.addresses.contains(address))
            || self.settings.routing.iter().any(|routing| !before.routing.contains(routing));
        if is_new {
            self.install_again(step);
        }
        let State::Active(ownership) = &mut self.state else { return };
        if let Some(plan) = ownership.announcements.as_mut()
            && before.announce != self.settings.announce
        {
            plan.reschedule(&self.settings.announce);
        }
    }

    /// Takes those of its addresses, routes and rules off that the new settings do not have. A family that goes, goes whole.
    pub(super) fn let_go(&mut self, step: &mut Step<'_>, settings: &VipSettings) {
        if self.settings.addresses == settings.addresses && self.settings.routing == settings.routing {
            return;
        }
        self.depose_if_late(step);
        let (State::Claiming { .. } | State::Active(_)) = &self.state else { return };
        let gone: Arc<[_]> =
            self.routing.iter().filter(|routing| !settings.routing.contains(routing)).copied().collect();
        if !gone.is_empty() {
            let set = self.set_of(step, Arc::default(), gone);
            step.outputs.push_back(Output::Trim(set));
        }
        for family in Family::ALL {
            let stays = settings.addresses_of(family).next().is_some();
            let gone = self.addresses.iter().filter(|address| address.family() == family);
            let gone: Arc<[_]> = gone.filter(|address| !settings.addresses.contains(address)).cloned().collect();
            if !gone.is_empty() {
                let set = self.set_of(step, gone, Arc::default());
                step.outputs.push_back(if stays { Output::Trim(set) } else { Output::Remove(set) });
            }
        }
    }
}

/// Telling the neighbours.
impl Vip {
    pub(super) fn announce_anew(&mut self, step: &mut Step<'_>) {
        if let State::Active(ownership) = &mut self.state {
            ownership.announcements = Some(AnnouncePlan::start(step.now, &self.settings.announce));
            self.announce(step);
        }
    }

    pub(super) fn announce_against_advert(&mut self, step: &mut Step<'_>) {
        let spacing = self.settings.interval.duration().max(RIVAL_SPACING);
        self.announce_against_rival(step, spacing);
    }

    /// The neighbours may have heard somebody else: the survivor has the last word, at once and again.
    /// Not more often than the spacing allows; whether it was now.
    pub(super) fn announce_against_rival(&mut self, step: &mut Step<'_>, spacing: Duration) -> bool {
        let State::Active(ownership) = &mut self.state else { return false };
        let Some(plan) = ownership.announcements.as_mut() else { return false };
        let now = plan.restart(step.now, &self.settings.announce, spacing);
        if now {
            self.announce(step);
        }
        now
    }

    fn announce(&self, step: &mut Step<'_>) {
        let set = self.address_set(step);
        step.outputs.push_back(Output::Announce(set));
    }

    pub(super) fn restore(&mut self, step: &mut Step<'_>) {
        let address = self.addresses().first().map(|address| address.ip);
        if let Some(address) = address {
            self.on_address_gone(step, address);
        }
    }

    fn install_again(&mut self, step: &mut Step<'_>) {
        let set = self.address_set(step);
        match &mut self.state {
            State::Active(ownership) => ownership.restorations.began(set.request),
            // The answer to the request before says nothing of these.
            State::Claiming { ownership, request } => {
                ownership.restorations.began(set.request);
                *request = set.request;
            }
            State::Initialize | State::Backup(_) | State::Held { .. } => return,
        }
        step.outputs.push_back(Output::Install(set));
    }
}
