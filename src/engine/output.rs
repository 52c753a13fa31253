//! What an engine wants done, and what it wants known. Data only: the daemon, the simulator and the tests read the same.

mod cause;
mod event;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::VipId;
use super::fence::FenceOrder;
use super::handover::{HandoverDone, HandoverFailure};
use super::hook::HookOrder;
use super::input::{LinkId, RequestId};
use super::time::Instant;
use crate::types::{MacMode, Routing, VirtualAddress, Vrid};
use crate::wire::advert::{Advert, ChecksumForm};
use crate::wire::grant::GrantMessage;
use crate::wire::handover::HandoverMessage;
use crate::wire::heartbeat::Heartbeat;

pub use cause::Cause;
pub use event::{Event, EventKind, StateName};

/// One thing to do, in the order in which they are polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send an advert.
    Transmit(Transmit),
    /// Hold the addresses of a vip until an instant, and not longer. Follows each advert that promises them.
    RenewLease {
        /// Whose.
        vip: VipId,
        /// When they are given up unless renewed.
        until: Instant,
    },
    /// Hold the addresses of a vip no longer. Sent before the resignation that invites a successor.
    EndLease {
        /// Whose.
        vip: VipId,
    },
    /// As [`Self::EndLease`], for an owner that hands over. Answered by [`Input::LetGo`](super::Input::LetGo), before anything else happens.
    LetGo {
        /// Whose.
        vip: VipId,
    },
    /// Put all these addresses on the interface, where they answer nobody before a lease is renewed; where nothing can keep them from it, do
    /// nothing. Answered by [`Input::Prepared`](super::Input::Prepared).
    Prepare(AddressSet),
    /// Put all these addresses on the interface, and the routes and rules that go with them; those already there are no error. Answered by
    /// [`Input::Installed`](super::Input::Installed).
    Install(AddressSet),
    /// Take all these addresses away, and before them the routes and rules; those not there are no error. Answered by [`Input::Removed`](super::Input::Removed).
    Remove(AddressSet),
    /// Take these addresses of an owner away, which its vip no longer has, and leave the others; hold these no longer. Those not
    /// there are no error. Answered by [`Input::Removed`](super::Input::Removed).
    Trim(AddressSet),
    /// Tell the neighbours, in both ARP forms and by unsolicited NA. The request is that of no answer.
    Announce(AddressSet),
    /// Say this about grants to a node or a voter, by its name. It may be lost.
    Vote {
        /// To whom.
        to: Arc<str>,
        /// What.
        message: GrantMessage,
    },
    /// Ask the neighbours who has these addresses. Whoever has is heard as every claim is
    /// ([`Input::AddressClaimed`](super::Input::AddressClaimed)), or by an address of its own
    /// ([`Input::HostAnswered`](super::Input::HostAnswered)).
    Ask(Question),
    /// Make sure that a peer is dead. Answered by [`Input::Fenced`](super::Input::Fenced).
    Fence(FenceOrder),
    /// Run a hook, after those of the same vip that were ordered before. Answered by [`Input::HookEnded`](super::Input::HookEnded).
    RunHook(HookOrder),
    /// [`Engine::holds`](super::Engine::holds) says something else: it must outlast the agent.
    KeepHolds,
    /// Send ICMP echo requests to these addresses, which are references.
    Echo(Question),
    /// Say this to a node, on all of the second paths to it.
    SendHeartbeat {
        /// Its name.
        peer: String,
        /// What to say.
        heartbeat: Heartbeat,
    },
    /// Say this to a node, on all ways to it.
    SendHandover {
        /// Its name.
        peer: String,
        /// What to say.
        message: HandoverMessage,
    },
    /// How an operator's handover went.
    HandoverEnded {
        /// The request of the input.
        request: RequestId,
        /// What came of it.
        outcome: Result<HandoverDone, HandoverFailure>,
    },
    /// Record and show this.
    Event(Event),
}

/// An advert to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Whose.
    pub vip: VipId,
    /// Through which interface.
    pub link: LinkId,
    /// The interface's address.
    pub source: IpAddr,
    /// The group, or a unicast peer.
    pub destination: IpAddr,
    /// With which source MAC.
    pub mac: MacMode,
    /// What to say.
    pub advert: Advert,
    /// The checksum form to use.
    pub checksum: ChecksumForm,
}

/// The addresses of a vip, as an effect needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    /// Ties the answer to this output.
    pub request: RequestId,
    /// Whose.
    pub vip: VipId,
    /// On which interface.
    pub link: LinkId,
    /// With which MAC they answer.
    pub mac: MacMode,
    /// For the virtual MAC.
    pub vrid: Vrid,
    /// Both families, IPv4 first.
    pub addresses: Arc<[VirtualAddress]>,
    /// What is installed after them, and removed before them.
    pub routing: Arc<[Routing]>,
}

/// Who has these addresses?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose.
    pub vip: VipId,
    /// Through which interface.
    pub link: LinkId,
    /// Some of the vip's and its owner's own, or references.
    pub addresses: Vec<IpAddr>,
    /// Who asks, by IPv4 and by IPv6. IPv4 is asked from nobody's address where there is none: an ARP probe (RFC 5227 §2.1.1).
    pub sources: [Option<IpAddr>; 2],
}
