//! Health: what the checks of a vip say becomes its effective priority, or a reason to take no part.
//!
//! | a check that | makes |
//! |---|---|
//! | fails, with effect *fault* | the vip take no part: an owner gives up, and nobody claims |
//! | passes, with a positive *weight* | the priority higher by it |
//! | fails, with a negative *weight* | the priority lower by it |
//! | gives a *number* | the priority higher or lower by that; without a number it is a fault |
//! | gives a *lag* | the priority lower, in proportion: of two standbys the fresher one wins the election |
//! | gives a lag beyond its limit, or none | the priority 1, and forbids a claim, unless nobody else claims and the policy allows it; none is a fault where that is wanted |
//!
//! The sum stays within 1..=254; the address owner's 255 is left alone. VRRP carries nothing but a priority, so a lag has to become
//! one: of a weight of 50 and a limit of 10 s each step is a fifth of a second.
//!
//! Flapping: results count in rows (`rise`, `fall`); what fails stays failed for [`SHORTEST_STAY`], and for longer each time that it
//! fails again soon ([`FIRST_HOLD`], doubled to [`LONGEST_HOLD`]). A worse number counts at once, a better one when it is the worst of
//! `rise`; and a number that went up and soon down again stays down as long as a failure would. A lag does not: it is to be known as it is.
//!
//! Nothing is known of a check before its first result, which decides alone. Until then a vip takes no part; but one that owns
//! the addresses already (adopted, or a check that a reload added) is presumed healthy.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::output::{Cause, EventKind};
use super::settings::VipSettings;
use super::time::Instant;
use super::vip::{State, Step, Vip};
use crate::types::Priority;

/// What has failed stays failed for so long: a service that comes and goes within a second is not well.
pub const SHORTEST_STAY: Duration = Duration::from_secs(1);
/// How long a check that failed a second time within [`FLAP_WINDOW`] stays failed; doubled with each further time.
pub const FIRST_HOLD: Duration = Duration::from_secs(5);
/// See [`FIRST_HOLD`].
pub const LONGEST_HOLD: Duration = Duration::from_secs(300);
/// A failure so soon after a recovery is a flap. After longer holds twice the hold, so that it cannot be waited out.
pub const FLAP_WINDOW: Duration = Duration::from_secs(60);
/// The largest weight either way: more than any two priorities differ by.
pub const MOST_WEIGHT: i16 = 253;

/// A check of a vip, as the engine needs it: how it is done is a driver's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// Unique on the node. Vips that share a check have it under the same name.
    pub name: String,
    /// How many results in a row make a failed check pass again. At least 1.
    pub rise: u8,
    /// How many in a row make it fail. At least 1.
    pub fall: u8,
    /// What it does to the vip.
    pub effect: CheckEffect,
}

/// What a check does to its vip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckEffect {
    /// While it fails the vip takes no part.
    Fault,
    /// Positive: added while it passes. Negative: added while it fails. Within [`MOST_WEIGHT`].
    Weight(i16),
    /// The number that it gives is added.
    Number,
    /// The number that it gives is how far this node's data is behind.
    Lag {
        /// Beyond it this node does not claim. At least 1.
        max_lag: u64,
        /// What is taken off the priority at that lag; in proportion below.
        weight: u8,
        /// Whether it claims all the same, last of all, when nobody else does.
        when_alone: bool,
        /// Whether the vip takes no part while nobody knows the lag.
        fault: bool,
    },
}

/// What one run of a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// Whether it passed.
    pub outcome: CheckOutcome,
    /// One line about it, for an operator.
    pub output: String,
}

/// Whether a run of a check passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// It did, and gave this number, if it is of the sort that gives one.
    Passed(Option<i64>),
    /// What it looks at is not as it should be.
    Failed,
    /// It could not look.
    Unable,
}

/// What is known of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// Nothing.
    Unknown,
    /// Nothing, but its vip was healthy by then.
    Presumed,
    /// It passes.
    Passing,
    /// It fails.
    Failing,
}

