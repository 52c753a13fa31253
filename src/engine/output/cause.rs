//! Why a vip changed its state.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use crate::engine::input::EffectError;
use crate::engine::quorum::Missing;
use crate::types::{Family, MacAddr, Priority};
use crate::wire::handover::HandoverReason;

/// Why a vip changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The interface became ready.
    LinkReady,
    /// There is no interface of that name.
    LinkMissing,
    /// The interface is down or has no carrier.
    LinkDown,
    /// The interface has no address of this family to send from.
    NoSourceAddress(Family),
    /// This node is the address owner (priority 255).
    AddressOwner,
    /// No advert was heard for the active-down interval.
    ActiveDown {
        /// How long nothing was heard; `None`: nothing was ever heard.
        silence: Option<Duration>,
    },
    /// The owner resigned (priority 0), and its successor's turn came.
    PeerResigned {
        /// The peer that resigned.
        source: IpAddr,
    },
    /// A peer of higher priority, or of equal priority and larger address, is Active.
    PeerWins {
        /// The peer.
        source: IpAddr,
        /// Its priority.
        priority: Priority,
    },
    /// The owner has said on the second path that it has none of the addresses any more.
    GivenUp {
        /// The owner's name.
        peer: String,
        /// Whether its interface is out of order.
        link_down: bool,
    },
    /// A peer that ranks above this node says on the second path that it is Active too.
    PeerOwns {
        /// Its name.
        peer: String,
        /// Its priority.
        priority: Priority,
    },
    /// The owner let go, and this node was ready.
    TakesOver {
        /// The former owner's name.
        peer: String,
        /// Why it let go.
        reason: HandoverReason,
    },
    /// This node let go, and the successor was ready.
    HandedOver {
        /// The successor's name.
        peer: String,
        /// Why.
        reason: HandoverReason,
    },
    /// A peer of lower priority was Active for the preemption delay or the active-down interval.
    Preempts {
        /// The peer.
        source: IpAddr,
        /// Its priority.
        priority: Priority,
    },
    /// Another member of its group takes no part, and so none does.
    GroupFault {
        /// The member.
        vip: String,
        /// Why it does not.
        why: String,
    },
    /// All members of its group take part again.
    GroupReady,
    /// Another member of its group is not owned any more.
    GroupYields {
        /// The member.
        vip: String,
    },
    /// The kernel has the addresses.
    Installed,
    /// An earlier agent of this node owned the addresses, and its lease still runs.
    Adopted,
    /// The kernel refused the addresses.
    InstallRefused(EffectError),
    /// Another program keeps removing the addresses, or the routes and rules.
    AddressesKeepVanishing,
    /// Another host keeps claiming an address, and the configuration says to give up then.
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// The other host's.
        mac: MacAddr,
    },
    /// No reference answers, and the configuration prefers to be safe.
    Isolated,
    /// A claim is taken back: the owner is not heard, but its address answers.
    AddressAnswers {
        /// The address.
        address: IpAddr,
        /// Who answered.
        mac: MacAddr,
    },
    /// The agent woke after its lease had lapsed: its peers have a right to have taken over.
    Late {
        /// For how long it could not renew.
        by: Duration,
    },
    /// The kernel ended the lease before the agent, which was hardly late, could renew it.
    LeaseEnded,
    /// No majority of the voters grants this node the addresses any more.
    MajorityLost {
        /// Who does not, and why.
        missing: Vec<Missing>,
    },
    /// A node of higher priority, which the voters would grant the addresses, means to replace this one.
    Challenged {
        /// Its name.
        by: Arc<str>,
        /// Its priority.
        priority: Priority,
    },
    /// An operator wants this node to own nothing.
    Drained,
    /// The host went down as the owner, and may have been fenced.
    HostDied,
    /// An operator lets it take part again.
    Undrained,
    /// A check fails that must pass.
    CheckFails {
        /// Its name.
        check: String,
        /// What it said.
        output: String,
    },
    /// A check has given no result yet.
    CheckPending {
        /// Its name.
        check: String,
    },
    /// The checks that must pass do.
    ChecksPass,
    /// The time to keep out is over.
    HoldOver,
    /// New settings no longer have this vip, or have it as another virtual router.
    Removed,
    /// The agent is stopping.
    Shutdown,
    /// The agent is being restarted: what it owns is left to the next one.
    HandedOn,
}

