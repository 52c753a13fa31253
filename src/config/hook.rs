//! `[vip.hooks]`: what is run when something becomes of a vip.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::duration::duration;
use super::probe::{inspect, program};
use super::problem::{Findings, Kind};
use super::read::{Table, Value};
use super::system::System;
use crate::driver::program::Program;
use crate::engine::{HookSettings, Moment, OnHookFailure};

/// How long a hook may take where the file does not say. A promotion takes seconds.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// What takes longer is a service, not a hook.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);

/// A hook, as it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The name of its vip.
    pub vip: String,
    /// When. A vip has no two of one moment.
    pub moment: Moment,
    /// What is run.
    pub program: Arc<Program>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Reads the table of a vip.
pub(super) fn hooks(
    value: Option<Value<'_>>,
    vip: &str,
    all: &mut Vec<Hook>,
    system: &System,
    findings: &mut Findings,
) -> Vec<HookSettings> {
    let Some(mut table) = value.and_then(|value| value.table("[vip.hooks]", "[vip.hooks]", findings)) else {
        return Vec::new();
    };
    let mut settings = Vec::new();
    for moment in Moment::ALL {
        let Some(value) = table.value(moment.name()) else { continue };
        let example = "{ exec = [\"/usr/local/sbin/promote\"] }";
        let Some(table) = value.table("a hook", example, findings) else { continue };
        let Some((hook, on_failure)) = hook(table, moment, vip, system, findings) else { continue };
        settings.push(HookSettings { moment, on_failure });
        all.push(hook);
    }
    table.finish(findings);
    settings
}

fn hook(
    mut table: Table<'_>,
    moment: Moment,
    vip: &str,
    system: &System,
    findings: &mut Findings,
) -> Option<(Hook, OnHookFailure)> {
    let user = table.value("user");
    let user = user.as_ref().and_then(|user| Some((user, user.text("\"postgres\"", findings)?)));
    let program = table.required("exec", "[\"/usr/local/sbin/promote\"]").and_then(|value| {
        let program: Program = program(&value, user, system, findings)?;
        inspect(&program, &value, system, findings).then(|| Arc::new(program))
    });
    let timeout = table.optional("timeout", DEFAULT_TIMEOUT, findings, |value, findings| {
        duration(value, TIMEOUT, "", "\"10s\"", findings)
    });
    let words = [("ignore", OnHookFailure::Ignore), ("veto", OnHookFailure::Veto)];
    // What a failure does is said where it can do two things.
    let on_failure = match moment {
        Moment::BeforeClaim => table.required("on_failure", "\"ignore\""),
        Moment::AfterClaim | Moment::BeforeRelease | Moment::AfterRelease | Moment::Fault | Moment::SplitBrain => {
            table.value("on_failure")
        }
    };
    let on_failure = match on_failure {
        None => OnHookFailure::Ignore,
        Some(value) => {
            let word = value.word(&words, findings)?;
            if word == OnHookFailure::Veto && moment != Moment::BeforeClaim {
                let message = format!("`{moment}` cannot veto anything");
                let remedy = "remove it, or veto claims in `before_claim`";
                value.refuse(Kind::Conflict, message, "no use", remedy, findings);
            }
            word
        }
    };
    table.finish(findings);
    Some((Hook { vip: vip.to_owned(), moment, program: program?, timeout }, on_failure))
}
