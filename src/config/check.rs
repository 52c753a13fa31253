//! `[[check]]` and `[[vip.check]]`: one table to what is run, and what its results do.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeValue;

use super::duration::duration;
use super::probe::probe;
use super::problem::{Findings, Kind, Problem};
use super::read::{Table, Value};
use super::system::System;
use crate::driver::checks::{self, Probe};
use crate::engine::health::MOST_WEIGHT;
use crate::engine::{CheckEffect, CheckSettings, Preempt};
use crate::types::Priority;

/// How often a check is run where the file does not say, and how long one run may take.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// See [`DEFAULT_INTERVAL`].
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// More often than this a check is a load; less often than each hour it is no check.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);
/// A run that takes longer says nothing in time.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
/// How many results in a row, where the file does not say.
const DEFAULT_ROW: u8 = 2;
/// What is taken off at `max_lag` where the file does not say: more than most pairs' priorities differ by.
const DEFAULT_LAG_WEIGHT: i64 = -100;
/// A lag that may be told as a time.
const MAX_LAG: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(30 * 86400);
/// Each has a thread: more than these are a mistake.
pub(super) const MAX_CHECKS: usize = 1000;

/// A check that was read.
#[derive(Clone)]
pub(super) struct Read {
    pub(super) settings: CheckSettings,
    pub(super) check: checks::Check,
    /// Where its name stands, or its header.
    pub(super) at: Range<usize>,
}

/// Reads one table; a vip's own check is named after it. `None` where a key that has no default is missing or wrong; that was
/// reported then.
pub(super) fn check(mut table: Table<'_>, vip: Option<&str>, system: &System, findings: &mut Findings) -> Option<Read> {
    let header = table.span();
    let name = table.required("name", "\"service\"").and_then(|value| {
        let name = super::vip::name(value, findings)?;
        Some(name)
    });
    let interval = table.optional("interval", DEFAULT_INTERVAL, findings, |value, findings| {
        duration(value, INTERVAL, "", "\"1s\"", findings)
    });
    let timeout = table.optional("timeout", DEFAULT_TIMEOUT, findings, |value, findings| {
        duration(value, TIMEOUT, "", "\"1s\"", findings)
    });
    let rise = table.optional("rise", DEFAULT_ROW, findings, row);
    let fall = table.optional("fall", DEFAULT_ROW, findings, row);
    let max_lag = table.value("max_lag");
    let probe = probe(&mut table, max_lag.as_ref(), system, findings);
    let effect = effect(&mut table, probe.as_ref(), max_lag, findings);
    table.finish(findings);
    let ((name, at), (probe, _)) = (name?, probe?);
    let name = vip.map_or_else(|| name.clone(), |vip| format!("{vip}/{name}"));
    let at = if at.is_empty() { header } else { at };
    Some(Read {
        settings: CheckSettings { name: name.clone(), rise, fall, effect: effect? },
        check: checks::Check { name, interval, timeout, probe },
        at,
    })
}

/// What a vip of a priority cannot have, and what does less than its user may think.
pub(super) fn suits(read: &Read, priority: Priority, preempt: Preempt, findings: &mut Findings) {
    let may_be_fault = matches!(read.settings.effect, CheckEffect::Fault | CheckEffect::Lag { fault: true, .. });
    if preempt == Preempt::Off && priority != Priority::OWNER && !may_be_fault {
        let name = &read.settings.name;
        let message =
            format!("with `preempt = false` the check `{name}` decides only who follows an owner that is gone");
        findings.note(read.at.clone(), message, "give it `fault = true`, or let the nodes preempt");
    }
    if priority == Priority::OWNER && read.settings.effect != CheckEffect::Fault {
        let message = format!("the check `{}` changes a priority that stays 255", read.settings.name);
        let remedy = "lower the vip's `priority`, or give the check `fault = true`";
        findings.refuse(Problem::at(read.at.clone(), Kind::Conflict, message, "no use", remedy));
    }
}

fn row(value: Value<'_>, findings: &mut Findings) -> Option<u8> {
    value.integer(1..=100, "a number such as 2", findings).and_then(|number| u8::try_from(number).ok())
}

