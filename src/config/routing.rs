//! `routes` and `rules` of a vip: what moves with its addresses.

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};

use toml::de::DeValue;

use super::address::{self, Addresses};
use super::problem::{Findings, Kind};
use super::read::{Table, Value, printable};
use crate::types::{Family, Prefix, Routing, VirtualRoute, VirtualRule};

/// More than these are a routing protocol's, and all of them are installed one by one at a failover.
const MAX: usize = 64;
/// What a number of a table can be (`RTA_TABLE`); 0 is none.
const TABLES: RangeInclusive<i64> = 1..=0xffff_ffff;
/// The kernel's own (`RT_TABLE_LOCAL`): it would send the host's own packets elsewhere.
const LOCAL_TABLE: i64 = 255;
/// Those after the rule of the main table, 32766, are never asked for what that has a route to.
const ORDERS: RangeInclusive<i64> = 1..=32_765;
/// See [`VirtualRule::order`].
const DEFAULT_ORDER: u32 = 1000;

const EXAMPLE: &str = "\"10.50.0.0/16 via 10.20.0.254\"";

/// `routes` and `rules`, routes first, each with its place. The wrong ones are reported and left out.
pub(super) fn routing(
    table: &mut Table<'_>,
    families: &[Family],
    addresses: Option<&Addresses>,
    findings: &mut Findings,
) -> Vec<(Routing, Range<usize>)> {
    let mut all = Vec::new();
    for element in list(table, "routes", &format!("[{EXAMPLE}]"), findings) {
        let route = route(element, families, addresses, findings);
        all.extend(route.map(|route| (Routing::Route(route), element.span())));
    }
    for element in list(table, "rules", "[{ from = \"10.20.0.100\", table = 100 }]", findings) {
        let rule = rule(element, families, findings);
        all.extend(rule.map(|rule| (Routing::Rule(rule), element.span())));
    }
    all
}

fn list<'t>(table: &mut Table<'t>, key: &'static str, example: &str, findings: &mut Findings) -> Vec<Value<'t>> {
    let Some(value) = table.value(key) else { return Vec::new() };
    let Some(mut elements) = value.array(example, findings) else { return Vec::new() };
    if elements.len() > MAX {
        let remedy = format!("list at most {MAX}; for more, run a routing daemon beside");
        value.refuse(Kind::OutOfRange, format!("too many `{key}`"), elements.len().to_string(), remedy, findings);
        elements.truncate(MAX);
    }
    elements
}

/// What a file says of a route, as texts.
struct Written<'t> {
    to: &'t str,
    via: Option<(&'t str, Value<'t>)>,
    source: Option<(&'t str, Value<'t>)>,
    table: u32,
    metric: Option<(u32, Value<'t>)>,
}

fn route(
    value: Value<'_>,
    families: &[Family],
    addresses: Option<&Addresses>,
    findings: &mut Findings,
) -> Option<VirtualRoute> {
    let Written { to, via, source, table, metric } = written(value, findings)?;
    let via = match via {
        Some((text, at)) => Some(ip(text, at, "the router's address, as in \"10.20.0.254\"", findings)?),
        None => None,
    };
    let source = match source {
        Some((text, at)) => Some((ip(text, at, "one of the vip's addresses", findings)?, at)),
        None => None,
    };
    let spoken = via.or_else(|| source.map(|(source, _)| source)).map(Family::of);
    let to = prefix(to, spoken.or_else(|| families.first().copied()), value, findings)?;
    let family = to.family();
    if !families.is_empty() && !families.contains(&family) {
        let message = format!("a route to {to} is {family}, but the vip has no {family} address");
        value.refuse(Kind::Conflict, message, "", "make it the route of another vip, or add an address", findings);
        return None;
    }
    if let Some(other) = spoken.filter(|spoken| *spoken != family) {
        let message = format!("a route to {to} cannot go by {other}");
        value.refuse(Kind::Conflict, message, "", format!("write addresses of {family} only"), findings);
        return None;
    }
    let is_virtual = |ip: IpAddr| addresses.is_some_and(|addresses| addresses.contains(ip));
    if let Some(via) = via.filter(|via| is_virtual(*via) || address::not_unicast(*via).is_some()) {
        let message = format!("{via} is no router's address");
        let remedy = "write that of the next router on this network, not one of the vip's own";
        value.refuse(Kind::Invalid, message, "", remedy, findings);
        return None;
    }
    if let Some((source, at)) = source.filter(|(source, _)| addresses.is_some() && !is_virtual(*source)) {
        let message = format!("the source {source} is none of the vip's addresses");
        at.refuse(Kind::Conflict, message, "", "write one of `addresses`, without its prefix length", findings);
        return None;
    }
    if let Some((_, at)) = metric.filter(|(metric, _)| family == Family::V6 && *metric == 0) {
        at.refuse(Kind::OutOfRange, "IPv6 knows no metric 0", "", "write a number from 1, or leave it out", findings);
        return None;
    }
    let metric = metric.map_or_else(|| VirtualRoute::default_metric(family), |(metric, _)| metric);
    Some(VirtualRoute { to, via, source: source.map(|(source, _)| source), table, metric })
}

