//! `[[alert]]`: who is told of what needs somebody.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::duration::duration;
use super::probe::{absolute, inspect, program};
use super::problem::{Findings, Kind, Problem};
use super::read::{Table, Value};
use super::secret_file::secret_file;
use super::system::System;
use crate::driver::checks::http::{Trust, server_name};
use crate::driver::checks::place::Place;
use crate::driver::checks::webhook::{Page, Webhook};
use crate::driver::program::Program;

/// How long telling may take where the file does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// What takes longer tells nobody in time.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
/// Each has a thread.
const MAX_ALERTS: usize = 32;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is good to know.
    Info,
    /// Something is not as it was, and the service goes on.
    Warning,
    /// Somebody has to do something.
    Error,
}

impl Severity {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Unique on the node.
    pub name: String,
    /// What matters less is not told.
    pub severity: Severity,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Who is told.
    pub way: Way,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A web server, by a POST of JSON.
    Webhook(Webhook),
    /// A program, by JSON on its standard input.
    Exec(Arc<Program>),
    /// The journal of systemd, where the log itself goes elsewhere.
    Journal,
}

/// Reads all tables.
pub(super) fn alerts(tables: Option<Value<'_>>, system: &System, findings: &mut Findings) -> Vec<Alert> {
    let tables = tables.and_then(|tables| tables.array("[[alert]] with double brackets", findings));
    let mut all: Vec<Alert> = Vec::new();
    for value in tables.unwrap_or_default() {
        let Some(table) = value.table("[[alert]]", "[[alert]]", findings) else { continue };
        let Some(alert) = alert(table, system, findings) else { continue };
        if all.iter().any(|other| other.name == alert.name) {
            let message = format!("two alerts are named `{}`", alert.name);
            value.refuse(Kind::Duplicate, message, "again", "give each alert its own name", findings);
        }
        all.push(alert);
    }
    if all.len() > MAX_ALERTS {
        let message = format!("{} alerts are more than {MAX_ALERTS}", all.len());
        findings.refuse(Problem::of_file(message, "have one of them tell the others"));
    }
    all
}

fn alert(mut table: Table<'_>, system: &System, findings: &mut Findings) -> Option<Alert> {
    let at = table.span();
    let name = table.required("name", "\"pager\"").and_then(|value| super::vip::name(value, findings));
    let words = [Severity::Info, Severity::Warning, Severity::Error].map(|it| (it.name(), it));
    let severity =
        table.optional("severity", Severity::Error, findings, |value, findings| value.word(&words, findings));
    let timeout = table.optional("timeout", DEFAULT_TIMEOUT, findings, |value, findings| {
        duration(value, TIMEOUT, "", "\"10s\"", findings)
    });
    let ways = ["webhook", "exec", "journal"].map(|key| table.value(key));
    let user = table.value("user");
    let user = user.as_ref().and_then(|user| Some((user, user.text("\"alerts\"", findings)?)));
    let token = table.value("token_file").and_then(|value| {
        let path = value.text("\"/etc/vipd/alert.token\"", findings)?;
        secret_file(&value, path, system, findings)
    });
    let ca =
        table.value("ca").and_then(|value| absolute(&value, value.text("\"/etc/vipd/ca.pem\"", findings)?, findings));
    let [webhook, exec, journal] = ways;
    let mut given = ways.into_iter().flatten();
    let first = given.next();
    for other in given {
        let message = format!("an alert has one way: `{}` or `{}`", first.map_or("", |it| it.key()), other.key());
        other.refuse(Kind::Conflict, message, "a second", "make it two alerts", findings);
    }
    for (option, goes_with) in [("token_file", "webhook"), ("ca", "webhook"), ("user", "exec")] {
        if let Some(option) = table.value(option).filter(|_| first.is_some_and(|it| it.key() != goes_with)) {
            let message = format!("`{}` means nothing without `{goes_with}`", option.key());
            option.refuse(Kind::Conflict, message, "no use", "remove it", findings);
        }
    }
    let way = match (webhook, exec, journal) {
        (Some(value), _, _) => page(value, ca, findings).map(|page| Way::Webhook(Webhook { page, token })),
        (None, Some(value), _) => program(&value, user, system, findings)
            .filter(|program| inspect(program, &value, system, findings))
            .map(|program| Way::Exec(Arc::new(program))),
        (None, None, Some(value)) => match value.boolean(findings) {
            Some(false) => {
                value.refuse(Kind::Invalid, "an alert that tells nobody", "", "write `journal = true`", findings);
                None
            }
            Some(true) => Some(Way::Journal),
            None => None,
        },
        (None, None, None) => {
            let message = "an alert must say who is told";
            let remedy = "add one of `webhook`, `exec` and `journal`, such as `exec = [\"/usr/local/sbin/page\"]`";
            findings.refuse(Problem::at(at, Kind::MissingKey, message, "it tells nobody", remedy));
            None
        }
    };
    table.finish(findings);
    Some(Alert { name: name?.0, severity, timeout, way: way? })
}

fn page(value: Value<'_>, ca: Option<PathBuf>, findings: &mut Findings) -> Option<Page> {
    let text = value.text("\"https://alerts.example.com/vipd\"", findings)?;
    let plain = text.strip_prefix("http://").map(|rest| (rest, 80, None));
    let trust = || ca.map_or(Trust::System, Trust::File);
    let page = plain.or_else(|| Some((text.strip_prefix("https://")?, 443, Some(trust())))).and_then(|it| {
        let (rest, port, trust) = it;
        let (host, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let place = Place::parse(host, Some(port))?;
        let legal = path.chars().all(|c| c.is_ascii_graphic()) && (trust.is_none() || server_name(host).is_some());
        legal.then(|| Page { place, trust, host: host.to_owned(), path: path.to_owned() })
    });
    if page.is_none() {
        // What stands in the path may be a secret: it is not quoted.
        let remedy = "write \"https://alerts.example.com/vipd\"";
        value.refuse(Kind::Invalid, "`webhook` is no address of a page", "", remedy, findings);
    }
    page
}
