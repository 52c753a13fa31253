//! An event as the journal keeps it: one JSON object a line. Fields are added; none goes or changes its meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::clock::{self, rfc3339};
use super::log::{Names, action_name, claim_name, silence_text};
use super::milliseconds;
use super::status::checksum_name;
use crate::engine::{Cause, Event, EventKind, WaitEnd};
use crate::wire::handover::HandoverReason;

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The wall clock at the event, RFC 3339.
    pub at: String,
    /// Which boot of the host it was (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// Nanoseconds since that boot, suspended time included: no step of the wall clock moves it.
    pub monotonic_ns: u64,
    /// The node's name.
    pub node: String,
    /// The vip's name; none where the event is the node's or a link's.
    pub vip: Option<String>,
    /// What sort of event, such as `transition` or `conflict`.
    pub kind: String,
    /// Why it happened, where that is known.
    pub cause: Option<String>,
    /// All of it in one line, for a person.
    pub text: String,
    /// The facts behind it.
    pub evidence: BTreeMap<String, Value>,
}

/// When an agent is known to have run: the last sign of one that did not say that it stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// As in [`Record::at`].
    pub at: String,
    /// As in [`Record::boot`].
    pub boot: String,
    /// As in [`Record::monotonic_ns`].
    pub monotonic_ns: u64,
}

impl Trace {
    /// An event is one.
    pub(super) fn of(record: &Record) -> Self {
        Self { at: record.at.clone(), boot: record.boot.clone(), monotonic_ns: record.monotonic_ns }
    }
}

impl Record {
    /// An event of the engine.
    pub(super) fn of_event(event: &Event, boot: &str, names: &Names) -> Self {
        let Told { kind, cause, text, evidence } = tell(&event.kind, names);
        Self {
            at: rfc3339(clock::wall_of(event.at)),
            boot: boot.to_owned(),
            monotonic_ns: event.at.as_nanos(),
            node: names.node().to_owned(),
            vip: event.vip.map(|vip| names.vip(Some(vip)).to_owned()),
            kind: kind.to_owned(),
            cause,
            text,
            evidence,
        }
    }

    /// Something that befell the agent itself, now.
    pub(super) fn of_agent(kind: &str, text: impl Into<String>, boot: &str, names: &Names) -> Self {
        Self {
            at: rfc3339(clock::wall()),
            boot: boot.to_owned(),
            monotonic_ns: clock::now().as_nanos(),
            node: names.node().to_owned(),
            vip: None,
            kind: kind.to_owned(),
            cause: None,
            text: text.into(),
            evidence: BTreeMap::new(),
        }
    }
}

/// What sort of event it is.
pub(super) fn kind_of(kind: &EventKind, names: &Names) -> &'static str {
    tell(kind, names).kind
}

/// An event's part of a record.
struct Told {
    kind: &'static str,
    cause: Option<String>,
    text: String,
    evidence: BTreeMap<String, Value>,
}

fn told<'a>(kind: &'static str, text: String, evidence: impl IntoIterator<Item = (&'a str, Value)>) -> Told {
    let evidence = evidence.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Told { kind, cause: None, text, evidence }
}

