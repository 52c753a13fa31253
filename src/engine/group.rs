//! Groups: vips of a node that it owns all or none of, such as the two sides of a gateway.
//!
//! Each vip stays a virtual router of its own, and speaks as one; no peer needs to know of the group, but all nodes of the
//! group are configured with it. After each input the group is settled:
//!
//! | a member | the group |
//! |---|---|
//! | is not ready, fails a check, keeps itself out | none takes part until it is back |
//! | has yielded, was deposed, was refused | those that are owned are given up |
//! | is due for a claim | waits until all that are not owned are due, and nothing speaks against any; then all are claimed at once |
//! | has a lower priority through its checks | all have it |
//! | is to be handed over | all are, in one step ([`super::handover`]) |
//!
//! Of equals the first member's addresses decide for all, as one family's do within a vip: two nodes that each won one would both
//! yield. Voters are asked for the first member first, and for the others by nobody who does not have that: two nodes that each had
//! some would wait for each other.
//!
//! A member that new settings bring finds the others owned already, and may follow them for a while.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::backup::Backup;
use super::output::{Cause, StateName};
use super::time::Instant;
use super::vip::{State, Step, Vip};
use super::{Engine, VipId};
use crate::types::Priority;

/// How often a group is settled after one input, at most: a fault that ends, an adoption and a claim may follow from each other.
const ROUNDS: usize = 8;

/// What a member that new settings bring may need beyond its patience: an interface, a check, a kernel.
const GROWS_FOR: Duration = Duration::from_secs(5);

/// Vips that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Unique within the node.
    pub name: String,
    /// The names of at least two vips, each in one group only, of one priority and one way to preempt. The first leads.
    pub vips: Vec<String>,
}

/// The groups of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    by_vip: BTreeMap<VipId, usize>,
    /// Those of which a member may have changed.
    unsettled: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
struct Group {
    settings: GroupSettings,
    members: Vec<VipId>,
    /// Until then some may be owned and others not yet.
    grows_until: Option<Instant>,
}

impl Groups {
    /// A vip may have changed.
    pub(super) fn note(&mut self, vip: VipId) {
        self.unsettled.extend(self.by_vip.get(&vip));
    }
}

/// What a vip knows of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    group: Arc<str>,
    leads: bool,
    /// Which other member keeps all from taking part, and why.
    fault: Option<(String, String)>,
    /// The lowest priority of all.
    ceiling: Option<Priority>,
    /// When the first member heard a rival last.
    lead_heard_at: Option<Instant>,
    /// Whether the first member has what it needs of the voters.
    lead_is_granted: bool,
    /// It has become due since the group was settled.
    sought: bool,
    /// All others are owned, or due as well.
    others_due: bool,
}

impl Engine {
    /// The groups, as configured.
    pub fn groups(&self) -> impl Iterator<Item = &GroupSettings> {
        self.groups.groups.iter().map(|group| &group.settings)
    }

    /// Other groups, or other vips; or the first of an agent, which owns nothing that it has not adopted.
    pub(super) fn follow_groups(&mut self, now: Instant, settings: Vec<GroupSettings>, are_new: bool) {
        let before: Vec<Group> = core::mem::take(&mut self.groups).groups;
        let mut memberships = BTreeMap::new();
        let mut stay: BTreeSet<VipId> = BTreeSet::new();
        for settings in settings {
            let named = |name: &String| self.vips.iter().find(|vip| vip.settings().name == *name).map(Vip::id);
            let members: Vec<VipId> = settings.vips.iter().filter_map(named).collect();
            let is_known = |known: &&Group| known.settings == settings && known.members == members;
            let grows_until = match before.iter().find(is_known) {
                Some(known) => {
                    stay.extend(&known.members);
                    known.grows_until
                }
                None if are_new => None,
                None => Some(now + self.patience_of(&members) * 2 + GROWS_FOR),
            };
            let name: Arc<str> = settings.name.as_str().into();
            for (place, vip) in members.iter().enumerate() {
                memberships.insert(*vip, (Arc::clone(&name), place == 0));
                self.groups.by_vip.insert(*vip, self.groups.groups.len());
            }
            self.groups.unsettled.insert(self.groups.groups.len());
            self.groups.groups.push(Group { settings, members, grows_until });
        }
        for vip in self.vips.iter().map(Vip::id).collect::<Vec<_>>() {
            let membership = memberships.remove(&vip);
            let was_member = self.vip(vip).is_some_and(|vip| vip.membership.is_some());
            if !stay.contains(&vip) && (membership.is_some() || was_member) {
                self.step(now, vip, Vip::abandon_handover);
            }
            self.step(now, vip, |vip, step| vip.on_membership(step, membership));
        }
    }

