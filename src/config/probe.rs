//! What a check looks at: the one key that says so, and those that go with it.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use super::problem::{Findings, Kind, Problem};
use super::read::{Table, Value, printable};
use super::system::{MissingInterface, System};
use crate::driver::attempt::Unable;
use crate::driver::checks::place::Place;
use crate::driver::checks::{Probe, arp, http, ping, postgres, route, systemd};
use crate::driver::program::{Program, User};

/// All kinds of checks, but `interface`, which is an option of `ping` and `arp` as well.
const KINDS: [&str; 11] =
    ["exec", "replication", "tcp", "http", "ping", "arp", "file", "process", "systemd", "route", "postgres"];
/// The codes that HTTP has.
const STATUS: RangeInclusive<i64> = 100..=599;
/// In Mbit/s.
const SPEED: RangeInclusive<i64> = 1..=10_000_000;

/// A key that goes with some kinds only, and what it says. One of a wrong type was reported.
struct Opt<'t, T> {
    value: Value<'t>,
    says: T,
}

struct Options<'t> {
    user: Option<Opt<'t, &'t str>>,
    host: Option<Opt<'t, &'t str>>,
    status: Option<Opt<'t, i64>>,
    body: Option<Opt<'t, &'t str>>,
    ca: Option<Opt<'t, &'t str>>,
    verify: Option<Opt<'t, bool>>,
    speed: Option<Opt<'t, i64>>,
    interface: Option<Opt<'t, &'t str>>,
    role: Option<Opt<'t, postgres::Role>>,
    peers: Option<Opt<'t, Vec<&'t str>>>,
}

/// Reads it, and where it stands. `max_lag` is read by others.
pub(super) fn probe<'t>(
    table: &mut Table<'t>,
    max_lag: Option<&Value<'t>>,
    system: &System,
    findings: &mut Findings,
) -> Option<(Probe, Range<usize>)> {
    let given: Vec<Value<'t>> = KINDS.iter().filter_map(|kind| table.value(kind)).collect();
    let interface = table.value("interface");
    let asks_on = given.iter().any(|value| matches!(value.key(), "ping" | "arp"));
    let (kind_interface, interface) = if asks_on { (None, interface) } else { (interface, None) };
    // Whatever is looked at, what is of a wrong type is wrong.
    let options = Options::read(table, interface, findings);
    let mut given = given.into_iter().chain(kind_interface);
    let Some(value) = given.next() else {
        let message = "a check must say what it looks at";
        let kinds = KINDS.map(|kind| format!("`{kind}`")).join(", ");
        let remedy = format!("add one of {kinds}, `interface`, such as `tcp = \"127.0.0.1:5432\"`");
        findings.refuse(Problem::at(table.span(), Kind::MissingKey, message, "it looks at nothing", remedy));
        return None;
    };
    for other in given {
        let message = format!("a check looks at one thing: `{}` or `{}`", value.key(), other.key());
        other.refuse(Kind::Conflict, message, "a second", "make it two checks", findings);
    }
    options.suit(value.key(), findings);
    let probe = options.probe(&value, max_lag.is_some(), system, findings)?;
    can_be_run(|| probe.inspect(), &value, system, findings).then(|| (probe, value.span()))
}

/// Whether a program can be run here, where it is for here. Reported if not.
pub(super) fn inspect(program: &Program, value: &Value<'_>, system: &System, findings: &mut Findings) -> bool {
    can_be_run(|| program.inspect(), value, system, findings)
}

