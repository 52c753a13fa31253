//! `[[check]]` and `[[vip.check]]`: one table to what is run, and what its results do.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use super::duration::duration;
use super::problem::{Findings, Kind, Problem};
use super::read::{Table, Value, printable};
use super::system::{MissingInterface, System};
use crate::driver::checks::exec::{Program, User};
use crate::driver::checks::{self, Probe, http};
use crate::engine::health::MOST_WEIGHT;
use crate::engine::{CheckEffect, CheckSettings};
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
    let probe = probe(&mut table, system, findings);
    let effect = effect(&mut table, probe.as_ref(), findings);
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

/// What a vip of a priority cannot have.
pub(super) fn suits(read: &Read, priority: Priority, findings: &mut Findings) {
    if priority == Priority::OWNER && read.settings.effect != CheckEffect::Fault {
        let message = format!("the check `{}` changes a priority that stays 255", read.settings.name);
        let remedy = "lower the vip's `priority`, or give the check `fault = true`";
        findings.refuse(Problem::at(read.at.clone(), Kind::Conflict, message, "no use", remedy));
    }
}

fn row(value: Value<'_>, findings: &mut Findings) -> Option<u8> {
    value.integer(1..=100, "a number such as 2", findings).and_then(|number| u8::try_from(number).ok())
}

/// The one key that says what is looked at, and those that go with it. And where that stands.
fn probe(table: &mut Table<'_>, system: &System, findings: &mut Findings) -> Option<(Probe, Range<usize>)> {
    // Whatever is looked at, what is of a wrong type is wrong.
    let user = table.value("user").filter(|user| user.text("\"postgres\"", findings).is_some());
    let host = table.value("host").filter(|host| host.text("\"www.example.com\"", findings).is_some());
    let body = table.value("body").filter(|body| body.text("\"ok\"", findings).is_some());
    let status = table.value("status");
    let status = status.filter(|status| status.integer(100..=599, "a number such as 200", findings).is_some());
    let speed = table.value("speed");
    let speed = speed.filter(|speed| speed.integer(1..=10_000_000, "Mbit/s such as 10000", findings).is_some());
    let kinds = ["exec", "lag", "tcp", "http", "file", "process", "interface", "route"].map(|kind| table.value(kind));
    let mut given = kinds.into_iter().flatten();
    let Some(value) = given.next() else {
        let message = "a check must say what it looks at";
        let remedy = "add one of `exec`, `lag`, `tcp`, `http`, `file`, `process`, `interface`, `route`, \
                      such as `tcp = \"127.0.0.1:5432\"`";
        findings.refuse(Problem::at(table.span(), Kind::MissingKey, message, "it looks at nothing", remedy));
        return None;
    };
    for other in given {
        let message = format!("a check looks at one thing: `{}` or `{}`", value.key(), other.key());
        other.refuse(Kind::Conflict, message, "a second", "make it two checks", findings);
    }
    let kind = value.key();
    for (option, kinds) in [
        (user, &["exec", "lag"][..]),
        (host, &["http"]),
        (status, &["http"]),
        (body, &["http"]),
        (speed, &["interface"]),
    ] {
        if let Some(option) = option.filter(|_| !kinds.contains(&kind)) {
            let message = format!("`{}` means nothing to a check with `{kind}`", option.key());
            option.refuse(Kind::Conflict, message, "no use", "remove it", findings);
        }
    }
    let probe = match kind {
        "exec" => Probe::Exec(program(value, user, system, findings)?),
        "lag" => Probe::Lag(program(value, user, system, findings)?),
        "tcp" => Probe::Tcp(socket_address(value, findings)?),
        "http" => Probe::Http(request(value, (host, status, body), findings)?),
        "file" => Probe::File(absolute(value, findings)?),
        "process" => Probe::Process(word(value, "\"postgres\"", findings)?),
        "interface" => Probe::Interface {
            name: word(value, "\"eno1\"", findings)?,
            speed: speed
                .and_then(|speed| speed.integer(1..=10_000_000, "Mbit/s such as 10000", findings))
                .and_then(|speed| u32::try_from(speed).ok()),
        },
        _ => Probe::Route(route(value, findings)?),
    };
    can_be_run(|| probe.inspect(), value, system, findings).then(|| (probe, value.span()))
}

