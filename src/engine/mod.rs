//! The engine: decides who owns the addresses, and does nothing itself.
//!
//! One [`Input`] at a time goes into [`Engine::handle`]; then [`Engine::poll_output`] is drained, in order, and
//! [`Engine::next_deadline`] says when [`Input::Deadline`] is due. No clock is read and nothing is sent here:
//! the same inputs at the same instants give the same outputs.
//!
//! | file | decides |
//! |---|---|
//! | [`election`] | how long a silence may last, and who wins |
//! | [`spread`] | which node is preferred for which of the vips that they share |
//! | `vip` | what all states share: inputs, stops |
//! | `readiness` | whether it takes part: interface, checks, group |
//! | [`fence`] | whether a silent owner has to be fenced before its addresses are claimed |
//! | [`group`] | which vips are owned together or not at all |
//! | [`hook`] | when an operator's program is run, and whether one has to permit a claim |
//! | [`hold`] | what keeps a vip out, over a restart too |
//! | `reload` | what new settings change, and what goes on as it was |
//! | `backup` | whom to follow, when to claim |
//! | `others` | who may own beside the owner that is followed |
//! | `ahead` | when the addresses are installed before they are claimed |
//! | `claim` | whether a claim may begin, and its steps |
//! | `hand_on` | what the agent of an owner leaves to the next one on this node, and what that makes of it |
//! | [`handover`] | when a healthy owner lets go, and to whom |
//! | [`isolation`] | whether this node is connected, and what it does where it is not |
//! | [`summons`] | whether an owner has yielded to the better node that takes its place |
//! | [`silence`] | whether a silent owner still answers, and how long a claim waits for it |
//! | `owner` | advertise, yield, rivals, restoring addresses |
//! | [`lease`] | until when the addresses may be held |
//! | [`announce`], [`restore`] | when to tell the neighbours, how often to put addresses back |
//! | [`health`] | what checks make of the priority, and whether the vip takes part |
//! | [`rival`] | what betrays a second owner beside its adverts, and what is done about it |
//! | [`heartbeat`] | when a node speaks on a second path, and how fresh what it hears there is |
//! | [`second_path`] | what a vip makes of a peer's word there |
//! | [`quorum`], [`voter`] | which grants a node holds; to whom a voter gives one |
//! | `canvass`, [`roll`] | when the voters are asked, and which of them are there |
//! | [`session`], [`seals`] | which messages of other nodes are believed, and which sealed adverts |
//! | `numbers` | that nothing is taken twice |
//! | `router` | which adverts concern a virtual router |
//! | [`stats`] | what is dropped, and what of it is reported |

// The pure layers keep to arithmetic that cannot surprise: a lint that fires here is a bug to fix, not to allow.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::float_arithmetic,
        clippy::as_conversions,
        clippy::wildcard_enum_match_arm
    )
)]

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::types::{Family, Vrid};
use crate::wire::DropReason;

mod ahead;
pub mod announce;
mod backup;
mod canvass;
mod claim;
pub mod election;
pub mod fence;
pub mod group;
mod hand_on;
pub mod handover;
pub mod health;
pub mod heartbeat;
pub mod hold;
pub mod hook;
pub mod input;
pub mod isolation;
pub mod lease;
mod numbers;
mod others;
pub mod output;
mod owner;
pub mod quorum;
mod rare;
mod readiness;
pub mod reload;
pub mod restore;
pub mod rival;
pub mod roll;
mod router;
pub mod seals;
pub mod second_path;
pub mod session;
pub mod settings;
pub mod silence;
pub mod spread;
pub mod stats;
pub mod summons;
pub mod time;
mod vip;
pub mod voter;

