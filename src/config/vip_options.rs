//! The keys of `[[vip]]` that have a default: one function a key, and the limits.

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeValue;

use super::address::{self, Addresses};
use super::duration::duration;
use super::problem::{Findings, Kind};
use super::read::{Table, Value, printable};
use super::vip::version_name;
use crate::engine::{AnnounceSettings, ChecksumPolicy, OnConflict, OnSilentOwner, Preempt, Prefer, Reference};
use crate::types::{AdvertInterval, Family, MacMode, Password, Priority, Version};
use crate::wire::advert::ChecksumForm;

/// The address owner's (RFC 9568 §5.2.4).
pub(super) const MAX_PRIORITY: i64 = 255;
/// What is advertised at where the file does not say, in version 3: 100 ms, in centiseconds.
const DEFAULT_INTERVAL_V3: u16 = 10;
/// And in version 2, which knows whole seconds only: 1 s, in centiseconds.
const DEFAULT_INTERVAL_V2: u16 = 100;
/// What version 2 can say: one byte of seconds.
const INTERVAL_V2: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(255);
/// What version 3 can say: twelve bits of centiseconds.
const INTERVAL_V3: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(40_950);
/// A longer delay is no delay but `preempt = false`.
pub(super) const PREEMPT_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
/// A repetition within 10 ms tells nobody more; after an hour it is the refresh that is wanted.
const REPEAT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// More repetitions than these are a refresh.
const MAX_REPEATS: usize = 16;
/// Faster than each second would be a flood; slower than a day is none.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// Each advert is sent to each peer: a wider group should use multicast.
const MAX_PEERS: usize = 64;
/// Any one is enough, and each is asked all the time.
const MAX_REFERENCES: usize = 8;
/// The field of version 2 (RFC 2338 §5.3.6).
const PASSWORD_BYTES: RangeInclusive<usize> = 1..=8;

/// `version`, and where it stands.
pub(super) fn version(table: &mut Table<'_>, findings: &mut Findings) -> (Version, Option<Range<usize>>) {
    let Some(value) = table.value("version") else { return (Version::V3, None) };
    let version = match value.integer(2..=3, "2 or 3", findings) {
        Some(2) => Version::V2,
        _ => Version::V3,
    };
    (version, Some(value.span()))
}

/// `advert_interval`, in what the version can say.
pub(super) fn interval(table: &mut Table<'_>, version: Version, findings: &mut Findings) -> AdvertInterval {
    let (default, limits, step, steps) = match version {
        Version::V2 => (DEFAULT_INTERVAL_V2, INTERVAL_V2, Duration::from_secs(1), "whole seconds"),
        Version::V3 => (DEFAULT_INTERVAL_V3, INTERVAL_V3, Duration::from_millis(10), "steps of 10ms"),
    };
    let default = AdvertInterval::from_centiseconds(default).expect("both defaults are within 1..=25500");
    table.optional("advert_interval", default, findings, |value, findings| {
        let wanted = duration(value, limits, &format!(" for {}", version_name(version)), "\"1s\"", findings)?;
        if wanted.as_nanos() % step.as_nanos() != 0 {
            let message = format!("`advert_interval` is more exact than {} can say", version_name(version));
            let remedy = format!("{} counts in {steps}", version_name(version));
            value.refuse(Kind::OutOfRange, message, format!("not in {steps}"), remedy, findings);
            return None;
        }
        u16::try_from(wanted.as_millis() / 10).ok().and_then(AdvertInterval::from_centiseconds)
    })
}

