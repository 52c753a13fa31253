//! Backup: listens, holds no address, and claims when the owner's silence has lasted (RFC 9568 §6.4.2).

use alloc::boxed::Box;
use core::net::IpAddr;

use super::election::{Comparison, Rank};
use super::hook::Asked;
use super::others::{Others, Voice};
use super::output::{Cause, EventKind};
use super::router::Heard;
use super::settings::Preempt;
use super::time::Instant;
use super::vip::{State, Step, Vip};
use crate::types::AdvertInterval;

/// What a listener knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backup {
    active_down_at: Instant,
    /// The owner that it follows.
    owner: Option<Heard>,
    /// An owner of lower priority, which it will replace: who, and since when it is heard.
    inferior: Option<(Heard, Instant)>,
    /// The addresses that the owner speaks from, of whichever priority it is.
    voice: Voice,
    /// Those that may own beside it.
    pub(super) others: Others,
    /// Who resigned last.
    resigned: Voice,
    /// It woke late for its claim, and listens once more.
    listens_again: bool,
    /// What is asked before a claim has been asked.
    prepared: bool,
    /// It was decided whether the addresses are installed ahead of the claim.
    looked_ahead: bool,
    /// Since when its claim waits, and whether that was told.
    claim_waits: Option<(Instant, bool)>,
    /// A fencing stands between it and its claim.
    pub(super) awaits_fence: bool,
    /// Nothing it knows of speaks against its claim, which would have this cause; but its group has to be claimed whole.
    pub(super) due: Option<Box<Cause>>,
    /// What the hook before a claim says.
    pub(super) asked_hook: Option<Asked>,
}

impl Backup {
    /// A listener that knows nobody, and claims at an instant.
    pub(super) const fn listening(active_down_at: Instant) -> Self {
        Self {
            active_down_at,
            owner: None,
            inferior: None,
            voice: Voice::UNKNOWN,
            others: Others::NONE,
            resigned: Voice::UNKNOWN,
            listens_again: false,
            prepared: false,
            looked_ahead: false,
            claim_waits: None,
            awaits_fence: false,
            due: None,
            asked_hook: None,
        }
    }

    /// A listener that has asked all that is to be asked, and claims at an instant.
    pub(super) fn waiting(until: Instant) -> Self {
        Self { prepared: true, looked_ahead: true, ..Self::listening(until) }
    }

    /// A listener that follows a peer.
    pub(super) fn following(owner: Heard, active_down_at: Instant) -> Self {
        Self { owner: Some(owner), voice: Voice::of_source(owner.source), ..Self::listening(active_down_at) }
    }

    pub(super) const fn owner(&self) -> Option<&Heard> {
        // One that is not followed for its priority is the owner all the same.
        match (&self.owner, &self.inferior) {
            (Some(owner), _) | (None, Some((owner, _))) => Some(owner),
            (None, None) => None,
        }
    }

    /// The addresses that the owner speaks from.
    pub(super) const fn voice(&self) -> Voice {
        self.voice
    }

    /// Who resigned last.
    pub(super) const fn resigned(&self) -> Voice {
        self.resigned
    }

    /// Claims no later than then. Who has resigned, if that is why.
    pub(super) fn hurry(&mut self, resigned: Option<IpAddr>, turn: Instant) {
        resigned.into_iter().for_each(|source| self.resigned.heard(source));
        self.active_down_at = self.active_down_at.min(turn);
    }

    /// When it claims.
    pub(super) const fn active_down_at(&self) -> Instant {
        self.active_down_at
    }

    /// Whether it is about to replace a living owner.
    pub(super) const fn preempts(&self) -> bool {
        self.inferior.is_some() && self.owner.is_none()
    }

    /// A claim that was put off already is due then.
    pub(super) const fn put_off(&mut self, until: Instant) {
        self.active_down_at = until;
    }

    /// What was asked before a claim was too long ago.
    pub(super) const fn prepare_anew(&mut self) {
        self.prepared = false;
    }

    /// Whether what is asked before a claim has been asked.
    pub(super) const fn is_prepared(&self) -> bool {
        self.prepared
    }

    /// Whether it was decided if the addresses are installed ahead of the claim.
    pub(super) const fn looked_ahead(&self) -> bool {
        self.looked_ahead
    }
}