/// A check of a vip and what it has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    settings: CheckSettings,
    state: CheckState,
    since: Instant,
    output: String,
    /// Results in a row that speak against the state.
    against: u8,
    /// The numbers of the last `rise` results that had one.
    numbers: VecDeque<i64>,
    /// The number that counts, of those that are added.
    counted: Option<i64>,
    /// When it went up last.
    rose_at: Option<Instant>,
    held_until: Option<Instant>,
    /// How often it failed again soon after it had recovered.
    flaps: u32,
    last_hold: Duration,
}

/// The checks of a vip, and what they come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    checks: Vec<Check>,
    priority: Priority,
    /// The priority before: adverts with it may still be on their way.
    previous: Priority,
}

impl Check {
    fn new(settings: CheckSettings, state: CheckState, now: Instant) -> Self {
        Self {
            settings,
            state,
            since: now,
            output: String::new(),
            against: 0,
            numbers: VecDeque::new(),
            counted: None,
            rose_at: None,
            held_until: None,
            flaps: 0,
            last_hold: Duration::ZERO,
        }
    }

    /// As configured.
    pub const fn settings(&self) -> &CheckSettings {
        &self.settings
    }

    /// What is known of it.
    pub const fn state(&self) -> CheckState {
        self.state
    }

    /// Since when.
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// What the last run said, in one line.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Until when it stays failed, or its number stays down, whatever it finds.
    pub const fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// The number that counts: the worst of the last `rise`.
    pub fn number(&self) -> Option<i64> {
        match self.settings.effect {
            CheckEffect::Fault | CheckEffect::Weight(_) => None,
            CheckEffect::Number => self.counted,
            CheckEffect::Lag { .. } => self.numbers.iter().max().copied(),
        }
    }

    /// What it adds to the priority now.
    pub fn weight(&self) -> i64 {
        let fails = self.state == CheckState::Failing;
        match self.settings.effect {
            CheckEffect::Fault => 0,
            CheckEffect::Weight(weight) if (weight > 0) != fails => i64::from(weight),
            CheckEffect::Weight(_) => 0,
            CheckEffect::Number => {
                let most = i64::from(MOST_WEIGHT);
                self.number().unwrap_or(0).clamp(-most, most)
            }
            CheckEffect::Lag { max_lag, weight, .. } => {
                let lag = u64::try_from(self.number().unwrap_or(0)).unwrap_or(0);
                let taken = u128::from(lag.min(max_lag)) * u128::from(weight);
                // Any lag at all is behind none.
                -i64::try_from(taken.div_ceil(u128::from(max_lag.max(1)))).unwrap_or(0)
            }
        }
    }

    /// Whether the data is too old, or nobody knows how old.
    pub fn is_stale(&self) -> bool {
        let CheckEffect::Lag { max_lag, .. } = self.settings.effect else { return false };
        let lag = u64::try_from(self.number().unwrap_or(0)).unwrap_or(0);
        self.state == CheckState::Failing || lag > max_lag
    }

    fn is_fault(&self) -> bool {
        let faults = match self.settings.effect {
            CheckEffect::Fault | CheckEffect::Number => true,
            CheckEffect::Lag { fault, .. } => fault,
            CheckEffect::Weight(_) => false,
        };
        faults && self.state == CheckState::Failing
    }

    fn forbids_claim(&self) -> bool {
        match self.settings.effect {
            CheckEffect::Lag { when_alone, .. } => !when_alone && self.is_stale(),
            CheckEffect::Fault | CheckEffect::Weight(_) | CheckEffect::Number => false,
        }
    }

    /// Takes a result. What it changed, for the log.
    fn on_result(&mut self, now: Instant, result: CheckResult) -> Option<EventKind> {
        let unable = result.outcome == CheckOutcome::Unable;
        self.output = result.output;
        let passed = match result.outcome {
            CheckOutcome::Passed(number) => {
                self.note(now, number);
                true
            }
            CheckOutcome::Failed | CheckOutcome::Unable => false,
        };
        match (self.state, passed) {
            (CheckState::Unknown, true) => self.pass(now),
            (CheckState::Unknown, false) => self.fail(now),
            (CheckState::Presumed | CheckState::Passing, true) => {
                self.against = 0;
                self.state = CheckState::Passing;
                return None;
            }
            (CheckState::Failing, false) => {
                self.against = 0;
                return None;
            }
            (CheckState::Presumed | CheckState::Passing, false) => {
                self.against = self.against.saturating_add(1);
                if self.against < self.settings.fall {
                    return None;
                }
                self.fail(now);
            }
            (CheckState::Failing, true) => {
                self.against = self.against.saturating_add(1);
                if self.against < self.settings.rise || self.held_until.is_some_and(|until| now < until) {
                    return None;
                }
                self.pass(now);
            }
        }
        let (check, output) = (self.settings.name.clone(), self.output.clone());
        Some(match self.state {
            CheckState::Failing => EventKind::CheckFails { check, output, unable, stay: self.last_hold },
            CheckState::Unknown | CheckState::Presumed | CheckState::Passing => {
                EventKind::CheckPasses { check, output }
            }
        })
    }