/// `preempt`: `true`, `false` or `{ delay = ".." }`.
pub(super) fn preempt(table: &mut Table<'_>, priority: Priority, findings: &mut Findings) -> Preempt {
    table.optional("preempt", Preempt::On, findings, |value, findings| {
        let preempt = match value.raw() {
            DeValue::Boolean(true) => Preempt::On,
            DeValue::Boolean(false) => Preempt::Off,
            DeValue::Table(_) => {
                let mut table = value.table("`preempt`", "{ delay = \"30s\" }", findings)?;
                let delay = table.required("delay", "\"30s\"");
                let delay = delay.and_then(|value| duration(value, PREEMPT_DELAY, "", "\"30s\"", findings));
                table.finish(findings);
                match delay? {
                    Duration::ZERO => Preempt::On,
                    delay => Preempt::After(delay),
                }
            }
            _ => return value.wrong_type("true, false or a table", "true, false or { delay = \"30s\" }", findings),
        };
        if priority == Priority::OWNER && preempt != Preempt::On {
            // RFC 9568 §6.1: the owner of the addresses always preempts.
            findings.note(
                value.span(),
                "`preempt` has no effect with `priority = 255`",
                "lower `priority`, or remove it",
            );
        }
        Some(preempt)
    })
}

/// `peers`: unicast addresses of the vip's families.
pub(super) fn peers(
    table: &mut Table<'_>,
    families: &[Family],
    addresses: Option<&Addresses>,
    findings: &mut Findings,
) -> Vec<IpAddr> {
    let Some(value) = table.value("peers") else { return Vec::new() };
    let Some(elements) = value.array("[\"192.0.2.2\"]", findings) else { return Vec::new() };
    if elements.len() > MAX_PEERS {
        let remedy = format!("list at most {MAX_PEERS}, or use multicast");
        value.refuse(Kind::OutOfRange, "too many `peers`", elements.len().to_string(), remedy, findings);
    }
    let mut peers: Vec<IpAddr> = Vec::with_capacity(elements.len());
    for element in elements.iter().take(MAX_PEERS) {
        if let Some(peer) = peer(*element, families, addresses, &peers, findings) {
            peers.push(peer);
        }
    }
    // Half a vip on unicast and the other half on multicast is never meant, and its two halves could part.
    for family in families.iter().filter(|family| !peers.iter().any(|peer| Family::of(*peer) == **family)) {
        if peers.len() == elements.len() && !peers.is_empty() {
            let message = format!("`peers` has no {family} address, but the vip has {family} addresses");
            let remedy = format!("add the peers' {family} addresses, or make it a vip of its own");
            value.refuse(Kind::Conflict, message, format!("no {family} peer"), remedy, findings);
        }
    }
    peers
}

fn peer(
    value: Value<'_>,
    families: &[Family],
    addresses: Option<&Addresses>,
    others: &[IpAddr],
    findings: &mut Findings,
) -> Option<IpAddr> {
    let text = value.text("\"192.0.2.2\"", findings)?;
    let Ok(peer) = text.parse::<IpAddr>() else {
        let message = format!("`{}` is no IP address", printable(text));
        let remedy = "write the peer's own address without a prefix, as in \"192.0.2.2\"";
        value.refuse(Kind::Invalid, message, "", remedy, findings);
        return None;
    };
    let family = Family::of(peer);
    let (kind, message, remedy) = if let Some(class) = address::not_unicast(peer) {
        (Kind::Invalid, format!("{peer} is {class}"), "write the peer's own address; leave `peers` out for multicast")
    } else if others.contains(&peer) {
        (Kind::Duplicate, format!("{peer} is listed twice in `peers`"), "remove one of the two")
    } else if addresses.is_some_and(|addresses| addresses.contains(peer)) {
        (Kind::Conflict, format!("the peer {peer} is one of the vip's addresses"), "write the peer's own address")
    } else if !families.is_empty() && !families.contains(&family) {
        (Kind::Conflict, format!("{peer} is {family}, but the vip has no {family} address"), "remove this peer")
    } else {
        return Some(peer);
    };
    value.refuse(kind, message, "", remedy, findings);
    None
}

/// `check_hop_limit`: false only with unicast peers.
pub(super) fn check_hop_limit(table: &mut Table<'_>, peers: &[IpAddr], findings: &mut Findings) -> bool {
    table.optional("check_hop_limit", true, findings, |value, findings| {
        let check = value.boolean(findings)?;
        if !check && peers.is_empty() {
            // RFC 9568 §5.1.1.3, §5.1.2.3: what was routed is dropped. Only known senders may be let off.
            let remedy = "remove it, or list the routed peers in `peers`";
            value.refuse(Kind::Conflict, "`check_hop_limit = false` needs `peers`", "", remedy, findings);
        }
        Some(check)
    })
}

