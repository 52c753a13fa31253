//! A silent owner: whether its addresses still answer, although no advert comes.
//!
//! A host that is gone answers nobody, and is succeeded without any delay. One that answers lives, and its adverts are stopped on
//! the way (a firewall, a switch); a second owner would be worse than none, so the claim waits as long as it answers, but not
//! longer than [`LONGEST_WAIT`]. The address of a frozen or killed agent answers too, until its lease lapses: so an answer is
//! evidence only where the question was asked after the lease must have lapsed.
//!
//! | when | what |
//! |---|---|
//! | an interval before the timer | a first question, where the skew time is short: its answer shows that the host lives, and how fast it answers |
//! | three intervals after the last advert was received | the second question. The owner counted its lease from before it sent that advert |
//! | the timer | answered: alarm, and wait. Not answered: claim; but where the first was answered, the second has so long as that took, twice, and [`ANSWER_MARGIN`] |
//! | each [`ROUND`] of the wait | asked again; [`SILENT_ROUNDS`] in a row without an answer, and it claims |
//! | [`LONGEST_WAIT`] | it claims, whatever answers |
//!
//! Whether it is worth to wait for the second answer is decided by the first: at priority 254 and 10 ms between adverts the skew time
//! is 78 µs, and less than a way to the owner and back. To claim, and to withdraw when the answer comes, would have told the neighbours
//! to look for the addresses at the wrong host. That still happens where the first question or its answer was lost, until
//! the kernel has the addresses: then the claim is withdrawn before anybody but the peers has heard of it.
//!
//! Whoever can send a frame can feign an answer, and put off a takeover by [`LONGEST_WAIT`]; by adverts it could for ever.

use alloc::boxed::Box;
use core::net::IpAddr;
use core::time::Duration;

use super::backup::Backup;
use super::output::{Cause, EventKind, Output, Question};
use super::rival::ClaimKind;
use super::settings::OnSilentOwner;
use super::time::Instant;
use super::vip::{State, Step, Vip};
use crate::types::{Family, MacAddr, Priority, VirtualAddress};

/// A claim is not put off for longer: a service that nobody owns is what a failover is there to prevent.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// How often is asked during the wait.
pub const ROUND: Duration = Duration::from_millis(50);
/// So many rounds without an answer end the wait: one may be lost.
pub const SILENT_ROUNDS: u8 = 2;
/// What the second answer may take longer than twice the first one: two hosts have to wake for it.
pub const ANSWER_MARGIN: Duration = Duration::from_micros(500);
/// The second answer is never waited for longer than this part of an interval.
const LONGEST_ANSWER_PART: u32 = 4;
/// How many addresses of a family are asked for. An owner has all of them or none; more than one, because one could be missing.
const ASKED_FOR: usize = 4;

/// What was asked of a silent owner's addresses, and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// From here on an answer is not that of a lease which the last advert left.
    lease_end: Instant,
    asked_at: Instant,
    /// When the second question is due.
    ask_at: Option<Instant>,
    /// What the first answer took.
    round_trip: Option<Duration>,
    /// The last answer that is evidence.
    answer: Option<Answer>,
    /// While a claim waits.
    wait: Option<Wait>,
    /// It waited long enough, and claims whatever answers.
    overruled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) address: IpAddr,
    pub(super) mac: MacAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    since: Instant,
    /// The end of the round.
    until: Instant,
    silent_rounds: u8,
    last: Answer,
}

/// An owner that sends no advert, and whose address answers: a claim waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilentOwner {
    /// The address.
    pub address: IpAddr,
    /// Who answered last.
    pub mac: MacAddr,
    /// Since when the claim waits.
    pub since: Instant,
    /// When it is made, whatever answers.
    pub until: Instant,
}

/// How the wait for a silent owner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// Its address answers no more.
    FellSilent,
    /// An owner's advert was heard.
    HeardAgain,
    /// It lasted [`LONGEST_WAIT`].
    Overruled,
    /// No majority of the voters grants the claim any more.
    NoMajority,
}