pub use fence::{FenceAction, FenceOrder, FencePeer, FenceResult, FenceSettings, WatchdogSettings};
pub use group::GroupSettings;
pub use handover::{HandoverDone, HandoverFailure, HandoverOrder, Prepared};
pub use health::{Check, CheckEffect, CheckOutcome, CheckResult, CheckSettings, CheckState};
pub use hold::{Hold, HoldReason};
pub use hook::{HookOrder, HookResult, HookRun, HookSettings, Moment, OnHookFailure};
pub use input::{Arrival, EffectError, Input, LinkId, LinkState, RequestId};
pub use output::{AddressSet, Cause, Event, EventKind, Output, Question, StateName, Transmit};
pub use quorum::{Absence, Missing, Quorum, QuorumSettings};
pub use rival::{ClaimKind, Conflict, ForeignGroup, OVERTAKING};
pub use roll::Attendance;
pub use router::{Heard, Router};
pub use second_path::{Blocked, Direction};
pub use settings::{
    AnnounceSettings, ChecksumPolicy, HeartbeatSettings, OnConflict, OnSilentOwner, Preempt, Prefer, Reference,
    Settings, VipSettings,
};
pub use silence::{SilentOwner, WaitEnd};
pub use spread::SpreadPlace;
pub use time::Instant;
pub use vip::Vip;
pub use voter::Voter;

use fence::Fences;
use group::Groups;
use handover::Joints;
use heartbeat::Heartbeats;
use roll::Roll;
use stats::Drops;
use time::Agenda;
use vip::Step;

/// Names a vip for the life of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VipId(pub u32);

/// All virtual IPs of a node.
#[derive(Clone, Debug)]
pub struct Engine {
    node: String,
    links: Vec<Link>,
    /// In the order of the settings.
    vips: Vec<Vip>,
    /// Where each stands in `vips`.
    places: BTreeMap<VipId, usize>,
    /// The number of the next new vip: none is given twice.
    next_vip: u32,
    by_router: BTreeMap<(LinkId, Family, Vrid), VipId>,
    /// How peers on the second path name a vip.
    by_address: BTreeMap<(Vrid, IpAddr), VipId>,
    heartbeats: Heartbeats,
    agenda: Agenda<VipId>,
    outputs: VecDeque<Output>,
    under_way: Option<UnderWay>,
    next_request: u64,
    /// On the vips that are there, and on those that new settings bring.
    hold: Option<Hold>,
    fences: Fences,
    groups: Groups,
    joints: Joints,
    stopping: bool,
    /// Without it no vip asks anybody. As at the start: voters do not change under grants.
    quorum: Option<QuorumSettings>,
    /// Where this node is one of the voters.
    voter: Option<Voter>,
    roll: Option<Roll>,
}

/// An input that concerns many vips: it is dealt with vip by vip, as the outputs are polled, lest what is to be done
/// for a thousand of them at once fill the memory. Another input finds it dealt with.
#[derive(Clone, Debug)]
struct UnderWay {
    now: Instant,
    what: What,
    /// Whose turn is to come.
    vips: VecDeque<VipId>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Deadline,
    Link(LinkState),
}

/// An interface that the settings name.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub state: LinkState,
    /// What arrived there and concerned no virtual router.
    pub drops: Drops,
}

