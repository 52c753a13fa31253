//! Operators who wait for the end of a handover that they ordered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::engine::{Engine, HandoverDone, HandoverFailure, HandoverOrder, RequestId, Vip, VipId};
use crate::wire::handover::HandoverReason;

/// What an operator wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandoverRequest {
    /// Which vip, or group. Those of a group move together, whichever is named.
    pub vip: String,
    /// To which node; the one that would succeed this one where there is none. This node itself: from the owner.
    #[serde(default)]
    pub to: Option<String>,
    /// Only ask whether the successor is ready.
    #[serde(default)]
    pub dry_run: bool,
    /// Why.
    #[serde(default)]
    pub reason: RequestReason,
}

/// Why an operator wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestReason {
    /// He knows.
    #[default]
    Operator,
    /// It is a drill, there or back.
    Drill,
    /// It could not be verified, and comes back.
    Back,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandoverOutcome {
    /// The vip or group, as it was named.
    pub vip: String,
    /// The other node, where it is known.
    pub peer: Option<String>,
    /// Whether the handover, or the question, succeeded.
    pub done: bool,
    /// From when the owner answered no more until it heard that its successor does, milliseconds. Only the owner knows.
    pub gap_ms: Option<f64>,
    /// Why not.
    pub failure: Option<String>,
    /// Whether the owner had let go before it failed.
    pub moved: bool,
}

impl HandoverRequest {
    pub(super) fn order(&self) -> HandoverOrder {
        let reason = match self.reason {
            RequestReason::Operator => HandoverReason::Operator,
            RequestReason::Drill => HandoverReason::Drill,
            RequestReason::Back => HandoverReason::Back,
        };
        HandoverOrder { to: self.to.clone(), reason, dry_run: self.dry_run }
    }

    /// The vip that is meant, with which all of its group go.
    pub(super) fn first(&self, engine: &Engine) -> Option<VipId> {
        let of_name = |name: &str| engine.vips().iter().find(|vip| vip.settings().name == name).map(Vip::id);
        let group = || engine.groups().find(|group| group.name == self.vip)?.vips.first();
        of_name(&self.vip).or_else(|| of_name(group()?))
    }
}

/// All who wait.
#[derive(Debug, Default)]
pub(super) struct Handovers {
    waiting: BTreeMap<RequestId, (String, oneshot::Sender<Option<HandoverOutcome>>)>,
    last: u64,
}

impl Handovers {
    /// Somebody waits for the outcome of this request.
    pub(super) fn wait(&mut self, vip: String, answer: oneshot::Sender<Option<HandoverOutcome>>) -> RequestId {
        self.last += 1;
        // Who left is waited for no more.
        self.waiting.retain(|_, (_, answer)| !answer.is_closed());
        self.waiting.insert(RequestId(self.last), (vip, answer));
        RequestId(self.last)
    }

    /// It has ended.
    pub(super) fn on_ended(&mut self, request: RequestId, outcome: Result<HandoverDone, HandoverFailure>) {
        let Some((vip, answer)) = self.waiting.remove(&request) else { return };
        let outcome = match outcome {
            Ok(HandoverDone { peer, gap }) => {
                let gap_ms = gap.map(|gap| gap.as_secs_f64() * 1000.0);
                HandoverOutcome { vip, peer: Some(peer), done: true, gap_ms, failure: None, moved: gap_ms.is_some() }
            }
            Err(failure) => {
                let peer = match &failure {
                    HandoverFailure::Unknown { peer }
                    | HandoverFailure::Refused { peer, .. }
                    | HandoverFailure::NoAnswer { peer }
                    | HandoverFailure::NotInTime { peer }
                    | HandoverFailure::NotTaken { peer } => Some(peer.clone()),
                    HandoverFailure::NotOwner { owner } => owner.clone(),
                    HandoverFailure::AddressOwner
                    | HandoverFailure::NoSuccessor
                    | HandoverFailure::OwnerAlready
                    | HandoverFailure::Busy
                    | HandoverFailure::Overtaken => None,
                };
                let moved = matches!(failure, HandoverFailure::NotTaken { .. });
                HandoverOutcome { vip, peer, done: false, gap_ms: None, failure: Some(failure.to_string()), moved }
            }
        };
        // One that has left does not want to know.
        answer.send(Some(outcome)).ok();
    }
}