    /// Has the members of each group do what follows from what one of them did.
    pub(super) fn settle_groups(&mut self, now: Instant) {
        for _ in 0..ROUNDS {
            let unsettled = core::mem::take(&mut self.groups.unsettled);
            if unsettled.is_empty() {
                return;
            }
            for place in unsettled {
                let Some(group) = self.groups.groups.get(place) else { continue };
                let (members, grows) = (group.members.clone(), group.grows_until.is_some_and(|until| now < until));
                self.hand_over_whole(now, &members);
                // Each answer settles the group again.
                if self.stopping || self.members(&members).any(Vip::is_letting_go) {
                    continue;
                }
                self.share_faults(now, &members);
                self.share_priority(now, &members);
                self.keep_whole(now, &members, grows);
                self.share_lead(now, &members);
                self.claim_whole(now, &members);
            }
        }
    }

    /// A vip and those that move with it.
    pub(super) fn moves_with(&self, vip: VipId) -> Vec<VipId> {
        let group = self.groups.by_vip.get(&vip).and_then(|place| self.groups.groups.get(*place));
        group.map_or_else(|| Vec::from([vip]), |group| group.members.clone())
    }

    fn patience_of(&self, members: &[VipId]) -> Duration {
        let patience = |vip: &Vip| vip.active_down_interval(vip.settings().interval);
        members.iter().filter_map(|id| self.vip(*id)).map(patience).max().unwrap_or_default()
    }

    pub(super) fn members<'a>(&'a self, members: &'a [VipId]) -> impl Iterator<Item = &'a Vip> {
        members.iter().filter_map(|id| self.vip(*id))
    }

    fn share_faults(&mut self, now: Instant, members: &[VipId]) {
        let faults: Vec<(VipId, String, String)> = self
            .members(members)
            .filter_map(|vip| Some((vip.id(), vip.settings().name.clone(), vip.own_fault()?.to_string())))
            .collect();
        for id in members {
            let other = faults.iter().find(|(faulty, _, _)| faulty != id);
            let fault = other.map(|(_, name, why)| (name.clone(), why.clone()));
            if self.vip(*id).is_some_and(|vip| vip.knows_another_fault(fault.as_ref())) {
                self.step(now, *id, |vip, step| vip.on_group_fault(step, fault));
            }
        }
    }

    fn share_priority(&mut self, now: Instant, members: &[VipId]) {
        let lowest = self.members(members).map(Vip::healthy_priority).min();
        for id in members {
            if self.vip(*id).is_some_and(|vip| lowest.is_some_and(|lowest| vip.priority() != lowest)) {
                self.step(now, *id, |vip, step| vip.on_ceiling(step, lowest));
            }
        }
    }

    fn share_lead(&mut self, now: Instant, members: &[VipId]) {
        let Some(lead) = members.first().and_then(|id| self.vip(*id)) else { return };
        let heard_at = lead.routers().iter().filter_map(|router| router.heard()).map(|heard| heard.at).max();
        let is_granted = lead.state().is_owner() || lead.quorum().is_some_and(|quorum| quorum.is_held(now));
        let is_due = |vip: &Vip| vip.state().is_owner() || vip.due().is_some();
        let undue: Vec<VipId> = self.members(members).filter(|vip| !is_due(vip)).map(Vip::id).collect();
        for id in members {
            let place = self.places.get(id).copied();
            let vip = place.and_then(|place| self.vips.get_mut(place));
            if let Some(membership) = vip.and_then(|vip| vip.membership.as_mut()) {
                membership.lead_heard_at = heard_at;
                membership.lead_is_granted = is_granted;
                membership.others_due = undue.iter().all(|undue| undue == id);
            }
        }
    }