/// `mac`.
pub(super) fn mac(table: &mut Table<'_>, findings: &mut Findings) -> MacMode {
    table.optional("mac", MacMode::Interface, findings, |value, findings| {
        value.word(&[("interface", MacMode::Interface), ("virtual", MacMode::Virtual)], findings)
    })
}

/// `checksum`.
pub(super) fn checksum(table: &mut Table<'_>, findings: &mut Findings) -> ChecksumPolicy {
    let words = [
        ("auto", ChecksumPolicy::Auto),
        ("rfc9568", ChecksumPolicy::Pinned(ChecksumForm::Rfc9568)),
        ("rfc5798", ChecksumPolicy::Pinned(ChecksumForm::Rfc5798)),
    ];
    table.optional("checksum", ChecksumPolicy::Auto, findings, |value, findings| value.word(&words, findings))
}

/// `on_conflict`.
pub(super) fn on_conflict(table: &mut Table<'_>, findings: &mut Findings) -> OnConflict {
    let words = [("assert", OnConflict::Assert), ("demote", OnConflict::Demote)];
    table.optional("on_conflict", OnConflict::Assert, findings, |value, findings| value.word(&words, findings))
}

/// `on_silent_owner`.
pub(super) fn on_silent_owner(table: &mut Table<'_>, findings: &mut Findings) -> OnSilentOwner {
    let words = [("wait", OnSilentOwner::Wait), ("take", OnSilentOwner::Take)];
    table.optional("on_silent_owner", OnSilentOwner::Wait, findings, |value, findings| value.word(&words, findings))
}

/// `references`: the gateway, and addresses that are none of the vip's.
pub(super) fn references(
    table: &mut Table<'_>,
    addresses: Option<&Addresses>,
    findings: &mut Findings,
) -> Vec<Reference> {
    let Some(value) = table.value("references") else { return Vec::new() };
    let Some(elements) = value.array("[\"gateway\"]", findings) else { return Vec::new() };
    if elements.len() > MAX_REFERENCES {
        let remedy = format!("list at most {MAX_REFERENCES}: any one that answers is enough");
        value.refuse(Kind::OutOfRange, "too many `references`", elements.len().to_string(), remedy, findings);
    }
    let mut references = Vec::new();
    for element in elements.iter().take(MAX_REFERENCES) {
        if let Some(reference) = reference(*element, addresses, &references, findings) {
            references.push(reference);
        }
    }
    references
}

fn reference(
    value: Value<'_>,
    addresses: Option<&Addresses>,
    others: &[Reference],
    findings: &mut Findings,
) -> Option<Reference> {
    let text = value.text("\"gateway\"", findings)?;
    let reference = match (text, text.parse::<IpAddr>()) {
        ("gateway", _) => Reference::Gateway,
        (_, Ok(address)) => Reference::Address(address),
        (_, Err(_)) => {
            let message = format!("`{}` is neither \"gateway\" nor an IP address", printable(text));
            let remedy = "write \"gateway\", or an address without a prefix, as in \"192.0.2.1\"";
            value.refuse(Kind::Invalid, message, "", remedy, findings);
            return None;
        }
    };
    let (kind, message, remedy) = match reference {
        reference if others.contains(&reference) => {
            (Kind::Duplicate, format!("`{}` is listed twice in `references`", printable(text)), "remove one of the two")
        }
        Reference::Address(address) if address::not_unicast(address).is_some() => (
            Kind::Invalid,
            format!("the reference {address} is no host's address"),
            "write that of a host that answers",
        ),
        Reference::Address(address) if addresses.is_some_and(|addresses| addresses.contains(address)) => {
            let message = format!("the reference {address} is one of the vip's addresses");
            (Kind::Conflict, message, "write the address of another host: this one may be at this node itself")
        }
        Reference::Gateway | Reference::Address(_) => return Some(reference),
    };
    value.refuse(kind, message, "", remedy, findings);
    None
}