fn can_be_run(
    inspect: impl FnOnce() -> Result<(), Unable>,
    value: &Value<'_>,
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

impl<'t> Options<'t> {
    fn read(table: &mut Table<'t>, interface: Option<Value<'t>>, findings: &mut Findings) -> Self {
        let text = |value: &Value<'t>, findings: &mut Findings| value.text("a text", findings);
        Self {
            user: opt(table.value("user"), findings, |value, it| value.text("\"postgres\"", it)),
            host: opt(table.value("host"), findings, |value, it| value.text("\"www.example.com\"", it)),
            status: opt(table.value("status"), findings, |value, it| value.integer(STATUS, "a number such as 200", it)),
            body: opt(table.value("body"), findings, |value, it| value.text("\"ok\"", it)),
            ca: opt(table.value("ca"), findings, |value, it| value.text("\"/etc/ssl/certs/our-ca.pem\"", it)),
            verify: opt(table.value("verify"), findings, Value::boolean),
            speed: opt(table.value("speed"), findings, |value, it| value.integer(SPEED, "Mbit/s such as 10000", it)),
            interface: opt(interface, findings, |value, it| value.text("\"eno1\"", it)),
            role: opt(table.value("role"), findings, |value, it| {
                let roles = [("primary", postgres::Role::Primary), ("standby", postgres::Role::Standby)];
                value.word(&[roles[0], roles[1], ("any", postgres::Role::Any)], it)
            }),
            peers: opt(table.value("peers"), findings, |value, it| {
                let peers = value.array("[\"host=db-b user=vipd dbname=postgres\"]", it)?;
                peers.iter().map(|peer| text(peer, it)).collect()
            }),
        }
    }

    /// Refuses those that mean nothing to a kind.
    fn suit(&self, kind: &str, findings: &mut Findings) {
        let all = [
            (self.user.as_ref().map(|it| &it.value), &["exec", "replication"][..]),
            (self.host.as_ref().map(|it| &it.value), &["http"]),
            (self.status.as_ref().map(|it| &it.value), &["http"]),
            (self.body.as_ref().map(|it| &it.value), &["http"]),
            (self.ca.as_ref().map(|it| &it.value), &["http"]),
            (self.verify.as_ref().map(|it| &it.value), &["http"]),
            (self.speed.as_ref().map(|it| &it.value), &["interface"]),
            (self.role.as_ref().map(|it| &it.value), &["postgres"]),
            (self.peers.as_ref().map(|it| &it.value), &["postgres"]),
        ];
        for (option, kinds) in all {
            if let Some(option) = option.filter(|_| !kinds.contains(&kind)) {
                let message = format!("`{}` means nothing to a check with `{kind}`", option.key());
                option.refuse(Kind::Conflict, message, "no use", "remove it", findings);
            }
        }
    }

    fn probe(&self, value: &Value<'t>, ages: bool, system: &System, findings: &mut Findings) -> Option<Probe> {
        let user = self.user.as_ref().map(|user| (&user.value, user.says));
        Some(match value.key() {
            "exec" => Probe::Exec(program(value, user, system, findings)?),
            "replication" => Probe::Lag(program(value, user, system, findings)?),
            "tcp" => Probe::Tcp(place(value, findings)?),
            "http" => Probe::Http(self.request(value, findings)?),
            "ping" => {
                let interface = self.interface.as_ref().map(|it| it.says.to_owned());
                Probe::Ping(ping::Host { address: ip(value, findings)?, interface })
            }
            "arp" => Probe::Arp(self.neighbour(value, findings)?),
            "file" => Probe::File(absolute(value, value.text("\"/run/service/weight\"", findings)?, findings)?),
            "process" => Probe::Process(word(value, "\"postgres\"", findings)?),
            "systemd" => Probe::Systemd(unit(value, findings)?),
            "route" => Probe::Route(destination(value, findings)?),
            "postgres" => Probe::Postgres(postgres::Database {
                connection: word(value, "\"host=/run/postgresql user=vipd dbname=postgres\"", findings)?,
                role: self.role.as_ref().map_or(postgres::Role::Any, |role| role.says),
                ages,
                peers: self
                    .peers
                    .as_ref()
                    .map(|peers| peers.says.iter().map(|&it| it.to_owned()).collect())
                    .unwrap_or_default(),
            }),
            _ => Probe::Interface {
                name: word(value, "\"eno1\"", findings)?,
                speed: self.speed.as_ref().and_then(|speed| u32::try_from(speed.says).ok()),
            },
        })
    }

    fn request(&self, value: &Value<'t>, findings: &mut Findings) -> Option<http::Request> {
        let text = value.text("\"http://127.0.0.1:8080/health\"", findings)?;
        let plain = text.strip_prefix("http://").map(|rest| (rest, 80, false));
        let parsed = plain.or_else(|| Some((text.strip_prefix("https://")?, 443, true))).and_then(|it| {
            let (rest, port, is_sealed) = it;
            let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
            let place = Place::parse(authority, Some(port))?;
            path.chars().all(|c| c.is_ascii_graphic()).then_some((place, authority, path, is_sealed))
        });
        let Some((place, authority, path, is_sealed)) = parsed else {
            let message = format!("`{}` is no address of a page that can be checked", printable(text));
            let remedy = "write \"http://127.0.0.1:8080/health\", or one with https";
            value.refuse(Kind::Invalid, message, "", remedy, findings);
            return None;
        };
        let host = self.host.as_ref().map_or(authority, |host| host.says);
        let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic());
        if !is_host || is_sealed && http::server_name(host).is_none() {
            let at = self.host.as_ref().map_or(value, |host| &host.value);
            at.refuse(Kind::Invalid, "`host` is no name of a host", "", "write \"www.example.com\"", findings);
            return None;
        }
        let status = match &self.status {
            Some(status) => {
                let code = u16::try_from(status.says).ok()?;
                code..=code
            }
            None => 200..=299,
        };
        let body = match &self.body {
            Some(body) => Some(word(&body.value, "\"ok\"", findings)?),
            None => None,
        };
        let trust = self.trust(is_sealed, findings)?;
        Some(http::Request { place, trust, host: host.to_owned(), path: path.to_owned(), status, body })
    }

    #[allow(clippy::option_option, reason = "a mistake, and no TLS, are two answers")]
    fn trust(&self, is_sealed: bool, findings: &mut Findings) -> Option<Option<http::Trust>> {
        let given = [self.ca.as_ref().map(|it| &it.value), self.verify.as_ref().map(|it| &it.value)];
        if !is_sealed {
            for option in given.into_iter().flatten() {
                let message = format!("`{}` means nothing without https", option.key());
                option.refuse(Kind::Conflict, message, "no use", "remove it, or write https", findings);
            }
            return Some(None);
        }
        let verifies = self.verify.as_ref().is_none_or(|verify| verify.says);
        Some(Some(match &self.ca {
            None if verifies => http::Trust::System,
            None => http::Trust::Anybody,
            Some(ca) if verifies => http::Trust::File(absolute(&ca.value, ca.says, findings)?),
            Some(ca) => {
                let remedy = "remove one of the two";
                ca.value.refuse(Kind::Conflict, "`ca` is not read with `verify = false`", "no use", remedy, findings);
                return None;
            }
        }))
    }

    fn neighbour(&self, value: &Value<'t>, findings: &mut Findings) -> Option<arp::Neighbour> {
        let address = ip(value, findings);
        let Some(interface) = &self.interface else {
            let message = "a check with `arp` must say on which interface";
            value.refuse(Kind::MissingKey, message, "", "add `interface = \"eno1\"`", findings);
            return None;
        };
        Some(arp::Neighbour { address: address?, interface: interface.says.to_owned() })
    }
}