impl Engine {
    /// An engine that waits to hear of its links. Names and VRIDs in the settings are unique.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let quorum = settings.quorum.as_ref();
        let mut engine = Self {
            node: settings.node,
            links: Vec::new(),
            vips: Vec::new(),
            places: BTreeMap::new(),
            next_vip: 0,
            by_router: BTreeMap::new(),
            by_address: BTreeMap::new(),
            heartbeats: Heartbeats::new(now),
            agenda: Agenda::new(),
            outputs: VecDeque::new(),
            under_way: None,
            next_request: 0,
            hold: None,
            fences: Fences::new(settings.fence),
            groups: Groups::default(),
            joints: Joints::default(),
            stopping: false,
            voter: quorum.filter(|quorum| quorum.is_voter()).map(|quorum| Voter::new(now, quorum.longest_grant)),
            roll: quorum.map(|quorum| Roll::new(now, quorum)),
            quorum: settings.quorum,
        };
        engine.vips.reserve_exact(settings.vips.len());
        for vip in settings.vips {
            engine.add(vip, None, now);
        }
        engine.follow_groups(now, settings.groups, true);
        engine.settle_groups(now);
        engine.heartbeats.follow_settings(settings.heartbeat, &engine.vips);
        engine
    }

    /// Takes one input, whose outputs are to be polled then: what concerns many vips is done as they are. `now` never
    /// goes back.
    pub fn handle(&mut self, now: Instant, input: Input) {
        while self.go_on() {}
        self.on_input(now, input);
        if self.under_way.is_none() {
            self.settle(now);
        }
    }

    fn settle(&mut self, now: Instant) {
        self.settle_groups(now);
        // Last of all: what is said is said of what has been done.
        self.speak(now);
    }

    /// Goes on with an input that concerns many vips. Whether there was any.
    fn go_on(&mut self) -> bool {
        let Some(UnderWay { now, what, vips }) = &mut self.under_way else { return false };
        let (now, what) = (*now, *what);
        match (vips.pop_front(), what) {
            (Some(vip), What::Deadline) => self.step(now, vip, Vip::on_deadline),
            (Some(vip), What::Link(state)) => self.step(now, vip, |vip, step| vip.on_link(step, state)),
            (None, What::Deadline | What::Link(_)) => {
                self.under_way = None;
                self.settle(now);
            }
        }
        true
    }

    fn on_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Advert(arrival) => self.on_advert(now, &arrival),
            Input::Dropped { link, family, source, reason } => self.on_dropped(now, link, family, source, reason),
            Input::Link { link, state } => self.on_link(now, link, state),
            Input::AddressGone { vip, address } => self.step(now, vip, |vip, step| vip.on_address_gone(step, address)),
            Input::RoutingGone { vip, routing } => self.step(now, vip, |vip, step| vip.on_routing_gone(step, routing)),
            Input::AddressClaimed { vip, address, mac, kind } => {
                self.step(now, vip, |vip, step| vip.on_address_claimed(step, address, mac, kind));
            }
            Input::HostAnswered { link, address } => {
                // One host may be asked for hundreds of vips at once.
                let on_link = |vip: &Vip| vip.link() == link;
                self.vips.iter_mut().filter(|vip| on_link(vip)).for_each(|vip| vip.note_life_of_summoned(address));
                if self.vips.iter().any(|vip| on_link(vip) && vip.refers_to(address)) {
                    self.on_each_of(now, link, |vip, step| vip.on_reference_answered(step, address));
                }
            }
            Input::ReferencePath { link, reference, path } => {
                self.on_each_of(now, link, |vip, _| vip.on_reference_path(reference, path));
            }
            Input::Inherited { vip, until, term } => {
                self.step(now, vip, |vip, _| vip.on_inherited(until, term));
            }
            Input::Fenced { request, result } => self.on_fenced(now, request, result),
            Input::Hold { vip, hold } => self.on_hold(now, vip, hold),
            Input::Release { vip } => self.on_release(now, vip),
            Input::LeaseLapsed { vip } => self.step(now, vip, Vip::on_lease_lapsed),
            Input::Prepared { request, vip, result } => {
                self.step(now, vip, |vip, step| vip.on_prepared(step, request, &result));
            }
            Input::LetGo { vip, closed } => self.step(now, vip, |vip, step| vip.on_let_go(step, closed)),
            Input::HandOver { vip, request, order } => self.on_hand_over(now, vip, request, &order),
            Input::Handover { peer, message } => self.on_handover_message(now, &peer, &message),
            Input::Installed { request, vip, result } => {
                self.step(now, vip, |vip, step| vip.on_installed(step, request, result));
            }
            Input::Removed { request, vip, result } => {
                // Told of vips as well that new settings have removed.
                if let Err(error) = &result {
                    let kind = EventKind::RemoveFailed(error.clone());
                    self.outputs.push_back(Output::Event(Event { at: now, vip: Some(vip), kind }));
                } else {
                    self.step(now, vip, |vip, step| vip.on_removed(step, request));
                }
                self.step(now, vip, |vip, step| vip.hook_on_removed(step, request, result));
            }
            Input::HookEnded { request, vip, moment, result } => self.on_hook_ended(now, vip, request, moment, result),
            Input::Grant { from, message } => self.on_grant(now, &from, message),
            Input::CheckResult { check, result } => self.on_check_result(now, &check, &result),
            Input::PeerMet { peer } => self.on_peer_met(now, peer),
            Input::Heartbeat { peer, heartbeat } => self.on_heartbeat(now, &peer, &heartbeat),
            Input::Settings(settings) => self.on_settings(now, settings),
            Input::Shutdown => self.on_end(now, |vip, step| {
                if !vip.hand_over_to_leave(step, Cause::Shutdown) {
                    vip.leave(step, Cause::Shutdown);
                }
            }),
            Input::PrepareHandOn => {
                for vip in self.vips.iter().map(Vip::id).collect::<Vec<_>>() {
                    self.step(now, vip, Vip::on_prepare_hand_on);
                }
            }
            Input::HandOn => {
                self.heartbeats.fall_silent();
                self.on_end(now, Vip::on_hand_on);
            }
            Input::Deadline => {
                self.call_roll(now);
                let vips = self.agenda.due(now).into();
                self.under_way = Some(UnderWay { now, what: What::Deadline, vips });
            }
        }
    }

    /// The next thing to do, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        while self.outputs.is_empty() && self.go_on() {}
        self.outputs.pop_front()
    }

    /// When [`Input::Deadline`] is due; `None`: not before another input.
    pub fn next_deadline(&self) -> Option<Instant> {
        let call_at = self.roll.as_ref().and_then(Roll::next_call_at);
        [self.agenda.next(), self.heartbeats.next_at(), call_at].into_iter().flatten().min()
    }

    /// From when on no peer of an owner can be less patient than [`Input::PrepareHandOn`] asked it to be; `None`: nobody was asked.
    pub fn may_hand_on_at(&self) -> Option<Instant> {
        self.vips.iter().filter_map(Vip::may_hand_on_at).max()
    }

    /// The second path: who is heard there.
    pub const fn heartbeats(&self) -> &Heartbeats {
        &self.heartbeats
    }

    /// The name of this node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The interfaces that the settings name, or named before a reload; a [`LinkId`] is a place in this slice.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Who votes on the owners; `None`: nobody is asked.
    pub const fn quorum_settings(&self) -> Option<&QuorumSettings> {
        self.quorum.as_ref()
    }

    /// The votes of this node itself, where it has one.
    pub const fn voter(&self) -> Option<&Voter> {
        self.voter.as_ref()
    }

    /// How silent owners are fenced.
    pub const fn fence_settings(&self) -> &FenceSettings {
        &self.fences.settings
    }

    /// All vips, in the order of the settings.
    pub fn vips(&self) -> &[Vip] {
        &self.vips
    }

    /// One of them.
    pub fn vip(&self, id: VipId) -> Option<&Vip> {
        self.vips.get(*self.places.get(&id)?)
    }
}