impl Vip {
    pub(super) fn backup_on_advert(
        &mut self,
        step: &mut Step<'_>,
        sender: Rank,
        comparison: Comparison,
        interval: AdvertInterval,
    ) {
        let heard = Heard { at: step.now, source: sender.source, priority: sender.priority, interval };
        if comparison != Comparison::Resigns {
            self.forget_gift(step, sender.source);
            self.drop_ahead(step);
        }
        match comparison {
            Comparison::Resigns => self.backup_on_resignation(step, sender.source),
            // It tells the owner to yield as this node does, and stands back when it hears that.
            Comparison::LosesTie if self.summoned_since().is_some() => {}
            // RFC 9568 §6.4.2: an equal priority is as good as a higher one, whatever the addresses.
            Comparison::Higher | Comparison::WinsTie | Comparison::LosesTie => self.follow(step, heard),
            Comparison::Lower if self.handover.stays_with(sender.priority) => self.follow(step, heard),
            Comparison::Lower => match self.settings.preempt {
                Preempt::Off => self.follow(step, heard),
                Preempt::On => self.outlast(heard),
                Preempt::After(delay) => {
                    let since = self.backup().and_then(|backup| backup.inferior).map_or(step.now, |(_, since)| since);
                    if step.now.since(since) >= delay {
                        self.outlast(heard);
                        let cause = Cause::Preempts { source: sender.source, priority: sender.priority };
                        self.seek(step, cause);
                    } else {
                        self.follow(step, heard);
                        if let State::Backup(backup) = &mut self.state {
                            backup.inferior = Some((heard, since));
                        }
                    }
                }
            },
        }
    }

    pub(super) fn backup_on_deadline(&mut self, step: &mut Step<'_>) {
        let cause = self.cause_to_claim(step.now);
        if self.prepare_at().is_some_and(|at| step.now >= at) {
            if let State::Backup(backup) = &mut self.state {
                backup.prepared = true;
            }
            self.prepare(step, &cause);
        }
        self.ask_if_due(step);
        self.canvass_on_deadline(step);
        self.order_in_silence_if_due(step, &cause);
        if !self.listens_again(step) {
            self.seek(step, cause);
        }
    }

    /// See [`Backup::looked_ahead`].
    pub(super) const fn look_ahead(&mut self) {
        if let State::Backup(backup) = &mut self.state {
            backup.looked_ahead = true;
        }
    }

    /// Why it would claim now.
    fn cause_to_claim(&self, now: Instant) -> Cause {
        if let Some(cause) = self.cause_to_take() {
            return cause;
        }
        let Some(backup) = self.backup() else { return Cause::ActiveDown { silence: None } };
        let inferior =
            backup.inferior.filter(|(heard, _)| now.since(heard.at) < self.active_down_interval(heard.interval));
        match (inferior, backup.resigned.sources().last()) {
            (Some((heard, _)), _) => Cause::Preempts { source: heard.source, priority: heard.priority },
            (None, Some(source)) => Cause::PeerResigned { source },
            (None, None) => Cause::ActiveDown { silence: backup.owner().map(|owner| now.since(owner.at)) },
        }
    }

    /// A claim is put off. One that did not listen yet begins to.
    pub(super) fn wait_to_claim(&mut self, step: &mut Step<'_>, until: Instant, cause: Cause) {
        match &mut self.state {
            State::Backup(backup) => backup.active_down_at = until,
            State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => {
                self.enter(step, State::Backup(Backup::listening(until)), cause.clone());
            }
        }
        // An owner that is replaced for its priority is heard.
        if !matches!(cause, Cause::Preempts { .. }) {
            self.tell_of_waiting(step, until);
        }
    }

    /// Once, and not where the wait is that of a question which is about to be answered.
    fn tell_of_waiting(&mut self, step: &mut Step<'_>, until: Instant) {
        let interval = self.interval().duration();
        let State::Backup(backup) = &mut self.state else { return };
        let (since, told) = backup.claim_waits.unwrap_or((step.now, false));
        let tells = !told && until.since(since) >= interval;
        backup.claim_waits = Some((since, told || tells));
        if tells {
            let silence = self.last_heard().map(|heard| step.now.since(heard.at));
            self.event(step, EventKind::ClaimWaits { silence });
        }
    }