fn written<'t>(value: Value<'t>, findings: &mut Findings) -> Option<Written<'t>> {
    let expected = format!("{EXAMPLE} or {{ to = \"10.50.0.0/16\", via = \"10.20.0.254\", metric = 50 }}");
    match value.raw() {
        DeValue::String(text) => {
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let (to, via) = match words.as_slice() {
                [to] => (*to, None),
                [to, "via", via] => (*to, Some((*via, value))),
                _ => {
                    let message = format!("`{}` is no route", printable(text));
                    let remedy = format!("write {expected}");
                    value.refuse(Kind::Invalid, message, "", remedy, findings);
                    return None;
                }
            };
            Some(Written { to, via, source: None, table: VirtualRoute::MAIN, metric: None })
        }
        DeValue::Table(_) => {
            let mut table = value.table("a route", &expected, findings)?;
            let to = table.required("to", "\"10.50.0.0/16\"");
            let to = to.and_then(|value| value.text("\"10.50.0.0/16\"", findings));
            let mut text = |key, example| {
                let value: Value<'t> = table.value(key)?;
                Some((value.text(example, findings)?, value))
            };
            let via = text("via", "\"10.20.0.254\"");
            let source = text("source", "\"10.20.0.100\"");
            let number = table.optional("table", VirtualRoute::MAIN, findings, number_of_table);
            let metric = table.value("metric").and_then(|value| {
                let metric = value.integer(0..=0xffff_ffff, "a number such as 50", findings)?;
                Some((u32::try_from(metric).ok()?, value))
            });
            table.finish(findings);
            Some(Written { to: to?, via, source, table: number, metric })
        }
        _ => value.wrong_type("a route or a table", &expected, findings),
    }
}

fn rule(value: Value<'_>, families: &[Family], findings: &mut Findings) -> Option<VirtualRule> {
    let mut table = value.table("a rule", "{ from = \"10.20.0.100\", table = 100 }", findings)?;
    let mut side = |key| {
        let value = table.value(key)?;
        let text = value.text("\"10.20.0.100\"", findings)?;
        Some(prefix(text, None, value, findings))
    };
    let (from, to) = (side("from"), side("to"));
    let number = table.required("table", "100").and_then(|value| number_of_table(value, findings));
    let order = table.optional("order", DEFAULT_ORDER, findings, |value, findings| {
        u32::try_from(value.integer(ORDERS, "a number such as 1000", findings)?).ok()
    });
    table.finish(findings);
    let (from, to) = match (from, to) {
        (Some(from), Some(to)) => (Some(from?), Some(to?)),
        (Some(from), None) => (Some(from?), None),
        (None, Some(to)) => (None, Some(to?)),
        (None, None) => {
            let remedy = "add `from = \"10.20.0.100\"`, or `to` with a network";
            value.refuse(Kind::MissingKey, "a rule has neither `from` nor `to`", "", remedy, findings);
            return None;
        }
    };
    let family = from.or(to)?.family();
    if from.zip(to).is_some_and(|(from, to)| from.family() != to.family()) {
        let remedy = "write addresses of one family, or two rules";
        value.refuse(Kind::Conflict, "`from` and `to` are of two families", "", remedy, findings);
        return None;
    }
    if !families.is_empty() && !families.contains(&family) {
        let message = format!("the rule is {family}, but the vip has no {family} address");
        value.refuse(Kind::Conflict, message, "", "make it the rule of another vip, or add an address", findings);
        return None;
    }
    let everything = Prefix::everything(family);
    Some(VirtualRule { from: from.unwrap_or(everything), to: to.unwrap_or(everything), table: number?, order })
}

fn number_of_table(value: Value<'_>, findings: &mut Findings) -> Option<u32> {
    let number = value.integer(TABLES, "a number such as 100", findings)?;
    if number == LOCAL_TABLE {
        let remedy = "write another number, or leave it out for the main table, 254";
        value.refuse(Kind::OutOfRange, "table 255 is the kernel's own", "", remedy, findings);
        return None;
    }
    u32::try_from(number).ok()
}

fn ip(text: &str, at: Value<'_>, what: &str, findings: &mut Findings) -> Option<IpAddr> {
    let ip = text.parse().ok();
    if ip.is_none() {
        let message = format!("`{}` is no IP address", printable(text));
        at.refuse(Kind::Invalid, message, "", format!("write {what}"), findings);
    }
    ip
}

/// `default`, `10.50.0.0/16`, or an address alone. `default` is of the family that else is spoken of.
fn prefix(text: &str, family: Option<Family>, at: Value<'_>, findings: &mut Findings) -> Option<Prefix> {
    if let ("default", Some(family)) = (text, family) {
        return Some(Prefix::everything(family));
    }
    let (ip, len) = text.split_once('/').map_or((text, None), |(ip, len)| (ip, Some(len)));
    let ip = ip.parse::<IpAddr>().ok();
    let bits = ip.map_or(0, |ip| Family::of(ip).bits());
    let len = match len {
        Some(len) => len.parse::<u8>().ok().filter(|len| *len <= bits),
        None => Some(bits),
    };
    let (Some(ip), Some(len)) = (ip, len) else {
        let message = format!("`{}` is no network", printable(text));
        let remedy = "write it as in \"10.50.0.0/16\" or \"2001:db8:50::/48\"; a route to everything is \"default\"";
        at.refuse(Kind::Invalid, message, "", remedy, findings);
        return None;
    };
    let network = network(ip, len);
    if network != ip {
        let message = format!("{ip}/{len} is an address within a network");
        at.refuse(Kind::Invalid, message, "", format!("write the network, \"{network}/{len}\""), findings);
        return None;
    }
    Some(Prefix { ip, len })
}

fn network(ip: IpAddr, len: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}
