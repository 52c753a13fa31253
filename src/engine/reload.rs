//! New settings for a running engine: what they change, and what goes on as it was.
//!
//! A vip of the new settings goes on as the one of the same name, if it is the same virtual router still ([`is_same_router`]); it
//! keeps its state, its id and its statistics, and what changed is applied in place. All others are removed, which is a
//! resignation, or added, which is a start as at boot. A vip that is the same in both settings is not touched at all.
//!
//! Refuses nothing: settings are legal. Does nothing in an engine that is stopping.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use super::hold::Hold;
use super::output::{Cause, Output};
use super::router::Router;
use super::settings::{Settings, VipSettings};
use super::time::Instant;
use super::vip::{State, Step, Vip, by_family};
use super::{Engine, LinkState, VipId};
use crate::types::{Family, Priority, VirtualAddress};

/// Whether a vip can go on with other settings: on the same interface, as the same virtual router, with the same MAC address.
/// The address owner's addresses (priority 255) are the interface's own, which is another matter than a priority.
pub fn is_same_router(one: &VipSettings, other: &VipSettings) -> bool {
    let is_owner = |settings: &VipSettings| settings.priority == Priority::OWNER;
    one.name == other.name
        && one.interface == other.interface
        && one.vrid == other.vrid
        && one.version == other.version
        && one.mac == other.mac
        && is_owner(one) == is_owner(other)
}

/// What becomes of a vip of the new settings.
enum Fate {
    GoesOn(VipId, VipSettings),
    IsAdded(VipSettings),
}

impl Engine {
    pub(super) fn on_settings(&mut self, now: Instant, settings: Settings) {
        if self.stopping {
            return;
        }
        self.node = settings.node;
        let heartbeat = settings.heartbeat;
        self.fences.settings = settings.fence;
        let mut known: BTreeMap<String, VipId> =
            self.vips.iter().map(|vip| (vip.settings().name.clone(), vip.id())).collect();
        let fates: Vec<Fate> = settings.vips.into_iter().map(|new| self.fate(&mut known, new)).collect();
        // One that comes back as another virtual router is kept out as it was.
        let held = known.iter().filter_map(|(name, id)| Some((name.clone(), *self.vip(*id)?.held_by()?)));
        let holds: BTreeMap<String, Hold> = held.collect();
        if !holds.is_empty() {
            self.outputs.push_back(Output::KeepHolds);
        }
        // What goes makes room for what comes: the same address may be in another vip from now on.
        for id in known.into_values() {
            self.step(now, id, |vip, step| {
                vip.leave(step, Cause::Removed);
                vip.forget_handover(step);
            });
            self.hooks_of_removed(now, id);
        }
        for fate in &fates {
            if let Fate::GoesOn(id, new) = fate {
                self.step(now, *id, |vip, step| vip.let_go(step, new));
            }
        }
        self.keep(now, fates, &holds);
        self.follow_groups(now, settings.groups, false);
        self.heartbeats.follow_settings(heartbeat, &self.vips);
    }

    /// Takes the vip that goes on out of those that are known.
    fn fate(&self, known: &mut BTreeMap<String, VipId>, new: VipSettings) -> Fate {
        let id = known.get(&new.name).copied();
        match id.filter(|id| self.vip(*id).is_some_and(|vip| is_same_router(vip.settings(), &new))) {
            Some(id) => {
                known.remove(&new.name);
                Fate::GoesOn(id, new)
            }
            None => Fate::IsAdded(new),
        }
    }

    /// Puts the vips into the order of the new settings, and tells each what is new to it.
    fn keep(&mut self, now: Instant, fates: Vec<Fate>, holds: &BTreeMap<String, Hold>) {
        let mut before: BTreeMap<VipId, Vip> =
            mem::take(&mut self.vips).into_iter().map(|vip| (vip.id(), vip)).collect();
        self.vips.reserve_exact(fates.len());
        self.places.clear();
        self.by_router.clear();
        self.by_address.clear();
        for fate in fates {
            match fate {
                Fate::GoesOn(id, new) => {
                    let Some(vip) = before.remove(&id) else { continue };
                    self.put(vip);
                    self.step(now, id, |vip, step| vip.on_settings(step, new));
                }
                Fate::IsAdded(new) => {
                    let hold = holds.get(&new.name).copied().or(self.hold);
                    let id = self.add(new, hold, now);
                    let link = self.vip(id).and_then(|vip| self.links.get(usize::from(vip.link().0)));
                    let state = link.map_or(LinkState::Missing, |link| link.state);
                    self.step(now, id, |vip, step| vip.on_link(step, state));
                }
            }
        }
        // The families of those that go on may be others.
        self.by_router = self
            .vips
            .iter()
            .flat_map(|vip| vip.routers().iter().map(move |router| (vip, router)))
            .map(|(vip, router)| ((vip.link(), router.family(), vip.settings().vrid), vip.id()))
            .collect();
        let of_vip = |vip: &Vip| {
            let key = |address: &VirtualAddress| ((vip.settings().vrid, address.ip), vip.id());
            vip.addresses().iter().map(key).collect::<Vec<_>>()
        };
        self.by_address = self.vips.iter().flat_map(of_vip).collect();
    }
}

impl Vip {
    /// Other settings hold, of the same virtual router. Addresses that go have been given up by [`Self::let_go`].
    fn on_settings(&mut self, step: &mut Step<'_>, new: VipSettings) {
        if self.settings == new {
            return;
        }
        self.depose_if_late(step);
        self.abandon_handover(step);
        let was_ready = self.unready().is_none();
        let before = mem::replace(&mut self.settings, new);
        self.addresses = by_family(&self.settings);
        self.routing = self.settings.routing.as_slice().into();
        let takes_part = !matches!(self.state, State::Initialize);
        self.health.follow_settings(&self.settings, takes_part, step.now);
        if before.references != self.settings.references || before.prefer != self.settings.prefer {
            self.follow_references(step.now);
        }
        self.follow_families();
        self.follow_readiness(step, was_ready);
        match &self.state {
            State::Initialize | State::Held { .. } => {}
            State::Backup(_) => self.backup_on_settings(),
            State::Claiming { .. } | State::Active(_) => self.owner_on_settings(step, &before),
        }
    }

    /// A virtual router for each family that has an address. One that goes says nothing: peers would take its resignation for
    /// that of the vip.
    fn follow_families(&mut self) {
        let mut before = mem::take(&mut self.routers);
        for family in Family::ALL {
            let known = before.iter().position(|router| router.family() == family).map(|place| before.remove(place));
            let Some(fresh) = Router::new(family, &self.settings) else { continue };
            let mut router = known.unwrap_or(fresh);
            router.follow_settings(&self.settings);
            router.set_source(self.link_state.source(family));
            self.routers.push(router);
        }
    }
}
