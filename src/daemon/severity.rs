//! How much an event matters to somebody who could do something about it: what alerts choose by.

use crate::config::Severity;
use crate::engine::{Cause, EventKind, WaitEnd};

/// Of an event.
pub(super) const fn severity(kind: &EventKind) -> Severity {
    if needs_somebody(kind) {
        Severity::Error
    } else if is_worth_a_look(kind) {
        Severity::Warning
    } else {
        Severity::Info
    }
}

/// Something is wrong that does not mend itself, or addresses may be on no host or on two.
const fn needs_somebody(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::ConflictPersists { .. }
            | EventKind::ClonedHost { .. }
            | EventKind::SilentOwner { .. }
            | EventKind::SilentOwnerEnds { end: WaitEnd::Overruled, .. }
            | EventKind::IsolatedFromReferences
            | EventKind::AdvertsBlocked { .. }
            | EventKind::SecondOwner { .. }
            | EventKind::CheckFails { .. }
            | EventKind::FenceFailed { .. }
            | EventKind::FenceMissing { .. }
            | EventKind::HookFailed { .. }
            | EventKind::NoMajority { .. }
            | EventKind::RemoveFailed(_)
            | EventKind::Transition {
                cause: Cause::LinkMissing
                    | Cause::LinkDown
                    | Cause::InstallRefused(_)
                    | Cause::AddressesKeepVanishing
                    | Cause::AddressInUse { .. }
                    | Cause::AddressAnswers { .. }
                    | Cause::Isolated
                    | Cause::MajorityLost { .. }
                    | Cause::Late { .. }
                    | Cause::LeaseEnded
                    | Cause::HostDied,
                ..
            }
    )
}

/// The service goes on, and something is not as it was: a host has failed, a voter is silent, a neighbour is set up wrongly.
const fn is_worth_a_look(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::TookOver { away: Some(_) }
            | EventKind::Rival { .. }
            | EventKind::Conflict { .. }
            | EventKind::ForeignGroup { .. }
            | EventKind::AddressRestored { .. }
            | EventKind::AddressesDiffer { .. }
            | EventKind::ReferenceLost { .. }
            | EventKind::PeerSilent { .. }
            | EventKind::VoterSilent { .. }
            | EventKind::SilentOwnerEnds { end: WaitEnd::FellSilent, .. }
            | EventKind::Fencing { .. }
            | EventKind::Fenced { .. }
            | EventKind::Transition { cause: Cause::NoSourceAddress(_) | Cause::PeerOwns { .. }, .. }
    )
}