fn opt<'t, T>(
    value: Option<Value<'t>>,
    findings: &mut Findings,
    says: impl FnOnce(&Value<'t>, &mut Findings) -> Option<T>,
) -> Option<Opt<'t, T>> {
    let value = value?;
    let says = says(&value, findings)?;
    Some(Opt { value, says })
}

pub(super) fn program(
    value: &Value<'_>,
    user: Option<(&Value<'_>, &str)>,
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
        Some((value, name)) => {
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

fn place(value: &Value<'_>, findings: &mut Findings) -> Option<Place> {
    let text = value.text("\"127.0.0.1:5432\"", findings)?;
    let place = Place::parse(text, None);
    if place.is_none() {
        let message = format!("`{}` is no address or name with a port", printable(text));
        let remedy = "write \"127.0.0.1:5432\", \"[::1]:5432\" or \"db.example.com:5432\"";
        value.refuse(Kind::Invalid, message, "", remedy, findings);
    }
    place
}

fn ip(value: &Value<'_>, findings: &mut Findings) -> Option<std::net::IpAddr> {
    let text = value.text("\"10.20.0.1\"", findings)?;
    let address = text.parse().ok();
    if address.is_none() {
        let message = format!("`{}` is no IP address", printable(text));
        value.refuse(Kind::Invalid, message, "", "write \"10.20.0.1\" or \"2001:db8::1\"", findings);
    }
    address
}

pub(super) fn absolute(value: &Value<'_>, path: &str, findings: &mut Findings) -> Option<PathBuf> {
    if !path.starts_with('/') || path.contains('\0') {
        let message = format!("`{}` must be an absolute path", value.key());
        value.refuse(Kind::Invalid, message, "", "write one that begins with `/`", findings);
        return None;
    }
    Some(PathBuf::from(path))
}

fn word(value: &Value<'_>, example: &str, findings: &mut Findings) -> Option<String> {
    let text = value.text(example, findings)?;
    if text.is_empty() {
        value.refuse(Kind::Invalid, format!("`{}` is empty", value.key()), "", format!("write {example}"), findings);
        return None;
    }
    Some(text.to_string())
}

fn unit(value: &Value<'_>, findings: &mut Findings) -> Option<systemd::Unit> {
    let name = word(value, "\"nginx.service\"", findings)?;
    // What may stand in one (systemd.unit(5)).
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:@\\".contains(c)) {
        let message = format!("`{}` is no unit of systemd's", printable(&name));
        value.refuse(Kind::Invalid, message, "", "write \"nginx.service\"", findings);
        return None;
    }
    // As systemctl has it.
    let name = if name.contains('.') { name } else { format!("{name}.service") };
    Some(systemd::Unit { name, bus: PathBuf::from(systemd::SYSTEM_BUS) })
}

fn destination(value: &Value<'_>, findings: &mut Findings) -> Option<route::Destination> {
    let text = value.text("\"default\"", findings)?;
    let destination = text.parse().ok();
    if destination.is_none() {
        let message = format!("`{}` is no destination of a route", printable(text));
        let remedy = "write \"default\", or a network such as \"10.0.0.0/8\" or \"::/0\"";
        value.refuse(Kind::Invalid, message, "", remedy, findings);
    }
    destination
}
