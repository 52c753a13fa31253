//! The roll: which voters are there, whether or not anything is asked of them now. And where the messages of voters go.
//!
//! A Backup has nothing to ask for, and would learn only when it matters that it cannot reach the witness; so all voters are called once a
//! second. One that is silent for long is an alarm, and its return is told. It changes nothing by itself.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::output::{Event, EventKind, Output};
use super::quorum::{QuorumSettings, stamp};
use super::time::Instant;
use super::{Engine, Vip, VipId};
use crate::wire::grant::{GrantMessage, Stamp};

/// How often all voters are called. A message a second and voter is nothing, and twice as fast would tell nobody more.
pub const CALL_EVERY: Duration = Duration::from_secs(1);

/// A voter that was not heard for so long is silent: three calls, and what two lost datagrams may do.
pub const SILENT_AFTER: Duration = Duration::from_millis(3_500);

/// Who was heard when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roll {
    own: Arc<str>,
    voters: Vec<Attendance>,
    /// Never, once the node is stopping.
    next_call_at: Option<Instant>,
}

/// What is known of one voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attendance {
    /// Its name.
    pub voter: Arc<str>,
    /// Whether it is this node itself.
    pub is_own: bool,
    /// When anything of it was heard last.
    pub heard_at: Option<Instant>,
    /// How long its last answer to a call took.
    pub round_trip: Option<Duration>,
    /// For how long it did not vote yet, when it answered a call last.
    pub wait: Duration,
    /// Whether the alarm was given.
    pub is_silent: bool,
    since: Instant,
}

impl Roll {
    pub(super) fn new(now: Instant, settings: &QuorumSettings) -> Self {
        let attendance = |voter: &Arc<str>| Attendance {
            voter: Arc::clone(voter),
            is_own: *voter == settings.own,
            heard_at: None,
            round_trip: None,
            wait: Duration::ZERO,
            is_silent: false,
            since: now,
        };
        Self {
            own: Arc::clone(&settings.own),
            voters: settings.voters.iter().map(attendance).collect(),
            next_call_at: Some(now),
        }
    }

    pub(super) fn voters(&self) -> &[Attendance] {
        &self.voters
    }

    pub(super) const fn next_call_at(&self) -> Option<Instant> {
        self.next_call_at
    }

    pub(super) const fn stop(&mut self) {
        self.next_call_at = None;
    }
}

/// Calling, and hearing.
impl Engine {
    /// Who votes for this node's vips, and who of them was heard. Empty without a quorum.
    pub fn voters(&self) -> &[Attendance] {
        self.roll.as_ref().map_or(&[], Roll::voters)
    }

    pub(super) fn call_roll(&mut self, now: Instant) {
        let Some(roll) = &mut self.roll else { return };
        if roll.next_call_at.is_none_or(|at| now < at) {
            return;
        }
        roll.next_call_at = Some(now + CALL_EVERY);
        for seat in roll.voters.iter_mut().filter(|seat| !seat.is_own) {
            let silence = now.since(seat.heard_at.unwrap_or(seat.since));
            if silence >= SILENT_AFTER && !seat.is_silent {
                seat.is_silent = true;
                let kind = EventKind::VoterSilent { voter: Arc::clone(&seat.voter), silence };
                self.outputs.push_back(Output::Event(Event { at: now, vip: None, kind }));
            }
            let message = GrantMessage::RollCall { stamp: stamp(now) };
            self.outputs.push_back(Output::Vote { to: Arc::clone(&seat.voter), message });
        }
    }

    /// A node or a voter says something about grants.
    pub(super) fn on_grant(&mut self, now: Instant, from: &Arc<str>, message: GrantMessage) {
        match message {
            GrantMessage::Ask(_) | GrantMessage::Release(_) | GrantMessage::RollCall { .. } => {
                let answer = self.voter.as_mut().and_then(|voter| voter.answer(now, from, &message));
                if let Some(message) = answer {
                    self.outputs.push_back(Output::Vote { to: Arc::clone(from), message });
                }
            }
            GrantMessage::Reply(reply) => {
                self.hear_voter(now, from, None);
                // The VRIDs of vips with voters differ, so there are fewer than 256.
                let concerned = |vip: &&Vip| vip.quorum().is_some_and(|quorum| *quorum.router() == reply.router);
                if let Some(vip) = self.vips.iter().find(concerned).map(Vip::id) {
                    self.step(now, vip, |vip, step| vip.on_reply(step, from, &reply));
                }
            }
            GrantMessage::Present { stamp, wait } => {
                self.hear_voter(now, from, Some((stamp, wait)));
                // Only those that had given it up have something to do.
                for vip in self.vips.iter().map(Vip::id).collect::<Vec<VipId>>() {
                    self.step(now, vip, |vip, step| vip.on_present(step, from));
                }
            }
        }
    }

    fn hear_voter(&mut self, now: Instant, from: &str, present: Option<(Stamp, Duration)>) {
        let Some(roll) = &mut self.roll else { return };
        let Some(seat) = roll.voters.iter_mut().find(|seat| &*seat.voter == from && *seat.voter != *roll.own) else {
            return;
        };
        let before = seat.heard_at.replace(now);
        if let Some((stamp, wait)) = present {
            seat.round_trip = Some(now.since(Instant::from_nanos(stamp.0)));
            seat.wait = wait;
        }
        if core::mem::take(&mut seat.is_silent) {
            let silence = now.since(before.unwrap_or(seat.since));
            let kind = EventKind::VoterAnswers { voter: Arc::clone(&seat.voter), silence };
            self.outputs.push_back(Output::Event(Event { at: now, vip: None, kind }));
        }
    }
}