    /// Other settings hold. Whom it follows, and until when, is as if they had held when the owner was heard last.
    pub(super) fn backup_on_settings(&mut self) {
        let interval = self.interval();
        let patience = self.active_down_interval(interval);
        let (priority, preempt, since) = (self.priority(), self.settings.preempt, self.since());
        let waits = self.silent_owner().is_some();
        self.summons = None;
        let State::Backup(backup) = &mut self.state else { return };
        backup.prepared = waits;
        backup.looked_ahead = waits;
        match (backup.inferior, &backup.owner) {
            // It was to be replaced, and is not any more, or not yet.
            (Some((heard, _)), _) if heard.priority >= priority || preempt != Preempt::On => {
                backup.owner = Some(heard);
                backup.active_down_at = heard.at + patience;
                if heard.priority >= priority || preempt == Preempt::Off {
                    backup.inferior = None;
                }
            }
            (None, None) if backup.resigned == Voice::UNKNOWN && !backup.listens_again => {
                backup.active_down_at = since + patience;
            }
            // One that it began to outlast keeps its time; the next advert of one that is followed says more.
            (Some(_), _) | (None, _) => {}
        }
    }

    /// Whether it is too early to claim: the timer has not run out, or it did so while this node could not run. What a
    /// host did not hear while it was paused says nothing of the owner, so it gives the owner's next advert a chance; once,
    /// so that a node that is always late still claims.
    fn listens_again(&mut self, step: &mut Step<'_>) -> bool {
        let now = step.now;
        let interval = self.interval();
        let again = now + interval.duration() + self.skew_time(interval);
        let State::Backup(backup) = &mut self.state else { return true };
        let is_late = now.since(backup.active_down_at) >= interval.duration() && !backup.listens_again;
        if !is_late {
            return now < backup.active_down_at;
        }
        backup.listens_again = true;
        backup.prepared = false;
        backup.looked_ahead = false;
        backup.active_down_at = again;
        self.summons = None;
        self.drop_ahead(step);
        true
    }

    /// Priority 0: the owner's successor need not wait for the silence, only for its turn.
    fn backup_on_resignation(&mut self, step: &mut Step<'_>, source: IpAddr) {
        let interval = self.interval();
        let turn = step.now + self.skew_time(interval);
        let State::Backup(backup) = &mut self.state else { return };
        let was_waited_for =
            backup.others.forget(source) && (backup.resigned != Voice::UNKNOWN || self.summons.is_some());
        // DEVIATION: RFC 9568 §6.4.2 heeds a resignation from anybody. One who is not the owner that we follow resigns
        // from nothing: it has just lost against that owner, and a claim of ours would be a second ownership. An owner
        // resigns in each family that it was heard in, so that one family's word is enough.
        let is_owner = backup.owner().is_none() || backup.voice.has(source);
        if !is_owner && !was_waited_for {
            return;
        }
        if is_owner {
            backup.resigned.heard(source);
        }
        backup.active_down_at = backup.active_down_at.min(turn);
        self.hurry_canvass(step.now);
        let cause = self.cause_to_claim(step.now);
        if let Cause::PeerResigned { .. } = cause {
            self.order_for_turn(step);
        }
        self.on_yield(step, cause, is_owner);
    }

    /// The sender is the owner, and its next silence counts from now.
    fn follow(&mut self, step: &mut Step<'_>, heard: Heard) {
        self.stand_down(step);
        self.end_silence(step);
        self.summons = None;
        self.end_wait_for_references();
        let known = self.interval();
        let active_down_at = step.now + self.active_down_interval(heard.interval);
        let others = self.others_than(&heard);
        let mut backup = Backup { others, ..Backup::following(heard, active_down_at) };
        let mut was_missed = false;
        if let State::Backup(before) = &self.state {
            backup.voice = before.voice;
            backup.voice.heard(heard.source);
            was_missed = before.claim_waits.is_some_and(|(_, told)| told);
        }
        self.state = State::Backup(backup);
        if was_missed {
            self.event_of_packet(step, EventKind::OwnerBack { source: heard.source });
        }
        if known != heard.interval {
            self.event_of_packet(step, EventKind::IntervalLearned { source: heard.source, interval: heard.interval });
        }
    }

    /// The sender is an owner that we will replace: its adverts do not put that off.
    fn outlast(&mut self, heard: Heard) {
        self.hear_summoned(heard.source);
        if self.is_beside_summoned(&heard) {
            self.hear_beside_summoned(heard);
            return;
        }
        let others = self.others_than(&heard);
        if let State::Backup(backup) = &mut self.state {
            backup.others = others;
            let since = backup.inferior.map_or(heard.at, |(_, since)| since);
            backup.inferior = Some((heard, since));
            backup.voice.heard(heard.source);
            backup.resigned.forget(heard.source);
            backup.owner = None;
        }
    }

    pub(super) const fn backup(&self) -> Option<&Backup> {
        match &self.state {
            State::Backup(backup) => Some(backup),
            State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => None,
        }
    }
}