    fn note(&mut self, now: Instant, number: Option<i64>) {
        let Some(number) = number else { return };
        self.numbers.push_back(number);
        while self.numbers.len() > usize::from(self.settings.rise.max(1)) {
            self.numbers.pop_front();
        }
        let worst = self.numbers.iter().min().copied();
        match (self.counted, worst) {
            (Some(counted), Some(worst)) if worst > counted => {
                if self.held_until.is_none_or(|until| now >= until) {
                    self.counted = Some(worst);
                    self.rose_at = Some(now);
                    self.held_until = None;
                }
            }
            (Some(counted), Some(worst)) if worst < counted => {
                self.counted = Some(worst);
                self.hold(now, self.rose_at);
            }
            (Some(_) | None, Some(_) | None) => self.counted = worst,
        }
    }

    fn pass(&mut self, now: Instant) {
        self.enter(CheckState::Passing, now);
        self.held_until = None;
    }

    fn fail(&mut self, now: Instant) {
        self.hold(now, Some(self.since));
        self.enter(CheckState::Failing, now);
        // What it said before is no longer true.
        self.numbers.clear();
        self.counted = None;
    }

    /// It got worse, after it had got better then.
    fn hold(&mut self, now: Instant, better_at: Option<Instant>) {
        let recovered = self.last_hold > Duration::ZERO;
        let soon = better_at.is_some_and(|at| now.since(at) < FLAP_WINDOW.max(self.last_hold * 2));
        self.flaps = if recovered && soon { self.flaps.saturating_add(1) } else { 0 };
        self.last_hold = match self.flaps.checked_sub(1) {
            None => SHORTEST_STAY,
            Some(more) => FIRST_HOLD.saturating_mul(1_u32.checked_shl(more).unwrap_or(u32::MAX)).min(LONGEST_HOLD),
        };
        self.held_until = Some(now + self.last_hold);
    }

    fn enter(&mut self, state: CheckState, now: Instant) {
        self.state = state;
        self.since = now;
        self.against = 0;
    }
}

impl Health {
    /// Of a vip that starts.
    pub(super) fn new(settings: &VipSettings, now: Instant) -> Self {
        let checks = settings.checks.iter().map(|check| Check::new(check.clone(), CheckState::Unknown, now)).collect();
        Self { checks, priority: settings.priority, previous: settings.priority }
    }

    /// Other settings. A check that is the same goes on; one that is new to a vip that takes part is presumed to pass.
    pub(super) fn follow_settings(&mut self, settings: &VipSettings, takes_part: bool, now: Instant) {
        let fresh = if takes_part { CheckState::Presumed } else { CheckState::Unknown };
        let mut before = core::mem::take(&mut self.checks);
        for new in &settings.checks {
            let known = before.iter().position(|check| check.settings.name == new.name).map(|at| before.remove(at));
            let mut check = known.unwrap_or_else(|| Check::new(new.clone(), fresh, now));
            check.settings = new.clone();
            self.checks.push(check);
        }
        self.weigh(settings.priority);
    }

    /// Its vip was healthy when the agent before this one ended.
    pub(super) fn presume(&mut self) {
        for check in self.checks.iter_mut().filter(|check| check.state == CheckState::Unknown) {
            check.state = CheckState::Presumed;
        }
    }