/// What a status shows.
impl Vip {
    /// The silent owner that a claim waits for.
    pub fn silent_owner(&self) -> Option<SilentOwner> {
        let (State::Backup(_), Some(wait)) = (&self.state, self.silence.as_ref()?.wait) else { return None };
        let Wait { since, last: Answer { address, mac }, .. } = wait;
        Some(SilentOwner { address, mac, since, until: since + LONGEST_WAIT })
    }
}

/// Questions.
impl Vip {
    pub(super) fn asks_silent_owner(&self) -> bool {
        self.settings.on_silent_owner == OnSilentOwner::Wait && self.settings.priority != Priority::OWNER
    }

    /// The claim nears.
    pub(super) fn prepare_for_silence(&mut self, step: &mut Step<'_>, cause: &Cause) {
        self.silence = None;
        // Who resigned has no lease any more, and who is preempted speaks for himself.
        let (State::Backup(backup), Cause::ActiveDown { .. }, true) = (&self.state, cause, self.asks_silent_owner())
        else {
            return;
        };
        let skew = self.skew_time(self.interval());
        let lease_end = backup.active_down_at() - skew;
        // Where there is time for the answer to the second question anyway, that to the first could only be mistaken for it.
        let asks_first = skew < self.interval().duration() / 2 && step.now < lease_end;
        let ask_at = (step.now < lease_end).then_some(lease_end);
        let asked_at = step.now;
        let (round_trip, answer, wait) = (None, None, None);
        self.silence =
            Some(Box::new(Silence { lease_end, asked_at, ask_at, round_trip, answer, wait, overruled: false }));
        if asks_first || ask_at.is_none() {
            self.ask(step);
        }
    }

    /// When the second question is due.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        match &self.state {
            State::Backup(backup) if backup.is_prepared() => self.silence.as_ref().and_then(|silence| silence.ask_at),
            State::Backup(_) | State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => {
                None
            }
        }
    }

    /// Asks the second question, once it is due.
    pub(super) fn ask_if_due(&mut self, step: &mut Step<'_>) {
        if self.ask_at().is_some_and(|at| step.now >= at) {
            self.ask(step);
        }
    }

    fn ask(&mut self, step: &mut Step<'_>) {
        let Some(silence) = &mut self.silence else { return };
        silence.asked_at = step.now;
        silence.ask_at = silence.ask_at.filter(|at| step.now < *at);
        let question = self.question();
        step.outputs.push_back(Output::Ask(question));
    }

    /// Whether anybody has the addresses.
    pub(super) fn question(&self) -> Question {
        let of = |family| {
            let addresses = self.addresses.iter().filter(move |address| address.family() == family);
            addresses.take(ASKED_FOR).map(|address: &VirtualAddress| address.ip)
        };
        let addresses = Family::ALL.into_iter().flat_map(of).collect();
        let [_, source] = self.sources();
        // IPv4 from nobody's address: no cache changes.
        Question { vip: self.id, link: self.link, addresses, sources: [None, source] }
    }
}

/// Answers.
impl Vip {
    /// A backup heard that somebody has an address.
    pub(super) fn note_answer(&mut self, step: &mut Step<'_>, address: IpAddr, mac: MacAddr) {
        let Some(silence) = &mut self.silence else { return };
        silence.round_trip.get_or_insert_with(|| step.now.since(silence.asked_at));
        if silence.asked_at >= silence.lease_end {
            silence.answer = Some(Answer { address, mac });
            self.drop_ahead(step);
        }
    }

    /// Whether a question of this silence was answered: its host lives.
    pub(super) fn silent_owner_has_answered(&self) -> bool {
        self.silence.as_ref().is_some_and(|silence| silence.round_trip.is_some())
    }

    /// Another node may own the addresses by a majority's grant, so that they answer by right.
    pub(super) fn void_answers(&mut self, step: &mut Step<'_>) {
        self.end_wait(step, WaitEnd::NoMajority);
        if let Some(silence) = &mut self.silence {
            silence.answer = None;
        }
    }