fn tell(kind: &EventKind, names: &Names) -> Told {
    match kind {
        EventKind::Transition { from, to, cause } => {
            let (from, to, why) = (from.to_string(), to.to_string(), cause.label());
            let mut evidence = vec![("from", from.clone().into()), ("to", to.clone().into()), ("why", why.into())];
            if let Cause::Late { by } = cause {
                evidence.push(("late_ms", json!(by.as_millis())));
            }
            if let Cause::TakesOver { reason, .. } | Cause::HandedOver { reason, .. } = cause {
                evidence.push(("handover", handover_reason(*reason).into()));
            }
            let cause = cause.to_string();
            let text = format!("{from} -> {to}: {cause}");
            Told { cause: Some(cause), ..told("transition", text, evidence) }
        }
        EventKind::Rival { source, priority } => {
            let text = format!("{source} advertises itself as owner too, with priority {priority}");
            told("rival", text, [("source", json!(source)), ("priority", priority.0.into())])
        }
        EventKind::Conflict { address, mac, kind, count, former_owner } => {
            let evidence = [
                ("address", json!(address)),
                ("mac", mac.to_string().into()),
                ("by", claim_name(*kind).into()),
                ("claims", (*count).into()),
                ("former_owner", (*former_owner).into()),
            ];
            told("conflict", format!("{mac} also answers for {address}; the neighbours were told again"), evidence)
        }
        EventKind::ConflictPersists { address, mac, count, lasts, former_owner } => {
            let text = format!("{mac} has been answering for {address} for {} s", lasts.as_secs());
            let evidence = [
                ("address", json!(address)),
                ("mac", mac.to_string().into()),
                ("claims", (*count).into()),
                ("lasts_s", lasts.as_secs().into()),
                ("former_owner", (*former_owner).into()),
            ];
            told("conflict-persists", text, evidence)
        }
        EventKind::ClonedHost { source, priority } => {
            let text = format!("another host advertises from this node's own address {source}");
            told("cloned-host", text, [("source", json!(source)), ("priority", priority.0.into())])
        }
        EventKind::ForeignGroup { source, theirs } => {
            let text = format!("{source} uses this VRID for other addresses");
            told("foreign-group", text, [("source", json!(source)), ("theirs", json!(theirs))])
        }
        EventKind::PeerHeard { peer } => {
            told("peer-heard", format!("{peer} is heard on the second path"), [("peer", json!(peer))])
        }
        EventKind::PeerSilent { peer, silence } => {
            let text = format!("{peer} is no longer heard on the second path");
            told("peer-silent", text, [("peer", json!(peer)), ("silence_ms", json!(silence.as_millis()))])
        }
        EventKind::AdvertsBlocked { peer, link, direction, lasts } => {
            let (interface, from, to) = names.way(*link, *direction, peer);
            let evidence = [
                ("from", json!(from)),
                ("to", json!(to)),
                ("interface", json!(interface)),
                ("lasts_s", json!(lasts.as_secs())),
            ];
            told("adverts-blocked", format!("adverts from {from} to {to} on {interface} are blocked"), evidence)
        }
        EventKind::AdvertsThrough { peer, link, direction } => {
            let (interface, from, to) = names.way(*link, *direction, peer);
            let evidence = [("from", json!(from)), ("to", json!(to)), ("interface", json!(interface))];
            told("adverts-through", format!("adverts from {from} to {to} on {interface} get through again"), evidence)
        }
        EventKind::SecondOwner { peer, priority, yields } => {
            let text = format!("{peer} says on the second path that it is Active too, with priority {priority}");
            let evidence = [("peer", json!(peer)), ("priority", priority.0.into()), ("yields", json!(yields))];
            told("second-owner", text, evidence)
        }
        EventKind::SilentOwner { address, mac, silence } => {
            let text = format!("{}, but {address} still answers at {mac}: this node waits", silence_text(*silence));
            let silence = silence.map(|silence| silence.as_millis());
            let evidence =
                [("address", json!(address)), ("mac", mac.to_string().into()), ("silence_ms", json!(silence))];
            told("silent-owner", text, evidence)
        }
        EventKind::SilentOwnerEnds { address, mac, waited, end } => {
            let end = match end {
                WaitEnd::FellSilent => "it answers no more",
                WaitEnd::HeardAgain => "an owner is heard again",
                WaitEnd::Overruled => "the longest wait is over",
                WaitEnd::NoMajority => "no majority grants the claim any more",
            };
            let text = format!("no longer waits for {address} at {mac}: {end}");
            let evidence = [
                ("address", json!(address)),
                ("mac", mac.to_string().into()),
                ("waited_ms", json!(waited.as_millis())),
                ("end", end.into()),
            ];
            told("silent-owner-ends", text, evidence)
        }
        EventKind::NoMajority { missing } => {
            let missing = super::log::list(missing);
            let text = format!("does not claim: no majority of the voters: without {missing}");
            told("no-majority", text, [("missing", missing.into())])
        }
        EventKind::VoterSilent { voter, silence } => {
            let ms = silence.as_millis();
            let text = format!("voter {voter} has not answered for {ms} ms");
            told("voter-silent", text, [("voter", json!(**voter)), ("silence_ms", json!(ms))])
        }
        EventKind::VoterAnswers { voter, silence } => {
            let ms = silence.as_millis();
            let text = format!("voter {voter} answers again, after {ms} ms");
            told("voter-answers", text, [("voter", json!(**voter)), ("silence_ms", json!(ms))])
        }
        EventKind::ReferenceLost { reference, address } => {
            let evidence = [("reference", reference.to_string().into()), ("address", json!(address))];
            told("reference-lost", format!("the reference {reference} answers no more"), evidence)
        }
        EventKind::ReferenceBack { reference, address } => {
            let evidence = [("reference", reference.to_string().into()), ("address", json!(address))];
            told("reference-back", format!("the reference {reference} answers again"), evidence)
        }
        EventKind::IsolatedFromReferences => {
            told("isolated", "no owner is heard, and no reference answers: no claim".to_owned(), [])
        }
        EventKind::AddressRestored { address, count } => {
            let text = format!("another program removed {address}: put back ({count} times)");
            told("address-restored", text, [("address", json!(address)), ("count", (*count).into())])
        }
        EventKind::RoutingRestored { routing, count } => {
            let routing = routing.to_string();
            let text = format!("\"{routing}\" was removed, not by this agent: put back ({count} times)");
            told("routing-restored", text, [("routing", routing.into()), ("count", (*count).into())])
        }
        EventKind::ChecksumFollowed { source, form } => {
            let form = checksum_name(*form);
            let text = format!("{source} uses the checksum form {form}: now used here too");
            told("checksum-followed", text, [("source", json!(source)), ("form", form.into())])
        }
        EventKind::IntervalLearned { source, interval } => {
            let interval = interval.duration();
            let text = format!("the owner {source} advertises every {interval:?}: used here too");
            told("interval-learned", text, [("source", json!(source)), ("interval_ms", json!(interval.as_millis()))])
        }
        EventKind::AddressesDiffer { source, theirs } => {
            let text = format!("{source} advertises other addresses than this node");
            told("addresses-differ", text, [("source", json!(source)), ("theirs", json!(theirs))])
        }
        EventKind::Dropped { link, family, source, reason } => {
            let interface = names.link(*link);
            let text = format!("{interface}: dropped an {family} packet from {source}: {reason}");
            let evidence =
                [("interface", interface.into()), ("source", json!(source)), ("reason", reason.label().into())];
            told("dropped", text, evidence)
        }
        EventKind::CheckFails { check, output, unable, stay } => {
            let text = format!("check {check} {}: {output}", if *unable { "cannot be run" } else { "fails" });
            let evidence = [
                ("check", json!(check)),
                ("output", json!(output)),
                ("unable", (*unable).into()),
                ("stay_s", stay.as_secs().into()),
            ];
            told("check-fails", text, evidence)
        }
        EventKind::CheckPasses { check, output } => {
            let text = format!("check {check} passes: {output}");
            told("check-passes", text, [("check", json!(check)), ("output", json!(output))])
        }
        EventKind::PriorityChanged { from, to, check } => {
            let text = format!("effective priority {from} -> {to} (check {check})");
            told("priority-changed", text, [("from", from.0.into()), ("to", to.0.into()), ("check", json!(check))])
        }
        EventKind::Fencing { peer, target, action } => {
            let action = action_name(*action);
            let evidence = [("peer", json!(peer)), ("target", json!(target)), ("action", action.into())];
            told("fencing", format!("{target} fell silent: fencing {peer} ({action})"), evidence)
        }
        EventKind::Fenced { peer, target, proof } => {
            let evidence = [("peer", json!(peer)), ("target", json!(target)), ("proof", json!(proof))];
            told("fenced", format!("{peer} ({target}) is fenced: {proof}"), evidence)
        }
        EventKind::FenceFailed { peer, target, error, claims } => {
            let evidence = [
                ("peer", json!(peer)),
                ("target", json!(target)),
                ("error", json!(error.0)),
                ("claims", (*claims).into()),
            ];
            told("fence-failed", format!("{peer} ({target}) could not be fenced: {error}"), evidence)
        }
        EventKind::FenceMissing { target } => {
            let text = format!("{target} must be fenced, but no [[fence.peer]] is for it");
            told("fence-missing", text, [("target", json!(target))])
        }
        EventKind::HandedOver { peer, reason, gap } => {
            let text = format!("{peer} took over ({reason}), {} later", milliseconds::shown(*gap));
            let evidence = [
                ("peer", json!(peer)),
                ("reason", handover_reason(*reason).into()),
                ("gap_us", json!(gap.as_micros())),
            ];
            told("handover", text, evidence)
        }
        EventKind::HandoverFailed { reason, failure } => {
            let text = format!("no handover ({reason}): {failure}");
            told("handover-failed", text, [("reason", handover_reason(*reason).into())])
        }
        EventKind::TookOver { away } => {
            let text = match away {
                Some(away) => format!("taken over; the addresses were away for at most {} ms", away.as_millis()),
                None => "taken over; no owner was heard before".to_owned(),
            };
            told("took-over", text, [("away_ms", json!(away.map(milliseconds::exact)))])
        }
        EventKind::ClaimWaits { silence } => {
            let text = format!("{}, and the claim waits", silence_text(*silence));
            told("claim-waits", text, [("silence_ms", json!(silence.map(milliseconds::exact)))])
        }
        EventKind::OwnerBack { source } => {
            told("owner-back", format!("the owner {source} is heard again"), [("source", json!(source))])
        }
        EventKind::HookDone { moment, said } => {
            let evidence = [("hook", moment.name().into()), ("said", json!(said))];
            told("hook-done", format!("hook {moment} done: {said}"), evidence)
        }
        EventKind::HookFailed { moment, error, vetoes } => {
            let evidence = [("hook", moment.name().into()), ("error", json!(error.0)), ("vetoes", (*vetoes).into())];
            let text = format!("hook {moment} failed: {error}{}", if *vetoes { ": no claim" } else { "" });
            told("hook-failed", text, evidence)
        }
        EventKind::RemoveFailed(error) => {
            told("remove-failed", format!("addresses could not be removed: {error}"), [("error", json!(error.0))])
        }
    }
}

/// A planned move, by a word that a report counts by.
pub(super) const fn handover_reason(reason: HandoverReason) -> &'static str {
    match reason {
        HandoverReason::Stop => "stop",
        HandoverReason::Drain => "drain",
        HandoverReason::Preempt => "preempt",
        HandoverReason::Operator => "operator",
        HandoverReason::Drill => "drill",
        HandoverReason::Back => "back",
    }
}