impl Cause {
    /// The same for all causes of a kind: for counting, and for machines.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::LinkReady => "link-ready",
            Self::LinkMissing => "link-missing",
            Self::LinkDown => "link-down",
            Self::NoSourceAddress(_) => "no-source-address",
            Self::AddressOwner => "address-owner",
            Self::ActiveDown { silence: Some(_) } => "owner-silent",
            Self::ActiveDown { silence: None } => "no-owner-heard",
            Self::PeerResigned { .. } => "peer-resigned",
            Self::PeerWins { .. } => "peer-wins",
            Self::GivenUp { .. } => "peer-gave-up",
            Self::PeerOwns { .. } => "peer-owns",
            Self::Preempts { .. } => "preempts",
            Self::TakesOver { .. } => "takes-over",
            Self::HandedOver { .. } => "handed-over",
            Self::Installed => "installed",
            Self::Adopted => "adopted",
            Self::InstallRefused(_) => "install-refused",
            Self::AddressesKeepVanishing => "addresses-vanish",
            Self::AddressInUse { .. } => "address-in-use",
            Self::Isolated => "isolated",
            Self::AddressAnswers { .. } => "address-answers",
            Self::Late { .. } => "late",
            Self::LeaseEnded => "lease-ended",
            Self::MajorityLost { .. } => "majority-lost",
            Self::Challenged { .. } => "challenged",
            Self::CheckFails { .. } => "check-fails",
            Self::CheckPending { .. } => "check-pending",
            Self::ChecksPass => "checks-pass",
            Self::GroupFault { .. } => "group-fault",
            Self::GroupReady => "group-ready",
            Self::GroupYields { .. } => "group-yields",
            Self::Drained => "drained",
            Self::HostDied => "host-died",
            Self::Undrained => "undrained",
            Self::HoldOver => "hold-over",
            Self::Removed => "removed",
            Self::Shutdown => "shutdown",
            Self::HandedOn => "handed-on",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkReady => f.write_str("interface ready"),
            Self::LinkMissing => f.write_str("interface missing"),
            Self::LinkDown => f.write_str("interface down or without carrier"),
            Self::NoSourceAddress(Family::V4) => f.write_str("interface has no IPv4 address to send from"),
            Self::NoSourceAddress(Family::V6) => f.write_str("interface has no IPv6 link-local address yet"),
            Self::AddressOwner => f.write_str("address owner (priority 255)"),
            Self::ActiveDown { silence: Some(silence) } => {
                write!(f, "no advert for {}", Milliseconds(*silence))
            }
            Self::ActiveDown { silence: None } => f.write_str("no owner heard"),
            Self::PeerResigned { source } => write!(f, "{source} resigned"),
            Self::PeerWins { source, priority } => write!(f, "{source} is Active with priority {priority}"),
            Self::GivenUp { peer, link_down: true } => {
                write!(f, "{peer} says on the second path that its interface is out of order and that it has given up")
            }
            Self::GivenUp { peer, link_down: false } => {
                write!(f, "{peer} says on the second path that it has given up")
            }
            Self::PeerOwns { peer, priority } => {
                write!(f, "{peer} says on the second path that it is Active with priority {priority}")
            }
            Self::TakesOver { peer, reason } => write!(f, "handover from {peer} ({reason})"),
            Self::HandedOver { peer, reason } => write!(f, "handover to {peer} ({reason})"),
            Self::Preempts { source, priority } => write!(f, "preempts {source} with priority {priority}"),
            Self::GroupFault { vip, why } => write!(f, "{vip} of the same group: {why}"),
            Self::GroupReady => f.write_str("the whole group is ready"),
            Self::GroupYields { vip } => write!(f, "{vip} of the same group is not owned here any more"),
            Self::Installed => f.write_str("addresses installed"),
            Self::Adopted => f.write_str("adopted from an earlier agent, whose lease still runs"),
            Self::InstallRefused(error) => write!(f, "addresses refused: {}", error.0),
            Self::AddressesKeepVanishing => f.write_str("another program keeps removing the addresses or routes"),
            Self::AddressInUse { address, mac } => {
                write!(f, "{mac} keeps answering for {address} (on_conflict = \"demote\")")
            }
            Self::Isolated => f.write_str("no reference answers (prefer = \"safe\")"),
            Self::AddressAnswers { address, mac } => {
                write!(f, "no advert is heard, but {address} still answers at {mac}")
            }
            Self::Late { by } => write!(f, "could not run for {}: the lease lapsed", Milliseconds(*by)),
            Self::LeaseEnded => f.write_str("the kernel ended the lease before it was renewed"),
            Self::MajorityLost { missing } => {
                f.write_str("no majority of the voters: without ")?;
                list(f, missing)
            }
            Self::Challenged { by, priority } => write!(f, "makes room for {by} with priority {priority}"),
            Self::Drained => f.write_str("drained by an operator"),
            Self::HostDied => f.write_str("this host went down while it was the owner: fenced, or crashed"),
            Self::Undrained => f.write_str("an operator ended the hold"),
            Self::CheckFails { check, output } if output.is_empty() => write!(f, "check {check} fails"),
            Self::CheckFails { check, output } => write!(f, "check {check} fails: {output}"),
            Self::CheckPending { check } => write!(f, "waiting for the first result of check {check}"),
            Self::ChecksPass => f.write_str("checks pass"),
            Self::HoldOver => f.write_str("hold is over"),
            Self::Removed => f.write_str("no longer in the configuration"),
            Self::Shutdown => f.write_str("stopping"),
            Self::HandedOn => f.write_str("restarting: the addresses are left to the next agent"),
        }
    }
}

/// One after another, with commas.
fn list(f: &mut fmt::Formatter<'_>, missing: &[Missing]) -> fmt::Result {
    for (place, missing) in missing.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        write!(f, "{comma}{missing}")?;
    }
    Ok(())
}

/// A duration as an operator reads it: milliseconds with one decimal, without floats.
struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.as_micros() / 100;
        write!(f, "{}.{} ms", tenths / 10, tenths % 10)
    }
}