    /// Why the vip takes no part.
    pub(super) fn unready(&self) -> Option<Cause> {
        let fault = self.checks.iter().find(|check| check.is_fault());
        let fault =
            fault.map(|check| Cause::CheckFails { check: check.settings.name.clone(), output: check.output.clone() });
        fault.or_else(|| {
            let pending = self.checks.iter().find(|check| check.state == CheckState::Unknown)?;
            Some(Cause::CheckPending { check: pending.settings.name.clone() })
        })
    }

    /// Sums up. What the priority was, if it is another now.
    fn weigh(&mut self, base: Priority) -> Option<Priority> {
        let sum = self.checks.iter().fold(i64::from(base.0), |sum, check| sum.saturating_add(check.weight()));
        let effective = if base == Priority::OWNER {
            base
        } else if self.checks.iter().any(Check::is_stale) {
            Priority(1)
        } else {
            Priority(u8::try_from(sum.clamp(1, 254)).unwrap_or(1))
        };
        let before = core::mem::replace(&mut self.priority, effective);
        (before != effective).then(|| {
            self.previous = before;
            before
        })
    }
}

/// Health.
impl Vip {
    /// The effective priority: the configured one, and what the checks make of it. Of a group all have the lowest.
    pub fn priority(&self) -> Priority {
        let own = self.health.priority;
        self.ceiling().map_or(own, |ceiling| own.min(ceiling))
    }

    /// The same without what a group makes of it.
    pub(super) const fn healthy_priority(&self) -> Priority {
        self.health.priority
    }

    /// The checks, in the order of the settings.
    pub fn checks(&self) -> &[Check] {
        &self.health.checks
    }

    /// Whether adverts of a priority may be this node's own.
    pub(super) fn speaks_with(&self, priority: Priority) -> bool {
        [self.priority(), self.health.priority, self.health.previous].contains(&priority)
    }

    /// When to ask again, if the data of this node is too old for a claim.
    pub(super) fn object_for_stale_data(&self, step: &Step<'_>) -> Option<Instant> {
        self.is_too_stale_to_claim().then(|| step.now + self.settings.interval.duration())
    }

    pub(super) fn is_too_stale_to_claim(&self) -> bool {
        self.health.checks.iter().any(Check::forbids_claim)
    }

    pub(super) fn has_check(&self, name: &str) -> bool {
        self.health.checks.iter().any(|check| check.settings.name == name)
    }

    pub(super) fn on_check_result(&mut self, step: &mut Step<'_>, name: &str, result: CheckResult) {
        self.depose_if_late(step);
        let was_ready = self.unready().is_none();
        let Some(check) = self.health.checks.iter_mut().find(|check| check.settings.name == name) else { return };
        let changed = check.on_result(step.now, result);
        if let Some(changed) = changed {
            self.event(step, changed);
        }
        let before = self.health.weigh(self.settings.priority);
        if let Some(from) = before {
            self.event(step, EventKind::PriorityChanged { from, to: self.priority(), check: String::from(name) });
        }
        self.follow_readiness(step, was_ready);
        if before.is_some() {
            self.on_priority_changed(step);
        }
    }