impl Engine {
    /// Puts a new vip behind all others.
    fn add(&mut self, settings: VipSettings, hold: Option<Hold>, now: Instant) -> VipId {
        let id = VipId(self.next_vip);
        self.next_vip = self.next_vip.checked_add(1).expect("nobody adds four thousand million vips");
        let link = self.link_named(&settings.interface);
        let vip = Vip::new(id, link, settings, self.quorum.as_ref(), hold, now);
        self.put(vip);
        id
    }

    /// Puts a vip behind all others.
    fn put(&mut self, vip: Vip) {
        for router in vip.routers() {
            self.by_router.insert((vip.link(), router.family(), vip.settings().vrid), vip.id());
        }
        for address in vip.addresses().iter() {
            self.by_address.insert((vip.settings().vrid, address.ip), vip.id());
        }
        self.places.insert(vip.id(), self.vips.len());
        self.vips.push(vip);
    }

    fn link_named(&mut self, name: &str) -> LinkId {
        let known = self.links.iter().position(|link| link.name == name);
        let place = known.unwrap_or_else(|| {
            self.links.push(Link { name: name.into(), state: LinkState::Missing, drops: Drops::default() });
            self.links.len() - 1
        });
        LinkId(u16::try_from(place).expect("a host has fewer than 65,536 interfaces"))
    }

