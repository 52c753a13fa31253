//! What can happen to an engine.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use super::VipId;
use super::fence::FenceResult;
use super::handover::{HandoverOrder, Prepared};
use super::health::CheckResult;
use super::hold::Hold;
use super::hook::{HookResult, Moment};
use super::isolation::Path;
use super::rival::ClaimKind;
use super::settings::{Reference, Settings};
use super::time::Instant;
use crate::types::{Family, MacAddr, Routing};
use crate::wire::DropReason;
use crate::wire::advert::{Advert, ChecksumForm};
use crate::wire::grant::GrantMessage;
use crate::wire::handover::HandoverMessage;
use crate::wire::heartbeat::Heartbeat;

/// One thing that happened. Hand it to [`Engine::handle`](super::Engine::handle), then drain the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A well-formed advert arrived.
    Advert(Arrival),
    /// A packet of protocol 112 arrived that is no well-formed advert.
    Dropped {
        /// Where it arrived.
        link: LinkId,
        /// Over which family.
        family: Family,
        /// The sender.
        source: IpAddr,
        /// What was wrong with it.
        reason: DropReason,
    },
    /// What is known of an interface changed, or is known for the first time.
    Link {
        /// Which.
        link: LinkId,
        /// Its state from now on.
        state: LinkState,
    },
    /// A virtual address is no longer on its interface, and it was not this agent that removed it.
    AddressGone {
        /// Whose.
        vip: VipId,
        /// Which.
        address: IpAddr,
    },
    /// A route or rule of a vip is no longer there, and it was not this agent that removed it.
    RoutingGone {
        /// Whose.
        vip: VipId,
        /// Which.
        routing: Routing,
    },
    /// Another host said on the link that it has a virtual address: by ARP or a neighbour advertisement, with a MAC address that is
    /// neither the interface's nor the vip's virtual one.
    AddressClaimed {
        /// Whose.
        vip: VipId,
        /// Which.
        address: IpAddr,
        /// The other host's.
        mac: MacAddr,
        /// By what.
        kind: ClaimKind,
    },
    /// A host answered by an address of its own: a reference, or the owner that is to be preempted.
    HostAnswered {
        /// Through which interface.
        link: LinkId,
        /// Its address.
        address: IpAddr,
    },
    /// How to reach a reference from now on, or for the first time.
    ReferencePath {
        /// Through which interface.
        link: LinkId,
        /// As configured.
        reference: Reference,
        /// `None`: there is no way.
        path: Option<Path>,
    },
    /// An earlier agent of this node left all addresses of a vip, and its lease on them runs until then. Comes before the first
    /// [`Self::Link`].
    Inherited {
        /// Whose.
        vip: VipId,
        /// When the addresses may no longer be held.
        until: Instant,
        /// How long the lease was when it was last renewed, or less: its peers may wait by that agent's interval, not by ours.
        term: Duration,
    },
    /// An [`Output::Fence`](super::Output::Fence) has ended.
    Fenced {
        /// The request of the output.
        request: RequestId,
        /// What proves that the peer is fenced, or why it may not be.
        result: FenceResult,
    },
    /// Keep a vip out of the election, or all of them, those to come as well.
    Hold {
        /// Which; `None`: all.
        vip: Option<VipId>,
        /// Why, and until when.
        hold: Hold,
    },
    /// Keep it out no longer.
    Release {
        /// Which; `None`: all.
        vip: Option<VipId>,
    },
    /// The kernel ended a lease before it could be renewed: an [`Output::RenewLease`](super::Output::RenewLease) came too late.
    LeaseLapsed {
        /// Whose.
        vip: VipId,
    },
    /// An [`Output::LetGo`](super::Output::LetGo) was carried out. Comes before anything else does.
    LetGo {
        /// Whose.
        vip: VipId,
        /// The kernel lets the addresses answer nobody. If not, they answer until they are removed.
        closed: bool,
    },
    /// An operator wants a vip to be handed over. Answered by [`Output::HandoverEnded`](super::Output::HandoverEnded).
    HandOver {
        /// Which.
        vip: VipId,
        /// Ties the answer to this input.
        request: RequestId,
        /// To whom, and why.
        order: HandoverOrder,
    },
    /// A node has spoken of a handover. It was the node of this name, and no replay.
    Handover {
        /// Its name.
        peer: String,
        /// What it said.
        message: HandoverMessage,
    },
    /// An [`Output::Prepare`](super::Output::Prepare) has ended.
    Prepared {
        /// The request of the output.
        request: RequestId,
        /// Whose.
        vip: VipId,
        /// What is ready, or what was refused.
        result: Result<Prepared, EffectError>,
    },
    /// An [`Output::Install`](super::Output::Install) has ended.
    Installed {
        /// The request of the output.
        request: RequestId,
        /// Whose.
        vip: VipId,
        /// All addresses are there, or what was refused.
        result: Result<(), EffectError>,
    },
    /// An [`Output::Remove`](super::Output::Remove) or [`Output::Trim`](super::Output::Trim) has ended.
    Removed {
        /// The request of the output.
        request: RequestId,
        /// Whose.
        vip: VipId,
        /// None of them is left, or what was refused.
        result: Result<(), EffectError>,
    },
    /// An [`Output::RunHook`](super::Output::RunHook) has ended, or could not be carried out.
    HookEnded {
        /// The request of the output.
        request: RequestId,
        /// Whose.
        vip: VipId,
        /// Which.
        moment: Moment,
        /// What became of it.
        result: HookResult,
    },
    /// A node or a voter says something about grants. Who it is has been proved.
    Grant {
        /// Its name.
        from: Arc<str>,
        /// What it says.
        message: GrantMessage,
    },
    /// A check was run.
    CheckResult {
        /// Its name.
        check: String,
        /// What it found.
        result: CheckResult,
    },
    /// A node can be spoken to on the second path from now on, or again.
    PeerMet {
        /// Its name.
        peer: String,
    },
    /// A node has spoken on the second path. It was the node of this name, and no replay.
    Heartbeat {
        /// Its name.
        peer: String,
        /// What it said.
        heartbeat: Heartbeat,
    },
    /// From now on these settings hold. What they leave as it was goes on as it was; see [`reload`](super::reload).
    Settings(Settings),
    /// Give up all that is owned, and start nothing more.
    Shutdown,
    /// Another agent of this node is about to start, and may take its time: have the peers wait for it. The end is
    /// [`Self::HandOn`], at [`Engine::may_hand_on_at`](super::Engine::may_hand_on_at).
    PrepareHandOn,
    /// Another agent of this node is about to start: leave it what is owned, and start nothing more.
    HandOn,
    /// [`Engine::next_deadline`](super::Engine::next_deadline) has come.
    Deadline,
}