    /// All are owned, or none.
    fn keep_whole(&mut self, now: Instant, members: &[VipId], grows: bool) {
        if !self.members(members).any(|vip| vip.state().is_owner()) {
            return;
        }
        let is_as_wanted = |vip: &Vip| vip.state().is_owner() || (grows && vip.may_join_yet());
        let lost = self.members(members).find(|vip| !is_as_wanted(vip));
        let Some(lost) = lost.map(|vip| vip.settings().name.clone()) else { return };
        for id in members {
            self.step(now, *id, |vip, step| vip.step_back(step, &lost));
        }
    }

    /// All that are not owned are claimed, once all are due and nothing speaks against any.
    fn claim_whole(&mut self, now: Instant, members: &[VipId]) {
        let candidates: Vec<VipId> = self.members(members).filter(|vip| !vip.state().is_owner()).map(Vip::id).collect();
        let all_due = self.members(&candidates).all(|vip| vip.due().is_some());
        let sought = self.members(&candidates).any(Vip::has_sought);
        if !sought || !all_due {
            return;
        }
        let mut is_clear = true;
        for id in &candidates {
            self.step(now, *id, |vip, step| is_clear &= vip.is_clear_to_claim(step));
        }
        if is_clear {
            for id in &candidates {
                self.step(now, *id, Vip::claim_with_group);
            }
        }
    }
}

/// What a status shows.
impl Vip {
    /// The group that it belongs to.
    pub fn group(&self) -> Option<&str> {
        self.membership.as_ref().map(|membership| &*membership.group)
    }
}

/// Before a claim.
impl Vip {
    /// When to ask again, where other members are not due. One that waits for longer than an interval keeps no grants from others.
    pub(super) fn object_until_group_is_due(&mut self, step: &mut Step<'_>, cause: &Cause) -> Option<Instant> {
        let until = step.now + self.interval().duration();
        let membership = self.membership.as_mut()?;
        membership.sought = true;
        let others_due = membership.others_due;
        let State::Backup(backup) = &mut self.state else { return Some(until) };
        let waits_on = backup.due.replace(Box::new(cause.clone())).is_some();
        match (others_due, waits_on) {
            (true, _) => None,
            (false, true) => Some(self.put_off_canvass(step, until)),
            (false, false) => Some(until),
        }
    }

    /// Whether its group claims it, with the others.
    pub(super) const fn is_claimed_by_group(&self) -> bool {
        self.membership.is_some()
    }

    /// Something speaks against its claim.
    pub(super) fn is_not_due(&mut self) {
        if let State::Backup(backup) = &mut self.state {
            backup.due = None;
        }
    }

    /// Whether voters are not to be asked yet.
    pub(super) fn waits_for_lead(&self) -> bool {
        self.membership.as_ref().is_some_and(|membership| !membership.leads && !membership.lead_is_granted)
    }

    fn due(&self) -> Option<&Cause> {
        match &self.state {
            State::Backup(backup) => backup.due.as_deref(),
            State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => None,
        }
    }

    fn has_sought(&self) -> bool {
        self.membership.as_ref().is_some_and(|membership| membership.sought)
    }

    /// Asks once more, now that all are due.
    fn is_clear_to_claim(&mut self, step: &mut Step<'_>) -> bool {
        let Some(cause) = self.due().cloned() else { return false };
        let objection = self.objection(step, &cause);
        self.note_settled();
        match objection {
            None => true,
            Some(until) => {
                self.wait_to_claim(step, until, cause);
                false
            }
        }
    }