/// `prefer`: safe only with references.
pub(super) fn prefer(table: &mut Table<'_>, references: &[Reference], findings: &mut Findings) -> Prefer {
    let words = [("available", Prefer::Available), ("safe", Prefer::Safe)];
    table.optional("prefer", Prefer::Available, findings, |value, findings| {
        let prefer = value.word(&words, findings)?;
        if prefer == Prefer::Safe && references.is_empty() {
            let remedy = "add `references = [\"gateway\"]`: nothing else tells a node that it is cut off";
            value.refuse(Kind::Conflict, "`prefer = \"safe\"` needs `references`", "", remedy, findings);
        }
        Some(prefer)
    })
}

/// `password`: version 2 only. No message quotes it.
pub(super) fn password(
    table: &mut Table<'_>,
    version: Version,
    version_at: Option<Range<usize>>,
    findings: &mut Findings,
) -> Option<Password> {
    let value = table.value("password")?;
    let text = value.text("1 to 8 characters in quotes", findings)?;
    if version != Version::V2 {
        let remedy =
            "remove it: version 3 has no authentication (RFC 9568 §9); or set `version = 2` for peers that need it";
        value.refuse(Kind::Conflict, "`password` needs `version = 2`", "", remedy, findings);
        if let (Some(problem), Some(at)) = (findings.problems.last_mut(), version_at) {
            problem.also = Some((at, "the version is set here".to_string()));
        }
        return None;
    }
    if !PASSWORD_BYTES.contains(&text.len()) || !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        let remedy = "use 1 to 8 ASCII characters; keepalived cuts longer ones off after the eighth";
        let label = format!("{} bytes", text.len());
        value.refuse(Kind::OutOfRange, "`password` does not fit its field", label, remedy, findings);
        return None;
    }
    let mut field = [0; 8];
    field[..text.len()].copy_from_slice(text.as_bytes());
    findings.note(
        value.span(),
        "`password` is sent in clear text and is no security",
        "see it as a label of the group",
    );
    Some(Password(field))
}

/// `announce`: `repeat` and `refresh`.
pub(super) fn announce(table: &mut Table<'_>, findings: &mut Findings) -> AnnounceSettings {
    let default = default_announce();
    table.optional("announce", default.clone(), findings, |value, findings| {
        let mut table =
            value.table("`announce`", "{ repeat = [\"1s\", \"5s\", \"30s\"], refresh = \"60s\" }", findings)?;
        let repeat = table.optional("repeat", default.repeat, findings, repeat);
        let refresh = table.optional("refresh", default.refresh, findings, refresh);
        table.finish(findings);
        Some(AnnounceSettings { repeat, refresh })
    })
}

fn default_announce() -> AnnounceSettings {
    let repeat = [1, 5, 30].map(Duration::from_secs).to_vec();
    AnnounceSettings { repeat, refresh: Some(Duration::from_secs(60)) }
}

fn repeat(value: Value<'_>, findings: &mut Findings) -> Option<Vec<Duration>> {
    let elements = value.array("[\"1s\", \"5s\", \"30s\"]", findings)?;
    if elements.len() > MAX_REPEATS {
        let remedy = format!("list at most {MAX_REPEATS}, and leave the rest to `refresh`");
        value.refuse(Kind::OutOfRange, "too many times in `repeat`", elements.len().to_string(), remedy, findings);
        return None;
    }
    let mut repeat: Vec<Duration> = Vec::with_capacity(elements.len());
    for element in elements {
        let at = duration(element, REPEAT, "", "\"1s\"", findings)?;
        if repeat.last().is_some_and(|last| *last >= at) {
            let remedy = "each time counts from the claim; write them in ascending order, each once";
            element.refuse(
                Kind::Invalid,
                "`repeat` is not ascending",
                "not later than the one before",
                remedy,
                findings,
            );
            return None;
        }
        repeat.push(at);
    }
    Some(repeat)
}

fn refresh(value: Value<'_>, findings: &mut Findings) -> Option<Option<Duration>> {
    match value.raw() {
        DeValue::Boolean(false) => Some(None),
        DeValue::String(_) => duration(value, REFRESH, "", "\"60s\"", findings).map(Some),
        _ => value.wrong_type("a duration or false", "\"60s\" or false", findings),
    }
}
