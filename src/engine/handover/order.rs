//! What an operator wants, and what comes of it.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use crate::wire::handover::{HandoverReason, Refusal};

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverOrder {
    /// To which node; `None`: the one that would succeed this one. This node itself: from the owner.
    pub to: Option<String>,
    /// Why.
    pub reason: HandoverReason,
    /// Only ask whether the successor is ready.
    pub dry_run: bool,
}

/// How a handover went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverDone {
    /// The other node.
    pub peer: String,
    /// From when this node answered no more until it heard that the other one does. `None`: nothing moved, or it is not this node that knows.
    pub gap: Option<Duration>,
}

/// Why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandoverFailure {
    /// This node is not the owner. Who is, if that is a node that is known.
    NotOwner {
        /// Its name.
        owner: Option<String>,
    },
    /// This is the address owner (priority 255), whose addresses stay.
    AddressOwner,
    /// No node of this vip is heard on the second path, or none that was not asked.
    NoSuccessor,
    /// The node is not heard on the second path.
    Unknown {
        /// Its name.
        peer: String,
    },
    /// It cannot own now.
    Refused {
        /// Its name.
        peer: String,
        /// Why.
        refusal: Refusal,
    },
    /// It did not say that it is ready. It still owns who did.
    NoAnswer {
        /// Its name.
        peer: String,
    },
    /// It is preparing itself still, for longer than can be waited for. It still owns who did.
    NotInTime {
        /// Its name.
        peer: String,
    },
    /// This node let go, and the successor did not say that it owns: the others were told.
    NotTaken {
        /// Its name.
        peer: String,
    },
    /// It was wanted here, where it is.
    OwnerAlready,
    /// Another handover is under way.
    Busy,
    /// Something else happened to this node meanwhile.
    Overtaken,
}

impl fmt::Display for HandoverFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOwner { owner: Some(owner) } => write!(f, "this node is not the owner, {owner} is"),
            Self::NotOwner { owner: None } => f.write_str("this node is not the owner"),
            Self::AddressOwner => f.write_str("this node is the address owner (priority 255)"),
            Self::NoSuccessor => {
                f.write_str("no other node of this vip that could take it is heard on the second path")
            }
            Self::Unknown { peer } => write!(f, "{peer} is not heard on the second path"),
            Self::Refused { peer, refusal } => write!(f, "{peer} refuses: {refusal}"),
            Self::NoAnswer { peer } => write!(f, "{peer} did not answer"),
            Self::NotInTime { peer } => write!(f, "{peer} is not ready in time: its `before_claim` hook runs still"),
            Self::NotTaken { peer } => write!(f, "{peer} was ready, but did not say that it took over"),
            Self::OwnerAlready => f.write_str("this node has it already"),
            Self::Busy => f.write_str("another handover is under way"),
            Self::Overtaken => f.write_str("something else happened meanwhile"),
        }
    }
}