    const fn note_settled(&mut self) {
        if let Some(membership) = &mut self.membership {
            membership.sought = false;
        }
    }

    fn claim_with_group(&mut self, step: &mut Step<'_>) {
        if let Some(cause) = self.due().cloned() {
            self.claim(step, cause);
        }
    }
}

/// What the others' states are to it.
impl Vip {
    fn on_membership(&mut self, step: &mut Step<'_>, membership: Option<(Arc<str>, bool)>) {
        let before = self.membership.take();
        let was_faulty = before.as_ref().is_some_and(|before| before.fault.is_some());
        self.membership = membership.map(|(group, leads)| {
            let known = before.filter(|before| before.group == group);
            let fresh = || Membership {
                group: Arc::clone(&group),
                leads,
                fault: None,
                ceiling: None,
                lead_heard_at: None,
                lead_is_granted: false,
                sought: false,
                others_due: false,
            };
            Box::new(Membership { leads, ..known.map_or_else(fresh, |known| *known) })
        });
        if self.membership.is_none() {
            self.is_not_due();
            if was_faulty {
                self.follow_readiness(step, false);
            }
        }
    }

    /// What keeps it out, whatever the others do.
    fn own_fault(&self) -> Option<Cause> {
        let held = || match (self.held_by(), self.state()) {
            // It is being handed over, with the others.
            (Some(_), StateName::Claiming | StateName::Active) => None,
            (Some(hold), _) => Some(hold.reason.cause()),
            (None, StateName::Held) => Some(self.cause().clone()),
            (None, StateName::Initialize | StateName::Backup | StateName::Claiming | StateName::Active) => None,
        };
        self.own_unreadiness().or_else(held)
    }

    /// Why the others keep it out.
    pub(super) fn group_fault(&self) -> Option<Cause> {
        let (vip, why) = self.membership.as_ref()?.fault.as_ref()?;
        Some(Cause::GroupFault { vip: vip.clone(), why: why.clone() })
    }

    fn knows_another_fault(&self, fault: Option<&(String, String)>) -> bool {
        self.membership.as_ref().is_some_and(|membership| membership.fault.as_ref() != fault)
    }

    fn on_group_fault(&mut self, step: &mut Step<'_>, fault: Option<(String, String)>) {
        self.depose_if_late(step);
        let was_ready = self.unready().is_none();
        if let Some(membership) = &mut self.membership {
            membership.fault = fault;
        }
        self.follow_readiness(step, was_ready);
    }

    pub(super) fn ceiling(&self) -> Option<Priority> {
        self.membership.as_ref().and_then(|membership| membership.ceiling)
    }

    fn on_ceiling(&mut self, step: &mut Step<'_>, ceiling: Option<Priority>) {
        self.depose_if_late(step);
        if let Some(membership) = &mut self.membership {
            membership.ceiling = ceiling;
        }
        self.on_priority_changed(step);
    }

    /// Whether ties are broken by another member.
    pub(super) fn ties_are_broken_by_lead(&self) -> bool {
        self.membership.as_ref().is_some_and(|membership| !membership.leads)
    }

    pub(super) fn lead_of_group_heard_at(&self) -> Option<Instant> {
        self.membership.as_ref().and_then(|membership| membership.lead_heard_at)
    }

    /// Whether it is about to be owned beside the others: it has heard no owner that it would leave them to.
    fn may_join_yet(&self) -> bool {
        match &self.state {
            State::Backup(backup) => backup.owner().is_none() || backup.preempts(),
            State::Initialize | State::Claiming { .. } | State::Active(_) | State::Held { .. } => false,
        }
    }

    pub(super) fn step_back(&mut self, step: &mut Step<'_>, lost: &str) {
        self.depose_if_late(step);
        let (State::Claiming { .. } | State::Active(_)) = &self.state else { return };
        self.give_up(step);
        let backup = Backup::listening(step.now + self.active_down_interval(self.settings().interval));
        self.enter(step, State::Backup(backup), Cause::GroupYields { vip: lost.into() });
    }
}