/// A well-formed advert and how it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Where.
    pub link: LinkId,
    /// The sender; its family is the virtual router's.
    pub source: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// What it says.
    pub advert: Advert,
    /// The checksum form that held. Without meaning but for version 3 over IPv4.
    pub checksum: ChecksumForm,
}

/// What an interface is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// There is none of that name.
    Missing,
    /// It is there, but administratively down or without carrier.
    Down,
    /// Packets can be sent.
    Up {
        /// The primary address: the first that is not virtual. Adverts are sent from it.
        ipv4: Option<Ipv4Addr>,
        /// The link-local address, once duplicate detection has passed it, not virtual.
        ipv6: Option<Ipv6Addr>,
    },
}

impl LinkState {
    /// The address that adverts of a family are sent from.
    pub const fn source(&self, family: Family) -> Option<IpAddr> {
        match (self, family) {
            (Self::Up { ipv4: Some(source), .. }, Family::V4) => Some(IpAddr::V4(*source)),
            (Self::Up { ipv6: Some(source), .. }, Family::V6) => Some(IpAddr::V6(*source)),
            (Self::Up { .. } | Self::Down | Self::Missing, Family::V4 | Family::V6) => None,
        }
    }
}

/// An interface that the settings name, as its place in [`Engine::links`](super::Engine::links).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u16);

/// Ties the end of an effect to the output that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What was tried in vain, and why: one line for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectError(pub String);

impl fmt::Display for EffectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for EffectError {
    fn from(text: &str) -> Self {
        Self(String::from(text))
    }
}
