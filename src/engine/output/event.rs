//! What an operator may want to know.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use super::Cause;
use crate::engine::VipId;
use crate::engine::fence::FenceAction;
use crate::engine::handover::HandoverFailure;
use crate::engine::hook::Moment;
use crate::engine::input::{EffectError, LinkId};
use crate::engine::quorum::Missing;
use crate::engine::rival::ClaimKind;
use crate::engine::second_path::Direction;
use crate::engine::settings::Reference;
use crate::engine::silence::WaitEnd;
use crate::engine::time::Instant;
use crate::types::{AdvertInterval, Family, MacAddr, Priority, Routing};
use crate::wire::DropReason;
use crate::wire::advert::ChecksumForm;
use crate::wire::handover::HandoverReason;

/// Something that an operator may want to know, and why it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// Of which vip; `None`: of the node or a link.
    pub vip: Option<VipId>,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A vip changed its state.
    Transition {
        /// The state it left.
        from: StateName,
        /// The state it entered.
        to: StateName,
        /// Why.
        cause: Cause,
    },
    /// While this node was the owner, another one advertised itself as owner.
    Rival {
        /// The other.
        source: IpAddr,
        /// Its priority.
        priority: Priority,
    },
    /// While this node is the owner, another host says that it has an address. The first time, and once a minute.
    Conflict {
        /// The address.
        address: IpAddr,
        /// The other host's.
        mac: MacAddr,
        /// By what it said so.
        kind: ClaimKind,
        /// How often it was heard.
        count: u64,
        /// Whether it was the owner before this node.
        former_owner: bool,
    },
    /// The same, and it does not stop: an alarm, repeated once a minute.
    ConflictPersists {
        /// The address.
        address: IpAddr,
        /// The other host's.
        mac: MacAddr,
        /// How often it was heard.
        count: u64,
        /// For how long.
        lasts: Duration,
        /// Whether it was the owner before this node.
        former_owner: bool,
    },
    /// Another host advertises from this node's own address: it is a copy of this one.
    ClonedHost {
        /// The address.
        source: IpAddr,
        /// What it advertises.
        priority: Priority,
    },
    /// Another group uses the VRID. Its adverts are dropped and counted.
    ForeignGroup {
        /// Who advertises.
        source: IpAddr,
        /// The addresses of that group.
        theirs: Vec<IpAddr>,
    },
    /// A reference has not answered for a while.
    ReferenceLost {
        /// As configured.
        reference: Reference,
        /// Its address, where it is known.
        address: Option<IpAddr>,
    },
    /// A reference that was lost answers again.
    ReferenceBack {
        /// As configured.
        reference: Reference,
        /// Its address.
        address: IpAddr,
    },
    /// A claim is put off because no reference answers.
    IsolatedFromReferences,
    /// No advert comes from the owner, but its address still answers: a claim waits.
    SilentOwner {
        /// The address.
        address: IpAddr,
        /// Who answered.
        mac: MacAddr,
        /// How long no advert was heard; `None`: none ever was.
        silence: Option<Duration>,
    },
    /// The claim waits no longer.
    SilentOwnerEnds {
        /// The address.
        address: IpAddr,
        /// Who answered last.
        mac: MacAddr,
        /// For how long it waited.
        waited: Duration,
        /// Why.
        end: WaitEnd,
    },
    /// An address was put back that another program had removed.
    AddressRestored {
        /// Which was seen to go.
        address: IpAddr,
        /// The how-many-th time within the limit's window.
        count: u8,
    },
    /// A route or rule was put back that another program had removed.
    RoutingRestored {
        /// Which was seen to go.
        routing: Routing,
        /// The how-many-th time within the limit's window, in which addresses count too.
        count: u8,
    },
    /// A peer uses another IPv4 checksum form than this node did; this node now uses the peer's.
    ChecksumFollowed {
        /// The peer.
        source: IpAddr,
        /// The form used from now on.
        form: ChecksumForm,
    },
    /// The owner advertises another interval than the one in force until now.
    IntervalLearned {
        /// The owner.
        source: IpAddr,
        /// The interval in force from now on.
        interval: AdvertInterval,
    },
    /// A peer advertises other addresses than this node would. Not a reason to discard (RFC 9568 §7.1).
    AddressesDiffer {
        /// The peer.
        source: IpAddr,
        /// What the peer advertises.
        theirs: Vec<IpAddr>,
    },
    /// The first packet was dropped for a reason, or the first after a silence. The rest are counted.
    Dropped {
        /// Where.
        link: LinkId,
        /// Over which family.
        family: Family,
        /// The sender.
        source: IpAddr,
        /// Why.
        reason: DropReason,
    },
    /// It would claim for a while now, and no majority of the voters grants it.
    NoMajority {
        /// Who does not, and why.
        missing: Vec<Missing>,
    },
    /// A voter does not answer any more: an alarm. Nothing changes as long as the others are a majority.
    VoterSilent {
        /// Which.
        voter: Arc<str>,
        /// For how long.
        silence: Duration,
    },
    /// It does again.
    VoterAnswers {
        /// Which.
        voter: Arc<str>,
        /// For how long it did not.
        silence: Duration,
    },
    /// A check fails from now on.
    CheckFails {
        /// Its name.
        check: String,
        /// What it said last.
        output: String,
        /// Whether it could not even look.
        unable: bool,
        /// For how long at least.
        stay: Duration,
    },
    /// A check passes from now on.
    CheckPasses {
        /// Its name.
        check: String,
        /// What it said last.
        output: String,
    },
    /// What the checks say makes another priority.
    PriorityChanged {
        /// The effective priority until now.
        from: Priority,
        /// From now on.
        to: Priority,
        /// The check that said so.
        check: String,
    },
    /// A node is heard on the second path, for the first time or again.
    PeerHeard {
        /// Its name.
        peer: String,
    },
    /// A node is no longer heard on the second path.
    PeerSilent {
        /// Its name.
        peer: String,
        /// For how long.
        silence: Duration,
    },
    /// Adverts do not get through, though both nodes live: an alarm, repeated once a minute.
    AdvertsBlocked {
        /// The other node.
        peer: String,
        /// Where.
        link: LinkId,
        /// Which way.
        direction: Direction,
        /// For how long it has been known.
        lasts: Duration,
    },
    /// They get through again.
    AdvertsThrough {
        /// The other node.
        peer: String,
        /// Where.
        link: LinkId,
        /// Which way.
        direction: Direction,
    },
    /// While this node was the owner, another one said on the second path that it is.
    SecondOwner {
        /// The other node.
        peer: String,
        /// Its priority.
        priority: Priority,
        /// Whether this node yields to it.
        yields: bool,
    },
    /// A silent owner is being fenced.
    Fencing {
        /// By its name in the configuration.
        peer: String,
        /// The address that it was heard from.
        target: IpAddr,
        /// What is done to it.
        action: FenceAction,
    },
    /// It is, and its addresses are free.
    Fenced {
        /// By its name in the configuration.
        peer: String,
        /// The address that it was heard from.
        target: IpAddr,
        /// By what that is known.
        proof: String,
    },
    /// It may live.
    FenceFailed {
        /// By its name in the configuration.
        peer: String,
        /// The address that it was heard from.
        target: IpAddr,
        /// Why.
        error: EffectError,
        /// Whether its addresses are claimed all the same.
        claims: bool,
    },
    /// A claim needs a silent owner to be fenced, and nothing says how.
    FenceMissing {
        /// The address that it was heard from.
        target: IpAddr,
    },
    /// This node handed over, and the successor said that it owns.
    HandedOver {
        /// The successor's name.
        peer: String,
        /// Why.
        reason: HandoverReason,
        /// From when this node answered no more until it heard that the other one does.
        gap: Duration,
    },
    /// A handover was not to be had, or failed.
    HandoverFailed {
        /// Why it was wanted.
        reason: HandoverReason,
        /// Why it failed.
        failure: HandoverFailure,
    },
    /// A hook was run.
    HookDone {
        /// Which.
        moment: Moment,
        /// The last line that it said.
        said: String,
    },
    /// A hook could not be run, or failed.
    HookFailed {
        /// Which.
        moment: Moment,
        /// Why.
        error: EffectError,
        /// Whether a claim is not made for that.
        vetoes: bool,
    },
    /// Addresses could not be taken away.
    RemoveFailed(EffectError),
    /// This node has become the owner by a claim.
    TookOver {
        /// How long the addresses had been away, at most: since the last advert of another owner, or since the claim where that owner
        /// was to go on until it heard of it. `None`: no other owner was heard since the agent started.
        away: Option<Duration>,
    },
    /// No owner is heard, and something speaks against a claim.
    ClaimWaits {
        /// How long no advert was heard; `None`: none ever was.
        silence: Option<Duration>,
    },
    /// An owner is heard again, and the claim that waited is void.
    OwnerBack {
        /// Who.
        source: IpAddr,
    },
}

/// The states of a vip, without what they own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// Takes no part: its interface is not ready, or a check fails.
    Initialize,
    /// Listens, and holds no address.
    Backup,
    /// Has asked the kernel for the addresses; nothing has been announced yet.
    Claiming,
    /// Owns the addresses.
    Active,
    /// Keeps itself out; holds no address.
    Held,
}

impl StateName {
    /// Whether the addresses are held in it, or are about to be.
    pub const fn is_owner(self) -> bool {
        match self {
            Self::Claiming | Self::Active => true,
            Self::Initialize | Self::Backup | Self::Held => false,
        }
    }

    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initialize => "Initialize",
            Self::Backup => "Backup",
            Self::Claiming => "Claiming",
            Self::Active => "Active",
            Self::Held => "Held",
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