    /// The answer comes when the claim has begun. The kernel has not told of the addresses yet, so the neighbours were not told
    /// either. It withdraws without a resignation, which would invite the others to claim at once.
    pub(super) fn withdraw_on_answer(&mut self, step: &mut Step<'_>, address: IpAddr, mac: MacAddr, kind: ClaimKind) {
        // A peer that claims as well announces itself; but nobody answers a question of before it had the addresses.
        if kind != ClaimKind::Answer || !matches!(self.cause(), Cause::ActiveDown { .. }) || !self.asks_silent_owner() {
            return;
        }
        let Some(silence) = &self.silence else { return };
        if silence.overruled || silence.asked_at < silence.lease_end {
            return;
        }
        self.withdraw(step);
        let until = step.now + ROUND;
        self.enter(step, State::Backup(Backup::waiting(until)), Cause::AddressAnswers { address, mac });
        self.begin_wait(step, Answer { address, mac });
    }

    /// When to ask again whether to claim, where a silent owner speaks against it.
    pub(super) fn object_for_silent_owner(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Instant> {
        let (Cause::ActiveDown { .. }, true) = (cause, self.asks_silent_owner()) else { return None };
        let longest_answer = self.interval().duration() / LONGEST_ANSWER_PART;
        let silence = self.silence.as_mut()?;
        if silence.overruled {
            return None;
        }
        match (silence.wait, silence.answer) {
            (None, Some(answer)) => Some(self.begin_wait(step, answer)),
            (None, None) => {
                let answer_takes = (silence.round_trip? * 2 + ANSWER_MARGIN).min(longest_answer);
                Some(silence.asked_at + answer_takes).filter(|at| step.now < *at)
            }
            (Some(wait), _) if step.now >= wait.since + LONGEST_WAIT => {
                silence.overruled = true;
                self.end_wait(step, WaitEnd::Overruled);
                None
            }
            (Some(wait), _) if step.now < wait.until => Some(wait.until),
            (Some(wait), Some(answer)) => Some(self.next_round(step, Wait { silent_rounds: 0, last: answer, ..wait })),
            (Some(wait), None) if wait.silent_rounds + 1 < SILENT_ROUNDS => {
                Some(self.next_round(step, Wait { silent_rounds: wait.silent_rounds + 1, ..wait }))
            }
            (Some(_), None) => {
                self.end_wait(step, WaitEnd::FellSilent);
                None
            }
        }
    }

    /// Whether the silent owner's address answered for as long as a claim waits.
    pub(super) fn answered_too_long(&self) -> bool {
        self.silence.as_ref().is_some_and(|silence| silence.overruled)
    }

    /// An owner is heard: there is no silence.
    pub(super) fn end_silence(&mut self, step: &mut Step<'_>) {
        self.end_wait(step, WaitEnd::HeardAgain);
        self.silence = None;
    }

    /// A claim waits for an owner that answers when its lease has lapsed, although it was not asked in advance.
    pub(super) fn wait_for_answering(&mut self, step: &mut Step<'_>, answer: Answer) -> Instant {
        let (now, ask_at, round_trip, wait) = (step.now, None, None, None);
        let overruled = false;
        self.silence = Some(Box::new(Silence {
            lease_end: now,
            asked_at: now,
            ask_at,
            round_trip,
            answer: Some(answer),
            wait,
            overruled,
        }));
        self.begin_wait(step, answer)
    }

    fn begin_wait(&mut self, step: &mut Step<'_>, answer: Answer) -> Instant {
        let Answer { address, mac } = answer;
        let last_advert = self.routers.iter().filter_map(|router| router.heard()).map(|heard| heard.at).max();
        let silence = last_advert.map(|at| step.now.since(at));
        self.event(step, EventKind::SilentOwner { address, mac, silence });
        let wait = Wait { since: step.now, until: step.now, silent_rounds: 0, last: answer };
        self.next_round(step, wait)
    }

    fn next_round(&mut self, step: &mut Step<'_>, wait: Wait) -> Instant {
        let until = (step.now + ROUND).min(wait.since + LONGEST_WAIT);
        if let Some(silence) = &mut self.silence {
            silence.answer = None;
            silence.wait = Some(Wait { until, ..wait });
        }
        self.ask(step);
        until
    }

    fn end_wait(&mut self, step: &mut Step<'_>, end: WaitEnd) {
        let Some(wait) = self.silence.as_mut().and_then(|silence| silence.wait.take()) else { return };
        let Wait { since, last: Answer { address, mac }, .. } = wait;
        let waited = step.now.since(since);
        self.event(step, EventKind::SilentOwnerEnds { address, mac, waited, end });
    }
}