    fn on_advert(&mut self, now: Instant, arrival: &Arrival) {
        let family = Family::of(arrival.source);
        let vrid = arrival.advert.vrid;
        match self.by_router.get(&(arrival.link, family, vrid)) {
            Some(vip) => self.step(now, *vip, |vip, step| vip.on_advert(step, arrival)),
            None => self.on_dropped(now, arrival.link, family, arrival.source, DropReason::UnknownVrid { vrid }),
        }
    }

    fn on_dropped(&mut self, now: Instant, link: LinkId, family: Family, source: IpAddr, reason: DropReason) {
        let Some(known) = self.links.get_mut(usize::from(link.0)) else { return };
        if known.drops.count(now, &reason) {
            let kind = EventKind::Dropped { link, family, source, reason };
            self.outputs.push_back(Output::Event(Event { at: now, vip: None, kind }));
        }
    }

    fn on_link(&mut self, now: Instant, link: LinkId, state: LinkState) {
        if let Some(known) = self.links.get_mut(usize::from(link.0)) {
            known.state = state;
        }
        if self.stopping {
            return;
        }
        let vips = self.vips_on(link).collect();
        self.under_way = Some(UnderWay { now, what: What::Link(state), vips });
    }

    fn on_each_of(&mut self, now: Instant, link: LinkId, change: impl Fn(&mut Vip, &mut Step<'_>)) {
        for vip in self.vips_on(link).collect::<Vec<_>>() {
            self.step(now, vip, &change);
        }
    }

    fn vips_on(&self, link: LinkId) -> impl Iterator<Item = VipId> {
        self.vips.iter().filter(move |vip| vip.link() == link).map(Vip::id)
    }

    fn on_check_result(&mut self, now: Instant, check: &str, result: &CheckResult) {
        if self.stopping {
            return;
        }
        let concerned: Vec<VipId> = self.vips.iter().filter(|vip| vip.has_check(check)).map(Vip::id).collect();
        for vip in concerned {
            self.step(now, vip, |vip, step| vip.on_check_result(step, check, result.clone()));
        }
    }

    fn on_end(&mut self, now: Instant, end: impl Fn(&mut Vip, &mut Step<'_>)) {
        self.stopping = true;
        if let Some(roll) = &mut self.roll {
            roll.stop();
        }
        for vip in self.vips.iter().map(Vip::id).collect::<Vec<_>>() {
            self.step(now, vip, &end);
        }
    }

    /// Every change of a vip goes through here, so that the agenda follows its deadline.
    fn step(&mut self, now: Instant, id: VipId, change: impl FnOnce(&mut Vip, &mut Step<'_>)) {
        let Some(vip) = self.places.get(&id).and_then(|place| self.vips.get_mut(*place)) else { return };
        let Self { outputs, next_request, fences, joints, .. } = self;
        let voter = self.voter.as_mut();
        let from = outputs.len();
        let mut step = Step { now, outputs, next_request, fences, joints, voter };
        change(vip, &mut step);
        vip.run_hooks(&mut step, from);
        vip.shed();
        self.agenda.set(id, vip.deadline());
        self.groups.note(id);
        if vip.has_news(now) {
            self.heartbeats.note_news(id);
        }
    }
}
