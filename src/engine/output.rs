//! What an engine wants done, and what it wants known. Data only: the daemon, the simulator and the tests read the same.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use super::VipId;
use super::fence::{FenceAction, FenceOrder};
use super::handover::{HandoverDone, HandoverFailure};
use super::hook::{HookOrder, Moment};
use super::input::{EffectError, LinkId, RequestId};
use super::quorum::Missing;
use super::rival::ClaimKind;
use super::second_path::Direction;
use super::settings::Reference;
use super::silence::WaitEnd;
use super::time::Instant;
use crate::types::{AdvertInterval, Family, MacAddr, MacMode, Priority, Routing, VirtualAddress, Vrid};
use crate::wire::DropReason;
use crate::wire::advert::{Advert, ChecksumForm};
use crate::wire::grant::GrantMessage;
use crate::wire::handover::{HandoverMessage, HandoverReason};
use crate::wire::heartbeat::Heartbeat;

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
    /// ([`Input::AddressClaimed`](super::Input::AddressClaimed)), or as a reference
    /// ([`Input::ReferenceAnswered`](super::Input::ReferenceAnswered)).
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
    /// Some of the vip's, or references.
    pub addresses: Vec<IpAddr>,
    /// Who asks, by IPv4 and by IPv6. IPv4 is asked from nobody's address where there is none: an ARP probe (RFC 5227 §2.1.1).
    pub sources: [Option<IpAddr>; 2],
}

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
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Initialize => "Initialize",
            Self::Backup => "Backup",
            Self::Claiming => "Claiming",
            Self::Active => "Active",
            Self::Held => "Held",
        })
    }
}

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

/// For error texts that are built without allocation elsewhere.
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