/// Whether a program can be run here, where it is for here. Reported if not.
pub(super) fn inspect(program: &Program, value: Value<'_>, system: &System, findings: &mut Findings) -> bool {
    can_be_run(|| program.inspect(), value, system, findings)
}

fn can_be_run(
    inspect: impl FnOnce() -> Result<(), checks::Unable>,
    value: Value<'_>,
    system: &System,
    findings: &mut Findings,
) -> bool {
    if system.missing_interface != MissingInterface::Ignore
        && let Err(unable) = inspect()
    {
        value.refuse(Kind::CannotRun, unable.problem, "", unable.remedy, findings);
        return false;
    }
    true
}

/// `fault`, `weight`, `max_lag` and `when_alone`.
fn effect(
    table: &mut Table<'_>,
    probe: Option<&(Probe, Range<usize>)>,
    findings: &mut Findings,
) -> Option<CheckEffect> {
    let most = i64::from(MOST_WEIGHT);
    let (fault, weight) = (table.value("fault"), table.value("weight"));
    let (max_lag, when_alone) = (table.value("max_lag"), table.value("when_alone"));
    let is_fault = fault.map(|fault| fault.boolean(findings)).unwrap_or(Some(false))?;
    let Some((probe, at)) = probe else {
        // What it looks at was not understood; these are read for their own mistakes only.
        weight.and_then(|weight| weight.integer(-most..=most, "a number such as -50", findings));
        max_lag.and_then(|lag| lag.integer(1..=i64::MAX, "a number such as 10", findings));
        when_alone.and_then(|alone| alone.boolean(findings));
        return None;
    };
    let is_lag = matches!(probe, Probe::Lag(_));
    for option in [max_lag, when_alone].into_iter().flatten().filter(|_| !is_lag) {
        let message = format!("`{}` is for a check with `lag`", option.key());
        option.refuse(Kind::Conflict, message, "no use", "remove it", findings);
    }
    let speaks_for_itself = is_lag || matches!(probe, Probe::File(_));
    if let Some(fault) = fault.filter(|_| speaks_for_itself) {
        let remedy = "remove it: the number says what becomes of the priority";
        fault.refuse(Kind::Conflict, "a check that gives a number has no `fault`", "no use", remedy, findings);
    }
    match probe {
        Probe::File(_) => {
            if let Some(weight) = weight {
                let remedy = "remove it: the number in the file is the weight";
                weight.refuse(Kind::Conflict, "a check with `file` has no `weight`", "no use", remedy, findings);
            }
            Some(CheckEffect::Number)
        }
        Probe::Lag(_) => {
            let Some(max_lag) = max_lag else {
                let message = "a check with `lag` has no `max_lag`";
                let remedy = "add `max_lag = 10`, in what the command counts in";
                findings.refuse(Problem::at(at.clone(), Kind::MissingKey, message, "`max_lag` is missing", remedy));
                return None;
            };
            let max_lag = max_lag.integer(1..=i64::MAX, "a number such as 10", findings)?;
            let weight = match weight {
                Some(weight) => weight.integer(-most..=-1, "a number such as -100", findings)?,
                None => DEFAULT_LAG_WEIGHT,
            };
            let when_alone = match when_alone {
                Some(alone) => alone.boolean(findings)?,
                None => false,
            };
            let weight = u8::try_from(weight.unsigned_abs()).ok()?;
            Some(CheckEffect::Lag { max_lag: u64::try_from(max_lag).ok()?, weight, when_alone })
        }
        _ => match (is_fault, weight) {
            (true, None) => Some(CheckEffect::Fault),
            (true, Some(weight)) => {
                let remedy = "leave one: a fault gives the addresses up, a weight changes the priority";
                weight.refuse(
                    Kind::Conflict,
                    "a check has `fault` or `weight`",
                    "and `fault` as well",
                    remedy,
                    findings,
                );
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
        },
    }
}

pub(super) fn program(
    value: Value<'_>,
    user: Option<Value<'_>>,
    system: &System,
    findings: &mut Findings,
) -> Option<Program> {
    let example = "[\"/usr/bin/pg_isready\", \"-q\"]";
    let words = value.array(example, findings)?;
    let command: Vec<String> =
        words.iter().filter_map(|word| word.text(example, findings)).map(str::to_string).collect();
    if command.len() != words.len() {
        return None;
    }
    if !command.first().is_some_and(|path| path.starts_with('/')) {
        let message = format!("`{}` must begin with the absolute path of a program", value.key());
        value.refuse(Kind::Invalid, message, "", format!("write {example}: there is no shell and no search"), findings);
        return None;
    }
    if command.iter().any(|word| word.contains('\0')) {
        value.refuse(Kind::Invalid, "an argument cannot contain a zero byte", "", "remove it", findings);
        return None;
    }
    let user = match user {
        None => None,
        Some(_) if system.missing_interface == MissingInterface::Ignore => None,
        Some(value) => {
            let name = value.text("\"postgres\"", findings)?;
            let user = User::named(name);
            if user.is_none() {
                let message = format!("there is no user `{}` on this machine", printable(name));
                value.refuse(Kind::CannotRun, message, "", "create it, or name another", findings);
            }
            Some(user?)
        }
    };
    Some(Program { command, user })
}

fn socket_address(value: Value<'_>, findings: &mut Findings) -> Option<SocketAddr> {
    let text = value.text("\"127.0.0.1:5432\"", findings)?;
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    if address.is_none() {
        let message = format!("`{}` is no address with a port", printable(text));
        let remedy = "write \"127.0.0.1:5432\" or \"[::1]:5432\"; a name would make the check depend on the resolver";
        value.refuse(Kind::Invalid, message, "", remedy, findings);
    }
    address
}

fn request(
    value: Value<'_>,
    (host, status, body): (Option<Value<'_>>, Option<Value<'_>>, Option<Value<'_>>),
    findings: &mut Findings,
) -> Option<http::Request> {
    let text = value.text("\"http://127.0.0.1:8080/health\"", findings)?;
    let parsed = text.strip_prefix("http://").and_then(|rest| {
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let plain = |authority: &str| authority.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let address = authority.parse().ok().or_else(|| plain(authority).map(|ip| SocketAddr::new(ip, 80)))?;
        path.chars().all(|c| c.is_ascii_graphic()).then(|| (address, authority.to_string(), path.to_string()))
    });
    let Some((address, authority, path)) = parsed else {
        let message = format!("`{}` is no address of a page that can be checked", printable(text));
        let remedy = "write \"http://127.0.0.1:8080/health\", with an IP address (the name goes into `host`); \
                      https is not there yet: use `exec` with a client of your own";
        value.refuse(Kind::Invalid, message, "", remedy, findings);
        return None;
    };
    let host = match host {
        Some(host) => {
            let name = word(host, "\"www.example.com\"", findings)?;
            if !name.chars().all(|c| c.is_ascii_graphic()) {
                host.refuse(Kind::Invalid, "`host` is no name of a host", "", "write \"www.example.com\"", findings);
                return None;
            }
            name
        }
        None => authority,
    };
    let status = match status {
        Some(status) => {
            let code = status.integer(100..=599, "a number such as 200", findings)?;
            let code = u16::try_from(code).ok()?;
            code..=code
        }
        None => 200..=299,
    };
    let body = match body {
        Some(body) => Some(word(body, "\"ok\"", findings)?),
        None => None,
    };
    Some(http::Request { address, host, path, status, body })
}

fn absolute(value: Value<'_>, findings: &mut Findings) -> Option<PathBuf> {
    let path = value.text("\"/run/service/weight\"", findings)?;
    if !path.starts_with('/') || path.contains('\0') {
        value.refuse(Kind::Invalid, "`file` must be an absolute path", "", "write one that begins with `/`", findings);
        return None;
    }
    Some(PathBuf::from(path))
}

fn word(value: Value<'_>, example: &str, findings: &mut Findings) -> Option<String> {
    let text = value.text(example, findings)?;
    if text.is_empty() {
        value.refuse(Kind::Invalid, format!("`{}` is empty", value.key()), "", format!("write {example}"), findings);
        return None;
    }
    Some(text.to_string())
}

fn route(value: Value<'_>, findings: &mut Findings) -> Option<checks::route::Destination> {
    let text = value.text("\"default\"", findings)?;
    let destination = text.parse().ok();
    if destination.is_none() {
        let message = format!("`{}` is no destination of a route", printable(text));
        let remedy = "write \"default\", or a network such as \"10.0.0.0/8\" or \"::/0\"";
        value.refuse(Kind::Invalid, message, "", remedy, findings);
    }
    destination
}