/// `fault`, `weight`, `max_lag` and `when_alone`.
fn effect(
    table: &mut Table<'_>,
    probe: Option<&(Probe, Range<usize>)>,
    max_lag: Option<Value<'_>>,
    findings: &mut Findings,
) -> Option<CheckEffect> {
    let most = i64::from(MOST_WEIGHT);
    let max_lag = max_lag.filter(|max_lag| {
        let is_lag = matches!(max_lag.raw(), DeValue::Integer(_) | DeValue::String(_));
        is_lag || max_lag.wrong_type::<()>("a number or a time", "10, or \"10s\" with `postgres`", findings).is_some()
    });
    let (fault, weight, when_alone) = (table.value("fault"), table.value("weight"), table.value("when_alone"));
    let is_fault = fault.as_ref().map_or(Some(false), |fault| fault.boolean(findings))?;
    let Some((probe, at)) = probe else {
        // What it looks at was not understood; these are read for their own mistakes only.
        weight.and_then(|weight| weight.integer(-most..=most, "a number such as -50", findings));
        when_alone.and_then(|alone| alone.boolean(findings));
        return None;
    };
    let (is_lag, can_lag) = match probe {
        Probe::Lag(_) => (true, true),
        Probe::Postgres(database) => (database.ages, true),
        Probe::Exec(_) | Probe::Tcp(_) | Probe::Http(_) | Probe::Ping(_) | Probe::Arp(_) | Probe::Systemd(_) => {
            (false, false)
        }
        Probe::File(_) | Probe::Process(_) | Probe::Interface { .. } | Probe::Route(_) => (false, false),
    };
    if is_lag {
        return lag(probe, at, (weight, max_lag, when_alone), is_fault, findings);
    }
    if let Some(option) = max_lag.filter(|_| !can_lag) {
        let message = "`max_lag` is for a check with `replication` or `postgres`";
        option.refuse(Kind::Conflict, message, "no use", "remove it", findings);
    }
    if let Some(option) = when_alone {
        let message = "`when_alone` means nothing without `max_lag`";
        option.refuse(Kind::Conflict, message, "no use", "remove it", findings);
    }
    if let Probe::File(_) = probe {
        if let Some(fault) = fault {
            let remedy = "remove it: the number says what becomes of the priority";
            fault.refuse(Kind::Conflict, "a check with `file` has no `fault`", "no use", remedy, findings);
        }
        if let Some(weight) = weight {
            let remedy = "remove it: the number in the file is the weight";
            weight.refuse(Kind::Conflict, "a check with `file` has no `weight`", "no use", remedy, findings);
        }
        return Some(CheckEffect::Number);
    }
    match (is_fault, weight) {
        (true, None) => Some(CheckEffect::Fault),
        (true, Some(weight)) => {
            let remedy = "leave one: a fault gives the addresses up, a weight changes the priority";
            weight.refuse(Kind::Conflict, "a check has `fault` or `weight`", "and `fault` as well", remedy, findings);
            None
        }
        (false, Some(weight)) => match weight.integer(-most..=most, "a number such as -50", findings)? {
            0 => {
                weight.refuse(Kind::Invalid, "a weight of 0 does nothing", "", "write one such as -50", findings);
                None
            }
            weight => Some(CheckEffect::Weight(i16::try_from(weight).ok()?)),
        },
        (false, None) => {
            let message = "a check must say what it does";
            let remedy = "add `fault = true`, or a weight such as `weight = -50`";
            findings.refuse(Problem::at(at.clone(), Kind::MissingKey, message, "it does nothing", remedy));
            None
        }
    }
}

/// Of a check that gives a lag.
fn lag(
    probe: &Probe,
    at: &Range<usize>,
    (weight, max_lag, when_alone): (Option<Value<'_>>, Option<Value<'_>>, Option<Value<'_>>),
    fault: bool,
    findings: &mut Findings,
) -> Option<CheckEffect> {
    let Some(max_lag) = max_lag else {
        let message = "a check with `replication` has no `max_lag`";
        let remedy = "add `max_lag = 10`, in what the command counts in";
        findings.refuse(Problem::at(at.clone(), Kind::MissingKey, message, "`max_lag` is missing", remedy));
        return None;
    };
    let max_lag = if let Probe::Postgres(_) = probe {
        u64::try_from(duration(max_lag, MAX_LAG, "", "\"10s\"", findings)?.as_millis()).ok()?
    } else {
        u64::try_from(max_lag.integer(1..=i64::MAX, "a number such as 10", findings)?).ok()?
    };
    let weight = match weight {
        Some(weight) => weight.integer(-i64::from(MOST_WEIGHT)..=-1, "a number such as -100", findings)?,
        None => DEFAULT_LAG_WEIGHT,
    };
    let when_alone = match when_alone {
        Some(alone) => alone.boolean(findings)?,
        None => false,
    };
    Some(CheckEffect::Lag { max_lag, weight: u8::try_from(weight.unsigned_abs()).ok()?, when_alone, fault })
}