    pub(super) fn on_priority_changed(&mut self, step: &mut Step<'_>) {
        match &self.state {
            State::Initialize | State::Held { .. } => {}
            State::Backup(_) => self.backup_on_settings(),
            // Those who are better from now on need not wait for the next regular advert to hear of it.
            State::Claiming { .. } | State::Active(_) => self.answer(step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rise: u8, fall: u8, effect: CheckEffect) -> Check {
        let settings = CheckSettings { name: "c".into(), rise, fall, effect };
        Check::new(settings, CheckState::Unknown, Instant::ZERO)
    }

    fn give(check: &mut Check, seconds: u64, outcome: CheckOutcome) -> bool {
        let now = Instant::ZERO + Duration::from_secs(seconds);
        check.on_result(now, CheckResult { outcome, output: String::new() }).is_some()
    }

    const PASSED: CheckOutcome = CheckOutcome::Passed(None);

    #[test]
    fn the_first_result_decides_and_then_they_count_in_rows() {
        let mut check = check(2, 3, CheckEffect::Fault);
        assert!(give(&mut check, 0, PASSED));
        assert!(!give(&mut check, 1, CheckOutcome::Failed) && !give(&mut check, 2, CheckOutcome::Failed));
        assert!(!give(&mut check, 3, PASSED));
        assert!(!give(&mut check, 4, CheckOutcome::Failed) && !give(&mut check, 5, CheckOutcome::Unable));
        assert!(give(&mut check, 6, CheckOutcome::Failed) && check.is_fault());
        assert!(!give(&mut check, 7, PASSED) && check.is_fault());
        assert!(give(&mut check, 8, PASSED) && !check.is_fault());
    }

    #[test]
    fn each_flap_holds_for_longer_and_a_calm_time_forgives() {
        let mut check = check(1, 1, CheckEffect::Fault);
        give(&mut check, 0, PASSED);
        let mut now = 1_000;
        let mut stays = Vec::new();
        for _ in 0..10 {
            give(&mut check, now, CheckOutcome::Failed);
            let failed_at = now;
            while check.state() == CheckState::Failing {
                now += 1;
                give(&mut check, now, PASSED);
            }
            stays.push(now - failed_at);
        }
        assert_eq!(stays, [1, 5, 10, 20, 40, 80, 160, 300, 300, 300]);
        give(&mut check, now + 599, CheckOutcome::Failed);
        assert_eq!(check.last_hold, LONGEST_HOLD);
        now += 599 + 300;
        give(&mut check, now, PASSED);
        give(&mut check, now + 600, CheckOutcome::Failed);
        assert_eq!(check.last_hold, SHORTEST_STAY);
    }

    #[test]
    fn a_number_that_swings_stays_down_for_longer_each_time_and_one_that_only_falls_does_not() {
        let mut check = check(1, 1, CheckEffect::Number);
        give(&mut check, 0, CheckOutcome::Passed(Some(10)));
        let mut now = 1_000;
        let mut stays = Vec::new();
        for _ in 0..9 {
            give(&mut check, now, CheckOutcome::Passed(Some(-10)));
            let fell_at = now;
            while check.weight() < 0 {
                now += 1;
                give(&mut check, now, CheckOutcome::Passed(Some(10)));
            }
            stays.push(now - fell_at);
        }
        assert_eq!(stays, [1, 5, 10, 20, 40, 80, 160, 300, 300]);
        // Calm for long enough, and then down step by step, which is no swing.
        now += 601;
        for lower in 0..9 {
            give(&mut check, now + lower, CheckOutcome::Passed(Some(-i64::try_from(lower).unwrap())));
            assert_eq!(check.last_hold, SHORTEST_STAY, "{lower}");
        }
    }

    #[test]
    fn weights_count_by_their_sign() {
        for (weight, passing, failing) in [(50, 50, 0), (-50, 0, -50)] {
            let mut check = check(1, 1, CheckEffect::Weight(weight));
            give(&mut check, 0, PASSED);
            assert_eq!(check.weight(), passing);
            give(&mut check, 1, CheckOutcome::Failed);
            assert_eq!(check.weight(), failing);
        }
    }

    #[test]
    fn a_lag_costs_in_proportion_and_any_lag_costs_something() {
        let mut check = check(1, 1, CheckEffect::Lag { max_lag: 1_000, weight: 50, when_alone: false, fault: false });
        for (lag, weight, stale) in [
            (0, 0, false),
            (1, -1, false),
            (500, -25, false),
            (1_000, -50, false),
            (1_001, -50, true),
            (i64::MAX, -50, true),
        ] {
            give(&mut check, 0, CheckOutcome::Passed(Some(lag)));
            assert_eq!((check.weight(), check.is_stale()), (weight, stale), "{lag}");
        }
    }

    #[test]
    fn a_worse_number_counts_at_once_and_a_better_one_after_rise() {
        let mut check = check(2, 1, CheckEffect::Number);
        give(&mut check, 0, CheckOutcome::Passed(Some(10)));
        assert_eq!(check.weight(), 10);
        give(&mut check, 1, CheckOutcome::Passed(Some(-500)));
        assert_eq!(check.weight(), -253);
        give(&mut check, 2, CheckOutcome::Passed(Some(10)));
        assert_eq!(check.weight(), -253);
        give(&mut check, 3, CheckOutcome::Passed(Some(10)));
        assert_eq!(check.weight(), 10);
    }
}
